//! Case `gate`: how long a new pod waits until its rules and its addresses are in the kernel.
//!
//! The enforcer alone, asked as the daemon asks it. What plugin and socket add is measured in the topology tests.

use std::time::Instant;

use anyhow::Result;
use cambric_policy::change::Change;
use cambric_policy::enforcer::Enforcer;
use clap::Args;
use tokio::task::JoinSet;

use crate::cluster::Sizes;
use crate::namespace::Namespace;
use crate::node;
use crate::statistics::{Samples, micros};
use crate::table::{Times, target};

/// What may be chosen.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Policies of the cluster, in five namespaces.
    #[arg(long, default_value_t = 250)]
    policies: usize,
    /// Pods of this node that are there already.
    #[arg(long, default_value_t = 100)]
    local: usize,
    /// Pods that come, each way.
    #[arg(long, default_value_t = 400)]
    new: usize,
}

/// 99 of 100 pods have their rules after this time.
const TARGET_US: f64 = 10_000.0;
/// Pods that come at once.
const AT_ONCE: usize = 8;

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Options { policies, local, new } = *options;
    println!(
        "gate: from the question to the answer that a new pod's rules are in the kernel; {policies} policies\n"
    );
    let sizes = Sizes { namespaces: 5, policies, pods: local + 2 * new, local: local + 2 * new };
    let namespace = Namespace::new()?;
    let (one, several) = node::run(&namespace, async || {
        let enforcer = node::start()?;
        let late = |change: &Change| match change {
            Change::Endpoint(veth, _) => (local..sizes.local).any(|n| *veth == sizes.veth(n)),
            _ => false,
        };
        enforcer.apply(sizes.changes().into_iter().filter(|change| !late(change)).collect()).await?;
        enforcer.complete().await?;
        let one = place(&enforcer, sizes, local..local + new, 1).await?;
        let several = place(&enforcer, sizes, local + new..sizes.local, AT_ONCE).await?;
        Ok((one, several))
    })?;
    let mut table = Times::new("pods come");
    table.line("one after the other", &one);
    table.line("eight at once", &several);
    table.print();
    target("99 of 100 pods, either way", one.quantile(0.99).max(several.quantile(0.99)), TARGET_US);
    Ok(())
}

/// Places pods, so many at once; their objects are known. Microseconds of each.
async fn place(
    enforcer: &Enforcer,
    sizes: Sizes,
    pods: std::ops::Range<usize>,
    at_once: usize,
) -> Result<Samples> {
    let mut samples = Samples::default();
    let pods: Vec<usize> = pods.collect();
    for group in pods.chunks(at_once) {
        let mut waiting = JoinSet::new();
        for &n in group {
            let enforcer = enforcer.clone();
            waiting.spawn(async move {
                let begin = Instant::now();
                enforcer.place(sizes.veth(n), sizes.endpoint(n)).await?;
                anyhow::Ok(micros(begin.elapsed()))
            });
        }
        while let Some(done) = waiting.join_next().await {
            samples.push(done??);
        }
        // They go again: the node keeps as many as it had.
        let gone = group.iter().map(|&n| Change::Endpoint(sizes.veth(n), None));
        enforcer.apply(gone.collect()).await?;
        enforcer.flushed().await?;
    }
    Ok(samples)
}
