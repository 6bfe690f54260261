//! Restarts of one side, with the other one as helper (RFC 4724).

use anyhow::{Result, ensure};
use cambric_lab::poll;
use nix::sys::signal::Signal;

use crate::cambric::{self, Us};
use crate::common::held::Held;
use crate::other::{Kind, Other};
use crate::rig::{LIMIT, Rig, Way, own_pods};
use crate::table::{ALL, Row, Runs};

pub(crate) const ROWS: &[Row] = &[
    Row {
        feature: "our daemon is killed, the other keeps our routes",
        rfc: "RFC 4724 section 4.2",
        runs: Runs::With(ALL, we_restart),
        without: &[],
    },
    Row {
        feature: "the other is killed, we keep its routes",
        rfc: "RFC 4724 section 4.2",
        runs: Runs::With(ALL, the_other_restarts),
        without: &[],
    },
    Row {
        feature: "the other only helps and names no family, and keeps our routes all the same",
        rfc: "RFC 4724 section 3",
        runs: Runs::With(&[Kind::Frr, Kind::Bird], we_restart_with_a_helper),
        without: &[(Kind::Gobgp, "helps only where its own restart is configured")],
    },
    Row {
        feature: "our daemon is away beyond its restart time, the other uses our routes last",
        rfc: "RFC 9494 section 4.2",
        runs: Runs::With(ALL, we_are_away_for_long),
        without: &[],
    },
    Row {
        feature: "the other is away beyond its restart time, we use its routes last",
        rfc: "RFC 9494 section 4.2",
        runs: Runs::With(ALL, the_other_is_away_for_long),
        without: &[],
    },
];

fn we_restart(kind: Kind) -> Result<()> {
    we_are_killed(Other { restarts: true, ..Other::new(kind) }, &["ipv4"])
}

/// As FRR and BIRD are without a word about it in their configuration.
fn we_restart_with_a_helper(kind: Kind) -> Result<()> {
    we_are_killed(Other::new(kind), &[])
}

fn we_are_killed(other: Other, keeps: &[&str]) -> Result<()> {
    let kind = other.kind;
    Rig::up(&Us::new(), &[other], Way::Link)?.run(|rig| {
        rig.be_established()?;
        rig.be_told()?;
        let (us, (other, node)) = (rig.us()?, rig.other()?);
        let offered = cambric::protocol(&us, "o1")?["session"]["graceful_restart"]["families"].clone();
        ensure!(offered == serde_json::json!(keeps), "{kind} offers to keep {offered}");
        let own = &own_pods(0)[0];
        let held = |wanted: Held| {
            poll::until_some(&format!("{own} to be {wanted:?} at {kind}"), LIMIT, || {
                let held = other.held(&node, own)?;
                ensure!(held != Held::Nothing, "{kind} has lost {own}");
                Ok((held == wanted).then_some(()))
            })
        };
        let before = us.run_ok(&["ip", "route", "show", "proto", "203"])?;
        us.kill("cambricd", Signal::SIGKILL)?;
        held(Held::Stale)?;
        ensure!(us.run_ok(&["ip", "route", "show", "proto", "203"])? == before, "our kernel lost routes");
        us.start()?;
        held(Held::Fresh)?;
        rig.be_established()?;
        poll::until("our kernel to be as before", LIMIT, || {
            us.run_ok(&["ip", "route", "show", "proto", "203"]).is_ok_and(|now| now == before)
        })
    })
}

fn the_other_restarts(kind: Kind) -> Result<()> {
    let other = Other { restarts: true, ..Other::new(kind) };
    Rig::up(&Us::new(), &[other], Way::Link)?.run(|rig| {
        rig.be_established()?;
        rig.be_told()?;
        let (us, (other, node)) = (rig.us()?, rig.other()?);
        let its = &other.announces[0];
        let stale = |wanted: bool| {
            poll::until_some(&format!("{its} to be stale: {wanted}"), LIMIT, || {
                let route = cambric::kernel(&us, its)?;
                ensure!(route.contains("proto 203"), "our kernel has lost {its}");
                Ok(cambric::path(&us, its, "o1")?.filter(|path| path["stale"] == wanted))
            })
        };
        stale(false)?;
        other.kill(&node)?;
        stale(true)?;
        other.start(&node)?;
        stale(false)?;
        rig.be_established()
    })
}

/// Speaks long-lived graceful restart, and is to be waited for two seconds only before that begins.
fn long_lived(kind: Kind) -> Other {
    Other { restarts: true, restart_time_s: 2, long_lived_s: Some(60), ..Other::new(kind) }
}

/// What marks a route that is kept for so long, however it is written: LLGR_STALE.
fn is_marked(text: &str) -> bool {
    let text = text.to_lowercase().replace(' ', "");
    ["llgr-stale", "llgr_stale", "65535:6", "65535,6"].iter().any(|mark| text.contains(mark))
}

fn we_are_away_for_long(kind: Kind) -> Result<()> {
    let us = Us::new().config("gracefulRestart: {restartSeconds: 2, longLivedSeconds: 60}");
    Rig::up(&us, &[long_lived(kind)], Way::Link)?.run(|rig| {
        rig.be_established()?;
        rig.be_told()?;
        let (us, (other, node)) = (rig.us()?, rig.other()?);
        let own = &own_pods(0)[0];
        us.kill("cambricd", Signal::SIGKILL)?;
        poll::until_some(&format!("{own} to be long-lived stale at {kind}"), LIMIT, || {
            ensure!(other.held(&node, own)? != Held::Nothing, "{kind} has lost {own}");
            Ok(is_marked(&other.path(&node, own)?).then_some(()))
        })?;
        us.start()?;
        other.wait_for(&node, own)?;
        poll::until(&format!("{own} to have no mark at {kind}"), LIMIT, || {
            other.path(&node, own).is_ok_and(|text| !is_marked(&text))
        })
    })
}

fn the_other_is_away_for_long(kind: Kind) -> Result<()> {
    Rig::up(&Us::new(), &[long_lived(kind)], Way::Link)?.run(|rig| {
        rig.be_established()?;
        rig.be_told()?;
        let (us, (other, node)) = (rig.us()?, rig.other()?);
        let its = &other.announces[0];
        let kept = || {
            let route = cambric::kernel(&us, its)?;
            ensure!(route.contains("proto 203"), "our kernel has lost {its}");
            cambric::path(&us, its, "o1")
        };
        other.kill(&node)?;
        poll::until_some(&format!("{its} to be long-lived stale"), LIMIT, || {
            let marks = kept()?.map(|path| path["communities"].to_string());
            Ok(marks.filter(|marks| marks.contains("llgr-stale") || marks.contains("65535:6")))
        })?;
        other.start(&node)?;
        poll::until_some(&format!("{its} to be fresh"), LIMIT, || {
            Ok(kept()?.filter(|path| path["stale"] == false))
        })?;
        rig.be_established()
    })
}
