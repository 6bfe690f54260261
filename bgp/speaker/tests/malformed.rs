//! The malformed sets (`bgp/core/tests/vectors`) over TCP: a speaker in a network namespace of its own (root), a tester that
//! plays each case, and two more peers that must not notice and are told on what the tester tells.
//! `CAMBRIC_MALFORMED_CASES` names a folder of further sets.

#[path = "../../core/tests/cases/mod.rs"]
mod cases;
#[path = "../../core/tests/support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::resume_unwind;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cambric_bgp::peer::PeerState;
use cambric_bgp::router::{PeerStatus, Restarted};
use cambric_bgp::session::Session;
use cambric_bgp::wire::{Open, frame};
use cambric_bgp::{Prefix, Router, Wanted};
use cambric_speaker::{Event, Handle, SpeakerConfig, start};
use cases::{
    Case, Octets, Outcome, Phase, Score, Side, ToldOn, Verdict, capability_codes, damaged, failed_checks,
    judge, sets,
};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Uid;
use support::scripted::{keepalive, message, open_from};
use support::{passive, prefix, router, tells_several};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet, yield_now};
use tokio::time::{interval, sleep, timeout};

const DEVICE: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);
const INTERNAL: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 3);
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 4);
const DEVICE_AS: u32 = 65001;
const TESTER_AS: u32 = 65002;
const EXTERNAL_AS: u32 = 65003;
const PORT: u16 = 179;
/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(30);
/// What a session that carries no IPv4 is given: it cannot tell the two barriers.
const WITHOUT_BARRIER: Duration = Duration::from_secs(2);

const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;

// --- tests -----------------------------------------------------------------------------------------------

#[test]
fn every_malformed_message_gets_its_action_over_tcp() {
    in_namespace(|| play(Delivery::Whole));
}

#[test]
fn every_malformed_message_gets_its_action_over_tcp_octet_by_octet() {
    in_namespace(|| play(Delivery::Bytewise));
}

async fn play(delivery: Delivery) {
    let mut world = World::start().await;
    for set in sets() {
        world.expect(set.cases.iter().map(|case| case.peer)).await;
        let mut score = Score::of(&set);
        let mut next_sessions = JoinSet::new();
        for (case, number) in set.cases.iter().zip(0..) {
            let verdict = match case.not_offered(&world.offered) {
                Some(missing) => Verdict::NotApplicable(missing.to_owned()),
                None => {
                    let (outcome, failed) = world.run(case, tester(number), delivery).await;
                    next_sessions.spawn(next_session(tester(number), case.peer, case.id.clone()));
                    judge(case, &outcome, &failed)
                }
            };
            score.count(case, &verdict);
        }
        // Each in the pause that the device makes after a fault.
        while let Some(came_up) = next_sessions.join_next().await {
            came_up.expect("the next session comes up");
        }
        print!("{delivery:?}: ");
        score.close();
    }
    world.undisturbed().await;
}

/// A sample that is always the same; all of it with `CAMBRIC_MALFORMED_DAMAGE=all`.
#[test]
fn damaged_messages_of_the_sets_disturb_nobody_else_over_tcp() {
    in_namespace(|| async {
        const PEERS: usize = 200;
        let step = if std::env::var("CAMBRIC_MALFORMED_DAMAGE").as_deref() == Ok("all") { 1 } else { 97 };
        let cases: Vec<Case> = sets().into_iter().flat_map(|set| set.cases).collect();
        let mut world = World::start().await;
        let mut tried = 0;
        for side in [Side::Ebgp, Side::Ibgp] {
            world.expect(std::iter::repeat_n(side, PEERS)).await;
            for case in cases.iter().filter(|case| case.peer == side) {
                for octets in damaged(&case.message.0).step_by(step) {
                    let mut tester = Tester::connect(tester(tried % PEERS)).await;
                    tester.begin(case).await;
                    tester.say(&octets).await;
                    tried += 1;
                }
            }
        }
        println!("{tried} damaged messages over TCP");
        assert!(tried > 50_000 / step, "{tried}");
        world.forgotten("the last one").await;
        world.undisturbed().await;
    });
}

