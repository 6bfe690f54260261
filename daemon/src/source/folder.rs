//! What a folder of YAML manifests says, as `kubectl apply -f` would take it.
//!
//! Files are read in the order of their names. A typing error must not cost
//! sessions: a file with a fault, or one that contradicts another, is a [`Problem`] and counts as it was before.
//! So does one that is emptied, as by a writer who is not done, and one that is removed while others refer to
//! what is in it.
//!
//! A file that had a fault from the start has nothing it could count as. If nobody can tell what is in it, the
//! view says so, and nobody acts on it; a wrong value costs what it is in, and the rest is served (see
//! [`values`](crate::values)). A daemon that is started anew in the same boot goes on where the last one was
//! (see [`record`](super::record)): an upgrade is no reason to let go of what works.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::manifest::Manifest;
use super::record::{Record, Recorded};
use crate::contradictions::{self, Claims, Entry, Refusal, Settled};
use crate::objects::{Objects, Problem};
use crate::values::Costs;

/// What becomes of a file that cannot be taken.
const AS_BEFORE: &str = "it counts as it was before";

/// A folder, and what its files said when each could last be taken.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// What counted in the last view, by file name.
    taken: BTreeMap<String, File>,
    /// What was granted in the last view.
    claims: Claims,
    /// There was a view with nothing unknown in it.
    seen_whole: bool,
    record: Option<Record>,
}

/// A version of a file.
#[derive(Debug, Clone, Default)]
struct File {
    /// What it says. Two versions that say the same are the same, whatever their comments.
    manifest: Manifest,
    text: String,
}

/// A view in the making.
#[derive(Debug, Default)]
struct Draft {
    /// What counts of each file.
    files: BTreeMap<String, File>,
    problems: Vec<Problem>,
    unknown: Vec<Problem>,
}

impl Draft {
    fn settle(&self, held: &Claims) -> Settled {
        contradictions::settle(&entries(&self.files), held)
    }
}

fn entries(files: &BTreeMap<String, File>) -> Vec<&Entry> {
    files.values().flat_map(|file| &file.manifest.entries).collect()
}

impl Folder {
    /// The folder at `path`, of which nothing is known yet.
    pub fn new(path: PathBuf) -> Folder {
        let (taken, claims) = (BTreeMap::new(), Claims::default());
        Folder { path, taken, claims, seen_whole: false, record: None }
    }

    /// The folder at `path`, of which is known what the file `record` says, and which keeps that file.
    pub(super) fn with_record(path: PathBuf, record: PathBuf) -> Folder {
        let mut record = Record::new(record);
        let mut folder = Folder::new(path);
        if let Some(recorded) = record.read().filter(|recorded| recorded.folder == folder.path) {
            folder.go_on_from(recorded);
        }
        folder.record = Some(record);
        folder
    }

