//! The malformed sets (`vectors/README.md`) through the whole core: from octets to what a third speaker is told.
//! `CAMBRIC_MALFORMED_CASES` names a folder of further ones. Over sockets: `malformed` of the speaker.

mod cases;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use cambric_bgp::peer::PeerState;
use cambric_bgp::router::PeerStatus;
use cambric_bgp::session::Session;
use cambric_bgp::wire::{MessageType, Open};
use cambric_bgp::{ConnId, Wanted};
use cases::{
    Case, Octets, Outcome, Phase, Score, Side, ToldOn, Verdict, capability_codes, damaged, failed_checks,
    judge, sets,
};
use support::scripted::{Device, Message, keepalive, open_from, open_of};
use support::{ip, passive, router, routes, tells_several};

const DEVICE: &str = "10.2.0.1";
const TESTER: &str = "10.2.0.2";
const INTERNAL: &str = "10.2.0.3";
const EXTERNAL: &str = "10.2.0.4";
const DEVICE_AS: u32 = 65001;
const EXTERNAL_AS: u32 = 65003;

fn asn_of(side: Side) -> u32 {
    match side {
        Side::Ebgp => 65002,
        Side::Ibgp => DEVICE_AS,
    }
}

// --- the third speaker -----------------------------------------------------------------------------------

/// A speaker behind the device that only listens.
struct Listener {
    conn: ConnId,
    address: IpAddr,
    session: Session,
    told: ToldOn,
}

impl Listener {
    fn connect(device: &mut Device, address: &str, own_as: u32) -> Listener {
        let address = ip(address);
        let conn = device.accept(ip(DEVICE), address);
        let own = open_from(address, own_as, &["mp4", "mp6", "rr", "as4", "extmsg"]);
        device.send(conn, &[&own[..], &keepalive()].concat());
        assert_eq!(status(device, address).state, PeerState::Established);
        let own = Open::decode(&own[19..]).expect("good");
        let messages = device.received(conn);
        let session = Session::negotiate(&own, &open_of(&messages));
        let mut listener = Listener { conn, address, session, told: ToldOn::default() };
        listener.take(messages);
        listener
    }

    fn listen(&mut self, device: &mut Device) {
        self.take(device.received(self.conn));
        assert!(!device.is_closed(self.conn), "another session noticed");
    }

    fn take(&mut self, messages: Vec<Message>) {
        for message in messages {
            match message.kind {
                MessageType::Update => self.told.update(&message.body, &self.session),
                MessageType::Notification => panic!("told {}", message.notification().expect("it is one")),
                _ => {}
            }
        }
    }
}

fn status(device: &Device, address: IpAddr) -> PeerStatus {
    let id = device.router.peer_at(address).expect("a configured peer");
    device.router.peer(id).expect("a configured peer")
}

// --- one case --------------------------------------------------------------------------------------------

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Whole,
    Bytewise,
}

/// The device with the tester and two listeners, and what the listeners know.
struct Rig {
    device: Device,
    /// By code: what the device offers.
    offered: BTreeSet<u8>,
    internal: Listener,
    external: Listener,
}

impl Rig {
    fn new(side: Side) -> Rig {
        let mut device = Device::new(wanted(side));
        let offered = offered(&mut device);
        let internal = Listener::connect(&mut device, INTERNAL, DEVICE_AS);
        let external = Listener::connect(&mut device, EXTERNAL, EXTERNAL_AS);
        Rig { device, offered, internal, external }
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
        let open = open_from(ip(TESTER), asn_of(case.peer), &caps);
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
        let faults = failed_checks(case, &self.third(case.peer).told);
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
        let fib = &self.device.fib;
        Outcome::while_up(case, &self.third(case.peer).told, |prefix| fib.contains_key(prefix))
    }

    /// The same peer gets a new session, and what it had told before is gone.
    fn next_session_comes_up(&mut self, case: &Case) {
        self.device.advance(Duration::from_secs(2));
        let conn = self.device.accept(ip(DEVICE), ip(TESTER));
        let open = open_from(ip(TESTER), asn_of(case.peer), &["mp4", "mp6", "rr", "as4"]);
        self.device.send(conn, &[open, keepalive()].concat());
        let state = status(&self.device, ip(TESTER)).state;
        assert_eq!(state, PeerState::Established, "{}: the next session does not come up", case.id);
        self.listen();
        assert!(self.third(case.peer).told.is_empty(), "{}: routes are left", case.id);
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

/// The capabilities of the device's OPEN.
fn offered(device: &mut Device) -> BTreeSet<u8> {
    let conn = device.accept(ip(DEVICE), ip(TESTER));
    let messages = device.received(conn);
    device.hang_up(conn);
    let open = messages.iter().find(|message| message.kind == MessageType::Open).expect("an OPEN");
    capability_codes(&open.body)
}

fn wanted(side: Side) -> Wanted {
    let mut wanted = router(DEVICE_AS, DEVICE);
    wanted.peers = BTreeMap::from([
        tells_several(passive(asn_of(side), TESTER)),
        passive(DEVICE_AS, INTERNAL),
        passive(EXTERNAL_AS, EXTERNAL),
    ]);
    wanted
}

fn verdict(rig: &mut Rig, case: &Case, delivery: Delivery) -> Verdict {
    if let Some(missing) = case.not_offered(&rig.offered) {
        return Verdict::NotApplicable(missing.to_owned());
    }
    let (outcome, failed) = rig.run(case, delivery);
    judge(case, &outcome, &failed)
}

// --- tests -----------------------------------------------------------------------------------------------

#[test]
fn every_malformed_message_gets_its_action() {
    for set in sets() {
        let mut score = Score::of(&set);
        for case in &set.cases {
            score.count(case, &verdict(&mut Rig::new(case.peer), case, Delivery::Whole));
        }
        score.close();
    }
}

#[test]
fn the_answer_does_not_depend_on_how_tcp_cuts_the_stream() {
    for case in sets().into_iter().flat_map(|set| set.cases) {
        let whole = verdict(&mut Rig::new(case.peer), &case, Delivery::Whole);
        let bytewise = verdict(&mut Rig::new(case.peer), &case, Delivery::Bytewise);
        assert_eq!(whole, bytewise, "{}", case.id);
    }
}

/// One device lives through the set three times, the tester changing sides; nothing adds up.
#[test]
fn one_life_through_the_whole_set_leaves_nothing_behind() {
    let mut rig = Rig::new(Side::Ebgp);
    let cases: Vec<Case> = sets().into_iter().flat_map(|set| set.cases).collect();
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

/// One in seven, so that each way to do damage has its turn; all with `CAMBRIC_MALFORMED_DAMAGE=all`.
#[test]
fn damaged_messages_of_the_sets_disturb_nobody_else() {
    let step = if std::env::var("CAMBRIC_MALFORMED_DAMAGE").as_deref() == Ok("all") { 1 } else { 7 };
    let mut rig = Rig::new(Side::Ebgp);
    let mut tried = 0;
    for case in sets().into_iter().flat_map(|set| set.cases) {
        rig.device.apply(wanted(case.peer));
        let caps: Vec<&str> = case.caps.iter().map(String::as_str).collect();
        let open = open_from(ip(TESTER), asn_of(case.peer), &caps);
        for octets in damaged(&case.message.0).step_by(step) {
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
    println!("{tried} damaged messages");
    assert!(tried > 70_000 / step, "{tried}");
    assert!(routes(&rig.device.router).is_empty());
}
