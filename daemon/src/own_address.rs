//! Which address of a node counts, and over which links it speaks with the others. Pure.
//!
//! Two questions that have one answer as a rule. *Known* is what everybody makes of the objects alone: other nodes
//! dial it, and accept host routes to it. *Chosen* is what this host takes for packets of its own, where it also looks
//! at its links. An address that others cannot know is not taken, whatever a rule says: nobody would have a way back
//! to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use cambric_bgp::config::{Link, LinkAddress};
use cambric_bgp::{Family, Prefix};

use crate::objects::{ClusterConfig, Kind, Node, NodeOverride, Problem, Reason, Shown};

/// By family.
pub type Addresses = BTreeMap<Family, IpAddr>;

/// How nodes choose their address: `spec.nodeAddress` of a BGPClusterConfig.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Rule {
    /// The first InternalIP of each family in the Node object.
    #[default]
    InternalIp,
    /// Of the InternalIPs, the first of each family that this interface of the host has.
    Interface(String),
    /// Of the InternalIPs, the first of each family that lies in one of these ranges.
    Inside(Vec<Prefix>),
}

/// An address that this node takes, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What its own packets come from.
    pub address: IpAddr,
    /// Who says so.
    pub from: From,
    /// The link of the host that has it; `None` if none has, or the links are not known yet.
    pub interface: Option<String>,
}

/// Who says which address a node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// The Node object, with the field.
    NodeObject(String),
    /// The rule of a BGPClusterConfig, with its place, that chooses an interface.
    Interface(String),
    /// The rule of a BGPClusterConfig, with its place, that chooses ranges.
    Range(String),
    /// The BGPNodeOverride, with its place.
    Override(String),
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            From::NodeObject(field) => write!(f, "{field} of the Node"),
            From::Interface(place) => write!(f, "spec.nodeAddress.interface of {place}"),
            From::Range(place) => write!(f, "spec.nodeAddress.cidrs of {place}"),
            From::Override(place) => write!(f, "spec.addresses of {place}"),
        }
    }
}

/// All that objects say about the address of one node.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its Node object.
    pub node: &'a Shown<Node>,
    /// Its BGPClusterConfig with that one's name, whose rule counts.
    pub config: Option<(&'a String, &'a Shown<ClusterConfig>)>,
    /// Its BGPNodeOverride, whose addresses go before the rule.
    pub overrides: Option<&'a Shown<NodeOverride>>,
}

impl<'a> Said<'a> {
    /// What everybody knows: the same on each node. An interface is known to the node itself alone; others take the
    /// first InternalIP.
    pub fn known(self) -> Addresses {
        let mut known = self.node.says.addresses.clone();
        if let Some(Rule::Inside(ranges)) = self.rule() {
            for family in Family::ALL {
                let inside = self.internal(family).find(|(_, address)| contains(ranges, *address));
                known.extend(inside.map(|(_, address)| (family, address)));
            }
        }
        known.extend(self.overrides.into_iter().flat_map(|overrides| &overrides.says.addresses));
        known
    }

