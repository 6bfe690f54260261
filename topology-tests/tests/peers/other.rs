//! The other side of a cell: FRR, BIRD or GoBGP, its configuration and what it says.

use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::{Result, ensure};
use cambric_lab::clab::split_words;
use cambric_lab::{Node, poll};
use nix::sys::signal::Signal;

use crate::common::held::Held;
use crate::rig::{LIMIT, OTHER_ASN, OUR_ASN, address_of, own_pods};

/// One of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Frr,
    Bird,
    Gobgp,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Whom a link of the lab has at an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Us,
    Other,
}

/// What a router of another make is told: one session with us, and what it announces.
#[derive(Debug, Clone)]
pub(crate) struct Other {
    pub(crate) kind: Kind,
    /// Its number in the lab, from 1: its link, its pod ranges.
    pub(crate) number: u8,
    pub(crate) asn: u32,
    /// What it takes us for.
    pub(crate) our_asn: u32,
    pub(crate) our_address: IpAddr,
    pub(crate) own_address: IpAddr,
    /// What the session carries.
    pub(crate) families: Vec<Family>,
    /// Sessions as options: see the setters.
    pub(crate) passive: bool,
    pub(crate) password: Option<&'static str>,
    pub(crate) multihop: Option<u8>,
    pub(crate) ttl_security: bool,
    /// It asks to have its routes kept over a restart; else it helps only.
    pub(crate) restarts: bool,
    /// How many seconds of these.
    pub(crate) restart_time_s: u16,
    /// And how many beyond that, as a last resort.
    pub(crate) long_lived_s: Option<u16>,
    pub(crate) announces: Vec<String>,
    /// Lines of its language about the session, `%` stands for our address.
    pub(crate) lines: Vec<String>,
    /// Lines about each family of the session.
    pub(crate) family_lines: Vec<String>,
    /// Lines beside the session.
    pub(crate) global_lines: Vec<String>,
    pub(crate) told: Told,
}

/// How it tells what it announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    AsItIs,
    /// With an AS in the path.
    Through(u32),
    /// With GRACEFUL_SHUTDOWN (RFC 8326).
    Leaving,
}

const VTYSH: [&str; 3] = ["vtysh", "--vty_socket", "/run"];
const BIRD_SOCKET: &str = "/run/bird.ctl";

impl Other {
    /// An external peer over IPv4 that announces its pod ranges of IPv4.
    pub(crate) fn new(kind: Kind) -> Other {
        let number = 1;
        Other {
            kind,
            number,
            asn: OTHER_ASN,
            our_asn: OUR_ASN,
            our_address: address_of(End::Us, number, Family::V4),
            own_address: address_of(End::Other, number, Family::V4),
            families: vec![Family::V4],
            passive: false,
            password: None,
            multihop: None,
            ttl_security: false,
            restarts: false,
            restart_time_s: 60,
            long_lived_s: None,
            announces: vec![own_pods(number)[0].clone()],
            lines: Vec::new(),
            family_lines: Vec::new(),
            global_lines: Vec::new(),
            told: Told::AsItIs,
        }
    }

    /// On a network of its own, a router away (see [`crate::rig::Way`]).
    pub(crate) fn beyond_a_router(self) -> Other {
        Other { own_address: IpAddr::from([198, 18, self.number, 2]), ..self }
    }

    /// Each in its own way; GoBGP is told with the prefix.
    pub(crate) fn tells(mut self, told: Told) -> Other {
        let change = match told {
            Told::AsItIs => None,
            Told::Through(asn) => Some(format!("bgp_path.prepend({asn});")),
            Told::Leaving => Some("bgp_community.add((65535, 0));".to_owned()),
        };
        match (self.kind, change) {
            (Kind::Bird, Some(change)) => self
                .family_lines
                .push(format!("export filter {{ if source != RTS_STATIC then reject; {change} accept; }};")),
            (Kind::Frr, Some(_)) if told == Told::Leaving => {
                self.global_lines.push("bgp graceful-shutdown".into())
            }
            (Kind::Frr, Some(_)) => self.family_lines.push("neighbor % route-map TOLD out".into()),
            (Kind::Gobgp, _) | (_, None) => {}
        }
        Other { told, ..self }
    }

    /// The session is over IPv6 and carries that.
    pub(crate) fn over_ipv6(mut self) -> Other {
        self.our_address = address_of(End::Us, self.number, Family::V6);
        self.own_address = address_of(End::Other, self.number, Family::V6);
        self.carries(&[Family::V6])
    }

    /// At another place in the lab.
    pub(crate) fn numbered(mut self, number: u8) -> Other {
        let family = if self.our_address.is_ipv6() { Family::V6 } else { Family::V4 };
        self.number = number;
        self.our_address = address_of(End::Us, number, family);
        self.own_address = address_of(End::Other, number, family);
        let families = self.families.clone();
        self.carries(&families)
    }

