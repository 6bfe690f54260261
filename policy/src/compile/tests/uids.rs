//! A veth is of one pod, not of whoever has its name.

use super::*;
use crate::pod::Uid;

impl Node {
    fn pod_of(&mut self, name: &str, uid: &str, labels: Value, address: &str) {
        self.object(
            name,
            json!({"metadata": {"uid": uid, "labels": labels}, "status": {"podIPs": [{"ip": address}]}}),
        );
    }

    fn wire_to(&mut self, veth: &str, pod: &str, uid: &str, addresses: &[&str]) {
        let pod = Some(PodRef { key: key(pod), uid: Uid::new(uid) });
        let addresses = addresses.iter().copied().map(address).collect();
        self.compiler.apply(Change::Endpoint(veth.into(), Some(Endpoint { pod, addresses })));
    }

    /// Which of these veths are judged, and which of them wait for an object of their own.
    fn judged(&mut self, veths: &[&'static str]) -> (Vec<&'static str>, Vec<&'static str>) {
        self.settle();
        let judged = veths.iter().copied().filter(|veth| self.placement(veth).is_some());
        let waiting = veths.iter().copied().filter(|veth| self.compiler.is_of_another(veth));
        (judged.collect(), waiting.collect())
    }
}

/// Pods `app: web` of the namespace may reach all of it, a client among them: the members of the one set are those of
/// them that are known.
fn node() -> Node {
    let mut node = Node::new();
    node.namespace("ns", json!({}));
    node.policy("p", json!({"ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}]}));
    node.pod_of("client", "c", json!({"app": "none"}), "10.0.0.99");
    node.wire_to("camC", "client", "c", &["10.0.0.99"]);
    node
}

#[test]
fn a_new_veth_waits_while_the_object_is_still_that_of_the_pod_before() {
    let mut node = node();
    node.pod_of("web", "old", json!({"app": "web"}), "10.0.0.1");
    node.wire_to("camN", "web", "new", &["10.0.0.2"]);
    assert_eq!(node.judged(&["camN"]), (vec![], vec!["camN"]));
    assert_eq!(node.set(), ["10.0.0.1"], "what it does not know to be the pod's is let in by no policy");
    assert_eq!(node.compiler.owner(address("10.0.0.2")), None);
    node.pod_of("web", "new", json!({"app": "web"}), "10.0.0.2");
    assert_eq!(node.judged(&["camN"]), (vec!["camN"], vec![]));
    assert_eq!(node.set(), ["10.0.0.2"]);
}

#[test]
fn what_is_left_of_the_pod_before_is_not_opened_by_the_new_object() {
    let mut node = node();
    node.pod_of("web", "old", json!({"app": "web"}), "10.0.0.1");
    node.wire_to("camO", "web", "old", &["10.0.0.1"]);
    assert_eq!(node.judged(&["camO"]), (vec!["camO"], vec![]));
    node.pod_of("web", "new", json!({"app": "web"}), "10.0.0.2");
    assert_eq!(node.judged(&["camO"]), (vec![], vec!["camO"]));
    assert_eq!(node.set(), ["10.0.0.2"]);
    node.wire_to("camN", "web", "new", &["10.0.0.2"]);
    assert_eq!(node.judged(&["camN", "camO"]), (vec!["camN"], vec!["camO"]));
    node.unwire("camO");
    assert_eq!(node.judged(&["camN", "camO"]), (vec!["camN"], vec![]));
    assert_eq!(node.set(), ["10.0.0.2"]);
}

#[test]
fn what_is_left_of_a_pod_that_runs_elsewhere_now_takes_no_address_from_another_pod() {
    for told_first in [true, false] {
        let mut node = node();
        if told_first {
            node.wire_to("camO", "web", "old", &["10.0.0.1"]);
        }
        let metadata = json!({"uid": "new", "labels": {"app": "web"}});
        node.object("web", json!({"metadata": metadata, "spec": {"nodeName": "node2"}}));
        let metadata =
            json!({"uid": "n", "labels": {"app": "web"}, "creationTimestamp": "2026-01-01T00:00:00Z"});
        node.object("next", json!({"metadata": metadata, "status": {"podIPs": [{"ip": "10.0.0.1"}]}}));
        if !told_first {
            node.wire_to("camO", "web", "old", &["10.0.0.1"]);
        }
        assert_eq!(node.judged(&["camO"]), (vec![], vec!["camO"]));
        assert_eq!(node.compiler.owner(address("10.0.0.1")), Some(&key("next")).cloned());
        assert_eq!(node.set(), ["10.0.0.1"]);
        node.wire_to("camN", "next", "n", &["10.0.0.1"]);
        assert_eq!(node.judged(&["camN", "camO"]), (vec!["camN"], vec!["camO"]));
        assert_eq!(node.set(), ["10.0.0.1"]);
    }
}

#[test]
fn between_two_objects_both_veths_are_closed() {
    let mut node = node();
    node.pod_of("web", "old", json!({"app": "web"}), "10.0.0.1");
    node.wire_to("camO", "web", "old", &["10.0.0.1"]);
    node.wire_to("camN", "web", "new", &["10.0.0.2"]);
    assert_eq!(node.judged(&["camN", "camO"]), (vec!["camO"], vec!["camN"]));
    node.no_pod("web");
    assert_eq!(node.judged(&["camN", "camO"]), (vec![], vec![]), "no object is known");
    assert_eq!(node.set(), [""; 0]);
    node.pod_of("web", "new", json!({"app": "web"}), "10.0.0.2");
    assert_eq!(node.judged(&["camN", "camO"]), (vec!["camN"], vec!["camO"]));
}

#[test]
fn a_static_pod_is_known_by_the_uid_of_its_kubelet() {
    let mut node = node();
    let annotations = json!({"kubernetes.io/config.mirror": "hash"});
    node.object("web", json!({"metadata": {"uid": "mirror", "annotations": annotations}}));
    node.wire_to("camS", "web", "hash", &["10.0.0.1"]);
    node.wire_to("camM", "web", "mirror", &["10.0.0.2"]);
    node.wire_to("camX", "web", "other", &["10.0.0.3"]);
    assert_eq!(node.judged(&["camM", "camS", "camX"]), (vec!["camM", "camS"], vec!["camX"]));
}

fn mirror(node: &mut Node, uid: &str, hash: &str) {
    let annotations = json!({"kubernetes.io/config.mirror": hash});
    let metadata = json!({"uid": uid, "labels": {"app": "web"}, "annotations": annotations});
    node.object("web", json!({"metadata": metadata, "status": {"podIPs": [{"ip": "10.0.0.1"}]}}));
}

#[test]
fn a_static_pod_is_judged_by_its_last_object_until_it_goes_or_another_one_comes() {
    let mut node = node();
    mirror(&mut node, "mirror", "hash");
    node.wire_to("camS", "web", "hash", &["10.0.0.1"]);
    node.wire_to("camM", "web", "mirror", &["10.0.0.2"]);
    assert_eq!(node.judged(&["camM", "camS"]), (vec!["camM", "camS"], vec![]));
    node.no_pod("web");
    assert_eq!(node.judged(&["camS"]), (vec!["camS"], vec![]), "its mirror pod alone is gone");
    assert_eq!(node.set(), ["10.0.0.1", "10.0.0.2"]);
    node.unwire("camM");
    assert_eq!(node.judged(&["camS"]), (vec!["camS"], vec![]));

    mirror(&mut node, "again", "hash");
    assert_eq!(node.judged(&["camS"]), (vec!["camS"], vec![]));
    node.no_pod("web");
    mirror(&mut node, "another", "other hash");
    assert_eq!(
        node.judged(&["camS"]),
        (vec![], vec!["camS"]),
        "it runs no more, and is still to be taken away"
    );

    mirror(&mut node, "again", "hash");
    node.no_pod("web");
    assert_eq!(node.judged(&["camS"]), (vec!["camS"], vec![]));
    node.unwire("camS");
    assert_eq!((node.judged(&["camS"]), node.set()), ((vec![], vec![]), vec![]));
    node.wire_to("camS", "web", "hash", &["10.0.0.1"]);
    assert_eq!(node.judged(&["camS"]), (vec![], vec![]), "its object is forgotten");
}

#[test]
fn a_pod_whose_object_goes_is_closed_if_it_is_no_static_one() {
    let mut node = node();
    node.pod_of("web", "a", json!({"app": "web"}), "10.0.0.1");
    node.wire_to("camA", "web", "a", &["10.0.0.1"]);
    assert_eq!(node.judged(&["camA"]), (vec!["camA"], vec![]));
    node.no_pod("web");
    assert_eq!((node.judged(&["camA"]), node.set()), ((vec![], vec![]), vec![]));
}

#[test]
fn without_a_uid_on_either_side_the_name_counts() {
    let mut node = node();
    node.pod_of("told", "a", json!({}), "10.0.0.1");
    node.wire("camA", "told", &["10.0.0.1"]);
    node.pod("untold", json!({}), "10.0.0.2");
    node.wire_to("camB", "untold", "b", &["10.0.0.2"]);
    assert_eq!(node.judged(&["camA", "camB"]), (vec!["camA", "camB"], vec![]));
}

#[test]
fn where_unknown_pods_have_no_labels_one_of_another_uid_is_closed_all_the_same() {
    let mut node = Node::with(UnknownPods::Unlabelled);
    node.wire_to("camN", "web", "new", &["10.0.0.2"]);
    assert_eq!(node.judged(&["camN"]), (vec!["camN"], vec![]));
    node.pod_of("web", "old", json!({}), "10.0.0.1");
    assert_eq!(node.judged(&["camN"]), (vec![], vec!["camN"]));
}
