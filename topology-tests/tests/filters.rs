//! Filters changed under traffic: `labs/two-switches`.
//!
//! ```text
//!    f1        f2         FRR, AS 65001 and 65002; f1 tells too much
//!     |         |
//!    each has a link to each node
//!     |         |         |
//!    c1        c2        c3   Cambric, a pod each
//! ```
//!
//! f1 tells the default route, a part of c1's own pod range, and a prefix that nobody declares. Proves, with pods of c1 and
//! c2 talking at 1 kHz all the time:
//! - without a filter each of these is refused, and the reason is shown;
//! - a filter takes the default route in, another one holds a prefix back or makes its path longer, a third lets one learned
//!   prefix pass from switch to switch: each seen on FRR or in the kernel, and its end as well;
//! - no session is reset: FRR's count of establishments and the ports of the sessions stay, and a switch that a change is
//!   not about gets no UPDATE;
//! - a filter that is removed while something refers to it counts as before, and says so.
//!
//! What the operator sees is printed, and how long each change took.

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cambric_lab::{Lab, Node, fabric, poll};
use serde_json::Value;

use common::operator::{established, peers, problems, sessions, type_in};
use common::{LabFolder, Need, in_lab, machine_has};

const LIMIT: Duration = Duration::from_secs(30);

/// AS of c1: what it tells begins with it.
const C1: &str = "65101";
const UNDECLARED: &str = "203.0.113.0/24";
/// Inside c1's pods: the one address that no pod ever has.
const OWN_PART: &str = "198.51.100.0/32";
const OF_C3: &str = "198.51.100.128/26";
const NODE_ADDRESS: &str = "192.0.2.101/32";
const PODS: &str = "198.51.100.0/26";

/// What f1 says beyond its configuration.
const TOO_MUCH: &[&str] = &[
    "configure terminal",
    "ip route 198.51.100.0/32 blackhole",
    "router bgp 65001",
    "address-family ipv4 unicast",
    "network 198.51.100.0/32",
    "neighbor NODE4 default-originate",
];

#[test]
fn filters_change_under_traffic_and_no_session_notices() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric]) {
        return;
    }
    let folder = LabFolder::copy_of("labs/two-switches");
    in_lab(&folder, |lab| {
        let desk = Desk::at(lab, &folder)?;
        let before = desk.sessions()?;
        let flows = fabric::start_flows(&lab.pod("c1", "c1-1")?, &lab.pod("c2", "c2-1")?)?;
        fabric::send_more(&flows, 500)?;
        desk.what_no_filter_opens_is_refused()?;
        desk.default_route_is_taken_in()?;
        desk.prefix_of_one_switch_is_refused()?;
        desk.own_prefix_is_held_back_and_its_path_made_longer()?;
        desk.one_learned_prefix_passes_from_switch_to_switch()?;
        desk.missing_filter_counts_as_before()?;
        desk.all_filters_go()?;
        fabric::send_more(&flows, 500)?;
        let mut lost = 0;
        for report in fabric::stop_flows(flows)? {
            println!(
                "  flow: {} packets sent, {} lost, longest gap {:?}",
                report.sent, report.lost, report.longest_gap
            );
            lost += report.lost;
        }
        let after = desk.sessions()?;
        ensure!(before == after, "sessions before {before:#?}, after {after:#?}");
        println!("  sessions reset: 0 of {} at f1 and f2", after.established.len());
        ensure!(lost == 0, "{lost} packets lost");
        Ok(())
    });
}

/// Where the operator of c1 sits.
struct Desk<'a> {
    folder: &'a LabFolder,
    c1: Node,
    f1: Node,
    f2: Node,
}

/// What another session has different.
#[derive(Debug, PartialEq)]
struct Sessions {
    /// By switch and neighbour: how often it was established. Not since when: FRR reckons that from two clocks at each
    /// question, and the answers differ by a second.
    established: BTreeMap<(String, String), u64>,
    /// Of c1.
    ports: Vec<String>,
}

