//! UPDATEs read and written: by Cambric's core, by `rustbgpd-wire`, by `netgauze-bgp-pkt`.
//!
//! All read the same octets, and are first seen to find the same prefixes in them. A message has ORIGIN, an AS_PATH of
//! three, NEXT_HOP (IPv6: MP_REACH_NLRI), MULTI_EXIT_DISC, two communities and a large one.
//!
//! Reading, from the header to prefixes and attributes as values:
//!
//! - `known`: [`Update::decode_with`], attributes that came before in the same octets: what a speaker meets most. All
//!   of RFC 7606 is done, the checks of the attributes when they came first.
//! - `new`: [`Update::decode`], nothing is remembered: every attribute is read and checked.
//! - `ever new`: [`Update::decode_with`] of 5 000 sets in turn, more than are remembered: read, checked, looked for by
//!   value and remembered for the next time, which never comes.
//! - `rustbgpd`: `decode_message`, `parse_revised` (RFC 7606) and `validate_update_attributes` (what is missing); all
//!   three are needed for what `new` does. It knows more families and attributes.
//! - `netgauze`: `BgpMessage::parse`, lenient towards malformed attributes. It checks less.
//!
//! Writing one message into a buffer that is used again:
//!
//! - `known`: [`write_announce`] of a set that some peer was told before; `new`: of one that no peer was told.
//! - `rustbgpd`: `UpdateMessage::build` and `encode`, of attributes and prefixes that are there as values. IPv6 prefixes
//!   are part of an attribute there, made beforehand.
//! - `netgauze`: `write` of a message that is there as a value.
//!
//! All times are CPU times of the thread, which hold on a busy machine, too.
//!
//! And 10 000 UPDATEs of one prefix each through [`Router`]: read, judged, chosen, and told to the kernel; then the same
//! with another peer that is told them all.
#![allow(missing_docs, reason = "criterion's macros")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cambric_bgp::attributes::AttributeTable;
use cambric_bgp::config::{ConnectMode, Export, Import, Link, LinkAddress, LinkState};
use cambric_bgp::router::Restarted;
use cambric_bgp::session::Session;
use cambric_bgp::types::{Community, LargeCommunity};
use cambric_bgp::wire::update::write_announce;
use cambric_bgp::wire::{Capability, Nlri, Open, Update, frame};
use cambric_bgp::{
    Action, Asn, AttributeSet, Attributes, ConnId, Family, HoldTime, Med, PeerConfig, Prefix, Router,
    RouterConfig, RouterId, Wanted,
};
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::WritablePdu;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use nix::time::{ClockId, clock_gettime};
use rustbgpd_wire::{Ipv4NlriEntry, Ipv4UnicastMode, Message, PathAttribute, UpdateMessage};

const DEVICE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 3);
const PEER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const DEVICE_AS: u32 = 65001;
const PEER_AS: u32 = 65002;
const OTHER_AS: u32 = 65003;

/// Prefixes in an UPDATE, by family.
const SIZES: [(Family, usize); 6] = [
    (Family::Ipv4, 1),
    (Family::Ipv4, 10),
    (Family::Ipv4, 100),
    (Family::Ipv4, 1000),
    (Family::Ipv6, 1),
    (Family::Ipv6, 400),
];
/// More sets than the core remembers octets of.
const EVER_NEW: u32 = 5_000;
/// UPDATEs of one prefix that go through a router.
const THROUGH: u32 = 10_000;

fn main() {
    let results = results();
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .with_measurement(CpuTime)
        .output_directory(&results)
        .configure_from_args();
    read(&mut criterion);
    write(&mut criterion);
    through(&mut criterion);
    criterion.final_summary();
    Estimates { results }.print();
}

/// Where criterion leaves what it found; beside the program, so that an earlier run is compared with.
fn results() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors().nth(3).map_or_else(|| "criterion".into(), |target| target.join("criterion"))
}

