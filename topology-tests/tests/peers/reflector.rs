//! One of another kind as route reflector for two of ours, on one segment.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use cambric_lab::clab::split_words;
use cambric_lab::{Lab, Node, poll};

use crate::cambric;
use crate::common::{LabFolder, options};
use crate::other::{Kind, birdc, vtysh};
use crate::table::{ALL, Row, Runs};

pub(crate) const ROWS: &[Row] = &[Row {
    feature: "route reflector, we are its clients",
    rfc: "RFC 4456",
    runs: Runs::With(ALL, reflects_for_us),
    without: &[],
}];

const LIMIT: Duration = Duration::from_secs(60);
const ASN: u32 = 64512;
const REFLECTOR: &str = "172.16.0.250";
const NODES: [u8; 2] = [1, 2];

fn reflects_for_us(kind: Kind) -> Result<()> {
    let folder = LabFolder::new(&format!("reflector-{kind}").to_lowercase(), &topology());
    fs::create_dir(folder.path().join("manifests"))?;
    folder.write("manifests/all.yaml", &manifests());
    folder.write("configuration", &configuration(kind));
    let lab = folder.load().up_guarded(&options(), &|_| ())?;
    be_reflected(&lab, kind).map_err(|error| anyhow!("{error:#}\n{}", all_that_is_known(&lab, kind)))?;
    lab.down()
}

fn be_reflected(lab: &Lab, kind: Kind) -> Result<()> {
    lab.node("rr")?.run_ok(&split_words(start_words(kind)).map_err(anyhow::Error::msg)?)?;
    for (here, there) in [(1, 2), (2, 1)] {
        let node = lab.node(&format!("n{here}"))?;
        let (prefix, next_hop) = of(there);
        poll::until(&format!("{prefix} in the kernel of n{here}"), LIMIT, || {
            cambric::kernel(&node, &prefix).is_ok_and(|route| route.contains(&format!("via {next_hop} ")))
        })?;
        // It may send ours back; that is ours, and not news.
        let own = cambric::path(&node, &of(here).0, "rr")?;
        ensure!(own.as_ref().is_none_or(|path| path["verdict"] == "refused"), "our own route: {own:?}");
        let peer = cambric::protocol(&node, "rr")?;
        ensure!(peer["flawed_updates"] == 0, "flawed UPDATEs: {peer:#}");
    }
    Ok(())
}

fn of(number: u8) -> (String, String) {
    (format!("10.244.{number}.0/24"), format!("172.16.0.{number}"))
}

fn topology() -> String {
    let mut text = format!(
        "  kinds:\n    linux:\n      network-mode: none\n      sysctls: {{ net.ipv4.ip_forward: 1 }}\n  nodes:\n    segment: {{ kind: bridge }}\n    \
         rr:\n      kind: linux\n      image: example/reflector\n      binds: [\"configuration:/etc/configuration:ro\"]\n      exec:\n        \
         - ip address add {REFLECTOR}/24 dev eth1\n"
    );
    let mut links = String::from("  links:\n    - endpoints: [\"segment:to-rr\", \"rr:eth1\"]\n");
    for number in NODES {
        text += &format!(
            "    n{number}:\n      kind: linux\n      image: cambric-lab\n      cmd: --source dir:/etc/cambric/manifests --policy off\n      \
             binds: [\"manifests:/etc/cambric/manifests:ro\"]\n      exec:\n        - ip address add {}/24 dev eth1\n",
            of(number).1
        );
        links += &format!("    - endpoints: [\"segment:to-n{number}\", \"n{number}:eth1\"]\n");
    }
    text + &links
}

fn manifests() -> String {
    let object = |number: u8| {
        let (prefix, address) = of(number);
        format!(
            "---\napiVersion: v1\nkind: Node\nmetadata: {{ name: n{number} }}\n\
             spec: {{ podCIDR: {prefix}, podCIDRs: [{prefix}] }}\n\
             status: {{ addresses: [{{ type: InternalIP, address: {address} }}] }}\n"
        )
    };
    format!(
        "apiVersion: cambric.dev/v1alpha1\nkind: BGPClusterConfig\nmetadata: {{ name: default }}\nspec:\n  mesh: Disabled\n  \
         peers:\n  - {{ name: rr, address: {REFLECTOR}, asn: {ASN} }}\n"
    ) + &NODES.into_iter().map(object).collect::<String>()
}

