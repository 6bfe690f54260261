//! Calls of the plugin, and addresses of pods.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use cambric_cni::lease::{Leases, Usage};
use cambric_cni::requests::{self, Requests};

use super::count;
use super::page::{Histogram, Label, Page, label, none};
use crate::conflist::NETWORK;

#[derive(Debug)]
pub(super) struct Seen {
    usage: Vec<Usage>,
    requests: Vec<Requests>,
}

impl Seen {
    /// Blocks on the file system; `None` where it does not answer.
    pub(super) fn read(run_dir: &Path) -> Option<Seen> {
        let usage = Leases::usage(run_dir, NETWORK)
            .inspect_err(|error| tracing::debug!(error = %error, "leases cannot be counted"));
        let requests = requests::read(run_dir)
            .inspect_err(|error| tracing::debug!(error = %error, "calls of the plugin cannot be read"));
        Some(Seen { usage: usage.ok()?, requests: requests.ok()? })
    }

    pub(super) fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let help = "Calls of the CNI plugin since the node booted, by command and result";
        let calls = self.requests.iter().map(|calls| {
            let labels = vec![label("command", calls.command.name()), label("result", calls.outcome.name())];
            (labels, histogram(calls))
        });
        page.histogram("cambric_cni_request", help, calls)?;
        let help = "Ranges that this node gives pods addresses of, those among them that are not configured any more";
        page.gauge("cambric_ipam_blocks", help, [none(count(self.usage.len()))])?;
        let usage = || self.usage.iter();
        let granted = usage().map(|usage| (block(usage), count(usage.granted)));
        let help = "Pods with an address of the range (of each family, where it has both)";
        page.gauge("cambric_ipam_granted", help, granted)?;
        let most = usage().map(|usage| (block(usage), count(usage.grantable)));
        page.gauge("cambric_ipam_capacity", "Pods that there are addresses for", most)
    }
}

fn histogram(calls: &Requests) -> Histogram {
    let bounds = requests::BOUNDS_MS.map(|bound_ms| Duration::from_millis(bound_ms).as_secs_f64());
    let bounds = bounds.into_iter().chain([f64::MAX]);
    Histogram { buckets: bounds.zip(calls.buckets).collect(), sum_s: calls.took.as_secs_f64() }
}

fn block(usage: &Usage) -> Vec<Label> {
    let networks = [usage.range.ipv4().map(|v4| v4.to_string()), usage.range.ipv6().map(|v6| v6.to_string())];
    vec![label("block", networks.into_iter().flatten().collect::<Vec<_>>().join(","))]
}