    /// A text that another version of this daemon has taken, and this one cannot read, is no state to go
    /// back to: then nothing is known.
    fn go_on_from(&mut self, Recorded { files, ages, .. }: Recorded) {
        let decoded = |(name, text): (String, String)| {
            let manifest = Manifest::decode(&name, &text);
            (name, File { manifest, text })
        };
        let files: BTreeMap<String, File> = files.into_iter().map(decoded).collect();
        let mut faults = files.values().flat_map(|file| &file.manifest.faults);
        if faults.any(|(_, costs)| *costs == Costs::All) {
            return;
        }
        self.claims = contradictions::settle(&entries(&files), &Claims::from_ages(ages)).claims;
        self.taken = files;
        self.seen_whole = true;
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there was a view with nothing unknown in it.
    pub(super) fn seen_whole(&self) -> bool {
        self.seen_whole
    }

    /// What the folder says now; a file with a fault, or one that contradicts another, says what it said before.
    ///
    /// # Errors
    /// The folder cannot be listed. A file that cannot be read is a problem of the view.
    pub fn view(&mut self) -> io::Result<Objects> {
        let mut draft = Draft::default();
        for (name, path) in manifests(&self.path)? {
            let file = match fs::read_to_string(&path) {
                Ok(text) => File { manifest: Manifest::decode(&name, &text), text },
                Err(error) => File { manifest: Manifest::unreadable(&name, &error), text: String::new() },
            };
            self.take(&mut draft, name, file);
        }
        let Settled { mut objects, claims, .. } = self.settle(&mut draft);
        self.seen_whole |= draft.unknown.is_empty();
        objects.problems = draft.problems;
        objects.problems.sort();
        objects.notices.extend(draft.files.values().flat_map(|file| file.manifest.notices.clone()));
        if self.seen_whole {
            (self.taken, self.claims) = (draft.files, claims);
            self.keep_record();
        } else {
            // Nobody acts on this view: nothing in it is a state to go back to.
            objects.unknown = draft.unknown;
        }
        Ok(objects)
    }

    fn keep_record(&mut self) {
        let Some(record) = &mut self.record else { return };
        let files = self.taken.iter().map(|(name, file)| (name.clone(), file.text.clone())).collect();
        record.keep(Recorded { folder: self.path.clone(), files, ages: self.claims.ages() });
    }

    /// Decides what counts of one file by itself.
    fn take(&self, draft: &mut Draft, name: String, file: File) {
        let now = &file.manifest;
        let before = self.taken.get(&name).filter(|before| before.manifest != *now);
        if let Some(before) = before {
            if now.is_empty && !before.manifest.is_empty {
                let what = "there is nothing in it; remove the file to remove its objects";
                draft.problems.push(Problem::new(&name, what).and(AS_BEFORE));
                draft.files.insert(name, before.clone());
                return;
            }
            if !now.faults.is_empty() {
                draft.problems.extend(now.faults.iter().map(|(fault, _)| fault.clone().and(AS_BEFORE)));
                draft.files.insert(name, before.clone());
                return;
            }
        }
        for (fault, costs) in &now.faults {
            match costs {
                Costs::Only(what) => {
                    draft.problems.push(fault.clone().and(&format!("this {what} is left out")))
                }
                Costs::All => {
                    draft.problems.push(fault.clone());
                    draft.unknown.push(fault.clone());
                }
            }
        }
        draft.files.insert(name, file);
    }

    /// Lets files that contradict others count as they were before, until nothing is left that could.
    fn settle(&self, draft: &mut Draft) -> Settled {
        loop {
            let settled = draft.settle(&self.claims);
            let culprit = settled.refused.iter().find_map(|refusal| {
                let file = self.culprit(draft, refusal)?;
                Some((file.to_owned(), refusal.problem.clone()))
            });
            let Some((file, problem)) = culprit else {
                let standing =
                    settled.refused.iter().map(|refusal| refusal.problem.clone().and("it is left out"));
                draft.problems.extend(standing);
                return settled;
            };
            // A culprit has changed, so it was there before.
            let before = self.taken.get(&file).cloned().unwrap_or_default();
            let gone = draft.files.insert(file.clone(), before).is_none();
            draft.problems.push(if gone {
                Problem::new(&file, format!("is gone, and is missing: {problem}")).and(AS_BEFORE)
            } else if problem.place.starts_with(&format!("{file}, ")) {
                problem.and(AS_BEFORE)
            } else {
                Problem::new(&file, format!("leaves out what is missing: {problem}")).and(AS_BEFORE)
            });
        }
    }

    /// The file whose change is the reason, if one is and if there is a state to go back to: the one that
    /// contradicts, or else the one that had what is missing now.
    fn culprit<'a>(&'a self, draft: &Draft, refusal: &'a Refusal) -> Option<&'a str> {
        let missing = refusal.missing.as_ref();
        let had = missing.and_then(|(kind, name)| self.claims.file_of(*kind, name));
        let is_changed = |file: &&str| {
            let now = draft.files.get(*file).map(|now| &now.manifest);
            self.taken.get(*file).is_some_and(|before| now != Some(&before.manifest))
        };
        [Some(refusal.file.as_str()), had].into_iter().flatten().find(is_changed)
    }
}

/// The manifests of a folder: file names, in their order, and paths.
fn manifests(folder: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if is_manifest(&path) {
            files.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path);
        }
    }
    Ok(files)
}

