//! What a switch hears of a node by BGPAdvertisements: `labs/one-switch`, with manifests that are written while it runs.
//!
//! Proves, as FRR shows it: ranges of pods with communities, MED and a longer path; an aggregate in place of what lies in
//! it, and that again when the aggregate goes, with an unreachable route of the kernel meanwhile; addresses of services, those
//! of a service with `externalTrafficPolicy: Local` only while an endpoint of this node is ready. No session ends by any
//! of these edits, and the node says of each route why it announces it.

mod common;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cambric_lab::{Lab, Node, fabric, poll};
use serde_json::Value;

use common::operator::sessions;
use common::{LabFolder, Need, PEERS_OF_ONE_SWITCH, in_lab, machine_has};

const LIMIT: Duration = Duration::from_secs(60);

const PODS: &str = "198.51.100.0/26";
const AGGREGATE: &str = "198.51.100.0/25";
const CLUSTER_IP: &str = "203.0.113.10/32";
const BALANCER: &str = "203.0.113.20/32";

const DECLARED: &str = "
apiVersion: cambric.dev/v1alpha1
kind: BGPClusterConfig
metadata:
  name: default
spec:
  asn: 65100
  podCIDRs: [198.51.100.0/24, '2001:db8:100::/48']
  serviceCIDRs: [203.0.113.0/24]
  mesh: Disabled
---
apiVersion: cambric.dev/v1alpha1
kind: BGPPeerConfig
metadata:
  name: switch
spec:
  holdTimeSeconds: 9
  keepaliveSeconds: 3
";

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {expose: 'yes'}}
spec: {clusterIPs: [203.0.113.10], externalTrafficPolicy: Local}
status: {loadBalancer: {ingress: [{ip: 203.0.113.20}]}}
";

struct Rig<'a> {
    folder: &'a LabFolder,
    node: Node,
    switch: Node,
}

impl Rig<'_> {
    /// Puts a manifest into place at once.
    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.path().join("manifests").join(name);
        let aside = self.folder.path().join(format!("{name}.new"));
        fs::write(&aside, text)?;
        Ok(fs::rename(aside, path)?)
    }

    fn advertise(&self, entries: &str) -> Result<()> {
        let text = format!(
            "apiVersion: cambric.dev/v1alpha1\nkind: BGPAdvertisement\nmetadata: {{name: all}}\n\
             spec: {{advertised: [{entries}]}}\n"
        );
        self.write("advertisement.yaml", &text)
    }

    fn endpoint(&self, conditions: &str) -> Result<()> {
        let text = format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
             metadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}\n\
             endpoints: [{{addresses: [198.51.100.5], nodeName: c1, conditions: {{{conditions}}}}}]\n"
        );
        self.write("slice.yaml", &text)
    }

    /// The path that the switch has to a prefix, if it has one.
    fn path(&self, prefix: &str) -> Option<Value> {
        let command = format!("show bgp ipv4 unicast {prefix} json");
        let shown = self.switch.run_ok(&["vtysh", "-c", &command]).ok()?;
        let shown: Value = serde_json::from_str(&shown).ok()?;
        shown["paths"].as_array()?.first().cloned()
    }

    fn holds(&self, what: &str, prefixes: &[&str], not: &[&str]) -> Result<()> {
        poll::until(what, LIMIT, || {
            prefixes.iter().all(|prefix| self.path(prefix).is_some())
                && not.iter().all(|prefix| self.path(prefix).is_none())
        })
    }

    fn has_unreachable(&self, prefix: &str) -> Result<bool> {
        let routes = self.node.run_ok(&["ip", "route", "show", "type", "unreachable", "proto", "203"])?;
        Ok(routes.lines().any(|line| line.split_whitespace().any(|word| word == prefix)))
    }

    /// Of the only path to a prefix, as the node shows it.
    fn shown(&self, prefix: &str) -> Result<Value> {
        let shown = fabric::ask(&self.node, &["show", "route", prefix, "all"])?;
        let routes = shown["routes"].as_array().cloned().unwrap_or_default();
        let route = routes.into_iter().find(|route| route["prefix"] == prefix);
        Ok(route.with_context(|| format!("{prefix}: {shown}"))?["paths"][0].clone())
    }
}

