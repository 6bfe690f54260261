//! Sessions that are set up wrong, on either side, each in another way: `labs/broken`.
//!
//! ```text
//!   f1  FRR   65001 --- a /31 for each of its sessions --- eth1 \
//!   b1  BIRD  65002 --- a /31 for each of its sessions --- eth2  c1  Cambric  65100
//!   x1  no BGP      --- 192.0.2.48/28 -------------------- eth3 /
//! ```
//!
//! Proves: `show protocols all` and one line of the log say of each what is wrong, in words for whoever has to change
//! something; the log does not fill, whatever the peers go on trying; and the session that is right stays. The words are
//! those of `docs/troubleshooting-bgp.md`.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cambric_lab::{Node, poll};
use serde_json::Value;

use common::operator::{peers, type_in};
use common::{LabFolder, Need, in_lab, machine_has};

/// Longer than a passive side waits before it says that nobody came.
const LIMIT: Duration = Duration::from_secs(90);

/// How long the log is watched for more, and how many lines may come of all these peers together.
const WATCHED: Duration = Duration::from_secs(10);
const MOST_LINES: usize = 5;

/// What FRR is told to say when it shuts a session down (RFC 9003), and how it is shown: nothing in it may steer a
/// terminal.
const MAINTENANCE: &str = "line card swapped, back at noon";

/// Peers without a session, and what is said of each. More than one: whoever speaks first decides.
const WITHOUT_SESSION: [(&str, &[&str]); 15] = [
    ("their-as", &["sent OPEN Message Error: Bad Peer AS (2/2): peer announced AS 65011, configured 65010"]),
    ("our-as", &["received OPEN Message Error: Bad Peer AS (2/2): we announced AS 65100"]),
    (
        "no-family",
        &[
            "sent OPEN Message Error: Unsupported Capability (2/7): no common family: peer offered ipv4, \
             configured ipv6",
            "received OPEN Message Error: Unsupported Capability (2/7): we offered ipv6",
        ],
    ),
    (
        "hold-time",
        &["received OPEN Message Error: Unacceptable Hold Time (2/6): we proposed a hold time of 9 s"],
    ),
    ("both-passive", &["waiting for the peer to connect: we are passive, and nothing came"]),
    ("unknown-there", &["connection closed by the peer", "connection lost: Connection reset by peer"]),
    (
        "same-id",
        &[
            "sent OPEN Message Error: Bad BGP Identifier (2/3): peer announced identifier 192.0.2.101, which is \
             our own",
            "received OPEN Message Error: Bad BGP Identifier (2/3): we announced identifier 192.0.2.101",
        ],
    ),
    ("key-there", &["connect: no answer"]),
    ("key-here", &["connect: no answer; the peer may have no key or another one (TCP MD5)"]),
    ("other-key", &["connect: no answer; the peer may have no key or another one (TCP MD5)"]),
    (
        "ttl-here",
        &[
            "connect: no answer; the peer may be more than 1 hop away, or not send with TTL 255 (TTL security)",
            "connected, but no OPEN came; the peer may be more than 1 hop away, or not send with TTL 255 (TTL \
             security)",
            "peer connected with TTL 1; TTL security takes no less than 255",
        ],
    ),
    ("refuses", &["connect: Connection refused"]),
    ("nobody", &["connect: No route to host"]),
    ("nowhere", &["connect: Network is unreachable; it is on no link of ours, set multihop"]),
    ("far", &["connect: No route to host; it is on no link of ours, set multihop"]),
];

#[test]
fn what_is_set_up_wrong_is_said_in_words_and_once() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Bird, Need::Cambric]) {
        return;
    }
    in_lab(&LabFolder::copy_of("labs/broken"), |lab| {
        let (node, frr) = (lab.node("c1")?, lab.node("f1")?);
        for name in ["good", "shut", "full"] {
            poll::until(&format!("a session with {name}"), LIMIT, || is_up(&node, name))?;
        }
        let good_since = Instant::now();
        let shutdown = format!("neighbor 192.0.2.11 shutdown message {MAINTENANCE}");
        frr.run_ok(&["vtysh", "-c", "configure terminal", "-c", "router bgp", "-c", &shutdown])?;

        for (name, words) in WITHOUT_SESSION {
            says(&node, name, words)?;
        }
        let farewell = format!("received Cease: Administrative Shutdown (6/2) \"{MAINTENANCE}\"");
        says_of_a_session(&node, "shut", &farewell)?;
        ensure!(lines(&node, &["peer state changed", "peer=shut ", "to=Active"])? == 1, "one line tells it");
        // What the node sends vanishes there, what it hears it hears.
        // Whether a session comes of it for a hold time depends on who calls first.
        let says = "hold timer expired: nothing heard from the peer";
        let is_said = || peer(&node, "ttl-there").is_ok_and(|peer| peer["last_error"]["what"] == says);
        poll::until(&format!("ttl-there: {says}"), LIMIT, is_said)
            .with_context(|| format!("{:?}", peer(&node, "ttl-there")))?;
        let line = ["peer=ttl-there ", says];
        poll::until("ttl-there in the log", LIMIT, || lines(&node, &line).is_ok_and(|lines| lines > 0))?;
        a_full_limit_is_told(&node)?;
        // The one that is no peer.
        poll::until("a word of 192.0.2.18", LIMIT, || {
            lines(&node, &["connection not taken", "address=192.0.2.18 ", "no peer of ours has this address"])
                .is_ok_and(|lines| lines == 1)
        })
        .with_context(|| format!("{:?}", lines(&node, &["192.0.2.18"])))?;

        // Only the kernel's counters tell these apart.
        for why in
            ["where a key is set", "where no key is set", "of another key", "TTL security does not let in"]
        {
            let line = ["packets of TCP were dropped", why];
            poll::until(&format!("a hint: {why}"), LIMIT, || {
                lines(&node, &line).is_ok_and(|lines| lines == 1)
            })?;
        }

        let before = log(&node)?.lines().count();
        let start = Instant::now();
        poll::until("the log to be watched", LIMIT, || start.elapsed() > WATCHED)?;
        let text = log(&node)?;
        let more: Vec<&str> = text.lines().skip(before).collect();
        println!("\nlines in the log in {WATCHED:?}: {}", more.len());
        ensure!(more.len() <= MOST_LINES, "the log fills: {more:#?}");
        let age = peer(&node, "good")?["since_s"].as_u64().context("since_s")?;
        ensure!(is_up(&node, "good") && age + 2 > good_since.elapsed().as_secs(), "good is {age} s old");
        Ok(())
    });
}