    pub(crate) fn carries(mut self, families: &[Family]) -> Other {
        self.families = families.to_vec();
        let [v4, v6] = own_pods(self.number);
        let of = |family: &Family| if *family == Family::V4 { v4.clone() } else { v6.clone() };
        self.announces = families.iter().map(of).collect();
        self
    }

    pub(crate) fn of_asn(mut self, asn: u32) -> Other {
        self.asn = asn;
        self
    }

    pub(crate) fn line(mut self, line: impl Into<String>) -> Other {
        self.lines.push(line.into());
        self
    }

    /// Of three lines, the one of its language; an empty one is none.
    pub(crate) fn by_kind(self, frr: &str, bird: &str, gobgp: &str) -> Other {
        let line = match self.kind {
            Kind::Frr => frr,
            Kind::Bird => bird,
            Kind::Gobgp => gobgp,
        };
        if line.is_empty() { self } else { self.line(line) }
    }

    pub(crate) fn configuration(&self) -> String {
        match self.kind {
            Kind::Frr => self.frr(),
            Kind::Bird => self.bird(),
            Kind::Gobgp => self.gobgp(),
        }
        .replace('%', &self.our_address.to_string())
    }

    fn router_id(&self) -> String {
        format!("192.0.2.{}", 200 + self.number)
    }

    fn frr(&self) -> String {
        let mut text = format!(
            "frr defaults datacenter\nhostname other\nrouter bgp {}\n bgp router-id {}\n no bgp ebgp-requires-policy\n \
             no bgp default ipv4-unicast\n no bgp network import-check\n neighbor % remote-as {}\n neighbor % timers 3 9\n \
             neighbor % timers connect 1\n",
            self.asn,
            self.router_id(),
            self.our_asn
        );
        let mut add = |line: String| {
            let _ = writeln!(text, " {line}"); // a String takes everything
        };
        if self.restarts {
            add("bgp graceful-restart".into());
            add("bgp graceful-restart preserve-fw-state".into());
            add(format!("bgp graceful-restart restart-time {}", self.restart_time_s));
        }
        if let Some(seconds) = self.long_lived_s {
            add(format!("bgp long-lived-graceful-restart stale-time {seconds}"));
        }
        if self.passive {
            add("neighbor % passive".into());
        }
        if let Some(password) = self.password {
            add(format!("neighbor % password {password}"));
        }
        if let Some(ttl) = self.multihop {
            add(format!("neighbor % ebgp-multihop {ttl}"));
        }
        if self.ttl_security {
            add("neighbor % ttl-security hops 1".into());
        }
        self.lines.iter().chain(&self.global_lines).cloned().for_each(&mut add);
        for family in &self.families {
            add(format!("address-family {} unicast", if *family == Family::V4 { "ipv4" } else { "ipv6" }));
            add(" neighbor % activate".into());
            for prefix in self.announces.iter().filter(|prefix| family_of(prefix) == *family) {
                add(format!(" network {prefix}"));
            }
            self.family_lines.iter().for_each(|line| add(format!(" {line}")));
            add("exit-address-family".into());
        }
        if let Told::Through(asn) = self.told {
            text += &format!("exit\nroute-map TOLD permit 10\n set as-path prepend {asn}\n");
        }
        text
    }

    fn bird(&self) -> String {
        let mut text = format!(
            "log \"/var/log/bird.log\" all;\nrouter id {};\nprotocol device {{ }}\n",
            self.router_id()
        );
        for (name, family) in [("ipv4", Family::V4), ("ipv6", Family::V6)] {
            text += &format!("protocol static own_{name} {{ {name};\n");
            for prefix in self.announces.iter().filter(|prefix| family_of(prefix) == family) {
                text += &format!("  route {prefix} blackhole;\n");
            }
            text += "}\n";
        }
        self.global_lines.iter().for_each(|line| text += &format!("{line}\n"));
        text += &format!(
            "protocol bgp node {{\n  local {} as {};\n  neighbor % as {};\n  hold time 9;\n  error wait time 1, 5;\n  \
             connect retry time 1;\n  connect delay time 1;\n",
            self.own_address, self.asn, self.our_asn
        );
        let mut add = |line: String| {
            let _ = writeln!(text, "  {line}");
        };
        if self.restarts {
            add(format!("graceful restart on;\n  graceful restart time {};", self.restart_time_s));
        }
        if let Some(seconds) = self.long_lived_s {
            add(format!("long lived graceful restart on;\n  long lived stale time {seconds};"));
        }
        if self.passive {
            add("passive on;".into());
        }
        if let Some(password) = self.password {
            add(format!("password \"{password}\";"));
        }
        if let Some(ttl) = self.multihop {
            add(format!("multihop {ttl};"));
        }
        if self.ttl_security {
            add("ttl security on;".into());
        }
        self.lines.iter().cloned().for_each(&mut add);
        for family in &self.families {
            add(format!("{} {{", if *family == Family::V4 { "ipv4" } else { "ipv6" }));
            add("  import all;".into());
            // A line of a cell that says otherwise comes later, and counts.
            add("  export where source = RTS_STATIC;".into());
            self.family_lines.iter().for_each(|line| add(format!("  {line}")));
            add("};".into());
        }
        text + "}\n"
    }

