//! What each sends in its OPEN, and what comes of it: refresh, long messages.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result, bail, ensure};
use cambric_lab::poll;

use crate::cambric::{self, Us};
use crate::common::operator::sessions;
use crate::other::{Family, Kind, Other};
use crate::rig::{LIMIT, Rig, Way, own_pods};
use crate::sessions::serves;
use crate::table::{ALL, Row, Runs};
use crate::wire::{By, END_OF_RIB, Message, ROUTE_REFRESH, UPDATE, Wire};

pub(crate) const ROWS: &[Row] = &[
    Row {
        feature: "capabilities as each sends them",
        rfc: "RFC 5492",
        runs: Runs::With(ALL, recorded),
        without: &[],
    },
    Row {
        feature: "route refresh, the other asks",
        rfc: "RFC 2918",
        runs: Runs::With(&[Kind::Frr, Kind::Bird], the_other_asks),
        without: &[(Kind::Gobgp, "keeps all it was told, and never asks")],
    },
    Row {
        feature: "route refresh, we ask: there is room again",
        rfc: "RFC 2918",
        runs: Runs::With(ALL, we_ask),
        without: &[],
    },
    Row {
        feature: "enhanced route refresh, the other asks",
        rfc: "RFC 7313",
        runs: Runs::With(&[Kind::Frr, Kind::Bird], answers_are_framed),
        without: &[(Kind::Gobgp, "cannot (3.10)")],
    },
    Row {
        feature: "messages of more than 4096 octets",
        rfc: "RFC 8654",
        runs: Runs::With(&[Kind::Frr, Kind::Bird], long_messages),
        without: &[(Kind::Gobgp, "cannot (3.10)")],
    },
];

const OPEN: u8 = 1;
const HEADER: usize = 19;

/// Nobody of ours: a socket that takes one connection, and looks at the OPEN.
fn recorded(kind: Kind) -> Result<()> {
    // Our daemon listens elsewhere, and has a peer that is nobody.
    let nobody = "name: nobody, address: 192.0.2.30, asn: 65001".to_owned();
    let us = Us { peers: vec![nobody], arguments: vec!["--bgp-port 1179".into()], ..Us::new() };
    let other = Other { restarts: true, ..Other::new(kind).carries(&[Family::V4, Family::V6]) };
    Rig::up(&us, &[other], Way::Link)?.run(|rig| {
        let (other, _) = rig.other()?;
        let at = SocketAddr::new(other.our_address, 179);
        let listener = rig.us()?.in_netns(|| TcpListener::bind(at))??;
        listener.set_nonblocking(true)?;
        let (mut stream, _) = poll::until_some("a connection", LIMIT, || Ok(listener.accept().ok()))?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let open = open(&mut stream)?;
        let (parameters, all) = capabilities(&open)?;
        let hex: String = open.iter().map(|octet| format!("{octet:02x}")).collect();
        println!("{kind} says {all:?} in {parameters} parameters: {hex}");
        ensure!(OPENS.contains(&(kind, parameters, &all)), "{kind}: {all:?} in {parameters} parameters");
        Ok(())
    })
}

/// What `docs/interop.md` says of them: how many optional parameters, which capabilities, in order.
const OPENS: [(Kind, usize, &[u8]); 3] = [
    (Kind::Frr, 11, &[1, 1, 128, 2, 70, 65, 6, 69, 73, 64, 71]),
    (Kind::Bird, 1, &[1, 1, 2, 64, 65, 70, 71]),
    (Kind::Gobgp, 1, &[2, 73, 1, 1, 65, 64, 5]),
];

/// The body of an OPEN.
fn open(stream: &mut impl Read) -> Result<Vec<u8>> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).context("a header")?;
    ensure!(header[18] == OPEN, "message {}", header[18]);
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[16], header[17]])).saturating_sub(HEADER)];
    stream.read_exact(&mut body).context("an OPEN")?;
    Ok(body)
}

/// How many parameters there are, and the codes of the capabilities (RFC 5492 section 4).
fn capabilities(open: &[u8]) -> Result<(usize, Vec<u8>)> {
    let mut rest = open.get(10..).context("an OPEN has ten octets at least")?;
    let (mut parameters, mut all) = (0, Vec::new());
    while let [kind, length, more @ ..] = rest {
        ensure!(*kind == 2, "parameter {kind}");
        let (mut parameter, behind) = more.split_at_checked(usize::from(*length)).context("a parameter")?;
        while let [code, length, value @ ..] = parameter {
            all.push(*code);
            parameter = value.get(usize::from(*length)..).context("a capability")?;
        }
        parameters += 1;
        rest = behind;
    }
    if !rest.is_empty() {
        bail!("{} octets too many", rest.len());
    }
    Ok((parameters, all))
}

fn the_other_asks(kind: Kind) -> Result<()> {
    serves(Us::new(), Other::new(kind), |rig| {
        let (us, (other, node)) = (rig.us()?, rig.other()?);
        ensure!(cambric::protocol(&us, "o1")?["session"]["route_refresh"] == true, "not agreed on");
        let (before, mut wire) = (sessions(&us)?, Wire::tap(&us, other.our_address)?);
        other.refresh(&node)?;
        poll::until_some("a question, and routes behind it", LIMIT, || {
            let messages = wire.messages()?;
            let asks = |message: &Message| message.by == By::Other && message.kind == ROUTE_REFRESH;
            let tells = |message: &Message| {
                message.by == By::Us && message.kind == UPDATE && message.length > END_OF_RIB
            };
            let Some(at) = messages.iter().position(asks) else { return Ok(None) };
            Ok(messages[at..].iter().any(tells).then_some(()))
        })?;
        other.wait_for(&node, &own_pods(0)[0])?;
        ensure!(other.is_established(&node) && sessions(&us)? == before, "the session began anew");
        Ok(())
    })
}

