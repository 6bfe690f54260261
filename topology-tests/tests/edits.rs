//! Manifests edited while everything runs: `labs/two-switches`.
//!
//! ```text
//!     f1         f2       FRR, AS 65001 and 65002
//!      |\\_     _/|\
//!      | \ \___/  | \
//!      |  \_/ \_  |  \
//!      c1      c2    c3   Cambric, each on both switches, with a pod each
//! ```
//!
//! Proves, with pods talking at 1 kHz all the time:
//! - a peer is added, a filter changed, a node removed by editing files; no session starts again that need not, and FRR
//!   sees every announcement and withdrawal;
//! - a file that is broken, or contradicts another, changes nothing but `show status`, which names file, field and reason
//!   until it is mended; `configure check` finds the same, and says beforehand what an edit would change;
//! - a hold time counts from the next session on; another AS of a peer costs the sessions with it and no others;
//! - a folder that is swapped by a symbolic link, as a ConfigMap is, applies as a whole.
//!
//! What the operator sees is printed.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cambric_lab::fabric;
use cambric_lab::flow::{Flow, Report};
use cambric_lab::{Lab, Node, poll};
use serde_json::Value;

use common::operator::{established, peers, problems, sessions, try_in, type_in};
use common::{LabFolder, Need, in_lab, machine_has};

const LIMIT: Duration = Duration::from_secs(60);

/// How long a daemon may take to say what is wrong with a file.
const SAID_LIMIT: Duration = Duration::from_secs(10);

const CAMBRICD: &str = "cambricd";

/// Flows go on this long after an edit, so that a late loss is seen.
const AFTER: u32 = 500;

const NODES: [&str; 3] = ["c1", "c2", "c3"];

/// What f1 tells and no manifest declares.
const UNDECLARED: [&str; 2] = ["203.0.113.0/24", "2001:db8:f00::/48"];

/// Pods of c3.
const OF_C3: [&str; 2] = ["198.51.100.128/26", "2001:db8:103::/64"];

/// What c1 tells of itself, by family.
const OF_C1: [[&str; 2]; 2] =
    [["192.0.2.101/32", "198.51.100.0/26"], ["2001:db8::101/128", "2001:db8:101::/64"]];

/// How f2 calls c1.
const C1_AT_F2: [&str; 2] = ["192.0.2.3", "2001:db8:0:12::1"];

/// The lines of c1.yaml about f2.
const PEERS_F2: &str = r#"  - { name: f2, address: 192.0.2.2, asn: 65002, peerConfig: f2 }
  - { name: f2-v6, address: "2001:db8:0:12::", asn: 65002, peerConfig: f2 }
"#;

/// An edit of c1.yaml: another hold time for f1.
const HOLD_TIME: (&str, &str) =
    ("  name: f1\nspec:\n  holdTimeSeconds: 9\n", "  name: f1\nspec:\n  holdTimeSeconds: 6\n");

const BOTH_PAIRS: [(&str, &str); 2] = [("c1", "c2"), ("c3", "c2")];

#[test]
fn edits_apply_as_one_types_them_and_faults_cost_nothing() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric]) {
        return;
    }
    let folder = LabFolder::copy_of("labs/two-switches");
    folder.write("manifests/c1.yaml", &good("c1.yaml").replace(PEERS_F2, ""));
    in_lab(&folder, |lab| {
        let desk = Desk { lab, folder: &folder, node: lab.node("c1")?, f2: lab.node("f2")? };
        let daemons = desk.daemons()?;
        desk.a_peer_is_added()?;
        desk.filters_change()?;
        desk.a_node_is_removed()?;
        desk.faults_change_nothing()?;
        desk.a_hold_time_and_an_as_change()?;
        desk.the_folder_is_swapped()?;
        ensure!(desk.daemons()? == daemons, "a daemon has been restarted");
        Ok(())
    });
}

/// Where the operator sits.
struct Desk<'a> {
    lab: &'a Lab,
    folder: &'a LabFolder,
    /// c1.
    node: Node,
    f2: Node,
}

