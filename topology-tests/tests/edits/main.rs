//! Manifests edited while everything runs: `labs/two-switches`.
//!
//! ```text
//!    f1        f2         FRR, AS 65001 and 65002
//!     |         |
//!    each has a link to each node
//!     |         |         |
//!    c1        c2        c3   Cambric, a pod each
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

#[path = "../common/mod.rs"]
mod common;
mod desk;
mod faults;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cambric_lab::{fabric, poll};

use common::operator::{established, problems, type_in};
use common::{LabFolder, Need, in_lab, machine_has};
use desk::{Desk, LIMIT, good, headline, print_lost, set};

/// What f1 tells and no manifest declares.
const UNDECLARED: [&str; 2] = ["203.0.113.0/24", "2001:db8:f00::/48"];

/// Pods of c3.
const OF_C3: [&str; 2] = ["198.51.100.128/26", "2001:db8:103::/64"];

/// What c1 tells of itself, by family.
const OF_C1: [[&str; 2]; 2] =
    [["192.0.2.101/32", "198.51.100.0/26"], ["2001:db8::101/128", "2001:db8:101::/64"]];

/// The lines of c1.yaml about f2.
const PEERS_F2: &str = r#"  - { name: f2, address: 192.0.2.2, asn: 65002, peerConfig: f2 }
  - { name: f2-v6, address: "2001:db8:0:12::", asn: 65002, peerConfig: f2 }
"#;

/// An edit of c1.yaml: another hold time for f1.
const HOLD_TIME: (&str, &str) =
    ("  name: f1\nspec:\n  holdTimeSeconds: 9\n", "  name: f1\nspec:\n  holdTimeSeconds: 6\n");

/// Behind cluster.yaml: a BGPPeerConfig that takes everything.
const PEER_CONFIG_OPEN: &str = "---
apiVersion: cambric.dev/v1alpha1
kind: BGPPeerConfig
metadata: { name: open }
spec: { holdTimeSeconds: 9, import: All }
";

/// Whose pods talk.
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

    fn a_hold_time_and_an_as_change(&self) -> Result<()> {
        headline("f1 gets a hold time of 6 s instead of 9 s: at the next session");
        self.while_pods_talk(&BOTH_PAIRS, || {
            self.edit("c1.yaml", &[HOLD_TIME])?;
            self.wait_until_read()?;
            ensure!(self.hold_time_of_f1()? == 9, "a session cannot change its hold time");
            Ok(())
        })?;

        headline("f1 gets another AS than it has, and its own again; c3 and c2 talk beside it");
        self.is_checked_before_it_applies()?;
        let start = Instant::now();
        let way_by_f1 = fabric::start_flows(&self.lab.pod("c1", "c1-1")?, &self.lab.pod("c2", "c2-1")?)?;
        self.while_pods_talk_from(&["c2", "c3"], &[("c3", "c2")], || {
            println!("  (edited {:.2?} after the start)", start.elapsed());
            self.edit("c1.yaml", &[HOLD_TIME, ("asn: 65001", "asn: 65009")])?;
            self.wait_for("no session with f1, those with f2 stay", || {
                established(&self.node) == ["f2", "f2-v6"] && self.last_error_of("f1").contains("AS")
            })?;
            poll::until("all routes by f2", LIMIT, || self.goes_by_f2_only("198.51.100.64/26"))?;
            type_in(&self.node, "cambric show protocols")?;
            println!("  (edited {:.2?} after the start)", start.elapsed());
            self.edit("c1.yaml", &[HOLD_TIME])?;
            self.wait_for("its own AS again: four sessions, routes over both", || {
                established(&self.node).len() == 4 && fabric::is_spread(&self.node, 2)
            })?;
            ensure!(self.hold_time_of_f1()? == 6, "the new session has the hold time of before");
            println!("  the new session has a hold time of 6 s");
            Ok(())
        })?;
        // Not judged: f1 deletes its routes to c1 before it tells c2 (README of the lab).
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

            // Neither alone would do: one names what the other has.
            let names = good("c1.yaml").replace("peerConfig: f1", "peerConfig: open");
            let has = format!("{}{PEER_CONFIG_OPEN}", good("cluster.yaml"));
            self.lay_out("..2026_02", &[("c1.yaml", &names), ("cluster.yaml", &has)])?;
            self.wait_for("two files are swapped at once: 203.0.113.0/24 is accepted", || {
                self.has_route(UNDECLARED[0])
            })?;
            ensure!(problems(&self.node)?.is_empty(), "one file was read without the other");
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
}
