//! What others do that one would not expect, each seen once in the field.

use anyhow::{Context, Result, ensure};
use cambric_lab::poll;

use crate::cambric::{self, Us};
use crate::common::operator::problems;
use crate::other::{Family, Kind, Other};
use crate::rig::{LIMIT, Rig, Way, own_pods};
use crate::sessions::serves;
use crate::table::{ALL, Row, Runs};

pub(crate) const ROWS: &[Row] = &[
    Row {
        feature: "IPv6 over an IPv4 session: a mapped next hop is never installed",
        rfc: "RFC 4760, 4291 section 2.5.5.2",
        runs: Runs::With(ALL, mapped_next_hop),
        without: &[],
    },
    Row {
        feature: "our own routes sent back: neither counted nor an alarm",
        rfc: "RFC 4271 section 9.1.2",
        runs: Runs::With(&[Kind::Frr], sent_back),
        without: &[(Kind::Bird, "does not send them back"), (Kind::Gobgp, "does not send them back")],
    },
    Row {
        feature: "a peer that may send IPv4 in MP_REACH_NLRI",
        rfc: "RFC 4760, 8950",
        runs: Runs::With(&[Kind::Bird], ipv4_in_mp_reach),
        without: &[(Kind::Frr, "not over IPv4"), (Kind::Gobgp, "not over IPv4")],
    },
];

fn mapped_next_hop(kind: Kind) -> Result<()> {
    let us = Us::new().config("families: [ipv4, ipv6]");
    let other = Other::new(kind).carries(&[Family::V4, Family::V6]);
    Rig::up(&us, &[other], Way::Link)?.run(|rig| {
        rig.be_established()?;
        let (us, (other, _)) = (rig.us()?, rig.other()?);
        cambric::wait_for_kernel(&us, &other.announces[0])?;
        let its = &other.announces[1];
        poll::until(&format!("{its} to be told"), LIMIT, || {
            cambric::path(&us, its, "o1").is_ok_and(|path| path.is_some())
        })?;
        let path = cambric::path(&us, its, "o1")?;
        println!("{kind}: {path:?}");
        if kind == Kind::Bird {
            return cambric::wait_for_kernel(&us, its); // it gives its IPv6 address
        }
        let path = path.context("it was there")?;
        ensure!(path["verdict"] == "refused" && path["reason"] == "NextHopMapped", "{path:#}");
        let route = cambric::kernel(&us, its)?;
        ensure!(route.is_empty(), "nothing can be sent there: {route}");
        Ok(())
    })
}

/// What it sends back would be two thirds of what it may tell, and is far over the mark at which we warn.
fn sent_back(kind: Kind) -> Result<()> {
    let us = Us::new().config("maxPrefixes: 2");
    Rig::up(&us, &[Other::new(kind)], Way::Link)?.run(|rig| {
        rig.be_established()?;
        rig.be_told()?;
        let us = rig.us()?;
        let own = &own_pods(0)[0];
        poll::until("our own route to come back", LIMIT, || {
            cambric::path(&us, own, "o1").is_ok_and(|path| path.is_some())
        })?;
        let path = cambric::path(&us, own, "o1")?.context("it was there")?;
        ensure!(path["verdict"] == "refused" && path["reason"] == "OwnAsInPath", "{path:#}");
        let counts = cambric::counts(&us, "o1", "ipv4")?;
        ensure!(counts["accepted"] == 1, "{counts:#}");
        ensure!(problems(&us)?.is_empty(), "problems: {:?}", problems(&us)?);
        let log = std::fs::read_to_string(us.log("cambricd.log"))?;
        ensure!(!log.contains("max-prefix"), "an alarm: {log}");
        Ok(())
    })
}

/// It may write IPv4 into MP_REACH_NLRI then, with a next hop of four octets.
fn ipv4_in_mp_reach(kind: Kind) -> Result<()> {
    let mut other = Other::new(kind);
    other.family_lines.push("extended next hop on;".into());
    serves(Us::new(), other, |_| Ok(()))
}
