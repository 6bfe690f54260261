//! May a route that a peer told be used?

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::Terms;
use super::filter::{Direction, Passed, Provenance, Route, Ruling, run};
use crate::attributes::Attributes;
use crate::config::{Declared, Import, Link, LinkState, PeerPolicy, Source, Wanted};
use crate::prefix::{Family, Prefix};
use crate::session::Agreed;
use crate::types::{Asn, Community, LocalPref, PeerKind, RouterId, ScopedAddress, is_link_local};

/// Why a route is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// Our AS is in its path more often than it may: it is our own route, or it went through us.
    OwnAsInPath,
    /// We brought it into the AS, and a reflector tells it back (RFC 4456 section 8).
    OwnOriginatorId,
    /// A reflector of our cluster has passed it on already (RFC 4456 section 8).
    OwnClusterId,
    /// It was to go to customers alone, and a customer or another that is none of our providers tells it (RFC 9234).
    RouteLeak,
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
    /// A filter of the operator rejects it.
    FilteredBy,
    /// The cluster declares nothing of the sort.
    NotDeclared,
    /// The peer has more routes accepted than it may.
    OverMaxPrefixes,
    /// The peer tells more paths to its prefix than anybody needs (RFC 7911): 64.
    OverMaxPaths,
}

impl Refusal {
    /// The name, as `show route refused` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::OwnAsInPath => "OwnAsInPath",
            Refusal::OwnOriginatorId => "OwnOriginatorId",
            Refusal::OwnClusterId => "OwnClusterId",
            Refusal::RouteLeak => "RouteLeak",
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
            Refusal::FilteredBy => "FilteredBy",
            Refusal::NotDeclared => "NotDeclared",
            Refusal::OverMaxPrefixes => "OverMaxPrefixes",
            Refusal::OverMaxPaths => "OverMaxPaths",
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
    router_id: RouterId,
    cluster_id: RouterId,
    own_pods: Vec<Prefix>,
    own_addresses: BTreeSet<IpAddr>,
    links: Vec<Link>,
    declared: Declared,
}

impl View {
    pub(crate) fn of(wanted: &Wanted) -> View {
        let of_source = |source: Source| {
            let own = wanted.originated.iter().filter(move |(_, own)| own.source == source);
            own.map(|(prefix, _)| *prefix)
        };
        let on_links = wanted.links.iter().flat_map(|link| &link.addresses).map(|entry| entry.address);
        View {
            own_asn: wanted.router.asn,
            router_id: wanted.router.router_id,
            cluster_id: wanted.router.cluster_id.unwrap_or(wanted.router.router_id),
            own_pods: of_source(Source::Pods).collect(),
            own_addresses: on_links
                .chain(of_source(Source::NodeAddress).map(|prefix| prefix.address()))
                .collect(),
            // A route is not judged by the carrier: it is good again when the link is.
            links: wanted.links.iter().map(|link| Link { state: LinkState::Up, ..link.clone() }).collect(),
            declared: wanted.declared.clone(),
        }
    }

    pub(crate) fn own_asn(&self) -> Asn {
        self.own_asn
    }

    pub(crate) fn cluster_id(&self) -> RouterId {
        self.cluster_id
    }

    /// Whether a route that was refused by `before` may pass now. That is not so where a node only went away.
    pub(crate) fn may_admit_more_than(&self, before: &View) -> bool {
        let View { own_asn, router_id, cluster_id, own_pods, own_addresses, links, declared } = self;
        let all = |few: &[Prefix], many: &[Prefix]| few.iter().all(|prefix| many.contains(prefix));
        let no_dispute_ended = before
            .declared
            .disputed
            .iter()
            .all(|(peer, ranges)| declared.disputed.get(peer).is_some_and(|now| all(ranges, now)));
        let is_as_narrow = (*own_asn, *router_id, *cluster_id)
            == (before.own_asn, before.router_id, before.cluster_id)
            && *links == before.links
            && all(&before.own_pods, own_pods)
            && before.own_addresses.is_subset(own_addresses)
            && all(&declared.pods, &before.declared.pods)
            && all(&declared.services, &before.declared.services)
            && declared.nodes.is_subset(&before.declared.nodes)
            && no_dispute_ended;
        !is_as_narrow
    }

