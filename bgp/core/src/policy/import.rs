//! May a route that a peer told be used?

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::attributes::Attributes;
use crate::config::{Declared, Import, Link, LinkState, Originated, Wanted};
use crate::prefix::{Family, Prefix};
use crate::types::Asn;

/// Why a route is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// Our AS is in its path: it is our own route, or it went through us.
    OwnAsInPath,
    /// Loopback, link-local, multicast and the like are never routed.
    NotRoutable,
    /// Its next hop is an address of ours.
    NextHopIsOurs,
    /// Its next hop is an IPv4 address in IPv6 clothes; nothing can be sent there.
    NextHopMapped,
    /// No link of ours reaches its next hop directly.
    NextHopNotOnLink,
    /// The route would be the way to its own next hop.
    NextHopInsidePrefix,
    /// 0.0.0.0/0 or ::/0.
    DefaultRoute,
    /// Our own pod prefix, or a part of it.
    OwnPrefix,
    /// The subnet of a link of ours, or a part of it.
    LinkSubnet,
    /// An address of this node.
    OwnAddress,
    /// A range that is another node's, told by one that claims it, too.
    Disputed,
    /// The cluster declares nothing of the sort.
    NotDeclared,
    /// The peer has more routes accepted than it may.
    OverMaxPrefixes,
}

impl Refusal {
    /// The name, as `show route refused` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::OwnAsInPath => "OwnAsInPath",
            Refusal::NotRoutable => "NotRoutable",
            Refusal::NextHopIsOurs => "NextHopIsOurs",
            Refusal::NextHopMapped => "NextHopMapped",
            Refusal::NextHopNotOnLink => "NextHopNotOnLink",
            Refusal::NextHopInsidePrefix => "NextHopInsidePrefix",
            Refusal::DefaultRoute => "DefaultRoute",
            Refusal::OwnPrefix => "OwnPrefix",
            Refusal::LinkSubnet => "LinkSubnet",
            Refusal::OwnAddress => "OwnAddress",
            Refusal::Disputed => "Disputed",
            Refusal::NotDeclared => "NotDeclared",
            Refusal::OverMaxPrefixes => "OverMaxPrefixes",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the import policy looks at, gathered from [`Wanted`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    own_asn: Asn,
    own_pods: Vec<Prefix>,
    own_addresses: BTreeSet<IpAddr>,
    links: Vec<Link>,
    declared: Declared,
}

impl View {
    pub(crate) fn of(wanted: &Wanted) -> View {
        let of_kind = |kind: Originated| {
            wanted.originated.iter().filter(move |(_, why)| **why == kind).map(|(prefix, _)| *prefix)
        };
        let on_links = wanted.links.iter().flat_map(|link| &link.addresses).map(|entry| entry.address);
        View {
            own_asn: wanted.router.asn,
            own_pods: of_kind(Originated::Pods).collect(),
            own_addresses: on_links
                .chain(of_kind(Originated::NodeAddress).map(|prefix| prefix.address()))
                .collect(),
            // A route is not judged by the carrier: it is good again when the link is.
            links: wanted.links.iter().map(|link| Link { state: LinkState::Up, ..link.clone() }).collect(),
            declared: wanted.declared.clone(),
        }
    }

    pub(crate) fn own_asn(&self) -> Asn {
        self.own_asn
    }

    fn subnets(&self) -> impl Iterator<Item = &Prefix> {
        self.links.iter().flat_map(|link| &link.addresses).map(|entry| &entry.subnet)
    }

    /// An address of ours of `family` on the link that holds `local`: the next hop we tell a peer
    /// there. Link-local addresses do not serve.
    pub(crate) fn address_beside(&self, local: IpAddr, family: Family) -> Option<IpAddr> {
        if Family::of(local) == family {
            return Some(local);
        }
        let holds = |link: &&Link| link.addresses.iter().any(|entry| entry.address == local);
        let link = self.links.iter().find(holds)?;
        let global = |address: &IpAddr| match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        };
        let mut of_family = link.addresses.iter().map(|entry| entry.address);
        of_family.find(|address| Family::of(*address) == family && global(address))
    }
}

