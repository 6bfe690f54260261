//! Leaving with a word: a drained node, a neighbour that leaves, and one that says why.

use anyhow::{Context, Result, ensure};
use cambric_lab::poll;

use crate::cambric::{self, Us};
use crate::common::operator::sessions;
use crate::other::{Kind, Other, Told, birdc, vtysh};
use crate::rig::{LIMIT, OTHER_ASN, own_pods};
use crate::sessions::serves;
use crate::table::{ALL, Row, Runs};

pub(crate) const ROWS: &[Row] = &[
    Row {
        feature: "we are drained, the other uses our routes last (BIRD by a filter)",
        rfc: "RFC 8326",
        runs: Runs::With(&[Kind::Frr, Kind::Bird], we_are_drained),
        without: &[(Kind::Gobgp, "takes a policy of its own, not tried")],
    },
    Row {
        feature: "the other leaves, we use its routes last",
        rfc: "RFC 8326",
        runs: Runs::With(ALL, the_other_leaves),
        without: &[],
    },
    Row {
        feature: "the other shuts down with a text, and we show it",
        rfc: "RFC 9003",
        runs: Runs::With(ALL, it_says_why),
        without: &[],
    },
];

fn we_are_drained(kind: Kind) -> Result<()> {
    let mut other = Other::new(kind);
    if kind == Kind::Bird {
        let filter = "import filter { if (65535, 0) ~ bgp_community then bgp_local_pref = 0; accept; };";
        other.family_lines.push(filter.into());
    }
    let last = match kind {
        Kind::Frr => "localpref 0,",
        _ => "BGP.local_pref: 0\n",
    };
    serves(Us::new(), other, |rig| {
        let (us, (other, node), own) = (rig.us()?, rig.other()?, &own_pods(0)[0]);
        let before = sessions(&us)?;
        let used_last = |wanted: bool| {
            poll::until(&format!("{own} to be used last: {wanted}"), LIMIT, || {
                other.path(&node, own).is_ok_and(|path| path.contains(last) == wanted)
            })
        };
        used_last(false)?;
        us.run_ok(&["cambric", "drain"])?;
        used_last(true)?;
        us.run_ok(&["cambric", "undrain"])?;
        used_last(false)?;
        other.wait_for(&node, own)?;
        ensure!(sessions(&us)? == before, "the session began anew");
        Ok(())
    })
}

fn the_other_leaves(kind: Kind) -> Result<()> {
    serves(Us::new(), Other::new(kind).tells(Told::Leaving), |rig| {
        let (us, (other, _)) = (rig.us()?, rig.other()?);
        let path = cambric::path(&us, &other.announces[0], "o1")?.context("a path")?;
        ensure!(path["local_pref"] == 0, "{path:#}");
        Ok(())
    })
}

fn it_says_why(kind: Kind) -> Result<()> {
    const TEXT: &str = "maintenance until noon";
    serves(Us::new(), Other::new(kind), |rig| {
        let (us, (other, node)) = (rig.us()?, rig.other()?);
        let neighbor = other.our_address.to_string();
        match kind {
            Kind::Frr => {
                let (router, words) = (
                    format!("router bgp {OTHER_ASN}"),
                    format!("neighbor {neighbor} shutdown message {TEXT}"),
                );
                vtysh(&node, &["configure terminal", &router, &words].join("\n"))?;
            }
            Kind::Bird => {
                birdc(&node, &["disable", "node", &format!("\"{TEXT}\"")])?;
            }
            Kind::Gobgp => {
                node.run_ok(&["gobgp", "neighbor", &neighbor, "shutdown", "--reason", TEXT])?;
            }
        }
        cambric::wait_for_words(&us, "o1", TEXT)
    })
}