    /// Whether what is told to peers may be other than by `before`: our AS and cluster are in it, and our addresses are the
    /// next hops.
    pub(crate) fn tells_otherwise_than(&self, before: &View) -> bool {
        (self.own_asn, self.cluster_id) != (before.own_asn, before.cluster_id) || self.links != before.links
    }

    fn subnets(&self) -> impl Iterator<Item = &Prefix> {
        self.links.iter().flat_map(|link| &link.addresses).map(|entry| &entry.subnet)
    }

    /// The next hop that we tell a peer of routes of `family`, where `local` is our end of the session: an address of ours
    /// on that link, of the same family or, if that was agreed on (RFC 8950), of IPv6.
    ///
    /// Over link-local addresses it has the link-local one, which is all that the peer can rely on, behind the global one
    /// if the link has one (RFC 2545 section 3), else twice: so FRR does, and BIRD, FRR and GoBGP take it; of a next hop
    /// of 16 octets not all do.
    pub(crate) fn next_hop_beside(
        &self,
        local: &ScopedAddress,
        family: Family,
        extended: Agreed,
    ) -> Option<OwnNextHop> {
        let link = self.links.iter().find(|link| link.has(local));
        let global = |family| {
            let mut addresses = link?.addresses.iter().map(|entry| entry.address);
            addresses.find(|address| Family::of(*address) == family && !is_link_local(*address))
        };
        let alone = |address| OwnNextHop { address, link_local: None };
        let may_be_ipv6 = family == Family::Ipv6 || extended == Agreed::Yes;
        match local.ip() {
            IpAddr::V6(own) if own.is_unicast_link_local() && may_be_ipv6 => {
                let address = global(Family::Ipv6).unwrap_or(own.into());
                Some(OwnNextHop { address, link_local: Some(own) })
            }
            own if Family::of(own) == family => Some(alone(own)),
            own => global(family).or(may_be_ipv6.then_some(own)).map(alone),
        }
    }
}

/// What we tell a peer as the next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnNextHop {
    pub(crate) address: IpAddr,
    /// The link-local address behind it (RFC 2545 section 3).
    pub(crate) link_local: Option<Ipv6Addr>,
}

/// A route that a peer tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) prefix: &'a Prefix,
    pub(crate) attributes: &'a Attributes,
    /// Address, name, AS and kind of the peer.
    pub(crate) from: &'a ScopedAddress,
    pub(crate) name: &'a str,
    pub(crate) asn: Asn,
    pub(crate) kind: PeerKind,
    pub(crate) terms: &'a Terms,
}

/// What is thought of it.
#[derive(Debug)]
pub(crate) struct Judged<'a> {
    pub(crate) verdict: Result<(), Refusal>,
    /// With what it is used, if a filter has changed that.
    pub(crate) changed: Option<Attributes>,
    /// The rule that decided, if one did.
    pub(crate) by: Option<Ruling<'a>>,
}

/// Looks at a route in the order in which an operator would want to hear of its faults: what no policy can allow, what the
/// filters say, and what the built-in policy says of those that no filter opens.
pub(crate) fn judge<'a>(told: Told<'a>, policy: &'a PeerPolicy, view: &View) -> Judged<'a> {
    let Told { prefix, attributes, name, kind, asn, terms, .. } = told;
    let from = Provenance::Learned(kind);
    let route = Route { prefix, attributes, from, peer: name };
    let filtered = run(policy.filters_of(prefix.family(), Direction::Import), route, Direction::Import);
    let (verdict, by) = match &filtered {
        Err(by) => (cannot_work(told, attributes, view).and(Err(Refusal::FilteredBy)), Some(*by)),
        Ok(passed) => {
            let verdict = cannot_work(told, &passed.attributes, view);
            let verdict = verdict.and_then(|()| allowed(prefix, policy.import, passed, view));
            (verdict, passed.ruling())
        }
    };
    let is_theirs = matches!(verdict, Ok(()) | Err(Refusal::FilteredBy));
    let by = by.filter(|_| is_theirs);
    let passed = filtered.ok().filter(|_| verdict.is_ok());
    // RFC 8326 section 4: an external peer says that the way goes away soon. Filters have had their say: one that takes
    // the community away takes the route as it is.
    let leaves = kind == PeerKind::External
        && passed
            .as_ref()
            .is_some_and(|passed| passed.attributes.has_community(Community::GRACEFUL_SHUTDOWN));
    let mut changed = passed.and_then(Passed::imported);
    if leaves {
        changed.get_or_insert_with(|| attributes.clone()).local_pref = Some(LocalPref(0));
    }
    // RFC 9234 section 5: no filter has a word in it.
    if verdict.is_ok() && kind == PeerKind::External && terms.is_above_or_beside() {
        let used = changed.unwrap_or_else(|| attributes.clone());
        changed = Some(used.only_to_customer_from(asn)).filter(|marked| marked != attributes);
    }
    Judged { verdict, changed, by }
}