#[test]
fn floods_of_bad_messages_disturb_nobody_else() {
    const FLAWED: usize = 20_000;
    in_namespace(|| async {
        let mut world = World::start().await;
        world.expect([Side::Ebgp; 3]).await;
        // UPDATEs whose routes are withdrawn, as fast as TCP takes them.
        let mut flawed = Tester::connect(tester(0)).await;
        flawed.establish(TESTER_AS).await;
        let update = message(UPDATE, &[&[0, 0, 0, 4, 0x40, 1, 1, 9][..], &[24, 203, 0, 113]].concat());
        flawed.say(&update.repeat(FLAWED)).await;
        // A peer that asks for all again and again, and never reads.
        let mut mute = connect(tester(1)).await;
        let refresh = message(5, &[0, 1, 0, 1]).repeat(4096);
        let open = open_from(tester(1), TESTER_AS, &["mp4", "as4", "rr"]);
        mute.write_all(&[open, keepalive(), refresh].concat()).await.expect("the socket takes it");
        // Connections in a loop that say nonsense.
        for _ in 0..300 {
            let mut nonsense = connect(tester(2)).await;
            drop(nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").await);
        }
        let all_read = || async { world.status(tester(0)).await.flawed_updates == FLAWED as u64 };
        until("all flawed UPDATEs are counted", all_read).await;
        flawed.tell(Side::Ebgp, true, "100.127.0.0/24").await;
        let told = || async { world.internal.told().has(&prefix("100.127.0.0/24")) };
        until("a good route behind them is told on", told).await;
        drop((flawed, mute));
        world.forgotten("the last one").await;
        world.undisturbed().await;
    });
}

// --- the device and who looks at it ----------------------------------------------------------------------

/// A speaker, two peers of it that only listen, and what the kernel would have.
struct World {
    handle: Handle,
    /// By code: what it offers.
    offered: BTreeSet<u8>,
    installed: Arc<Mutex<BTreeSet<Prefix>>>,
    internal: Third,
    external: Third,
}

impl World {
    async fn start() -> World {
        let router = Router::new(Instant::now(), wanted(&[]), Restarted::No, BTreeSet::new(), 7);
        let (handle, mut events, _task) = start(&SpeakerConfig { port: PORT }, router).expect("a free port");
        let installed = Arc::new(Mutex::new(BTreeSet::new()));
        let kernel = Arc::clone(&installed);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let Event::Routes(changes) = event else { continue };
                for change in changes {
                    match change.next_hops.is_empty() {
                        true => lock(&kernel).remove(&change.prefix),
                        false => lock(&kernel).insert(change.prefix),
                    };
                }
            }
        });
        let (internal, open) = Third::connect(INTERNAL, DEVICE_AS).await;
        let (external, _) = Third::connect(EXTERNAL, EXTERNAL_AS).await;
        World { handle, offered: capability_codes(&open), installed, internal, external }
    }

    /// From now on testers of these sides may connect.
    async fn expect(&mut self, sides: impl IntoIterator<Item = Side>) {
        let sides: Vec<Side> = sides.into_iter().collect();
        self.handle.apply(wanted(&sides)).await.expect("it runs");
    }

    async fn status(&self, address: IpAddr) -> PeerStatus {
        let look = move |router: &Router| router.peer_at(address).and_then(|peer| router.peer(peer));
        self.handle.look(look).await.expect("it runs").expect("configured")
    }

    /// The one who is told what `side` tells.
    fn third(&self, side: Side) -> &Third {
        match side {
            Side::Ebgp => &self.internal,
            Side::Ibgp => &self.external,
        }
    }

    async fn run(&self, case: &Case, address: IpAddr, delivery: Delivery) -> (Outcome, Vec<String>) {
        let mut tester = Tester::connect(address).await;
        tester.begin(case).await;
        tester.deliver(&case.message.0, delivery).await;
        match &case.sentinel {
            Some(Octets(sentinel)) if case.phase == Phase::Established => tester.say(sentinel).await,
            _ => tester.say(&keepalive()).await,
        }
        let outcome = self.outcome(case, &mut tester).await;
        let failed = failed_checks(case, &self.third(case.peer).told());
        // Without a word, what a peer told is kept for it if it said so in its OPEN (RFC 4724).
        tester.say(&message(NOTIFICATION, &[6, 2])).await;
        drop(tester);
        self.forgotten(&case.id).await;
        (outcome, failed)
    }

    /// Waits until the device has done all that follows from what it was sent.
    ///
    /// The first barrier may come in one piece with what was told before it, in any order; the second one comes behind.
    async fn outcome(&self, case: &Case, tester: &mut Tester) -> Outcome {
        let wide = case.caps.iter().any(|name| name == "as4");
        for barrier in ["100.127.0.0/24", "100.127.1.0/24"] {
            tester.tell(case.peer, wide, barrier).await;
            let (barrier, start) = (prefix(barrier), Instant::now());
            loop {
                if let Some(last) = tester.ended() {
                    return last
                        .map_or(Outcome::Closed, |(code, subcode)| Outcome::Notification(code, subcode));
                }
                if self.third(case.peer).told().has(&barrier) && lock(&self.installed).contains(&barrier) {
                    break;
                }
                let waited = start.elapsed();
                let state = self.status(tester.address).await.state;
                if case.sentinel.is_none() && waited > WITHOUT_BARRIER && state == PeerState::Established {
                    break;
                }
                if waited > LIMIT / 3 {
                    return Outcome::Stuck("no answer, and the next UPDATE has no effect");
                }
                sleep(Duration::from_millis(2)).await;
            }
        }
        let installed = lock(&self.installed).clone();
        Outcome::while_up(case, &self.third(case.peer).told(), |prefix| installed.contains(prefix))
    }

    /// Waits until nothing is left of what testers told.
    async fn forgotten(&self, by: &str) {
        let nothing = || async {
            self.internal.told().is_empty()
                && self.external.told().is_empty()
                && lock(&self.installed).is_empty()
        };
        until(&format!("what a peer told is gone with it ({by})"), nothing).await;
    }

    /// The two others had one session all the time.
    async fn undisturbed(&self) {
        for third in [&self.internal, &self.external] {
            assert_eq!(*lock(&third.noticed), None, "{}: another session noticed", third.address);
            let status = self.status(third.address).await;
            assert_eq!(
                (status.state, status.flawed_updates),
                (PeerState::Established, 0),
                "{}",
                third.address
            );
        }
    }
}

