use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::json::Json;

fn about() -> About {
    About { server: Some("uid-of-kube-system".to_owned()), paged_until: None }
}

fn key(name: &str) -> Key {
    Key::new("", name)
}

fn document(version: u64, says: u64) -> Known<Says> {
    Known {
        uid: Uid::new("0fe1b4f2-6f0e-4a0b-8b0e-0c0d0e0f1011"),
        version: Version::Number(version),
        created: Some(1_767_225_600),
        says: Says::Document(Json::new(&json!({"kind": "Node", "says": says}))),
    }
}

fn update(objects: &Shared<Key, Known<Says>>, changed: &[&str], version: u64) -> Update {
    let changed = changed.iter().map(|name| key(name)).collect();
    Update { about: about(), version: Version::Number(version), changed, objects: objects.clone() }
}

fn read(folder: &Path) -> (Journal, Found) {
    Journal::read(folder, "n1", Kind::Node)
}

fn state(folder: &Path) -> State {
    match read(folder).1 {
        Found::State(state) => state,
        other => panic!("{other:?}"),
    }
}

fn unusable(folder: &Path) -> String {
    match read(folder).1 {
        Found::Unusable(what) => what,
        other => panic!("{other:?}"),
    }
}

/// A file with one node at version 5.
fn one(folder: &Path) -> (Journal, Shared<Key, Known<Says>>) {
    let (mut journal, found) = read(folder);
    assert_eq!(found, Found::Nothing);
    let objects: Shared<Key, Known<Says>> = [(key("a"), document(4, 1))].into_iter().collect();
    journal.keep(&update(&objects, &["a"], 5)).expect("room");
    (journal, objects)
}

#[test]
fn a_version_that_went_back_is_the_highest_that_the_next_run_knows() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (mut journal, mut objects) = one(folder.path());
    objects.insert(key("b"), document(80, 2));
    journal.keep(&update(&objects, &["b"], 90)).expect("room");
    // Restored from a backup, and believed.
    let objects: Shared<Key, Known<Says>> = [(key("a"), document(4, 1))].into_iter().collect();
    journal.keep(&update(&objects, &["b"], 6)).expect("room");
    let State { version, seen, objects: known, .. } = state(folder.path());
    assert_eq!((version, seen, known), (Version::Number(6), Version::Number(6), objects));
}

#[test]
fn what_is_kept_is_read_by_the_next_run_and_by_root_alone() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let below = folder.path().join("cluster");
    let (mut journal, mut objects) = one(&below);
    objects.insert(key("b"), document(6, 2));
    objects.remove(&key("a"));
    journal.keep(&update(&objects, &["a", "b"], 7)).expect("room");
    let State { about: read, version, objects: known, .. } = state(&below);
    assert_eq!((read, version, &known), (about(), Version::Number(7), &objects));
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&below), mode(journal.path())), (0o700, 0o600));
    let lines = fs::read_to_string(journal.path()).expect("it is there");
    assert_eq!(lines.lines().count(), 6, "appended:\n{lines}");
}

#[test]
fn every_kind_of_object_comes_back_as_it_was() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let metadata = json!({"name": "a", "namespace": "default", "uid": "0fe1b4f2-6f0e-4a0b-8b0e-0c0d0e0f1011",
        "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "web"}});
    let objects = [
        (
            Kind::Pod,
            json!({"metadata": metadata, "spec": {"nodeName": "n1", "containers": [{"ports":
            [{"name": "web", "containerPort": 80}]}]}, "status": {"phase": "Running", "podIP": "10.0.0.1"}}),
        ),
        (Kind::Namespace, json!({"metadata": metadata})),
        (
            Kind::NetworkPolicy,
            json!({"metadata": metadata, "spec": {"podselector": {}, "podSelector": {"matchLabels":
            {"a": "b"}}, "ingress": [{"ports": [{"port": "web"}, {"port": 80}]}]}}),
        ),
        (
            Kind::Service,
            json!({"metadata": metadata, "spec": {"clusterIPs": ["10.96.0.1"], "internalTrafficPolicy": "Local"}}),
        ),
        (
            Kind::EndpointSlice,
            json!({"metadata": {"name": "a", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "n1"}]}),
        ),
        (Kind::Node, json!({"metadata": metadata, "spec": {"podCIDRs": ["10.0.0.0/24"]}})),
        (Kind::Secret, json!({"metadata": metadata, "data": {"password": "a2V5"}})),
        (Kind::BGPFilter, json!({"metadata": metadata, "spec": {"any": ["thing", 1, null]}})),
    ];
    for kind in Kind::ALL {
        assert!(kind.is_ours() || objects.iter().any(|(tried, _)| *tried == kind), "{kind} is not tried");
    }
    for (kind, object) in objects {
        let crate::wire::Found::Object(key, known) = crate::wire::read(kind, &object.to_string()) else {
            panic!("{kind}")
        };
        let objects: Shared<Key, Known<Says>> = [(key, known)].into_iter().collect();
        let (mut journal, _) = Journal::read(folder.path(), "n1", kind);
        let update = Update {
            about: about(),
            version: Version::Number(9),
            changed: Vec::new(),
            objects: objects.clone(),
        };
        journal.keep(&update).expect("room");
        let (_, Found::State(state)) = Journal::read(folder.path(), "n1", kind) else { panic!("{kind}") };
        assert_eq!(state.objects, objects, "{kind}");
    }
}