    fn rule(self) -> Option<&'a Rule> {
        Some(&self.config?.1.says.node_address)
    }

    /// All that host routes may lead to for this node.
    pub fn acceptable(self) -> impl Iterator<Item = IpAddr> + 'a {
        let particular = self.overrides.into_iter().flat_map(|shown| shown.says.addresses.values().copied());
        self.node.says.internal_addresses.iter().map(|(_, address)| *address).chain(particular)
    }

    /// What this host takes, and what is wrong with it. Nothing is said of links while none is known.
    pub fn choose(self, links: &[Link]) -> (BTreeMap<Family, Choice>, Vec<Problem>) {
        let mut choices = BTreeMap::new();
        let mut problems = Vec::new();
        let known = self.known();
        for (family, known) in &known {
            let (address, from) = self.choose_of(*family, *known, links, &mut problems);
            let interface = self.holder(address, links).map(|link| link.name.clone());
            if interface.is_none() && !links.is_empty() {
                problems.push(self.on_no_link(address, &from));
            }
            choices.insert(*family, Choice { address, from, interface });
        }
        for family in Family::ALL.into_iter().filter(|family| !known.contains_key(family)) {
            problems.extend(self.unknown_to_others(family, None, links));
        }
        (choices, problems)
    }

    fn choose_of(
        self,
        family: Family,
        known: IpAddr,
        links: &[Link],
        problems: &mut Vec<Problem>,
    ) -> (IpAddr, From) {
        if let Some(Shown { place, says }) = self.overrides
            && says.addresses.contains_key(&family)
        {
            return (known, From::Override(place.clone()));
        }
        let of_node = || (known, From::NodeObject(self.field_of(known)));
        let Some((_, Shown { place, says })) = self.config else { return of_node() };
        match &says.node_address {
            Rule::Interface(name) => {
                let has =
                    |address: IpAddr| links.iter().any(|link| link.name == *name && holds(link, address));
                if let Some((_, address)) = self.internal(family).find(|(_, address)| has(*address)) {
                    return (address, From::Interface(place.clone()));
                }
                problems.extend(self.unknown_to_others(family, Some(known), links));
                of_node()
            }
            Rule::Inside(ranges) if contains(ranges, known) => (known, From::Range(place.clone())),
            Rule::Inside(_) => {
                problems.extend(self.unknown_to_others(family, Some(known), links));
                of_node()
            }
            Rule::InternalIp => of_node(),
        }
    }

    /// The rule asks for an address of `family` that the Node object does not have. Without links, and for a family
    /// that the rule is not meant for, there is nothing to say: ranges are of the other family alone, or the interface
    /// has addresses of that one alone. Every interface has a link-local address of IPv6 (RFC 4291 section 2.8).
    fn unknown_to_others(self, family: Family, known: Option<IpAddr>, links: &[Link]) -> Option<Problem> {
        let (config, Shown { place, says }) = self.config?;
        let problem =
            |what: String| Problem::new(place, what).about(Kind::BGPClusterConfig, config).found_here();
        if links.is_empty() {
            return None;
        }
        let of_family = |address: &IpAddr| Family::of(*address) == family;
        let (field, found) = match &says.node_address {
            Rule::InternalIp => return None,
            Rule::Interface(name) => {
                let Some(link) = links.iter().find(|link| link.name == *name) else {
                    let what = format!("spec.nodeAddress.interface: {name}: this host has no such interface");
                    return known.map(|known| self.instead(problem(what), Some(known)));
                };
                let mut on =
                    link.addresses.iter().map(|entry| entry.address).filter(is_of_a_network).peekable();
                let has_any = on.peek().is_some();
                let found = on.find(of_family);
                if has_any && found.is_none() {
                    return None;
                }
                (format!("spec.nodeAddress.interface: {name}"), found)
            }
            Rule::Inside(ranges) if !ranges.iter().any(|range| range.family() == family) => {
                return None;
            }
            Rule::Inside(ranges) => {
                let inside = |address: &IpAddr| of_family(address) && contains(ranges, *address);
                let all = links.iter().flat_map(|link| &link.addresses).map(|entry| entry.address);
                ("spec.nodeAddress.cidrs".to_owned(), all.into_iter().find(inside))
            }
        };
        let what = match (found, known) {
            (Some(found), _) => format!(
                "{field}: {found}: other nodes cannot know it, for it is no InternalIP of {}; start kubelet with \
                 --node-ip, or name it in spec.addresses of the node's BGPNodeOverride",
                self.node.place
            ),
            (None, Some(_)) => format!("{field}: this host has no {family} address there"),
            (None, None) => return None,
        };
        Some(self.instead(problem(what), known))
    }

    fn instead(self, problem: Problem, known: Option<IpAddr>) -> Problem {
        let problem = problem.because(Reason::Invalid);
        match known {
            Some(known) => {
                problem.and(&format!("{known} is taken, of {} of {}", self.field_of(known), self.node.place))
            }
            None => problem.and("the node has no address of this family"),
        }
    }

    fn on_no_link(self, address: IpAddr, from: &From) -> Problem {
        let what = "on no interface of this host, so packets of its own do not come from it";
        let (place, kind, field) = match from {
            From::Override(place) => (place, Kind::BGPNodeOverride, "spec.addresses".to_owned()),
            _ => (&self.node.place, Kind::Node, self.field_of(address)),
        };
        let problem = Problem::new(place, format!("{field}: {address}: {what}"));
        problem.about(kind, self.name).because(Reason::Invalid)
    }

    /// Of several links that have an address, as loopbacks often do, the one that the rule names.
    fn holder(self, address: IpAddr, links: &[Link]) -> Option<&Link> {
        let named = |link: &&Link| matches!(self.rule(), Some(Rule::Interface(name)) if *name == link.name);
        let mut holders = links.iter().filter(|link| holds(link, address));
        holders.clone().find(named).or_else(|| holders.next())
    }

    fn field_of(self, address: IpAddr) -> String {
        let mut listed = self.node.says.internal_addresses.iter();
        let field = listed.find(|(_, other)| *other == address).map(|(field, _)| field.clone());
        field.unwrap_or_else(|| "status.addresses".to_owned())
    }

    fn internal(self, family: Family) -> impl Iterator<Item = (&'a str, IpAddr)> {
        let all = self.node.says.internal_addresses.iter().map(|(field, address)| (field.as_str(), *address));
        all.filter(move |(_, address)| Family::of(*address) == family)
    }
}

