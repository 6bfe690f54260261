//! Where the operator sits: edits files, looks at c1 and at f2, and counts what it costs those who talk.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cambric_lab::flow::{Flow, Report};
use cambric_lab::{Lab, Node, fabric, poll};
use nix::unistd::Pid;
use serde_json::Value;

use crate::common::LabFolder;
use crate::common::operator::{peers, problems, sessions};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Flows go on this long after an edit, so that a late loss is seen.
const AFTER: u32 = 500;

const NODES: [&str; 3] = ["c1", "c2", "c3"];

const CAMBRICD: &str = "cambricd";

/// How f2 calls c1.
const C1_AT_F2: [&str; 2] = ["192.0.2.3", "2001:db8:0:12::1"];

/// Where the operator sits.
pub(crate) struct Desk<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) folder: &'a LabFolder,
    /// c1.
    pub(crate) node: Node,
    pub(crate) f2: Node,
}

impl Desk<'_> {
    /// Whether routes and sessions are what they were.
    pub(crate) fn forwards_as(&self, before: &BTreeSet<String>) -> Result<()> {
        let now = self.all_that_forwards()?;
        let lost: Vec<_> = before.difference(&now).collect();
        let new: Vec<_> = now.difference(before).collect();
        ensure!(now == *before, "routes or sessions have changed: gone {lost:#?}, new {new:#?}");
        Ok(())
    }

    /// Has pods talk, the first of each pair with the second, while something is done; they lose nothing and the sessions
    /// of all nodes stay.
    pub(crate) fn while_pods_talk(
        &self,
        pairs: &[(&str, &str)],
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.while_pods_talk_from(&NODES, pairs, work)
    }

    /// As [`Self::while_pods_talk`]; only the sessions of the nodes in `steady` must stay.
    pub(crate) fn while_pods_talk_from(
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

    pub(crate) fn sessions(&self, names: &[&str]) -> Result<BTreeSet<String>> {
        let mut all = BTreeSet::new();
        for name in names {
            all.extend(sessions(&self.lab.node(name)?)?);
        }
        Ok(all)
    }

    pub(crate) fn daemons(&self) -> Result<Vec<Option<Pid>>> {
        NODES.iter().map(|name| Ok(self.lab.node(name)?.daemon_pid(CAMBRICD))).collect()
    }

    /// Routes and sessions of all nodes.
    pub(crate) fn all_that_forwards(&self) -> Result<BTreeSet<String>> {
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

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join("manifests").join(file)
    }

    /// Writes a file as it was in the beginning.
    pub(crate) fn mend(&self, file: &str) {
        self.folder.write(&format!("manifests/{file}"), &good(file));
    }

    /// Writes a file as it was in the beginning, but for these pieces.
    pub(crate) fn edit(&self, file: &str, pieces: &[(&str, &str)]) -> Result<()> {
        let mut text = good(file);
        for (old, new) in pieces {
            ensure!(text.contains(old), "{file} has no {old:?}");
            text = text.replace(old, new);
        }
        self.folder.write(&format!("manifests/{file}"), &text);
        Ok(())
    }

    /// Gives the BGPPeerConfigs of c1 a further line each.
    pub(crate) fn filter(&self, lines: &[(&str, &str)]) -> Result<()> {
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
    pub(crate) fn wait_until_read(&self) -> Result<()> {
        let file = self.path("zzz.yaml");
        fs::write(&file, "kind: [")?;
        let named = |all: Vec<String>| all.iter().any(|problem| problem.contains("zzz.yaml"));
        poll::until("the folder to be read", LIMIT, || problems(&self.node).is_ok_and(named))?;
        fs::remove_file(file)?;
        poll::until("the problem to go", LIMIT, || problems(&self.node).is_ok_and(|all| !named(all)))
    }

    /// Waits, and says how long it took.
    pub(crate) fn wait_for(&self, what: &str, holds: impl FnMut() -> bool) -> Result<()> {
        let start = Instant::now();
        poll::until(what, LIMIT, holds)?;
        println!("  {what}: after {:.2?}", start.elapsed());
        Ok(())
    }

    /// Whether c1's kernel has a way to a prefix.
    pub(crate) fn has_route(&self, prefix: &str) -> bool {
        let route = self.node.run_ok(&["ip", family_of(prefix), "route", "show", prefix]).unwrap_or_default();
        route.contains("proto 203") && !route.contains("unreachable")
    }

    pub(crate) fn goes_by_f2_only(&self, prefix: &str) -> bool {
        let route = self.node.run_ok(&["ip", "route", "show", prefix]).unwrap_or_default();
        route.contains("dev eth2") && !route.contains("dev eth1")
    }

    /// Why c1 refuses a prefix from everybody who tells it; empty when somebody's is accepted.
    pub(crate) fn verdict(&self, prefix: &str) -> String {
        let routes = self.routes().unwrap_or_default();
        let route = routes.iter().find(|route| route["prefix"] == prefix);
        let paths = route.and_then(|route| route["paths"].as_array()).cloned().unwrap_or_default();
        let refused = paths.iter().all(|path| path["verdict"] == "refused");
        let reason = paths.first().and_then(|path| path["reason"].as_str()).filter(|_| refused);
        reason.unwrap_or_default().to_owned()
    }

    /// How many routes c1 accepts from f1.
    pub(crate) fn accepted_of_f1(&self) -> Option<u64> {
        let peers = peers(&self.node).ok()?;
        let peer = peers.iter().find(|peer| peer["name"] == "f1")?;
        peer["families"][0]["accepted"].as_u64()
    }

    pub(crate) fn routes(&self) -> Result<Vec<Value>> {
        let mut answer = fabric::ask(&self.node, &["show", "route"])?;
        Ok(answer["routes"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    pub(crate) fn hold_time_of_f1(&self) -> Result<u64> {
        let peers = peers(&self.node)?;
        let peer = peers.iter().find(|peer| peer["name"] == "f1").context("no peer f1")?;
        peer["session"]["hold_time_s"].as_u64().context("no session with f1")
    }

    pub(crate) fn last_error_of(&self, name: &str) -> String {
        let peers = peers(&self.node).unwrap_or_default();
        let peer = peers.iter().find(|peer| peer["name"] == name);
        peer.and_then(|peer| peer["last_error"]["what"].as_str()).unwrap_or_default().to_owned()
    }

    /// The prefixes that f2 has heard from c1; by family, IPv4 first.
    pub(crate) fn f2_hears(&self, family: usize) -> BTreeSet<String> {
        let (name, neighbor) = (["ipv4", "ipv6"][family], C1_AT_F2[family]);
        let command = format!("show bgp {name} unicast neighbors {neighbor} routes json");
        let text = self.f2.run_ok(&["vtysh", "-c", &command]).unwrap_or_default();
        let heard: Value = serde_json::from_str(&text).unwrap_or_default();
        heard["routes"].as_object().map(|routes| routes.keys().cloned().collect()).unwrap_or_default()
    }
}

/// A manifest as it was in the beginning, if it was there.
pub(crate) fn original(file: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("labs/two-switches/manifests").join(file))
        .ok()
}

pub(crate) fn good(file: &str) -> String {
    original(file).expect("a manifest of the lab")
}

pub(crate) fn set(prefixes: &[&str]) -> BTreeSet<String> {
    prefixes.iter().map(|prefix| (*prefix).to_owned()).collect()
}

pub(crate) fn family_of(prefix: &str) -> &'static str {
    if prefix.contains(':') { "-6" } else { "-4" }
}

pub(crate) fn headline(text: &str) {
    println!("\n== {text}");
}

pub(crate) fn print_lost(who: &str, reports: &[Report]) {
    let lost: Vec<u32> = reports.iter().map(|report| report.lost).collect();
    let sent: u32 = reports.iter().map(|report| report.sent).sum();
    println!("\n  {who}: packets lost, by flow (two of IPv4, two of IPv6 a pair): {lost:?} of {sent} in all");
    for run in reports.iter().flat_map(|report| &report.lost_runs) {
        println!("    {} of them {:.2?} after the start of a flow", run.last - run.first + 1, run.since);
    }
}
