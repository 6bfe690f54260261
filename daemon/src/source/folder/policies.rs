//! Pods, namespaces and policies in a folder: a policy with a fault is never left out.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::hash::Hash;

use cambric_kube::Shared;
use cambric_policy::change::Key;

use super::tests::{Edited, Recorded, node, problems};
use super::*;
use crate::intent::intent;
use crate::source::record::Counts;

fn pod(name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nstatus: {{podIPs: [{{ip: {address}}}]}}\n"
    )
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

const FROM_B: &str = "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]}";
const FROM_NOBODY: &str = "{podSelector: {}, ingress: []}";
/// A misspelt selector would be an empty one, which is everybody.
const MISSPELT: &str = "{podSelector: {}, ingress: [{from: [{podSelectr: {matchLabels: {app: b}}}]}]}";
const NO_CIDR: &str = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]}";
const HALF: &str = "{podSelector: {}, ingress: [{from: }]}";

fn key(name: &str) -> Key {
    Key::new("default", name)
}

fn faults(view: &View, name: &str) -> usize {
    let object = view.workloads.policies.get(&key(name)).expect("it is never left out");
    cambric_policy::policy::Policy::read(&key(name).namespace, object).faults.len()
}

fn names<K: Display + Ord + Hash + Clone, V: Clone>(shown: &Shared<K, V>) -> BTreeSet<String> {
    shown.iter().map(|(key, _)| key.to_string()).collect()
}

fn edited(folder: &mut Edited, file: &str, text: &str) -> View {
    folder.written(file, text);
    folder.view()
}

#[test]
fn pods_namespaces_and_policies_are_shown_by_namespace_and_name() {
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: prod}\n";
    let of_prod = policy("p", FROM_B).replace("{name: p}", "{name: p, namespace: prod}");
    let text = [&pod("a", "10.1.0.1"), namespace, &policy("p", FROM_B), &of_prod].map(|text| text.to_owned());
    let view = Edited::new(&[("all.yaml", &text.join("---\n"))]).view();
    assert_eq!(problems(&view), [""; 0]);
    assert_eq!(names(&view.workloads.pods), ["default/a"].map(str::to_owned).into());
    assert_eq!(names(&view.workloads.namespaces), ["prod"].map(str::to_owned).into());
    assert_eq!(names(&view.workloads.policies), ["default/p", "prod/p"].map(str::to_owned).into());
}

#[test]
fn a_new_policy_with_a_fault_is_taken_and_fails_closed_with_its_field_told() {
    for (spec, says) in [
        (MISSPELT, "spec.ingress[0].from[0].podSelectr: unknown field"),
        (NO_CIDR, "spec.ingress[0].from[0].ipBlock.cidr: \"10.0.0.0/33\""),
        (HALF, "spec.ingress[0].from: null: give it a value or leave it out"),
    ] {
        let mut folder =
            Edited::new(&[("n1.yaml", &node("n1", "10.1.0.0/24")), ("p.yaml", &policy("p", spec))]);
        let view = folder.view();
        let told = problems(&view);
        let start = format!("p.yaml, document 1: NetworkPolicy default/p: {says}");
        let end = "; it isolates the pods it selects and allows nothing";
        assert!(told.iter().any(|told| told.starts_with(&start) && told.ends_with(end)), "{told:?}");
        assert!(faults(&view, "p") > 0, "{spec}");
        assert_eq!(view.fabric.unknown, [], "the rest is served");
    }
}

#[test]
fn a_policy_that_was_good_counts_as_before_when_it_gets_a_fault() {
    let mut folder = Edited::new(&[("p.yaml", &policy("p", FROM_B))]);
    let before = folder.view();
    for spec in [MISSPELT, NO_CIDR, HALF, "7", ""] {
        let view = edited(&mut folder, "p.yaml", &policy("p", spec));
        assert_eq!(view.workloads.policies, before.workloads.policies, "{spec}");
        let told = problems(&view);
        assert!(!told.is_empty() && told[0].ends_with("; it counts as it was before"), "{told:?}");
    }
    let view = edited(&mut folder, "p.yaml", &policy("p", FROM_NOBODY));
    assert_eq!(problems(&view), [""; 0]);
    assert_ne!(view.workloads.policies, before.workloads.policies);
}

#[test]
fn a_policy_that_was_never_good_is_taken_with_each_of_its_faults() {
    let mut folder = Edited::new(&[("p.yaml", &policy("p", NO_CIDR))]);
    let before = folder.view();
    let selecting = MISSPELT.replace("{podSelector: {},", "{podSelector: {matchLabels: {app: a}},");
    let view = edited(&mut folder, "p.yaml", &policy("p", &selecting));
    assert_ne!(view.workloads.policies, before.workloads.policies, "it selects others now");
    assert!(problems(&view)[0].contains("podSelectr"), "{:?}", problems(&view));
    let view = edited(&mut folder, "p.yaml", &policy("p", FROM_B));
    assert_eq!((problems(&view), faults(&view, "p")), (Vec::new(), 0));
}