impl<'a> Desk<'a> {
    fn at(lab: &Lab, folder: &'a LabFolder) -> Result<Desk<'a>> {
        let desk = Desk { folder, c1: lab.node("c1")?, f1: lab.node("f1")?, f2: lab.node("f2")? };
        poll::until("four sessions", LIMIT, || established(&desk.c1).len() == 4)?;
        poll::until("all routes over both switches", LIMIT, || fabric::is_spread(&desk.c1, 2))?;
        let words: Vec<&str> = TOO_MUCH.iter().flat_map(|line| ["-c", line]).collect();
        desk.f1.run_ok(&[&["vtysh"][..], &words].concat())?;
        Ok(desk)
    }

    /// Writes what c1 makes of its switches: the filters, and which of them each has.
    fn write(&self, filters: &str, of_f1: &str, of_f2: &str) -> Instant {
        let text = std::fs::read_to_string(self.original("c1.yaml")).expect("a manifest of the lab");
        let (head, _) =
            text.split_once("---\napiVersion: cambric.dev/v1alpha1\nkind: BGPPeerConfig").expect("as it is");
        let config = |name: &str, filters: &str| {
            format!(
                "---\napiVersion: cambric.dev/v1alpha1\nkind: BGPPeerConfig\nmetadata: {{ name: {name} }}\n\
                 spec: {{ holdTimeSeconds: 9, filters: [{filters}] }}\n"
            )
        };
        let start = Instant::now();
        if !filters.is_empty() {
            self.folder.write("manifests/filters.yaml", filters);
        }
        self.folder.write("manifests/c1.yaml", &[head, &config("f1", of_f1), &config("f2", of_f2)].concat());
        start
    }

    fn original(&self, name: &str) -> std::path::PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("labs/two-switches/manifests").join(name)
    }

    fn sessions(&self) -> Result<Sessions> {
        let mut established = BTreeMap::new();
        for switch in [&self.f1, &self.f2] {
            let text = switch.run_ok(&["vtysh", "-c", "show bgp neighbors json"])?;
            let neighbours: Value = serde_json::from_str(&text).context("show bgp neighbors json")?;
            for (address, neighbour) in neighbours.as_object().into_iter().flatten() {
                let number =
                    |name: &str| neighbour[name].as_u64().with_context(|| format!("{address}: {name}"));
                let how_often = number("connectionsEstablished")?;
                established.insert((switch.name().to_owned(), address.clone()), how_often);
            }
        }
        ensure!(established.len() == 12, "{established:?}");
        Ok(Sessions { established, ports: sessions(&self.c1)? })
    }

    /// UPDATEs that a switch has had from c1, over IPv4.
    fn updates(&self, switch: &Node, neighbour: &str) -> Result<u64> {
        let text = switch.run_ok(&["vtysh", "-c", &format!("show bgp neighbors {neighbour} json")])?;
        let shown: Value = serde_json::from_str(&text).context("show bgp neighbors json")?;
        shown[neighbour]["messageStats"]["updatesRecv"].as_u64().context("updatesRecv")
    }

    /// The AS path by which c1 has told `switch` of a prefix.
    fn told(&self, switch: &Node, prefix: &str) -> Result<Option<String>> {
        let text = switch.run_ok(&["vtysh", "-c", "show bgp ipv4 unicast json"])?;
        let table: Value = serde_json::from_str(&text).context("show bgp json")?;
        let paths = table["routes"][prefix].as_array().into_iter().flatten();
        let mut paths = paths.filter_map(|route| route["path"].as_str().map(str::to_owned));
        Ok(paths.find(|path| path.split(' ').next() == Some(C1)))
    }

    fn until_told(&self, switch: &Node, prefix: &str, wanted: Option<&str>) -> Result<()> {
        let what = format!("{} to have {prefix} from c1 by {wanted:?}", switch.name());
        poll::until_some(&what, LIMIT, || Ok((self.told(switch, prefix)?.as_deref() == wanted).then_some(())))
    }

    /// The routes that c1 has in its kernel to a prefix.
    fn kernel(&self, prefix: &str) -> Result<String> {
        self.c1.run_ok(&["ip", "-4", "route", "show", prefix])
    }

    /// Why c1 does not use what f1 told of a prefix.
    fn refused(&self, prefix: &str) -> Result<Option<String>> {
        let answer = fabric::ask(&self.c1, &["show", "route", "refused", "f1"])?;
        let routes = answer["routes"].as_array().cloned().unwrap_or_default();
        let route = routes.into_iter().find(|route| route["prefix"] == prefix);
        Ok(route.and_then(|route| route["paths"][0]["reason"].as_str().map(str::to_owned)))
    }