    fn gobgp(&self) -> String {
        let mut text = format!(
            "[global.config]\n  as = {}\n  router-id = \"{}\"\n\n[[neighbors]]\n  [neighbors.config]\n    \
             neighbor-address = \"%\"\n    peer-as = {}\n",
            self.asn,
            self.router_id(),
            self.our_asn
        );
        let mut add = |line: &str| {
            let _ = writeln!(text, "{line}");
        };
        if let Some(password) = self.password {
            add(&format!("    auth-password = \"{password}\""));
        }
        // What begins a table of its own comes behind.
        let (tables, plain): (Vec<_>, Vec<_>) = self.lines.iter().partition(|line| line.starts_with('['));
        plain.iter().for_each(|line| add(&format!("    {line}")));
        add("  [neighbors.timers.config]");
        add("    connect-retry = 1\n    hold-time = 9\n    keepalive-interval = 3");
        add("    idle-hold-time-after-reset = 1");
        add("  [neighbors.transport.config]");
        add(&format!("    local-address = \"{}\"", self.own_address));
        if self.passive {
            add("    passive-mode = true");
        }
        if let Some(ttl) = self.multihop {
            add("  [neighbors.ebgp-multihop.config]");
            add(&format!("    enabled = true\n    multihop-ttl = {ttl}"));
        }
        if self.ttl_security {
            add("  [neighbors.ttl-security.config]\n    enabled = true\n    ttl-min = 255");
        }
        if self.restarts {
            add("  [neighbors.graceful-restart.config]\n    enabled = true");
            add(&format!("    restart-time = {}", self.restart_time_s));
            add(&format!("    long-lived-enabled = {}", self.long_lived_s.is_some()));
        }
        tables.iter().for_each(|line| add(&line.replace(';', "\n    ")));
        for family in &self.families {
            add("  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]");
            let name = if *family == Family::V4 { "ipv4" } else { "ipv6" };
            add(&format!("      afi-safi-name = \"{name}-unicast\""));
            if self.restarts {
                add("    [neighbors.afi-safis.mp-graceful-restart.config]\n      enabled = true");
            }
            if let Some(seconds) = self.long_lived_s {
                add("    [neighbors.afi-safis.long-lived-graceful-restart.config]\n      enabled = true");
                add(&format!("      restart-time = {seconds}"));
            }
            self.family_lines.iter().for_each(|line| add(&format!("    {}", line.replace(';', "\n      "))));
        }
        self.global_lines.iter().for_each(|line| add(line));
        text
    }