/// Time that this thread has had a CPU.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has this clock");
        Duration::from(now)
    }

    fn end(&self, start: Duration) -> Duration {
        self.start().saturating_sub(start)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

// --- reading ---------------------------------------------------------------------------------------------

fn read(criterion: &mut Criterion<CpuTime>) {
    for (family, count) in SIZES {
        let session = session();
        let (attributes, prefixes) = (attributes(family, 0), prefixes(family, count));
        let message = message(&session, &attributes.into(), &prefixes);
        assert_eq!(read_by_rustbgpd(&message.clone().into()), count);
        assert_eq!(read_by_netgauze(&message), count);

        let mut group = group(criterion, &format!("read {}", size(family, count)), count);
        let mut table = AttributeTable::default();
        group.bench_function("known", |b| {
            b.iter(|| read_by_cambric(black_box(&message), &session, Some(&mut table)));
        });
        group.bench_function("new", |b| b.iter(|| read_by_cambric(black_box(&message), &session, None)));
        let messages: Vec<Vec<u8>> = (0..EVER_NEW)
            .map(|med| self::message(&session, &self::attributes(family, med).into(), &prefixes))
            .collect();
        let mut turn = messages.iter().cycle();
        group.bench_function("ever new", |b| {
            b.iter(|| turn.next().map(|message| read_by_cambric(message, &session, Some(&mut table))));
        });
        let octets = Bytes::from(message.clone());
        group.bench_function("rustbgpd", |b| b.iter(|| read_by_rustbgpd(black_box(&octets))));
        group.bench_function("netgauze", |b| b.iter(|| read_by_netgauze(black_box(&message))));
        group.finish();
    }
}

fn read_by_cambric(message: &[u8], session: &Session, table: Option<&mut AttributeTable>) -> usize {
    let frame = frame::next(message, session.most_message_bytes).expect("good").expect("whole");
    let update = match table {
        Some(table) => Update::decode_with(frame.body, session, table),
        None => Update::decode(frame.body, session),
    };
    let update = black_box(update.expect("good"));
    assert!(update.flaws.is_empty());
    update.announced.iter().map(|announcement| announcement.routes.len()).sum()
}

fn read_by_rustbgpd(octets: &Bytes) -> usize {
    let mut rest = octets.clone();
    let message = rustbgpd_wire::decode_message(&mut rest, 65535).expect("good");
    let Message::Update(message) = message else { panic!("an UPDATE") };
    let read = black_box(message.parse_revised(true, false, false, &[]).expect("good"));
    assert!(read.malformed.is_empty());
    let classic = read.update.announced.len();
    rustbgpd_wire::validate::validate_update_attributes(&read.update.attributes, true, classic > 0, true)
        .expect("good");
    let of = |attribute: &PathAttribute| match attribute {
        PathAttribute::MpReachNlri(reach) => reach.announced.len(),
        _ => 0,
    };
    classic + read.update.attributes.iter().map(of).sum::<usize>()
}

fn read_by_netgauze(message: &[u8]) -> usize {
    let BgpMessage::Update(update) = black_box(value_of_netgauze(message)) else { panic!("an UPDATE") };
    let mp = update.path_attributes().iter().map(|attribute| match attribute.value() {
        netgauze_bgp_pkt::path_attribute::PathAttributeValue::MpReach(
            netgauze_bgp_pkt::path_attribute::MpReach::Ipv6Unicast { nlri, .. },
        ) => nlri.len(),
        _ => 0,
    });
    update.nlri().len() + mp.sum::<usize>()
}

fn value_of_netgauze(message: &[u8]) -> BgpMessage {
    let mut context =
        BgpParsingContext::new(true, HashMap::new(), HashMap::new(), false, false, false, false);
    BgpMessage::parse(&mut SliceReader::new(message), &mut context).expect("good")
}

// --- writing ---------------------------------------------------------------------------------------------

fn write(criterion: &mut Criterion<CpuTime>) {
    for (family, count) in SIZES {
        let session = session();
        let (attributes, prefixes) = (attributes(family, 0), prefixes(family, count));
        let set = AttributeSet::from(attributes.clone());
        let message = message(&session, &set, &prefixes);

        let mut group = group(criterion, &format!("write {}", size(family, count)), count);
        let mut out = Vec::with_capacity(65536);
        let mut announce = |set: &AttributeSet| {
            out.clear();
            write_announce(&mut out, &session, set, black_box(&prefixes)).expect("it fits");
            out.len()
        };
        group.bench_function("known", |b| b.iter(|| announce(&set)));
        group.bench_function("new", |b| {
            let unwritten = || AttributeSet::from(attributes.clone());
            b.iter_batched(unwritten, |set| (announce(&set), set), BatchSize::SmallInput);
        });
        let (entries, values) = values_of_rustbgpd(&message);
        let mut out = Vec::with_capacity(65536);
        group.bench_function("rustbgpd", |b| {
            b.iter(|| {
                out.clear();
                let (entries, values) = (black_box(&entries), black_box(&values));
                let update = UpdateMessage::build(entries, &[], values, true, false, Ipv4UnicastMode::Body);
                update.encode_with_limit(&mut out, 65535).expect("it fits");
                out.len()
            });
        });
        let value = value_of_netgauze(&message);
        let mut out = Vec::with_capacity(65536);
        group.bench_function("netgauze", |b| {
            b.iter(|| {
                out.clear();
                black_box(&value).write(&mut out).expect("it fits");
                out.len()
            });
        });
        group.finish();
    }
}

fn values_of_rustbgpd(message: &[u8]) -> (Vec<Ipv4NlriEntry>, Vec<PathAttribute>) {
    let message = rustbgpd_wire::decode_message(&mut Bytes::copy_from_slice(message), 65535).expect("good");
    let Message::Update(message) = message else { panic!("an UPDATE") };
    let read = message.parse_revised(true, false, false, &[]).expect("good");
    (read.update.announced, read.update.attributes)
}

// --- a whole router --------------------------------------------------------------------------------------

fn through(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("through");
    group.throughput(Throughput::Elements(THROUGH.into())).sample_size(10);
    let session = session();
    // One attribute set for all, and one for each: a peer that tells its table, and the worst there is.
    for (name, sets) in [("one set", 1), ("a set each", THROUGH)] {
        let stream: Vec<u8> = prefixes(Family::Ipv4, THROUGH as usize)
            .iter()
            .zip(0..)
            .flat_map(|(prefix, at): (_, u32)| {
                message(&session, &attributes(Family::Ipv4, at % sets).into(), &[*prefix])
            })
            .collect();
        for peers in [1, 2] {
            group.bench_function(BenchmarkId::new(name, peers), |b| {
                b.iter_batched_ref(
                    || Device::with_peers(peers),
                    |device| device.take(&stream),
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

/// A router with its clock.
struct Device {
    router: Router,
    now: Instant,
    from: ConnId,
    listener: Option<ConnId>,
}

impl Device {
    /// With one peer that tells, and perhaps another one that is told.
    fn with_peers(count: usize) -> Device {
        let now = Instant::now();
        let mut router = Router::new(now, wanted(), Restarted::No, BTreeSet::new(), 7);
        let from = establish(&mut router, now, PEER, PEER_AS);
        let listener = (count > 1).then(|| establish(&mut router, now, OTHER, OTHER_AS));
        let mut device = Device { router, now, from, listener };
        device.work();
        device
    }

    /// Takes all octets in, as many at once as a speaker reads, and gives out what follows.
    fn take(&mut self, stream: &[u8]) {
        let mut routes = 0;
        for octets in stream.chunks(64 * 1024) {
            self.router.handle_bytes(self.now, self.from, octets);
            routes += self.work();
        }
        assert_eq!(routes, THROUGH as usize);
    }

    fn work(&mut self) -> usize {
        while let Some(action) = self.router.poll_action() {
            if let Action::Transmit(conn) = action {
                let mut octets = Vec::new();
                while self.router.poll_transmit(conn, &mut octets) {}
                assert!(Some(conn) != self.listener || !octets.is_empty());
                black_box(octets);
            }
        }
        std::iter::from_fn(|| self.router.poll_route_change()).count()
    }
}

fn wanted() -> Wanted {
    let router_id = RouterId::try_from(DEVICE).expect("not 0");
    let mut wanted = Wanted::new(RouterConfig::new(asn(DEVICE_AS), router_id));
    let addresses = vec![LinkAddress::new(DEVICE.into(), 24).expect("length")];
    wanted.links = vec![Link { name: "eth1".to_owned(), state: LinkState::Up, addresses }];
    wanted.peers = BTreeMap::from([(PEER, PEER_AS), (OTHER, OTHER_AS)].map(|(address, peer_asn)| {
        let address = IpAddr::from(address);
        let mut peer = PeerConfig::new(address.to_string(), address, asn(peer_asn));
        peer.connect = ConnectMode::Passive;
        peer.policy.import = Import::All;
        peer.policy.export = Export::All;
        (address.into(), peer)
    }));
    wanted
}

fn establish(router: &mut Router, now: Instant, address: Ipv4Addr, own: u32) -> ConnId {
    let conn = router.handle_accepted(now, DEVICE.into(), IpAddr::from(address)).expect("configured");
    let mut octets = Vec::new();
    open(own, address).write(&mut octets);
    frame::write_keepalive(&mut octets);
    router.handle_bytes(now, conn, &octets);
    conn
}

// --- what is read and written ----------------------------------------------------------------------------

fn asn(value: u32) -> Asn {
    Asn::new(value).expect("not 0")
}

fn open(own: u32, id: Ipv4Addr) -> Open {
    let families = Family::ALL.map(|family| Capability::MultiProtocol(family.into()));
    let mut capabilities = families.to_vec();
    capabilities.extend([Capability::FourOctetAs(own), Capability::ExtendedMessage]);
    let router_id = RouterId::try_from(id).expect("not 0");
    Open { asn: asn(own), hold_time: HoldTime::DEFAULT, router_id, capabilities }
}

/// External, with four-octet AS numbers, for both families and long messages.
fn session() -> Session {
    Session::negotiate(&open(DEVICE_AS, DEVICE), &open(PEER_AS, PEER))
}

fn attributes(family: Family, med: u32) -> Attributes {
    let next_hop = match family {
        Family::Ipv4 => IpAddr::from(PEER),
        Family::Ipv6 => IpAddr::from(PEER_V6),
    };
    let mut attributes = Attributes::originated(next_hop);
    attributes.as_path = [PEER_AS, 4_200_000_001, 64512].map(asn).into_iter().collect();
    attributes.med = Some(Med(med));
    attributes.communities = vec![Community(65002 << 16 | 1), Community(65002 << 16 | 2)];
    attributes.large_communities = vec![LargeCommunity([65002, 1, 2])];
    attributes
}

/// /24 or /64, one after the other.
fn prefixes(family: Family, count: usize) -> Vec<Nlri> {
    (0..count)
        .map(|at| match family {
            Family::Ipv4 => (IpAddr::from(Ipv4Addr::from(0x0A00_0000 + ((at as u32) << 8))), 24),
            Family::Ipv6 => (IpAddr::from(Ipv6Addr::from((0xFD00 << 112) + ((at as u128) << 64))), 64),
        })
        .map(|(address, length)| Prefix::new(address, length).expect("length").into())
        .collect()
}

fn message(session: &Session, attributes: &AttributeSet, prefixes: &[Nlri]) -> Vec<u8> {
    let mut octets = Vec::new();
    write_announce(&mut octets, session, attributes, prefixes).expect("it fits");
    octets
}

fn size(family: Family, count: usize) -> String {
    format!("{family} {count}")
}

fn group<'a>(criterion: &'a mut Criterion<CpuTime>, name: &str, count: usize) -> BenchmarkGroup<'a, CpuTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(count as u64));
    group
}

// --- the table -------------------------------------------------------------------------------------------

/// What criterion found.
struct Estimates {
    results: PathBuf,
}

impl Estimates {
    fn print(&self) {
        for (way, columns) in [
            ("read", &["known", "new", "ever new", "rustbgpd", "netgauze"][..]),
            ("write", &["known", "new", "rustbgpd", "netgauze"]),
        ] {
            println!("\n{way}: ns an UPDATE, median");
            let header: String = columns.iter().map(|column| format!("{column:>10}")).collect();
            println!("{:<12}{header}   rustbgpd / known, / new", "prefixes");
            for (family, count) in SIZES {
                self.line(way, &size(family, count), columns);
            }
        }
        println!("\nthrough a router: UPDATEs of one prefix a second");
        for name in ["one set", "a set each"] {
            let rate =
                |peers| f64::from(THROUGH) / self.median_ns("through", &format!("{name}/{peers}")) * 1e9;
            println!("{name:<12}{:>10.0} learned{:>10.0} learned and told", rate(1), rate(2));
        }
    }

    fn line(&self, way: &str, size: &str, columns: &[&str]) {
        let median = |name: &str| self.median_ns(&format!("{way} {size}"), name);
        let cells: String = columns.iter().map(|name| format!("{:>10.1}", median(name))).collect();
        let times = |name| median("rustbgpd") / median(name);
        println!("{size:<12}{cells}{:>11.1}{:>10.1}", times("known"), times("new"));
    }

    /// NaN where it was not measured, as when one case alone is asked for.
    fn median_ns(&self, group: &str, name: &str) -> f64 {
        let file = self.results.join(group.replace(' ', "_")).join(name).join("new/estimates.json");
        let file =
            if file.exists() { file } else { self.results.join(group).join(name).join("new/estimates.json") };
        let read = || -> Option<f64> {
            let estimates: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
            estimates["median"]["point_estimate"].as_f64()
        };
        read().unwrap_or(f64::NAN)
    }
}
