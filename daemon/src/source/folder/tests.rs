use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::objects::Objects;
use crate::source::documents::MOST_ROUNDS;
use crate::source::record::Counts;

const CONFIG: &str =
    "apiVersion: cambric.dev/v1alpha1\nkind: BGPClusterConfig\nmetadata: {name: c}\nspec: {mesh: Disabled}\n";

/// A folder that is looked at after each edit.
pub(super) struct Edited {
    pub(super) temporary: tempfile::TempDir,
    pub(super) folder: Folder,
}

impl Edited {
    pub(super) fn new(files: &[(&str, &str)]) -> Edited {
        let temporary = tempfile::tempdir().expect("temporary folder");
        // Some have keys in it.
        let only_for_us = fs::Permissions::from_mode(0o700);
        fs::set_permissions(temporary.path(), only_for_us).expect("own folder");
        let folder = Folder::new(temporary.path().to_owned(), "elsewhere");
        let edited = Edited { temporary, folder };
        files.iter().for_each(|(file, text)| edited.written(file, text));
        edited
    }

    pub(super) fn written(&self, file: &str, text: &str) {
        fs::write(self.temporary.path().join(file), text).expect("own folder");
    }

    pub(super) fn view(&mut self) -> View {
        let mut view = self.folder.view();
        self.folder.keep_record();
        self.folder.tell_record(&mut view);
        view
    }

    fn view_with(&mut self, file: &str, text: &str) -> View {
        self.written(file, text);
        self.view()
    }

    fn view_without(&mut self, file: &str) -> View {
        fs::remove_file(self.temporary.path().join(file)).expect("own folder");
        self.view()
    }
}

pub(super) fn node(name: &str, range: &str) -> String {
    format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nspec: {{podCIDRs: [{range}]}}\n")
}

pub(super) fn at_address(node: &str, address: &str) -> String {
    format!("{node}status: {{addresses: [{{type: InternalIP, address: {address}}}]}}\n")
}

