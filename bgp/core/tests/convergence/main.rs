//! Two to five routers under loss, delay and restarts: when the harm is over, the tables of each are those of a model that
//! knows only the configuration. `CAMBRIC_CASES` asks for more fabrics, `CAMBRIC_SEED` repeats a run.

mod model;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use cambric_bgp::config::{Export, ReflectorRole, RestartConfig};
use cambric_bgp::rib::Verdict;
use cambric_bgp::router::Restarted;
use cambric_bgp::{
    Admin, Asn, Attributes, Family, LocalPref, Med, Offer, Originated, Prefix, Source, Wanted,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

use model::{Best, Fabric, Own, Route, Speaker, Tables};
use support::net::{First, Host, Net};
use support::{adj_rib_out, ip, neighbor, prefix, router, routes};

/// Fabrics, unless the environment says otherwise: some seconds of a debug build.
const FABRICS: u32 = 250;
const MOST_ROUTERS: usize = 5;
const PREFIXES: [&str; 4] = ["10.244.1.0/24", "10.244.2.0/24", "fd00:244:1::/64", "fd00:244:2::/64"];
/// Hold times, back-off, restart and deferral timers are over by then.
const QUIET: Duration = Duration::from_secs(1200);

// --- what is tried ---------------------------------------------------------------------------------------

/// One thing that happens.
#[derive(Debug, Clone)]
enum Event {
    Pass(u32),
    Cut(usize, usize),
    Silence(usize, usize),
    Mend(usize, usize),
    Stop(usize),
    Start(usize, Kept),
    Hang(usize),
    Wake(usize, bool),
    Stall(usize),
    Resume(usize),
    Disable(usize, usize),
    Enable(usize, usize),
    Restart(usize, usize),
    /// Its own prefixes become what they will be, or all there are.
    Originate(usize, bool),
}

/// What of its routes a router finds in the kernel when it starts.
#[derive(Debug, Clone, Copy)]
enum Kept {
    Nothing,
    AllLost,
    All,
}

#[derive(Debug, Clone)]
struct Case {
    fabric: Fabric,
    /// Peers are asked to keep nothing.
    without_restart: Vec<bool>,
    /// What they originate at first is more than in the end.
    begins_with_all: Vec<bool>,
    latency_ms: u64,
    spread_ms: u64,
    seed: u64,
    events: Vec<Event>,
}

fn any_event() -> impl Strategy<Value = Event> {
    let (one, two) = (|| 0..MOST_ROUTERS, || (0..MOST_ROUTERS, 0..MOST_ROUTERS));
    let kept = prop_oneof![Just(Kept::Nothing), Just(Kept::AllLost), Just(Kept::All)];
    prop_oneof![
        6 => (0_u32..18).prop_map(Event::Pass),
        2 => two().prop_map(|(a, b)| Event::Cut(a, b)),
        2 => two().prop_map(|(a, b)| Event::Silence(a, b)),
        1 => two().prop_map(|(a, b)| Event::Mend(a, b)),
        2 => one().prop_map(Event::Stop),
        2 => (one(), kept).prop_map(|(a, kept)| Event::Start(a, kept)),
        1 => one().prop_map(Event::Hang),
        1 => (one(), any::<bool>()).prop_map(|(a, timers)| Event::Wake(a, timers)),
        1 => one().prop_map(Event::Stall),
        1 => one().prop_map(Event::Resume),
        1 => two().prop_map(|(a, b)| Event::Disable(a, b)),
        1 => two().prop_map(|(a, b)| Event::Enable(a, b)),
        1 => two().prop_map(|(a, b)| Event::Restart(a, b)),
        2 => (one(), any::<bool>()).prop_map(|(a, there)| Event::Originate(a, there)),
    ]
}

fn any_own() -> impl Strategy<Value = Own> {
    let med = option::weighted(0.4, prop_oneof![Just(0_u32), Just(5), Just(10)]);
    let local_pref = option::weighted(0.2, prop_oneof![Just(50_u32), Just(200)]);
    (med, local_pref, 0_u8..2).prop_map(|(med, local_pref, prepend)| Own { med, local_pref, prepend })
}

/// A full mesh of one AS, a reflector with clients, a chain or a web of an AS each, or of few.
fn any_fabric() -> impl Strategy<Value = Fabric> {
    let speaker = (any::<bool>(), btree_map(0..PREFIXES.len(), any_own(), 0..3), 0_u32..3);
    let links = vec(any::<bool>(), MOST_ROUTERS * MOST_ROUTERS);
    (0_u8..4, vec(speaker, 2..=MOST_ROUTERS), links).prop_map(|(shape, speakers, links)| {
        let count = speakers.len();
        let routers = speakers.into_iter().enumerate().map(|(at, (is_transit, own, group))| Speaker {
            asn: match shape {
                0 | 1 => 65001,
                2 => 65001 + at as u32,
                _ => 65001 + group,
            },
            is_reflector: shape == 1 && at == 0,
            is_transit,
            own,
        });
        let routers: Vec<Speaker> = routers.collect();
        let pairs = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
        let sessions = pairs.filter(|(a, b)| match shape {
            0 => true,
            1 => *a == 0,
            // All are reached, and some by several ways.
            2 => a + 1 == *b || links[a * MOST_ROUTERS + b],
            // Those of one AS are fully meshed, as RFC 4271 wants it.
            _ => routers[*a].asn == routers[*b].asn || links[a * MOST_ROUTERS + b],
        });
        let sessions = sessions.collect();
        Fabric { routers, sessions }
    })
}

fn any_case() -> impl Strategy<Value = Case> {
    let delays = (0_u64..40, prop_oneof![Just(0_u64), 1_u64..200], 1_u64..);
    let flags = || vec(prop::bool::weighted(0.3), MOST_ROUTERS);
    (any_fabric(), (flags(), flags()), delays, vec(any_event(), 0..30)).prop_map(
        |(fabric, (without_restart, begins_with_all), (latency_ms, spread_ms, seed), events)| Case {
            fabric,
            without_restart,
            begins_with_all,
            latency_ms,
            spread_ms,
            seed,
            events,
        },
    )
}

// --- in the words of the engine --------------------------------------------------------------------------

fn address(at: usize) -> IpAddr {
    ip(&format!("10.2.0.{}", at + 1))
}

fn number(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(v4) => usize::from(v4.octets()[3]) - 1,
        IpAddr::V6(v6) => usize::from(v6.octets()[15]) - 1,
    }
}