fn configuration(kind: Kind) -> String {
    let clients = NODES.into_iter().map(|number| (number, of(number).1));
    match kind {
        Kind::Frr => {
            let mut text = format!(
                "frr defaults datacenter\nrouter bgp {ASN}\n bgp router-id {REFLECTOR}\n no bgp default ipv4-unicast\n \
                 neighbor CLIENTS peer-group\n neighbor CLIENTS remote-as internal\n neighbor CLIENTS timers connect 1\n"
            );
            clients.for_each(|(_, address)| text += &format!(" neighbor {address} peer-group CLIENTS\n"));
            text + " address-family ipv4 unicast\n  neighbor CLIENTS activate\n  neighbor CLIENTS route-reflector-client\n"
        }
        Kind::Bird => {
            let mut text = format!(
                "log \"/var/log/bird.log\" all;\nrouter id {REFLECTOR};\nprotocol device {{ }}\n\
                 template bgp of_cluster {{ local {REFLECTOR} as {ASN}; rr client; connect retry time 1; connect delay time 1;\n  \
                 error wait time 1, 5; ipv4 {{ import all; export all; }}; }}\n"
            );
            clients.for_each(|(number, address)| {
                text +=
                    &format!("protocol bgp n{number} from of_cluster {{ neighbor {address} as {ASN}; }}\n");
            });
            text
        }
        Kind::Gobgp => {
            let mut text = format!("[global.config]\n  as = {ASN}\n  router-id = \"{REFLECTOR}\"\n");
            clients.for_each(|(_, address)| {
                text += &format!(
                    "[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{address}\"\n    peer-as = {ASN}\n  \
                     [neighbors.timers.config]\n    connect-retry = 1\n    idle-hold-time-after-reset = 1\n  \
                     [neighbors.route-reflector.config]\n    route-reflector-client = true\n    \
                     route-reflector-cluster-id = \"{REFLECTOR}\"\n"
                );
            });
            text
        }
    }
}

fn start_words(kind: Kind) -> &'static str {
    match kind {
        Kind::Frr => {
            "/usr/lib/frr/bgpd -d -Z -S -A 127.0.0.1 -f /etc/configuration --vty_socket /run -i /run/bgpd.pid \
             --log file:/var/log/bgpd.log"
        }
        Kind::Bird => "bird -c /etc/configuration -s /run/bird.ctl -P /run/bird.pid",
        Kind::Gobgp => {
            "sh -c 'setsid --fork gobgpd -t toml -f /etc/configuration --api-hosts 127.0.0.1:50051 --pprof-disable \
             </dev/null >/var/log/gobgpd.log 2>&1'"
        }
    }
}

fn all_that_is_known(lab: &Lab, kind: Kind) -> String {
    let reflector = |node: &Node| match kind {
        Kind::Frr => vtysh(node, "show bgp ipv4 unicast detail"),
        Kind::Bird => birdc(node, &["show", "route", "all"]),
        Kind::Gobgp => node.run_ok(&["gobgp", "global", "rib", "-a", "ipv4"]),
    };
    let ours = |node: &Node| {
        let peers = node.run_ok(&["cambric", "show", "protocols", "all"])?;
        Ok(peers + &node.run_ok(&["cambric", "show", "route", "all"])?)
    };
    let says = |name: &str, ask: &dyn Fn(&Node) -> Result<String>| {
        let text = lab.node(name).and_then(|node| ask(&node)).with_context(|| name.to_owned());
        format!("\n{name}:\n{}", text.unwrap_or_else(|error| format!("{error:#}")))
    };
    says("rr", &reflector) + &says("n1", &ours) + &says("n2", &ours)
}