pub(super) fn ours(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: cambric.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

pub(super) fn overrides(name: &str, peers: &str) -> String {
    ours("BGPNodeOverride", name, &format!("{{peers: [{peers}]}}"))
}

pub(super) fn problems(view: &View) -> Vec<String> {
    view.fabric.problems.iter().chain(&view.fabric.notices).map(Problem::to_string).collect()
}

/// As the daemon sees the objects: what was wrong elsewhere does not count.
pub(super) fn without_problems(view: &View) -> View {
    let fabric = Objects { problems: Vec::new(), notices: Vec::new(), ..Objects::clone(&view.fabric) };
    View { fabric: Arc::new(fabric), ..view.clone() }
}

const ONE: &str = "{name: a, address: 192.0.2.1, asn: 1}";

/// Three nodes, a configuration of all, options and peers of one node: a file each.
fn cluster() -> Edited {
    Edited::new(&[
        (
            "cluster.yaml",
            &ours("BGPClusterConfig", "all", "{peers: [{name: rr, address: 192.0.2.100, asn: 1}]}"),
        ),
        ("n1.yaml", &at_address(&node("n1", "10.1.0.0/24, 'fd00:1::/64'"), "192.0.2.11")),
        ("n2.yaml", &node("n2", "10.2.0.0/24, 'fd00:2::/64'")),
        ("n3.yaml", &node("n3", "10.3.0.0/24")),
        ("peers.yaml", &overrides("n1", "{name: a, address: 192.0.2.1, asn: 1, peerConfig: tor}")),
        ("tor.yaml", &ours("BGPPeerConfig", "tor", "{holdTimeSeconds: 9}")),
    ])
}

/// Each line is one edit of a running node: file, its new text, what the operator is told. Nothing but the
/// problem may change.
#[test]
fn an_edit_with_a_fault_changes_nothing_and_is_named() {
    let node_n2 = "n2.yaml, document 1: Node n2";
    let peers = "peers.yaml, document 1: BGPNodeOverride n1";
    let edits: &[(&str, String, String)] = &[
        (
            "peers.yaml",
            "kind: [".to_owned(),
            "peers.yaml, document 1: did not find expected node content at line 2 column \
                 1, while parsing a flow node"
                .to_owned(),
        ),
        (
            "peers.yaml",
            String::new(),
            "peers.yaml: there is nothing in it; remove the file to remove its objects".to_owned(),
        ),
        (
            "peers.yaml",
            "# all of it commented out\n".to_owned(),
            "peers.yaml: there is nothing in it; remove the file to remove its objects".to_owned(),
        ),
        (
            "peers.yaml",
            overrides("n1", "{name: a, adress: 192.0.2.1, asn: 1}"),
            format!(
                "{peers}: spec.peers[0].adress: unknown field `adress`, expected one of \
                 `name`, `address`, `interface`, `defaultGateway`, `listenRange`, `asn`, `maxPeers`, `peerAS`, `port`, \
                 `localAddress`, `localInterface`, `peerConfig`"
            ),
        ),
        (
            "peers.yaml",
            overrides("n1", "{name: a, asn: 1}"),
            format!("{peers}: spec.peers[0].address: absent: nobody knows where the peer is"),
        ),
        (
            "peers.yaml",
            overrides("n1", "{name: a, interface: eth1, localInterface: eth1, asn: 1}"),
            format!("{peers}: spec.peers[0].localInterface: there: not used with interface: both ends are link-local addresses of its link"),
        ),
        (
            "tor.yaml",
            ours("BGPPeerConfig", "tor", "{multihop: {ttl: 2}, bfd: {}}"),
            "tor.yaml, document 1: BGPPeerConfig tor: spec.bfd: there: for a peer on a link (RFC 5881); multihop is there"
                .to_owned(),
        ),
        (
            "tor.yaml",
            ours("BGPPeerConfig", "tor", "{bfd: {transmitMilliseconds: 49}}"),
            "tor.yaml, document 1: BGPPeerConfig tor: spec.bfd.transmitMilliseconds: 49: 50 to 60000".to_owned(),
        ),
        (
            "tor.yaml",
            ours("BGPPeerConfig", "tor", "{bfd: {multiplier: 1}}"),
            "tor.yaml, document 1: BGPPeerConfig tor: spec.bfd.multiplier: 1: 2 to 255: one lost packet is no lost path"
                .to_owned(),
        ),
        (
            "peers.yaml",
            overrides("n1", "{name: a, address: 192.0.2.1, asn: one}"),
            format!("{peers}: spec.peers[0].asn: invalid type: string \"one\", expected u32"),
        ),
        (
            "peers.yaml",
            overrides("n1", "{name: a, address: 192.0.2.1, asn: 0}"),
            format!("{peers}: spec.peers[0].asn: 0: 1 to 4294967295; 0 is reserved (RFC 7607)"),
        ),
        (
            "peers.yaml",
            overrides("n1", "{name: a, address: 192.0.2.300, asn: 1}"),
            format!("{peers}: spec.peers[0].address: \"192.0.2.300\": not an IP address"),
        ),
        (
            "peers.yaml",
            overrides("n1", "{name: a, address: 224.0.0.5, asn: 1}"),
            format!("{peers}: spec.peers[0].address: 224.0.0.5: a multicast address"),
        ),
        (
            "peers.yaml",
            overrides("n1", "{name: a, address: 192.0.2.1, asn: 1, port: 0}"),
            format!("{peers}: spec.peers[0].port: 0: 1 to 65535"),
        ),
        (
            "peers.yaml",
            overrides("n1", "{name: a, address: 192.0.2.1, asn: 1, localAddress: 'fd00::1'}"),
            format!("{peers}: spec.peers[0].localAddress: fd00::1: not of the family of 192.0.2.1"),
        ),
        (
            "peers.yaml",
            overrides("n1", &format!("{ONE}, {ONE}")),
            format!("{peers}: spec.peers[1].address: 192.0.2.1: spec.peers[0] (peer a) has the same"),
        ),
        (
            "peers.yaml",
            overrides("n1", "{name: a, address: 192.0.2.1, asn: 1, peerConfig: tro}"),
            format!(
                "{peers}: spec.peers[0].peerConfig: \"tro\" (peer a): no BGPPeerConfig of this \
                 name counts"
            ),
        ),
        (
            "peers.yaml",
            overrides("n1", "{name: a, address: 192.0.2.100, asn: 1}"),
            format!(
                "{peers}: spec.peers[0].address: 192.0.2.100 (peer a): Conflicted: a peer of \
                 cluster.yaml, document 1: BGPClusterConfig all has the same"
            ),
        ),
        (
            "peers.yaml",
            overrides("n1", "{name: rr, address: 192.0.2.1, asn: 1}"),
            format!(
                "{peers}: spec.peers[0].address: 192.0.2.1 (peer rr): Conflicted: a peer of \
                 cluster.yaml, document 1: BGPClusterConfig all has the same name"
            ),
        ),
        (
            "peers.yaml",
            overrides("n1", &format!("{ONE}, {{name: a, address: 192.0.2.2, asn: 1}}")),
            format!("{peers}: spec.peers[1].name: a: spec.peers[0] (192.0.2.1) has the same"),
        ),
        (
            "peers.yaml",
            overrides("n1", "{name: 192.0.2.1, address: 192.0.2.1, asn: 1}"),
            format!(
                "{peers}: spec.peers[0].name: \"192.0.2.1\": no name, but something else that can be \
                 said of peers"
            ),
        ),
        (
            "peers.yaml",
            overrides("n1", "{name: 'rack 1', address: 192.0.2.1, asn: 1}"),
            format!(
                "{peers}: spec.peers[0].name: \"rack 1\": letters, digits, '.', '_', ':' and '-', a letter \
                 or digit first, at most 63"
            ),
        ),
        (
            "peers.yaml",
            overrides("n1", "{name: a, address: 'FD00::1', asn: 1}"),
            format!("{peers}: spec.peers[0].address: \"FD00::1\": write it as fd00::1"),
        ),
        (
            "cluster.yaml",
            ours("BGPClusterConfig", "all", "{peers: [{name: rr, address: 192.0.2.1, asn: 1}]}"),
            format!(
                "cluster.yaml, document 1: BGPClusterConfig all: spec.peers[0].address: \
                 192.0.2.1 (peer rr at node n1): Conflicted: a peer of {peers} has the same"
            ),
        ),
        (
            "cluster.yaml",
            ours("BGPClusterConfig", "all", "{podCIDRs: [10.0.0.1/8]}"),
            "cluster.yaml, document 1: BGPClusterConfig all: spec.podCIDRs[0]: 10.0.0.1/8: \
                 host bits are set; 10.0.0.0/8 is without them"
                .to_owned(),
        ),
        (
            "cluster.yaml",
            ours("BGPClusterConfig", "all", "{podCIDRs: [10.0.0.0/8, ten]}"),
            "cluster.yaml, document 1: BGPClusterConfig all: spec.podCIDRs[1]: \"ten\": \
                 not of the form address/length"
                .to_owned(),
        ),
        (
            "cluster.yaml",
            ours("BGPClusterConfig", "all", "{serviceCIDRs: ['::/0']}"),
            "cluster.yaml, document 1: BGPClusterConfig all: spec.serviceCIDRs[0]: ::/0: \
                 every address lies in it"
                .to_owned(),
        ),
        (
            "tor.yaml",
            ours("BGPPeerConfig", "tor", "{holdTimeSeconds: 2}"),
            "tor.yaml, document 1: BGPPeerConfig tor: spec.holdTimeSeconds: 2: 0 or at \
                 least 3 (RFC 4271 section 4.2)"
                .to_owned(),
        ),
        (
            "tor.yaml",
            ours("BGPPeerConfig", "tor", "{holdTimeSeconds: 9, keepaliveSeconds: 4}"),
            "tor.yaml, document 1: BGPPeerConfig tor: spec.keepaliveSeconds: 4: 1 to 3, a \
                 third of the hold time (RFC 4271 section 4.4)"
                .to_owned(),
        ),
        (
            "tor.yaml",
            ours("BGPPeerConfig", "tor", "{families: []}"),
            "tor.yaml, document 1: BGPPeerConfig tor: spec.families: empty: leave it out \
                 for the family of the peer's address"
                .to_owned(),
        ),
        (
            "tor.yaml",
            ours("BGPPeerConfig", "rack", "{}"),
            format!(
                "tor.yaml: has changed, and now {peers}: spec.peers[0].peerConfig: \
                 \"tor\" (peer a): no BGPPeerConfig of this name counts"
            ),
        ),
        (
            "n2.yaml",
            node("n2", "10.1.0.0/24"),
            format!(
                "{node_n2}: spec.podCIDRs[0]: 10.1.0.0/24: Conflicted: overlaps 10.1.0.0/24 of \
                 n1.yaml, document 1: Node n1"
            ),
        ),
        (
            "n2.yaml",
            node("n2", "10.0.0.0/8"),
            format!(
                "{node_n2}: spec.podCIDRs[0]: 10.0.0.0/8: Conflicted: overlaps 10.1.0.0/24 of \
                 n1.yaml, document 1: Node n1"
            ),
        ),
        (
            "n2.yaml",
            node("n2", "10.2.0.0/24, 'fd00:1::8/125'"),
            format!(
                "{node_n2}: spec.podCIDRs[1]: fd00:1::8/125: Conflicted: overlaps fd00:1::/64 \
                 of n1.yaml, document 1: Node n1"
            ),
        ),
        (
            "n2.yaml",
            at_address(&node("n2", "10.2.0.0/24"), "192.0.2.11"),
            format!(
                "{node_n2}: status.addresses: 192.0.2.11: Conflicted: n1.yaml, document 1: \
                 Node n1 has the same"
            ),
        ),
        (
            "n2.yaml",
            node("n2", "10.2.0.0/24, 10.2.0.0/16"),
            format!(
                "{node_n2}: spec.podCIDRs[1]: 10.2.0.0/16: overlaps spec.podCIDRs[0]: \
                 10.2.0.0/24"
            ),
        ),
        (
            "n2.yaml",
            format!("{}---\n{}", node("n2", "10.2.0.0/24"), node("n1", "10.9.0.0/24")),
            "n2.yaml, document 2: Node n1: metadata.name: n1: Conflicted: n1.yaml, \
                 document 1: Node n1 has the same"
                .to_owned(),
        ),
        (
            "n2.yaml",
            format!("{}---\n{}", node("n2", "10.2.0.0/24"), ours("BGPClusterConfig", "other", "{}")),
            "n2.yaml, document 2: BGPClusterConfig other: spec.nodeSelector: Conflicted: \
                 cluster.yaml, document 1: BGPClusterConfig all selects node n1 and 2 more, too"
                .to_owned(),
        ),
    ];
    let mut folder = cluster();
    let before = folder.view();
    assert_eq!(problems(&before), [""; 0]);
    for (file, text, says) in edits {
        let good = fs::read_to_string(folder.temporary.path().join(file)).expect("own folder");
        let view = folder.view_with(file, text);
        println!("{}", problems(&view).join("\n"));
        assert_eq!(problems(&view), [format!("{says}; it counts as it was before")]);
        assert_eq!(without_problems(&view), before, "{says}");
        assert_eq!(folder.view(), view, "the second look finds the same");
        assert_eq!(folder.view_with(file, &good), before, "mended after {says}");
    }
}

/// The same at the first look: the smallest part is left out, and all else counts.
#[test]
fn a_fault_at_the_first_look_costs_what_it_is_in() {
    let bad = overrides("n1", &format!("{{name: b, address: ten, asn: 1}}, {ONE}"));
    let mut folder = Edited::new(&[
        ("a.yaml", &node("n1", "10.1.0.0/24, 10.2.0.0/33")),
        ("b.yaml", &node("n2", "10.0.0.0/8, 'fd00:2::/64'")),
        ("c.yaml", &node("n1", "10.3.0.0/24")),
        ("d.yaml", &bad),
        ("e.yaml", &overrides("n9", ONE)),
        ("f.yaml", &ours("BGPPeerConfig", "tor", "{holdTimeSeconds: 1}")),
    ]);
    let view = folder.view();
    assert_eq!(
        problems(&view),
        [
            "a.yaml, document 1: Node n1: spec.podCIDRs[1]: \"10.2.0.0/33\": not of the \
                 form address/length; this range is left out",
            "b.yaml, document 1: Node n2: spec.podCIDRs[0]: 10.0.0.0/8: Conflicted: \
                 overlaps 10.1.0.0/24 of a.yaml, document 1: Node n1; it is left out",
            "c.yaml, document 1: Node n1: metadata.name: n1: Conflicted: a.yaml, document \
                 1: Node n1 has the same; it is left out",
            "d.yaml, document 1: BGPNodeOverride n1: spec.peers[0].address: \"ten\": not \
                 an IP address; this peer is left out",
            "f.yaml, document 1: BGPPeerConfig tor: spec.holdTimeSeconds: 1: 0 or at least \
                 3 (RFC 4271 section 4.2); this object is left out",
            "e.yaml, document 1: BGPNodeOverride n9: metadata.name: n9: there is no such Node",
        ]
    );
    let ranges = |name: &str| -> Vec<String> {
        view.fabric.nodes[name].says.pod_ranges.iter().map(|(_, range)| range.to_string()).collect()
    };
    assert_eq!(
        (ranges("n1"), ranges("n2")),
        (vec!["10.1.0.0/24".to_owned()], vec!["fd00:2::/64".to_owned()])
    );
    assert_eq!(view.fabric.node_overrides["n1"].says.peers[0].name, "a");
    assert_eq!(view.fabric.unknown, []);
    assert_eq!(folder.view(), view, "the second look finds the same");

    let worse = folder.view_with("d.yaml", &bad.replace("192.0.2.1", "192.0.2.256"));
    assert_eq!(worse.fabric.node_overrides["n1"].says.peers[0].name, "a", "what was served goes on");
    let mended = folder.view_with("d.yaml", &bad.replace("ten", "192.0.2.10"));
    assert_eq!(mended.fabric.node_overrides["n1"].says.peers.len(), 2);
}

#[test]
fn what_a_node_is_cannot_be_guessed_at_the_first_look() {
    for spec in ["{asn: 0}", "{routerID: ten}", "{asn: x}", "{colour: red}"] {
        let mut folder = Edited::new(&[
            ("a.yaml", &ours("BGPNodeOverride", "n1", spec)),
            ("n1.yaml", &node("n1", "10.1.0.0/24")),
        ]);
        let view = folder.view();
        assert_eq!(view.fabric.unknown.len(), 1, "{spec}");
        assert_eq!(view.fabric.problems, view.fabric.unknown);
        let mended = folder.view_with("a.yaml", &ours("BGPNodeOverride", "n1", "{asn: 1}"));
        assert_eq!((mended.fabric.unknown.len(), mended.fabric.problems.len()), (0, 0));
        assert_eq!(
            folder.view_with("a.yaml", &ours("BGPNodeOverride", "n1", spec)).fabric.unknown,
            [],
            "known now"
        );
    }
}

#[test]
fn a_new_file_does_not_take_what_another_has_whatever_its_name() {
    let mut folder = cluster();
    let before = folder.view();
    let thief = format!(
        "{}---\n{}",
        node("n0", "10.1.0.0/16, 'fd00:9::/64'"),
        ours("BGPClusterConfig", "mine", "{}")
    );
    let view = folder.view_with("0.yaml", &thief);
    assert_eq!(
        problems(&view),
        [
            "0.yaml, document 1: Node n0: spec.podCIDRs[0]: 10.1.0.0/16: Conflicted: \
                 overlaps 10.1.0.0/24 of n1.yaml, document 1: Node n1; it is left out",
            "0.yaml, document 2: BGPClusterConfig mine: spec.nodeSelector: Conflicted: \
                 cluster.yaml, document 1: BGPClusterConfig all selects node n0 and 3 more, \
                 too; it is left out",
        ]
    );
    assert_eq!(view.fabric.nodes["n1"], before.fabric.nodes["n1"]);
    assert_eq!(view.fabric.config_of["n1"], "all");
    assert_eq!(view.fabric.config_of["n0"], "all", "the older configuration is for new nodes, too");
    assert_eq!(folder.view(), view, "and so it stays");
    let edited = folder.view_with("n1.yaml", &node("n1", "10.1.0.0/24, 'fd00:11::/64'"));
    assert_eq!(edited.fabric.nodes["n1"].says.pod_ranges.len(), 2, "the winner may be edited");
    let freed = folder.view_with("n1.yaml", &node("n1", "10.11.0.0/24"));
    assert_eq!(freed.fabric.nodes["n0"].says.pod_ranges.len(), 2, "what is free is taken");
}

#[test]
fn what_is_referred_to_is_not_removed_before_the_reference() {
    let mut folder = cluster();
    let before = folder.view();
    let view = folder.view_without("tor.yaml");
    let says = "tor.yaml: is gone, and is missing: peers.yaml, document 1: BGPNodeOverride n1: spec.peers[0].peerConfig: \
                \"tor\" (peer a): no BGPPeerConfig of this name counts; it counts as it was before";
    assert_eq!(problems(&view), [says]);
    assert_eq!(without_problems(&view), before);
    assert_eq!(folder.view(), view, "the second look finds the same");
    let without = folder.view_with("peers.yaml", &overrides("n1", ONE));
    assert_eq!((problems(&without).len(), without.fabric.peer_configs.len()), (0, 0), "both are gone now");
}

#[test]
fn files_may_be_renamed_and_ranges_exchanged() {
    let mut folder = cluster();
    let before = folder.view();
    let path = |name: &str| folder.temporary.path().join(name);
    fs::rename(path("tor.yaml"), path("1.yaml")).expect("own folder");
    fs::rename(path("n2.yaml"), path("2.yaml")).expect("own folder");
    let view = folder.view();
    assert_eq!(problems(&view), [""; 0]);
    assert_eq!(view.fabric.nodes["n2"].says, before.fabric.nodes["n2"].says);
    folder.written("n1.yaml", &node("n1", "10.2.0.0/24"));
    let view = folder.view_with("2.yaml", &node("n2", "10.1.0.0/24"));
    assert_eq!(problems(&view), [""; 0]);
    assert_eq!(view.fabric.nodes["n1"].says.pod_ranges[0].1.to_string(), "10.2.0.0/24");
}

#[test]
fn removing_a_node_is_a_wish_and_what_is_left_of_it_is_named() {
    let mut folder = cluster();
    folder.view();
    let view = folder.view_without("n1.yaml");
    assert_eq!(view.fabric.nodes.len(), 2);
    assert_eq!(
        problems(&view),
        ["peers.yaml, document 1: BGPNodeOverride n1: metadata.name: n1: there is no such Node"]
    );
}

#[test]
fn a_daemon_started_anew_goes_on_from_the_record() {
    let mut edited = cluster();
    let (path, state) = (edited.temporary.path().to_owned(), tempfile::tempdir().expect("temporary folder"));
    let record = state.path().join("record.json");
    let anew = || Folder::with_record(path.clone(), Record::new(record.clone(), "n1"));
    edited.folder = anew();
    edited.view();
    let thief = node("n0", "10.1.0.0/16");
    let before = edited.view_with("0.yaml", &thief);
    let broken = edited.view_with("peers.yaml", "kind: [");
    assert_eq!(problems(&broken).len(), 2);

    edited.folder = anew();
    assert_eq!(edited.view(), broken, "the file with the fault and the older range count as before");
    edited.written("peers.yaml", &overrides("n1", "{name: a, address: 192.0.2.1, asn: 1, peerConfig: tor}"));
    edited.folder = anew();
    assert_eq!(edited.view(), before);
    fs::remove_file(path.join("tor.yaml")).expect("own folder");
    edited.folder = anew();
    assert!(problems(&edited.view())[1].starts_with("tor.yaml: is gone, and is missing: "));

    edited.folder = Folder::new(path.clone(), "elsewhere");
    assert_eq!(
        edited.view().fabric.nodes["n0"].says.pod_ranges.len(),
        1,
        "without record the order of files counts"
    );
    fs::write(&record, "{").expect("own folder");
    edited.folder = anew();
    let view = edited.view();
    assert!(!problems(&view).iter().any(|told| told.starts_with("tor.yaml: ")), "a broken record is none");
    assert_eq!(view.fabric.nodes["n0"].says.pod_ranges.len(), 0, "but the range of this node is its own");
}

#[test]
fn a_fault_in_the_first_view_hides_something_until_it_is_mended() {
    let mut folder = Edited::new(&[("a.yaml", &CONFIG.replace("mesh", "mush"))]);
    let view = folder.view();
    assert!(view.fabric.unknown[0].what.contains("unknown field `mush`"), "{}", view.fabric.unknown[0]);
    assert_eq!(folder.view_with("a.yaml", CONFIG).fabric.unknown, Vec::new());
    let view = folder.view_with("new.yaml", "kind: [");
    let counts = (view.fabric.problems.len(), view.fabric.unknown.len());
    assert_eq!(counts, (1, 0), "a new file hides nothing that was known");
}

/// A folder with the record of a node beside it.
pub(super) struct Recorded {
    pub(super) edited: Edited,
    node: &'static str,
    state: tempfile::TempDir,
}

impl Recorded {
    pub(super) fn new(edited: Edited) -> Recorded {
        Recorded::of("n1", edited)
    }

    pub(super) fn of(node: &'static str, edited: Edited) -> Recorded {
        let mut recorded = Recorded { edited, node, state: tempfile::tempdir().expect("temporary folder") };
        recorded.start_anew_as(node);
        recorded
    }

    pub(super) fn record(&self) -> PathBuf {
        self.state.path().join("state/record.json")
    }

    /// As an earlier version may have left it.
    pub(super) fn write(&self, counts: Counts) {
        let mut record = Record::new(self.record(), self.node);
        record.keep(self.edited.temporary.path(), counts).expect("own folder");
    }

    pub(super) fn start_anew_as(&mut self, node: &str) {
        let record = Record::new(self.record(), node);
        self.edited.folder = Folder::with_record(self.edited.temporary.path().to_owned(), record);
    }

    pub(super) fn view_of_a_new_daemon(&mut self) -> View {
        self.start_anew_as(self.node);
        self.edited.view()
    }
}

#[test]
fn a_new_file_with_a_fault_does_not_cost_a_new_daemon_what_it_knew() {
    let mut recorded = Recorded::new(cluster());
    recorded.edited.view();
    for text in ["kind: [", "apiVersion: v1\nkind: ConfigMap\n---\nkind: [", "apiVersion: v1"] {
        let before = recorded.edited.view_with("zz-new.yaml", text);
        assert_eq!((before.fabric.unknown.len(), before.fabric.problems.len()), (0, 1), "{text}");
        assert_eq!(recorded.view_of_a_new_daemon(), before, "{text}");
    }
    std::os::unix::fs::symlink("/dev/zero", recorded.edited.temporary.path().join("zero.yaml"))
        .expect("own folder");
    let before = recorded.edited.view();
    assert_eq!(recorded.view_of_a_new_daemon(), before);
}

#[test]
fn a_node_whose_own_object_is_gone_goes_on_and_so_does_a_new_daemon() {
    let mut recorded = Recorded::new(cluster());
    let before = recorded.edited.view();
    let text = fs::read_to_string(recorded.edited.temporary.path().join("n1.yaml")).expect("own file");
    recorded.edited.written("n2.yaml", &node("n2", "10.9.0.0/24"));
    let view = recorded.edited.view_without("n1.yaml");
    let says = "Node n1: there is no Node object \"n1\"; it goes on as before, and nothing else is applied until it is \
                back";
    assert_eq!(problems(&view), [says]);
    assert_eq!(without_problems(&view), before);
    assert_eq!(recorded.edited.view(), view);
    assert_eq!(recorded.view_of_a_new_daemon(), view);
    let view = recorded.edited.view_with("n1.yaml", &text);
    assert_eq!(problems(&view), [""; 0]);
    assert_eq!(view.fabric.nodes["n2"].says.pod_ranges.len(), 1, "what had to wait is applied");
}

#[test]
fn an_empty_folder_may_not_be_mounted_yet() {
    let mut recorded = Recorded::new(Edited::new(&[]));
    assert_eq!(recorded.edited.view(), View::default());
    assert_eq!(
        recorded.edited.view_with("a.yaml", "kind: [").fabric.unknown.len(),
        1,
        "nothing of it was seen"
    );
}

/// What this version cannot read, although its predecessor took it.
#[test]
fn a_record_of_another_version_node_or_folder_is_none() {
    let mut recorded = Recorded::new(cluster());
    recorded.edited.view();
    recorded.edited.written("tor.yaml", "kind: [");
    recorded.start_anew_as("n2");
    assert_eq!(recorded.edited.view().fabric.unknown.len(), 1, "another node's");

    let text = fs::read_to_string(recorded.record()).expect("own record");
    for (old, new) in [("\"version\":2", "\"version\":3"), ("holdTimeSeconds", "holdTime")] {
        assert!(text.contains(old), "{text}");
        fs::write(recorded.record(), text.replace(old, new)).expect("own record");
        assert_eq!(recorded.view_of_a_new_daemon().fabric.unknown.len(), 1, "{new}");
    }
    fs::write(recorded.record(), text).expect("own record");
    assert_eq!(recorded.view_of_a_new_daemon().fabric.unknown.len(), 0);
}

#[test]
fn a_folder_that_has_lost_all_its_manifests_is_about_to_be_filled_again() {
    let mut recorded = Recorded::new(cluster());
    let before = recorded.edited.view();
    let folder = recorded.edited.temporary.path().to_owned();
    let texts: Vec<(PathBuf, String)> = files::manifests(&folder)
        .expect("own folder")
        .into_values()
        .map(|path| (path.clone(), files::text(&path).expect("own file")))
        .collect();
    texts.iter().for_each(|(path, _)| fs::remove_file(path).expect("own folder"));
    let empty = recorded.edited.view();
    let says =
        "there is no manifest in it any more; to have this node do nothing, drain it and stop cambricd";
    assert_eq!(problems(&empty), [format!("{}: {says}; all counts as it was before", folder.display())]);
    assert_eq!(without_problems(&empty), before);
    assert_eq!(recorded.view_of_a_new_daemon(), empty);
    let foreign = recorded.edited.view_with("kustomization.yaml", "apiVersion: v1\nkind: ConfigMap\n");
    assert_eq!(foreign, empty, "that is none of ours");

    texts.iter().for_each(|(path, text)| fs::write(path, text).expect("own folder"));
    let broken = recorded.edited.view_with("peers.yaml", "kind: [");
    assert_eq!((problems(&broken).len(), without_problems(&broken)), (1, before));
}

#[test]
fn a_record_that_cannot_be_written_is_a_problem() {
    let mut recorded = Recorded::new(cluster());
    fs::write(recorded.state.path().join("state"), "no folder").expect("own folder");
    let view = recorded.edited.view();
    let says = format!("{}: cannot be written: ", recorded.record().display());
    assert!(problems(&view).len() == 1 && problems(&view)[0].starts_with(&says), "{:?}", problems(&view));
    assert!(view.fabric.nodes.len() == 3 && !recorded.edited.folder.is_recorded());
    fs::remove_file(recorded.state.path().join("state")).expect("own folder");
    assert_eq!(problems(&recorded.edited.view()), [""; 0]);
    assert!(recorded.edited.folder.is_recorded());
}

#[test]
fn a_file_that_is_renamed_gives_nothing_to_others() {
    let mut folder = cluster();
    folder.view();
    let thief = format!("{}---\n{}", node("n0", "10.1.0.0/16"), ours("BGPClusterConfig", "mine", "{}"));
    folder.view_with("0.yaml", &thief);
    for (old, new) in [("n1.yaml", "node-1.yaml"), ("cluster.yaml", "cluster-all.yaml")] {
        let path = |name: &str| folder.temporary.path().join(name);
        fs::rename(path(old), path(new)).expect("own folder");
        let view = folder.view();
        assert_eq!(
            (view.fabric.nodes["n1"].says.pod_ranges.len(), view.fabric.config_of["n1"].as_str()),
            (2, "all"),
            "{new}"
        );
    }
}

#[test]
fn a_refused_duplicate_gets_nothing_when_the_winner_is_renamed() {
    let mut folder = cluster();
    folder.view();
    folder.view_with("n1b.yaml", &node("n1", "10.9.0.0/24"));
    let path = |name: &str| folder.temporary.path().join(name);
    fs::rename(path("n1.yaml"), path("z.yaml")).expect("own folder");
    let view = folder.view();
    assert_eq!(view.fabric.nodes["n1"].says.pod_ranges.len(), 2);
    let says = "n1b.yaml, document 1: Node n1: metadata.name: n1: Conflicted: z.yaml, document 1: Node n1 has the \
                same; it is left out";
    assert_eq!(problems(&view), [says]);
    assert_eq!(folder.view(), view);
    let view = folder.view_without("z.yaml");
    assert_eq!((view.fabric.nodes["n1"].says.pod_ranges.len(), problems(&view).len()), (1, 0), "a wish");
}

#[test]
fn what_moves_into_a_file_with_a_fault_counts_as_before_until_the_fault_is_mended() {
    for fault in ["asn: 0", "asn: ["] {
        let mut recorded = Recorded::new(cluster());
        let before = recorded.edited.view();
        let path = |name: &str| recorded.edited.temporary.path().join(name);
        let text = fs::read_to_string(path("peers.yaml")).expect("own file");
        fs::remove_file(path("peers.yaml")).expect("own folder");
        fs::write(path("10-peers.yaml"), text.replacen("asn: 1", fault, 1)).expect("own folder");
        let view = recorded.edited.view();
        let says = "peers.yaml: is gone while 10-peers.yaml has a fault: BGPNodeOverride n1 may be meant there; it \
                    counts as it was before";
        assert!(problems(&view).contains(&says.to_owned()), "{fault}: {:?}", problems(&view));
        assert_eq!(without_problems(&view), before, "{fault}");
        assert_eq!(recorded.edited.view(), view, "{fault}: not only while it is new");
        assert_eq!(recorded.view_of_a_new_daemon(), view, "{fault}");
        let view = recorded.edited.view_with("10-peers.yaml", &text);
        assert_eq!(
            (view.fabric.node_overrides["n1"].says.peers.len(), problems(&view).len()),
            (1, 0),
            "{fault}"
        );
    }
}

#[test]
fn a_node_that_moves_into_a_file_with_a_fault_elsewhere_stays() {
    let mut folder = cluster();
    let before = folder.view();
    let path = |name: &str| folder.temporary.path().join(name);
    let moved = fs::read_to_string(path("n2.yaml")).expect("own file");
    let both = fs::read_to_string(path("n3.yaml")).expect("own file") + "---\n" + &moved;
    fs::remove_file(path("n2.yaml")).expect("own folder");
    let view = folder.view_with("n3.yaml", &format!("{both}---\nkind: ["));
    assert_eq!(without_problems(&view), before);
    assert_eq!(problems(&view).len(), 2, "{:?}", problems(&view));
    assert_eq!(folder.view(), view);
    let view = folder.view_with("n3.yaml", &both);
    assert_eq!((view.fabric.nodes.len(), problems(&view).len()), (before.fabric.nodes.len(), 0));
}

#[test]
fn a_file_that_was_broken_from_the_start_counts_as_far_as_it_can_be_read() {
    let mut folder = cluster();
    folder.view();
    folder.view_with("n9.yaml", "kind: [");
    let text = node("n9", "10.9.0.0/24") + "---\n" + &ours("BGPPeerConfig", "t9", "{holdTimeSeconds: 1}");
    let view = folder.view_with("n9.yaml", &text);
    assert_eq!(
        (view.fabric.nodes.contains_key("n9"), problems(&view).len()),
        (true, 1),
        "{:?}",
        problems(&view)
    );
}

#[test]
fn this_node_has_its_range_whatever_another_says_and_so_it_stays() {
    let mut recorded = Recorded::new(Edited::new(&[
        ("n0.yaml", &node("n0", "10.1.0.0/24")),
        ("n1.yaml", &node("n1", "10.1.0.0/24")),
    ]));
    let has_it = |view: &View| {
        let says = "n0.yaml, document 1: Node n0: spec.podCIDRs[0]: 10.1.0.0/24: Conflicted: overlaps 10.1.0.0/24 of ";
        let ranges = ["n0", "n1"].map(|name| view.fabric.nodes[name].says.pod_ranges.len());
        ranges == [0, 1] && problems(view).len() == 1 && problems(view)[0].starts_with(says)
    };
    assert!(has_it(&recorded.edited.view()));
    let path = |name: &str| recorded.edited.temporary.path().join(name);
    fs::rename(path("n1.yaml"), path("node1.yaml")).expect("own folder");
    let before = recorded.edited.view();
    assert!(has_it(&before), "{:?}", problems(&before));
    assert_eq!(recorded.view_of_a_new_daemon(), before);
}

/// It runs, and its pods have addresses: what its file says now can only be a typing error.
#[test]
fn this_node_does_not_take_the_range_of_another_by_an_edit() {
    let mut recorded = Recorded::new(cluster());
    let before = recorded.edited.view();
    for (range, of) in [("10.2.0.0/24", "n2"), ("10.0.0.0/8", "n2")] {
        let taken = at_address(&node("n1", range), "192.0.2.11");
        let view = recorded.edited.view_with("n1.yaml", &taken);
        let says =
            format!("n1.yaml: has changed, and now {of}.yaml, document 1: Node {of}: spec.podCIDRs[0]: ");
        assert!(problems(&view)[0].starts_with(&says), "{:?}", problems(&view));
        assert_eq!((problems(&view).len(), without_problems(&view)), (1, before.clone()));
        assert_eq!(recorded.view_of_a_new_daemon(), view);
    }
}

#[test]
fn a_node_that_takes_the_address_of_its_peer_is_the_one_to_mend() {
    let mut folder = cluster();
    let before = folder.view();
    for (address, peer) in [
        (
            "192.0.2.1",
            "peers.yaml, document 1: BGPNodeOverride n1: spec.peers[0].address: 192.0.2.1 (peer a)",
        ),
        (
            "192.0.2.100",
            "cluster.yaml, document 1: BGPClusterConfig all: spec.peers[0].address: 192.0.2.100 (peer rr at node n1)",
        ),
    ] {
        let moved = at_address(&node("n1", "10.1.0.0/24, 'fd00:1::/64'"), address);
        let view = folder.view_with("n1.yaml", &moved);
        let says = format!(
            "n1.yaml: has changed, and now {peer}: Conflicted: the node's own address; it counts as it was before"
        );
        assert_eq!(problems(&view), [says]);
        assert_eq!(without_problems(&view), before);
    }
}

/// As a route reflector that runs on one of the nodes.
#[test]
fn a_peer_of_all_nodes_may_be_one_of_them() {
    let mut folder = cluster();
    folder.view();
    let view = folder.view_with("rr.yaml", &at_address(&node("rr", "10.4.0.0/24"), "192.0.2.100"));
    assert_eq!(problems(&view), [""; 0]);
    assert_eq!(folder.view(), view, "the second look finds the same");
}

#[test]
fn a_peer_that_contradicts_others_at_many_nodes_is_one_line() {
    let mut folder = cluster();
    folder.view();
    for name in ["n2", "n3"] {
        folder.view_with(
            &format!("peers-{name}.yaml"),
            &overrides(name, "{name: b, address: 192.0.2.9, asn: 1}"),
        );
    }
    let two = "{peers: [{name: rr, address: 192.0.2.100, asn: 1}, {name: b2, address: 192.0.2.9, asn: 1}]}";
    folder.view_with("other.yaml", &ours("BGPClusterConfig", "other", two));
    let view = folder.view_without("cluster.yaml");
    let says = "other.yaml, document 1: BGPClusterConfig other: spec.peers[1].address: 192.0.2.9 (peer b2 at node n2 \
                and 1 more): Conflicted: a peer of peers-n2.yaml, document 1: BGPNodeOverride n2 has the same; it is \
                left out";
    assert_eq!(problems(&view), [says]);
    assert_eq!(view.fabric.left_out.len(), 2);
}

#[test]
fn of_a_file_that_breaks_off_it_is_said_what_is_lost() {
    let mut folder = cluster();
    folder.view();
    let view = folder.view_with("x.yaml", &format!("{}---\nkind: [", node("n8", "10.8.0.0/24")));
    let says = "x.yaml, document 2: did not find expected node content at line 7 column 1, while parsing a flow node; \
                it and all that follows in the file is left out";
    assert_eq!(problems(&view), [says]);
    assert!(view.fabric.nodes.contains_key("n8"));
}

#[test]
fn json_is_taken_as_kubectl_takes_it() {
    let text = "{\"apiVersion\": \"v1\", \"kind\": \"Node\",\n\t\"metadata\": {\"name\": \"n1\"},\n\t\"spec\": {\"podCIDRs\": [\"10.1.0.0/24\"]}}\n";
    let view = Edited::new(&[("n1.json", text)]).view();
    assert_eq!((view.fabric.nodes.len(), problems(&view)), (1, vec![]));
}

#[test]
fn a_good_edit_is_taken_beside_what_is_refused_already() {
    let absent = "{name: c, address: 192.0.2.7, asn: 1, peerConfig: absent}";
    let mut folder =
        Edited::new(&[("n1.yaml", &node("n1", "10.1.0.0/24")), ("peers.yaml", &overrides("n1", absent))]);
    let before = problems(&folder.view());
    let view = folder.view_with("peers.yaml", &overrides("n1", &format!("{absent}, {ONE}")));
    assert_eq!((problems(&view), view.fabric.node_overrides["n1"].says.peers.len()), (before, 2));
    let worse = folder.view_with("peers.yaml", &overrides("n1", &absent.replace("absent", "gone")));
    assert_eq!(worse.fabric.node_overrides["n1"].says.peers.len(), 2, "another fault is a new one");
}

#[test]
fn what_is_missing_is_put_back_before_a_good_edit() {
    let mut folder = cluster();
    folder.view();
    folder.written("peers.yaml", &overrides("n1", "{name: a, address: 192.0.2.1, asn: 2, peerConfig: tor}"));
    let view = folder.view_without("tor.yaml");
    assert!(problems(&view).len() == 1 && problems(&view)[0].starts_with("tor.yaml: is gone"), "{view:?}");
    assert_eq!(view.fabric.node_overrides["n1"].says.peers[0].asn.to_string(), "2");
}

/// Each of them needs what the one before it gives up, and the last one gives up nothing.
#[test]
fn a_long_chain_of_changes_counts_as_a_whole_as_it_was_before() {
    let numbers = 0..3 * MOST_ROUNDS;
    let file = |number: usize| format!("n{number:03}.yaml");
    let node_with = |number: usize, range: usize| node(&format!("n{number}"), &format!("10.1.{range}.0/24"));
    let mut folder = Edited::new(&[("other.yaml", CONFIG)]);
    numbers.clone().for_each(|number| folder.written(&file(number), &node_with(number, number)));
    let before = folder.view();
    numbers.clone().for_each(|number| folder.written(&file(number), &node_with(number, number + 1)));
    let view = folder.view_with(&file(numbers.end - 1), "kind: [");
    assert_eq!((problems(&view).len(), without_problems(&view)), (numbers.end, before));
    assert_eq!(folder.view(), view, "the second look finds the same");
}
