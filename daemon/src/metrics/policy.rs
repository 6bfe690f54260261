//! NetworkPolicy on this node.

use std::fmt;

use cambric_policy::enforcer::{Applied, Status};

use super::count;
use super::page::{Histogram, Page, label, none};

pub(super) fn write(status: &Status, page: &mut Page<'_>) -> fmt::Result {
    let Status { written, counts, repairs, applied, denials, .. } = status;
    let help = "Whether the kernel holds the policies of a complete view";
    page.gauge("cambric_policy_in_sync", help, [none(u8::from(*written))])?;
    let help = "Time from a change to the last answer of the kernel, of changes that altered it";
    page.histogram("cambric_policy_apply", help, [none(histogram(applied))])?;
    let refused = [("held", counts.policies), ("closed", counts.refused_policies)];
    let refused = refused.map(|(state, number)| (vec![label("state", state)], count(number)));
    let help = "Policies of the cluster: held, and of these refused by the kernel and closed therefore";
    page.gauge("cambric_policy_policies", help, refused)?;
    let pods = [("judged", counts.placed), ("closed", counts.endpoints.saturating_sub(counts.placed))];
    let pods = pods.map(|(state, number)| (vec![label("state", state)], count(number)));
    let help = "Pods of this node: judged by their policies, or closed until they are";
    page.gauge("cambric_policy_pods", help, pods)?;
    let sizes = [("sets", counts.sets), ("members", counts.members), ("chains", counts.chains)];
    let sizes = sizes.map(|(of, number)| (vec![label("of", of)], count(number)));
    page.gauge("cambric_policy_objects", "What stands for policies in the kernel, both families", sizes)?;
    let help = "What others changed of ours and was put right, by what it was";
    let repairs = repairs.iter().map(|(cause, repairs)| (vec![label("cause", cause)], repairs.count));
    page.counter("cambric_policy_repairs", help, repairs)?;
    let help =
        "Denied packets that the kernel told of; it tells a few of each chain a second, so there are more";
    page.counter("cambric_policy_denied_packets", help, [none(denials.seen)])?;
    let help = "How often the kernel told of denied packets faster than they were read";
    page.counter("cambric_policy_denials_lost", help, [none(denials.lost)])
}

fn histogram(applied: &Applied) -> Histogram {
    let bounds = Applied::BOUNDS.iter().map(|bound| bound.as_secs_f64()).chain([f64::MAX]);
    Histogram { buckets: bounds.zip(applied.counts).collect(), sum_s: applied.sum.as_secs_f64() }
}