/// Waits for one of the words, and holds what an operator sees and the log against it.
fn says(node: &Node, name: &str, words: &[&str]) -> Result<()> {
    let said = || peer(node, name).map(|peer| text(&peer["last_error"]["what"]));
    let is_said = || said().is_ok_and(|said| words.contains(&said.as_str()));
    poll::until(&format!("{name}: {words:?}"), LIMIT, is_said)
        .with_context(|| format!("{name} says {:?}", said()))?;
    ensure!(!is_up(node, name), "{name} has a session");
    let shown = type_in(node, &format!("cambric show protocols all {name}"))?;
    ensure!(words.iter().any(|words| shown.contains(words)), "{name}: {shown}");
    let logged = || words.iter().map(|words| told(node, name, words)).collect::<Result<Vec<_>>>();
    poll::until(&format!("{name} in the log"), LIMIT, || {
        logged().is_ok_and(|all| all.iter().sum::<usize>() > 0)
    })
    .with_context(|| format!("{name} is not in the log"))?;
    let times = logged()?;
    ensure!(times.iter().all(|times| *times <= 1), "{name}: in the log {times:?} times");
    Ok(())
}

/// Waits until that is why a session ended, and holds what an operator sees against it.
fn says_of_a_session(node: &Node, name: &str, words: &str) -> Result<()> {
    let said = || peer(node, name).map(|peer| text(&peer["last_error"]["what"]));
    poll::until(&format!("{name}: {words}"), LIMIT, || said().is_ok_and(|said| said.starts_with(words)))
        .with_context(|| format!("{name} says {:?}", said()))?;
    let shown = type_in(node, &format!("cambric show protocols all {name}"))?;
    ensure!(shown.contains(words), "{shown}");
    let line = ["peer state changed", &format!("peer={name} "), "to=Active", &words[..20]];
    poll::until(&format!("{name} in the log"), LIMIT, || lines(node, &line).is_ok_and(|count| count > 0))
}

fn a_full_limit_is_told(node: &Node) -> Result<()> {
    let full = || Ok::<_, anyhow::Error>(peer(node, "full")?["families"][0].clone());
    poll::until("one of three to be refused", LIMIT, || {
        full().is_ok_and(|family| family["accepted"] == 2 && family["refused"] == 1)
    })
    .with_context(|| format!("{:?}", full()))?;
    ensure!(is_up(node, "full"), "the session stays");
    type_in(node, "cambric show protocols all full")?;
    ensure!(type_in(node, "cambric show route refused full")?.contains("OverMaxPrefixes"), "no reason");
    ensure!(lines(node, &["max-prefix is reached", "192.0.2.12"])? == 1, "one line tells it");
    Ok(())
}

// --- looks ---------------------------------------------------------------------------------------------------

fn is_up(node: &Node, name: &str) -> bool {
    peer(node, name).is_ok_and(|peer| peer["state"] == "Established")
}

fn peer(node: &Node, name: &str) -> Result<Value> {
    peers(node)?.into_iter().find(|peer| peer["name"] == name).with_context(|| format!("no peer {name}"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn log(node: &Node) -> Result<String> {
    Ok(fs::read_to_string(node.log("cambricd.log"))?)
}

/// Lines of the log that have all of `words`.
fn lines(node: &Node, words: &[&str]) -> Result<usize> {
    Ok(log(node)?.lines().filter(|line| words.iter().all(|word| line.contains(word))).count())
}

/// How often the log has `words` about a peer.
fn told(node: &Node, name: &str, words: &str) -> Result<usize> {
    // A text with quotes stands in quotes of its own.
    lines(node, &["no session with a peer", &format!("peer={name} "), words])
}