/// Looks at a route of the peer at `from` in the order in which an operator would want to hear of its faults.
pub(crate) fn judge(
    prefix: &Prefix,
    attributes: &Attributes,
    from: IpAddr,
    import: Import,
    view: &View,
) -> Result<(), Refusal> {
    sound(prefix, attributes, view)?;
    // Of its own it has at most its AS in the path: a longer one has come from elsewhere, perhaps from the other one.
    let is_disputed = |range: &Prefix| range.covers(prefix);
    if attributes.as_path.len() <= 1
        && view.declared.disputed.get(&from).into_iter().flatten().any(is_disputed)
    {
        return Err(Refusal::Disputed);
    }
    match import {
        Import::All => Ok(()),
        Import::Declared => declared(prefix, view),
    }
}

/// What no policy can allow.
fn sound(prefix: &Prefix, attributes: &Attributes, view: &View) -> Result<(), Refusal> {
    // RFC 4271 section 9.1.2: a route with our AS in its path has been here.
    if attributes.as_path.contains(view.own_asn) {
        return Err(Refusal::OwnAsInPath);
    }
    if !is_routable(prefix) {
        return Err(Refusal::NotRoutable);
    }
    if view.own_pods.iter().any(|own| own.covers(prefix)) {
        return Err(Refusal::OwnPrefix);
    }
    let next_hop = attributes.next_hop;
    if view.own_addresses.contains(&next_hop) {
        return Err(Refusal::NextHopIsOurs);
    }
    if matches!(next_hop, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(Refusal::NextHopMapped);
    }
    let Some(subnet) = view.subnets().find(|subnet| !subnet.is_host() && subnet.contains(next_hop)) else {
        return Err(Refusal::NextHopNotOnLink);
    };
    // A route as specific as the link itself would hide its own next hop.
    if subnet.covers(prefix) && prefix.contains(next_hop) {
        return Err(Refusal::NextHopInsidePrefix);
    }
    Ok(())
}

fn is_routable(prefix: &Prefix) -> bool {
    if prefix.is_default() {
        return true;
    }
    match prefix.address() {
        IpAddr::V4(v4) => {
            // Class E is left alone: some fabrics use it (RFC 1112 section 4 reserved it long ago).
            !(v4.octets()[0] == 0 || v4.is_loopback() || v4.is_multicast() || v4.is_link_local())
        }
        IpAddr::V6(v6) => {
            !(v6.is_multicast()
                || v6.is_unicast_link_local()
                || v6.to_ipv4_mapped().is_some()
                || (prefix.is_host() && (v6.is_loopback() || v6.is_unspecified())))
        }
    }
}

