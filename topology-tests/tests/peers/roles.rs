//! Roles of external sessions (RFC 9234).

use anyhow::{Context, Result, ensure};

use crate::cambric::{self, Us};
use crate::other::{Kind, Other};
use crate::rig::{OTHER_ASN, Rig, Way};
use crate::sessions::serves;
use crate::table::{ALL, Row, Runs};

pub(crate) const ROWS: &[Row] = &[
    Row {
        feature: "role: we are its customer, and what it tells is marked",
        rfc: "RFC 9234",
        runs: Runs::With(&[Kind::Frr, Kind::Bird], we_are_its_customer),
        without: &[(Kind::Gobgp, "says no role (3.10)")],
    },
    Row {
        feature: "role: both say customer, no session, and it is said why",
        rfc: "RFC 9234 section 4.2",
        runs: Runs::With(&[Kind::Frr, Kind::Bird], both_are_customers),
        without: &[(Kind::Gobgp, "says no role (3.10)")],
    },
    Row {
        feature: "role: the other says none; it has a session unless we are strict",
        rfc: "RFC 9234 section 4.2",
        runs: Runs::With(ALL, the_other_says_none),
        without: &[],
    },
];

fn is_a(kind: Kind, role: &str) -> Other {
    Other::new(kind).by_kind(&format!("neighbor % local-role {role}"), &format!("local role {role};"), "")
}

fn we_are_its_customer(kind: Kind) -> Result<()> {
    serves(Us::new().config("localRole: Customer"), is_a(kind, "provider"), |rig| {
        let (us, (other, _)) = (rig.us()?, rig.other()?);
        let offered = cambric::protocol(&us, "o1")?["session"]["it_offered"].to_string();
        ensure!(offered.contains("role provider"), "it offered {offered}");
        let path = cambric::path(&us, &other.announces[0], "o1")?.context("a path")?;
        ensure!(path["only_to_customer"] == OTHER_ASN, "no mark of AS {OTHER_ASN}: {path:#}");
        Ok(())
    })
}

fn both_are_customers(kind: Kind) -> Result<()> {
    Rig::up(&Us::new().config("localRole: Customer"), &[is_a(kind, "customer")], Way::Link)?.run(|rig| {
        let (us, (other, node)) = (rig.us()?, rig.other()?);
        cambric::wait_for_words(&us, "o1", "Role Mismatch (2/11)")?;
        ensure!(!cambric::is_established(&us, "o1") && !other.is_established(&node), "there is a session");
        Ok(())
    })
}

/// What it tells is marked by us, then.
fn the_other_says_none(kind: Kind) -> Result<()> {
    serves(Us::new().config("localRole: Customer"), Other::new(kind), |rig| {
        let (us, (other, _)) = (rig.us()?, rig.other()?);
        let path = cambric::path(&us, &other.announces[0], "o1")?.context("a path")?;
        ensure!(path["only_to_customer"] == OTHER_ASN, "no mark of AS {OTHER_ASN}: {path:#}");
        rig.change(&Us::new().config("localRole: Customer").config("strictRole: Enabled"));
        cambric::wait_for_words(&us, "o1", "peer says no role, and must be our provider")?;
        ensure!(!cambric::is_established(&us, "o1"), "there is a session");
        Ok(())
    })
}