fn originated(speaker: &Speaker) -> BTreeMap<Prefix, Originated> {
    let offer = |own: &Own| Offer {
        med: own.med.map(Med),
        local_pref: own.local_pref.map(LocalPref),
        prepend: own.prepend,
        ..Offer::default()
    };
    let own = speaker.own.iter();
    own.map(|(at, own)| {
        (prefix(PREFIXES[*at]), Originated { source: Source::Pods, offers: vec![offer(own)] })
    })
    .collect()
}

/// Of which some go in the end.
fn originated_before() -> BTreeMap<Prefix, Originated> {
    PREFIXES.iter().map(|text| (prefix(text), Originated::plain(Source::Pods))).collect()
}

fn wanted(case: &Case, at: usize) -> Wanted {
    let Case { fabric, without_restart, .. } = case;
    let speaker = &fabric.routers[at];
    let mut wanted = router(speaker.asn, &address(at).to_string());
    wanted.originated = if case.begins_with_all[at] { originated_before() } else { originated(speaker) };
    for other in fabric.peers(at) {
        let (address, mut config) = neighbor(fabric.routers[other].asn, &address(other).to_string());
        config.policy.export = if speaker.is_transit { Export::All } else { Export::Own };
        if speaker.is_reflector {
            config.role = ReflectorRole::Client;
        }
        if without_restart[at] {
            config.restart = RestartConfig { restart_time: Some(Duration::ZERO), long_lived: Duration::ZERO };
        }
        wanted.peers.insert(address, config);
    }
    wanted
}

/// Attributes in the words of the model.
fn route_of(attributes: &Attributes) -> Route {
    let id = |value: u32| number(IpAddr::from(value.to_be_bytes()));
    Route {
        as_path: attributes.as_path.asns().iter().copied().map(Asn::value).collect(),
        next_hop: number(attributes.next_hop),
        med: attributes.med.map(|med| med.0),
        local_pref: attributes.local_pref.map(|local_pref| local_pref.0),
        originator: attributes.originator_id.map(|carried| id(carried.0)),
        clusters: attributes.cluster_list.iter().map(|carried| id(carried.0)).collect(),
    }
}

// --- the run ---------------------------------------------------------------------------------------------

struct Run {
    net: Net,
    hosts: Vec<Host>,
    hangs: BTreeSet<usize>,
}

