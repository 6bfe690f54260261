//! One good neighbour among many that are wrong, each in another way: `labs/bad-input`.
//!
//! ```text
//!           g1  FRR    65001 --- eth1 \          good, good-v6
//!           t1  FRR    65002 --- eth2 |          tor, tor-v6: bad routes, and 10 000 that nobody declared
//!                            --- eth3 |          other-as: another AS than configured
//!                            --- eth4  c1        expects-other-as: it was told another AS of us
//!                            --- eth5 |          leaky: 10 000 prefixes of the declared range, 100 allowed
//!           x1  the test     --- eth6 /          nobody there, no answer, our own router ID
//! ```
//!
//! Proves: each gets a state and a reason that names what is wrong, in `show protocols` or `show route`; the node is
//! ready all the same; memory that the leaks cost is bounded (the time is printed); and the good neighbour's sessions
//! and routes notice nothing of it all: the sessions are the same ones, older, and the kernel tells nothing about the
//! routes.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cambric_lab::{Lab, Node, fabric, poll};
use serde_json::Value;

use common::monitor::Monitor;
use common::operator::{peers, problems, type_in};
use common::stand_in_peer::StandInPeer;
use common::{LabFolder, Need, in_lab, machine_has};

const LIMIT: Duration = Duration::from_secs(60);

const GOOD: [&str; 2] = ["good", "good-v6"];
const GOOD_ROUTES: [&str; 2] = ["198.51.100.64/26", "2001:db8:100:1::/64"];

/// Peers without a session: what `last_error` must hold.
const WITHOUT_SESSION: [(&str, &str); 7] = [
    ("refuses", "connect: Connection refused"),
    ("silent", "connect: no answer"),
    ("nobody", "connect: No route to host"),
    ("nowhere", "connect: Network is unreachable; it is on no link of ours, set multihop"),
    ("other-as", "sent OPEN Message Error: Bad Peer AS (2/2): peer announced AS 65011, configured 65010"),
    ("expects-other-as", "received OPEN Message Error: Bad Peer AS (2/2): we announced AS 65100"),
    (
        "our-id",
        "sent OPEN Message Error: Bad BGP Identifier (2/3): peer announced identifier 192.0.2.101, \
         which is our own",
    ),
];

/// What t1 tells and the node must not use: prefix, who tells it, why not.
const BAD_ROUTES: [(&str, &str, &str); 13] = [
    ("0.0.0.0/0", "tor", "DefaultRoute"),
    ("::/0", "tor-v6", "DefaultRoute"),
    // Our pod range and a part of it, as if they were t1's.
    ("198.51.100.0/26", "tor", "OwnPrefix"),
    ("2001:db8:100::/64", "tor-v6", "OwnPrefix"),
    ("198.51.100.32/27", "tor", "OwnPrefix"),
    ("2001:db8:100:0:8000::/65", "tor-v6", "OwnPrefix"),
    // Our own routes, sent back to us.
    ("192.0.2.101/32", "tor", "OwnAsInPath"),
    ("2001:db8::101/128", "tor-v6", "OwnAsInPath"),
    // Next hops that are on no link.
    ("198.51.100.192/26", "tor", "NextHopNotOnLink"),
    ("2001:db8:100:3::/64", "tor-v6", "NextHopNotOnLink"),
    // The link of the session, and another one.
    ("192.0.2.2/31", "tor", "NextHopInsidePrefix"),
    ("2001:db8:0:2::/127", "tor-v6", "NextHopInsidePrefix"),
    ("192.0.2.8/31", "tor", "LinkSubnet"),
];

const LEAKED: usize = 10_000;
/// What `leaky` may have accepted of a family.
const ALLOWED: usize = 100;
/// What the leak may cost that is not kept, in memory: 180 KiB were measured; kept it would be 2.6 MiB.
const MOST_NOT_KEPT_KIB: u64 = 1024;
/// The same for the one that is kept, to be judged again: 2.7 MiB were measured.
const MOST_KEPT_KIB: u64 = 5 * 1024;

