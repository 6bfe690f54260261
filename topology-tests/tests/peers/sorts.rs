//! Peers that are more than an address and an AS.

use anyhow::{Context, Result, ensure};
use cambric_lab::{Node, poll};

use crate::cambric::{self, Us};
use crate::other::{Kind, Other, Told};
use crate::rig::{LIMIT, OTHER_ASN, OUR_ASN, Rig, Way, own_pods};
use crate::sessions::{opened_by_other, serves};
use crate::table::{ALL, Row, Runs};

pub(crate) const ROWS: &[Row] = &[
    Row {
        feature: "we connect, and turn connections away",
        rfc: "RFC 4271 section 8",
        runs: Runs::With(ALL, we_are_active),
        without: &[],
    },
    Row {
        feature: "external over a router (multihop)",
        rfc: "RFC 4271 section 5.1.3",
        runs: Runs::With(ALL, multihop),
        without: &[],
    },
    Row { feature: "local AS", rfc: "RFC 7705", runs: Runs::With(ALL, local_as), without: &[] },
    Row {
        feature: "AS override: two sites of one AS behind us",
        rfc: "none",
        runs: Runs::With(ALL, as_override),
        without: &[],
    },
    Row {
        feature: "our own AS allowed in a path",
        rfc: "RFC 4271 section 9.1.2",
        runs: Runs::With(ALL, own_as),
        without: &[],
    },
    Row {
        feature: "any external AS (peerAS: External)",
        rfc: "RFC 4271",
        runs: Runs::With(ALL, any_external),
        without: &[],
    },
    Row {
        feature: "our AS, whatever it is (peerAS: Internal)",
        rfc: "RFC 4271",
        runs: Runs::With(ALL, any_internal),
        without: &[],
    },
    Row {
        feature: "listen range",
        rfc: "RFC 4271 section 8",
        runs: Runs::With(ALL, listen_range),
        without: &[],
    },
    Row {
        feature: "the default gateway is the peer",
        rfc: "RFC 4271 section 8",
        runs: Runs::With(ALL, default_gateway),
        without: &[],
    },
    Row { feature: "MD5, the same key", rfc: "RFC 2385", runs: Runs::With(ALL, same_key), without: &[] },
    Row {
        feature: "MD5, another key: no session, and it is said why",
        rfc: "RFC 2385",
        runs: Runs::With(ALL, another_key),
        without: &[],
    },
    Row {
        feature: "TTL security on a link",
        rfc: "RFC 5082",
        runs: Runs::With(ALL, ttl_on_a_link),
        without: &[],
    },
    Row {
        feature: "TTL security over a router: no session",
        rfc: "RFC 5082",
        runs: Runs::With(ALL, ttl_over_a_router),
        without: &[],
    },
    Row {
        feature: "route reflector, the others are our clients",
        rfc: "RFC 4456",
        runs: Runs::With(ALL, we_reflect),
        without: &[],
    },
];

fn we_are_active(kind: Kind) -> Result<()> {
    serves(Us::new().config("connect: Active"), Other::new(kind), |rig| opened_by_other(rig, false))
}

fn multihop(kind: Kind) -> Result<()> {
    let other = Other { multihop: Some(3), ..Other::new(kind) }.beyond_a_router();
    Rig::up(&Us::new().config("multihop: { ttl: 3 }"), &[other], Way::OverARouter)?.run(|rig| {
        rig.be_established()?;
        let (us, (other, node)) = (rig.us()?, rig.other()?);
        other.wait_for(&node, &own_pods(0)[0])?;
        poll::until("its route to be told", LIMIT, || {
            cambric::path(&us, &other.announces[0], "o1").is_ok_and(|path| path.is_some())
        })
    })
}

fn local_as(kind: Kind) -> Result<()> {
    const LOCAL: u32 = 65150;
    let other = Other { our_asn: LOCAL, ..Other::new(kind) };
    serves(Us::new().config(format!("localAS: {LOCAL}")), other, |rig| {
        let (other, node) = rig.other()?;
        let path = other.path(&node, &own_pods(0)[0])?;
        ensure!(path.contains(&LOCAL.to_string()), "no AS path with {LOCAL}: {path}");
        Ok(())
    })
}

/// Each learns what the other one announces, though it is of its own AS.
fn as_override(kind: Kind) -> Result<()> {
    let others = [Other::new(kind), Other::new(kind).numbered(2)];
    let us = Us::new().config("asOverride: Enabled").config("export: All");
    Rig::up(&us, &others, Way::Link)?.run(|rig| {
        rig.be_established()?;
        rig.be_told()?;
        for (here, there) in [(0, 1), (1, 0)] {
            let (other, node) = (&rig.others[here], rig.node(&rig.others[here])?);
            let prefix = &rig.others[there].announces[0];
            other.wait_for(&node, prefix)?;
            let path = other.path(&node, prefix)?;
            ensure!(path.contains(&format!("{OUR_ASN} {OUR_ASN}")), "{OTHER_ASN} is not replaced: {path}");
        }
        Ok(())
    })
}

/// Our AS is in the path, as where two of our sites meet over another network.
fn own_as(kind: Kind) -> Result<()> {
    serves(Us::new().config("allowOwnAS: 1"), Other::new(kind).tells(Told::Through(OUR_ASN)), |rig| {
        let (us, (other, _)) = (rig.us()?, rig.other()?);
        let path = cambric::path(&us, &other.announces[0], "o1")?.context("a path")?;
        let is_ours = |asn: &serde_json::Value| asn == OUR_ASN;
        ensure!(path["as_path"].as_array().is_some_and(|all| all.iter().any(is_ours)), "{path:#}");
        Ok(())
    })
}

