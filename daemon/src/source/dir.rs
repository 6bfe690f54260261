//! A folder of YAML manifests, as `kubectl apply -f` would take it.
//!
//! Files are read in the order of their names, so that "older" has a meaning. A typing error must not cost
//! sessions: a file with a fault, or one that contradicts another, is a [`Problem`] and counts as it was before.
//! So does one that is emptied, as by a writer who is not done, and one that is removed while others refer to
//! what is in it.
//!
//! A file that had a fault from the start has nothing it could count as. If nobody can tell what is in it, the
//! view says so, and nobody acts on it; a wrong value costs what it is in, and the rest is served (see
//! [`values`](crate::values)).
//!
//! A folder that cannot be listed leaves all as it was, until it or another one of its name can.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Views;
use super::folder_watch::Watch;
use super::manifest::Manifest;
use crate::contradictions::{self, Claims, Entry, Refusal, Settled};
use crate::objects::{Objects, Problem};
use crate::values::Costs;

/// What becomes of a file that cannot be taken.
const AS_BEFORE: &str = "it counts as it was before";

/// Watches `folder`. The task ends when nobody looks at the views any more.
///
/// # Errors
/// The folder cannot be watched.
pub fn start(folder: PathBuf) -> anyhow::Result<(Views, JoinHandle<()>)> {
    let mut watch = Watch::new(folder.clone())?;
    watch.renew()?;
    let (views, latest) = watch::channel(None);
    let task = tokio::spawn(async move {
        let mut folder = Folder::new(folder);
        while !views.is_closed() {
            // A watch that cannot be had is tried again; listing fails for the same reason and says it.
            let _ = watch.renew();
            publish(&views, &mut folder);
            watch.changed().await;
        }
    });
    Ok((latest, task))
}

fn publish(views: &watch::Sender<Option<Objects>>, folder: &mut Folder) {
    let view = folder.view();
    views.send_if_modified(|latest| {
        let view = match view {
            Ok(objects) => objects,
            Err(error) => not_listed(latest.as_ref(), folder, &error),
        };
        let modified = latest.as_ref() != Some(&view);
        *latest = Some(view);
        modified
    });
}

/// A folder that cannot be listed is not an empty one: the view stays, with a problem.
fn not_listed(latest: Option<&Objects>, folder: &Folder, error: &io::Error) -> Objects {
    let problem =
        Problem::new(folder.path.display().to_string(), format!("folder cannot be listed: {error}"));
    let mut view = latest.cloned().unwrap_or_default();
    if !folder.seen_whole {
        view.unknown = vec![problem.clone()];
    }
    if !view.problems.contains(&problem) {
        view.problems.push(problem);
    }
    view
}

/// A folder, and what its files said when each could last be taken.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// What counted in the last view, by file name.
    taken: BTreeMap<String, Manifest>,
    /// What was granted in the last view.
    claims: Claims,
    /// There was a view with nothing unknown in it.
    seen_whole: bool,
}

/// A view in the making.
#[derive(Debug, Default)]
struct Draft {
    /// What counts of each file.
    files: BTreeMap<String, Manifest>,
    problems: Vec<Problem>,
    unknown: Vec<Problem>,
}

impl Folder {
    /// The folder at `path`, of which nothing is known yet.
    pub fn new(path: PathBuf) -> Folder {
        Folder { path, taken: BTreeMap::new(), claims: Claims::default(), seen_whole: false }
    }

    /// What the folder says now; a file with a fault, or one that contradicts another, says what it said before.
    ///
    /// # Errors
    /// The folder cannot be listed. A file that cannot be read is a problem of the view.
    pub fn view(&mut self) -> io::Result<Objects> {
        let mut draft = Draft::default();
        for (name, path) in manifests(&self.path)? {
            let manifest = match fs::read_to_string(&path) {
                Ok(text) => Manifest::decode(&name, &text),
                Err(error) => Manifest::unreadable(&name, &error),
            };
            self.take(&mut draft, name, manifest);
        }
        let Settled { mut objects, claims, .. } = self.settle(&mut draft);
        self.seen_whole |= draft.unknown.is_empty();
        objects.problems = draft.problems;
        objects.problems.sort();
        objects.notices.extend(draft.files.values().flat_map(|file| file.notices.clone()));
        if self.seen_whole {
            (self.taken, self.claims) = (draft.files, claims);
        } else {
            // Nobody acts on this view: nothing in it is a state to go back to.
            objects.unknown = draft.unknown;
        }
        Ok(objects)
    }

