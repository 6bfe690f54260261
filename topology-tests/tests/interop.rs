//! One Cambric node beside FRR, BIRD and GoBGP at the same time: `labs/interop`.
//!
//! ```text
//!           f1  FRR    65001 --- 192.0.2.0/31, 2001:db8:0:1::/127 --- eth1 \
//!           b1  BIRD   65002 --- 192.0.2.2/31, 2001:db8:0:2::/127 --- eth2  c1  Cambric  65100
//!           g1  GoBGP  65003 --- 192.0.2.4/31, 2001:db8:0:3::/127 --- eth3 /
//! ```
//!
//! Proves, with three implementations that others wrote and one session per family and neighbour (RFC 4271, RFC
//! 4760):
//! - each learns the node's pod ranges, the node learns what each announces of the declared ranges, and the kernel has it;
//! - a default route and a prefix that nobody declared are refused, and the node says why;
//! - a dump of the tables (RFC 6396) has every path, by a parser that is not ours;
//! - a station of BMP (RFC 7854, RFC 9069) knows all tables, also by a parser that is not ours;
//! - what is withdrawn leaves the kernel;
//! - the node's daemon may be killed and started: each neighbour keeps the node's prefixes all the time (RFC 4724), and
//!   the kernel is told nothing about the node's own routes;
//! - a session that the operator disables ends for the neighbour as an Administrative Shutdown (RFC 4486), which takes the
//!   node's prefixes with it at once, and each neighbour gives that as the cause as long as it lasts; the session of the
//!   other family goes on; enabled, it is back without delay;
//! - the daemon of FRR or BIRD may be killed and started as well: the node keeps what it told, and the kernel hears
//!   nothing.

#[path = "common/collector.rs"]
mod collector;
mod common;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bgpkit_parser::BgpkitParser;
use bgpkit_parser::models::BgpElem;
use cambric_lab::{Lab, Node, fabric, poll};
use nix::sys::signal::Signal;
use serde_json::Value;

use collector::{Collector, Table};
use common::held::Held;
use common::monitor::Monitor;
use common::{LabFolder, Need, in_lab, machine_has};

const LIMIT: Duration = Duration::from_secs(60);

const CAMBRICD: &str = "cambricd";
const BIRD_SOCKET: &str = "/run/bird-lab.ctl";

/// The node's pod ranges.
const OWN: [&str; 2] = ["198.51.100.0/26", "2001:db8:100::/64"];

const DEFAULT: [&str; 2] = ["0.0.0.0/0", "::/0"];

const SWITCHES: [Switch; 3] = [
    Switch {
        kind: Kind::Frr,
        name: "f1",
        peers: ["frr", "frr-v6"],
        pods: ["198.51.100.64/26", "2001:db8:100:1::/64"],
        undeclared: ["203.0.113.64/26", "2001:db8:bad:1::/64"],
    },
    Switch {
        kind: Kind::Bird,
        name: "b1",
        peers: ["bird", "bird-v6"],
        pods: ["198.51.100.128/26", "2001:db8:100:2::/64"],
        undeclared: ["203.0.113.128/26", "2001:db8:bad:2::/64"],
    },
    Switch {
        kind: Kind::Gobgp,
        name: "g1",
        peers: ["gobgp", "gobgp-v6"],
        pods: ["198.51.100.192/26", "2001:db8:100:3::/64"],
        undeclared: ["203.0.113.192/26", "2001:db8:bad:3::/64"],
    },
];