    fn until_refused(&self, prefix: &str, wanted: Option<&str>) -> Result<()> {
        let what = format!("{prefix} to be refused as {wanted:?}");
        poll::until_some(&what, LIMIT, || Ok((self.refused(prefix)?.as_deref() == wanted).then_some(())))
    }

    fn what_no_filter_opens_is_refused(&self) -> Result<()> {
        println!("\n== f1 tells too much, and nothing opens the door");
        for (prefix, reason) in
            [("0.0.0.0/0", "DefaultRoute"), (OWN_PART, "OwnPrefix"), (UNDECLARED, "NotDeclared")]
        {
            self.until_refused(prefix, Some(reason))?;
        }
        type_in(&self.c1, "cambric show route refused f1")?;
        type_in(&self.c1, "cambric show route noexport f2")?;
        ensure!(self.kernel("default")?.is_empty(), "a default route: {}", self.kernel("default")?);
        Ok(())
    }

    fn default_route_is_taken_in(&self) -> Result<()> {
        println!("\n== a filter takes the default route in");
        let to_f2 = self.updates(&self.f2, "192.0.2.3")?;
        let start = self.write(TAKE_DEFAULT, IMPORT, "");
        poll::until_some("a default route", LIMIT, || {
            Ok(self.kernel("default")?.contains("192.0.2.0").then_some(()))
        })?;
        println!("  in the kernel {:.0?} after the edit", start.elapsed());
        self.until_refused("0.0.0.0/0", None)?;
        self.until_refused(OWN_PART, Some("OwnPrefix"))?;
        let told = type_in(&self.c1, "cambric show route 0.0.0.0/0 all")?;
        ensure!(told.contains("tor-in rule 1"), "no rule is named");
        ensure!(self.updates(&self.f2, "192.0.2.3")? == to_f2, "f2 was told something");
        Ok(())
    }

    fn prefix_of_one_switch_is_refused(&self) -> Result<()> {
        println!("\n== the filter refuses what the cluster declares, from one switch");
        let both = self.kernel(OF_C3)?;
        let start = self.write(REFUSE_C3, IMPORT, "");
        self.until_refused(OF_C3, Some("FilteredBy tor-in rule 2"))?;
        poll::until_some("another way to c3's pods", LIMIT, || {
            let now = self.kernel(OF_C3)?;
            Ok((now != both && !now.is_empty()).then_some(()))
        })?;
        println!("  in the kernel {:.0?} after the edit: {}", start.elapsed(), self.kernel(OF_C3)?.trim());
        type_in(&self.c1, "cambric show route refused f1").map(drop)
    }

    fn own_prefix_is_held_back_and_its_path_made_longer(&self) -> Result<()> {
        println!(
            "\n== an export filter holds the node's address back from f1, and makes the path to its pods longer"
        );
        self.until_told(&self.f1, NODE_ADDRESS, Some(C1))?;
        let to_f2 = self.updates(&self.f2, "192.0.2.3")?;
        let start = self.write(HOLD_BACK, BOTH, "");
        self.until_told(&self.f1, NODE_ADDRESS, None)?;
        println!("  withdrawn at f1 {:.0?} after the edit", start.elapsed());
        self.until_told(&self.f1, PODS, Some("65101 65101 65101"))?;
        println!("  longer path at f1 {:.0?} after the edit", start.elapsed());
        ensure!(self.told(&self.f2, NODE_ADDRESS)?.as_deref() == Some(C1), "f2 has it still");
        ensure!(self.updates(&self.f2, "192.0.2.3")? == to_f2, "f2 was told something");
        type_in(&self.c1, "cambric show route noexport f1")?;
        type_in(&self.c1, "cambric show route export f1 all")?;
        Ok(())
    }