#[test]
fn a_switch_hears_what_advertisements_say_and_no_session_ends_by_an_edit() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric]) {
        return;
    }
    let folder = LabFolder::copy_of("labs/one-switch");
    folder.write("manifests/cluster.yaml", DECLARED);
    folder.write("manifests/peers.yaml", PEERS_OF_ONE_SWITCH);
    in_lab(&folder, |lab: &Lab| {
        let rig = Rig { folder: &folder, node: lab.node("c1")?, switch: lab.node("f1")? };
        rig.holds("the range of pods at the switch", &[PODS], &[])?;
        let before = sessions(&rig.node)?;
        ensure!(before.len() == 2, "{before:?}");
        attributes(&rig)?;
        aggregate(&rig)?;
        services(&rig)?;
        let now = sessions(&rig.node)?;
        ensure!(now == before, "sessions are others: {before:#?}, now {now:#?}");
        println!("{} sessions stood through all of it", now.len());
        Ok(())
    });
}

fn attributes(rig: &Rig<'_>) -> Result<()> {
    rig.advertise(
        "{what: Pods, attributes: {med: 7, prepend: 2, communities: ['65001:100', no-export], largeCommunities: ['65001:1:2']}}",
    )?;
    let path = poll::until_some("the pods with a community", LIMIT, || {
        Ok(rig.path(PODS).filter(|path| path["community"]["string"].is_string()))
    })?;
    println!("{PODS} at the switch: {path}");
    ensure!(path["community"]["string"] == "65001:100 no-export", "{path}");
    ensure!(path["largeCommunity"]["string"] == "65001:1:2", "{path}");
    ensure!(path["aspath"]["string"] == "65100 65100 65100" && path["metric"] == 7, "{path}");
    ensure!(rig.shown(PODS)?["source"] == "Pods", "{}", rig.shown(PODS)?);

    rig.advertise("{what: Pods}")?;
    poll::until("the pods as they are", LIMIT, || {
        rig.path(PODS).is_some_and(|path| path["aspath"]["string"] == "65100" && path["community"].is_null())
    })
}

fn aggregate(rig: &Rig<'_>) -> Result<()> {
    rig.advertise(&format!(
        "{{what: Aggregates, aggregates: [{AGGREGATE}], attributes: {{communities: ['65001:7']}}}}"
    ))?;
    rig.holds("the aggregate in place of the pods", &[AGGREGATE], &[PODS])?;
    let path = rig.path(AGGREGATE).context("it is there")?;
    println!("{AGGREGATE} at the switch: {path}");
    ensure!(path["community"]["string"] == "65001:7", "{path}");
    ensure!(rig.has_unreachable(AGGREGATE)? && rig.has_unreachable(PODS)?, "nothing of it may loop");
    ensure!(rig.shown(AGGREGATE)?["source"] == "Aggregate", "{}", rig.shown(AGGREGATE)?);

    rig.advertise("{what: Pods}")?;
    rig.holds("the pods in place of the aggregate", &[PODS], &[AGGREGATE])?;
    poll::until("no route of the aggregate", LIMIT, || {
        rig.has_unreachable(AGGREGATE).is_ok_and(|is_there| !is_there)
    })?;
    ensure!(rig.has_unreachable(PODS)?, "the range of pods stays");
    Ok(())
}

fn services(rig: &Rig<'_>) -> Result<()> {
    rig.write("service.yaml", SERVICE)?;
    rig.endpoint("ready: false")?;
    rig.advertise(
        "{what: Services, serviceAddresses: [ClusterIP, LoadBalancerIP], serviceLabels: {expose: 'yes'}}",
    )?;
    rig.holds("a service without a ready endpoint", &[PODS, CLUSTER_IP], &[BALANCER])?;
    rig.endpoint("ready: true, serving: true")?;
    rig.holds("one with a ready endpoint", &[CLUSTER_IP, BALANCER], &[])?;
    println!("{BALANCER} at the switch: {}", rig.path(BALANCER).context("it is there")?);
    ensure!(rig.shown(BALANCER)?["source"] == "Services", "{}", rig.shown(BALANCER)?);
    ensure!(!rig.has_unreachable(BALANCER)?, "the host itself must reach it");
    rig.endpoint("ready: false, serving: true, terminating: true")?;
    rig.holds("an endpoint that goes away", &[CLUSTER_IP], &[BALANCER])?;
    rig.advertise("{what: Pods}")?;
    rig.holds("no service is advertised", &[PODS], &[CLUSTER_IP, BALANCER])
}
