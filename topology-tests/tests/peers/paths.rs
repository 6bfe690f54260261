//! Several paths to a prefix (RFC 7911).

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use cambric_lab::poll;

use crate::cambric::{self, Us};
use crate::other::{Kind, Other};
use crate::rig::{LIMIT, Rig, Way, own_pods};
use crate::table::{ALL, Row, Runs};

pub(crate) const ROWS: &[Row] = &[
    Row {
        feature: "several paths to a prefix, we tell them",
        rfc: "RFC 7911",
        runs: Runs::With(ALL, we_tell),
        without: &[],
    },
    Row {
        feature: "several paths to a prefix, the other tells them",
        rfc: "RFC 7911",
        runs: Runs::With(ALL, the_other_tells),
        without: &[],
    },
];

/// Two others that tell the same prefix, each of an AS of its own.
fn tellers(kind: Kind) -> [Other; 2] {
    let teller = |number: u8| Other {
        announces: vec![own_pods(2)[0].clone()],
        ..Other::new(kind).numbered(number).of_asn(asn(number))
    };
    [teller(2), teller(3)]
}

fn asn(number: u8) -> u32 {
    65010 + u32::from(number)
}

/// FRR takes several without being asked to.
fn takes_several(other: Other) -> Other {
    other.family_by_kind("", "add paths rx;", "[neighbors.afi-safis.add-paths.config];receive = true")
}

/// The first hears of what the two others tell, and of one when the other one is gone.
fn we_tell(kind: Kind) -> Result<()> {
    let [second, third] = tellers(kind);
    let (prefix, gone) = (second.announces[0].clone(), third.clone());
    let us = Us::new().config("export: All").config("addPath: [{family: ipv4, sendPaths: 4}]");
    Rig::up(&us, &[takes_several(Other::new(kind)), second, third], Way::Link)?.run(|rig| {
        rig.be_established()?;
        rig.be_told()?;
        let (us, (other, node)) = (rig.us()?, rig.other()?);
        let agreed = cambric::protocol(&us, "o1")?["session"]["several_sent"].clone();
        ensure!(agreed == serde_json::json!(["ipv4"]), "agreed on: {agreed}");
        let told = |wanted: [bool; 2]| {
            poll::until(
                &format!("{kind} to have paths through the second and third: {wanted:?}"),
                LIMIT,
                || {
                    other.path(&node, &prefix).is_ok_and(|text| {
                        [2, 3].map(|number| text.contains(&asn(number).to_string())) == wanted
                    })
                },
            )
        };
        told([true, true])?;
        gone.kill(&rig.node(&gone)?)?;
        told([true, false])
    })
}

/// It has two paths, and we tell them apart.
fn the_other_tells(kind: Kind) -> Result<()> {
    let prefix = own_pods(2)[0].clone();
    let mut other = Other::new(kind).family_by_kind(
        "neighbor % addpath-tx-all-paths",
        "add paths tx;",
        "[neighbors.afi-safis.add-paths.config];send-max = 8",
    );
    if kind == Kind::Bird {
        for name in ["one", "two"] {
            other.global_lines.push(format!("protocol static {name} {{ ipv4; route {prefix} blackhole; }}"));
        }
    }
    // FRR has no two paths of its own: it tells back those that we tell it.
    let tellers = if kind == Kind::Frr { tellers(kind).to_vec() } else { Vec::new() };
    let others: Vec<Other> = std::iter::once(other).chain(tellers).collect();
    let us = Us::new().config("export: All").config("import: All").config("allowOwnAS: 1");
    let us = us.config("addPath: [{family: ipv4, receive: Enabled, sendPaths: 4}]");
    Rig::up(&us, &others, Way::Link)?.run(|rig| {
        rig.be_established()?;
        let (us, (other, node)) = (rig.us()?, rig.other()?);
        if kind == Kind::Gobgp {
            for identifier in ["7", "9"] {
                let words =
                    ["gobgp", "global", "rib", "add", &prefix, "identifier", identifier, "-a", "ipv4"];
                node.run_ok(&words)?;
            }
        }
        let agreed = cambric::protocol(&us, "o1")?["session"]["several_received"].clone();
        ensure!(agreed == serde_json::json!(["ipv4"]), "agreed on: {agreed}");
        poll::until(&format!("two paths of {kind}"), LIMIT, || {
            cambric::paths(&us, &prefix, "o1").is_ok_and(|paths| paths.len() == 2)
        })?;
        let paths = cambric::paths(&us, &prefix, "o1")?;
        let names: BTreeSet<Option<u64>> = paths.iter().map(|path| path["path_id"].as_u64()).collect();
        ensure!(names.len() == 2, "one name twice: {paths:?}");
        let used = paths.iter().filter(|path| path["verdict"] != "refused").count();
        ensure!(used == 2, "they are refused: {paths:?}");
        let peer = cambric::protocol(&us, &other.own_address.to_string())?;
        ensure!(peer["flawed_updates"] == 0, "flawed UPDATEs: {peer:#}");
        let counts = cambric::counts(&us, "o1", "ipv4")?;
        let received = counts["received"].as_u64().context("received")?;
        ensure!(received >= 2, "each path counts: {counts:#}");
        Ok(())
    })
}
