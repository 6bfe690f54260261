//! Addresses of pods.

use std::fmt;
use std::path::Path;

use cambric_cni::lease::{Leases, Usage};

use super::count;
use super::page::{Label, Page, label, none};
use crate::conflist::NETWORK;

#[derive(Debug)]
pub(super) struct Seen {
    usage: Vec<Usage>,
}

impl Seen {
    /// Blocks on the file system; `None` where it does not answer.
    pub(super) fn read(run_dir: &Path) -> Option<Seen> {
        match Leases::usage(run_dir, NETWORK) {
            Ok(usage) => Some(Seen { usage }),
            Err(error) => {
                tracing::debug!(error = %error, "leases cannot be counted");
                None
            }
        }
    }

    pub(super) fn write(&self, page: &mut Page<'_>) -> fmt::Result {
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

fn block(usage: &Usage) -> Vec<Label> {
    let networks = [usage.range.ipv4().map(|v4| v4.to_string()), usage.range.ipv6().map(|v6| v6.to_string())];
    vec![label("block", networks.into_iter().flatten().collect::<Vec<_>>().join(","))]
}
