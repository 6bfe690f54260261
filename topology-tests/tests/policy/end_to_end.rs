//! Policies decide who reaches whom: everybody asks everybody, after each change, until all is as it should be.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cambric_lab::reach::{Echo, Protocol, ask};
use cambric_lab::{Place, fabric, poll};
use serde_json::{Value, json};

use crate::cluster::{Cluster, NewPod, labelled, namespace, policy};
use crate::common::operator::type_in;
use crate::{LIMIT, in_policy_lab};

/// What is not answered by then is denied.
const ANSWER: Duration = Duration::from_millis(500);

const PODS: [NewPod<'_>; 5] = [
    NewPod { node: "c1", namespace: "default", name: "web", label: "app=web" },
    NewPod { node: "c1", namespace: "default", name: "client", label: "role=client" },
    NewPod { node: "c2", namespace: "default", name: "far-client", label: "role=client" },
    NewPod { node: "c2", namespace: "default", name: "stranger", label: "role=none" },
    NewPod { node: "c2", namespace: "other", name: "visitor", label: "role=client" },
];

/// Who answers.
const SERVERS: [&str; 3] = ["web", "stranger", "visitor"];

/// Who reaches whom: client, server, protocol.
type May<'a> = &'a dyn Fn(&str, &str, Protocol) -> bool;

#[test]
fn policies_decide_who_reaches_whom_on_two_nodes() {
    in_policy_lab(
        |_| {},
        |cluster| {
            let namespaces = [namespace("default", ("team", "a")), namespace("other", ("team", "b"))];
            cluster.write("namespaces", &namespaces)?;
            let matrix = Matrix::new(cluster)?;
            decide(cluster, &matrix)?;
            shown(cluster)?;
            cluster.remove("policies")?;
            matrix.becomes("no policy any more", &|_, _, _| true)
        },
    );
}

/// One policy after the other; each of them only adds.
fn decide(cluster: &Cluster<'_>, matrix: &Matrix<'_>) -> Result<()> {
    use Protocol::Tcp;
    // web is on c1, stranger and visitor on c2: their own node always reaches them.
    let own_node = |client: &str, server: &str| client == if server == "web" { "c1" } else { "c2" };
    let is_open = |server: &str| server == "visitor";
    matrix.becomes("no policy", &|_, _, _| true)?;

    let mut policies = vec![policy("deny-all", json!({ "podSelector": {}, "policyTypes": ["Ingress"] }))];
    cluster.write("policies", &policies)?;
    let denied = |client: &str, server: &str, _| own_node(client, server) || is_open(server);
    matrix.becomes("default-deny of ingress", &denied)?;

    let http = json!([{ "protocol": "TCP", "port": "http" }]);
    let from_clients = json!([{ "from": [{ "podSelector": labelled("role=client") }], "ports": http }]);
    policies.push(policy(
        "allow-clients",
        json!({ "podSelector": labelled("app=web"), "ingress": from_clients }),
    ));
    cluster.write("policies", &policies)?;
    let clients = |client: &str, server: &str, protocol| {
        denied(client, server, protocol) || (server, protocol) == ("web", Tcp) && client.ends_with("client")
    };
    matrix.becomes("clients by label, to a named port", &clients)?;

    let outside = json!([{ "from": [
        { "ipBlock": { "cidr": "192.0.2.128/25" } },
        { "ipBlock": { "cidr": "2001:db8::80/121" } },
    ] }]);
    policies.push(policy("allow-outside", json!({ "podSelector": labelled("app=web"), "ingress": outside })));
    cluster.write("policies", &policies)?;
    let blocks = |client: &str, server: &str, protocol| {
        clients(client, server, protocol) || (client, server) == ("f1", "web")
    };
    matrix.becomes("blocks of addresses", &blocks)?;

    let other = json!([{ "from": [{ "namespaceSelector": labelled("team=b") }] }]);
    policies.push(policy("allow-other", json!({ "podSelector": labelled("role=none"), "ingress": other })));
    cluster.write("policies", &policies)?;
    let namespaces = |client: &str, server: &str, protocol| {
        blocks(client, server, protocol) || (client, server) == ("visitor", "stranger")
    };
    matrix.becomes("a namespace by label", &namespaces)?;

    let to_web = json!([{ "to": [{ "podSelector": labelled("app=web") }], "ports": http }]);
    let isolated =
        json!({ "podSelector": labelled("role=client"), "policyTypes": ["Egress"], "egress": to_web });
    policies.push(policy("clients-to-web", isolated));
    cluster.write("policies", &policies)?;
    matrix.becomes("egress to a named port", &|client, server, protocol| {
        let may_send = !["client", "far-client"].contains(&client) || (server, protocol) == ("web", Tcp);
        may_send && namespaces(client, server, protocol)
    })
}

