//! Secrets in a folder: keys of peers that come, change and go.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cambric_bgp::config::Password;

use super::tests::{Edited, Recorded, node, ours, overrides, problems};
use super::*;
use crate::intent::intent;
use crate::objects::Reason;

const TOR: &str = "{name: tor, address: 192.0.2.1, asn: 65101, peerConfig: tor}";

fn secret(entry: &str, key: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: tor}}\nstringData: {{{entry}: {key}}}\n")
}

/// A node with a peer that has a key, and this text in the file of its Secret.
fn folder(secret: &str) -> Edited {
    Edited::new(&[
        ("n1.yaml", &node("n1", "10.1.0.0/24")),
        ("peers.yaml", &overrides("n1", TOR)),
        ("secret.yaml", secret),
        ("tor.yaml", &ours("BGPPeerConfig", "tor", "{secret: {name: tor}}")),
    ])
}

/// The keys of the peers that there are.
fn keys(view: &View) -> Vec<Option<Password>> {
    let intent = intent(&view.fabric, "n1", &[]).expect("node is known");
    intent.wanted.peers.values().map(|peer| peer.transport.password.clone()).collect()
}

fn key(text: &str) -> Vec<Option<Password>> {
    vec![Some(Password::new(text).expect("a key"))]
}

#[test]
fn a_peer_has_the_key_of_its_secret_and_the_next_one_when_that_changes() {
    let mut folder = folder(&secret("password", "hunter2"));
    let view = folder.view();
    assert_eq!((problems(&view), keys(&view)), (vec![], key("hunter2")));
    folder.written("secret.yaml", &secret("password", "hunter3"));
    let view = folder.view();
    assert_eq!((problems(&view), keys(&view)), (vec![], key("hunter3")));
    let in_base64 = secret("password", "aHVudGVyNA==").replace("stringData", "data");
    folder
        .written("secret.yaml", &in_base64.replace("{name: tor}", "{name: tor, namespace: cambric-system}"));
    let view = folder.view();
    assert_eq!((problems(&view), keys(&view)), (vec![], key("hunter4")));
}

#[test]
fn a_file_with_keys_that_others_may_read_is_told() {
    let mut folder = folder(&secret("password", "hunter2"));
    let path = folder.temporary.path().to_owned();
    let set = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("own folder");
    };
    let says =
        "secret.yaml: it has a Secret in it, and others than its owner may read it: `chmod 600` ends that";
    for (of_folder, of_file, told) in [
        (0o755, 0o644, vec![says.to_owned()]),
        (0o750, 0o640, vec![says.to_owned()]),
        (0o700, 0o644, vec![]),
        (0o750, 0o604, vec![]),
        (0o755, 0o600, vec![]),
    ] {
        set(&path, of_folder);
        set(&path.join("secret.yaml"), of_file);
        let view = folder.view();
        assert_eq!(problems(&view), told, "{of_folder:o} {of_file:o}");
        assert_eq!(keys(&view), key("hunter2"), "it is used all the same");
    }
}

/// Never with an empty key, and never without one.
#[test]
fn without_a_key_there_is_no_session_until_it_comes() {
    let of_others = secret("password", "hunter2").replace("{name: tor}", "{name: tor, namespace: default}");
    let too_long = "x".repeat(81);
    for (text, says, reason) in [
        ("", "there is no such Secret", Reason::Missing),
        (of_others.as_str(), "there is no such Secret", Reason::Missing),
        (&secret("other", "hunter2"), "the Secret has no such entry", Reason::Missing),
        (&secret("password", "''"), "0 octets: a key has 1 to 80", Reason::Invalid),
        (&secret("password", &too_long), "81 octets: a key has 1 to 80", Reason::Invalid),
    ] {
        let mut folder = folder(text);
        let view = folder.view();
        let expected = format!(
            "tor.yaml, document 1: BGPPeerConfig tor: spec.secret: entry \"password\" of Secret \"tor\": {says}, and \
             without a key its peers have no session; it is left out"
        );
        assert_eq!((problems(&view), keys(&view)), (vec![expected], vec![]));
        assert_eq!(view.fabric.problems[0].reason, reason);
        folder.written("secret.yaml", &secret("password", "hunter2"));
        let view = folder.view();
        assert_eq!((problems(&view), keys(&view)), (vec![], key("hunter2")), "{says}");
    }
}

#[test]
fn a_key_that_worked_goes_on_whatever_becomes_of_its_secret_and_of_the_daemon() {
    let mut recorded = Recorded::new(folder(&secret("password", "hunter2")));
    let first = recorded.edited.view();
    assert_eq!((problems(&first), keys(&first)), (vec![], key("hunter2")));
    let mode = fs::metadata(recorded.record()).expect("it is written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it has the keys in it");
    for (text, says) in [
        (
            secret("password", "''"),
            "secret.yaml: has changed, and now tor.yaml, document 1: BGPPeerConfig tor: ",
        ),
        (
            secret("other", "hunter2"),
            "secret.yaml: has changed, and now tor.yaml, document 1: BGPPeerConfig tor: ",
        ),
        (
            secret("password", "[hunter3]"),
            "secret.yaml, document 1: Secret tor: stringData.password: no text",
        ),
        (String::new(), "secret.yaml: there is nothing in it"),
    ] {
        recorded.edited.written("secret.yaml", &text);
        for _ in 0..2 {
            let view = recorded.edited.view();
            assert_eq!(keys(&view), key("hunter2"), "{says}");
            let told = problems(&view);
            assert!(told.len() == 1 && told[0].starts_with(says), "{told:?}");
            assert!(
                told[0].ends_with("it counts as it was before") && !told[0].contains("hunter"),
                "{told:?}"
            );
            recorded.start_anew_as("n1");
        }
    }
    fs::remove_file(recorded.edited.temporary.path().join("secret.yaml")).expect("own folder");
    let view = recorded.edited.view();
    assert_eq!(keys(&view), key("hunter2"));
    assert!(
        problems(&view)[0].starts_with("secret.yaml: is gone, and is missing: tor.yaml"),
        "{:?}",
        problems(&view)
    );
}

/// A session that has none is not left alone because somebody mistypes the name of the Secret.
#[test]
fn options_that_come_to_name_a_secret_that_is_absent_count_as_before() {
    let mut folder = folder("");
    folder.written("tor.yaml", &ours("BGPPeerConfig", "tor", "{}"));
    assert_eq!(keys(&folder.view()), [None]);
    folder.written("tor.yaml", &ours("BGPPeerConfig", "tor", "{secret: {name: tor}}"));
    let view = folder.view();
    assert_eq!(keys(&view), [None]);
    assert!(problems(&view)[0].ends_with("it counts as it was before"), "{:?}", problems(&view));
    folder.written("secret.yaml", &secret("password", "hunter2"));
    assert_eq!(keys(&folder.view()), key("hunter2"));
}
