//! Sessions of every sort.

use anyhow::{Result, ensure};

use crate::cambric::{self, Us};
use crate::other::{Family, Kind, Other, family_of};
use crate::rig::{OUR_ASN, Rig, Way, own_pods};
use crate::table::{ALL, Row, Runs};

pub(crate) const ROWS: &[Row] = &[
    Row { feature: "external, IPv4", rfc: "RFC 4271", runs: Runs::With(ALL, external), without: &[] },
    Row {
        feature: "external, IPv6",
        rfc: "RFC 4760, 2545",
        runs: Runs::With(ALL, external_v6),
        without: &[],
    },
    Row { feature: "internal", rfc: "RFC 4271", runs: Runs::With(ALL, internal), without: &[] },
    Row {
        feature: "AS number of four octets",
        rfc: "RFC 6793",
        runs: Runs::With(ALL, four_octets),
        without: &[],
    },
    Row {
        feature: "the other connects, we listen",
        rfc: "RFC 4271 section 8",
        runs: Runs::With(ALL, we_are_passive),
        without: &[],
    },
    Row {
        feature: "we connect, the other listens",
        rfc: "RFC 4271 section 8",
        runs: Runs::With(ALL, the_other_is_passive),
        without: &[],
    },
    Row {
        feature: "source address",
        rfc: "RFC 4271 section 8",
        runs: Runs::With(ALL, source_address),
        without: &[],
    },
    Row { feature: "source interface", rfc: "none", runs: Runs::With(ALL, source_interface), without: &[] },
    Row {
        feature: "wrong AS: both sides say so",
        rfc: "RFC 4271 section 6.2",
        runs: Runs::With(ALL, wrong_as),
        without: &[],
    },
];

/// A session with everything that follows from it: routes both ways, and nothing flawed.
pub(crate) fn serves(us: Us, other: Other, also: impl FnOnce(&Rig) -> Result<()>) -> Result<()> {
    Rig::up(&us, &[other], Way::Link)?.run(|rig| {
        rig.be_established()?;
        rig.be_told()?;
        let (other, _) = rig.other()?;
        let peer = cambric::protocol(&rig.us()?, &other.own_address.to_string())?;
        ensure!(peer["flawed_updates"] == 0, "flawed UPDATEs: {peer:#}");
        also(rig)
    })
}

fn external(kind: Kind) -> Result<()> {
    serves(Us::new(), Other::new(kind), |rig| {
        let (other, node) = rig.other()?;
        let session = cambric::protocol(&rig.us()?, "o1")?;
        ensure!(session["kind"] == "external", "{session:#}");
        ensure!(session["session"]["hold_time_s"] == 9, "{session:#}");
        ensure!(session["session"]["as_octets"] == 4, "{session:#}");
        let path = other.path(&node, &own_pods(0)[0])?;
        ensure!(path.contains(&OUR_ASN.to_string()), "no AS path with {OUR_ASN}: {path}");
        Ok(())
    })
}

fn external_v6(kind: Kind) -> Result<()> {
    serves(Us::new(), Other::new(kind).over_ipv6(), |rig| {
        let (other, _) = rig.other()?;
        ensure!(other.announces.iter().all(|prefix| family_of(prefix) == Family::V6));
        let route = cambric::kernel(&rig.us()?, &other.announces[0])?;
        ensure!(route.contains("via ") || route.contains("nhid "), "no next hop: {route}");
        Ok(())
    })
}

fn internal(kind: Kind) -> Result<()> {
    serves(Us::new(), Other::new(kind).of_asn(OUR_ASN), |rig| {
        let (other, node) = rig.other()?;
        let session = cambric::protocol(&rig.us()?, "o1")?;
        ensure!(session["kind"] == "internal", "{session:#}");
        let path = other.path(&node, &own_pods(0)[0])?;
        ensure!(!path.contains(&OUR_ASN.to_string()), "our AS is in an internal path: {path}");
        Ok(())
    })
}

fn four_octets(kind: Kind) -> Result<()> {
    const OURS: u32 = 4_200_000_100;
    const ITS: u32 = 4_200_000_001;
    let us = Us { asn: OURS, ..Us::new() };
    serves(us, Other { our_asn: OURS, ..Other::new(kind).of_asn(ITS) }, |rig| {
        let (other, node) = rig.other()?;
        let path = other.path(&node, &own_pods(0)[0])?;
        ensure!(path.contains(&OURS.to_string()), "no AS path with {OURS}: {path}");
        Ok(())
    })
}

fn we_are_passive(kind: Kind) -> Result<()> {
    serves(Us::new().config("connect: Passive"), Other::new(kind), |rig| opened_by_other(rig, true))
}

fn the_other_is_passive(kind: Kind) -> Result<()> {
    let other = Other { passive: true, ..Other::new(kind) };
    serves(Us::new(), other, |rig| opened_by_other(rig, false))
}

/// Who listens has port 179.
pub(crate) fn opened_by_other(rig: &Rig, by_other: bool) -> Result<()> {
    let us = rig.us()?;
    let text = us.run_ok(&["ss", "-Htn", "state", "established", "( sport = :179 )"])?;
    ensure!(text.trim().is_empty() != by_other, "connections to our port 179: {text:?}");
    Ok(())
}

/// Our side has an address more, which alone the other takes for us.
fn source_address(kind: Kind) -> Result<()> {
    let other = Other::new(kind);
    let plain = other.our_address.to_string();
    let more = "192.0.2.29".parse()?;
    let us = Us {
        peers: vec![format!(
            "name: o1, address: {}, asn: {}, localAddress: {more}, peerConfig: other",
            other.own_address, other.asn
        )],
        ..Us::new()
    };
    // It would not take a connection from the other address, and does not connect by itself.
    let other = Other { our_address: more, passive: true, ..other };
    Rig::up(&us, &[other], Way::Link)?.run(|rig| {
        let node = rig.us()?;
        node.run_ok(&["ip", "address", "add", &format!("{more}/28"), "dev", "eth1"])?;
        rig.be_established()?;
        rig.be_told()?;
        let text = node.run_ok(&["ss", "-Htn", "state", "established", "( dport = :179 )"])?;
        ensure!(text.contains(&format!("{more}:")) && !text.contains(&format!("{plain}:")), "{text}");
        Ok(())
    })
}

fn source_interface(kind: Kind) -> Result<()> {
    let other = Other { passive: true, ..Other::new(kind) };
    let peer = format!(
        "name: o1, address: {}, asn: {}, localInterface: eth1, peerConfig: other",
        other.own_address, other.asn
    );
    serves(Us { peers: vec![peer], ..Us::new() }, other, |rig| {
        // A socket that is bound to a link is shown with it.
        let text = rig.us()?.run_ok(&["ss", "-Htn", "state", "established", "( dport = :179 )"])?;
        ensure!(text.contains("%eth1:"), "{text}");
        Ok(())
    })
}

fn wrong_as(kind: Kind) -> Result<()> {
    let other = Other::new(kind).of_asn(65002);
    let us = Us {
        peers: vec![format!("name: o1, address: {}, asn: 65001, peerConfig: other", other.own_address)],
        ..Us::new()
    };
    Rig::up(&us, &[other], Way::Link)?.run(|rig| {
        cambric::wait_for_words(&rig.us()?, "o1", "65002")?;
        let (other, node) = rig.other()?;
        ensure!(!other.is_established(&node), "a session with the wrong AS");
        let words = cambric::last_error(&rig.us()?, "o1")?;
        ensure!(words.contains("65001"), "it does not say what is configured: {words}");
        Ok(())
    })
}
