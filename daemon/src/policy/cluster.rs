//! What policies are made from, as the source shows it; and what differs between two views of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use cambric_policy::change::{Change, Key, PolicyObject};
use cambric_policy::pod::{Life, Pod};
use k8s_openapi::api::core::v1::Namespace;

use crate::objects::Objects;

/// A complete view.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cluster {
    namespaces: BTreeMap<Arc<str>, Arc<Namespace>>,
    pods: BTreeMap<Key, Arc<Pod>>,
    policies: BTreeMap<Key, Arc<PolicyObject>>,
    peers: BTreeSet<IpAddr>,
}

impl Cluster {
    /// With `peers` as the BGP peers of this node. Nothing while something is hidden: a policy may be what nobody has
    /// seen.
    pub(crate) fn of(objects: &Objects, peers: BTreeSet<IpAddr>) -> Option<Cluster> {
        let Objects { namespaces, pods, policies, unknown, unknown_to_policy, .. } = objects;
        let whole = || Cluster {
            namespaces: namespaces.clone(),
            pods: pods.clone(),
            policies: policies.clone(),
            peers,
        };
        (unknown.is_empty() && unknown_to_policy.is_empty()).then(whole)
    }

    /// Why a pod that is known has no link that could be judged, in words: it has no address of its own.
    pub(crate) fn why_unjudged(&self, key: &Key) -> Option<String> {
        match self.pods.get(key)?.life {
            Life::OwnNetwork => None,
            Life::HostNetwork => Some(format!("its Pod object {key} is of the host network")),
            life @ (Life::Succeeded | Life::Failed) => {
                Some(format!("its Pod object {key} has ended: {life:?}"))
            }
        }
    }

    /// In words, what would be otherwise with `objects`.
    pub(crate) fn differences(&self, objects: &Objects) -> Vec<String> {
        let Some(now) = Cluster::of(objects, self.peers.clone()) else { return Vec::new() };
        let word = |change: Change| {
            let (what, is_there, was_there) = match change {
                Change::Namespace(name, now) => {
                    (format!("Namespace {name}"), now.is_some(), self.namespaces.contains_key(&name))
                }
                Change::Pod(key, now) => (format!("Pod {key}"), now.is_some(), self.pods.contains_key(&key)),
                Change::Policy(key, now) => {
                    (format!("NetworkPolicy {key}"), now.is_some(), self.policies.contains_key(&key))
                }
                Change::Endpoint(..) | Change::BgpPeers(_) => return None,
            };
            let becomes = match (was_there, is_there) {
                (_, false) => "goes",
                (true, true) => "changes",
                (false, true) => "is new",
            };
            Some(format!("{what} {becomes}"))
        };
        self.changes_to(&now).into_iter().filter_map(word).collect()
    }

    /// What somebody must be told who knows this, so that he knows `now`: what comes before what goes.
    pub(crate) fn changes_to(&self, now: &Cluster) -> Vec<Change> {
        let namespaces = differences(&self.namespaces, &now.namespaces);
        let policies = differences(&self.policies, &now.policies);
        let pods = differences(&self.pods, &now.pods);
        let peers = (self.peers != now.peers).then(|| Change::BgpPeers(now.peers.clone()));
        let namespaces = namespaces.map(|(name, namespace)| Change::Namespace(name, namespace));
        let policies = policies.map(|(key, policy)| Change::Policy(key, policy));
        let pods = pods.map(|(key, pod)| Change::Pod(key, pod));
        let (gone, come): (Vec<Change>, Vec<Change>) =
            namespaces.chain(policies).chain(pods).chain(peers).partition(is_end);
        come.into_iter().chain(gone).collect()
    }
}

fn is_end(change: &Change) -> bool {
    matches!(change, Change::Namespace(_, None) | Change::Pod(_, None) | Change::Policy(_, None))
}