/// What an operator sees.
fn shown(cluster: &Cluster<'_>) -> Result<()> {
    let node = cluster.node("c1")?;
    for line in ["cambric show policy", "cambric show policy default/web", "cambric show status"] {
        type_in(&node, line)?;
    }
    let shown = cluster.show("c1", &[])?;
    let policies = shown["policy"]["policies"].as_array().cloned().unwrap_or_default();
    let names: BTreeSet<&str> = policies.iter().filter_map(|policy| policy["name"].as_str()).collect();
    let wanted = ["allow-clients", "allow-other", "allow-outside", "clients-to-web", "deny-all"];
    ensure!(names.iter().eq(wanted.map(|name| format!("default/{name}")).iter()), "{names:?}");
    let counted = |name: &str, direction: &str| {
        let named = policies.iter().find(|policy| policy["name"] == name);
        named.and_then(|policy| policy[direction]["packets"].as_u64()).unwrap_or_default()
    };
    ensure!(counted("default/allow-clients", "ingress") > 0, "{shown}");
    ensure!(counted("default/clients-to-web", "egress") > 0, "{shown}");
    let denied: Vec<&Value> = shown["policy"]["denied"].as_array().into_iter().flatten().collect();
    ensure!(denied.iter().any(|denied| denied["count"]["packets"].as_u64() > Some(0)), "{shown}");
    Ok(())
}

/// Everybody, and everything that can be asked.
struct Matrix<'a> {
    clients: Vec<Box<dyn Place + 'a>>,
    servers: Vec<(&'static str, Echo)>,
}

impl Matrix<'_> {
    fn new(cluster: &Cluster<'_>) -> Result<Self> {
        let (mut clients, mut servers) = (Vec::<Box<dyn Place>>::new(), Vec::new());
        for new in PODS {
            let pod = cluster.start(new)?;
            if SERVERS.contains(&new.name) {
                for address in pod.addresses()? {
                    servers.push((new.name, Echo::start(&pod, address)?));
                }
            }
            clients.push(Box::new(pod));
        }
        for name in ["c1", "c2", "f1"] {
            clients.push(Box::new(cluster.node(name)?));
        }
        fabric::whole(cluster.lab, LIMIT)?;
        Ok(Self { clients, servers })
    }

    /// Asks until it is so; prints how long that took.
    fn becomes(&self, when: &str, may: May<'_>) -> Result<()> {
        let (start, mut wrong, mut asked) = (Instant::now(), Vec::new(), 0);
        let waited = poll::until(when, LIMIT, || {
            (asked, wrong) = self.ask_all(may);
            wrong.is_empty()
        });
        ensure!(waited.is_ok(), "{when}: {wrong:#?}");
        println!("{when}: {asked} questions, all as they should be after {:.1?}", start.elapsed());
        Ok(())
    }

    /// Everybody asks all at once; gives how many questions that were, and what is not as it should be.
    fn ask_all(&self, may: May<'_>) -> (usize, Vec<String>) {
        let both =
            self.clients.iter().flat_map(|client| self.servers.iter().map(move |server| (client, server)));
        let questions: Vec<_> = both
            .filter(|(client, (name, _))| client.name() != *name)
            .flat_map(|cell| [Protocol::Tcp, Protocol::Udp].map(|protocol| (cell, protocol)))
            .collect();
        let wrong = std::thread::scope(|scope| {
            let asking: Vec<_> = questions
                .iter()
                .map(|((client, (name, echo)), protocol)| {
                    let wanted = may(client.name(), name, *protocol);
                    let asked =
                        scope.spawn(|| ask(client.as_ref(), *protocol, echo.address(), ANSWER).is_ok());
                    (
                        format!("{} to {name} {} by {protocol}", client.name(), family(echo.address().ip())),
                        wanted,
                        asked,
                    )
                })
                .collect();
            let judged = asking.into_iter().map(|(words, wanted, asked)| (words, wanted, asked.join().ok()));
            judged
                .filter(|(_, wanted, answered)| Some(*wanted) != *answered)
                .map(|(words, wanted, _)| {
                    format!("{words}: {}", if wanted { "no answer" } else { "answered" })
                })
                .collect()
        });
        (questions.len(), wrong)
    }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
