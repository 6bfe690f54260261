//! Twenty speakers on one segment, all started in the same moment: seventeen of ours, one of each other kind.
//!
//! Everybody peers with everybody, internally: 190 sessions, of which each has two sides that connect at once.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cambric_lab::clab::split_words;
use cambric_lab::{Node, poll};

use crate::common::operator::{established, sessions};
use crate::common::{LabFolder, options};
use crate::other::{Kind, birdc, vtysh};
use crate::table::{ALL, Row, Runs};

pub(crate) const ROWS: &[Row] = &[Row {
    feature: "twenty speakers start in the same moment, full mesh",
    rfc: "RFC 4271 section 6.8",
    runs: Runs::Together(ALL, start_at_once),
    without: &[],
}];

/// For 190 sessions of which each may have to be tried again.
const LIMIT: Duration = Duration::from_secs(120);
const ASN: u32 = 64512;
const SPEAKERS: u8 = 20;
/// What runs on the last ones.
const OTHERS: [(u8, Kind); 3] = [(18, Kind::Frr), (19, Kind::Bird), (20, Kind::Gobgp)];

fn start_at_once() -> Result<()> {
    let folder = LabFolder::new("twenty", &topology());
    fs::create_dir(folder.path().join("manifests"))?;
    folder.write("manifests/all.yaml", &manifests());
    for (number, kind) in OTHERS {
        folder.write(&format!("n{number}"), &configuration(number, kind));
    }
    let lab = folder.load().up_guarded(&options(), &|_| ())?;
    let nodes = (1..=SPEAKERS).map(|number| lab.node(&format!("n{number}"))).collect::<Result<Vec<_>>>()?;
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let starts: Vec<_> =
            (1..).zip(&nodes).map(|(number, node)| scope.spawn(move || start(number, node))).collect();
        starts.into_iter().try_for_each(|start| start.join().expect("it does not panic"))
    })?;
    println!("twenty speakers are started within {:.1?}", begin.elapsed());
    let all =
        || (1..).zip(&nodes).all(|(number, node)| sessions_of(number, node) == usize::from(SPEAKERS) - 1);
    poll::until("all 190 sessions", LIMIT, all).with_context(|| {
        let of = |(number, node): (u8, &Node)| format!("{}: {} ", node.name(), sessions_of(number, node));
        (1..).zip(&nodes).map(of).collect::<String>()
    })?;
    println!("all 190 sessions are there {:.1?} after the first start", begin.elapsed());
    poll::until("all prefixes everywhere", LIMIT, || {
        (1..).zip(&nodes).all(|(number, node)| has_all(number, node).unwrap_or(false))
    })?;
    println!("all prefixes are everywhere {:.1?} after the first start", begin.elapsed());
    // What is up stays up: no pair ends what the other side has just begun.
    let connections = || nodes.iter().map(sessions).collect::<Result<Vec<_>>>();
    let (before, quiet) = (connections()?, Instant::now());
    poll::until("three seconds", LIMIT, || quiet.elapsed() > Duration::from_secs(3))?;
    let after = connections()?;
    ensure!(before == after, "sessions began anew: {before:#?}, now {after:#?}");
    for (at, connections) in after.iter().enumerate() {
        ensure!(connections.len() == usize::from(SPEAKERS) - 1, "n{}: {connections:#?}", at + 1);
    }
    lab.down()
}

fn kind_of(number: u8) -> Option<Kind> {
    OTHERS.iter().find(|(other, _)| *other == number).map(|(_, kind)| *kind)
}

fn address(number: u8) -> String {
    format!("172.16.0.{number}")
}

fn prefix(number: u8) -> String {
    format!("10.244.{number}.0/24")
}

fn topology() -> String {
    let mut text = String::from(
        "  kinds:\n    linux:\n      network-mode: none\n      sysctls: { net.ipv4.ip_forward: 1 }\n  nodes:\n    segment: { kind: bridge }\n",
    );
    let mut links = String::from("  links:\n");
    for number in 1..=SPEAKERS {
        let bind = match kind_of(number) {
            None => "manifests:/etc/cambric/manifests:ro".to_owned(),
            Some(_) => format!("n{number}:/etc/configuration:ro"),
        };
        text += &format!(
            "    n{number}:\n      kind: linux\n      image: example/speaker\n      binds: [\"{bind}\"]\n      exec:\n        \
             - ip address add {}/24 dev eth1\n",
            address(number)
        );
        links += &format!("    - endpoints: [\"segment:to-n{number}\", \"n{number}:eth1\"]\n");
    }
    text + &links
}