#[test]
fn of_two_objects_of_one_namespace_and_name_the_older_wins() {
    let mut folder = Edited::new(&[("p.yaml", &policy("p", FROM_B)), ("pod.yaml", &pod("a", "10.1.0.1"))]);
    let before = folder.view();
    folder.written("a.yaml", &(pod("a", "10.1.0.9") + "---\n" + &policy("p", FROM_NOBODY)));
    let view = folder.view();
    assert_eq!(
        (&view.workloads.policies, &view.workloads.pods),
        (&before.workloads.policies, &before.workloads.pods)
    );
    assert_eq!(
        problems(&view),
        [
            "a.yaml, document 1: Pod default/a: metadata.name: default/a: Conflicted: \
             pod.yaml, document 1: Pod default/a has the same; it is left out",
            "a.yaml, document 2: NetworkPolicy default/p: metadata.name: default/p: Conflicted: \
             p.yaml, document 1: NetworkPolicy default/p has the same; it is left out",
        ]
    );
    let other = pod("a", "10.1.0.9").replace("{name: a", "{namespace: prod, name: a");
    let view = edited(&mut folder, "a.yaml", &other);
    assert_eq!((problems(&view), view.workloads.pods.len()), (Vec::new(), 2), "of another namespace");
}

#[test]
fn a_pod_that_cannot_be_read_hides_what_it_is_from_a_daemon_that_knows_nothing() {
    let bad = pod("a", "10.1.0.1").replace("{app: a}", "{app: 1}");
    let view = Edited::new(&[("a.yaml", &bad)]).view();
    assert_eq!((view.workloads.unknown.len(), view.workloads.pods.len()), (1, 0));
    assert_eq!(view.fabric.unknown, [], "sessions do without");
    let mut folder = Edited::new(&[("a.yaml", &pod("a", "10.1.0.1"))]);
    let before = folder.view();
    let view = edited(&mut folder, "a.yaml", &bad);
    assert_eq!((&view.workloads.pods, view.fabric.unknown.len()), (&before.workloads.pods, 0));
    assert_eq!(view.workloads.unknown, []);
}

const BROKEN_LIST: &str =
    "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Pod, metadata: {name: a}}]\n";

/// On every node of the folder at once, for one typing error in a pod.
#[test]
fn a_fault_in_what_policies_are_made_of_takes_no_session_away() {
    for bad in [
        pod("a", "10.1.0.1").replace("status:", "stati:"),
        BROKEN_LIST.to_owned(),
        policy("p", "{}").replace("name: p", "nam: p"),
    ] {
        let edited = Edited::new(&[("n1.yaml", &node("n1", "10.1.0.0/24")), ("zz.yaml", &bad)]);
        let mut recorded = Recorded::new(edited);
        let view = recorded.edited.view();
        assert!(intent(&view.fabric, "n1", &[]).is_ok(), "{bad}");
        assert_eq!(view.workloads.unknown.len(), 1, "{bad}");
        let told = problems(&view);
        assert!(told[0].ends_with("; no pod is judged anew before it is mended"), "{told:?}");
        assert_eq!(recorded.view_of_a_new_daemon(), view, "and still waits");
        let view = edited_of(&mut recorded, "zz.yaml", &pod("a", "10.1.0.1"));
        assert_eq!(
            (view.workloads.pods.len(), problems(&view), view.workloads.unknown),
            (1, Vec::new(), Vec::new())
        );
        let view = edited_of(&mut recorded, "zzz.yaml", &bad);
        assert_eq!(view.workloads.unknown, [], "what counts is known");
        assert_eq!(recorded.view_of_a_new_daemon(), view);
    }
}

/// A version without NetworkPolicy passed such documents over, whatever was in them.
#[test]
fn a_record_with_what_only_policies_cannot_read_is_gone_on_from() {
    let broken = pod("a", "10.1.0.1").replace("status:", "stati:");
    let files = [("n1.yaml", node("n1", "10.1.0.0/24")), ("a.yaml", broken)];
    let mut recorded =
        Recorded::new(Edited::new(&files.each_ref().map(|(file, text)| (*file, text.as_str()))));
    let counts = Counts {
        files: files.iter().map(|(file, text)| ((*file).to_owned(), text.clone())).collect(),
        ..Counts::default()
    };
    recorded.write(counts);
    recorded.edited.written("n1.yaml", "kind: [");
    let view = recorded.view_of_a_new_daemon();
    assert_eq!((view.fabric.nodes.len(), view.fabric.unknown.len(), view.workloads.unknown.len()), (1, 0, 1));
    assert!(intent(&view.fabric, "n1", &[]).is_ok());
}

fn edited_of(recorded: &mut Recorded, file: &str, text: &str) -> View {
    edited(&mut recorded.edited, file, text)
}

#[test]
fn a_daemon_that_is_started_anew_goes_on_with_the_policies_that_counted() {
    let files = [("p.yaml", policy("p", FROM_B)), ("a.yaml", pod("a", "10.1.0.1"))];
    let mut recorded =
        Recorded::new(Edited::new(&files.each_ref().map(|(file, text)| (*file, text.as_str()))));
    let before = recorded.edited.view();
    recorded.edited.written("p.yaml", &policy("p", MISSPELT));
    recorded.edited.written("a.yaml", "kind: [");
    let view = recorded.view_of_a_new_daemon();
    assert_eq!(
        (view.workloads.policies, view.workloads.pods),
        (before.workloads.policies, before.workloads.pods)
    );
    assert_eq!(view.fabric.unknown, []);
}