/// The links over which a node speaks with others: those that have its addresses, and those through which BGP peers
/// are reached. One that has an address of its own alone, as a loopback has, leads nowhere.
pub fn uplinks(
    choices: &BTreeMap<Family, Choice>,
    peers: impl IntoIterator<Item = IpAddr>,
    ranges: impl IntoIterator<Item = Prefix>,
    links: &[Link],
) -> BTreeSet<String> {
    let is_subnet = |entry: &LinkAddress| !entry.subnet.is_host() && !entry.address.is_loopback();
    let leads_somewhere = |link: &&Link| link.addresses.iter().any(is_subnet);
    let names: Vec<&String> = choices.values().filter_map(|choice| choice.interface.as_ref()).collect();
    let holders = links.iter().filter(|link| names.contains(&&link.name)).filter(leads_somewhere);
    let reaches = |link: &Link, peer: IpAddr| {
        let mut subnets = link.addresses.iter().map(|entry| entry.subnet);
        subnets.any(|subnet| !subnet.is_host() && subnet.contains(peer))
    };
    let towards = peers.into_iter().filter_map(|peer| links.iter().find(|link| reaches(link, peer)));
    // Whoever calls from a range may do so over any link that has a part of it.
    let ranges: Vec<Prefix> = ranges.into_iter().collect();
    let has_a_part = |link: &&Link| {
        let mut subnets = link.addresses.iter().map(|entry| entry.subnet).filter(|subnet| !subnet.is_host());
        subnets.any(|subnet| ranges.iter().any(|range| range.covers(&subnet) || subnet.covers(range)))
    };
    let of_ranges = links.iter().filter(has_a_part);
    holders.chain(towards).chain(of_ranges).map(|link| link.name.clone()).collect()
}

/// Not one that is the same on many links.
fn is_of_a_network(address: &IpAddr) -> bool {
    !matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn holds(link: &Link, address: IpAddr) -> bool {
    link.addresses.iter().any(|entry| entry.address == address)
}

fn contains(ranges: &[Prefix], address: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(address))
}

#[cfg(test)]
mod tests {
    use cambric_bgp::config::LinkState;

    use super::*;
    use crate::objects::FoundBy;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    fn node(internal: &[&str]) -> Shown<Node> {
        let mut node = Node::default();
        for (at, text) in internal.iter().enumerate() {
            node.internal_addresses.push((format!("status.addresses[{at}].address"), ip(text)));
            node.addresses.entry(Family::of(ip(text))).or_insert(ip(text));
        }
        Shown { place: "Node n1".to_owned(), says: node }
    }

    fn link(name: &str, addresses: &[(&str, u8)]) -> Link {
        let addresses =
            addresses.iter().map(|(text, length)| LinkAddress::new(ip(text), *length).expect("length"));
        Link { name: name.to_owned(), state: LinkState::Up, addresses: addresses.collect() }
    }

    fn host() -> Vec<Link> {
        vec![
            link("eth0", &[("192.0.2.1", 24), ("2001:db8::1", 64)]),
            link("eth1", &[("198.51.100.1", 24)]),
            link("lo", &[("127.0.0.1", 8), ("203.0.113.1", 32)]),
        ]
    }

    /// What is said of one node.
    struct Objects {
        node: Shown<Node>,
        config: Option<(String, Shown<ClusterConfig>)>,
        overrides: Option<Shown<NodeOverride>>,
    }

    impl Objects {
        fn new(internal: &[&str]) -> Objects {
            Objects { node: node(internal), config: None, overrides: None }
        }

        fn with_rule(mut self, node_address: Rule) -> Objects {
            let says = ClusterConfig { node_address, ..ClusterConfig::default() };
            self.config = Some(("c".to_owned(), Shown { place: "BGPClusterConfig c".to_owned(), says }));
            self
        }

        fn with_override(mut self, address: &str) -> Objects {
            let addresses = Addresses::from([(Family::of(ip(address)), ip(address))]);
            let says = NodeOverride { addresses, ..NodeOverride::default() };
            self.overrides = Some(Shown { place: "BGPNodeOverride n1".to_owned(), says });
            self
        }

