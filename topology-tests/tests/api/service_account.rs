//! As in a pod: no kubeconfig, but the service account that the kubelet puts there, and a server with TLS.

use std::fs;
use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use cambric_apiserver_double::{Certificates, Listener};
use cambric_deploy::NAMESPACE;
use cambric_lab::place::in_netns;
use cambric_lab::{Node, fabric, poll};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::cluster::{Cluster, account, policy, problems, status};
use crate::{CAMBRICD, LIMIT, with_server};

const SERVER: &str = "127.0.0.1:6444";
/// `/var/run` is a link to it.
const SERVICE_ACCOUNT: &str = "/run/secrets/kubernetes.io/serviceaccount";

#[test]
fn a_daemon_in_a_pod_lives_by_its_service_account() {
    with_server(
        "labs/one-switch",
        |_| Ok(()),
        |cluster| {
            let node = cluster.node("c1")?;
            let certificates = Certificates::make(&["127.0.0.1"])?;
            cluster.server.add_token("first", account("c1"));
            kubelet_writes(&node, &certificates, "first")?;
            let listener = listen(cluster, &node, &certificates)?;
            node.kill(CAMBRICD, Signal::SIGTERM)?;
            poll::until("the daemon to end", LIMIT, || node.daemon_pid(CAMBRICD).is_none())?;
            let host = "KUBERNETES_SERVICE_HOST=127.0.0.1";
            let words = ["env", host, "KUBERNETES_SERVICE_PORT=6444", CAMBRICD, "--source", "kube"];
            let log = fs::File::create(node.log("cambricd.log"))?;
            let _daemon = node.spawn(&words, log.into())?;
            follows(cluster, &node, "one").context("by its service account")?;
            let server = status(&node)?["cluster"]["server"].clone();
            ensure!(server == "https://127.0.0.1:6444", "it follows {server}");

            cluster.server.add_token("second", account("c1"));
            kubelet_writes(&node, &certificates, "second")?;
            cluster.server.remove_token("first");
            cluster.server.restart();
            follows(cluster, &node, "two").context("after the token was renewed")?;

            let renewed = Certificates::make(&["127.0.0.1"])?;
            drop(listener);
            kubelet_writes(&node, &renewed, "second")?;
            let _listener = listen(cluster, &node, &renewed)?;
            follows(cluster, &node, "three").context("after another authority")?;
            println!("token and authority were renewed: policies are followed, no problem is left");
            Ok(())
        },
    );
}

/// As it does for a projected volume: a file in the place of another.
fn kubelet_writes(node: &Node, certificates: &Certificates, token: &str) -> Result<()> {
    let folder = node.path(SERVICE_ACCOUNT);
    fs::create_dir_all(&folder)?;
    for (name, text) in [("ca.crt", &*certificates.authority()), ("token", token), ("namespace", NAMESPACE)] {
        let next = folder.join(format!("..{name}"));
        fs::write(&next, text)?;
        fs::rename(&next, folder.join(name))?;
    }
    Ok(())
}

fn listen(cluster: &Cluster<'_>, node: &Node, certificates: &Certificates) -> Result<Listener> {
    let bound = in_netns(node, || TcpListener::bind(SERVER))?;
    cluster.server.listen_tls(bound.with_context(|| format!("binding {SERVER}"))?, certificates)
}

/// Waits until a new policy is in force, routes stand and nothing is wrong.
fn follows(cluster: &Cluster<'_>, node: &Node, name: &str) -> Result<()> {
    let policies = || status(node).ok()?["policy"]["policies"].as_u64();
    let before = poll::until_some("the daemon to answer", LIMIT, || Ok(policies()))?;
    cluster.server.put(policy(name, json!({ "podSelector": { "matchLabels": { "app": name } } })));
    poll::until(&format!("policy {name} to be in force"), LIMIT, || {
        status(node).is_ok_and(|status| status["policy"]["policies"] == before + 1 && status["ready"] == true)
    })?;
    poll::until("no problem", LIMIT, || problems(node).is_ok_and(|problems| problems.is_empty()))
        .with_context(|| format!("{:?}", problems(node)))?;
    ensure!(fabric::is_whole(node), "its routes stand");

    Ok(())
}