/// Editors' and Kubernetes' own hidden files are passed over.
fn is_manifest(file: &Path) -> bool {
    let hidden = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let yaml = file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    yaml && !hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "apiVersion: cambric.dev/v1alpha1\nkind: BGPClusterConfig\nmetadata: {name: c}\nspec: {mesh: Disabled}\n";

    /// A folder that is looked at after each edit.
    struct Edited {
        temporary: tempfile::TempDir,
        folder: Folder,
    }

    impl Edited {
        fn new(files: &[(&str, &str)]) -> Edited {
            let temporary = tempfile::tempdir().expect("temporary folder");
            let folder = Folder::new(temporary.path().to_owned());
            let edited = Edited { temporary, folder };
            files.iter().for_each(|(file, text)| edited.written(file, text));
            edited
        }

        fn written(&self, file: &str, text: &str) {
            fs::write(self.temporary.path().join(file), text).expect("own folder");
        }

        fn view(&mut self) -> Objects {
            self.folder.view().expect("own folder")
        }

        fn view_with(&mut self, file: &str, text: &str) -> Objects {
            self.written(file, text);
            self.view()
        }

        fn view_without(&mut self, file: &str) -> Objects {
            fs::remove_file(self.temporary.path().join(file)).expect("own folder");
            self.view()
        }
    }

    fn node(name: &str, range: &str) -> String {
        format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nspec: {{podCIDRs: [{range}]}}\n")
    }

    fn ours(kind: &str, name: &str, spec: &str) -> String {
        format!("apiVersion: cambric.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    }

    fn overrides(name: &str, peers: &str) -> String {
        ours("BGPNodeOverride", name, &format!("{{peers: [{peers}]}}"))
    }

    fn problems(view: &Objects) -> Vec<String> {
        view.problems.iter().chain(&view.notices).map(Problem::to_string).collect()
    }

    /// As the daemon sees the objects: what was wrong elsewhere does not count.
    fn without_problems(view: &Objects) -> Objects {
        Objects { problems: Vec::new(), notices: Vec::new(), ..view.clone() }
    }

    const ONE: &str = "{name: a, address: 192.0.2.1, asn: 1}";

    /// Three nodes, a configuration of all, options and peers of one node: a file each.
    fn cluster() -> Edited {
        Edited::new(&[
            (
                "cluster.yaml",
                &ours("BGPClusterConfig", "all", "{peers: [{name: rr, address: 192.0.2.100, asn: 1}]}"),
            ),
            ("n1.yaml", &node("n1", "10.1.0.0/24, 'fd00:1::/64'")),
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
            ("peers.yaml", "kind: [".to_owned(), "peers.yaml, document 1: did not find expected node content at line 2 column 1, while parsing a flow node".to_owned()),
            ("peers.yaml", String::new(), "peers.yaml: there is nothing in it; remove the file to remove its objects".to_owned()),
            ("peers.yaml", "# all of it commented out\n".to_owned(), "peers.yaml: there is nothing in it; remove the file to remove its objects".to_owned()),
            ("peers.yaml", overrides("n1", "{name: a, adress: 192.0.2.1, asn: 1}"), format!("{peers}: spec.peers[0].adress: unknown field `adress`, expected one of `name`, `address`, `asn`, `port`, `localAddress`, `peerConfig`")),
            ("peers.yaml", overrides("n1", "{name: a, address: 192.0.2.1, asn: one}"), format!("{peers}: spec.peers[0].asn: invalid type: string \"one\", expected u32")),
            ("peers.yaml", overrides("n1", "{name: a, address: 192.0.2.1, asn: 0}"), format!("{peers}: spec.peers[0].asn: 0: 1 to 4294967295; 0 is reserved (RFC 7607)")),
            ("peers.yaml", overrides("n1", "{name: a, address: 192.0.2.300, asn: 1}"), format!("{peers}: spec.peers[0].address: \"192.0.2.300\": not an IP address")),
            ("peers.yaml", overrides("n1", "{name: a, address: 224.0.0.5, asn: 1}"), format!("{peers}: spec.peers[0].address: 224.0.0.5: a multicast address")),
            ("peers.yaml", overrides("n1", "{name: a, address: 192.0.2.1, asn: 1, port: 0}"), format!("{peers}: spec.peers[0].port: 0: 1 to 65535")),
            ("peers.yaml", overrides("n1", "{name: a, address: 192.0.2.1, asn: 1, localAddress: 'fd00::1'}"), format!("{peers}: spec.peers[0].localAddress: fd00::1: not of the family of 192.0.2.1")),
            ("peers.yaml", overrides("n1", &format!("{ONE}, {ONE}")), format!("{peers}: spec.peers[1].address: 192.0.2.1: spec.peers[0] (peer a) has the same")),
            ("peers.yaml", overrides("n1", "{name: a, address: 192.0.2.1, asn: 1, peerConfig: tro}"), format!("{peers}: spec.peers[0].peerConfig: \"tro\" (peer a): no BGPPeerConfig of this name counts")),
            ("peers.yaml", overrides("n1", "{name: a, address: 192.0.2.100, asn: 1}"), format!("{peers}: spec.peers[0].address: 192.0.2.100 (peer a): Conflicted: a peer of cluster.yaml, document 1: BGPClusterConfig all has the same")),
            ("cluster.yaml", ours("BGPClusterConfig", "all", "{peers: [{name: rr, address: 192.0.2.1, asn: 1}]}"), format!("cluster.yaml, document 1: BGPClusterConfig all: spec.peers[0].address: 192.0.2.1 (peer rr at node n1): Conflicted: a peer of {peers} has the same")),
            ("cluster.yaml", ours("BGPClusterConfig", "all", "{podCIDRs: [10.0.0.1/8]}"), "cluster.yaml, document 1: BGPClusterConfig all: spec.podCIDRs[0]: 10.0.0.1/8: host bits are set; 10.0.0.0/8 is without them".to_owned()),
            ("cluster.yaml", ours("BGPClusterConfig", "all", "{podCIDRs: [10.0.0.0/8, ten]}"), "cluster.yaml, document 1: BGPClusterConfig all: spec.podCIDRs[1]: \"ten\": not of the form address/length".to_owned()),
            ("cluster.yaml", ours("BGPClusterConfig", "all", "{serviceCIDRs: ['::/0']}"), "cluster.yaml, document 1: BGPClusterConfig all: spec.serviceCIDRs[0]: ::/0: every address lies in it".to_owned()),
            ("tor.yaml", ours("BGPPeerConfig", "tor", "{holdTimeSeconds: 2}"), "tor.yaml, document 1: BGPPeerConfig tor: spec.holdTimeSeconds: 2: 0 or at least 3 (RFC 4271 section 4.2)".to_owned()),
            ("tor.yaml", ours("BGPPeerConfig", "tor", "{holdTimeSeconds: 9, keepaliveSeconds: 4}"), "tor.yaml, document 1: BGPPeerConfig tor: spec.keepaliveSeconds: 4: 1 to 3, a third of the hold time (RFC 4271 section 4.4)".to_owned()),
            ("tor.yaml", ours("BGPPeerConfig", "tor", "{families: []}"), "tor.yaml, document 1: BGPPeerConfig tor: spec.families: empty: leave it out for the family of the peer's address".to_owned()),
            ("tor.yaml", ours("BGPPeerConfig", "rack", "{}"), format!("tor.yaml: leaves out what is missing: {peers}: spec.peers[0].peerConfig: \"tor\" (peer a): no BGPPeerConfig of this name counts")),
            ("n2.yaml", node("n2", "10.1.0.0/24"), format!("{node_n2}: spec.podCIDRs[0]: 10.1.0.0/24: Conflicted: overlaps 10.1.0.0/24 of n1.yaml, document 1: Node n1")),
            ("n2.yaml", node("n2", "10.0.0.0/8"), format!("{node_n2}: spec.podCIDRs[0]: 10.0.0.0/8: Conflicted: overlaps 10.1.0.0/24 of n1.yaml, document 1: Node n1")),
            ("n2.yaml", node("n2", "10.2.0.0/24, 'fd00:1::8/125'"), format!("{node_n2}: spec.podCIDRs[1]: fd00:1::8/125: Conflicted: overlaps fd00:1::/64 of n1.yaml, document 1: Node n1")),
            ("n2.yaml", node("n2", "10.2.0.0/24, 10.2.0.0/16"), format!("{node_n2}: spec.podCIDRs[1]: 10.2.0.0/16: overlaps spec.podCIDRs[0]: 10.2.0.0/24")),
            ("n2.yaml", format!("{}---\n{}", node("n2", "10.2.0.0/24"), node("n1", "10.9.0.0/24")), "n2.yaml, document 2: Node n1: metadata.name: n1: Conflicted: n1.yaml, document 1: Node n1 has the same".to_owned()),
            ("n2.yaml", format!("{}---\n{}", node("n2", "10.2.0.0/24"), ours("BGPClusterConfig", "other", "{}")), "n2.yaml, document 2: BGPClusterConfig other: spec.nodeSelector: Conflicted: cluster.yaml, document 1: BGPClusterConfig all selects node n1 and 2 more, too".to_owned()),
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
                "a.yaml, document 1: Node n1: spec.podCIDRs[1]: \"10.2.0.0/33\": not of the form address/length; this range is left out",
                "b.yaml, document 1: Node n2: spec.podCIDRs[0]: 10.0.0.0/8: Conflicted: overlaps 10.1.0.0/24 of a.yaml, document 1: Node n1; it is left out",
                "c.yaml, document 1: Node n1: metadata.name: n1: Conflicted: a.yaml, document 1: Node n1 has the same; it is left out",
                "d.yaml, document 1: BGPNodeOverride n1: spec.peers[0].address: \"ten\": not an IP address; this peer is left out",
                "f.yaml, document 1: BGPPeerConfig tor: spec.holdTimeSeconds: 1: 0 or at least 3 (RFC 4271 section 4.2); this object is left out",
                "e.yaml, document 1: BGPNodeOverride n9: metadata.name: n9: there is no such Node",
            ]
        );
        let ranges = |name: &str| -> Vec<String> {
            view.nodes[name].says.pod_ranges.iter().map(|(_, range)| range.to_string()).collect()
        };
        assert_eq!(
            (ranges("n1"), ranges("n2")),
            (vec!["10.1.0.0/24".to_owned()], vec!["fd00:2::/64".to_owned()])
        );
        assert_eq!(view.node_overrides["n1"].says.peers[0].name, "a");
        assert_eq!(view.unknown, []);
        assert_eq!(folder.view(), view, "the second look finds the same");

        let worse = folder.view_with("d.yaml", &bad.replace("192.0.2.1", "192.0.2.256"));
        assert_eq!(worse.node_overrides["n1"].says.peers[0].name, "a", "what was served goes on");
        let mended = folder.view_with("d.yaml", &bad.replace("ten", "192.0.2.10"));
        assert_eq!(mended.node_overrides["n1"].says.peers.len(), 2);
    }

    #[test]
    fn what_a_node_is_cannot_be_guessed_at_the_first_look() {
        for spec in ["{asn: 0}", "{routerID: ten}", "{asn: x}", "{colour: red}"] {
            let mut folder = Edited::new(&[
                ("a.yaml", &ours("BGPNodeOverride", "n1", spec)),
                ("n1.yaml", &node("n1", "10.1.0.0/24")),
            ]);
            let view = folder.view();
            assert_eq!(view.unknown.len(), 1, "{spec}");
            assert_eq!(view.problems, view.unknown);
            let mended = folder.view_with("a.yaml", &ours("BGPNodeOverride", "n1", "{asn: 1}"));
            assert_eq!((mended.unknown.len(), mended.problems.len()), (0, 0));
            assert_eq!(
                folder.view_with("a.yaml", &ours("BGPNodeOverride", "n1", spec)).unknown,
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
                "0.yaml, document 1: Node n0: spec.podCIDRs[0]: 10.1.0.0/16: Conflicted: overlaps 10.1.0.0/24 of n1.yaml, document 1: Node n1; it is left out",
                "0.yaml, document 2: BGPClusterConfig mine: spec.nodeSelector: Conflicted: cluster.yaml, document 1: BGPClusterConfig all selects node n0 and 3 more, too; it is left out",
            ]
        );
        assert_eq!(view.nodes["n1"], before.nodes["n1"]);
        assert_eq!(view.config_of["n1"], "all");
        assert_eq!(view.config_of["n0"], "all", "the older configuration is for new nodes, too");
        assert_eq!(folder.view(), view, "and so it stays");
        let edited = folder.view_with("n1.yaml", &node("n1", "10.1.0.0/24, 'fd00:11::/64'"));
        assert_eq!(edited.nodes["n1"].says.pod_ranges.len(), 2, "the winner may be edited");
        let freed = folder.view_with("n1.yaml", &node("n1", "10.11.0.0/24"));
        assert_eq!(freed.nodes["n0"].says.pod_ranges.len(), 2, "what is free is taken");
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
        assert_eq!((problems(&without).len(), without.peer_configs.len()), (0, 0), "both are gone now");
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
        assert_eq!(view.nodes["n2"].says, before.nodes["n2"].says);
        folder.written("n1.yaml", &node("n1", "10.2.0.0/24"));
        let view = folder.view_with("2.yaml", &node("n2", "10.1.0.0/24"));
        assert_eq!(problems(&view), [""; 0]);
        assert_eq!(view.nodes["n1"].says.pod_ranges[0].1.to_string(), "10.2.0.0/24");
    }

    #[test]
    fn removing_a_node_is_a_wish_and_what_is_left_of_it_is_named() {
        let mut folder = cluster();
        folder.view();
        let view = folder.view_without("n1.yaml");
        assert_eq!(view.nodes.len(), 2);
        assert_eq!(
            problems(&view),
            ["peers.yaml, document 1: BGPNodeOverride n1: metadata.name: n1: there is no such Node"]
        );
    }

    #[test]
    fn a_daemon_started_anew_goes_on_from_the_record() {
        let mut edited = cluster();
        let (path, record) =
            (edited.temporary.path().to_owned(), edited.temporary.path().join("record.json"));
        let anew = || Folder::with_record(path.clone(), record.clone());
        edited.folder = anew();
        edited.view();
        let thief = node("n0", "10.1.0.0/16");
        let before = edited.view_with("0.yaml", &thief);
        let broken = edited.view_with("peers.yaml", "kind: [");
        assert_eq!(problems(&broken).len(), 2);

        edited.folder = anew();
        assert_eq!(edited.view(), broken, "the file with the fault and the older range count as before");
        edited.written(
            "peers.yaml",
            &overrides("n1", "{name: a, address: 192.0.2.1, asn: 1, peerConfig: tor}"),
        );
        edited.folder = anew();
        assert_eq!(edited.view(), before);
        fs::remove_file(path.join("tor.yaml")).expect("own folder");
        edited.folder = anew();
        assert!(problems(&edited.view())[1].starts_with("tor.yaml: is gone, and is missing: "));

        edited.folder = Folder::new(path.clone());
        assert_eq!(
            edited.view().nodes["n0"].says.pod_ranges.len(),
            1,
            "without record the order of files counts"
        );
        fs::write(&record, "{").expect("own folder");
        edited.folder = anew();
        assert_eq!(edited.view().nodes["n0"].says.pod_ranges.len(), 1, "a broken record is none");
    }

    #[test]
    fn a_fault_in_the_first_view_hides_something_until_it_is_mended() {
        let mut folder = Edited::new(&[("a.yaml", &CONFIG.replace("mesh", "mush"))]);
        let view = folder.view();
        assert!(view.unknown[0].what.contains("unknown field `mush`"), "{}", view.unknown[0]);
        assert_eq!(folder.view_with("a.yaml", CONFIG).unknown, Vec::new());
        let view = folder.view_with("new.yaml", "kind: [");
        let counts = (view.problems.len(), view.unknown.len());
        assert_eq!(counts, (1, 0), "a new file hides nothing that was known");
    }
}
