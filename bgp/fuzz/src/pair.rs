//! Two routers on the virtual clock of the tests of `bgp/core`, and a schedule of harm: whatever happens to them, when it is
//! over they have one session and know each other's routes.

use std::collections::BTreeSet;
use std::time::Duration;

use cambric_bgp::config::RestartConfig;
use cambric_bgp::router::Restarted;
use cambric_bgp::{Admin, Family, Originated, Prefix, Source};

use crate::input::Input;
use crate::support::net::{First, Host, Net};
use crate::support::{neighbor, prefix, secs, speaker};

const MOST_STEPS: usize = 60;

const PODS: [[&str; 3]; 2] = [
    ["10.244.1.0/24", "10.244.101.0/24", "fd00:244:1::/64"],
    ["10.244.2.0/24", "10.244.102.0/24", "fd00:244:2::/64"],
];

/// A schedule of loss, delay and restarts.
pub(crate) fn two_routers(octets: &[u8]) {
    let mut input = Input::new(octets);
    let kind = input.octet();
    let asns = if kind & 1 == 1 { [65001, 65001] } else { [65001, 65002] };
    let mut net = Net::new();
    let hosts: [Host; 2] = std::array::from_fn(|at| {
        let other = 1 - at;
        let address = |at: usize| format!("10.2.0.{}", at + 1);
        let mut wanted = speaker(asns[at], &address(at), [neighbor(asns[other], &address(other))], &PODS[at]);
        if kind >> (1 + at) & 1 == 1 {
            let nothing = RestartConfig { restart_time: Some(Duration::ZERO), long_lived: Duration::ZERO };
            wanted.peers.values_mut().for_each(|peer| peer.restart = nothing);
        }
        net.add_stopped(wanted)
    });
    net.latency(hosts[0], hosts[1], Duration::from_millis(u64::from(kind >> 4)));
    net.spread(Duration::from_millis(10 * u64::from(kind >> 3 & 1)), 1 + u64::from(kind));
    for host in hosts {
        net.start(host, Restarted::No);
    }
    let mut state = [State::default(), State::default()];
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        step(&mut net, hosts, &mut state, &mut input);
    }
    quiet(&mut net, hosts, &mut state);
    for (at, host) in hosts.into_iter().enumerate() {
        let other = hosts[1 - at];
        assert!(net.is_up(host, other), "no session\n{}", net.trace());
        let told: BTreeSet<Prefix> = net.wanted_mut(other).originated.keys().copied().collect();
        let known: BTreeSet<Prefix> = net.fib(host).keys().copied().collect();
        assert_eq!(known, told, "{}", net.trace());
    }
}

/// What a host cannot do twice.
#[derive(Debug, Default)]
struct State {
    hangs: bool,
}

fn step(net: &mut Net, hosts: [Host; 2], state: &mut [State; 2], input: &mut Input<'_>) {
    let what = input.octet();
    let at = usize::from(what >> 7);
    let (host, other) = (hosts[at], hosts[1 - at]);
    let is_awake = net.is_running(host) && !state[at].hangs;
    match what & 15 {
        0..=3 => net.run(Duration::from_millis(1 << (input.octet() % 18))),
        4 => net.cut(host, other),
        5 => net.silence(host, other),
        6 => net.mend(host, other),
        7 => net.refuse(host, other),
        8 if is_awake => net.stop(host),
        8 | 9 if !net.is_running(host) => net.start(host, restarted(what)),
        10 if is_awake => {
            net.hang(host);
            state[at].hangs = true;
        }
        11 if state[at].hangs => wake(net, host, &mut state[at], what),
        12 if is_awake => net.stall(host),
        13 if is_awake => net.resume(host),
        14 if is_awake => {
            let prefixes = PODS[at].map(prefix);
            let chosen = input.octet();
            net.change(host, |wanted| {
                let of = prefixes.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1);
                wanted.originated =
                    of.map(|(_, prefix)| (*prefix, Originated::plain(Source::Pods))).collect();
            });
        }
        15 if is_awake => match what >> 4 & 3 {
            0 => net.set_admin(host, other, Admin::Disabled),
            1 => net.restart_peer(host, other),
            _ => net.set_admin(host, other, Admin::Enabled),
        },
        _ => {}
    }
}

fn restarted(what: u8) -> Restarted {
    match what >> 4 & 3 {
        0 => Restarted::No,
        1 => Restarted::Yes { kept: BTreeSet::new() },
        _ => Restarted::Yes { kept: Family::ALL.into() },
    }
}

fn wake(net: &mut Net, host: Host, state: &mut State, what: u8) {
    state.hangs = false;
    net.wake(host, if what & 16 == 0 { First::Timers } else { First::Sockets });
}

/// No more harm, and as long as the longest of all waits that can be under way.
fn quiet(net: &mut Net, hosts: [Host; 2], state: &mut [State; 2]) {
    let [one, other] = hosts;
    net.mend(one, other);
    for (at, host) in hosts.into_iter().enumerate() {
        if state[at].hangs {
            wake(net, host, &mut state[at], 0);
        }
        if !net.is_running(host) {
            net.start(host, Restarted::Yes { kept: Family::ALL.into() });
        }
        net.resume(host);
        net.set_admin(host, hosts[1 - at], Admin::Enabled);
    }
    net.run(secs(1200));
}
