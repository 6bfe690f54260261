//! `configure check`: what a folder of manifests would do to this node, without doing it.
//!
//! A folder with a fault says only what to mend. Of one without, it is said what would change.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::path::Path;
use std::sync::{Arc, Mutex};

use cambric_bgp::config::{
    AddPath, AsOverride, Declared, Distance, FamilyFilters, ListenRange, LocalRole, Receive, ReflectorRole,
    Silence,
};
use cambric_bgp::policy::filter::{Filter, Otherwise};
use cambric_bgp::{Family, Originated, PeerConfig, PeerPolicy, Prefix, RouterConfig, Source};

use crate::drain::{self, Part};
use crate::host::Host;
use crate::intent::{Intent, intent_with_services};
use crate::objects::Problem;
use crate::policy::Cluster;
use crate::services::Answers;
use crate::source::folder::Folder;
use crate::view::View;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What the operator should mend.
    pub problems: Vec<Problem>,
    /// What this node would do otherwise than now, a line each; in the order drains, sessions, announcements,
    /// acceptance, policies.
    pub changes: Vec<String>,
}

/// Addresses of services that are named one by one.
const MOST_SERVICES: usize = 8;
/// Two at once would only be slower together.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Reads `folder` as a daemon on `node` would that knows of no earlier state, neither the record nor what counts
/// now; and compares with what this one does: `current`, if it does something, and `judged`, if it enforces policies.
/// A file that would count as it was before has a problem here and says nothing. Blocks on the file system.
pub fn check(
    folder: &Path,
    node: &str,
    host: &Host,
    current: Option<&Intent>,
    judged: Option<&Cluster>,
) -> Report {
    let _one = ONE_AT_A_TIME.lock();
    check_view(Folder::new(folder.to_owned(), node).view(), node, host, current, judged)
}

