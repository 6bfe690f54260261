//! The malformed set (`vectors/README.md`) through the whole core: from octets to what a third speaker
//! is told.

mod support;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use cambric_bgp::attributes::AsPath;
use cambric_bgp::peer::PeerState;
use cambric_bgp::router::PeerStatus;
use cambric_bgp::session::{Agreed, AsWidth, Session};
use cambric_bgp::types::PeerKind;
use cambric_bgp::wire::{MessageType, Update, frame};
use cambric_bgp::{ConnId, Family, HoldTime, Prefix, RouterId, Wanted};
use serde::Deserialize;
use support::scripted::{Device, Message, capability, keepalive, open};
use support::{asn, ip, passive, prefix, router, routes};

const DEVICE: &str = "10.2.0.1";
const TESTER: &str = "10.2.0.2";
const INTERNAL: &str = "10.2.0.3";
const EXTERNAL: &str = "10.2.0.4";
const DEVICE_AS: u32 = 65001;
const EXTERNAL_AS: u32 = 65003;

/// The AS that paths told by the setup of a case end in, and no others.
const OLD: u32 = 64999;

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    name: String,
    phase: Phase,
    peer: Side,
    caps: Vec<String>,
    requires: Vec<String>,
    delivery: String,
    message: Octets,
    #[serde(default)]
    setup: Vec<Octets>,
    sentinel: Option<Octets>,
    sentinel_prefix: Option<String>,
    prefix: Option<String>,
    #[serde(default)]
    also_prefixes: Vec<String>,
    expect: Expect,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Phase {
    OpenSent,
    OpenConfirm,
    Established,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Side {
    Ebgp,
    Ibgp,
}

impl Side {
    fn asn(self) -> u32 {
        match self {
            Side::Ebgp => 65002,
            Side::Ibgp => DEVICE_AS,
        }
    }
}

#[derive(Deserialize)]
struct Expect {
    action: String,
    notification: Option<(u8, u8)>,
    alternatives: Vec<String>,
    checks: Checks,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Checks {
    attr_absent: Vec<u8>,
    attr_present: Vec<u8>,
    attr_partial: Vec<u8>,
    attr_value: BTreeMap<u8, String>,
    attr_not_value: BTreeMap<u8, String>,
    discard_attrs: Vec<u8>,
    prefix_unchanged: bool,
    also_present: bool,
    also_absent: bool,
    skip_prefix: bool,
}

/// Hexadecimal in the file.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Octets(Vec<u8>);

impl TryFrom<String> for Octets {
    type Error = std::num::ParseIntError;
    fn try_from(text: String) -> Result<Octets, Self::Error> {
        let octet = |at: usize| u8::from_str_radix(&text[at..at + 2], 16);
        (0..text.len()).step_by(2).map(octet).collect::<Result<_, _>>().map(Octets)
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn cases() -> Vec<Case> {
    let vectors = include_str!("vectors/malformed.json");
    serde_json::from_str::<Vectors>(vectors).expect("the vectors are well-formed").cases
}

// --- the third speaker -----------------------------------------------------------------------------------

/// A route as the third speaker was told it.
#[derive(Debug, Clone)]
struct Told {
    as_path: AsPath,
    /// Flags and value by type code, as they stood in the message.
    attributes: BTreeMap<u8, (u8, Vec<u8>)>,
}

/// A speaker behind the device that only listens.
struct Listener {
    conn: ConnId,
    address: IpAddr,
    session: Session,
    routes: BTreeMap<Prefix, Told>,
}

impl Listener {
    fn connect(device: &mut Device, address: &str, own_as: u32) -> Listener {
        let address = ip(address);
        let conn = device.accept(ip(DEVICE), address);
        device.send(conn, &open_from(address, own_as, &["mp4", "mp6", "rr", "as4", "extmsg"]));
        device.send(conn, &keepalive());
        assert_eq!(status(device, address).state, PeerState::Established);
        let session = Session {
            kind: if own_as == DEVICE_AS { PeerKind::Internal } else { PeerKind::External },
            peer_asn: asn(DEVICE_AS),
            peer_id: DEVICE.parse::<RouterId>().expect("identifier"),
            as_width: AsWidth::Four,
            hold_time: HoldTime::DEFAULT,
            families: Family::ALL.into(),
            most_message_bytes: frame::EXTENDED_MESSAGE_BYTES,
            route_refresh: Agreed::Yes,
            peer_restart: None,
        };
        Listener { conn, address, session, routes: BTreeMap::new() }
    }

    fn listen(&mut self, device: &mut Device) {
        for message in device.received(self.conn) {
            match message.kind {
                MessageType::Update => self.update(&message.body),
                MessageType::Notification => panic!("told {}", message.notification().expect("it is one")),
                _ => {}
            }
        }
        assert!(!device.is_closed(self.conn), "another session noticed");
    }

    fn update(&mut self, body: &[u8]) {
        let update = Update::decode(body, &self.session).expect("the device sends good UPDATEs");
        assert!(update.flaws.is_empty(), "the device sends flawless UPDATEs: {:?}", update.flaws);
        for prefix in &update.withdrawn {
            assert!(self.routes.remove(prefix).is_some(), "{prefix} is withdrawn but was never told");
        }
        for announcement in update.announced {
            let told =
                Told { as_path: announcement.attributes.as_path.clone(), attributes: raw_attributes(body) };
            self.routes.extend(announcement.prefixes.iter().map(|prefix| (*prefix, told.clone())));
        }
    }
}

/// The attribute list of an UPDATE, by hand.
fn raw_attributes(body: &[u8]) -> BTreeMap<u8, (u8, Vec<u8>)> {
    let length_at = |at: usize| usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
    let start = 2 + length_at(0);
    let mut list = &body[start + 2..start + 2 + length_at(start)];
    let mut attributes = BTreeMap::new();
    while let [flags, code, rest @ ..] = list {
        let (length, value) = match flags & 0x10 {
            0 => (usize::from(rest[0]), &rest[1..]),
            _ => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
        };
        attributes.insert(*code, (*flags, value[..length].to_vec()));
        list = &value[length..];
    }
    attributes
}

fn open_from(address: IpAddr, own_as: u32, caps: &[&str]) -> Vec<u8> {
    let four_octets = capability::four_octet_as(own_as);
    let capabilities: Vec<&[u8]> = caps
        .iter()
        .map(|name| match *name {
            "mp4" => capability::IPV4,
            "mp6" => capability::IPV6,
            "rr" => capability::ROUTE_REFRESH,
            "as4" => &four_octets,
            "extmsg" => capability::EXTENDED_MESSAGE,
            "addpath4" => capability::ADD_PATH_IPV4,
            "err" => capability::ENHANCED_REFRESH,
            other => panic!("capability {other} is not known to the test"),
        })
        .collect();
    let IpAddr::V4(id) = address else { panic!("peers of the test have IPv4 addresses") };
    open(own_as, id.octets(), &capabilities)
}

fn status(device: &Device, address: IpAddr) -> PeerStatus {
    let id = device.router.peer_at(address).expect("a configured peer");
    device.router.peer(id).expect("a configured peer")
}

// --- one case --------------------------------------------------------------------------------------------

/// What the device did.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Notification(u8, u8),
    Closed,
    /// The session went on; what became of the route.
    Up(Route),
    /// The message was answered with nothing, and nothing works any more.
    Stuck(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    New,
    /// Without the attributes that the case names.
    NewWithout,
    Unchanged,
    Gone,
    /// There is none to look at.
    None,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Notification(code, subcode) => write!(f, "notification {code}/{subcode}"),
            Outcome::Closed => f.write_str("close"),
            Outcome::Up(route) => write!(f, "up, route {route:?}"),
            Outcome::Stuck(why) => write!(f, "stuck: {why}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Exact,
    Acceptable(String),
    Wrong(String),
    NotApplicable(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Whole,
    Bytewise,
}

/// The device with the tester and two listeners, and what the listeners know.
struct Rig {
    device: Device,
    internal: Listener,
    external: Listener,
}

impl Rig {
    fn new(side: Side) -> Rig {
        let mut device = Device::new(wanted(side));
        let internal = Listener::connect(&mut device, INTERNAL, DEVICE_AS);
        let external = Listener::connect(&mut device, EXTERNAL, EXTERNAL_AS);
        Rig { device, internal, external }
    }

    /// The one who is told what `side` tells.
    fn third(&self, side: Side) -> &Listener {
        match side {
            Side::Ebgp => &self.internal,
            Side::Ibgp => &self.external,
        }
    }

    fn listen(&mut self) {
        self.internal.listen(&mut self.device);
        self.external.listen(&mut self.device);
    }

    fn run(&mut self, case: &Case, delivery: Delivery) -> (Outcome, Vec<String>) {
        let since = [self.internal.address, self.external.address].map(|at| status(&self.device, at).since);
        let conn = self.device.accept(ip(DEVICE), ip(TESTER));
        let caps: Vec<&str> = case.caps.iter().map(String::as_str).collect();
        let open = open_from(ip(TESTER), case.peer.asn(), &caps);
        match case.phase {
            Phase::OpenSent => {}
            Phase::OpenConfirm => self.device.send(conn, &open),
            Phase::Established => self.device.send(conn, &[open, keepalive()].concat()),
        }
        for Octets(setup) in &case.setup {
            self.device.send(conn, setup);
        }
        self.deliver(conn, &case.message.0, delivery);
        let established = case.phase == Phase::Established;
        match &case.sentinel {
            Some(Octets(sentinel)) if established => self.device.send(conn, sentinel),
            _ => self.device.send(conn, &keepalive()),
        }
        self.listen();

        let outcome = self.outcome(case, conn);
        let faults = self.failed_checks(case);
        let after = [self.internal.address, self.external.address].map(|at| status(&self.device, at).since);
        assert_eq!(since, after, "{}: another session was restarted", case.id);
        if !self.device.is_closed(conn) {
            self.device.hang_up(conn);
        }
        self.next_session_comes_up(case);
        (outcome, faults)
    }

    /// Octets that come after the session was closed are lost, as in TCP.
    fn deliver(&mut self, conn: ConnId, octets: &[u8], delivery: Delivery) {
        let step = if delivery == Delivery::Whole { octets.len().max(1) } else { 1 };
        octets.chunks(step).for_each(|chunk| self.device.send(conn, chunk));
    }

    fn outcome(&mut self, case: &Case, conn: ConnId) -> Outcome {
        let messages = self.device.received(conn);
        if self.device.is_closed(conn) {
            return match messages.last().and_then(Message::notification) {
                Some(sent) => Outcome::Notification(sent.code, sent.subcode),
                None => Outcome::Closed,
            };
        }
        if status(&self.device, ip(TESTER)).state != PeerState::Established {
            return Outcome::Stuck("the session is not up");
        }
        let third = self.third(case.peer);
        if let Some(sentinel) = &case.sentinel_prefix {
            let sentinel = prefix(sentinel);
            if !third.routes.contains_key(&sentinel) || !self.device.fib.contains_key(&sentinel) {
                return Outcome::Stuck("the next UPDATE has no effect");
            }
        }
        let Some(looked_up) = case.prefix.as_deref().map(prefix) else { return Outcome::Up(Route::None) };
        let installed = self.device.fib.contains_key(&looked_up);
        let named = &case.expect.checks.discard_attrs;
        match third.routes.get(&looked_up) {
            None if installed => Outcome::Stuck("installed, and not told on"),
            Some(_) if !installed => Outcome::Stuck("told on, and not installed"),
            None => Outcome::Up(Route::Gone),
            Some(told) if told.as_path.asns().last() == Some(&asn(OLD)) => Outcome::Up(Route::Unchanged),
            Some(told) if named.iter().any(|code| told.attributes.contains_key(code)) => {
                Outcome::Up(Route::New)
            }
            Some(_) if named.is_empty() => Outcome::Up(Route::New),
            Some(_) => Outcome::Up(Route::NewWithout),
        }
    }

    /// The checks of the case that do not hold.
    fn failed_checks(&self, case: &Case) -> Vec<String> {
        let checks = &case.expect.checks;
        let third = self.third(case.peer);
        let mut failed = Vec::new();
        let mut check = |holds: bool, what: String| {
            if !holds {
                failed.push(what);
            }
        };
        for also in &case.also_prefixes {
            let present = third.routes.contains_key(&prefix(also));
            check(present || !checks.also_present, format!("{also} is absent"));
            check(!present || !checks.also_absent, format!("{also} is present"));
        }
        let Some(told) = case.prefix.as_deref().and_then(|text| third.routes.get(&prefix(text))) else {
            return failed;
        };
        let value = |code: &u8| told.attributes.get(code).map(|(_, value)| hex(value));
        let partial = |code: &u8| told.attributes.get(code).is_some_and(|(flags, _)| flags & 0x20 != 0);
        for code in &checks.attr_absent {
            check(value(code).is_none(), format!("attribute {code} is present"));
        }
        for code in &checks.attr_present {
            check(value(code).is_some(), format!("attribute {code} is absent"));
        }
        for code in &checks.attr_partial {
            check(partial(code), format!("attribute {code} has no Partial bit"));
        }
        for (code, wanted) in &checks.attr_value {
            check(value(code).as_ref() == Some(wanted), format!("attribute {code} is {:?}", value(code)));
        }
        for (code, refused) in &checks.attr_not_value {
            check(value(code).as_ref() != Some(refused), format!("attribute {code} is {refused}"));
        }
        failed
    }

    /// The same peer gets a new session, and what it had told before is gone.
    fn next_session_comes_up(&mut self, case: &Case) {
        self.device.advance(Duration::from_secs(2));
        let conn = self.device.accept(ip(DEVICE), ip(TESTER));
        let open = open_from(ip(TESTER), case.peer.asn(), &["mp4", "mp6", "rr", "as4"]);
        self.device.send(conn, &[open, keepalive()].concat());
        let state = status(&self.device, ip(TESTER)).state;
        assert_eq!(state, PeerState::Established, "{}: the next session does not come up", case.id);
        self.listen();
        assert!(self.third(case.peer).routes.is_empty(), "{}: routes are left", case.id);
        assert!(self.device.fib.is_empty(), "{}: kernel routes are left", case.id);
        self.device.hang_up(conn);
        self.keep_alive();
    }

    /// What the two listeners must say now and then.
    fn keep_alive(&mut self) {
        for conn in [self.internal.conn, self.external.conn] {
            self.device.send(conn, &keepalive());
        }
        self.listen();
    }
}

fn wanted(side: Side) -> Wanted {
    let mut wanted = router(DEVICE_AS, DEVICE);
    wanted.peers = BTreeMap::from([
        passive(side.asn(), TESTER),
        passive(DEVICE_AS, INTERNAL),
        passive(EXTERNAL_AS, EXTERNAL),
    ]);
    wanted
}

// --- the verdict -----------------------------------------------------------------------------------------

/// Whether `outcome` is what `action` asks for; `action` is as in the file, with the codes behind
/// "notification".
fn is_answer(action: &str, case: &Case, outcome: &Outcome, failed: &[String]) -> bool {
    let checks = &case.expect.checks;
    let sound = failed.is_empty();
    match (action, outcome) {
        ("accept", Outcome::Up(route)) => {
            let fits = match route {
                Route::New | Route::NewWithout | Route::Gone if checks.skip_prefix => true,
                Route::None => true,
                Route::New => !checks.prefix_unchanged,
                Route::Unchanged => checks.prefix_unchanged || checks.skip_prefix,
                Route::NewWithout | Route::Gone => false,
            };
            fits && sound
        }
        ("accept-installed", Outcome::Up(_)) => true,
        ("treat-as-withdraw", Outcome::Up(route)) => *route == Route::Gone || checks.skip_prefix,
        ("attribute-discard", Outcome::Up(route)) => {
            let named = !checks.discard_attrs.is_empty();
            sound && *route == if named { Route::NewWithout } else { Route::New }
        }
        ("ignore", Outcome::Up(route)) => matches!(route, Route::Unchanged | Route::None) && sound,
        ("close", Outcome::Closed | Outcome::Notification(..)) => true,
        (action, Outcome::Notification(code, subcode)) => action == format!("notification {code}/{subcode}"),
        _ => false,
    }
}

fn judge(case: &Case, outcome: &Outcome, failed: &[String]) -> Verdict {
    let action = match case.expect.notification {
        Some((code, subcode)) => format!("notification {code}/{subcode}"),
        None => case.expect.action.clone(),
    };
    if is_answer(&action, case, outcome, failed) {
        return Verdict::Exact;
    }
    let seen = format!("{outcome} {failed:?}, wanted {action}");
    match case.expect.alternatives.iter().any(|action| is_answer(action, case, outcome, failed)) {
        true => Verdict::Acceptable(seen),
        false => Verdict::Wrong(seen),
    }
}

/// What a case needs and the core does not offer.
fn not_offered(case: &Case) -> Option<&str> {
    const OFFERED: [&str; 5] = ["mp4", "mp6", "rr", "as4", "extmsg"];
    case.requires.iter().map(String::as_str).find(|required| !OFFERED.contains(required))
}

fn verdict(rig: &mut Rig, case: &Case, delivery: Delivery) -> Verdict {
    if let Some(missing) = not_offered(case) {
        return Verdict::NotApplicable(missing.to_owned());
    }
    let (outcome, failed) = rig.run(case, delivery);
    judge(case, &outcome, &failed)
}

// --- tests -----------------------------------------------------------------------------------------------

#[test]
fn every_malformed_message_gets_its_action() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for case in cases() {
        assert_eq!(case.delivery, "whole", "every case is run in both ways here");
        let verdict = verdict(&mut Rig::new(case.peer), &case, Delivery::Whole);
        let (count, remark) = match &verdict {
            Verdict::Exact => ("exact", None),
            Verdict::Acceptable(seen) => ("acceptable", Some(seen)),
            Verdict::Wrong(seen) => ("wrong", Some(seen)),
            Verdict::NotApplicable(missing) => ("not applicable", Some(missing)),
        };
        *counts.entry(count).or_default() += 1;
        if let Some(remark) = remark {
            println!("{count}: {} {}: {remark}", case.id, case.name);
        }
    }
    println!("{counts:?}");
    let count = |name: &str| counts.get(name).copied().unwrap_or_default();
    assert_eq!(count("wrong"), 0, "see the list above");
    assert_eq!(count("exact") + count("acceptable") + count("not applicable"), 175);
    assert!(count("exact") >= 171, "fewer exact answers than before");
}

#[test]
fn the_answer_does_not_depend_on_how_tcp_cuts_the_stream() {
    for case in cases() {
        let whole = verdict(&mut Rig::new(case.peer), &case, Delivery::Whole);
        let bytewise = verdict(&mut Rig::new(case.peer), &case, Delivery::Bytewise);
        assert_eq!(whole, bytewise, "{}", case.id);
    }
}

/// One device lives through the set three times, the tester changing sides; nothing adds up.
#[test]
fn one_life_through_the_whole_set_leaves_nothing_behind() {
    let mut rig = Rig::new(Side::Ebgp);
    let cases = cases();
    for case in std::iter::repeat_n(&cases, 3).flatten() {
        rig.device.apply(wanted(case.peer));
        rig.device.advance(Duration::from_secs(1));
        let verdict = verdict(&mut rig, case, Delivery::Whole);
        assert!(!matches!(verdict, Verdict::Wrong(_)), "{}: {verdict:?}", case.id);
    }
    assert!(routes(&rig.device.router).is_empty());
    let flawed = |address| status(&rig.device, ip(address)).flawed_updates;
    assert!(flawed(TESTER) > 200, "{}", flawed(TESTER));
    assert_eq!((flawed(INTERNAL), flawed(EXTERNAL)), (0, 0));
}

/// Each octet of each message set to 0, to 255, one up and one down, and the message cut before it. The
/// far end of long messages is sampled.
fn damaged(message: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let places = (0..message.len()).filter(|at| *at < 96 || at % 61 == 0);
    places.flat_map(|at| {
        let octet = message[at];
        let values = [0, 255, octet.wrapping_add(1), octet.wrapping_sub(1)];
        let set = values.map(|value| [&message[..at], &[value], &message[at + 1..]].concat());
        set.into_iter().chain([message[..at].to_vec()])
    })
}

#[test]
fn damaged_messages_of_the_set_disturb_nobody_else() {
    let mut rig = Rig::new(Side::Ebgp);
    let mut tried = 0;
    for case in cases() {
        rig.device.apply(wanted(case.peer));
        let caps: Vec<&str> = case.caps.iter().map(String::as_str).collect();
        let open = open_from(ip(TESTER), case.peer.asn(), &caps);
        for octets in damaged(&case.message.0) {
            let conn = rig.device.accept(ip(DEVICE), ip(TESTER));
            // After a fault the device holds its OPEN back for a moment.
            rig.device.advance(Duration::from_millis(700));
            match case.phase {
                Phase::OpenSent => {}
                Phase::OpenConfirm => rig.device.send(conn, &open),
                Phase::Established => rig.device.send(conn, &[open.as_slice(), &keepalive()].concat()),
            }
            rig.device.send(conn, &octets);
            if !rig.device.is_closed(conn) {
                rig.device.hang_up(conn);
            }
            rig.device.received(conn);
            tried += 1;
            if tried % 64 == 0 {
                rig.keep_alive();
            }
        }
        rig.next_session_comes_up(&case);
    }
    assert!(tried > 40_000, "{tried}");
    assert!(routes(&rig.device.router).is_empty());
}