fn any_external(kind: Kind) -> Result<()> {
    serves(by_kind_of_as("External"), Other::new(kind).of_asn(65077), |_| Ok(()))
}

fn any_internal(kind: Kind) -> Result<()> {
    serves(by_kind_of_as("Internal"), Other::new(kind).of_asn(OUR_ASN), |_| Ok(()))
}

fn by_kind_of_as(which: &str) -> Us {
    let peer = format!("name: o1, address: 192.0.2.18, peerAS: {which}, peerConfig: other");
    Us { peers: vec![peer], ..Us::new() }
}

/// Nobody is named: whoever connects from the link is a peer. Our own address lies in the range.
fn listen_range(kind: Kind) -> Result<()> {
    let peer = format!("name: link, listenRange: 192.0.2.16/28, asn: {OTHER_ASN}, peerConfig: other");
    let us = Us { peers: vec![peer], ..Us::new() };
    serves(us, Other::new(kind), |rig| opened_by_other(rig, true))
}

fn default_gateway(kind: Kind) -> Result<()> {
    let peer = format!("name: gateway, defaultGateway: ipv4, asn: {OTHER_ASN}, peerConfig: other");
    let us = Us { peers: vec![peer], ..Us::new() };
    Rig::up(&us, &[Other::new(kind)], Way::Link)?.run(|rig| {
        let (us, (other, _)) = (rig.us()?, rig.other()?);
        // Not before there is one.
        us.run_ok(&["ip", "route", "add", "default", "via", &other.own_address.to_string()])?;
        rig.be_established()?;
        rig.be_told()
    })
}

/// FRR takes one word.
const KEY: &str = "s3cret-of_both";

fn with_key() -> Us {
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{ name: key, namespace: cambric-system }}\nstringData: {{ password: \"{KEY}\" }}\n"
    );
    Us { more: vec![secret], ..Us::new().config("secret: { name: key }") }
}

/// Whoever connects: the key is on the listener, too.
fn same_key(kind: Kind) -> Result<()> {
    let other = Other { password: Some(KEY), ..Other::new(kind) };
    serves(with_key(), other.clone(), |_| Ok(()))?;
    serves(with_key().config("connect: Passive"), other, |rig| {
        opened_by_other(rig, true)?;
        let us = rig.us()?;
        for words in [&["cambric", "show", "protocols", "all"][..], &["cat", "/var/log/cambricd.log"]] {
            ensure!(!us.run_ok(words)?.contains(KEY), "{words:?} shows the key");
        }
        Ok(())
    })
}

fn another_key(kind: Kind) -> Result<()> {
    let other = Other { password: Some("another"), ..Other::new(kind) };
    Rig::up(&with_key(), &[other], Way::Link)?.run(|rig| {
        let (us, (other, node)) = (rig.us()?, rig.other()?);
        let dropped = |node: &Node| counter(node, "TcpExtTCPMD5Failure");
        poll::until("a segment with the wrong signature", LIMIT, || {
            dropped(&us).is_ok_and(|count| count > 0) || dropped(&node).is_ok_and(|count| count > 0)
        })?;
        cambric::wait_for_words(&us, "o1", "key")?;
        ensure!(!other.is_established(&node), "a session with another key");
        println!("{kind}, another key: {}", cambric::last_error(&us, "o1")?);
        Ok(())
    })
}

/// A counter of the kernel, of this network namespace.
fn counter(node: &Node, name: &str) -> Result<u64> {
    let text = node.run_ok(&["nstat", "-asz", name])?;
    let line = text.lines().find(|line| line.starts_with(name)).context("no such counter")?;
    line.split_whitespace().nth(1).and_then(|count| count.parse().ok()).context("a number")
}

fn ttl_on_a_link(kind: Kind) -> Result<()> {
    let other = Other { ttl_security: true, ..Other::new(kind) };
    serves(Us::new().config("ttlSecurity: { hops: 1 }"), other, |_| Ok(()))
}

/// One hop too many takes one off the TTL: what arrives has 254.
fn ttl_over_a_router(kind: Kind) -> Result<()> {
    let other = Other { ttl_security: true, ..Other::new(kind) }.beyond_a_router();
    Rig::up(&Us::new().config("ttlSecurity: { hops: 1 }"), &[other], Way::OverARouter)?.run(|rig| {
        let (us, (other, node)) = (rig.us()?, rig.other()?);
        let dropped = |node: &Node| counter(node, "TcpExtTCPMinTTLDrop");
        poll::until("a packet from too far away", LIMIT, || {
            dropped(&us).is_ok_and(|count| count > 0) || dropped(&node).is_ok_and(|count| count > 0)
        })?;
        ensure!(
            !other.is_established(&node) && !cambric::is_established(&us, "o1"),
            "a session all the same"
        );
        Ok(())
    })
}

/// What one client tells the other one is told, with who told it first and which cluster it has been through.
fn we_reflect(kind: Kind) -> Result<()> {
    let others = [Other::new(kind).of_asn(OUR_ASN), Other::new(kind).numbered(2).of_asn(OUR_ASN)];
    Rig::up(&Us::new().config("reflectorClient: Enabled"), &others, Way::Link)?.run(|rig| {
        rig.be_established()?;
        rig.be_told()?;
        for (here, there) in [(0, 1), (1, 0)] {
            let (other, node) = (&rig.others[here], rig.node(&rig.others[here])?);
            let prefix = &rig.others[there].announces[0];
            other.wait_for(&node, prefix)?;
            let path = other.path(&node, prefix)?.to_lowercase();
            let first = format!("192.0.2.{}", 200 + rig.others[there].number);
            ensure!(path.contains("originator") && path.contains(&first), "no originator {first}: {path}");
            ensure!(path.contains("cluster"), "no cluster list: {path}");
        }
        Ok(())
    })
}