/// The cluster's own ranges and nothing else.
fn declared(prefix: &Prefix, view: &View) -> Result<(), Refusal> {
    if prefix.is_default() {
        return Err(Refusal::DefaultRoute);
    }
    if prefix.is_host() && view.own_addresses.contains(&prefix.address()) {
        return Err(Refusal::OwnAddress);
    }
    // A known node's address is a host route even where it lies on a link's subnet.
    let is_node = prefix.is_host() && view.declared.nodes.contains(&prefix.address());
    if !is_node && view.subnets().any(|subnet| subnet.covers(prefix)) {
        return Err(Refusal::LinkSubnet);
    }
    let ranges = view.declared.pods.iter().chain(&view.declared.services);
    if is_node || ranges.into_iter().any(|range| range.covers(prefix)) {
        return Ok(());
    }
    Err(Refusal::NotDeclared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::AsPath;
    use crate::config::{LinkAddress, RouterConfig};
    use crate::types::RouterId;

    fn asn(value: u32) -> Asn {
        Asn::new(value).expect("not 0")
    }

    fn view() -> View {
        let router_id = RouterId::new(1).expect("not 0");
        let mut wanted = Wanted::new(RouterConfig::new(asn(65111), router_id));
        let prefix = |text: &str| text.parse::<Prefix>().expect("test prefix");
        wanted.originated.insert(prefix("10.244.11.0/24"), Originated::Pods);
        wanted.originated.insert(prefix("10.255.1.1/32"), Originated::NodeAddress);
        wanted.declared.pods = vec![prefix("10.244.0.0/16"), prefix("fd00:10:244::/48")];
        wanted.declared.services = vec![prefix("10.96.0.0/16")];
        wanted.declared.nodes = ["10.255.1.1", "10.255.2.1"].map(|a| a.parse().expect("address")).into();
        let address =
            |text: &str, length| LinkAddress::new(text.parse().expect("address"), length).expect("length");
        wanted.links = vec![Link {
            name: "eth1".to_owned(),
            state: LinkState::Up,
            addresses: vec![address("172.16.11.1", 31), address("fd00:172:16:11::1", 127)],
        }];
        View::of(&wanted)
    }

    fn verdict(prefix: &str, next_hop: &str, path: &[u32], import: Import) -> Result<(), Refusal> {
        let mut attributes = Attributes::originated(next_hop.parse().expect("address"));
        attributes.as_path = path.iter().map(|&value| asn(value)).collect::<AsPath>();
        let from = IpAddr::from([172, 16, 11, 0]);
        judge(&prefix.parse().expect("test prefix"), &attributes, from, import, &view())
    }

    #[test]
    fn what_a_peer_originates_in_a_range_of_another_is_refused_and_what_it_passes_on_is_not() {
        let (mut view, from) = (view(), IpAddr::from([10, 255, 2, 1]));
        let range: Prefix = "10.244.2.0/24".parse().expect("test prefix");
        view.declared.disputed.insert(from, vec![range]);
        let verdict = |prefix: &str, from: IpAddr, path: &[u32]| {
            let mut attributes = Attributes::originated(IpAddr::from([172, 16, 11, 0]));
            attributes.as_path = path.iter().map(|&value| asn(value)).collect::<AsPath>();
            let prefix = prefix.parse().expect("test prefix");
            judge(&prefix, &attributes, from, Import::Declared, &view)
        };
        for (prefix, path) in
            [("10.244.2.0/24", &[][..]), ("10.244.2.0/24", &[65102]), ("10.244.2.128/25", &[65102])]
        {
            assert_eq!(verdict(prefix, from, path), Err(Refusal::Disputed), "{prefix} {path:?}");
        }
        assert_eq!(verdict("10.244.2.0/24", from, &[65101, 65103]), Ok(()));
        assert_eq!(verdict("10.244.3.0/24", from, &[]), Ok(()));
        assert_eq!(verdict("10.244.2.0/24", IpAddr::from([10, 255, 3, 1]), &[]), Ok(()));
    }

    #[test]
    fn declared_prefixes_pass_and_all_others_have_their_reason() {
        let table = [
            ("10.244.12.0/24", Ok(())),
            ("10.244.0.0/16", Ok(())),
            ("10.96.0.10/32", Ok(())),
            ("10.255.2.1/32", Ok(())),
            ("0.0.0.0/0", Err(Refusal::DefaultRoute)),
            ("10.244.11.0/24", Err(Refusal::OwnPrefix)),
            ("10.244.11.128/25", Err(Refusal::OwnPrefix)),
            ("10.255.1.1/32", Err(Refusal::OwnAddress)),
            ("10.255.2.0/24", Err(Refusal::NotDeclared)),
            ("10.255.9.9/32", Err(Refusal::NotDeclared)),
            ("192.0.2.0/24", Err(Refusal::NotDeclared)),
            ("224.0.0.0/4", Err(Refusal::NotRoutable)),
            ("127.0.0.0/8", Err(Refusal::NotRoutable)),
            ("172.16.11.0/31", Err(Refusal::NextHopInsidePrefix)),
            ("172.16.11.1/32", Err(Refusal::OwnAddress)),
        ];
        for (prefix, expected) in table {
            assert_eq!(verdict(prefix, "172.16.11.0", &[65101], Import::Declared), expected, "{prefix}");
        }
    }

    #[test]
    fn an_opened_import_still_refuses_what_cannot_work() {
        let all = |prefix, next_hop, path: &[u32]| verdict(prefix, next_hop, path, Import::All);
        assert_eq!(all("0.0.0.0/0", "172.16.11.0", &[65101]), Ok(()));
        assert_eq!(all("192.0.2.0/24", "172.16.11.0", &[65101]), Ok(()));
        assert_eq!(all("192.0.2.0/24", "172.16.11.0", &[65101, 65111]), Err(Refusal::OwnAsInPath));
        assert_eq!(all("10.244.11.0/25", "172.16.11.0", &[65101]), Err(Refusal::OwnPrefix));
        assert_eq!(all("192.0.2.0/24", "172.16.11.1", &[65101]), Err(Refusal::NextHopIsOurs));
        assert_eq!(all("192.0.2.0/24", "198.51.100.1", &[65101]), Err(Refusal::NextHopNotOnLink));
        assert_eq!(all("2001:db8::/32", "::ffff:172.16.11.0", &[65101]), Err(Refusal::NextHopMapped));
        assert_eq!(all("2001:db8::/32", "fd00:172:16:11::", &[65101]), Ok(()));
    }
}
