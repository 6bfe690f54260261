//! The lab with all its sessions up.
#![allow(dead_code, reason = "each test file uses its part")]

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cambric_lab::{Lab, Node, fabric, poll};

use crate::common::{Need, machine_has};
use crate::look::{self, Bfd, SWITCHES};

/// How long anything may take that happens by itself.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) const CAMBRICD: &str = "cambricd";

/// Packets that each flow carries before a fault, and after all is well again.
pub(crate) const BEFORE: u32 = 200;
pub(crate) const AFTER: u32 = 2_000;

pub(crate) fn ready() -> bool {
    machine_has(&[Need::Root, Need::Frr, Need::Bird, Need::Netfilter, Need::Cambric])
}

/// Waits until all sessions are up, of BGP and of BFD.
pub(crate) fn all_up(lab: &Lab, interval_ms: u64) -> Result<()> {
    let (start, node) = (Instant::now(), lab.node("c1")?);
    whole(lab)?;
    println!("{interval_ms} ms x 3: all sessions of BGP and BFD up {:.1?} after the lab", start.elapsed());
    for bfd in look::all(&node)? {
        let Bfd { name, detection_ms, transmit_ms, .. } = &bfd;
        println!("  {name}: a packet every {transmit_ms} ms, lost after {detection_ms} ms");
        ensure!(*detection_ms == 3 * interval_ms && *transmit_ms == interval_ms, "{bfd:?}");
    }
    Ok(())
}

pub(crate) fn whole(lab: &Lab) -> Result<()> {
    let node = lab.node("c1")?;
    poll::until("all sessions of BGP", LIMIT, || fabric::is_whole(&node))?;
    poll::until("all sessions of BFD", LIMIT, || look::all_are_up(&node))?;
    for switch in &SWITCHES {
        poll::until(&format!("BFD of {}", switch.tor.name), LIMIT, || {
            switch.sees_bfd_up(lab).unwrap_or(false)
        })?;
        poll::until(&format!("routes of {}", switch.tor.name), LIMIT, || {
            switch.tor.is_in_kernel_of(&node) && switch.tor.has_fresh(lab).unwrap_or(false)
        })?;
        poll::until(&format!("routes at {}", switch.tor.name), LIMIT, || {
            switch.has_in_kernel(lab) == [true; 2]
        })?;
    }
    Ok(())
}

/// Whether the daemon has ended.
pub(crate) fn pid_is_gone(node: &Node) -> bool {
    node.daemon_pid(CAMBRICD).is_none()
}