    fn one_learned_prefix_passes_from_switch_to_switch(&self) -> Result<()> {
        println!("\n== a rule that names External lets one prefix of f1 pass to f2, and nothing else");
        let start = self.write(TRANSIT, IMPORT, "{ family: ipv4, export: [transit] }");
        self.until_told(&self.f2, UNDECLARED, Some("65101 65001"))?;
        println!("  at f2 {:.0?} after the edit", start.elapsed());
        ensure!(self.told(&self.f2, "0.0.0.0/0")?.is_none(), "the default route has passed, too");
        self.until_told(&self.f1, NODE_ADDRESS, Some(C1))?;
        self.until_told(&self.f1, PODS, Some(C1))?;
        let start = self.write(TAKE_DEFAULT, IMPORT, "");
        self.until_told(&self.f2, UNDECLARED, None)?;
        println!("  withdrawn from f2 {:.0?} after the end of that", start.elapsed());
        Ok(())
    }

    fn missing_filter_counts_as_before(&self) -> Result<()> {
        println!("\n== the file of the filter is removed, while a peer has it");
        std::fs::remove_file(self.folder.path().join("manifests/filters.yaml")).context("own file")?;
        poll::until_some("a problem that names it", LIMIT, || {
            let problems = problems(&self.c1)?;
            Ok(problems.iter().any(|problem| problem.contains("filters.yaml")).then_some(()))
        })?;
        println!("  {}", problems(&self.c1)?.join("\n  "));
        ensure!(self.kernel("default")?.contains("192.0.2.0"), "the default route is gone");
        ensure!(peers(&self.c1)?.iter().all(|peer| peer["state"] == "Established"), "a session is down");
        Ok(())
    }

    fn all_filters_go(&self) -> Result<()> {
        println!("\n== no filter any more: as in the beginning");
        let start = self.write("", "", "");
        poll::until_some("no default route", LIMIT, || Ok(self.kernel("default")?.is_empty().then_some(())))?;
        println!("  gone from the kernel {:.0?} after the edit", start.elapsed());
        for (prefix, reason) in [("0.0.0.0/0", "DefaultRoute"), (UNDECLARED, "NotDeclared")] {
            self.until_refused(prefix, Some(reason))?;
        }
        self.until_refused(OF_C3, None)?;
        poll::until_some("no problem", LIMIT, || Ok(problems(&self.c1)?.is_empty().then_some(())))
    }
}

const IMPORT: &str = "{ family: ipv4, import: [tor-in] }";
const BOTH: &str = "{ family: ipv4, import: [tor-in], export: [tor-out] }";

const TAKE_DEFAULT: &str = "apiVersion: cambric.dev/v1alpha1
kind: BGPFilter
metadata: { name: tor-in }
spec:
  rules:
  - { match: { prefixes: [{ cidr: 0.0.0.0/0 }, { cidr: 198.51.100.0/32 }] }, action: Accept }
  otherwise: Accept
";

const REFUSE_C3: &str = "apiVersion: cambric.dev/v1alpha1
kind: BGPFilter
metadata: { name: tor-in }
spec:
  rules:
  - { match: { prefixes: [{ cidr: 0.0.0.0/0 }] }, action: Accept }
  - { match: { prefixes: [{ cidr: 198.51.100.128/26, le: 32 }], asPath: _65103$ }, action: Reject }
  otherwise: Accept
";

const HOLD_BACK: &str = "apiVersion: cambric.dev/v1alpha1
kind: BGPFilter
metadata: { name: tor-in }
spec:
  rules:
  - { match: { prefixes: [{ cidr: 0.0.0.0/0 }] }, action: Accept }
  otherwise: Accept
---
apiVersion: cambric.dev/v1alpha1
kind: BGPFilter
metadata: { name: tor-out }
spec:
  rules:
  - { match: { sources: [NodeAddress] }, action: Reject }
  - { action: Accept, set: { prepend: 2 } }
";

const TRANSIT: &str = "apiVersion: cambric.dev/v1alpha1
kind: BGPFilter
metadata: { name: tor-in }
spec:
  rules:
  - { match: { prefixes: [{ cidr: 0.0.0.0/0 }, { cidr: 203.0.113.0/24 }] }, action: Accept }
  otherwise: Accept
---
apiVersion: cambric.dev/v1alpha1
kind: BGPFilter
metadata: { name: transit }
spec:
  rules:
  - { match: { prefixes: [{ cidr: 203.0.113.0/24 }], sources: [External] }, action: Accept }
  otherwise: Accept
";