fn check_view(
    view: View,
    node: &str,
    host: &Host,
    current: Option<&Intent>,
    judged: Option<&Cluster>,
) -> Report {
    let objects = &view.fabric;
    let running = current.map(|current| current.wanted.router.router_id);
    let served = Answers::at(node).follow(&view.services.services, &view.services.slices);
    match intent_with_services(objects, &served, node, host, running) {
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
    drained(&mut words, before.map_or(&[], |before| &before.drained_by_label), &after.drained_by_label);
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
    let no_ranges = Default::default();
    let old = before.map_or(&no_ranges, |before| &before.wanted.listen_ranges);
    for (range, listen) in old.iter().filter(|(range, _)| !after.wanted.listen_ranges.contains_key(range)) {
        words.push(format!("peers {} from {range} go", listen.template.name));
    }
    for (range, listen) in &after.wanted.listen_ranges {
        match old.get(range) {
            None => words.push(format!("peers {} from {range} may come", listen.template.name)),
            Some(old) => words.extend(range_changes(old, listen)),
        }
    }
    announced(&mut words, before.map(|before| &before.wanted.originated), &after.wanted.originated);
    let nothing = Declared::default();
    declared(&mut words, before.map_or(&nothing, |before| &before.wanted.declared), &after.wanted.declared);
    words
}

/// Of services there may be thousands: of many that change alike their number is said.
fn announced(
    words: &mut Vec<String>,
    before: Option<&BTreeMap<Prefix, Originated>>,
    after: &BTreeMap<Prefix, Originated>,
) {
    let nothing = BTreeMap::new();
    let before = before.unwrap_or(&nothing);
    let missing_in = |some: &BTreeMap<Prefix, Originated>, others: &BTreeMap<Prefix, Originated>| {
        let missing = some.iter().filter(|(prefix, _)| !others.contains_key(prefix));
        missing.map(|(prefix, own)| (*prefix, own.source)).collect::<Vec<_>>()
    };
    let others = after.iter().filter(|(prefix, own)| before.get(prefix).is_some_and(|old| old != *own));
    let others = others.map(|(prefix, own)| (*prefix, own.source)).collect();
    for (prefixes, what) in [
        (missing_in(before, after), "no longer announced"),
        (missing_in(after, before), "announced"),
        (others, "announced otherwise"),
    ] {
        let (services, named): (Vec<_>, Vec<_>) =
            prefixes.into_iter().partition(|(_, source)| *source == Source::Services);
        words.extend(named.iter().map(|(prefix, _)| format!("prefix {prefix} is {what}")));
        match &services[..] {
            few if few.len() <= MOST_SERVICES => {
                words.extend(few.iter().map(|(prefix, _)| format!("prefix {prefix} is {what}")));
            }
            many => words.push(format!("{} addresses of services are {what}", many.len())),
        }
    }
}

fn drained(words: &mut Vec<String>, before: &[Part], after: &[Part]) {
    for part in Part::ALL {
        match (before.contains(&part), after.contains(&part)) {
            (false, true) => words.push(format!("{part} are drained by the label {}", drain::LABEL)),
            (true, false) => {
                words.push(format!("{part} are no longer drained by the label {}", drain::LABEL))
            }
            _ => {}
        }
    }
}

fn router(words: &mut Vec<String>, before: Option<&Intent>, after: &Intent) {
    let Some(before) = before else { return };
    let (old, new) = (&before.wanted.router, &after.wanted.router);
    let of = |router: &RouterConfig| (router.asn, router.router_id, router.cluster_id);
    if of(old) == of(new) {
        return;
    }
    changed(words, "AS", old.asn, new.asn);
    changed(words, "router ID", old.router_id, new.router_id);
    let cluster = |router: &RouterConfig| router.cluster_id.unwrap_or(router.router_id);
    changed(words, "cluster ID", cluster(old), cluster(new));
    words.push("all sessions start anew".to_owned());
}

fn range_changes(old: &ListenRange, new: &ListenRange) -> Vec<String> {
    let mut words = peer_changes(&old.template, &new.template);
    if old.most_peers != new.most_peers {
        let name = &new.template.name;
        words.push(format!("peer {name}: most peers: {} instead of {}", new.most_peers, old.most_peers));
    }
    words
}

/// As `ipv4 received and up to 4 sent`.
fn add_path(config: &PeerConfig) -> String {
    let of_family = |(family, AddPath { receive, send }): (&Family, &AddPath)| {
        let receive = (*receive == Receive::Several).then(|| "received".to_owned());
        let send = send.map(|most| format!("up to {most} sent"));
        let ways: Vec<String> = receive.into_iter().chain(send).collect();
        (!ways.is_empty()).then(|| format!("{family} {}", ways.join(" and ")))
    };
    let families: Vec<String> = config.add_path.iter().filter_map(of_family).collect();
    if families.is_empty() { "none".to_owned() } else { families.join(", ") }
}

fn local_role(config: &PeerConfig) -> String {
    config.local_role.map_or("none".to_owned(), |LocalRole { role, silence }| match silence {
        Silence::Accepted => role.to_string(),
        Silence::Refused => format!("{role}, strict"),
    })
}

/// How far away it may be.
fn distance(config: &PeerConfig) -> String {
    match config.transport.distance {
        Distance::Adjacent => "on a link".to_owned(),
        Distance::Within(1) => "on a link, and no packet from further away".to_owned(),
        Distance::Within(hops) => format!("within {hops} hops, and no packet from further away"),
        Distance::Multihop(ttl) => format!("any, with TTL {ttl}"),
    }
}

fn peer_changes(old: &PeerConfig, new: &PeerConfig) -> Vec<String> {
    let mut words = Vec::new();
    changed(&mut words, "name", &old.name, &new.name);
    changed(&mut words, "AS", old.asn, new.asn);
    changed(&mut words, "port", old.port, new.port);
    let address = |config: &PeerConfig| {
        config
            .transport
            .local_address
            .map_or("chosen by the kernel".to_owned(), |address| address.to_string())
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
    filters(&mut words, &old.policy, &new.policy);
    changed(&mut words, "max prefixes", old.max_prefixes, new.max_prefixes);
    let warns = |config: &PeerConfig| format!("{} %", config.warn_at_percent);
    changed(&mut words, "warning of max prefixes at", warns(old), warns(new));
    let interface =
        |config: &PeerConfig| config.transport.interface.clone().unwrap_or_else(|| "any".to_owned());
    changed(&mut words, "interface", interface(old), interface(new));
    changed(&mut words, "distance", distance(old), distance(new));
    let local_asn =
        |config: &PeerConfig| config.local_asn.map_or("the node's".to_owned(), |asn| asn.to_string());
    changed(&mut words, "local AS", local_asn(old), local_asn(new));
    let override_of = |config: &PeerConfig| match config.as_override {
        AsOverride::Off => "off",
        AsOverride::On => "on",
    };
    changed(&mut words, "AS override", override_of(old), override_of(new));
    changed(&mut words, "own AS allowed", old.allow_own_as, new.allow_own_as);
    let restart = |config: &PeerConfig| match config.restart.restart_time {
        Some(time) => format!("{} s", time.as_secs()),
        None => "the default".to_owned(),
    };
    changed(&mut words, "restart time", restart(old), restart(new));
    let long_lived = |config: &PeerConfig| format!("{} s", config.restart.long_lived.as_secs());
    changed(&mut words, "long-lived", long_lived(old), long_lived(new));
    let bfd = |config: &PeerConfig| match config.bfd {
        None => "off".to_owned(),
        Some(cambric_bfd::Config { transmit, receive, multiplier }) => {
            format!("{} ms out, {} ms in, x {multiplier}", transmit.as_millis(), receive.as_millis())
        }
    };
    changed(&mut words, "BFD", bfd(old), bfd(new));
    let role = |config: &PeerConfig| match config.role {
        ReflectorRole::NonClient => "none",
        ReflectorRole::Client => "client",
    };
    changed(&mut words, "reflector role", role(old), role(new));
    changed(&mut words, "several paths", add_path(old), add_path(new));
    changed(&mut words, "local role", local_role(old), local_role(new));
    words.extend(match (&old.transport.password, &new.transport.password) {
        (None, Some(_)) => Some("a key of TCP MD5 is used".to_owned()),
        (Some(_), None) => Some("no key of TCP MD5 is used any more".to_owned()),
        (Some(old), Some(new)) if old != new => Some("the key of TCP MD5 is another one".to_owned()),
        _ => None,
    });
    words.into_iter().map(|word| format!("peer {}: {word}", new.name)).collect()
}

/// Which filters routes go through, and what is another in those that stay.
fn filters(words: &mut Vec<String>, old: &PeerPolicy, new: &PeerPolicy) {
    let none = FamilyFilters::default();
    for family in Family::ALL {
        let of = |policy: &PeerPolicy| policy.filters.get(&family).unwrap_or(&none).clone();
        let (old, new) = (of(old), of(new));
        for (direction, old, new) in [("import", old.import, new.import), ("export", old.export, new.export)]
        {
            let names = |filters: &[Arc<Filter>]| {
                let names: Vec<&str> = filters.iter().map(|filter| filter.name.as_str()).collect();
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            };
            changed(words, &format!("{family} {direction} filters"), names(&old), names(&new));
            for filter in &new {
                let before = old.iter().find(|before| before.name == filter.name);
                let of_rules = before.map(|before| rules(before, filter)).unwrap_or_default();
                let of_filter =
                    |what: &String| format!("{family} {direction} filter {}: {what}", filter.name);
                words.extend(of_rules.iter().map(of_filter));
            }
        }
    }
}

/// By their numbers, as `show route` names them.
fn rules(old: &Filter, new: &Filter) -> Vec<String> {
    let mut words = Vec::new();
    for at in 0..old.rules.len().max(new.rules.len()) {
        let number = at + 1;
        match (old.rules.get(at), new.rules.get(at)) {
            (Some(_), None) => words.push(format!("rule {number} goes")),
            (None, Some(_)) => words.push(format!("rule {number} is new")),
            (Some(old), Some(new)) if old != new => words.push(format!("rule {number} changes")),
            _ => {}
        }
    }
    let name = |otherwise: Otherwise| format!("{otherwise:?}").to_lowercase();
    changed(&mut words, "otherwise", name(old.otherwise), name(new.otherwise));
    words
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
        check(folder.path(), "n1", &Host::default(), current, None)
    }

    fn current() -> Intent {
        let folder = tempfile::tempdir().expect("temporary folder");
        fs::write(folder.path().join("all.yaml"), BEFORE).expect("own folder");
        let view = Folder::new(folder.path().to_owned(), "n1").view();
        crate::intent::intent(&view.fabric, "n1", &[]).expect("node is known")
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
    fn filters_and_their_rules_are_said_by_name_and_number() {
        let filter = |rules: &str, otherwise: &str| {
            format!(
                "---\napiVersion: cambric.dev/v1alpha1\nkind: BGPFilter\nmetadata: {{name: tor-in}}\n\
                 spec: {{rules: [{rules}], otherwise: {otherwise}}}\n"
            )
        };
        let with = |filter: &str| {
            let filters = "filters: [{family: ipv4, import: [tor-in]}]";
            BEFORE.replace("holdTimeSeconds: 90", &format!("holdTimeSeconds: 90, {filters}")) + filter
        };
        let folder = tempfile::tempdir().expect("temporary folder");
        let before = with(&filter("{action: Reject}, {action: Accept}", "Reject"));
        fs::write(folder.path().join("all.yaml"), before).expect("own folder");
        let view = Folder::new(folder.path().to_owned(), "n1").view();
        let before = crate::intent::intent_while_running(&view.fabric, "n1", &Host::default(), None)
            .expect("node is known");

        let of_tor1a = |report: Report| -> Vec<String> {
            assert_eq!(report.problems, []);
            report
                .changes
                .into_iter()
                .filter_map(|word| Some(word.strip_prefix("peer tor1a: ")?.to_owned()))
                .collect()
        };
        let added = of_tor1a(checked(&with(&filter("", "Accept")), Some(&current())));
        assert_eq!(added, ["ipv4 import filters none -> tor-in"]);
        let after = with(&filter("{action: Accept}", "Accept"));
        let changed = of_tor1a(checked(&after, Some(&before)));
        assert_eq!(
            changed,
            [
                "ipv4 import filter tor-in: rule 1 changes",
                "ipv4 import filter tor-in: rule 2 goes",
                "ipv4 import filter tor-in: otherwise reject -> accept",
            ]
        );
    }

    #[test]
    fn a_filter_that_is_missing_is_said_and_the_peer_is_left_out() {
        let manifests = BEFORE.replace(
            "holdTimeSeconds: 90",
            "holdTimeSeconds: 90, filters: [{family: ipv4, export: [absent]}]",
        );
        let report = checked(&manifests, None);
        let says = "all.yaml, document 2: BGPPeerConfig tor: spec.filters[0].export[0]: \"absent\": no BGPFilter of \
                    this name counts; it is left out";
        assert!(report.problems.iter().any(|problem| problem.to_string().starts_with(says)), "{report:#?}");
        let left_out = "spec.peers[0].peerConfig: \"tor\" (peer tor1a): no BGPPeerConfig of this name counts";
        assert!(report.problems.iter().any(|problem| problem.what.starts_with(left_out)), "{report:#?}");
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
        let report = check(folder.path(), "n1", &Host::default(), Some(&current()), Some(&judged));
        assert_eq!(report.problems, []);
        assert_eq!(
            report.changes,
            ["NetworkPolicy default/p changes", "Pod prod/web is new", "Namespace prod goes"]
        );
    }

    #[test]
    fn what_the_label_drains_is_said_and_a_value_that_means_nothing_by_name() {
        let labelled = |value: &str| {
            BEFORE.replace(
                "metadata: {name: n1}\nspec: {pod",
                &format!("metadata: {{name: n1, labels: {{cambric.dev/drain: '{value}'}}}}\nspec: {{pod"),
            )
        };
        let folder = tempfile::tempdir().expect("temporary folder");
        fs::write(folder.path().join("all.yaml"), labelled("services")).expect("own folder");
        let view = Folder::new(folder.path().to_owned(), "n1").view();
        let draining = crate::intent::intent(&view.fabric, "n1", &[]).expect("node is known");
        for (value, before, changes) in [
            (
                "all",
                current(),
                &[
                    "services are drained by the label cambric.dev/drain",
                    "pods are drained by the label cambric.dev/drain",
                ][..],
            ),
            (
                "pods",
                draining.clone(),
                &[
                    "services are no longer drained by the label cambric.dev/drain",
                    "pods are drained by the label cambric.dev/drain",
                ],
            ),
            ("services", draining, &[]),
            ("false", current(), &[]),
        ] {
            let report = checked(&labelled(value), Some(&before));
            assert_eq!(
                (&report.problems[..], &report.changes[..]),
                (&[][..], &changes.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
                "{value}"
            );
        }
        let wrong = checked(&labelled("soon"), Some(&current()));
        let says = "all.yaml, document 1: Node n1: metadata.labels: cambric.dev/drain: \"soon\" is none of all, services and \
                    pods; nothing is drained by it";
        assert_eq!(wrong.problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [says]);
    }

    #[test]
    fn a_fault_is_said_and_no_change() {
        let report = checked(&BEFORE.replace("holdTimeSeconds", "holdTime"), Some(&current()));
        assert!(report.problems[0].what.starts_with("spec.holdTime: unknown field"), "{report:?}");
        assert_eq!(report.changes, [""; 0]);
        let report = check(Path::new("/nonexistent"), "n1", &Host::default(), None, None);
        assert!(report.problems[0].to_string().starts_with("/nonexistent: folder cannot be listed"));
    }
}