/// A peer of the device that says nothing but KEEPALIVEs.
struct Third {
    address: IpAddr,
    told: Arc<Mutex<ToldOn>>,
    /// Why its session ended.
    noticed: Arc<Mutex<Option<String>>>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Third {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Third {
    /// With the body of the device's OPEN.
    async fn connect(address: Ipv4Addr, own_as: u32) -> (Third, Vec<u8>) {
        let address = IpAddr::from(address);
        let own = open_from(address, own_as, &["mp4", "mp6", "rr", "as4", "extmsg"]);
        let (mut reader, mut writer) = connect(address).await.into_split();
        writer.write_all(&[&own[..], &keepalive()].concat()).await.expect("open");
        let (kind, theirs) = next(&mut reader).await.expect("an answer");
        assert_eq!(kind, OPEN);
        let own = Open::decode(&own[frame::HEADER_BYTES..]).expect("good");
        let session = Session::negotiate(&own, &Open::decode(&theirs).expect("good"));
        let (told, noticed) = (Arc::default(), Arc::default());
        let reads = tokio::spawn(listen(reader, session, Arc::clone(&told), Arc::clone(&noticed)));
        let writes = tokio::spawn(async move {
            let mut due = interval(Duration::from_secs(20));
            while writer.write_all(&keepalive()).await.is_ok() {
                due.tick().await;
            }
        });
        (Third { address, told, noticed, tasks: [reads, writes] }, theirs)
    }

    fn told(&self) -> MutexGuard<'_, ToldOn> {
        lock(&self.told)
    }
}

async fn listen(
    mut reader: OwnedReadHalf,
    session: Session,
    told: Arc<Mutex<ToldOn>>,
    noticed: Arc<Mutex<Option<String>>>,
) {
    while let Some((kind, body)) = next(&mut reader).await {
        match kind {
            UPDATE => lock(&told).update(&body, &session),
            NOTIFICATION => *lock(&noticed) = Some(format!("NOTIFICATION {body:?}")),
            _ => {}
        }
    }
    lock(&noticed).get_or_insert_with(|| "closed".to_owned());
}

// --- the tester ------------------------------------------------------------------------------------------

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Whole,
    Bytewise,
}

