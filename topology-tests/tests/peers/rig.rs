//! The lab of a cell: one node of ours, up to three others, a link to each; or a router in between.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use cambric_lab::{Guard, Node, poll};

use crate::cambric::{self, Us};
use crate::common::{LabFolder, options};
use crate::other::{End, Family, Kind, Other, birdc, vtysh};

/// Far more than anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) const OUR_ASN: u32 = 65100;
pub(crate) const OTHER_ASN: u32 = 65001;

/// The pod ranges of a node: 0 is ours, the others are 1 to 3.
pub(crate) fn own_pods(number: u8) -> [String; 2] {
    let v6 = match number {
        0 => "2001:db8:100::/64".to_owned(),
        _ => format!("2001:db8:100:{number}::/64"),
    };
    [format!("198.51.100.{}/26", 64 * number), v6]
}

/// An end of the link to an other.
pub(crate) fn address_of(end: End, number: u8, family: Family) -> IpAddr {
    let host = if end == End::Us { 1 } else { 2 };
    match family {
        Family::V4 => IpAddr::from([192, 0, 2, 16 * number + host]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0, number.into(), 0, 0, 0, host.into()]),
    }
}

/// A lab that is up.
pub(crate) struct Rig {
    pub(crate) lab: Guard,
    pub(crate) others: Vec<Other>,
    // It goes after the lab.
    folder: LabFolder,
}

/// What is between us and the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Link,
    /// Two links and a router, that each side knows a route by.
    OverARouter,
    /// Two links, and nothing that joins them: the cell brings it.
    Slow,
}

impl Rig {
    /// One of ours and others, with the peers of `us` as they are, or a plain one for each other where there are none.
    pub(crate) fn up(us: &Us, others: &[Other], way: Way) -> Result<Rig> {
        let us = with_peers(us, others);
        static RIGS: AtomicU32 = AtomicU32::new(1);
        let name = format!("peers{}", RIGS.fetch_add(1, Ordering::Relaxed));
        let folder = LabFolder::new(&name, &topology(&us, others, way));
        fs::create_dir(folder.path().join("us"))?;
        folder.write("us/all.yaml", &us.manifest("us", 0));
        for other in others {
            let name = format!("o{}", other.number);
            fs::create_dir(folder.path().join(&name))?;
            folder.write(&format!("{name}/configuration"), &other.configuration());
        }
        let lab = folder.load().up_guarded(&options(), &|_| ())?;
        let rig = Rig { lab, others: others.to_vec(), folder };
        for other in others {
            other.announce(&rig.node(other)?)?;
        }
        Ok(rig)
    }

    /// Our side is another one from now on.
    pub(crate) fn change(&self, us: &Us) {
        self.folder.write("us/all.yaml", &with_peers(us, &self.others).manifest("us", 0));
    }

    /// Does the work; an error brings along what all routers know and have said.
    pub(crate) fn run(self, work: impl FnOnce(&Rig) -> Result<()>) -> Result<()> {
        let work = |rig: &Rig| rig.be_understood().and_then(|()| work(rig));
        work(&self).map_err(|error| anyhow!("{error:#}\n{}", self.all_that_is_known()))?;
        self.lab.down()
    }

    /// FRR goes on without the lines that it does not understand; the two others do not start.
    fn be_understood(&self) -> Result<()> {
        for other in self.others.iter().filter(|other| other.kind == Kind::Frr) {
            let log = fs::read_to_string(self.node(other)?.log(other.log())).unwrap_or_default();
            let fault = log.lines().find(|line| line.contains("No such command"));
            ensure!(fault.is_none(), "FRR does not understand its configuration: {fault:?}");
        }
        Ok(())
    }

    pub(crate) fn us(&self) -> Result<Node> {
        self.lab.node("us")
    }

    pub(crate) fn node(&self, other: &Other) -> Result<Node> {
        self.lab.node(&format!("o{}", other.number))
    }

    /// The only other, and its node.
    pub(crate) fn other(&self) -> Result<(&Other, Node)> {
        let other = self.others.first().context("an other")?;
        Ok((other, self.node(other)?))
    }

    /// Waits until both ends of all sessions say Established.
    pub(crate) fn be_established(&self) -> Result<()> {
        let us = self.us()?;
        for other in &self.others {
            let node = self.node(other)?;
            poll::until(&format!("a session with {}", other.kind), LIMIT, || {
                cambric::is_established(&us, &other.own_address.to_string()) && other.is_established(&node)
            })?;
        }
        Ok(())
    }

    /// Waits until both sides have what the other one announces, and our kernel has it.
    pub(crate) fn be_told(&self) -> Result<()> {
        let us = self.us()?;
        for other in &self.others {
            let node = self.node(other)?;
            for prefix in &other.announces {
                cambric::wait_for_kernel(&us, prefix)?;
            }
            for family in &other.families {
                other.wait_for(&node, &own_pods(0)[usize::from(*family == Family::V6)])?;
            }
        }
        Ok(())
    }