#[test]
fn it_is_written_anew_when_it_has_grown_to_twice_its_content() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (mut journal, mut objects) = one(folder.path());
    let mut longest = 0;
    for version in 6..3000 {
        objects.insert(key("a"), document(version, version));
        journal.keep(&update(&objects, &["a"], version)).expect("room");
        longest = longest.max(fs::metadata(journal.path()).expect("it is there").len());
    }
    assert!(longest < 2 * FEW_OCTETS, "{longest}");
    assert_eq!(state(folder.path()).objects, objects);
}

#[test]
fn another_server_or_another_way_to_list_is_written_at_once() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (mut journal, objects) = one(folder.path());
    let about = About { server: Some("another".to_owned()), paged_until: Some(12) };
    journal.keep(&Update { about: about.clone(), ..update(&objects, &[], 6) }).expect("room");
    assert_eq!(state(folder.path()).about, about);
}

#[test]
fn what_is_of_another_node_or_kind_is_not_used_and_says_so() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (journal, objects) = one(folder.path());
    let (_, Found::Unusable(what)) = Journal::read(folder.path(), "n2", Kind::Node) else {
        panic!("foreign")
    };
    assert!(what.contains("Node.jsonl: is of Node as node n1 knew it"), "{what}");
    fs::copy(journal.path(), folder.path().join("Pod.jsonl")).expect("own folder");
    let (mut journal, Found::Unusable(what)) = Journal::read(folder.path(), "n1", Kind::Pod) else {
        panic!("a Pod")
    };
    assert!(what.contains("not of Pod and node n1"), "{what}");
    journal.keep(&update(&objects, &[], 6)).expect("it is written anew");
}

#[test]
fn a_file_of_a_later_release_is_left_alone_under_another_name() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (journal, objects) = one(folder.path());
    let text = fs::read_to_string(journal.path()).expect("it is there");
    let later = text.replacen("\"format\":1", "\"format\":2,\"more\":true", 1);
    fs::write(journal.path(), &later).expect("own folder");
    let what = unusable(folder.path());
    assert!(
        what.contains("of format 2, of a later release") && what.contains("Node.format-2.jsonl"),
        "{what}"
    );
    let (mut journal, found) = read(folder.path());
    assert_eq!(found, Found::Nothing);
    journal.keep(&update(&objects, &[], 6)).expect("room");
    let aside = fs::read_to_string(folder.path().join("Node.format-2.jsonl")).expect("it is there");
    assert_eq!(aside, later);
}

#[test]
fn what_is_no_journal_is_told() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (journal, _) = one(folder.path());
    let text = fs::read_to_string(journal.path()).expect("it is there");
    for (broken, why) in [
        (text.replacen("\"put\"", "\"pot\"", 1), "line 2"),
        ("nonsense\n".to_owned(), "the first line"),
        (String::new(), "no first line"),
        ("\0".repeat(10), "no first line"),
    ] {
        fs::write(journal.path(), &broken).expect("own folder");
        let what = unusable(folder.path());
        assert!(what.contains(why) && what.ends_with("it is not used"), "{what}");
    }
    fs::remove_file(journal.path()).expect("own folder");
    fs::create_dir(journal.path()).expect("own folder");
    assert!(unusable(folder.path()).contains("cannot be read"));
}