    /// Decides what counts of one file by itself.
    fn take(&self, draft: &mut Draft, name: String, now: Manifest) {
        let before = self.taken.get(&name).filter(|before| **before != now);
        if let Some(before) = before {
            if now.is_empty && !before.is_empty {
                let what = "there is nothing in it; remove the file to remove its objects";
                draft.problems.push(Problem::new(&name, what).and(AS_BEFORE));
                draft.files.insert(name, before.clone());
                return;
            }
            if !now.faults.is_empty() {
                draft.problems.extend(now.faults.into_iter().map(|(fault, _)| fault.and(AS_BEFORE)));
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
        draft.files.insert(name, now);
    }

    /// Lets files that contradict others count as they were before, until nothing is left that could.
    fn settle(&self, draft: &mut Draft) -> Settled {
        loop {
            let entries: Vec<Entry> =
                draft.files.values().flat_map(|file| file.entries.iter().cloned()).collect();
            let settled = contradictions::settle(&entries, &self.claims);
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
        [Some(refusal.file.as_str()), had]
            .into_iter()
            .flatten()
            .find(|file| self.taken.get(*file).is_some_and(|before| draft.files.get(*file) != Some(before)))
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
    use std::os::unix::fs::symlink;
    use std::time::Duration;

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
    fn a_fault_in_the_first_view_hides_something_until_it_is_mended() {
        let mut folder = Edited::new(&[("a.yaml", &CONFIG.replace("mesh", "mush"))]);
        let view = folder.view();
        assert!(view.unknown[0].what.contains("unknown field `mush`"), "{}", view.unknown[0]);
        assert_eq!(folder.view_with("a.yaml", CONFIG).unknown, Vec::new());
        let view = folder.view_with("new.yaml", "kind: [");
        let counts = (view.problems.len(), view.unknown.len());
        assert_eq!(counts, (1, 0), "a new file hides nothing that was known");
    }

    async fn view_where(views: &mut Views, fits: fn(&Objects) -> bool) -> Objects {
        let view = views.wait_for(|view| view.as_ref().is_some_and(fits));
        let view = tokio::time::timeout(Duration::from_secs(10), view).await.expect("in time");
        view.expect("the task runs").clone().expect("just looked at")
    }

    #[tokio::test]
    async fn a_folder_that_is_replaced_is_missed_and_then_followed() {
        let temporary = tempfile::tempdir().expect("temporary folder");
        let path = temporary.path().join("manifests");
        fs::create_dir(&path).expect("own folder");
        fs::write(path.join("a.yaml"), CONFIG).expect("own folder");
        let (mut views, task) = start(path.clone()).expect("own folder");
        view_where(&mut views, |view| view.cluster_configs.len() == 1).await;

        fs::rename(&path, temporary.path().join("old")).expect("own folder");
        let view = view_where(&mut views, |view| !view.problems.is_empty()).await;
        assert!(view.problems[0].what.starts_with("folder cannot be listed"), "{}", view.problems[0]);
        assert_eq!((view.cluster_configs.len(), view.unknown.len()), (1, 0), "it is not an empty folder");

        fs::create_dir(&path).expect("own folder");
        let view = view_where(&mut views, |view| view.problems.is_empty()).await;
        assert_eq!(view.cluster_configs.len(), 0);
        fs::write(path.join("b.yaml"), CONFIG).expect("own folder");
        view_where(&mut views, |view| view.cluster_configs.len() == 1).await;
        task.abort();
    }

    /// The kubelet writes a new hidden folder and moves a link to it into place; the files' names are links
    /// through that link, and none of them is touched.
    #[tokio::test]
    async fn a_config_map_that_is_updated_is_noticed() {
        let mount = tempfile::tempdir().expect("temporary folder");
        let path = |name: &str| mount.path().join(name);
        let version = |name: &str, text: &str| {
            fs::create_dir(path(name)).expect("own folder");
            fs::write(path(name).join("config.yaml"), text).expect("own folder");
            symlink(name, path("..data_tmp")).expect("own folder");
            fs::rename(path("..data_tmp"), path("..data")).expect("own folder");
        };
        version("..2026_01", CONFIG);
        symlink("..data/config.yaml", path("config.yaml")).expect("own folder");
        let (mut views, task) = start(mount.path().to_owned()).expect("own folder");
        view_where(&mut views, |view| view.cluster_configs.contains_key("c")).await;
        version("..2026_02", &CONFIG.replace("{name: c}", "{name: d}"));
        let view = view_where(&mut views, |view| view.cluster_configs.contains_key("d")).await;
        assert_eq!((view.cluster_configs.len(), problems(&view).len()), (1, 0));
        fs::remove_dir_all(path("..2026_01")).expect("own folder");
        task.abort();
    }
}