/// What of `now` is new or another, and `None` for what is only in `before`. Views share what did not change.
fn differences<K: Ord + Clone, V: PartialEq>(
    before: &BTreeMap<K, Arc<V>>,
    now: &BTreeMap<K, Arc<V>>,
) -> impl Iterator<Item = (K, Option<Arc<V>>)> {
    let is_same = |key: &K, value: &Arc<V>| {
        before.get(key).is_some_and(|before| Arc::ptr_eq(before, value) || before == value)
    };
    let come = now.iter().filter(move |(key, value)| !is_same(key, value));
    let come = come.map(|(key, value)| (key.clone(), Some(Arc::clone(value))));
    let gone = before.keys().filter(|key| !now.contains_key(*key)).map(|key| (key.clone(), None));
    come.chain(gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::Problem;

    fn pod(labels: &[(&str, &str)]) -> Arc<Pod> {
        Arc::new(Pod { labels: labels.iter().copied().collect(), ..Pod::default() })
    }

    fn policy() -> Arc<PolicyObject> {
        Arc::new(PolicyObject { object: Default::default(), faults: Vec::new() })
    }

    fn words(before: &Cluster, now: &Cluster) -> Vec<String> {
        let word = |change| match change {
            Change::Namespace(name, namespace) => format!("namespace {name}: {}", namespace.is_some()),
            Change::Pod(key, pod) => format!("pod {key}: {}", pod.is_some()),
            Change::Policy(key, policy) => format!("policy {key}: {}", policy.is_some()),
            Change::BgpPeers(peers) => format!("peers: {peers:?}"),
            Change::Endpoint(..) => "endpoint".to_owned(),
        };
        before.changes_to(now).into_iter().map(word).collect()
    }

    #[test]
    fn only_what_differs_is_told_and_what_goes_at_the_end() {
        let objects = Objects {
            namespaces: [("a".into(), Arc::default()), ("b".into(), Arc::default())].into(),
            pods: [(Key::new("a", "one"), pod(&[])), (Key::new("a", "two"), pod(&[("k", "v")]))].into(),
            policies: [(Key::new("a", "p"), policy())].into(),
            ..Objects::default()
        };
        let peers: BTreeSet<IpAddr> = [[192, 0, 2, 1].into()].into();
        let before = Cluster::of(&objects, peers.clone()).expect("nothing is hidden");
        assert_eq!(
            words(&Cluster::default(), &before),
            [
                "namespace a: true",
                "namespace b: true",
                "policy a/p: true",
                "pod a/one: true",
                "pod a/two: true",
                "peers: {192.0.2.1}",
            ]
        );
        assert_eq!(words(&before, &before.clone()), [""; 0]);

        let mut now = objects.clone();
        now.namespaces.remove("b");
        now.policies = [(Key::new("a", "q"), policy())].into();
        now.pods.insert(Key::new("a", "one"), pod(&[("k", "v")]));
        // The same, read again.
        now.pods.insert(Key::new("a", "two"), pod(&[("k", "v")]));
        now.pods.insert(Key::new("b", "one"), pod(&[]));
        let now = Cluster::of(&now, BTreeSet::new()).expect("nothing is hidden");
        assert_eq!(
            words(&before, &now),
            [
                "policy a/q: true",
                "pod a/one: true",
                "pod b/one: true",
                "peers: {}",
                "namespace b: false",
                "policy a/p: false",
            ]
        );
    }

    #[test]
    fn a_pod_that_is_not_judged_though_it_is_known_says_why() {
        let lives = [Life::OwnNetwork, Life::Succeeded, Life::HostNetwork];
        let pods = lives.map(|life| Pod { life, ..Pod::default() });
        let key = |at: usize| Key::new("a", ["runs", "done", "host"][at]);
        let pods = pods.into_iter().enumerate().map(|(at, pod)| (key(at), Arc::new(pod))).collect();
        let objects = Objects { pods, ..Objects::default() };
        let cluster = Cluster::of(&objects, BTreeSet::new()).expect("nothing is hidden");
        let words = [0, 1, 2].map(|at| cluster.why_unjudged(&key(at)).unwrap_or_default());
        assert_eq!(
            words,
            [
                "",
                "its Pod object a/done has ended: Succeeded",
                "its Pod object a/host is of the host network"
            ]
        );
    }

    #[test]
    fn a_view_that_hides_something_is_none() {
        let unknown = vec![Problem::new("a.yaml", "cannot be read")];
        let hidden = Objects { unknown: unknown.clone(), ..Objects::default() };
        let hidden_to_policy = Objects { unknown_to_policy: unknown, ..Objects::default() };
        for objects in [hidden, hidden_to_policy] {
            assert_eq!(Cluster::of(&objects, BTreeSet::new()), None);
        }
    }
}