impl Desk<'_> {
    fn a_peer_is_added(&self) -> Result<()> {
        headline("a peer is added: f2, to the file of c1");
        poll::until("the sessions with f1", LIMIT, || established(&self.node) == ["f1", "f1-v6"])?;
        poll::until("all routes by f1", LIMIT, || fabric::is_whole(&self.node))?;
        self.while_pods_talk(&BOTH_PAIRS, || {
            let start = Instant::now();
            self.mend("c1.yaml");
            poll::until("four sessions", LIMIT, || established(&self.node).len() == 4)?;
            poll::until("all routes over both switches", LIMIT, || fabric::is_spread(&self.node, 2))?;
            for (family, own) in OF_C1.iter().enumerate() {
                poll::until("c1's own at f2", LIMIT, || self.f2_hears(family) == set(own))?;
            }
            println!("  sessions, routes over both, known to f2: {:.1?} after the edit", start.elapsed());
            type_in(&self.node, "cambric show protocols").map(drop)
        })
    }

    fn filters_change(&self) -> Result<()> {
        headline("filters change, and no session starts again");
        self.while_pods_talk(&BOTH_PAIRS, || {
            for prefix in UNDECLARED {
                poll::until("f1's undeclared prefixes to be refused", LIMIT, || {
                    self.verdict(prefix) == "NotDeclared"
                })?;
            }
            let [import, export] = [("f1", "import: All"), ("f2", "export: All")];
            self.filter(&[import])?;
            self.wait_for("import: All from f1: its undeclared prefixes are in the kernel", || {
                UNDECLARED.iter().all(|prefix| self.has_route(prefix))
            })?;
            type_in(&self.node, "cambric show route for 203.0.113.1 all")?;

            self.filter(&[import, export])?;
            self.wait_for("export: All to f2: it hears them from c1, beside all else", || {
                (0..2).all(|family| {
                    self.f2_hears(family).contains(UNDECLARED[family]) && self.f2_hears(family).len() > 3
                })
            })?;
            type_in(&self.f2, "vtysh -c 'show bgp ipv4 unicast neighbors 192.0.2.3 routes'")?;

            self.filter(&[export])?;
            self.wait_for("import: Declared again: gone from the kernel, withdrawn from f2", || {
                (0..2).all(|family| {
                    !self.has_route(UNDECLARED[family]) && !self.f2_hears(family).contains(UNDECLARED[family])
                })
            })?;

            self.filter(&[])?;
            self.wait_for("export: Own again: f2 hears c1's own and nothing else", || {
                (0..2).all(|family| self.f2_hears(family) == set(&OF_C1[family]))
            })?;

            self.edit(
                "cluster.yaml",
                &[("  mesh: Disabled\n", "  mesh: Disabled\n  podCIDRs: [203.0.113.0/24]\n")],
            )?;
            self.wait_for("203.0.113.0/24 is declared: accepted", || self.has_route(UNDECLARED[0]))?;
            self.mend("cluster.yaml");
            self.wait_for("and no longer: refused", || {
                !self.has_route(UNDECLARED[0]) && self.verdict(UNDECLARED[0]) == "NotDeclared"
            })?;

            let all = self.accepted_of_f1();
            self.filter(&[("f1", "maxPrefixes: 1")])?;
            self.wait_for("maxPrefixes: 1 of f1: the others are refused", || {
                self.accepted_of_f1() == Some(1)
            })?;
            type_in(&self.node, "cambric show protocols")?;
            self.filter(&[])?;
            self.wait_for("and no longer: all routes over both switches", || {
                self.accepted_of_f1() == all && fabric::is_spread(&self.node, 2)
            })
        })
    }

    fn a_node_is_removed(&self) -> Result<()> {
        headline("a node is removed: the file of c3 goes, its daemon and the switches go on");
        self.while_pods_talk(&[("c1", "c2")], || {
            fs::remove_file(self.path("c3.yaml"))?;
            self.wait_for("c1 refuses the ranges of c3", || {
                OF_C3.iter().all(|prefix| !self.has_route(prefix) && self.verdict(prefix) == "NotDeclared")
            })?;
            type_in(&self.node, "cambric show route for 198.51.100.129 all")?;
            type_in(&self.lab.node("c3")?, "cambric show status")?;
            self.mend("c3.yaml");
            self.wait_for("its file is back: so are its routes", || {
                OF_C3.iter().all(|prefix| self.has_route(prefix))
            })
        })
    }

    fn faults_change_nothing(&self) -> Result<()> {
        headline("files are broken and mended");
        self.while_pods_talk(&BOTH_PAIRS, || {
            let before = self.all_that_forwards()?;
            let mut unsaid = Vec::new();
            for fault in faults() {
                if let Err(error) = self.is_broken_and_mended(&fault, &before) {
                    println!("    NOT AS IT SHOULD BE: {error:#}");
                    unsaid.push(format!("{}: {error:#}", fault.what));
                }
            }
            ensure!(unsaid.is_empty(), "{unsaid:#?}");
            type_in(&self.node, "cambric show status").map(drop)
        })
    }

    fn is_broken_and_mended(&self, fault: &Fault, before: &BTreeSet<String>) -> Result<()> {
        println!("\n  {}", fault.what);
        self.folder.write(&format!("manifests/{}", fault.file), &fault.text);
        let said = self.is_named(fault).and_then(|()| self.forwards_as(before));
        match original(fault.file) {
            Some(_) => self.mend(fault.file),
            None => fs::remove_file(self.path(fault.file))?,
        }
        poll::until("the problem to go", LIMIT, || problems(&self.node).is_ok_and(|all| all.is_empty()))?;
        said.and_then(|()| self.forwards_as(before).context("mended"))
    }

    /// Whether `show status` says file, field and reason.
    fn is_named(&self, fault: &Fault) -> Result<()> {
        let what = format!("a problem that says {:?}", fault.says);
        let problem = poll::until_some(&what, SAID_LIMIT, || {
            let says_all = |problem: &String| fault.says.iter().all(|word| problem.contains(word));
            Ok(problems(&self.node)?.into_iter().find(says_all))
        });
        let problem = problem.with_context(|| format!("it says {:#?}", problems(&self.node)))?;
        println!("    {problem}");
        if fault.is_shown {
            type_in(&self.node, "cambric show status")?;
            let (status, text) = try_in(&self.node, "cambric configure check")?;
            ensure!(!status.success() && text.contains(fault.file), "the check finds nothing: {status}");
        }
        Ok(())
    }

    fn forwards_as(&self, before: &BTreeSet<String>) -> Result<()> {
        let now = self.all_that_forwards()?;
        let lost: Vec<_> = before.difference(&now).collect();
        let new: Vec<_> = now.difference(before).collect();
        ensure!(now == *before, "routes or sessions have changed: gone {lost:#?}, new {new:#?}");
        Ok(())
    }

    fn a_hold_time_and_an_as_change(&self) -> Result<()> {
        headline("f1 gets a hold time of 6 s instead of 9 s: at the next session");
        self.while_pods_talk(&BOTH_PAIRS, || {
            self.edit("c1.yaml", &[HOLD_TIME])?;
            // What is edited in the same file behind it has been read with it.
            self.wait_until_read()?;
            ensure!(self.hold_time_of_f1()? == 9, "a session cannot change its hold time");
            Ok(())
        })?;

        headline("f1 gets another AS than it has, and its own again; c3 and c2 talk beside it");
        self.is_checked_before_it_applies()?;
        let way_by_f1 = fabric::start_flows(&self.lab.pod("c1", "c1-1")?, &self.lab.pod("c2", "c2-1")?)?;
        self.while_pods_talk_from(&["c2", "c3"], &[("c3", "c2")], || {
            self.edit("c1.yaml", &[HOLD_TIME, ("asn: 65001", "asn: 65009")])?;
            self.wait_for("no session with f1, those with f2 stay", || {
                established(&self.node) == ["f2", "f2-v6"] && self.last_error_of("f1").contains("AS")
            })?;
            poll::until("all routes by f2", LIMIT, || self.goes_by_f2_only("198.51.100.64/26"))?;
            type_in(&self.node, "cambric show protocols")?;
            self.edit("c1.yaml", &[HOLD_TIME])?;
            self.wait_for("its own AS again: four sessions, routes over both", || {
                established(&self.node).len() == 4 && fabric::is_spread(&self.node, 2)
            })?;
            ensure!(self.hold_time_of_f1()? == 6, "the new session has the hold time of before");
            println!("  the new session has a hold time of 6 s");
            Ok(())
        })?;
        print_lost("c1 to c2, over both switches", &fabric::stop_flows(way_by_f1)?);
        self.mend("c1.yaml");
        Ok(())
    }

    /// What would change is asked before it is done.
    fn is_checked_before_it_applies(&self) -> Result<()> {
        self.node.run_ok(&["cp", "-r", "/etc/cambric/manifests", "/tmp/next"])?;
        self.node.run_ok(&["sed", "-i", "s/asn: 65001/asn: 65009/", "/tmp/next/c1.yaml"])?;
        let text = type_in(&self.node, "cambric configure check /tmp/next")?;
        ensure!(text.contains("peer f1: AS 65001 -> 65009"), "it does not say what changes");
        ensure!(established(&self.node).len() == 4, "a check has changed something");
        Ok(())
    }

    /// As the kubelet does: files are links to `..data/FILE`, `..data` is a link to a folder, and is replaced.
    fn the_folder_is_swapped(&self) -> Result<()> {
        headline("the folder becomes one of links to links, as a ConfigMap is mounted");
        self.while_pods_talk(&BOTH_PAIRS, || {
            let before = self.all_that_forwards()?;
            self.lay_out("..2026_01", &[])?;
            for file in ["c1.yaml", "c2.yaml", "c3.yaml", "cluster.yaml"] {
                symlink(Path::new("..data").join(file), self.path(".new"))?;
                fs::rename(self.path(".new"), self.path(file))?;
            }
            self.wait_until_read()?;
            self.forwards_as(&before).context("the same files in other places")?;
            println!("  nothing changes");

            // Both files at once: neither alone would do.
            let text =
                good("c1.yaml").replace("  name: f1\nspec:\n", "  name: f1\nspec:\n  maxPrefixes: 20000\n");
            let pod_range = good("cluster.yaml")
                .replace("mesh: Disabled\n", "mesh: Disabled\n  podCIDRs: [203.0.113.0/24]\n");
            self.lay_out("..2026_02", &[("c1.yaml", &text), ("cluster.yaml", &pod_range)])?;
            self.wait_for("two files are swapped at once: 203.0.113.0/24 is accepted", || {
                self.has_route(UNDECLARED[0])
            })?;
            self.lay_out("..2026_03", &[("c2.yaml", "kind: [")])?;
            let problem = poll::until_some("a fault in the third one", LIMIT, || {
                let says_all = |problem: &String| problem.contains("c2.yaml") && problem.contains("line");
                Ok(problems(&self.node)?.into_iter().find(says_all))
            })?;
            println!("  a broken one: {problem}");
            self.wait_for("what is sound in it counts: 203.0.113.0/24 is refused again", || {
                !self.has_route(UNDECLARED[0])
            })?;
            self.lay_out("..2026_04", &[])?;
            poll::until("the problem to go", LIMIT, || problems(&self.node).is_ok_and(|all| all.is_empty()))?;
            self.forwards_as(&before).context("the files of the beginning")
        })
    }

    /// Makes a folder of all files, some of them edited, and has `..data` lead to it.
    fn lay_out(&self, name: &str, edited: &[(&str, &str)]) -> Result<()> {
        fs::create_dir(self.path(name))?;
        for file in ["c1.yaml", "c2.yaml", "c3.yaml", "cluster.yaml"] {
            let edited =
                edited.iter().find(|(edited, _)| *edited == file).map(|(_, text)| (*text).to_owned());
            fs::write(self.path(name).join(file), edited.unwrap_or_else(|| good(file)))?;
        }
        symlink(name, self.path("..data_tmp"))?;
        Ok(fs::rename(self.path("..data_tmp"), self.path("..data"))?)
    }

    /// Has pods talk, the first of each pair with the second, while something is done; they lose nothing and the sessions
    /// of all nodes stay.
    fn while_pods_talk(&self, pairs: &[(&str, &str)], work: impl FnOnce() -> Result<()>) -> Result<()> {
        self.while_pods_talk_from(&NODES, pairs, work)
    }

    fn while_pods_talk_from(
        &self,
        steady: &[&str],
        pairs: &[(&str, &str)],
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let before = self.sessions(steady)?;
        let mut flows: Vec<Flow> = Vec::new();
        for (from, to) in pairs {
            flows.extend(fabric::start_flows(
                &self.lab.pod(from, &format!("{from}-1"))?,
                &self.lab.pod(to, &format!("{to}-1"))?,
            )?);
        }
        work()?;
        fabric::send_more(&flows, AFTER)?;
        let reports = fabric::stop_flows(flows)?;
        let who: Vec<String> = pairs.iter().map(|(from, to)| format!("{from} to {to}")).collect();
        print_lost(&who.join(", "), &reports);
        ensure!(reports.iter().all(|report| report.lost == 0), "packets lost: {reports:#?}");
        let lost: Vec<_> = before.difference(&self.sessions(steady)?).cloned().collect();
        ensure!(lost.is_empty(), "sessions that have ended: {lost:#?}");
        println!("  {} sessions were there before and are there still", before.len());
        Ok(())
    }

    fn sessions(&self, names: &[&str]) -> Result<BTreeSet<String>> {
        let mut all = BTreeSet::new();
        for name in names {
            all.extend(sessions(&self.lab.node(name)?)?);
        }
        Ok(all)
    }

    fn daemons(&self) -> Result<Vec<Option<nix::unistd::Pid>>> {
        NODES.iter().map(|name| Ok(self.lab.node(name)?.daemon_pid(CAMBRICD))).collect()
    }

    /// Routes and sessions of all nodes.
    fn all_that_forwards(&self) -> Result<BTreeSet<String>> {
        let mut all = self.sessions(&NODES)?;
        for name in NODES {
            let node = self.lab.node(name)?;
            for family in ["-4", "-6"] {
                // One line a route, its next hops included.
                let routes = node.run_ok(&["ip", "-oneline", family, "route", "show", "proto", "203"])?;
                all.extend(routes.lines().map(|line| format!("{name}: {}", line.trim())));
            }
        }
        Ok(all)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join("manifests").join(file)
    }

    /// Writes a file as it was in the beginning.
    fn mend(&self, file: &str) {
        self.folder.write(&format!("manifests/{file}"), &good(file));
    }

    /// Writes a file as it was in the beginning, but for these pieces.
    fn edit(&self, file: &str, pieces: &[(&str, &str)]) -> Result<()> {
        let mut text = good(file);
        for (old, new) in pieces {
            ensure!(text.contains(old), "{file} has no {old:?}");
            text = text.replace(old, new);
        }
        self.folder.write(&format!("manifests/{file}"), &text);
        Ok(())
    }

    /// Gives the BGPPeerConfigs of c1 a further line each.
    fn filter(&self, lines: &[(&str, &str)]) -> Result<()> {
        let lines: Vec<_> = lines
            .iter()
            .map(|(name, line)| {
                (format!("  name: {name}\nspec:\n"), format!("  name: {name}\nspec:\n  {line}\n"))
            })
            .collect();
        let pieces: Vec<_> = lines.iter().map(|(old, new)| (old.as_str(), new.as_str())).collect();
        self.edit("c1.yaml", &pieces)
    }

    /// Waits until the daemon has read what was written by now: it names a fault that is written last.
    fn wait_until_read(&self) -> Result<()> {
        let file = self.path("zzz.yaml");
        fs::write(&file, "kind: [")?;
        let named = |all: Vec<String>| all.iter().any(|problem| problem.contains("zzz.yaml"));
        poll::until("the folder to be read", LIMIT, || problems(&self.node).is_ok_and(named))?;
        fs::remove_file(file)?;
        poll::until("the problem to go", LIMIT, || problems(&self.node).is_ok_and(|all| !named(all)))
    }

    /// Waits, and says how long it took.
    fn wait_for(&self, what: &str, holds: impl FnMut() -> bool) -> Result<()> {
        let start = Instant::now();
        poll::until(what, LIMIT, holds)?;
        println!("  {what}: after {:.2?}", start.elapsed());
        Ok(())
    }

    /// Whether c1's kernel has a way to a prefix.
    fn has_route(&self, prefix: &str) -> bool {
        let route = self.node.run_ok(&["ip", family_of(prefix), "route", "show", prefix]).unwrap_or_default();
        route.contains("proto 203") && !route.contains("unreachable")
    }

    fn goes_by_f2_only(&self, prefix: &str) -> bool {
        let route = self.node.run_ok(&["ip", "route", "show", prefix]).unwrap_or_default();
        route.contains("dev eth2") && !route.contains("dev eth1")
    }

    /// Why c1 refuses a prefix from everybody who tells it; empty when somebody's is accepted.
    fn verdict(&self, prefix: &str) -> String {
        let routes = self.routes().unwrap_or_default();
        let route = routes.iter().find(|route| route["prefix"] == prefix);
        let paths = route.and_then(|route| route["paths"].as_array()).cloned().unwrap_or_default();
        let refused = paths.iter().all(|path| path["verdict"] == "refused");
        let reason = paths.first().and_then(|path| path["reason"].as_str()).filter(|_| refused);
        reason.unwrap_or_default().to_owned()
    }

    /// How many routes c1 accepts from f1.
    fn accepted_of_f1(&self) -> Option<u64> {
        let peers = peers(&self.node).ok()?;
        let peer = peers.iter().find(|peer| peer["name"] == "f1")?;
        peer["families"][0]["accepted"].as_u64()
    }

    fn routes(&self) -> Result<Vec<Value>> {
        let mut answer = fabric::ask(&self.node, &["show", "route"])?;
        Ok(answer["routes"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    fn hold_time_of_f1(&self) -> Result<u64> {
        let peers = peers(&self.node)?;
        let peer = peers.iter().find(|peer| peer["name"] == "f1").context("no peer f1")?;
        peer["session"]["hold_time_s"].as_u64().context("no session with f1")
    }

    fn last_error_of(&self, name: &str) -> String {
        let peers = peers(&self.node).unwrap_or_default();
        let peer = peers.iter().find(|peer| peer["name"] == name);
        peer.and_then(|peer| peer["last_error"]["what"].as_str()).unwrap_or_default().to_owned()
    }

    /// The prefixes that f2 has heard from c1; by family, IPv4 first.
    fn f2_hears(&self, family: usize) -> BTreeSet<String> {
        let (name, neighbor) = (["ipv4", "ipv6"][family], C1_AT_F2[family]);
        let command = format!("show bgp {name} unicast neighbors {neighbor} routes json");
        let text = self.f2.run_ok(&["vtysh", "-c", &command]).unwrap_or_default();
        let heard: Value = serde_json::from_str(&text).unwrap_or_default();
        heard["routes"].as_object().map(|routes| routes.keys().cloned().collect()).unwrap_or_default()
    }
}

/// Something wrong with a file, and what has to be said of it.
struct Fault {
    what: &'static str,
    file: &'static str,
    text: String,
    says: &'static [&'static str],
    /// Whether all of `show status` is printed.
    is_shown: bool,
}

fn faults() -> Vec<Fault> {
    let edited = |file: &'static str, old: &str, new: &str| {
        let text = good(file);
        assert!(text.contains(old), "{file} has no {old:?}");
        text.replace(old, new)
    };
    let fault = |what, file, text, says| Fault { what, file, text, says, is_shown: false };
    vec![
        Fault {
            is_shown: true,
            ..fault(
                "c1.yaml: a bracket is not closed",
                "c1.yaml",
                edited("c1.yaml", "asn: 65101", "asn: [65101"),
                &["c1.yaml", "line"],
            )
        },
        fault(
            "c1.yaml: a field that is not there",
            "c1.yaml",
            edited("c1.yaml", "holdTimeSeconds: 9", "holdTime: 9"),
            &["c1.yaml", "unknown field `holdTime`"],
        ),
        fault(
            "c1.yaml: a word where a number belongs",
            "c1.yaml",
            edited("c1.yaml", "asn: 65101", "asn: many"),
            &["c1.yaml", "asn", "\"many\""],
        ),
        fault(
            "c1.yaml: no address",
            "c1.yaml",
            edited("c1.yaml", "address: 192.0.2.0,", "address: 192.0.2.300,"),
            &["c1.yaml", "address", "192.0.2.300"],
        ),
        fault(
            "c1.yaml: no hold time",
            "c1.yaml",
            edited("c1.yaml", "holdTimeSeconds: 9", "holdTimeSeconds: 2"),
            &["c1.yaml", "holdTimeSeconds", "2"],
        ),
        fault(
            "c1.yaml: a BGPPeerConfig that is not there",
            "c1.yaml",
            edited("c1.yaml", "peerConfig: f1", "peerConfig: f9"),
            &["c1.yaml", "peerConfig", "\"f9\""],
        ),
        fault(
            "c1.yaml: two peers have one address",
            "c1.yaml",
            edited("c1.yaml", "address: 192.0.2.2,", "address: 192.0.2.0,"),
            &["c1.yaml", "address: 192.0.2.0", "f1"],
        ),
        fault(
            "c2.yaml: pod ranges of two nodes overlap",
            "c2.yaml",
            edited("c2.yaml", "198.51.100.64/26", "198.51.100.0/25"),
            &["c2.yaml", "podCIDRs", "198.51.100.0/25", "c1"],
        ),
        Fault {
            is_shown: true,
            ..fault(
                "z.yaml, new: a second Node c2",
                "z.yaml",
                good("c2.yaml")
                    .split("---")
                    .next()
                    .unwrap_or_default()
                    .replace("198.51.100.64/26", "198.51.100.192/26"),
                &["z.yaml", "c2", "c2.yaml"],
            )
        },
        fault(
            "z.yaml, new: a second BGPClusterConfig for all nodes",
            "z.yaml",
            good("cluster.yaml")
                .split("---")
                .next()
                .unwrap_or_default()
                .replace("name: default", "name: other"),
            &["z.yaml", "BGPClusterConfig other", "Conflicted", "default"],
        ),
    ]
}

/// A manifest as it was in the beginning, if it was there.
fn original(file: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("labs/two-switches/manifests").join(file))
        .ok()
}

fn good(file: &str) -> String {
    original(file).expect("a manifest of the lab")
}

fn set(prefixes: &[&str]) -> BTreeSet<String> {
    prefixes.iter().map(|prefix| (*prefix).to_owned()).collect()
}

fn family_of(prefix: &str) -> &'static str {
    if prefix.contains(':') { "-6" } else { "-4" }
}

fn headline(text: &str) {
    println!("\n== {text}");
}

fn print_lost(who: &str, reports: &[Report]) {
    let lost: Vec<u32> = reports.iter().map(|report| report.lost).collect();
    let sent: u32 = reports.iter().map(|report| report.sent).sum();
    println!("\n  {who}: packets lost, by flow (two of IPv4, two of IPv6 a pair): {lost:?} of {sent} in all");
}
