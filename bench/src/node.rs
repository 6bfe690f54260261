//! The enforcer of a node, as the daemon runs it.

use std::time::Duration;

use anyhow::{Context, Result};
use cambric_policy::change::Change;
use cambric_policy::compile::{Options, UnknownPods};
use cambric_policy::enforcer::{Config, Counts, Enforcer};
use tokio::time::timeout;

use crate::namespace::Namespace;

/// Name of the node in all clusters here.
pub(crate) const NAME: &str = "here";

/// Runs `work` inside a namespace, with a runtime of this thread.
pub(crate) fn run<T: Send>(namespace: &Namespace, work: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
    namespace.enter(|| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
        runtime.block_on(work())
    })
}

/// Starts an enforcer in the namespace of the calling thread, with the daemon's settings.
pub(crate) fn start() -> Result<Enforcer> {
    let options =
        Options { node: NAME.into(), bgp_port: 179, log_group: 179, unknown_pods: UnknownPods::Closed };
    Ok(Enforcer::start(Config::new(options))?)
}

/// How much there is, once so many endpoints are placed.
pub(crate) async fn counts(enforcer: &Enforcer, placed: usize) -> Result<Counts> {
    let mut status = enforcer.status();
    let there = status.wait_for(|status| status.counts.placed == placed);
    let status = timeout(Duration::from_secs(10), there).await.context("not all endpoints are placed")?;
    Ok(status.context("the enforcer has ended")?.counts)
}

/// Tells all and waits until it stands in the kernel; there it stays.
pub(crate) fn write(namespace: &Namespace, changes: Vec<Change>) -> Result<()> {
    run(namespace, async || {
        let enforcer = start()?;
        enforcer.apply(changes).await?;
        enforcer.complete().await?;
        enforcer.stop().await;
        Ok(())
    })
}
