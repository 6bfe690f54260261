//! `configure check`: what a folder of manifests would do to this node, without doing it.
//!
//! A folder with a fault says only what to mend. Of one without, it is said what would change.

use std::fmt::{Debug, Display};
use std::path::Path;
use std::sync::Mutex;

use cambric_bgp::config::{Declared, Link};
use cambric_bgp::{PeerConfig, Prefix};

use crate::intent::{Intent, intent_while_running};
use crate::objects::Problem;
use crate::policy::Cluster;
use crate::source::folder::Folder;
use crate::view::View;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What the operator should mend.
    pub problems: Vec<Problem>,
    /// What this node would do otherwise than now, a line each; in the order sessions, announcements,
    /// acceptance, policies.
    pub changes: Vec<String>,
}

/// Two at once would only be slower together.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Reads `folder` as a daemon on `node` would that knows of no earlier state, neither the record nor what counts
/// now; and compares with what this one does: `current`, if it does something, and `judged`, if it enforces policies.
/// A file that would count as it was before has a problem here and says nothing. Blocks on the file system.
pub fn check(
    folder: &Path,
    node: &str,
    links: &[Link],
    current: Option<&Intent>,
    judged: Option<&Cluster>,
) -> Report {
    let _one = ONE_AT_A_TIME.lock();
    check_view(Folder::new(folder.to_owned(), node).view(), node, links, current, judged)
}

fn check_view(
    view: View,
    node: &str,
    links: &[Link],
    current: Option<&Intent>,
    judged: Option<&Cluster>,
) -> Report {
    let objects = &view.fabric;
    let running = current.map(|current| current.wanted.router.router_id);
    match intent_while_running(objects, node, links, running) {
        Err(error) => {
            let known = objects.problems.iter().chain(&objects.notices).cloned();
            Report { problems: known.chain(error.problem()).collect(), ..Report::default() }
        }
        Ok(wanted) if objects.problems.is_empty() => {
            let of_policies = judged.into_iter().flat_map(|judged| judged.differences(&view));
            let changes = changes(current, &wanted).into_iter().chain(of_policies).collect();
            Report { changes, problems: wanted.problems }
        }
        Ok(wanted) => Report { problems: wanted.problems, ..Report::default() },
    }
}

/// In words, what differs between two intents. Links and problems are no wishes.
pub fn changes(before: Option<&Intent>, after: &Intent) -> Vec<String> {
    let mut words = Vec::new();
    router(&mut words, before, after);
    let no_peers = Default::default();
    let old = before.map_or(&no_peers, |before| &before.wanted.peers);
    for (address, peer) in old.iter().filter(|(address, _)| !after.wanted.peers.contains_key(address)) {
        words.push(format!("peer {} ({address}) goes", peer.name));
    }
    for (address, peer) in &after.wanted.peers {
        match old.get(address) {
            None => words.push(format!("peer {} ({address}) is new", peer.name)),
            Some(old) => words.extend(peer_changes(old, peer)),
        }
    }
    let announced = before.map(|before| before.wanted.originated.keys().copied().collect());
    let (gone, new) = differences(announced.unwrap_or_default(), after.wanted.originated.keys().copied());
    words.extend(gone.iter().map(|prefix| format!("prefix {prefix} is no longer announced")));
    words.extend(new.iter().map(|prefix| format!("prefix {prefix} is announced")));
    let nothing = Declared::default();
    declared(&mut words, before.map_or(&nothing, |before| &before.wanted.declared), &after.wanted.declared);
    words
}

fn router(words: &mut Vec<String>, before: Option<&Intent>, after: &Intent) {
    let Some(before) = before else { return };
    let (old, new) = (&before.wanted.router, &after.wanted.router);
    if (old.asn, old.router_id) == (new.asn, new.router_id) {
        return;
    }
    changed(words, "AS", old.asn, new.asn);
    changed(words, "router ID", old.router_id, new.router_id);
    words.push("all sessions start anew".to_owned());
}

fn peer_changes(old: &PeerConfig, new: &PeerConfig) -> Vec<String> {
    let mut words = Vec::new();
    changed(&mut words, "name", &old.name, &new.name);
    changed(&mut words, "AS", old.asn, new.asn);
    changed(&mut words, "port", old.port, new.port);
    let address = |config: &PeerConfig| {
        config.local_address.map_or("chosen by the kernel".to_owned(), |address| address.to_string())
    };
    changed(&mut words, "local address", address(old), address(new));
    let hold_time = |config: &PeerConfig| format!("{} s", config.hold_time.as_secs());
    changed(&mut words, "hold time", hold_time(old), hold_time(new));
    let keepalive = |config: &PeerConfig| match config.hold_time.keepalive(config.keepalive) {
        Some(interval) => format!("{} s", interval.as_secs_f32()),
        None => "none".to_owned(),
    };
    changed(&mut words, "keepalive", keepalive(old), keepalive(new));
    let families =
        |config: &PeerConfig| config.families.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    changed(&mut words, "families", families(old), families(new));
    let name = |value: &dyn Debug| format!("{value:?}").to_lowercase();
    changed(&mut words, "connect", name(&old.connect), name(&new.connect));
    changed(&mut words, "import", name(&old.policy.import), name(&new.policy.import));
    changed(&mut words, "export", name(&old.policy.export), name(&new.policy.export));
    changed(&mut words, "max prefixes", old.max_prefixes, new.max_prefixes);
    words.into_iter().map(|word| format!("peer {}: {word}", new.name)).collect()
}