impl Run {
    fn of(case: &Case) -> Run {
        let mut net = Net::new();
        let count = case.fabric.routers.len();
        let hosts: Vec<Host> = (0..count).map(|at| net.add_stopped(wanted(case, at))).collect();
        net.spread(Duration::from_millis(case.spread_ms), case.seed);
        for (a, b) in &case.fabric.sessions {
            net.latency(hosts[*a], hosts[*b], Duration::from_millis(case.latency_ms));
        }
        hosts.iter().for_each(|host| net.start(*host, Restarted::No));
        Run { net, hosts, hangs: BTreeSet::new() }
    }

    fn is_awake(&self, at: usize) -> bool {
        self.net.is_running(self.hosts[at]) && !self.hangs.contains(&at)
    }

    /// What makes no sense at the moment does not happen.
    fn happen(&mut self, case: &Case, event: &Event) {
        let count = self.hosts.len();
        let pair = |a: &usize, b: &usize| (self.hosts[a % count], self.hosts[b % count]);
        let are_peers = |a: &usize, b: &usize| {
            let (a, b) = (a % count, b % count);
            case.fabric.sessions.contains(&(a.min(b), a.max(b)))
        };
        match event {
            Event::Pass(bits) => self.net.run(Duration::from_millis(1 << bits)),
            Event::Cut(a, b) | Event::Silence(a, b) | Event::Mend(a, b) if are_peers(a, b) => {
                let (one, other) = pair(a, b);
                match event {
                    Event::Cut(..) => self.net.cut(one, other),
                    Event::Silence(..) => self.net.silence(one, other),
                    _ => self.net.mend(one, other),
                }
            }
            Event::Disable(a, b) | Event::Enable(a, b) | Event::Restart(a, b)
                if are_peers(a, b) && self.is_awake(a % count) =>
            {
                let (one, other) = pair(a, b);
                match event {
                    Event::Disable(..) => self.net.set_admin(one, other, Admin::Disabled),
                    Event::Enable(..) => self.net.set_admin(one, other, Admin::Enabled),
                    _ => self.net.restart_peer(one, other),
                }
            }
            Event::Start(a, kept) if !self.net.is_running(self.hosts[a % count]) => {
                self.net.start(self.hosts[a % count], restarted(*kept));
            }
            Event::Wake(a, timers) if self.hangs.contains(&(a % count)) => self.wake(a % count, *timers),
            Event::Originate(a, there) if !self.net.is_running(self.hosts[a % count]) => {
                let own = self.originated(case, a % count, *there);
                self.net.wanted_mut(self.hosts[a % count]).originated = own;
            }
            Event::Stop(a) | Event::Hang(a) | Event::Stall(a) | Event::Resume(a) | Event::Originate(a, _)
                if self.is_awake(a % count) =>
            {
                self.at_one(case, a % count, event);
            }
            _ => {}
        }
    }

    fn at_one(&mut self, case: &Case, at: usize, event: &Event) {
        let host = self.hosts[at];
        match event {
            Event::Stop(_) => self.net.stop(host),
            Event::Hang(_) => {
                self.net.hang(host);
                self.hangs.insert(at);
            }
            Event::Stall(_) => self.net.stall(host),
            Event::Resume(_) => self.net.resume(host),
            Event::Originate(_, there) => {
                let own = self.originated(case, at, *there);
                self.net.change(host, |wanted| wanted.originated = own);
            }
            _ => {}
        }
    }

    fn originated(&self, case: &Case, at: usize, there: bool) -> BTreeMap<Prefix, Originated> {
        if there { originated(&case.fabric.routers[at]) } else { originated_before() }
    }

    fn wake(&mut self, at: usize, timers: bool) {
        self.hangs.remove(&at);
        self.net.wake(self.hosts[at], if timers { First::Timers } else { First::Sockets });
    }

    /// The harm is over, and all that can be waited for has come.
    fn quiet(&mut self, case: &Case) {
        for (a, b) in &case.fabric.sessions {
            self.net.mend(self.hosts[*a], self.hosts[*b]);
        }
        for at in 0..self.hosts.len() {
            let host = self.hosts[at];
            if self.hangs.contains(&at) {
                self.wake(at, true);
            }
            if !self.net.is_running(host) {
                // It comes back without what it told before.
                self.net.wanted_mut(host).originated = originated(&case.fabric.routers[at]);
                self.net.start(host, Restarted::Yes { kept: Family::ALL.into() });
            }
            self.net.resume(host);
            for other in case.fabric.peers(at) {
                self.net.set_admin(host, self.hosts[other], Admin::Enabled);
            }
            self.net.change(host, |wanted| wanted.originated = originated(&case.fabric.routers[at]));
        }
        self.net.run(QUIET);
    }

