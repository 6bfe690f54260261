//! A cluster that exists only here: many namespaces, policies of all kinds, pods of both families.
//!
//! Nothing is left to chance: the same sizes give the same objects.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use cambric_policy::change::{Change, Endpoint, Key};
use cambric_policy::program::IfName;
use serde_json::{Value, json};

use crate::node;
use crate::objects;

/// How much there is of what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) namespaces: usize,
    pub(crate) policies: usize,
    pub(crate) pods: usize,
    /// Pods of this node among them: the first.
    pub(crate) local: usize,
}

/// Values of the label `app` in a namespace.
const APPS: usize = 10;
/// Values of the label `tier`.
const TIERS: usize = 3;
/// Values of the label `group` of namespaces.
const GROUPS: usize = 8;

impl Sizes {
    /// All objects, and the endpoints of the local pods.
    pub(crate) fn changes(self) -> Vec<Change> {
        let namespaces = (0..self.namespaces).map(|n| self.namespace(n, 0));
        let pods = (0..self.pods).map(|n| self.pod(n, Labels::default()));
        let endpoints = (0..self.local).map(|n| Change::Endpoint(self.veth(n), Some(self.endpoint(n))));
        let policies = (0..self.policies).map(|n| self.policy(n, Edit::default()));
        namespaces.chain(pods).chain(endpoints).chain(policies).collect()
    }

    /// A namespace, its group so many further than usual.
    pub(crate) fn namespace(self, n: usize, further: usize) -> Change {
        objects::namespace(
            &self.namespace_name(n),
            &[("group", &format!("group-{}", (n + further) % GROUPS))],
        )
    }

    /// A pod; those with numbers from `pods` on are more than there are at first.
    pub(crate) fn pod(self, n: usize, labels: Labels) -> Change {
        let app = format!("app-{}", (self.app(n) + labels.app_further) % APPS);
        let tier = format!("tier-{}", (n + labels.tier_further) % TIERS);
        let node = if n < self.local { node::NAME.to_owned() } else { format!("node-{}", n % 50) };
        let key = self.pod_key(n);
        let pod = objects::Pod {
            namespace: &key.namespace,
            name: &key.name,
            labels: &[("app", &app), ("tier", &tier)],
            node: &node,
            addresses: &addresses(n),
        };
        pod.change()
    }

    /// Namespace and name of a pod.
    pub(crate) fn pod_key(self, n: usize) -> Key {
        Key::new(&self.namespace_name(n), &format!("pod-{n}"))
    }

    /// The node's end of a local pod's veth.
    pub(crate) fn veth(self, n: usize) -> IfName {
        Arc::from(format!("cam{n:08x}"))
    }

    /// A local pod as the plugin tells it.
    pub(crate) fn endpoint(self, n: usize) -> Endpoint {
        Endpoint { pod: Some(self.pod_key(n).into()), addresses: BTreeSet::from(addresses(n)) }
    }

    /// The policy with this number. Of each namespace's policies every tenth selects the same pods.
    pub(crate) fn policy(self, n: usize, edit: Edit) -> Change {
        let of_namespace = n / self.namespaces;
        let app = |further: usize| json!({"matchLabels": {"app": format!("app-{}", (of_namespace + further) % APPS)}});
        let (types, ingress, egress) = rules(n, of_namespace / APPS, edit, app);
        let spec = json!({"podSelector": app(0), "policyTypes": types, "ingress": ingress, "egress": egress});
        objects::policy(&self.namespace_name(n), &format!("policy-{n}"), spec)
    }

    /// Number of a policy that selects this pod: the one of the given kind (0 to 9), if there are so many policies.
    pub(crate) fn policy_of(self, pod: usize, kind: usize) -> Option<usize> {
        let of_namespace = kind * APPS + self.app(pod);
        Some(of_namespace * self.namespaces + pod % self.namespaces).filter(|policy| *policy < self.policies)
    }