/// More than we take is told, then the limit is raised: all of it is there, and the session is the same.
fn we_ask(kind: Kind) -> Result<()> {
    const MANY: u8 = 9;
    let mut other = Other::new(kind);
    other.announces.extend((1..=MANY).map(|number| format!("198.51.100.{}/32", 64 + number)));
    let us = Us::new().config("import: All");
    Rig::up(&us.clone().config("maxPrefixes: 2"), &[other], Way::Link)?.run(|rig| {
        rig.be_established()?;
        let (node, (other, _)) = (rig.us()?, rig.other()?);
        let counts = |field: &'static str, wanted: u64| {
            poll::until(&format!("{wanted} {field}"), LIMIT, || {
                cambric::counts(&node, "o1", "ipv4").is_ok_and(|counts| counts[field] == wanted)
            })
        };
        // FRR sends our own back, too.
        poll::until("more than the limit to be told", LIMIT, || {
            cambric::counts(&node, "o1", "ipv4")
                .is_ok_and(|counts| counts["received"].as_u64() > Some(MANY.into()))
        })?;
        counts("accepted", 2)?;
        let (before, mut wire) = (sessions(&node)?, Wire::tap(&node, other.our_address)?);
        rig.change(&us.config("maxPrefixes: 100"));
        counts("accepted", u64::from(MANY) + 1)?;
        rig.be_told()?;
        let asked =
            wire.messages()?.iter().any(|message| message.by == By::Us && message.kind == ROUTE_REFRESH);
        ensure!(asked, "the routes are there, and nobody asked for them");
        ensure!(sessions(&node)? == before, "the session began anew");
        Ok(())
    })
}

/// Our answer begins and ends with a word, so that the other one knows what was not in it.
fn answers_are_framed(kind: Kind) -> Result<()> {
    const BEGINS: u8 = 1;
    const ENDS: u8 = 2;
    serves(Us::new(), Other::new(kind), |rig| {
        let (us, (other, node)) = (rig.us()?, rig.other()?);
        let mut wire = Wire::tap(&us, other.our_address)?;
        other.refresh(&node)?;
        poll::until_some("a beginning, routes, an end", LIMIT, || {
            let ours = wire.messages()?.iter().filter(|message| message.by == By::Us);
            let ours: Vec<&Message> =
                ours.filter(|message| message.length > END_OF_RIB || message.subtype.is_some()).collect();
            let at = |wanted: u8| ours.iter().position(|message| message.subtype == Some(wanted));
            let (Some(begins), Some(ends)) = (at(BEGINS), at(ENDS)) else { return Ok(None) };
            Ok(ours[begins..ends.max(begins)].iter().any(|message| message.kind == UPDATE).then_some(()))
        })?;
        other.wait_for(&node, &own_pods(0)[0])
    })
}

/// Many host routes, more than a message of 4096 octets holds.
fn long_messages(kind: Kind) -> Result<()> {
    const MANY: u16 = 1500;
    let mut other = Other::new(kind).over_ipv6();
    let host = |number: u16| format!("2001:db8:100:1::{number:x}/128");
    other.announces.extend((1..=MANY).map(host));
    // Over IPv4, for the look at the wire.
    let v4 = Other::new(kind);
    let other = Other { our_address: v4.our_address, own_address: v4.own_address, ..other }.by_kind(
        "",
        "enable extended messages on;",
        "",
    );
    let us = Us::new().config("families: [ipv4, ipv6]").config("import: All");
    Rig::up(&us, &[Other { passive: true, ..other }], Way::Link)?.run(|rig| {
        let (us, (other, _)) = (rig.us()?, rig.other()?);
        rig.be_established()?;
        // Once more, from the first message on.
        let mut wire = Wire::tap(&us, other.our_address)?;
        us.run_ok(&["cambric", "restart", "o1"])?;
        poll::until("the session to begin anew", LIMIT, || {
            let told = cambric::counts(&us, "o1", "ipv6").is_ok_and(|counts| counts["received"] == 0);
            told || !cambric::is_established(&us, "o1")
        })?;
        rig.be_established()?;
        ensure!(cambric::protocol(&us, "o1")?["session"]["most_message_bytes"] == 65535, "not agreed on");
        poll::until("all routes to be told", LIMIT, || {
            cambric::counts(&us, "o1", "ipv6")
                .is_ok_and(|counts| counts["received"].as_u64() > Some(MANY.into()))
        })?;
        let peer = cambric::protocol(&us, "o1")?;
        ensure!(peer["flawed_updates"] == 0, "{peer:#}");
        let longest = wire.messages()?.iter().map(|message| message.length).max().unwrap_or_default();
        println!("{kind}: the longest message has {longest} octets");
        ensure!(longest > 4096, "no message is longer than 4096 octets: {longest}");
        Ok(())
    })
}
