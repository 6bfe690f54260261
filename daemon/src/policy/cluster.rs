//! What policies are made from, as the source shows it; and what differs between two views of it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use cambric_policy::change::{Change, Key};
use cambric_policy::pod::Life;

use crate::view::{View, Workloads};

/// A complete view.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cluster {
    workloads: Workloads,
    peers: Arc<BTreeSet<IpAddr>>,
}

impl Cluster {
    /// With `peers` as the BGP peers of this node. Nothing while something is hidden: a policy may be what nobody has
    /// seen.
    pub(crate) fn of(view: &View, peers: Arc<BTreeSet<IpAddr>>) -> Option<Cluster> {
        let View { fabric, workloads, .. } = view;
        let is_whole = fabric.unknown.is_empty() && workloads.unknown.is_empty();
        is_whole.then(|| Cluster { workloads: workloads.clone(), peers })
    }

    /// Why a pod that is known has no link that could be judged, in words: it has no address of its own.
    pub(crate) fn why_unjudged(&self, key: &Key) -> Option<String> {
        match self.workloads.pods.get(key)?.life {
            Life::OwnNetwork => None,
            Life::HostNetwork => Some(format!("its Pod object {key} is of the host network")),
            life @ (Life::Succeeded | Life::Failed) => {
                Some(format!("its Pod object {key} has ended: {life:?}"))
            }
        }
    }

    /// In words, what would be otherwise with `view`.
    pub(crate) fn differences(&self, view: &View) -> Vec<String> {
        let Some(now) = Cluster::of(view, Arc::clone(&self.peers)) else { return Vec::new() };
        let Workloads { pods, namespaces, policies, .. } = &self.workloads;
        let word = |change: Change| {
            let (what, is_there, was_there) = match change {
                Change::Namespace(name, now) => {
                    (format!("Namespace {name}"), now.is_some(), namespaces.get(&name).is_some())
                }
                Change::Pod(key, now) => (format!("Pod {key}"), now.is_some(), pods.get(&key).is_some()),
                Change::Policy(key, now) => {
                    (format!("NetworkPolicy {key}"), now.is_some(), policies.get(&key).is_some())
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

    /// What somebody must be told who knows this, so that he knows `now`: what comes before what goes. Looks only at
    /// what the two do not share.
    pub(crate) fn changes_to(&self, now: &Cluster) -> Vec<Change> {
        let (before, after) = (&self.workloads, &now.workloads);
        let namespaces = before.namespaces.differences(&after.namespaces).into_iter();
        let policies = before.policies.differences(&after.policies).into_iter();
        let pods = before.pods.differences(&after.pods).into_iter();
        let peers = (self.peers != now.peers).then(|| Change::BgpPeers(BTreeSet::clone(&now.peers)));
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

#[cfg(test)]
mod tests {
    use cambric_kube::Shared;
    use cambric_policy::change::PolicyObject;
    use cambric_policy::pod::Pod;

    use super::*;
    use crate::objects::{Objects, Problem};

    fn pod(labels: &[(&str, &str)]) -> Arc<Pod> {
        Arc::new(Pod { labels: labels.iter().copied().collect(), ..Pod::default() })
    }

    fn policy() -> Arc<PolicyObject> {
        Arc::new(PolicyObject { object: Default::default(), faults: Vec::new() })
    }

    fn cluster(workloads: Workloads, peers: BTreeSet<IpAddr>) -> Cluster {
        let view = View { workloads, ..View::default() };
        Cluster::of(&view, Arc::new(peers)).expect("nothing is hidden")
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
        let pods = [(Key::new("a", "one"), pod(&[])), (Key::new("a", "two"), pod(&[("k", "v")]))];
        let workloads = Workloads {
            namespaces: Shared::from_iter([("a".into(), Arc::default()), ("b".into(), Arc::default())]),
            pods: Shared::from_iter(pods),
            policies: Shared::from_iter([(Key::new("a", "p"), policy())]),
            ..Workloads::default()
        };
        let peers: BTreeSet<IpAddr> = [[192, 0, 2, 1].into()].into();
        let before = cluster(workloads.clone(), peers);
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

        let mut now = workloads;
        now.namespaces.remove("b");
        now.policies = Shared::from_iter([(Key::new("a", "q"), policy())]);
        now.pods.insert(Key::new("a", "one"), pod(&[("k", "v")]));
        // The same, read again.
        now.pods.insert(Key::new("a", "two"), pod(&[("k", "v")]));
        now.pods.insert(Key::new("b", "one"), pod(&[]));
        let now = cluster(now, BTreeSet::new());
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
        let cluster = cluster(Workloads { pods, ..Workloads::default() }, BTreeSet::new());
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
        let fabric = Arc::new(Objects { unknown: unknown.clone(), ..Objects::default() });
        let workloads = Workloads { unknown, ..Workloads::default() };
        for view in [View { fabric, ..View::default() }, View { workloads, ..View::default() }] {
            assert_eq!(Cluster::of(&view, Arc::default()), None);
        }
    }
}