    /// What is not as the model has it.
    fn compare(&self, case: &Case, tables: &Tables) -> Result<(), TestCaseError> {
        for (a, b) in &case.fabric.sessions {
            let is_up = self.net.is_up(self.hosts[*a], self.hosts[*b]);
            prop_assert!(is_up, "no session between {} and {}\n{}", a, b, self.net.trace());
        }
        for (at, host) in self.hosts.iter().enumerate() {
            self.compare_best(at, *host, tables)?;
            self.compare_kernel(at, *host, tables)?;
            for other in case.fabric.peers(at) {
                self.compare_told(case, tables, at, other)?;
            }
        }
        Ok(())
    }

    fn compare_best(&self, at: usize, host: Host, tables: &Tables) -> Result<(), TestCaseError> {
        let mut found = BTreeMap::new();
        for route in routes(self.net.router(host)) {
            let Some(best) = route.paths.iter().find(|path| path.verdict == Verdict::Best) else { continue };
            let status = best.peer.and_then(|peer| self.net.router(host).peer(peer));
            prop_assert!(route.paths.iter().all(|path| !path.stale), "stale at {}: {:?}", at, route);
            let told = status.map(|peer| (number(peer.address.ip()), route_of(&best.attributes)));
            found.insert(route.prefix, told);
        }
        let expected = tables.iter().filter(|((router, _), _)| *router == at).map(|((_, of), best)| {
            let told = match best {
                Best::Own => None,
                Best::Learned { from, route, .. } => Some((*from, route.clone())),
            };
            (prefix(PREFIXES[*of]), told)
        });
        prop_assert_eq!(found, expected.collect::<BTreeMap<_, _>>(), "best of {}", at);
        Ok(())
    }

    fn compare_kernel(&self, at: usize, host: Host, tables: &Tables) -> Result<(), TestCaseError> {
        let expected =
            tables.iter().filter(|((router, _), _)| *router == at).filter_map(|((_, of), best)| {
                let Best::Learned { next_hops, .. } = best else { return None };
                Some((prefix(PREFIXES[*of]), next_hops.clone()))
            });
        let found = self.net.fib(host).iter().map(|(prefix, next_hops)| {
            let numbers: BTreeSet<usize> = next_hops.iter().copied().map(number).collect();
            (*prefix, numbers)
        });
        let (found, expected): (BTreeMap<_, _>, BTreeMap<_, _>) = (found.collect(), expected.collect());
        prop_assert_eq!(found, expected, "kernel of {}", at);
        Ok(())
    }

    fn compare_told(
        &self,
        case: &Case,
        tables: &Tables,
        at: usize,
        other: usize,
    ) -> Result<(), TestCaseError> {
        let peer = self.net.peer(self.hosts[at], self.hosts[other]).id;
        let told = adj_rib_out(self.net.router(self.hosts[at]), peer).into_iter();
        let told: BTreeMap<Prefix, Route> =
            told.map(|(prefix, attributes)| (prefix, route_of(&attributes))).collect();
        let expected = (0..PREFIXES.len())
            .filter_map(|of| Some((prefix(PREFIXES[of]), case.fabric.told(tables, at, other, of)?)));
        prop_assert_eq!(told, expected.collect::<BTreeMap<_, _>>(), "what {} told {}", at, other);
        Ok(())
    }
}

fn restarted(kept: Kept) -> Restarted {
    match kept {
        Kept::Nothing => Restarted::No,
        Kept::AllLost => Restarted::Yes { kept: BTreeSet::new() },
        Kept::All => Restarted::Yes { kept: Family::ALL.into() },
    }
}

#[test]
fn tables_are_those_of_the_model_whatever_happened_before() {
    let told = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
    let seed = told("CAMBRIC_SEED").unwrap_or(clock.as_nanos() as u64);
    println!("CAMBRIC_SEED={seed}");
    let mut runner = TestRunner::new(ProptestConfig {
        cases: told("CAMBRIC_CASES").map_or(FABRICS, |cases| cases as u32),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&any_case(), |case| {
        let Some(tables) = case.fabric.settled(PREFIXES.len()) else {
            return Err(TestCaseError::reject("what is best depends on who was first"));
        };
        let mut run = Run::of(&case);
        for event in &case.events {
            run.happen(&case, event);
        }
        run.quiet(&case);
        run.compare(&case, &tables)
    });
    if let Err(failure) = outcome {
        panic!("CAMBRIC_SEED={seed}: {failure}");
    }
}
