//! The daemon goes and comes, as containers do; packets go on, and pods start.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use cambric_lab::flow::Flow;
use cambric_lab::kubelet::RunningPod;
use cambric_lab::reach::{Echo, Protocol, ask};
use cambric_lab::{fabric, poll};

use crate::LIMIT;
use crate::cluster::Cluster;
use crate::machine::Machine;
use crate::workloads::workload;

/// Packets that are sent when all is as it was, so that a late loss is seen: one second.
const AFTER: u32 = 1000;

/// How long an answer may take.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(1);

pub(crate) fn cost_no_packet(cluster: &Cluster<'_>, machines: &mut [Machine]) -> Result<()> {
    let [near, far] = machines else { anyhow::bail!("two machines") };
    let from = near.run(cluster, workload(near.name(), "flows-from", "app=a"))?;
    let to = far.run(cluster, workload(far.name(), "flows-to", "app=a"))?;
    nothing_is_lost(&from, &to, "the daemon's container is killed, and started again by kubelet", || {
        is_killed(cluster, near, &to)
    })?;
    nothing_is_lost(&from, &to, "the daemon's pod is ended, and another one started", || {
        near.end_daemon(cluster)?;
        near.start_daemon(cluster, "2")?;
        is_ready(near)
    })?;
    near.remove(cluster, &from)?;
    far.remove(cluster, &to)
}

fn is_killed(cluster: &Cluster<'_>, machine: &mut Machine, far: &RunningPod) -> Result<()> {
    let mut daemon = machine.daemon()?.clone();
    let pid = machine.kubelet.process(&daemon)?;
    machine.node.run_ok(&["kill", "-KILL", &pid.to_string()])?;
    let gone = || !machine.node.path(&format!("/proc/{pid}/exe")).exists();
    poll::until("the daemon to be gone", LIMIT, gone)?;
    let pod = machine.run(cluster, workload(machine.name(), "meanwhile", "app=a"))?;
    println!("  started while no daemon was there: a pod at {:?}", pod.addresses());
    let restarted = poll::until_some("kubelet to see it", LIMIT, || {
        let restarted = machine.kubelet.restart_ended(&mut daemon)?;
        Ok((!restarted.is_empty()).then_some(restarted))
    })?;
    ensure!(restarted == ["cambricd"], "restarted: {restarted:?}");
    machine.daemon = Some(daemon);
    is_ready(machine)?;
    for address in pod.addresses() {
        let echo = Echo::start(&pod, *address)?;
        poll::until("that pod to be reached", LIMIT, || {
            ask(far, Protocol::Tcp, echo.address(), ANSWER).is_ok()
        })?;
    }
    machine.remove(cluster, &pod)
}

fn is_ready(machine: &Machine) -> Result<()> {
    let pod = machine.daemon()?;
    poll::until(&format!("the daemon of {} to be ready", machine.name()), LIMIT, || {
        machine.kubelet.is_ready(pod).unwrap_or(false)
    })?;
    poll::until(&format!("{} to be whole", machine.name()), LIMIT, || fabric::is_whole(&machine.node))
}

/// Flows of 1 kHz between two pods, two in each family, so that both switches of a rack carry some.
fn nothing_is_lost(
    from: &RunningPod,
    to: &RunningPod,
    what: &str,
    happens: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let targets: Vec<IpAddr> = to.addresses().iter().flat_map(|address| [*address; 2]).collect();
    let flows = targets.iter().map(|target| Flow::start(from, None, to, *target));
    let flows = flows.collect::<Result<Vec<_>>>()?;
    poll::until("an answer on every flow", LIMIT, || flows.iter().all(|flow| flow.answered() > 100))?;
    happens().with_context(|| what.to_owned())?;
    fabric::send_more(&flows, AFTER)?;
    let reports = fabric::stop_flows(flows)?;
    let lost: Vec<u32> = reports.iter().map(|report| report.lost).collect();
    let sent: u32 = reports.iter().map(|report| report.sent).sum();
    println!("{what}: {sent} packets at 1 kHz, lost by flow {lost:?}");
    ensure!(lost.iter().all(|lost| *lost == 0), "{what}: {reports:#?}");
    Ok(())
}
