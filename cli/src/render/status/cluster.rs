//! The API server, and how it stands with each kind of objects. What is in order takes one line.

use std::collections::BTreeMap;

use cambric_api::{ClusterStatus, KindStatus};

use super::super::span;

pub(super) fn lines(source: &str, cluster: &ClusterStatus) -> Vec<String> {
    let server = cluster.server.as_deref().unwrap_or("no server, for no configuration can be used");
    let mut lines = vec![format!("{source}: {server}")];
    if let Some(trouble) = &cluster.trouble {
        let since = cluster.trouble_s.map(|since_s| format!(", for {}", span(since_s))).unwrap_or_default();
        lines.push(format!("{trouble}{since}"));
    }
    let (watched, others): (Vec<_>, Vec<_>) = cluster.kinds.iter().partition(|kind| kind.state == "watching");
    if !watched.is_empty() {
        let objects: usize = watched.iter().map(|kind| kind.objects).sum();
        lines.push(format!("kinds followed as they change: {} ({objects} objects)", watched.len()));
    }
    // A server that is away is away for all of them.
    let mut alike: BTreeMap<(&str, Option<&str>), Vec<&KindStatus>> = BTreeMap::new();
    for kind in others {
        alike.entry((&kind.state, kind.why.as_deref())).or_default().push(kind);
    }
    lines.extend(alike.into_iter().map(|((state, why), kinds)| together(state, why, &kinds)));
    let unreadable = cluster.kinds.iter().filter(|kind| kind.unreadable > 0);
    lines.extend(unreadable.map(|KindStatus { kind, unreadable, .. }| {
        format!("{kind}: {unreadable} cannot be read and count as before")
    }));
    lines.extend(cluster.snapshot_problems.iter().map(|problem| format!("snapshot: {problem}")));
    lines
}

/// Kinds in one state, for one reason.
fn together(state: &str, why: Option<&str>, kinds: &[&KindStatus]) -> String {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.kind.as_str()).collect();
    let since = span(kinds.iter().map(|kind| kind.since_s).max().unwrap_or_default());
    let objects: usize = kinds.iter().map(|kind| kind.objects).sum();
    let state = match state {
        "unknown" => "not known yet",
        "from-snapshot" => "from the snapshot",
        "away" => "no answer",
        "refused" => "not allowed",
        "older" => "the server shows an older state, which removes nothing",
        "not-installed" => "not installed",
        newer => newer,
    };
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    format!("{} ({objects} known): {state}, for {since}{why}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(kind: &str, state: &str, why: Option<&str>) -> KindStatus {
        let (kind, state) = (kind.to_owned(), state.to_owned());
        KindStatus { kind, objects: 2, state, since_s: 192, why: why.map(str::to_owned), unreadable: 0 }
    }

    #[test]
    fn kinds_that_are_not_followed_are_named_with_the_reason() {
        let cluster = ClusterStatus {
            server: Some("https://192.0.2.1:6443".to_owned()),
            trouble: Some("connection refused".to_owned()),
            trouble_s: Some(600),
            kinds: vec![
                kind("Namespace", "watching", None),
                kind("NetworkPolicy", "refused", Some("list networkpolicies.networking.k8s.io is forbidden")),
                kind("Node", "from-snapshot", None),
                KindStatus { unreadable: 1, since_s: 7, ..kind("Pod", "from-snapshot", None) },
                kind("Unicorn", "asleep", None),
            ],
            snapshot_problems: vec!["/var/lib/cambric/cluster: read-only file system".to_owned()],
            complete: true,
        };
        let expected = [
            "kube: https://192.0.2.1:6443",
            "connection refused, for 10m00s",
            "kinds followed as they change: 1 (2 objects)",
            "Unicorn (2 known): asleep, for 3m12s",
            "Node, Pod (4 known): from the snapshot, for 3m12s",
            "NetworkPolicy (2 known): not allowed, for 3m12s: list networkpolicies.networking.k8s.io is forbidden",
            "Pod: 1 cannot be read and count as before",
            "snapshot: /var/lib/cambric/cluster: read-only file system",
        ];
        assert_eq!(lines("kube", &cluster), expected);
    }

    #[test]
    fn without_a_server_it_is_said() {
        let lines = lines("kube", &ClusterStatus::default());
        assert_eq!(lines, ["kube: no server, for no configuration can be used"]);
    }
}