#[test]
fn what_is_torn_after_a_loss_of_power_costs_what_came_after_the_last_whole_state() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (mut journal, objects) = one(folder.path());
    let text = fs::read_to_string(journal.path()).expect("it is there");
    let mut more = objects.clone();
    more.insert(key("b"), document(9, 2));
    journal.keep(&update(&more, &["b"], 10)).expect("room");
    let longer = fs::read_to_string(journal.path()).expect("it is there");
    let last = longer.rfind("{\"version\"").expect("it is there");
    let zeros = "\0".repeat(300);
    for (broken, version, seen, known) in [
        (format!("{text}{zeros}\n"), 5, 5, &objects),
        (format!("{text}{zeros}{{\"version\":\"815\"}}\n"), 5, 5, &objects),
        // The object of the torn update was seen, and is not used.
        (format!("{}{zeros}\n", &longer[..last]), 5, 9, &objects),
        (format!("{longer}nonsense\n{{\"version\":\"11\"}}\n"), 10, 10, &more),
    ] {
        fs::write(journal.path(), &broken).expect("own folder");
        let state = state(folder.path());
        assert_eq!((state.version, state.seen), (Version::Number(version), Version::Number(seen)));
        assert_eq!(&state.objects, known);
        let torn = state.torn.expect("it is told");
        assert!(torn.contains("Node.jsonl: line ") && torn.ends_with("what is before it is used"), "{torn}");
    }
    let (mut journal, _) = read(folder.path());
    journal.keep(&update(&more, &[], 12)).expect("room");
    let state = state(folder.path());
    assert_eq!((state.version, state.torn), (Version::Number(12), None), "it is written anew");
}

/// Nobody can write to it, and then somebody can again.
#[test]
fn a_disk_that_is_full_is_told_and_all_is_written_when_there_is_room() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (mut journal, mut objects) = one(folder.path());
    let path = journal.path().to_owned();
    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    journal.open.as_mut().expect("just written").file = full;
    objects.insert(key("b"), document(6, 2));
    let error = journal.keep(&update(&objects, &["b"], 6)).expect_err("no room");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(state(folder.path()).version, Version::Number(5), "what was there stays");
    objects.insert(key("c"), document(7, 2));
    journal.keep(&update(&objects, &["c"], 7)).expect("room");
    assert_eq!(state(folder.path()).objects, objects, "what was missed is there, too");
    // A folder in the place of the temporary file: it can never be written anew.
    fs::create_dir(path.with_extension("jsonl.tmp")).expect("own folder");
    journal.open = None;
    assert!(journal.keep(&update(&objects, &[], 8)).is_err());
    assert_eq!(state(folder.path()).objects, objects);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Cut at every octet, it says what was known at some moment, and never less than at an earlier cut.
    #[test]
    fn wherever_it_is_cut_off_it_says_what_was(
        updates in prop::collection::vec(prop::collection::vec((0_u8..4, any::<bool>()), 1..3), 1..5),
    ) {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (mut journal, mut objects) = one(folder.path());
        // A state after each line: objects of an update are known before all of it is.
        let mut states = vec![objects.clone()];
        for (at, changes) in updates.iter().enumerate() {
            let version = at as u64 + 6;
            let mut changed = Vec::new();
            for (name, stays) in changes {
                let name = ["a", "b", "c", "d"][usize::from(*name)];
                if changed.contains(&name) {
                    continue;
                }
                match stays {
                    true => _ = objects.insert(key(name), document(version, version)),
                    false => _ = objects.remove(&key(name)),
                }
                changed.push(name);
                states.push(objects.clone());
            }
            journal.keep(&update(&objects, &changed, version)).expect("room");
        }
        let whole = fs::read(journal.path()).expect("it is there");
        let mut at = 0;
        for end in 0..=whole.len() {
            fs::write(journal.path(), &whole[..end]).expect("own folder");
            match read(folder.path()).1 {
                Found::State(state) => {
                    let found = states[at..].iter().position(|was| *was == state.objects);
                    prop_assert!(found.is_some(), "cut at {}: {:?} never was", end, state);
                    at += found.unwrap_or_default();
                }
                Found::Nothing => prop_assert_eq!(at, 0),
                Found::Unusable(what) => prop_assert!(what.contains("no first line"), "cut at {}: {}", end, what),
            }
        }
        prop_assert_eq!(&states[at], &objects);
    }
}