fn declared(words: &mut Vec<String>, old: &Declared, new: &Declared) {
    for (what, old, new) in
        [("pod range", &old.pods, &new.pods), ("service range", &old.services, &new.services)]
    {
        let (gone, new) = differences(old.clone(), new.iter().copied());
        words.extend(gone.iter().map(|prefix| format!("{what} {prefix} is no longer accepted")));
        words.extend(new.iter().map(|prefix| format!("{what} {prefix} is accepted")));
    }
    words.extend(
        old.nodes.difference(&new.nodes).map(|node| format!("node address {node} is no longer accepted")),
    );
    words.extend(new.nodes.difference(&old.nodes).map(|node| format!("node address {node} is accepted")));
}

fn changed<T: Display + PartialEq>(words: &mut Vec<String>, what: &str, old: T, new: T) {
    if old != new {
        words.push(format!("{what} {old} -> {new}"));
    }
}

/// What only `old` has, and what only `new` has.
fn differences(old: Vec<Prefix>, new: impl Iterator<Item = Prefix>) -> (Vec<Prefix>, Vec<Prefix>) {
    let new: Vec<Prefix> = new.collect();
    let only_in = |some: &[Prefix], others: &[Prefix]| {
        some.iter().filter(|prefix| !others.contains(prefix)).copied().collect()
    };
    (only_in(&old, &new), only_in(&new, &old))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const BEFORE: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
apiVersion: cambric.dev/v1alpha1
kind: BGPPeerConfig
metadata: {name: tor}
spec: {holdTimeSeconds: 90}
---
apiVersion: cambric.dev/v1alpha1
kind: BGPNodeOverride
metadata: {name: n1}
spec:
  peers:
  - {name: tor1a, address: 172.16.1.0, asn: 65101, peerConfig: tor}
  - {name: tor1b, address: 172.16.1.2, asn: 65101, peerConfig: tor}
";

    fn checked(manifests: &str, current: Option<&Intent>) -> Report {
        let folder = tempfile::tempdir().expect("temporary folder");
        fs::write(folder.path().join("all.yaml"), manifests).expect("own folder");
        check(folder.path(), "n1", &[], current, None)
    }

    fn current() -> Intent {
        let folder = tempfile::tempdir().expect("temporary folder");
        fs::write(folder.path().join("all.yaml"), BEFORE).expect("own folder");
        let view = Folder::new(folder.path().to_owned(), "n1").view();
        intent_while_running(&view.fabric, "n1", &[], None).expect("node is known")
    }

    #[test]
    fn changes_are_said_in_words() {
        let after = BEFORE
            .replace("holdTimeSeconds: 90", "holdTimeSeconds: 9, import: All")
            .replace("podCIDRs: [10.244.1.0/24]", "podCIDRs: [10.244.9.0/24]")
            .replace("tor1b, address: 172.16.1.2", "tor1c, address: 172.16.1.4")
            .replace("spec:\n  peers", "spec:\n  asn: 65111\n  peers");
        let report = checked(&after, Some(&current()));
        assert_eq!(report.problems, []);
        assert_eq!(
            report.changes,
            [
                "AS 64512 -> 65111",
                "all sessions start anew",
                "peer tor1b (172.16.1.2) goes",
                "peer tor1a: hold time 90 s -> 9 s",
                "peer tor1a: keepalive 30 s -> 3 s",
                "peer tor1a: import declared -> all",
                "peer tor1c (172.16.1.4) is new",
                "prefix 10.244.1.0/24 is no longer announced",
                "prefix 10.244.9.0/24 is announced",
                "pod range 10.244.1.0/24 is no longer accepted",
                "pod range 10.244.9.0/24 is accepted",
            ]
        );
    }

    #[test]
    fn the_same_folder_changes_nothing_and_a_first_one_all() {
        assert_eq!(checked(BEFORE, Some(&current())), Report::default());
        let first = checked(BEFORE, None).changes;
        assert_eq!(first[0], "peer tor1a (172.16.1.0) is new");
    }

    #[test]
    fn policies_and_what_they_are_made_from_are_said_by_name() {
        let policy = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}}\n";
        let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: prod}\n";
        let namespace = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: prod}\n";
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("all.yaml");
        fs::write(&path, [BEFORE, policy, namespace].concat()).expect("own folder");
        let view = Folder::new(folder.path().to_owned(), "n1").view();
        let judged = Cluster::of(&view, Default::default()).expect("nothing is hidden");
        let edited = policy.replace("{}", "{matchLabels: {app: web}}");
        fs::write(&path, [BEFORE, &edited, pod].concat()).expect("own folder");
        let report = check(folder.path(), "n1", &[], Some(&current()), Some(&judged));
        assert_eq!(report.problems, []);
        assert_eq!(
            report.changes,
            ["NetworkPolicy default/p changes", "Pod prod/web is new", "Namespace prod goes"]
        );
    }

    #[test]
    fn a_fault_is_said_and_no_change() {
        let report = checked(&BEFORE.replace("holdTimeSeconds", "holdTime"), Some(&current()));
        assert!(report.problems[0].what.starts_with("spec.holdTime: unknown field"), "{report:?}");
        assert_eq!(report.changes, [""; 0]);
        let report = check(Path::new("/nonexistent"), "n1", &[], None, None);
        assert!(report.problems[0].to_string().starts_with("/nonexistent: folder cannot be listed"));
    }
}