    fn all_that_is_known(&self) -> String {
        let mut text = String::new();
        let mut add = |node: &Node, words: &[&str]| {
            let says = node.run_ok(words).unwrap_or_else(|error| format!("{error:#}"));
            let _ = writeln!(text, "\n{}# {}\n{}", node.name(), words.join(" "), says.trim_end());
        };
        if let Ok(us) = self.us() {
            add(&us, &["cambric", "show", "status"]);
            add(&us, &["cambric", "show", "protocols", "all"]);
            add(&us, &["cambric", "show", "route", "all"]);
        }
        if let Ok(log) =
            fs::read_to_string(self.lab.node("us").map(|us| us.log("cambricd.log")).unwrap_or_default())
        {
            text += &last_lines(&log);
        }
        for other in &self.others {
            let Ok(node) = self.node(other) else { continue };
            let routes = match other.kind {
                Kind::Frr => vtysh(&node, "show bgp ipv4 unicast")
                    .and_then(|v4| Ok(v4 + &vtysh(&node, "show bgp ipv6 unicast")?)),
                Kind::Bird => birdc(&node, &["show", "route", "all"]),
                Kind::Gobgp => node.run_ok(&["gobgp", "global", "rib"]),
            };
            for says in [other.says(&node), routes] {
                let _ = writeln!(
                    text,
                    "\n{}:\n{}",
                    node.name(),
                    says.unwrap_or_else(|error| format!("{error:#}"))
                );
            }
            text += &last_lines(&fs::read_to_string(node.log(other.log())).unwrap_or_default());
        }
        text
    }
}

/// A plain peer for each other, where there are none.
fn with_peers(us: &Us, others: &[Other]) -> Us {
    let mut us = us.clone();
    if us.peers.is_empty() {
        let peer = |other: &Other| {
            let address = other.own_address;
            format!("name: o{}, address: \"{address}\", asn: {}, peerConfig: other", other.number, other.asn)
        };
        us.peers = others.iter().map(peer).collect();
    }
    us
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

fn topology(us: &Us, others: &[Other], way: Way) -> String {
    let mut arguments = String::from("--source dir:/etc/cambric/manifests --policy off");
    us.arguments.iter().for_each(|word| arguments += &format!(" {word}"));
    let mut text = format!(
        "  kinds:\n    linux:\n      network-mode: none\n      sysctls:\n        net.ipv4.ip_forward: 1\n        \
         net.ipv6.conf.all.forwarding: 1\n        net.ipv4.conf.all.rp_filter: 0\n        net.ipv4.conf.default.rp_filter: 0\n  \
         nodes:\n    us:\n      kind: linux\n      image: cambric-lab\n      cmd: {arguments}\n      binds:\n        \
         - us:/etc/cambric/manifests:ro\n      exec:\n        - ip address add 203.0.113.1/32 dev lo\n"
    );
    let mut links = String::from("  links:\n");
    for other in others {
        let number = other.number;
        text += &addresses(End::Us, number, &format!("eth{number}"));
        links += &match way {
            Way::Link => format!("    - endpoints: [\"us:eth{number}\", \"o{number}:eth1\"]\n"),
            Way::OverARouter | Way::Slow => format!(
                "    - endpoints: [\"us:eth{number}\", \"r{number}:eth1\"]\n    - endpoints: [\"r{number}:eth2\", \"o{number}:eth1\"]\n"
            ),
        };
    }
    if way == Way::OverARouter {
        for other in others {
            text += &format!(
                "        - ip route add 198.18.{0}.0/24 via {1}\n        - ip address add 198.18.0.{0}/32 dev lo\n",
                other.number,
                address_of(End::Other, other.number, Family::V4)
            );
        }
    }
    for other in others {
        let number = other.number;
        text += &format!(
            "    o{number}:\n      kind: linux\n      image: example/other\n      binds:\n        - o{number}:/etc/other:ro\n      exec:\n"
        );
        match way {
            Way::Link | Way::Slow => text += &addresses(End::Other, number, "eth1"),
            Way::OverARouter => {
                text += &format!(
                    "        - ip address add 198.18.{number}.2/24 dev eth1\n        - ip route add 192.0.2.0/24 via 198.18.{number}.1\n        \
                     - ip route add 198.18.0.{number}/32 via 198.18.{number}.1\n"
                );
            }
        }
        text += &format!("        - >-\n          {}\n", other.start_words());
        if way == Way::Slow {
            text += &format!("    r{number}: {{ kind: linux, image: example/bridge }}\n");
        }
        if way == Way::OverARouter {
            text += &format!(
                "    r{number}:\n      kind: linux\n      image: example/router\n      exec:\n{}        \
                 - ip address add 198.18.{number}.1/24 dev eth2\n        - ip route add 198.18.0.{number}/32 via {}\n",
                addresses(End::Other, number, "eth1"),
                address_of(End::Us, number, Family::V4)
            );
        }
    }
    text + &links
}

fn addresses(end: End, number: u8, interface: &str) -> String {
    let [v4, v6] = [Family::V4, Family::V6].map(|family| address_of(end, number, family));
    format!(
        "        - ip address add {v4}/28 dev {interface}\n        - ip address add {v6}/64 dev {interface}\n"
    )
}
