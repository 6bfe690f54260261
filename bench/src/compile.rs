//! Case `compile`: from a change of a large cluster to the kernel, and starts.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cambric_policy::change::Change;
use cambric_policy::enforcer::Enforcer;
use clap::Args;

use crate::changes::Kind;
use crate::clock::process_time;
use crate::cluster::Sizes;
use crate::machine::resident_mib;
use crate::namespace::Namespace;
use crate::node;
use crate::statistics::{Micros, Samples, micros};
use crate::table::{Times, target};

/// What may be chosen.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Policies of the cluster.
    #[arg(long, default_value_t = 12_000)]
    policies: usize,
    /// Pods of the cluster.
    #[arg(long, default_value_t = 3_500)]
    pods: usize,
    /// Pods of this node among them.
    #[arg(long, default_value_t = 250)]
    local: usize,
    /// Namespaces, which share pods and policies evenly.
    #[arg(long, default_value_t = 120)]
    namespaces: usize,
    /// Changes of each kind.
    #[arg(long, default_value_t = 200)]
    changes: usize,
}

/// 99 of 100 changes are in the kernel after this time.
const TARGET_CHANGE_US: f64 = 100_000.0;
/// All is in the kernel after this time from the start.
const TARGET_START_US: f64 = 2_000_000.0;

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Options { policies, pods, local, namespaces, changes } = *options;
    ensure!(local <= pods && local > 0 && namespaces > 0, "of {pods} pods {local} cannot be here");
    println!(
        "compile: {policies} policies, {pods} pods in {namespaces} namespaces, {local} pods on this node\n"
    );
    let sizes = Sizes { namespaces, policies, pods, local };
    let all = sizes.changes();
    let namespace = Namespace::new()?;
    node::run(&namespace, async || {
        let objects_mib = resident_mib();
        let (enforcer, cold) = start(all.clone()).await?;
        let mib = resident_mib() - objects_mib;
        enforcer.stop().await;
        let (enforcer, adopt) = start(all).await?;
        let counts = node::counts(&enforcer, local).await?;
        println!(
            "  in the kernel: {} sets, {} members, {} chains of classes",
            counts.sets, counts.members, counts.chains
        );
        println!(
            "  resident: {mib:.0} MiB of compiler and enforcer, beside {objects_mib:.0} MiB of objects\n"
        );
        measure(&enforcer, sizes, changes).await?;
        for (what, took) in
            [("cold start, the kernel is empty", cold), ("adopt start, the kernel holds it all", adopt)]
        {
            target(&format!("{what} ({} of CPU time)", Micros(took.cpu_us)), took.us, TARGET_START_US);
        }
        Ok(())
    })
}

/// What a start took, until all stood in the kernel.
struct Took {
    us: f64,
    cpu_us: f64,
}

/// Starts an enforcer and tells it all.
async fn start(all: Vec<Change>) -> Result<(Enforcer, Took)> {
    let (begin, cpu_begin) = (Instant::now(), process_time()?);
    let enforcer = node::start()?;
    enforcer.apply(all).await?;
    enforcer.complete().await?;
    let took = Took { us: micros(begin.elapsed()), cpu_us: micros(process_time()? - cpu_begin) };
    Ok((enforcer, took))
}

async fn measure(enforcer: &Enforcer, sizes: Sizes, times: usize) -> Result<()> {
    let mut table = Times::new("change to kernel");
    let mut all = Samples::default();
    for kind in Kind::ALL {
        let mut samples = Samples::default();
        for changes in (0..times).flat_map(|n| kind.changes(sizes, n)) {
            let begin = Instant::now();
            enforcer.apply(changes).await?;
            enforcer.flushed().await.with_context(|| format!("waiting for: {}", kind.name()))?;
            samples.push(micros(begin.elapsed()));
        }
        table.line(kind.name(), &samples);
        all.append(&samples);
    }
    table.line("all", &all);
    table.print();
    target("99 of 100 changes of all kinds", all.quantile(0.99), TARGET_CHANGE_US);
    Ok(())
}