    /// What starts it, its configuration being at `/etc/other/configuration`.
    pub(crate) fn start_words(&self) -> &'static str {
        match self.kind {
            // Without zebra and without privileges to give up: nothing but BGP.
            Kind::Frr => {
                "/usr/lib/frr/bgpd -d -Z -S -A 127.0.0.1 -f /etc/other/configuration --vty_socket /run -i /run/bgpd.pid \
                 --log file:/var/log/bgpd.log"
            }
            Kind::Bird => "bird -c /etc/other/configuration -s /run/bird.ctl -P /run/bird.pid",
            Kind::Gobgp => {
                "sh -c 'setsid --fork gobgpd -t toml -f /etc/other/configuration --api-hosts 127.0.0.1:50051 \
                 --pprof-disable </dev/null >>/var/log/gobgpd.log 2>&1'"
            }
        }
    }

    /// Its log, for a cell that does not hold.
    pub(crate) fn log(&self) -> &'static str {
        match self.kind {
            Kind::Frr => "bgpd.log",
            Kind::Bird => "bird.log",
            Kind::Gobgp => "gobgpd.log",
        }
    }

    pub(crate) fn daemon(&self) -> &'static str {
        match self.kind {
            Kind::Frr => "bgpd",
            Kind::Bird => "bird",
            Kind::Gobgp => "gobgpd",
        }
    }

    /// Of three lines about each family, the one of its language; an empty one is none.
    pub(crate) fn family_by_kind(mut self, frr: &str, bird: &str, gobgp: &str) -> Other {
        let line = match self.kind {
            Kind::Frr => frr,
            Kind::Bird => bird,
            Kind::Gobgp => gobgp,
        };
        self.family_lines.extend((!line.is_empty()).then(|| line.to_owned()));
        self
    }

    /// What it must be told once it runs: GoBGP's file holds no prefixes.
    pub(crate) fn announce(&self, node: &Node) -> Result<()> {
        if self.kind != Kind::Gobgp {
            return Ok(());
        }
        for prefix in &self.announces {
            let family = if family_of(prefix) == Family::V4 { "ipv4" } else { "ipv6" };
            poll::until("gobgpd to take a prefix", LIMIT, || {
                let how = match self.told {
                    Told::AsItIs => String::new(),
                    Told::Through(asn) => format!("aspath {asn}"),
                    Told::Leaving => "community 65535:0".to_owned(),
                };
                let words = ["gobgp", "global", "rib", "add", prefix, "-a", family];
                node.run_ok(&words.into_iter().chain(how.split_whitespace()).collect::<Vec<_>>()).is_ok()
            })?;
        }
        Ok(())
    }

    /// Kills it; what it leaves behind keeps no new one from starting.
    pub(crate) fn kill(&self, node: &Node) -> Result<()> {
        node.kill(self.daemon(), Signal::SIGKILL)
    }

    /// Starts it again, and lets it say that it has restarted.
    pub(crate) fn start(&self, node: &Node) -> Result<()> {
        let mut words = split_words(self.start_words()).map_err(anyhow::Error::msg)?;
        if self.kind == Kind::Bird && self.restarts {
            words.push("-R".into());
        }
        node.run_ok(&words)?;
        self.announce(node)
    }

    /// What it says of the session, in its own words.
    pub(crate) fn says(&self, node: &Node) -> Result<String> {
        let us = self.our_address.to_string();
        match self.kind {
            Kind::Frr => vtysh(node, &format!("show bgp neighbors {us}")),
            Kind::Bird => birdc(node, &["show", "protocols", "all", "node"]),
            Kind::Gobgp => node.run_ok(&["gobgp", "neighbor", &us]),
        }
    }

    pub(crate) fn is_established(&self, node: &Node) -> bool {
        let Ok(says) = self.says(node) else { return false };
        match self.kind {
            Kind::Frr => says.contains("BGP state = Established"),
            Kind::Bird => says.contains("BGP state:          Established"),
            Kind::Gobgp => says.contains("BGP state = ESTABLISHED"),
        }
    }

    /// What it has of a prefix that we told.
    pub(crate) fn held(&self, node: &Node, prefix: &str) -> Result<Held> {
        match self.kind {
            Kind::Frr => Held::by_frr(node, &VTYSH, prefix),
            Kind::Bird => Held::by_bird(node, BIRD_SOCKET, "node", prefix),
            Kind::Gobgp => Held::by_gobgp(node, prefix),
        }
    }

    /// All it says about the path to a prefix, in its own words.
    pub(crate) fn path(&self, node: &Node, prefix: &str) -> Result<String> {
        let family = if family_of(prefix) == Family::V4 { "ipv4" } else { "ipv6" };
        match self.kind {
            Kind::Frr => vtysh(node, &format!("show bgp {family} unicast {prefix}")),
            Kind::Bird => birdc(node, &["show", "route", "all", prefix]),
            Kind::Gobgp => node.run_ok(&["gobgp", "global", "rib", prefix, "-a", family]),
        }
    }

    /// Waits until it has a prefix, fresh.
    pub(crate) fn wait_for(&self, node: &Node, prefix: &str) -> Result<()> {
        poll::until(&format!("{prefix} at {}", self.kind), LIMIT, || {
            self.held(node, prefix).is_ok_and(|held| held == Held::Fresh)
        })
    }

    /// Has it ask us for all routes again.
    pub(crate) fn refresh(&self, node: &Node) -> Result<()> {
        let us = self.our_address.to_string();
        match self.kind {
            Kind::Frr => {
                let family = if self.families[0] == Family::V4 { "ipv4" } else { "ipv6" };
                vtysh(node, &format!("clear bgp {family} unicast {us} soft in")).map(drop)
            }
            Kind::Bird => birdc(node, &["reload", "in", "node"]).map(drop),
            Kind::Gobgp => node.run_ok(&["gobgp", "neighbor", &us, "softresetin"]).map(drop),
        }
    }
}

pub(crate) fn family_of(prefix: &str) -> Family {
    if prefix.contains(':') { Family::V6 } else { Family::V4 }
}

pub(crate) fn vtysh(node: &Node, command: &str) -> Result<String> {
    node.run_ok(&[&VTYSH[..], &["-c", command]].concat())
}

pub(crate) fn birdc(node: &Node, words: &[&str]) -> Result<String> {
    let text = node.run_ok(&[&["birdc", "-s", BIRD_SOCKET], words].concat())?;
    ensure!(!text.contains("syntax error"), "{words:?}: {text}");
    Ok(text)
}
