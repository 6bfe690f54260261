//! `containerlab/two-rack`: its fabric comes up by itself. Nodes run a stand-in here, so that a fault of the lab is not
//! taken for one of Cambric.

mod common;

use std::time::Duration;

use cambric_lab::clab::Role;
use cambric_lab::{Lab, Node, poll};

use common::{LabFolder, Need, machine_has, options, progress, stand_in};

const LIMIT: Duration = Duration::from_secs(60);

fn established(node: &Node) -> usize {
    let show = |family: &str| {
        let command = format!("show bgp {family} unicast summary established json");
        let text = node.run_ok(&["vtysh", "-c", &command]).unwrap_or_default();
        let summary: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        summary["peers"].as_object().map_or(0, serde_json::Map::len)
    };
    show("ipv4") + show("ipv6")
}

fn switches(lab: &Lab) -> Vec<Node> {
    let is_switch = |node: &Node| node.role() == Role::Frr;
    let names = lab.topology().nodes.keys();
    names.map(|name| lab.node(name).expect("it runs")).filter(is_switch).collect()
}

#[test]
fn spines_and_tors_peer_in_both_families_without_a_default_route() {
    if !machine_has(&[Need::Root, Need::Frr, Need::CniPlugins]) {
        return;
    }
    let (folder, bin_dir) = (LabFolder::copy_of("../containerlab/two-rack"), stand_in());
    let mut options = options();
    options.bin_dir = Some(bin_dir.path().to_owned());
    let lab = folder.load();
    let lab = lab.up_guarded(&options, &progress).expect("the lab comes up");
    for switch in switches(&lab) {
        let links_up = if switch.name().starts_with("spine") { 4 } else { 2 };
        let what = format!("the sessions of {}", switch.name());
        if let Err(error) = poll::until(&what, LIMIT, || established(&switch) == 2 * links_up) {
            panic!("{error:#}\n{}", switch.run_ok(&["vtysh", "-c", "show bgp summary"]).expect("it runs"));
        }
    }
    // tor1a reaches a TOR of the other rack over both spines.
    let tor = lab.node("tor1a").expect("it runs");
    for (family, prefix) in [("-4", "10.255.0.21"), ("-6", "fd00:10:255::21")] {
        let both = || {
            let route = tor.run_ok(&["ip", family, "route", "show", prefix]);
            route.is_ok_and(|text| text.contains("dev eth1") && text.contains("dev eth2"))
        };
        poll::until(&format!("two ways to {prefix}"), LIMIT, both).expect("ECMP over both spines");
    }
    // A power cut of a spine: what came down comes up again, both families.
    lab.links_down("spine1").expect("its links go down");
    let spine = lab.node("spine1").expect("it runs");
    poll::until("spine1 to be alone", LIMIT, || established(&spine) == 0).expect("sessions end");
    let one_way =
        || tor.run_ok(&["ip", "route", "show", "10.255.0.21"]).is_ok_and(|text| !text.contains("eth1"));
    poll::until("tor1a to use spine2 only", LIMIT, one_way).expect("the dead way is left");
    lab.links_up("spine1").expect("its links come up");
    poll::until("spine1 to be back", LIMIT, || established(&spine) == 8).expect("sessions come back");

    for name in lab.topology().nodes.keys() {
        let node = lab.node(name).expect("it runs");
        for family in ["-4", "-6"] {
            let routes = node.run_ok(&["ip", family, "route", "show", "default"]).expect("it runs");
            assert_eq!(routes, "", "{name}");
        }
    }
    lab.down().expect("the lab goes down");
}
