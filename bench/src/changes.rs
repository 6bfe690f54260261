//! Kinds of changes that a cluster goes through.

use cambric_policy::change::Change;

use crate::cluster::{Edit, Labels, Sizes};

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    RemotePodLabel,
    LocalPodLabel,
    NamespaceLabel,
    PolicyPort,
    PolicyPeers,
    PolicyGone,
    RemotePodGone,
    LocalPodGone,
}

impl Kind {
    /// In an order in which each finds what it is to change.
    pub(crate) const ALL: [Kind; 8] = [
        Kind::RemotePodLabel,
        Kind::LocalPodLabel,
        Kind::NamespaceLabel,
        Kind::PolicyPort,
        Kind::PolicyPeers,
        Kind::PolicyGone,
        Kind::RemotePodGone,
        Kind::LocalPodGone,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::RemotePodLabel => "label of a pod elsewhere",
            Kind::LocalPodLabel => "label of a local pod, and as before",
            Kind::NamespaceLabel => "label of a namespace",
            Kind::PolicyPort => "port of a policy",
            Kind::PolicyPeers => "peers of a policy",
            Kind::PolicyGone => "policy gone, policy back",
            Kind::RemotePodGone => "pod elsewhere gone, and back",
            Kind::LocalPodGone => "local pod gone, and back",
        }
    }

    /// The n-th of this kind: what is told at once, one after the other. Policies are such that select a local pod, where
    /// there are so many.
    pub(crate) fn changes(self, sizes: Sizes, n: usize) -> Vec<Vec<Change>> {
        let Sizes { namespaces, policies, pods, local } = sizes;
        let elsewhere = (pods - local).max(1);
        let (local_pod, remote_pod) = (n % local, (local + n % elsewhere).min(pods - 1));
        let policy = |kind| sizes.policy_of(local_pod, kind).unwrap_or(n % policies.max(1));
        // Whoever comes again is changed once more.
        let turn = |of: usize| n / of + 1;
        match self {
            Kind::RemotePodLabel => {
                vec![vec![
                    sizes.pod(remote_pod, Labels { tier_further: turn(elsewhere), ..Labels::default() }),
                ]]
            }
            Kind::LocalPodLabel => [1, 0]
                .map(|app_further| vec![sizes.pod(local_pod, Labels { app_further, ..Labels::default() })])
                .to_vec(),
            Kind::NamespaceLabel => vec![vec![sizes.namespace(n, turn(namespaces))]],
            Kind::PolicyPort => vec![vec![sizes.policy(policy(1), Edit { port: 1 + n as u16, peer: None })]],
            Kind::PolicyPeers => vec![vec![sizes.policy(policy(2), Edit { port: 0, peer: Some(n) })]],
            Kind::PolicyGone => gone_and_back(vec![sizes.policy(policy(9), Edit::default())]),
            Kind::RemotePodGone => gone_and_back(vec![sizes.pod(remote_pod, Labels::default())]),
            Kind::LocalPodGone => {
                let endpoint = Change::Endpoint(sizes.veth(local_pod), Some(sizes.endpoint(local_pod)));
                gone_and_back(vec![sizes.pod(local_pod, Labels::default()), endpoint])
            }
        }
    }
}

fn gone_and_back(there: Vec<Change>) -> Vec<Vec<Change>> {
    vec![there.iter().map(gone).collect(), there]
}

/// That a thing is no more.
fn gone(change: &Change) -> Change {
    match change {
        Change::Namespace(name, _) => Change::Namespace(name.clone(), None),
        Change::Pod(key, _) => Change::Pod(key.clone(), None),
        Change::Policy(key, _) => Change::Policy(key.clone(), None),
        Change::Endpoint(veth, _) => Change::Endpoint(veth.clone(), None),
        Change::BgpPeers(_) => Change::BgpPeers(Default::default()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const SIZES: Sizes = Sizes { namespaces: 6, policies: 600, pods: 60, local: 12 };

    /// What a change is about, and what it says of it.
    fn told(change: &Change) -> (String, String) {
        let about = match change {
            Change::Namespace(name, _) => format!("namespace {name}"),
            Change::Pod(key, _) => format!("pod {key}"),
            Change::Policy(key, _) => format!("policy {key}"),
            Change::Endpoint(veth, _) => format!("endpoint {veth}"),
            Change::BgpPeers(_) => "peers".into(),
        };
        (about, format!("{change:?}"))
    }

    #[test]
    fn objects_of_a_cluster_are_all_about_different_things() {
        let told: BTreeMap<_, _> = SIZES.changes().iter().map(told).collect();
        assert_eq!(told.len(), SIZES.namespaces + SIZES.policies + SIZES.pods + SIZES.local);
    }

    #[test]
    fn every_change_says_something_new() {
        let mut known: BTreeMap<_, _> = SIZES.changes().iter().map(told).collect();
        for kind in Kind::ALL {
            for change in (0..100).flat_map(|n| kind.changes(SIZES, n)).flatten() {
                let (about, says) = told(&change);
                assert_ne!(known.insert(about, says.clone()), Some(says), "{kind:?}");
            }
        }
    }

    #[test]
    fn policies_whose_change_is_measured_select_the_local_pod() {
        for pod in 0..SIZES.local {
            for kind in 0..10 {
                let policy = SIZES.policy_of(pod, kind).expect("as many policies");
                let Change::Policy(key, Some(object)) = SIZES.policy(policy, Edit::default()) else {
                    unreachable!()
                };
                let Change::Pod(pod, Some(labelled)) = SIZES.pod(pod, Labels::default()) else {
                    unreachable!()
                };
                assert_eq!(key.namespace, pod.namespace);
                let selector = object.object.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
                let selected = selector.and_then(|selector| selector.match_labels.as_ref());
                let app = labelled.labels.get("app");
                assert_eq!(selected.and_then(|labels| labels.get("app")).map(String::as_str), app);
            }
        }
    }
}