/// What no policy can allow. `changed` is what filters made of the attributes: where packets would go decides.
fn cannot_work(told: Told<'_>, changed: &Attributes, view: &View) -> Result<(), Refusal> {
    let Told { prefix, attributes, from, asn, kind, terms, .. } = told;
    if terms.is_loop(&attributes.as_path, view.own_asn) {
        return Err(Refusal::OwnAsInPath);
    }
    if attributes.originator_id == Some(view.router_id.into()) {
        return Err(Refusal::OwnOriginatorId);
    }
    if attributes.cluster_list.contains(&view.cluster_id.into()) {
        return Err(Refusal::OwnClusterId);
    }
    if kind == PeerKind::External && terms.is_leak(attributes, asn) {
        return Err(Refusal::RouteLeak);
    }
    if !is_routable(prefix) {
        return Err(Refusal::NotRoutable);
    }
    if view.own_pods.iter().any(|own| own.covers(prefix)) {
        return Err(Refusal::OwnPrefix);
    }
    leads_somewhere(prefix, &from.beside(changed.next_hop), view)?;
    // Of its own it has at most its AS in the path: a longer one has come from elsewhere, perhaps from the other one.
    let is_disputed = |range: &Prefix| range.covers(prefix);
    if attributes.as_path.len() <= 1
        && view.declared.disputed.get(&from.ip()).into_iter().flatten().any(is_disputed)
    {
        return Err(Refusal::Disputed);
    }
    Ok(())
}