    fn namespace_name(self, n: usize) -> String {
        format!("team-{}", n % self.namespaces)
    }

    fn app(self, pod: usize) -> usize {
        (pod / self.namespaces + pod) % APPS
    }
}

/// How a pod's labels differ from those it has at first.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Labels {
    pub(crate) app_further: usize,
    pub(crate) tier_further: usize,
}

/// How a policy differs from what it is at first.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Edit {
    /// Added to the ports of its rules.
    pub(crate) port: u16,
    /// Its pod peers have this other value of a label that nobody had asked for.
    pub(crate) peer: Option<usize>,
}

/// Types, ingress and egress of a policy of one of ten kinds.
fn rules(n: usize, kind: usize, edit: Edit, app: impl Fn(usize) -> Value) -> (Value, Value, Value) {
    let port = 1024 + (n % 30_000) as u16 + edit.port;
    let tcp = |port: u16| json!([{"protocol": "TCP", "port": port}]);
    let tier = match edit.peer {
        None => json!({"matchLabels": {"tier": format!("tier-{}", n % TIERS)}}),
        Some(peer) => json!({"matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["tier-0", format!("tier-{}", 1 + peer % 2), format!("other-{peer}")]},
        ]}),
    };
    let group = json!({"matchLabels": {"group": format!("group-{}", n % GROUPS)}});
    let block = |cidr: &str, except: &[&str]| json!([{"ipBlock": {"cidr": cidr, "except": except}}]);
    let (ingress, egress) = match kind % 10 {
        0 => (json!([]), json!([])),
        1 => (json!([{"from": [{"podSelector": app(1)}], "ports": tcp(port)}]), Value::Null),
        2 => (
            json!([{"from": [{"namespaceSelector": group, "podSelector": tier}], "ports": tcp(port)}]),
            Value::Null,
        ),
        3 => {
            let ports = json!([{"protocol": "TCP", "port": port, "endPort": port + 100}]);
            (json!([{"from": block("10.0.0.0/8", &["10.1.0.0/16"]), "ports": ports}]), Value::Null)
        }
        4 => (Value::Null, json!([{"to": [{"podSelector": tier}], "ports": tcp(port)}])),
        5 => {
            let dns = json!({"matchLabels": {"kubernetes.io/metadata.name": "team-0"}});
            let ports = json!([{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]);
            (Value::Null, json!([{"to": [{"namespaceSelector": dns}], "ports": ports}]))
        }
        6 => (Value::Null, json!([{"to": block("0.0.0.0/0", &["169.254.169.254/32"]), "ports": tcp(port)}])),
        7 => {
            let monitor = json!([{"namespaceSelector": {}, "podSelector": app(2)}]);
            (json!([{"from": monitor, "ports": [{"protocol": "TCP", "port": "web"}]}]), Value::Null)
        }
        8 => (
            Value::Null,
            json!([{"to": [{"podSelector": app(3)}], "ports": [{"protocol": "TCP", "port": "web"}]}]),
        ),
        _ => (
            json!([
                {"from": [{"podSelector": tier}, {"namespaceSelector": group}], "ports": tcp(port)},
                {"from": [{"podSelector": {}}], "ports": [{"protocol": "UDP", "port": port}]},
            ]),
            Value::Null,
        ),
    };
    let types = [("Ingress", &ingress), ("Egress", &egress)];
    let types = types.iter().filter(|(_, rules)| !rules.is_null()).map(|(name, _)| *name).collect::<Vec<_>>();
    (json!(types), ingress, egress)
}

/// Both addresses of a pod.
fn addresses(n: usize) -> [IpAddr; 2] {
    let number = u32::try_from(n).unwrap_or(u32::MAX);
    let ipv4 = Ipv4Addr::from(0x0a40_0001 + number);
    let ipv6 = Ipv6Addr::from((0xfd00_u128 << 112) + 1 + u128::from(number));
    [ipv4.into(), ipv6.into()]
}