/// A neighbour of the node: what it announces, IPv4 and IPv6, and how it is asked.
struct Switch {
    kind: Kind,
    name: &'static str,
    /// What the node calls its two sessions.
    peers: [&'static str; 2],
    pods: [&'static str; 2],
    undeclared: [&'static str; 2],
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Frr,
    Bird,
    Gobgp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Say {
    Announce,
    Withdraw,
}

#[test]
fn a_node_peers_with_frr_bird_and_gobgp_at_the_same_time() {
    if !ready() {
        return;
    }
    in_lab(&LabFolder::copy_of("labs/interop"), |lab| {
        all_learn(lab)?;
        unwanted_routes_are_refused_with_the_reason(lab)?;
        a_dump_has_every_path(lab)?;
        a_station_knows_every_table(lab)?;
        what_is_withdrawn_leaves_the_kernel(lab)?;
        a_disabled_peer_is_told_why(lab)?;
        a_killed_daemon_costs_nothing(lab)?;
        a_killed_neighbour_costs_nothing(lab)
    });
}

/// A neighbour that turns the node away at first is not down: what it told goes on being used.
#[test]
fn a_neighbour_that_comes_back_after_the_others_keeps_its_routes() {
    if !ready() {
        return;
    }
    in_lab(&LabFolder::copy_of("labs/interop"), |lab| {
        all_learn(lab)?;
        let node = lab.node("c1")?;
        let monitor = Monitor::start(&node)?;
        node.kill(CAMBRICD, Signal::SIGKILL)?;
        // The last thread of a killed daemon may outlive the first one for a moment.
        let lock = ["flock", "--nonblock", "/run/cambric/cambricd.lock", "true"];
        poll::until("its lock to be free", LIMIT, || node.run_ok(&lock).is_ok())?;
        // At once: GoBGP turns connections away for the next 5 s.
        node.start()?;
        let start = Instant::now();
        let kept = wait_while_kept(lab, "all six sessions", |_| fabric::is_whole(&node));
        let messages = monitor.messages()?;
        ensure!(
            messages.is_empty(),
            "the kernel was told about routes: {messages:#?}; the neighbours: {kept:?}"
        );
        kept?;
        println!(
            "GoBGP turned the node away at first; all six sessions {:.1?} after the start",
            start.elapsed()
        );
        Ok(())
    });
}

/// What `mrt dump` writes another parser reads (RFC 6396), and it is all that the node says it has.
fn a_dump_has_every_path(lab: &Lab) -> Result<()> {
    let node = lab.node("c1")?;
    const FILE: &str = "/run/tables.mrt";
    let said = node.run_ok(&["cambric", "mrt", "dump", FILE])?;
    let file = node.run(&["cat", FILE])?.stdout;
    let counts = fabric::ask(&node, &["show", "route", "count"])?;
    let counts = counts["route-counts"].as_array().context("counts")?;
    let paths: u64 = counts.iter().filter_map(|count| count["paths"].as_u64()).sum();
    let elements: Vec<_> = BgpkitParser::from_reader(&file[..]).into_elem_iter().collect();
    println!("{}; read back: {} of {paths}", said.trim(), elements.len());
    ensure!(u64::try_from(elements.len())? == paths && paths > 10, "{counts:?}, and {said}");
    for switch in &SWITCHES {
        for prefix in &switch.pods {
            let is_there = |element: &BgpElem| {
                element.prefix.prefix.to_string() == *prefix
                    && element.as_path.as_ref().is_some_and(|path| !path.is_empty())
            };
            ensure!(elements.iter().any(is_there), "{prefix} of {} is not in the dump", switch.name);
        }
    }
    Ok(())
}

/// A station of BMP (RFC 7854, 9069) knows as many routes as the node says it has, also when some go and come.
fn a_station_knows_every_table(lab: &Lab) -> Result<()> {
    let node = lab.node("c1")?;
    let mut collector = Collector::listen(&node, "127.0.0.1:11019".parse()?)?;
    // Pod ranges and addresses of the node: nobody told these.
    let own = 2 * OWN.len();
    let agrees = |collector: &Collector| {
        let count = |name: &str| {
            let counts = fabric::ask(&node, &["show", "route", "count"]).ok()?;
            let counts = counts["route-counts"].as_array()?.iter();
            usize::try_from(counts.filter_map(|count| count[name].as_u64()).sum::<u64>()).ok()
        };
        let (Some(paths), Some(refused), Some(usable)) = (count("paths"), count("refused"), count("usable"))
        else {
            return false;
        };
        let before = collector.count(|table| matches!(table, Table::Before(_)));
        let after = collector.count(|table| matches!(table, Table::After(_)));
        let chosen = collector.count(|table| *table == Table::Chosen);
        (before, after, chosen) == (paths - own, paths - own - refused, usable) && before > 10
    };
    collector.until("a station to know all tables", agrees)?;
    println!("a station knows all tables after {} messages", collector.messages);
    let [switch, ..] = &SWITCHES;
    switch.say(lab, Say::Withdraw, switch.pods[0])?;
    let knows = |collector: &Collector| {
        collector.tables.get(&Table::Chosen).is_some_and(|routes| routes.contains(switch.pods[0]))
    };
    collector
        .until("a station to hear of a withdrawal", |collector| !knows(collector) && agrees(collector))?;
    switch.say(lab, Say::Announce, switch.pods[0])?;
    collector.until("a station to hear of it again", |collector| knows(collector) && agrees(collector))?;
    let says = fabric::ask(&node, &["show", "monitoring"])?;
    ensure!(says["stations"][0]["state"] == "told", "{says:#}");
    Ok(())
}

fn ready() -> bool {
    machine_has(&[Need::Root, Need::Frr, Need::Bird, Need::Gobgp, Need::Cambric])
}

fn all_learn(lab: &Lab) -> Result<()> {
    let start = Instant::now();
    let node = lab.node("c1")?;
    poll::until("all six sessions", LIMIT, || fabric::is_whole(&node))?;
    println!("all six sessions Established, node ready: {:.1?} after the lab was up", start.elapsed());
    // Its file cannot hold prefixes.
    let gobgp = &SWITCHES[2];
    for prefix in DEFAULT.iter().chain(&gobgp.undeclared) {
        gobgp.say(lab, Say::Announce, prefix)?;
    }
    for prefix in gobgp.pods {
        gobgp.say(lab, Say::Announce, prefix)?;
    }
    for switch in &SWITCHES {
        for prefix in OWN {
            let what = format!("{prefix} at {}", switch.name);
            poll::until(&what, LIMIT, || switch.held(lab, prefix).is_ok_and(|held| held == Held::Fresh))?;
        }
        for prefix in switch.pods {
            wait_for_kernel(&node, prefix, Say::Announce)?;
        }
    }
    println!("f1, b1 and g1 have {}; the node's kernel has theirs", OWN.join(" and "));
    Ok(())
}

fn unwanted_routes_are_refused_with_the_reason(lab: &Lab) -> Result<()> {
    let node = lab.node("c1")?;
    for switch in &SWITCHES {
        for (family, peer) in switch.peers.into_iter().enumerate() {
            let unwanted = [(DEFAULT[family], "DefaultRoute"), (switch.undeclared[family], "NotDeclared")];
            for (prefix, reason) in unwanted {
                let what = format!("{prefix} of {peer} to be refused");
                poll::until(&what, LIMIT, || {
                    verdict(&node, prefix, peer).is_ok_and(|found| found.is_some())
                })?;
                let found = verdict(&node, prefix, peer)?;
                ensure!(found == Some(("refused".into(), reason.into())), "{prefix} of {peer}: {found:?}");
                ensure!(kernel_route(&node, prefix)?.is_empty(), "the kernel has {prefix} of {peer}");
            }
        }
    }
    println!("refused of all three, both families: DefaultRoute, NotDeclared");
    Ok(())
}

fn what_is_withdrawn_leaves_the_kernel(lab: &Lab) -> Result<()> {
    let node = lab.node("c1")?;
    for switch in &SWITCHES {
        for prefix in switch.pods {
            for say in [Say::Withdraw, Say::Announce] {
                let start = Instant::now();
                switch.say(lab, say, prefix)?;
                wait_for_kernel(&node, prefix, say)?;
                println!(
                    "{} {prefix} {say:?}: the kernel follows within {:.0?}",
                    switch.name,
                    start.elapsed()
                );
            }
        }
    }
    Ok(())
}

/// The sessions of IPv4; those of IPv6 with the same neighbours stay.
fn a_disabled_peer_is_told_why(lab: &Lab) -> Result<()> {
    let node = lab.node("c1")?;
    let (own, other_ages) = (OWN[0], ages(&node)?);
    for switch in &SWITCHES {
        node.run_ok(&["cambric", "disable", switch.peers[0]])?;
        let what = format!("{} to say why {own} is gone", switch.name);
        poll::until(&what, LIMIT, || {
            let gone = switch.held(lab, own).is_ok_and(|held| held == Held::Nothing);
            gone && switch.says_shutdown(lab).is_ok_and(|says| says)
        })?;
        wait_for_kernel(&node, switch.pods[0], Say::Withdraw)?;
    }
    // Each tries again meanwhile, and is told again.
    let start = Instant::now();
    poll::until_some("ten seconds without a session", LIMIT, || {
        for switch in &SWITCHES {
            ensure!(switch.says_shutdown(lab)?, "{} gives another cause", switch.name);
            ensure!(switch.held(lab, own)? == Held::Nothing, "{} has {own}", switch.name);
        }
        Ok((start.elapsed() > Duration::from_secs(10)).then_some(()))
    })?;
    println!("disabled: FRR, BIRD and GoBGP say Administrative Shutdown, and have {own} no more");
    let start = Instant::now();
    for switch in &SWITCHES {
        node.run_ok(&["cambric", "enable", switch.peers[0]])?;
    }
    poll::until("all six sessions", LIMIT, || fabric::is_whole(&node))?;
    println!("enabled: all six sessions {:.1?} later", start.elapsed());
    for switch in &SWITCHES {
        wait_for_kernel(&node, switch.pods[0], Say::Announce)?;
        let what = format!("{own} at {}", switch.name);
        poll::until(&what, LIMIT, || switch.held(lab, own).is_ok_and(|held| held == Held::Fresh))?;
    }
    for (before, after) in other_ages.iter().zip(ages(&node)?) {
        ensure!(after >= before + 10, "a session of IPv6 is {after} s old, before {before} s");
    }
    Ok(())
}

/// Seconds for which the sessions of IPv6 have been up.
fn ages(node: &Node) -> Result<Vec<u64>> {
    let answer = fabric::ask(node, &["show", "protocols"])?;
    let all = answer["protocols"].as_array().context("protocols")?;
    let age = |switch: &Switch| {
        let mut named = all.iter().filter(|peer| peer["name"] == switch.peers[1]);
        let up = named.find(|peer| peer["state"] == "Established").context(switch.peers[1])?;
        up["since_s"].as_u64().context("since_s")
    };
    SWITCHES.iter().map(age).collect()
}

fn a_killed_daemon_costs_nothing(lab: &Lab) -> Result<()> {
    let node = lab.node("c1")?;
    let (before, monitor) = (own_routes(&node)?, Monitor::start(&node)?);
    let start = Instant::now();
    node.kill(CAMBRICD, Signal::SIGKILL)?;
    // GoBGP idles for 5 s after a session; a daemon that is back earlier is turned away until then.
    wait_while_kept(lab, "all to keep the node's prefixes as stale ones", all_are(Held::Stale))?;
    poll::until("GoBGP to listen again", LIMIT, || {
        let neighbours = lab.node("g1").and_then(|node| node.run_ok(&["gobgp", "neighbor"]));
        neighbours.is_ok_and(|text| text.matches(" Active").count() == 2)
    })?;
    println!("cambricd was killed: FRR, BIRD and GoBGP keep {} as stale", OWN.join(" and "));
    ensure!(own_routes(&node)? == before, "the kernel has other routes");

    let back = Instant::now();
    node.start()?;
    wait_while_kept(lab, "all to have fresh prefixes", all_are(Held::Fresh))?;
    poll::until("all six sessions", LIMIT, || fabric::is_whole(&node))?;
    println!("all fresh {:.1?} after the start, {:.1?} after the kill", back.elapsed(), start.elapsed());
    let messages = monitor.messages()?;
    ensure!(messages.is_empty(), "the kernel was told about routes: {messages:#?}");
    ensure!(own_routes(&node)? == before, "the kernel has other routes");
    println!("messages of the kernel about routes and next hops: 0; routes: {}", before.lines().count());
    Ok(())
}

fn a_killed_neighbour_costs_nothing(lab: &Lab) -> Result<()> {
    let node = lab.node("c1")?;
    let before = own_routes(&node)?;
    for switch in &SWITCHES[..2] {
        let monitor = Monitor::start(&node)?;
        lab.node(switch.name)?.kill(switch.daemon(), Signal::SIGKILL)?;
        let are = |stale: bool| {
            let of = |(prefix, peer)| is_stale(&node, prefix, peer).is_ok_and(|found| found == Some(stale));
            switch.pods.into_iter().zip(switch.peers).all(of)
        };
        poll::until("its routes to be stale", LIMIT, || are(true))?;
        let start = Instant::now();
        switch.start(lab)?;
        poll::until("its routes to be fresh", LIMIT, || fabric::is_whole(&node) && are(false))?;
        let messages = monitor.messages()?;
        ensure!(messages.is_empty(), "{}: the kernel was told about routes: {messages:#?}", switch.name);
        ensure!(own_routes(&node)? == before, "{}: the kernel has other routes", switch.name);
        println!(
            "{} of {} was killed: its routes stale, fresh {:.1?} after its start, messages of the kernel: 0",
            switch.daemon(),
            switch.name,
            start.elapsed()
        );
    }
    Ok(())
}

/// Looks until `done` with what the neighbours hold of the node's prefixes; none may ever hold nothing.
fn wait_while_kept(lab: &Lab, what: &str, done: impl Fn(&[Held]) -> bool) -> Result<()> {
    poll::until_some(what, LIMIT, || {
        let mut all = Vec::new();
        for switch in &SWITCHES {
            for prefix in OWN {
                let held = switch.held(lab, prefix)?;
                ensure!(held != Held::Nothing, "{} has lost {prefix}", switch.name);
                all.push(held);
            }
        }
        Ok(done(&all).then_some(()))
    })
}

fn all_are(wanted: Held) -> impl Fn(&[Held]) -> bool {
    move |all| all.iter().all(|held| *held == wanted)
}

/// The verdict on the path to a prefix that a peer told, and the reason.
fn verdict(node: &Node, prefix: &str, peer: &str) -> Result<Option<(String, String)>> {
    let word = |path: &Value, key: &str| path[key].as_str().unwrap_or_default().to_owned();
    Ok(path(node, prefix, peer)?.map(|path| (word(&path, "verdict"), word(&path, "reason"))))
}

/// Whether the path is kept for a peer that is away.
fn is_stale(node: &Node, prefix: &str, peer: &str) -> Result<Option<bool>> {
    Ok(path(node, prefix, peer)?.and_then(|path| path["stale"].as_bool()))
}

/// The path to a prefix that a peer told.
fn path(node: &Node, prefix: &str, peer: &str) -> Result<Option<Value>> {
    let answer = fabric::ask(node, &["show", "route"])?;
    let routes = answer["routes"].as_array().context("routes")?;
    let paths = routes.iter().filter(|route| route["prefix"] == prefix);
    let mut paths = paths.filter_map(|route| route["paths"].as_array()).flatten();
    Ok(paths.find(|path| path["peer"] == peer).cloned())
}

fn kernel_route(node: &Node, prefix: &str) -> Result<String> {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    node.run_ok(&["ip", family, "route", "show", "exact", prefix])
}

fn wait_for_kernel(node: &Node, prefix: &str, say: Say) -> Result<()> {
    let follows = |text: String| text.contains("proto 203") == (say == Say::Announce);
    poll::until(&format!("the kernel after {say:?} {prefix}"), LIMIT, || {
        kernel_route(node, prefix).is_ok_and(follows)
    })
}

/// All that the daemon has put into the kernel.
fn own_routes(node: &Node) -> Result<String> {
    let list = |family| node.run_ok(&["ip", family, "route", "show", "table", "all", "proto", "203"]);
    Ok(list("-4")? + &list("-6")?)
}

impl Switch {
    /// What it has of a prefix of the node.
    fn held(&self, lab: &Lab, prefix: &str) -> Result<Held> {
        let node = lab.node(self.name)?;
        match self.kind {
            Kind::Frr => Held::by_frr(&node, &["vtysh"], prefix),
            Kind::Bird => {
                let session = if prefix.contains(':') { "c1_v6" } else { "c1_v4" };
                Held::by_bird(&node, BIRD_SOCKET, session, prefix)
            }
            Kind::Gobgp => Held::by_gobgp(&node, prefix),
        }
    }

    /// Whether it gives Administrative Shutdown as the cause why it has no session of IPv4 with the node.
    fn says_shutdown(&self, lab: &Lab) -> Result<bool> {
        let node = lab.node(self.name)?;
        Ok(match self.kind {
            Kind::Frr => {
                let text = node.run_ok(&["vtysh", "-c", "show bgp neighbors 192.0.2.1"])?;
                // Behind it FRR says that it was a Hard Reset (RFC 8538).
                text.contains("NOTIFICATION received (Cease/Administrative Shutdown")
                    || text.contains("Notification received (Cease/Administrative Shutdown")
            }
            Kind::Bird => birdc(&node, &["show", "protocols", "all", "c1_v4"])?
                .contains("Received: Administrative shutdown"),
            // Only its log tells.
            Kind::Gobgp => node
                .run_ok(&["cat", "/var/log/gobgpd.log"])?
                .lines()
                .rfind(|line| line.contains("Peer Down") && line.contains("192.0.2.5"))
                .is_some_and(|line| line.contains("administrative shutdown")),
        })
    }

    /// The program that speaks BGP.
    fn daemon(&self) -> &'static str {
        match self.kind {
            Kind::Frr => "bgpd",
            Kind::Bird => "bird",
            Kind::Gobgp => "gobgpd",
        }
    }

    /// Starts its daemon again, so that it says that it has restarted and has its prefixes at once.
    fn start(&self, lab: &Lab) -> Result<()> {
        let node = lab.node(self.name)?;
        match self.kind {
            Kind::Frr => node.start(),
            Kind::Bird => {
                let words = node.spec().exec.last().context("the lab starts bird")?;
                node.run_ok(&[&words[..], &["-R".to_owned()]].concat()).map(drop)
            }
            Kind::Gobgp => bail!("its file holds no prefixes: it would say that it has none"),
        }
    }

    /// Has it announce or withdraw a prefix of its own.
    fn say(&self, lab: &Lab, say: Say, prefix: &str) -> Result<()> {
        let is_v6 = prefix.contains(':');
        let node = lab.node(self.name)?;
        match self.kind {
            Kind::Frr => {
                let family =
                    if is_v6 { "address-family ipv6 unicast" } else { "address-family ipv4 unicast" };
                let no = if say == Say::Withdraw { "no " } else { "" };
                let network = format!("{no}network {prefix}");
                let words =
                    ["vtysh", "-c", "configure terminal", "-c", "router bgp", "-c", family, "-c", &network];
                node.run_ok(&words).map(drop)
            }
            Kind::Bird => {
                let verb = if say == Say::Withdraw { "disable" } else { "enable" };
                birdc(&node, &[verb, if is_v6 { "pods6" } else { "pods4" }]).map(drop)
            }
            Kind::Gobgp => {
                let verb = if say == Say::Withdraw { "del" } else { "add" };
                let family = if is_v6 { "ipv6" } else { "ipv4" };
                node.run_ok(&["gobgp", "global", "rib", verb, prefix, "-a", family]).map(drop)
            }
        }
    }
}

fn birdc(node: &Node, words: &[&str]) -> Result<String> {
    node.run_ok(&[&["birdc", "-s", BIRD_SOCKET], words].concat())
}