#[test]
fn what_peers_do_wrong_has_a_reason_and_disturbs_nobody() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric]) {
        return;
    }
    in_lab(&LabFolder::copy_of("labs/bad-input"), |lab| {
        let (node, host) = (lab.node("c1")?, lab.node("x1")?);
        let inside = StandInPeer::listen(&host, "192.0.2.36", 65100, [192, 0, 2, 101])?;
        let outside = StandInPeer::listen(&host, "192.0.2.37", 65024, [192, 0, 2, 101])?;
        good_is_there(&node)?;
        let good = Good::watch(&node)?;

        wrong_peers_have_a_reason(&node)?;
        poll::until("our-id to be told Bad BGP Identifier", LIMIT, || {
            inside.notifications().contains(&[2, 3])
        })
        .with_context(|| format!("it was told {:?}", inside.notifications()))?;
        ensure!(outside.notifications().is_empty(), "our-id-elsewhere: {:?}", outside.notifications());
        bad_routes_have_a_reason(&node)?;
        next_hops_that_come_into_reach_are_used(&node)?;
        let problems = problems(&node)?;
        ensure!(problems.is_empty(), "nothing is wrong with the manifests: {problems:?}");
        leaks_are_bounded(lab, &node)?;
        type_in(&node, "cambric show protocols")?;
        type_in(&node, "cambric show status")?;
        good.must_be_undisturbed()
    });
}

/// The good neighbour's sessions and routes, whatever the others do; and the node is ready.
fn good_is_there(node: &Node) -> Result<()> {
    let start = Instant::now();
    poll::until("the good neighbour's sessions", LIMIT, || {
        GOOD.iter().all(|name| peer(node, name).is_ok_and(|peer| peer["state"] == "Established"))
    })?;
    poll::until("the good neighbour's routes", LIMIT, || {
        GOOD_ROUTES
            .iter()
            .all(|prefix| kernel_route(node, prefix).is_ok_and(|text| text.contains("proto 203")))
    })?;
    poll::until("the node to be ready", LIMIT, || {
        fabric::ask(node, &["show", "status"]).is_ok_and(|answer| answer["status"]["ready"] == true)
    })?;
    println!("the good neighbour is up, the node ready: {:.1?} after the lab was up", start.elapsed());
    Ok(())
}

fn wrong_peers_have_a_reason(node: &Node) -> Result<()> {
    for (name, reason) in WITHOUT_SESSION {
        let said = || Ok::<_, anyhow::Error>(text(&peer(node, name)?["last_error"]["what"]));
        poll::until(&format!("{name}: {reason}"), LIMIT, || said().is_ok_and(|said| said == reason))
            .with_context(|| format!("{name} says {:?}", said()))?;
        let peer = peer(node, name)?;
        ensure!(peer["state"] != "Established", "{name} has a session");
        println!("{name}: {} {}", text(&peer["state"]), text(&peer["last_error"]["what"]));
    }
    for name in ["our-id-elsewhere", "tor", "tor-v6", "leaky"] {
        poll::until(&format!("a session with {name}"), LIMIT, || {
            peer(node, name).is_ok_and(|peer| peer["state"] == "Established")
        })?;
    }
    type_in(node, "cambric show protocols all other-as")?;
    type_in(node, "cambric show protocols all nobody")?;
    Ok(())
}

fn bad_routes_have_a_reason(node: &Node) -> Result<()> {
    for (prefix, peer, reason) in BAD_ROUTES {
        let wanted = Some(("refused".to_owned(), reason.to_owned()));
        poll::until(&format!("{prefix} of {peer}: {reason}"), LIMIT, || {
            verdict(node, prefix, peer).is_ok_and(|found| found == wanted)
        })
        .with_context(|| format!("it is {:?}", verdict(node, prefix, peer)))?;
        let kernel = kernel_route(node, prefix)?;
        ensure!(!kernel.contains(" via "), "{prefix} of {peer} is in the kernel: {kernel}");
        println!("{prefix} of {peer}: refused, {reason}");
    }
    // The same session's good route is used.
    for (prefix, peer) in [("198.51.100.128/26", "tor"), ("2001:db8:100:2::/64", "tor-v6")] {
        poll::until(&format!("{prefix} of {peer}"), LIMIT, || {
            kernel_route(node, prefix).is_ok_and(|text| text.contains("proto 203"))
        })?;
    }
    type_in(node, "cambric show route refused")?;
    // Told over a next hop that does not resolve; and what is refused beside the route that is used.
    type_in(node, "cambric show route 198.51.100.192/26 all")?;
    type_in(node, "cambric show route for 198.51.100.10 all").map(drop)
}

/// What was refused is judged again when an address comes and goes, and nobody need be asked for it.
fn next_hops_that_come_into_reach_are_used(node: &Node) -> Result<()> {
    for (prefix, peer, address) in [
        ("198.51.100.192/26", "tor", "203.0.113.98/31"),
        ("2001:db8:100:3::/64", "tor-v6", "2001:db8:bad::98/127"),
    ] {
        let since = age(node, peer)?;
        for (verb, in_use, wanted) in [("add", true, "best"), ("del", false, "refused")] {
            let start = Instant::now();
            node.run_ok(&["ip", "address", verb, address, "dev", "eth2"])?;
            poll::until(&format!("{prefix} after {verb} {address}"), LIMIT, || {
                let found = verdict(node, prefix, peer).ok().flatten();
                found.is_some_and(|(found, _)| found == wanted)
                    && kernel_route(node, prefix).is_ok_and(|text| text.contains("proto 203") == in_use)
            })
            .with_context(|| format!("it is {:?}", verdict(node, prefix, peer)))?;
            println!("{prefix} of {peer} after {verb} {address}: {wanted}, {:.0?}", start.elapsed());
        }
        ensure!(age(node, peer)? >= since, "{peer} has another session");
    }
    Ok(())
}

