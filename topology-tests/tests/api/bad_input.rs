//! Objects that the schemas let through and that make no sense, and a kubeconfig that is no good: each is a problem that
//! names object and field, one line of the log, a condition where the object is ours, and an Event; what works keeps
//! working.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use cambric_lab::{Node, fabric, poll};
use serde_json::{Value, json};

use crate::cluster::{Cluster, problems, status};
use crate::{LIMIT, in_two_rack};

/// Something wrong, and what has to be said of it.
struct Wrong {
    object: Value,
    /// All of these, in one problem.
    says: &'static [&'static str],
    /// Type, status and reason of a condition of the object.
    condition: Option<(&'static str, &'static str, &'static str)>,
    /// Somebody tells it by an Event: of a Node its own daemon, and some of these have none.
    has_teller: bool,
}

#[test]
fn what_makes_no_sense_is_told_by_object_and_field_and_costs_nothing() {
    let kubeconfig = std::cell::OnceCell::new();
    in_two_rack(
        |prepared| {
            let path = prepared.folder.path().join("manifests/kubeconfig");
            kubeconfig.set(path).map_err(|path| anyhow::anyhow!("{} twice", path.display()))
        },
        |cluster| {
            let node = cluster.node("n11")?;
            poll::until("all sessions", LIMIT, || fabric::is_whole(&node))?;
            for wrong in wrong_objects() {
                is_told(cluster, &node, &wrong)?;
            }
            a_kubeconfig_is_broken_and_mended(
                cluster,
                &node,
                kubeconfig.get().context("the lab was prepared")?,
            )
        },
    );
}

fn wrong_objects() -> Vec<Wrong> {
    let ours = |kind: &str, name: &str, spec: Value| json!({ "apiVersion": "cambric.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    vec![
        Wrong {
            object: ours("BGPClusterConfig", "another", json!({ "mesh": "Disabled" })),
            says: &[
                "BGPClusterConfig another",
                "spec.nodeSelector",
                "Conflicted",
                "BGPClusterConfig default",
            ],
            condition: Some(("Conflicted", "True", "Conflicted")),
            has_teller: true,
        },
        Wrong {
            object: ours(
                "BGPFilter",
                "wrong",
                json!({ "rules": [{ "match": { "asPath": "(65101" }, "action": "Accept" }] }),
            ),
            says: &["BGPFilter wrong", "spec.rules[0].match.asPath", "unclosed group"],
            condition: Some(("Accepted", "False", "Invalid")),
            has_teller: true,
        },
        Wrong {
            object: ours(
                "BGPNodeOverride",
                "n99",
                json!({ "peers": [{ "name": "x", "address": "192.0.2.9", "asn": 65001, "peerConfig": "nobody" }] }),
            ),
            says: &["BGPNodeOverride n99", "spec.peers[0].peerConfig", "\"nobody\""],
            condition: Some(("Ready", "False", "Missing")),
            has_teller: true,
        },
        Wrong {
            object: json!({
                "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n98" },
                "spec": { "podCIDRs": ["10.244.98.0/24"] },
                "status": { "addresses": [{ "type": "InternalIP", "address": "224.0.0.1" }] },
            }),
            says: &["Node n98", "status.addresses[0].address", "224.0.0.1", "a multicast address"],
            condition: None,
            has_teller: false,
        },
        Wrong {
            object: json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": { "namespace": "default", "name": "odd" },
                "spec": { "podSelector": {}, "ingress": [{ "from": [{ "ipBlock": { "cidr": "10.0.0.0/33" } }] }] },
            }),
            says: &["default/odd", "spec.ingress[0].from[0].ipBlock.cidr", "10.0.0.0/33"],
            condition: None,
            has_teller: true,
        },
    ]
}

fn is_told(cluster: &Cluster<'_>, node: &Node, wrong: &Wrong) -> Result<()> {
    let Wrong { object, says, condition, has_teller } = wrong;
    let of = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text(object, "apiVersion"), text(object, "kind"));
    let before = sessions(node)?;
    cluster.server.put(object.clone());
    let is_it = |line: &String| says.iter().all(|word| line.contains(word));
    let told = poll::until_some(&format!("{kind} {} to be told", of("name")), LIMIT, || {
        Ok(problems(node)?.into_iter().find(is_it))
    })?;
    println!("{told}");
    let log = fs::read_to_string(node.log("cambricd.log"))?;
    let lines =
        log.lines().filter(|line| says.iter().all(|word| line.replace("\\\"", "\"").contains(word))).count();
    ensure!(lines == 1, "{lines} lines of the log tell of {kind} {}", of("name"));
    if let Some((name, state, reason)) = condition {
        let found = poll::until_some(&format!("the condition of {kind} {}", of("name")), LIMIT, || {
            let now = cluster.server.get(&api_version, &kind, &of("namespace"), &of("name"));
            let conditions =
                now.unwrap_or_default()["status"]["conditions"].as_array().cloned().unwrap_or_default();
            Ok(conditions.into_iter().find(|one| one["type"] == *name && one["status"] == *state))
        })?;
        println!("  condition: {name}={state}, reason {}: {}", found["reason"], found["message"]);
        ensure!(found["reason"] == *reason, "{found}");
    }
    if *has_teller {
        let event = poll::until_some(&format!("an Event about {kind} {}", of("name")), LIMIT, || {
            let events = cluster.server.list("events.k8s.io/v1", "Event");
            let is_about = |event: &Value| {
                event["note"].as_str().is_some_and(|note| says.iter().all(|word| note.contains(word)))
            };
            Ok(events.into_iter().find(is_about))
        })?;
        println!("  event: {} {}: {}", event["type"], event["reason"], event["note"]);
    }
    ensure!(sessions(node)? == before, "what works keeps working");
    cluster.server.delete(&api_version, &kind, &of("namespace"), &of("name"));
    poll::until("it to be forgotten", LIMIT, || problems(node).is_ok_and(|all| !all.iter().any(is_it)))
}

fn a_kubeconfig_is_broken_and_mended(cluster: &Cluster<'_>, node: &Node, path: &PathBuf) -> Result<()> {
    let good = fs::read_to_string(path)?;
    for (broken, says) in [
        (good.replace("\"current-context\":\"lab\"", "\"current-context\":\"moon\""), "moon"),
        (good.replace("http://127.0.0.1:6443", "not a url"), "clusters[lab].cluster.server"),
        ("{".to_owned(), "is no kubeconfig"),
    ] {
        ensure!(broken != good, "nothing was broken");
        fs::write(path, broken)?;
        let told = poll::until_some(&format!("{says} to be told"), LIMIT, || {
            Ok(problems(node)?.into_iter().find(|problem| problem.contains(says)))
        })?;
        println!("{told}");
        ensure!(fabric::is_whole(node), "what works keeps working");
    }
    fs::write(path, good)?;
    poll::until("no problem any more", LIMIT, || problems(node).is_ok_and(|all| all.is_empty()))?;
    cluster.server.put(crate::cluster::policy("after", json!({ "podSelector": {} })));
    cluster.have_policies(1)
}

fn text(object: &Value, field: &str) -> String {
    object[field].as_str().unwrap_or_default().to_owned()
}

fn sessions(node: &Node) -> Result<(Value, Value)> {
    let status = status(node)?;
    Ok((status["peers_established"].clone(), status["kernel"].clone()))
}