/// The peer under whose name a case is played.
struct Tester {
    address: IpAddr,
    writer: OwnedWriteHalf,
    heard: Arc<Mutex<Heard>>,
    reads: JoinHandle<()>,
}

/// What the device said to it.
#[derive(Default)]
struct Heard {
    messages: Vec<(u8, Vec<u8>)>,
    ended: bool,
}

impl Drop for Tester {
    fn drop(&mut self) {
        self.reads.abort();
    }
}

impl Tester {
    async fn connect(address: IpAddr) -> Tester {
        let (mut reader, writer) = connect(address).await.into_split();
        let heard = Arc::<Mutex<Heard>>::default();
        let ear = Arc::clone(&heard);
        let reads = tokio::spawn(async move {
            while let Some(message) = next(&mut reader).await {
                lock(&ear).messages.push(message);
            }
            lock(&ear).ended = true;
        });
        Tester { address, writer, heard, reads }
    }

    /// What comes before the message under test.
    async fn begin(&mut self, case: &Case) {
        let caps: Vec<&str> = case.caps.iter().map(String::as_str).collect();
        let open = open_from(self.address, asn_of(case.peer), &caps);
        match case.phase {
            Phase::OpenSent => {}
            Phase::OpenConfirm => {
                self.say(&open).await;
                self.hears(KEEPALIVE).await;
            }
            Phase::Established => {
                self.say(&[open, keepalive()].concat()).await;
                self.hears(KEEPALIVE).await;
            }
        }
        for Octets(setup) in &case.setup {
            self.say(setup).await;
        }
    }

    async fn establish(&mut self, own_as: u32) {
        let open = open_from(self.address, own_as, &["mp4", "mp6", "rr", "as4"]);
        self.say(&[open, keepalive()].concat()).await;
        self.hears(KEEPALIVE).await;
    }

    /// Octets that the device does not take any more are lost.
    async fn say(&mut self, octets: &[u8]) {
        drop(timeout(LIMIT, self.writer.write_all(octets)).await.expect("the device reads"));
    }

    async fn deliver(&mut self, octets: &[u8], delivery: Delivery) {
        match delivery {
            Delivery::Whole => self.say(octets).await,
            // Without delay each octet is a segment; the device reads it before the next one comes.
            Delivery::Bytewise => {
                for octet in octets {
                    self.say(&[*octet]).await;
                    yield_now().await;
                }
            }
        }
    }