        fn said(&self) -> Said<'_> {
            let config = self.config.as_ref().map(|(name, config)| (name, config));
            Said { name: "n1", node: &self.node, config, overrides: self.overrides.as_ref() }
        }
    }

    fn taken(objects: &Objects) -> (Vec<String>, Vec<String>) {
        let (choices, problems) = objects.said().choose(&host());
        for problem in &problems {
            let of = problem.of.as_ref().expect("an object").to_string();
            assert!(problem.place.ends_with(&of) && problem.reason == Reason::Invalid, "{problem:?}");
            let is_of_all = of.starts_with("BGPClusterConfig");
            assert!(!is_of_all || problem.found_by == FoundBy::ThisNode, "{problem:?}");
        }
        let word = |choice: &Choice| {
            format!("{} {} ({})", choice.address, choice.interface.as_deref().unwrap_or("-"), choice.from)
        };
        (choices.values().map(word).collect(), problems.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn without_a_rule_it_is_the_first_internal_address_of_each_family() {
        let objects = Objects::new(&["192.0.2.1", "2001:db8::1", "198.51.100.1"]);
        let (choices, problems) = taken(&objects);
        let first = "192.0.2.1 eth0 (status.addresses[0].address of the Node)";
        assert_eq!(choices, [first, "2001:db8::1 eth0 (status.addresses[1].address of the Node)"]);
        assert_eq!(problems, [""; 0]);
    }

    #[test]
    fn an_interface_chooses_among_those_that_others_know() {
        let objects = Objects::new(&["192.0.2.1", "198.51.100.1"]);
        let objects = objects.with_rule(Rule::Interface("eth1".to_owned()));
        let (choices, problems) = taken(&objects);
        assert_eq!(choices, ["198.51.100.1 eth1 (spec.nodeAddress.interface of BGPClusterConfig c)"]);
        assert_eq!(problems, [""; 0]);
        assert_eq!(
            objects.said().known()[&Family::Ipv4],
            ip("192.0.2.1"),
            "nobody else sees the links of this host"
        );
    }

    #[test]
    fn of_two_links_with_one_address_the_one_that_the_rule_names_counts() {
        let objects = Objects::new(&["192.0.2.1"]);
        let objects = objects.with_rule(Rule::Interface("eth1".to_owned()));
        let links = [link("dummy0", &[("192.0.2.1", 32)]), link("eth1", &[("192.0.2.1", 24)])];
        let (choices, problems) = objects.said().choose(&links);
        let choice = &choices[&Family::Ipv4];
        assert_eq!(choice.from, From::Interface("BGPClusterConfig c".to_owned()), "{problems:?}");
        assert_eq!(choice.interface.as_deref(), Some("eth1"));
        assert_eq!(uplinks(&choices, [], [], &links), BTreeSet::from(["eth1".to_owned()]));
    }

    #[test]
    fn an_address_that_others_cannot_know_is_a_problem_and_not_taken() {
        let objects = Objects::new(&["192.0.2.1"]);
        let objects = objects.with_rule(Rule::Interface("eth1".to_owned()));
        let (choices, problems) = taken(&objects);
        assert_eq!(choices, ["192.0.2.1 eth0 (status.addresses[0].address of the Node)"]);
        let says = "BGPClusterConfig c: spec.nodeAddress.interface: eth1: 198.51.100.1: other nodes cannot know it, for \
                    it is no InternalIP of Node n1; start kubelet with --node-ip, or name it in spec.addresses of the \
                    node's BGPNodeOverride; 192.0.2.1 is taken, of status.addresses[0].address of Node n1";
        assert_eq!(problems, [says]);
    }

    #[test]
    fn an_interface_that_is_not_there_is_a_problem() {
        let objects = Objects::new(&["192.0.2.1"]);
        let objects = objects.with_rule(Rule::Interface("bond0".to_owned()));
        let (choices, problems) = taken(&objects);
        assert_eq!(choices.len(), 1);
        let says = "BGPClusterConfig c: spec.nodeAddress.interface: bond0: this host has no such interface; 192.0.2.1 is \
                    taken, of status.addresses[0].address of Node n1";
        assert_eq!(problems, [says]);
    }

    #[test]
    fn ranges_are_understood_by_all_nodes_in_the_same_way() {
        let objects = Objects::new(&["192.0.2.1", "198.51.100.1", "2001:db8::1"]);
        let ranges = ["198.51.100.0/24", "2001:db8::/32"].map(|text| text.parse().expect("prefix"));
        let objects = objects.with_rule(Rule::Inside(ranges.into()));
        let (choices, problems) = taken(&objects);
        let why = "(spec.nodeAddress.cidrs of BGPClusterConfig c)";
        assert_eq!(choices, [format!("198.51.100.1 eth1 {why}"), format!("2001:db8::1 eth0 {why}")]);
        assert_eq!(problems, [""; 0]);
        assert_eq!(objects.said().known()[&Family::Ipv4], ip("198.51.100.1"));
    }

    #[test]
    fn a_range_in_which_only_the_host_has_an_address_is_a_problem() {
        let objects = Objects::new(&["192.0.2.1"]);
        let objects = objects.with_rule(Rule::Inside(vec!["203.0.113.0/24".parse().expect("prefix")]));
        let (choices, problems) = taken(&objects);
        assert_eq!(choices, ["192.0.2.1 eth0 (status.addresses[0].address of the Node)"]);
        assert!(problems[0].starts_with(
            "BGPClusterConfig c: spec.nodeAddress.cidrs: 203.0.113.1: other nodes cannot know it"
        ));
    }

    /// A cluster with both families whose rule is about one of them has nothing to mend.
    #[test]
    fn a_family_that_the_rule_says_nothing_of_is_no_problem() {
        let both = || Objects::new(&["192.0.2.1", "2001:db8::1"]);
        let ranges = vec!["192.0.2.0/24".parse().expect("prefix")];
        let (choices, problems) = taken(&both().with_rule(Rule::Inside(ranges)));
        let other = "2001:db8::1 eth0 (status.addresses[1].address of the Node)";
        assert_eq!(choices, ["192.0.2.1 eth0 (spec.nodeAddress.cidrs of BGPClusterConfig c)", other]);
        assert_eq!(problems, [""; 0]);

        let eth1 = || Rule::Interface("eth1".to_owned());
        let mut links = host();
        let choose = |objects: &Objects, links: &[Link]| -> Vec<String> {
            objects.said().choose(links).1.iter().map(Problem::to_string).collect()
        };
        let objects = Objects::new(&["198.51.100.1", "2001:db8::1"]).with_rule(eth1());
        assert_eq!(choose(&objects, &links), [""; 0]);
        links[1] = link("eth1", &[("198.51.100.1", 24), ("fe80::1", 64)]);
        assert_eq!(choose(&objects, &links), [""; 0], "each interface has one of these");
        links[1] = link("eth1", &[]);
        let says = "BGPClusterConfig c: spec.nodeAddress.interface: eth1: this host has no ";
        assert!(choose(&objects, &links)[0].starts_with(says), "{:?}", choose(&objects, &links));
    }

    #[test]
    fn an_override_goes_before_all_and_everybody_knows_it() {
        let objects = Objects::new(&["192.0.2.1", "2001:db8::1"]);
        let objects = objects.with_override("203.0.113.1");
        let objects = objects.with_rule(Rule::Interface("eth0".to_owned()));
        let (choices, problems) = taken(&objects);
        assert_eq!(choices[0], "203.0.113.1 lo (spec.addresses of BGPNodeOverride n1)");
        assert_eq!(choices[1], "2001:db8::1 eth0 (spec.nodeAddress.interface of BGPClusterConfig c)");
        assert_eq!(problems, [""; 0]);
        assert_eq!(objects.said().known()[&Family::Ipv4], ip("203.0.113.1"));
        assert!(objects.said().acceptable().any(|address| address == ip("203.0.113.1")));
    }

    #[test]
    fn an_address_that_no_interface_has_is_a_problem_with_object_and_field() {
        let objects = Objects::new(&["192.0.2.9"]);
        let (choices, problems) = taken(&objects);
        assert_eq!(choices, ["192.0.2.9 - (status.addresses[0].address of the Node)"]);
        let what = "on no interface of this host, so packets of its own do not come from it";
        assert_eq!(problems, [format!("Node n1: status.addresses[0].address: 192.0.2.9: {what}")]);
        let objects = objects.with_override("203.0.113.9");
        let (_, problems) = taken(&objects);
        assert_eq!(problems, [format!("BGPNodeOverride n1: spec.addresses: 203.0.113.9: {what}")]);
        let (_, problems) = objects.said().choose(&[]);
        assert_eq!(problems, Vec::new(), "nobody knows the links yet");
    }

    #[test]
    fn uplinks_have_the_address_or_lead_to_peers() {
        let objects = Objects::new(&["203.0.113.1", "2001:db8::1"]);
        let (choices, _) = objects.said().choose(&host());
        let names = |peers: &[&str]| -> Vec<String> {
            uplinks(&choices, peers.iter().map(|peer| ip(peer)), [], &host()).into_iter().collect()
        };
        assert_eq!(names(&[]), ["eth0"], "the loopback leads nowhere");
        assert_eq!(names(&["198.51.100.254", "10.9.9.9"]), ["eth0", "eth1"]);
    }
}