/// Node objects alone: whoever has one is a peer of all others.
fn manifests() -> String {
    let object = |number: u8| {
        let (address, prefix) = (address(number), prefix(number));
        format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{ name: n{number} }}\n\
             spec: {{ podCIDR: {prefix}, podCIDRs: [{prefix}] }}\n\
             status: {{ addresses: [{{ type: InternalIP, address: {address} }}] }}\n---\n"
        )
    };
    (1..=SPEAKERS).map(object).collect()
}

fn configuration(number: u8, kind: Kind) -> String {
    let (own, prefix) = (address(number), prefix(number));
    let all = (1..=SPEAKERS).filter(|other| *other != number).map(|other| (other, address(other)));
    match kind {
        Kind::Frr => {
            let mut text = format!(
                "frr defaults datacenter\nhostname n{number}\nrouter bgp {ASN}\n bgp router-id {own}\n no bgp default ipv4-unicast\n \
                 no bgp network import-check\n neighbor ALL peer-group\n neighbor ALL remote-as internal\n neighbor ALL timers connect 1\n"
            );
            all.for_each(|(_, address)| text += &format!(" neighbor {address} peer-group ALL\n"));
            text + &format!(" address-family ipv4 unicast\n  network {prefix}\n  neighbor ALL activate\n")
        }
        Kind::Bird => {
            let mut text = format!(
                "router id {own};\nprotocol device {{ }}\nprotocol static {{ ipv4; route {prefix} blackhole; }}\n\
                 template bgp of_mesh {{ local {own} as {ASN}; connect retry time 1; connect delay time 1; error wait time 1, 5;\n  \
                 ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }}; }}\n"
            );
            all.for_each(|(other, address)| {
                text += &format!("protocol bgp n{other} from of_mesh {{ neighbor {address} as {ASN}; }}\n");
            });
            text
        }
        Kind::Gobgp => {
            let mut text = format!("[global.config]\n  as = {ASN}\n  router-id = \"{own}\"\n");
            all.for_each(|(_, address)| {
                text += &format!(
                    "[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{address}\"\n    peer-as = {ASN}\n  \
                     [neighbors.timers.config]\n    connect-retry = 1\n    idle-hold-time-after-reset = 1\n"
                );
            });
            text
        }
    }
}

fn start(number: u8, node: &Node) -> Result<()> {
    let words = match kind_of(number) {
        None => format!(
            "sh -c 'setsid --fork cambricd --node n{number} --source dir:/etc/cambric/manifests --policy off \
             </dev/null >/var/log/cambricd.log 2>&1'"
        ),
        Some(Kind::Frr) => "/usr/lib/frr/bgpd -d -Z -S -A 127.0.0.1 -f /etc/configuration --vty_socket /run \
                            -i /run/bgpd.pid --log file:/var/log/bgpd.log"
            .to_owned(),
        Some(Kind::Bird) => "bird -c /etc/configuration -s /run/bird.ctl -P /run/bird.pid".to_owned(),
        Some(Kind::Gobgp) => {
            "sh -c 'setsid --fork gobgpd -t toml -f /etc/configuration --api-hosts 127.0.0.1:50051 \
                              --pprof-disable </dev/null >/var/log/gobgpd.log 2>&1'"
                .to_owned()
        }
    };
    node.run_ok(&split_words(&words).map_err(anyhow::Error::msg)?)?;
    if kind_of(number) == Some(Kind::Gobgp) {
        // Its file holds no prefixes.
        poll::until("gobgpd to take a prefix", LIMIT, || {
            node.run_ok(&["gobgp", "global", "rib", "add", &prefix(number), "-a", "ipv4"]).is_ok()
        })?;
    }
    Ok(())
}

/// How many sessions it says are up.
fn sessions_of(number: u8, node: &Node) -> usize {
    let says = match kind_of(number) {
        None => return established(node).len(),
        Some(Kind::Frr) => vtysh(node, "show bgp neighbors"),
        Some(Kind::Bird) => birdc(node, &["show", "protocols"]),
        Some(Kind::Gobgp) => node.run_ok(&["gobgp", "neighbor"]),
    };
    let word = match kind_of(number) {
        Some(Kind::Frr) => "BGP state = Established",
        Some(Kind::Bird) => " Established",
        _ => "Establ ",
    };
    says.unwrap_or_default().matches(word).count()
}

fn has_all(number: u8, node: &Node) -> Result<bool> {
    let says = match kind_of(number) {
        // In the kernel, where it is of use.
        None => node.run_ok(&["ip", "route", "show", "root", "10.244.0.0/16"]),
        Some(Kind::Frr) => vtysh(node, "show bgp ipv4 unicast"),
        Some(Kind::Bird) => birdc(node, &["show", "route"]),
        Some(Kind::Gobgp) => node.run_ok(&["gobgp", "global", "rib", "-a", "ipv4"]),
    }?;
    Ok((1..=SPEAKERS).all(|other| says.contains(&format!("{} ", prefix(other)))))
}