    /// A good route.
    async fn tell(&mut self, side: Side, wide: bool, announced: &str) {
        let path: [u32; 2] = match side {
            Side::Ebgp => [TESTER_AS, 64512],
            Side::Ibgp => [65102, 64512],
        };
        let octets =
            |asn: u32| if wide { asn.to_be_bytes().to_vec() } else { (asn as u16).to_be_bytes().to_vec() };
        let path = [vec![2, 2], octets(path[0]), octets(path[1])].concat();
        let origin_and_path = [&[0x40, 1, 1, 0, 0x40, 2, path.len() as u8][..], &path].concat();
        let attributes = [&origin_and_path[..], &[0x40, 3, 4, 10, 2, 0, 2]].concat();
        let IpAddr::V4(address) = prefix(announced).address() else { panic!("{announced} is of IPv4") };
        let [a, b, c, _] = address.octets();
        let body = [&[0, 0, 0, attributes.len() as u8][..], &attributes, &[24, a, b, c]].concat();
        self.say(&message(UPDATE, &body)).await;
    }

    /// Waits for a message of this kind, or for the end.
    async fn hears(&self, kind: u8) {
        let heard = || async {
            let heard = lock(&self.heard);
            heard.ended || heard.messages.iter().any(|(came, _)| *came == kind)
        };
        until("the device answers", heard).await;
    }

    /// Whether the device has closed, and with which NOTIFICATION.
    fn ended(&self) -> Option<Option<(u8, u8)>> {
        let heard = lock(&self.heard);
        heard.ended.then(|| match heard.messages.last() {
            Some((NOTIFICATION, body)) => Some((body[0], body[1])),
            _ => None,
        })
    }
}

/// The peer that a case was played by gets a session again.
async fn next_session(address: IpAddr, side: Side, case: String) {
    let mut tester = Tester::connect(address).await;
    tester.establish(asn_of(side)).await;
    assert_eq!(tester.ended(), None, "{case}: the next session does not come up");
}

fn asn_of(side: Side) -> u32 {
    match side {
        Side::Ebgp => TESTER_AS,
        Side::Ibgp => DEVICE_AS,
    }
}

/// Each case has an address of its own: the pause that a fault costs is for that one alone.
fn tester(number: usize) -> IpAddr {
    Ipv4Addr::new(10, 2, 16 + (number / 250) as u8, 1 + (number % 250) as u8).into()
}

fn wanted(testers: &[Side]) -> Wanted {
    let mut wanted = router(DEVICE_AS, &DEVICE.to_string());
    let testers = testers.iter().zip(0..).map(|(side, number)| (asn_of(*side), tester(number).to_string()));
    let testers = testers.map(|(asn, address)| tells_several(passive(asn, &address)));
    let thirds = [(DEVICE_AS, INTERNAL.to_string()), (EXTERNAL_AS, EXTERNAL.to_string())];
    let thirds = thirds.map(|(asn, address)| passive(asn, &address));
    wanted.peers = testers.chain(thirds).collect::<BTreeMap<_, _>>();
    wanted
}

// --- sockets ---------------------------------------------------------------------------------------------

async fn connect(source: IpAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(source, 0)).expect("an address of the namespace");
    let stream = timeout(LIMIT, socket.connect(SocketAddr::new(DEVICE.into(), PORT))).await;
    let stream = stream.expect("in time").expect("it listens");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream
}

/// The next message; `None` at the end.
async fn next(reader: &mut OwnedReadHalf) -> Option<(u8, Vec<u8>)> {
    let mut header = [0; frame::HEADER_BYTES];
    reader.read_exact(&mut header).await.ok()?;
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    let mut body = vec![0; length - frame::HEADER_BYTES];
    reader.read_exact(&mut body).await.ok()?;
    Some((header[18], body))
}

/// # Panics
/// When it does not hold after [`LIMIT`].
async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// A test that panicked with a lock in its hand has said so itself.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a test where 10.2.0.0/16 is this host's, in a namespace that goes away with the test's thread.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    if !Uid::effective().is_root() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "needs root");
        println!("not run: needs root");
        return;
    }
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
        for arguments in ["link set lo up", "route add local 10.2.0.0/16 dev lo"] {
            let done = Command::new("ip").args(arguments.split(' ')).status().expect("ip is here");
            assert!(done.success(), "ip {arguments}");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}