/// A link-local next hop is on the link of the session, and inside no prefix that is routed.
fn leads_somewhere(prefix: &Prefix, next_hop: &ScopedAddress, view: &View) -> Result<(), Refusal> {
    if is_link_local(next_hop.ip()) {
        return match next_hop.interface() {
            None => Err(Refusal::NextHopNotOnLink),
            Some(_) if view.links.iter().any(|link| link.has(next_hop)) => Err(Refusal::NextHopIsOurs),
            Some(_) => Ok(()),
        };
    }
    let next_hop = next_hop.ip();
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

/// What the built-in policy says of a route that no filter rejects (RFC 8212): it passes if the cluster declares it, or
/// a rule opens the door to it.
fn allowed(prefix: &Prefix, import: Import, passed: &Passed<'_, '_>, view: &View) -> Result<(), Refusal> {
    let verdict = match import {
        Import::All => Ok(()),
        Import::Declared => declared(prefix, view),
    };
    match verdict {
        Err(Refusal::DefaultRoute | Refusal::NotDeclared) if passed.opened.is_some() => Ok(()),
        verdict => verdict,
    }
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
    use crate::config::{FamilyFilters, LinkAddress, Originated, PeerConfig, RouterConfig};
    use crate::policy::filter::{Action, Change, Filter, Match, Otherwise, PrefixRange, Rule, RuledBy};

    fn asn(value: u32) -> Asn {
        Asn::new(value).expect("not 0")
    }

    fn view() -> View {
        let router_id = RouterId::new(1).expect("not 0");
        let mut wanted = Wanted::new(RouterConfig::new(asn(65111), router_id));
        let prefix = |text: &str| text.parse::<Prefix>().expect("test prefix");
        wanted.originated.insert(prefix("10.244.11.0/24"), Originated::plain(Source::Pods));
        wanted.originated.insert(prefix("10.255.1.1/32"), Originated::plain(Source::NodeAddress));
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
        told(
            &prefix.parse().expect("test prefix"),
            &attributes,
            &IpAddr::from([172, 16, 11, 0]).into(),
            import,
            &view(),
        )
    }

    fn terms() -> Terms {
        Terms::of(&PeerConfig::new("tor1a", [172, 16, 11, 0].into(), asn(65101)))
    }

    fn told(
        prefix: &Prefix,
        attributes: &Attributes,
        from: &ScopedAddress,
        import: Import,
        view: &View,
    ) -> Result<(), Refusal> {
        let policy = PeerPolicy { import, ..PeerPolicy::default() };
        let terms = terms();
        let (name, asn, kind) = ("tor1a", asn(65101), PeerKind::External);
        let told = Told { prefix, attributes, from, name, asn, kind, terms: &terms };
        judge(told, &policy, view).verdict
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
            told(&prefix, &attributes, &from.into(), Import::Declared, &view)
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

    #[test]
    fn link_local_next_hop_is_good_on_the_link_of_its_session_unless_it_is_ours_there() {
        let mut view = view();
        let own = LinkAddress::new("fe80::11".parse().expect("address"), 64).expect("length");
        view.links[0].addresses.push(own);
        let mut attributes = Attributes::originated("fe80::1".parse().expect("address"));
        attributes.as_path = [asn(65101)].into_iter().collect();
        let prefix = "10.244.12.0/24".parse().expect("test prefix");
        let verdict = |next_hop: &str, from: &str| {
            let attributes =
                Attributes { next_hop: next_hop.parse().expect("address"), ..attributes.clone() };
            let from = from.parse().expect("address");
            told(&prefix, &attributes, &from, Import::Declared, &view)
        };
        assert_eq!(verdict("fe80::1", "fe80::1%eth1"), Ok(()));
        assert_eq!(verdict("fe80::1", "fe80::1%eth2"), Ok(()));
        assert_eq!(verdict("fe80::11", "fe80::1%eth1"), Err(Refusal::NextHopIsOurs));
        assert_eq!(verdict("fe80::11", "fe80::1%eth2"), Ok(()), "ours on another link");
        assert_eq!(verdict("fe80::1", "172.16.11.0"), Err(Refusal::NextHopNotOnLink));
        assert_eq!(verdict("fd00:172:16:11::", "fe80::1%eth1"), Ok(()), "RFC 8950 over a global address");
    }

    #[test]
    fn own_next_hop_is_of_the_link_and_of_a_family_that_the_peer_takes() {
        let mut view = view();
        let address =
            |text: &str, length| LinkAddress::new(text.parse().expect("address"), length).expect("length");
        let own = address("fe80::11", 64);
        view.links[0].addresses.push(own);
        view.links.push(Link { name: "eth2".to_owned(), state: LinkState::Up, addresses: vec![own] });
        let told = |local: &str, family, extended| {
            let local: ScopedAddress = local.parse().expect("address");
            let own = view.next_hop_beside(&local, family, extended)?;
            let behind = own.link_local.map_or_else(String::new, |behind| format!(" {behind}"));
            Some(format!("{}{behind}", own.address))
        };
        let table = [
            ("172.16.11.1", Family::Ipv4, Agreed::No, Some("172.16.11.1")),
            ("172.16.11.1", Family::Ipv6, Agreed::No, Some("fd00:172:16:11::1")),
            ("fd00:172:16:11::1", Family::Ipv4, Agreed::Yes, Some("172.16.11.1")),
            ("fd00:172:16:99::1", Family::Ipv4, Agreed::No, None),
            ("fd00:172:16:99::1", Family::Ipv4, Agreed::Yes, Some("fd00:172:16:99::1")),
            ("fe80::11%eth1", Family::Ipv6, Agreed::No, Some("fd00:172:16:11::1 fe80::11")),
            ("fe80::11%eth1", Family::Ipv4, Agreed::Yes, Some("fd00:172:16:11::1 fe80::11")),
            ("fe80::11%eth1", Family::Ipv4, Agreed::No, Some("172.16.11.1")),
            ("fe80::11%eth2", Family::Ipv6, Agreed::No, Some("fe80::11 fe80::11")),
            ("fe80::11%eth2", Family::Ipv4, Agreed::Yes, Some("fe80::11 fe80::11")),
            ("fe80::11%eth2", Family::Ipv4, Agreed::No, None),
        ];
        for (local, family, extended, expected) in table {
            assert_eq!(told(local, family, extended).as_deref(), expected, "{local} {family} {extended:?}");
        }
    }

    /// The filter of a TOR that may tell the default route and 198.51.100.0/24, and not 10.244.66.0/24.
    fn filtered(
        prefix: &str,
        next_hop: &str,
        path: &[u32],
        otherwise: Otherwise,
    ) -> (String, Option<String>) {
        let range =
            |text: &str, le| PrefixRange::new(text.parse().expect("test prefix"), None, le).expect("sound");
        let rule = |ranges: Vec<PrefixRange>, action| Rule {
            matches: Match { prefixes: Some(ranges), ..Match::default() },
            action,
        };
        let opened = ["0.0.0.0/0", "198.51.100.0/24", "10.244.11.0/24", "172.16.11.1/32", "10.255.1.1/32"];
        let opened = opened.iter().map(|text| range(text, None)).collect();
        let rules = vec![
            rule(vec![range("10.244.66.0/24", Some(32))], Action::Reject),
            rule(opened, Action::Accept(Change { local_pref: Some(LocalPref(50)), ..Change::default() })),
        ];
        let filter = Filter { name: "tor-in".to_owned(), rules, otherwise };
        let filters = FamilyFilters { import: vec![filter.into()], ..FamilyFilters::default() };
        let policy = PeerPolicy { filters: [(Family::Ipv4, filters)].into(), ..PeerPolicy::default() };
        let mut attributes = Attributes::originated(next_hop.parse().expect("address"));
        attributes.as_path = path.iter().map(|&value| asn(value)).collect::<AsPath>();
        let prefix: Prefix = prefix.parse().expect("test prefix");
        let from = &IpAddr::from([172, 16, 11, 0]).into();
        let told = Told {
            prefix: &prefix,
            attributes: &attributes,
            from,
            name: "tor1a",
            asn: asn(65101),
            kind: PeerKind::External,
            terms: &terms(),
        };
        let Judged { verdict, changed, by } = judge(told, &policy, &view());
        assert!(changed.is_none() || verdict.is_ok(), "only what is used is changed");
        let preference = changed.and_then(|changed| changed.local_pref);
        let word = match (verdict, preference) {
            (Ok(()), Some(preference)) => format!("accepted with {}", preference.0),
            (Ok(()), None) => "accepted".to_owned(),
            (Err(refusal), _) => refusal.to_string(),
        };
        (word, by.map(|by| RuledBy::from(by).to_string()))
    }

    #[test]
    fn a_filter_opens_what_is_not_declared_and_closes_what_is_and_never_opens_what_cannot_work() {
        let table = [
            ("0.0.0.0/0", "172.16.11.0", "accepted with 50", Some("tor-in rule 2")),
            ("198.51.100.0/24", "172.16.11.0", "accepted with 50", Some("tor-in rule 2")),
            ("10.244.66.0/25", "172.16.11.0", "FilteredBy", Some("tor-in rule 1")),
            ("10.244.12.0/24", "172.16.11.0", "accepted", Some("tor-in otherwise")),
            ("192.0.2.0/24", "172.16.11.0", "NotDeclared", None),
            ("10.244.11.0/24", "172.16.11.0", "OwnPrefix", None),
            ("172.16.11.1/32", "172.16.11.0", "OwnAddress", None),
            ("10.255.1.1/32", "172.16.11.0", "OwnAddress", None),
            ("0.0.0.0/0", "172.16.11.1", "NextHopIsOurs", None),
            ("0.0.0.0/0", "203.0.113.1", "NextHopNotOnLink", None),
        ];
        for (prefix, next_hop, expected, by) in table {
            let found = filtered(prefix, next_hop, &[65101], Otherwise::Accept);
            assert_eq!((found.0.as_str(), found.1.as_deref()), (expected, by), "{prefix} over {next_hop}");
        }
        let own = filtered("0.0.0.0/0", "172.16.11.0", &[65101, 65111], Otherwise::Accept);
        assert_eq!(own.0, "OwnAsInPath");
        let declared = filtered("10.244.12.0/24", "172.16.11.0", &[65101], Otherwise::Reject);
        assert_eq!((declared.0.as_str(), declared.1.as_deref()), ("FilteredBy", Some("tor-in otherwise")));
    }
}