/// A switch leaks: first what the cluster declares, more than it may; then what nobody declared.
fn leaks_are_bounded(lab: &Lab, node: &Node) -> Result<()> {
    let switch = lab.node("t1")?;
    let before = counts(node, "tor")?;
    let mut used_before = Usage::of(node)?;
    println!("before the leaks: {used_before}");
    let leaky = Counts { received: LEAKED, accepted: ALLOWED, not_kept: LEAKED - 2 * ALLOWED };
    let tor = Counts { received: before.received + LEAKED, ..before };
    for (from, peer, least, most_kib) in
        [("198.18", "leaky", leaky, MOST_NOT_KEPT_KIB), ("198.19", "tor", tor, MOST_KEPT_KIB)]
    {
        let start = Instant::now();
        leak(&switch, "add", from)?;
        poll::until(&format!("{LEAKED} routes at {peer}"), LIMIT, || {
            counts(node, peer).is_ok_and(|counts| counts.are_at_least(least))
        })
        .with_context(|| format!("{:?}, expected {least:?}", counts(node, peer)))?;
        let used = Usage::of(node)?;
        let Counts { received, accepted, not_kept } = counts(node, peer)?;
        println!(
            "{LEAKED} of {from}.0.0/16 leaked to {peer}: received {received}, accepted {accepted}, \
             refused {}, of these not kept {not_kept}; all there after {:.1?}; {used}",
            received - accepted,
            start.elapsed()
        );
        let grown = used.rss_kib.saturating_sub(used_before.rss_kib);
        ensure!(grown < most_kib, "the leak to {peer} cost {grown} KiB");
        used_before = used;
    }
    let log = fs::read_to_string(node.log("cambricd.log"))?;
    let warnings = log.lines().filter(|line| line.contains("max-prefix is reached")).count();
    ensure!(warnings == 1, "the log tells {warnings} times that leaky told more than it may");
    let in_kernel = node.run_ok(&["ip", "route", "show", "root", "198.18.0.0/15"])?.lines().count();
    ensure!(in_kernel == ALLOWED, "{in_kernel} leaked routes in the kernel");
    for (prefix, peer, reason) in [("198.19.0.0/30", "tor", "NotDeclared"), ("198.18.0.0/30", "leaky", "")] {
        let found = verdict(node, prefix, peer)?;
        ensure!(found.as_ref().is_some_and(|(_, said)| said == reason), "{prefix} of {peer}: {found:?}");
    }
    type_in(node, "cambric show protocols all leaky")?;
    type_in(node, "cambric show route 198.19.0.0/30 all")?;
    type_in(node, "cambric show route count")?;

    for from in ["198.18", "198.19"] {
        leak(&switch, "del", from)?;
    }
    poll::until("the leaks to be gone", LIMIT, || {
        counts(node, "leaky").is_ok_and(|counts| counts.nothing_is_kept())
            && counts(node, "tor").is_ok_and(|counts| counts == before)
    })
    .with_context(|| format!("leaky {:?}, tor {:?}", counts(node, "leaky"), counts(node, "tor")))?;
    println!("the leaks are gone: {}", Usage::of(node)?);
    Ok(())
}

/// Adds or removes routes that t1 tells: `LEAKED` prefixes of a /16.
fn leak(switch: &Node, verb: &str, from: &str) -> Result<()> {
    let route = |number: usize| {
        format!("route {verb} blackhole {from}.{}.{}/30 proto 250\n", number / 64, number % 64 * 4)
    };
    let batch: String = (0..LEAKED).map(route).collect();
    fs::write(switch.path("/run/leak"), batch)?;
    switch.run_ok(&["ip", "-batch", "/run/leak"]).map(drop)
}

// --- the good neighbour --------------------------------------------------------------------------------------

/// The good neighbour from a moment on.
struct Good<'a> {
    node: &'a Node,
    monitor: Monitor,
    since: Instant,
    ages: Vec<u64>,
}

