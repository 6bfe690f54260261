//! What a pod waits for: how long with 250 policies, and what becomes of it with the daemon up, hung and away.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cambric_lab::{Node, cni};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::cluster::{Cluster, NewPod, labelled, policy};
use crate::{CAMBRICD, in_policy_lab};

const POLICIES: usize = 250;
const PODS: usize = 100;
/// The plugin gives up after 1.1 s; its process and a busy machine take time, too.
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn the_gate_is_quick_and_never_blocks_for_long() {
    in_policy_lab(
        |_| {},
        |cluster| {
            cluster.write("policies", &policies())?;
            let new = |name| NewPod { node: "c1", namespace: "default", name, label: "app=web" };
            let names: Vec<String> = (0..PODS).map(|number| format!("web-{number}")).collect();
            let tried = ["up", "hung", "away"].iter().flat_map(|is| GATES.map(|gate| format!("{gate}-{is}")));
            let tried: Vec<String> = tried.collect();
            let objects: Vec<Value> = names.iter().chain(&tried).map(|name| new(name).object(&[])).collect();
            cluster.write("pods", &objects)?;
            let node = cluster.node("c1")?;
            cluster.has_policies("c1", POLICIES)?;
            how_quick(cluster, &node, &names)?;
            with_the_daemon(cluster, &node, "up", [true, true, true])?;
            node.kill(CAMBRICD, Signal::SIGSTOP)?;
            with_the_daemon(cluster, &node, "hung", [true, true, false])?;
            node.kill(CAMBRICD, Signal::SIGCONT)?;
            node.kill(CAMBRICD, Signal::SIGKILL)?;
            with_the_daemon(cluster, &node, "away", [true, true, false])
        },
    );
}

const GATES: [&str; 3] = ["off", "prefer", "require"];

/// Each selects all the pods and allows something else.
fn policies() -> Vec<Value> {
    let block = |number: usize| json!({ "ipBlock": { "cidr": format!("10.1.{number}.0/24") } });
    let allow =
        |number| json!({ "podSelector": labelled("app=web"), "ingress": [{ "from": [block(number)] }] });
    (0..POLICIES).map(|number| policy(&format!("allow-{number}"), allow(number))).collect()
}

/// Asks as the plugin does, for pods that were wired without asking; and times whole ADDs.
fn how_quick(cluster: &Cluster<'_>, node: &Node, names: &[String]) -> Result<()> {
    let (asked, added) = names.split_at(names.len() / 2);
    set_gate(node, "off")?;
    let (mut off, mut questions) = (Vec::new(), Vec::new());
    for name in asked {
        let (pod, took) = timed(|| Ok(cluster.lab.add_pod("c1", name)?.0))?;
        off.push(took);
        let question = json!({
            "verb": "place", "interface": cluster.link_of(&pod)?, "namespace": "default", "name": name,
            "addresses": pod.addresses()?,
        });
        questions.push(timed(|| place(node, &question))?.1);
    }
    set_gate(node, "prefer")?;
    let prefer = added.iter().map(|name| Ok(timed(|| cluster.lab.add_pod("c1", name))?.1));
    let prefer: Vec<Duration> = prefer.collect::<Result<_>>()?;
    println!(
        "gate with {POLICIES} policies that select the pod, {} questions: {}",
        questions.len(),
        spread(&mut questions)
    );
    println!(
        "whole pods (namespace, ADD in a debug build): gate off {}, prefer {}",
        spread(&mut off),
        spread(&mut prefer.clone())
    );
    ensure!(questions.iter().all(|took| *took < Duration::from_secs(1)), "{questions:?}");
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    Ok((work()?, start.elapsed()))
}

fn spread(times: &mut [Duration]) -> String {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    format!("p50 {:.2?}, p99 {:.2?}, most {:.2?}", at(50), at(99), at(100))
}

/// The plugin's question.
fn place(node: &Node, question: &Value) -> Result<()> {
    let mut stream = UnixStream::connect(node.path("/run/cambric/cambricd.sock"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{question}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    let answer: Value = serde_json::from_str(&answer).with_context(|| format!("answer {answer:?}"))?;
    ensure!(answer["code"] == 24, "{answer}");
    Ok(())
}

/// As the daemon writes it with `--policy-gate`.
fn set_gate(node: &Node, gate: &str) -> Result<()> {
    let path = node.path(cni::CONFLIST);
    let mut conflist: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
    conflist["plugins"][0]["policyGate"] = json!(gate);
    Ok(std::fs::write(&path, conflist.to_string())?)
}

/// Starts a pod under each gate; which of them succeed, and that none takes longer than it may.
fn with_the_daemon(cluster: &Cluster<'_>, node: &Node, is: &str, starts: [bool; 3]) -> Result<()> {
    for (gate, starts) in GATES.into_iter().zip(starts) {
        set_gate(node, gate)?;
        let begun = Instant::now();
        let added = cluster.lab.add_pod("c1", &format!("{gate}-{is}"));
        let took = begun.elapsed();
        let said = match &added {
            Ok(_) => "started".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        println!("daemon {is}, gate {gate}: {said} ({took:.2?})");
        ensure!(added.is_ok() == starts, "daemon {is}, gate {gate}: {said}");
        ensure!(
            added.as_ref().err().is_none_or(|error| cni::code_of(error) == Some(cni::TRY_AGAIN_LATER)),
            "{said}"
        );
        ensure!(took < PATIENCE, "daemon {is}, gate {gate}: {took:?}");
    }
    Ok(())
}