impl<'a> Good<'a> {
    fn watch(node: &'a Node) -> Result<Good<'a>> {
        let ages = GOOD.iter().map(|name| age(node, name)).collect::<Result<_>>()?;
        Ok(Good { node, monitor: Monitor::start(node)?, since: Instant::now(), ages })
    }

    fn must_be_undisturbed(self) -> Result<()> {
        let elapsed = self.since.elapsed();
        for (name, before) in GOOD.iter().zip(self.ages) {
            let peer = peer(self.node, name)?;
            let now = age(self.node, name)?;
            // Both ages are cut to seconds.
            ensure!(
                now + 2 > before + elapsed.as_secs(),
                "{name}: {now} s after {elapsed:?}, before {before} s"
            );
            // At the start one of two connections that crossed may have ended.
            let last_error = peer["last_error"]["ago_s"].as_u64().unwrap_or(u64::MAX);
            ensure!(last_error >= elapsed.as_secs(), "{name}: {}", peer["last_error"]);
            println!("{name}: Established for {now} s, {before} s when the others came; no error since");
        }
        let all = self.monitor.messages()?;
        let about = |text: &str| {
            GOOD_ROUTES.iter().any(|prefix| text.contains(&format!("{prefix} ")))
                || ["via 192.0.2.0 ", "via 2001:db8:0:1:: "].iter().any(|gateway| text.contains(gateway))
        };
        let disturbed: Vec<_> = all.iter().filter(|message| about(&message.text)).collect();
        ensure!(disturbed.is_empty(), "the kernel was told about the good routes: {disturbed:#?}");
        println!("messages of the kernel: {}, about the good neighbour's routes: 0", all.len());
        Ok(())
    }
}

fn age(node: &Node, name: &str) -> Result<u64> {
    let peer = peer(node, name)?;
    ensure!(peer["state"] == "Established", "{name} is {}", peer["state"]);
    peer["since_s"].as_u64().context("since_s")
}

// --- looks ---------------------------------------------------------------------------------------------------

/// Numbers of a peer, IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counts {
    received: usize,
    accepted: usize,
    not_kept: usize,
}

impl Counts {
    /// A prefix that is not kept counts again when it is told again, as a switch may.
    fn are_at_least(self, least: Counts) -> bool {
        self.accepted == least.accepted && self.received >= least.received && self.not_kept >= least.not_kept
    }

    /// And is not known when it is taken back, so that one that was told twice leaves its second count behind.
    fn nothing_is_kept(self) -> bool {
        self.accepted == 0 && self.received == self.not_kept
    }
}

fn counts(node: &Node, name: &str) -> Result<Counts> {
    let peer = peer(node, name)?;
    let families = peer["families"].as_array().context("families")?;
    let family = families.iter().find(|family| family["family"] == "ipv4").context("ipv4")?;
    let number = |key: &str| family[key].as_u64().unwrap_or_default() as usize;
    Ok(Counts { received: number("received"), accepted: number("accepted"), not_kept: number("not_kept") })
}

fn peer(node: &Node, name: &str) -> Result<Value> {
    peers(node)?.into_iter().find(|peer| peer["name"] == name).with_context(|| format!("no peer {name}"))
}

/// The verdict on a peer's path to a prefix, and the reason.
fn verdict(node: &Node, prefix: &str, peer: &str) -> Result<Option<(String, String)>> {
    let answer = fabric::ask(node, &["show", "route", prefix])?;
    let routes = answer["routes"].as_array().context("routes")?;
    let mut paths = routes.iter().filter_map(|route| route["paths"].as_array()).flatten();
    let path = paths.find(|path| path["peer"] == peer);
    Ok(path.map(|path| (text(&path["verdict"]), text(&path["reason"]))))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn kernel_route(node: &Node, prefix: &str) -> Result<String> {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    node.run_ok(&["ip", family, "route", "show", "exact", prefix])
}

/// What the daemon uses of the machine.
#[derive(Debug, Clone, Copy)]
struct Usage {
    rss_kib: u64,
    cpu: Duration,
}

impl Usage {
    fn of(node: &Node) -> Result<Usage> {
        let pid = node.daemon_pid("cambricd").context("cambricd runs")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let rss_kib = rss.trim().trim_end_matches(" kB").parse()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // Behind the name, which may hold anything: the 12th and 13th are ticks of 10 ms (proc_pid_stat(5)).
        let (_, numbers) = stat.rsplit_once(')').context("stat")?;
        let ticks = numbers.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks: u64 = ticks.collect::<Result<Vec<_>, _>>()?.into_iter().sum();
        Ok(Usage { rss_kib, cpu: Duration::from_millis(ticks * 10) })
    }
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RSS {} KiB, CPU {:.2?} since the start", self.rss_kib, self.cpu)
    }
}
