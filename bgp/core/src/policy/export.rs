//! Which routes a peer is told, and with which attributes.

use std::fmt;

use super::filter::{Direction, Passed, Provenance, Route, Ruling, run};
use super::{OwnNextHop, Reflection, Terms};
use crate::attributes::Attributes;
use crate::config::{Export, Offer, PeerPolicy};
use crate::prefix::{Family, Prefix};
use crate::session::Agreed;
use crate::types::{Asn, Community, LocalPref, PeerKind, is_link_local};

/// Why a peer is not told of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Withheld {
    /// It has told the route itself.
    ToldByIt,
    /// The session does not carry the family, or no next hop that there is for it: we have no address there, or a
    /// reflected route has one of the other family.
    NotCarried,
    /// It is not yet known which route is best (RFC 4724 section 4.1).
    Deferred,
    /// It is our own, and not offered to this peer.
    NotOffered,
    /// It is our own, and an aggregate is told in its place.
    Aggregated,
    /// It is our own, and drained (RFC 8326).
    Drained,
    /// It came from inside the AS, and we are no reflector for it (RFC 4271 section 9.2.1).
    NotReflected,
    /// A community says so (RFC 1997).
    ByCommunity,
    /// It goes to customers alone, and this peer is none of ours (RFC 9234).
    OnlyToCustomer,
    /// Its teller is long away, and the peer does not know what that means (RFC 9494 section 4.3). The exceptions of
    /// section 4.6 are not made: what is told on here is the own fabric's, where all speak it or none.
    LongLivedStale,
    /// A filter of the operator rejects it.
    FilteredBy,
    /// The peer is told as many better paths to its prefix as it is told at most (RFC 7911).
    BeyondMostPaths,
    /// It came from a peer, and this one is external: a node is no transit unless a filter names what it is for.
    NoTransit,
}

impl Withheld {
    /// The name, as `show route noexport` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Withheld::ToldByIt => "ToldByIt",
            Withheld::NotCarried => "NotCarried",
            Withheld::Deferred => "Deferred",
            Withheld::NotOffered => "NotOffered",
            Withheld::Aggregated => "Aggregated",
            Withheld::Drained => "Drained",
            Withheld::NotReflected => "NotReflected",
            Withheld::ByCommunity => "ByCommunity",
            Withheld::OnlyToCustomer => "OnlyToCustomer",
            Withheld::LongLivedStale => "LongLivedStale",
            Withheld::FilteredBy => "FilteredBy",
            Withheld::BeyondMostPaths => "BeyondMostPaths",
            Withheld::NoTransit => "NoTransit",
        }
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Advertise<'a> {
    pub(crate) to: PeerKind,
    pub(crate) name: &'a str,
    pub(crate) policy: &'a PeerPolicy,
    /// The AS that we are in for it, and the one it is in.
    pub(crate) own_asn: Asn,
    pub(crate) peer_asn: Asn,
    pub(crate) terms: &'a Terms,
    /// How a route of another internal peer is told it, if at all.
    pub(crate) reflection: Option<Reflection>,
    /// Our address on the session's link.
    pub(crate) next_hop: OwnNextHop,
    /// Whether it takes IPv4 routes with IPv6 next hops (RFC 8950).
    pub(crate) extended_next_hop: Agreed,
    /// Whether it speaks long-lived graceful restart.
    pub(crate) long_lived: Agreed,
}

/// What becomes of a route on its way to a peer.
#[derive(Debug)]
pub(crate) struct Exported<'a> {
    /// The attributes to send, or why none are.
    pub(crate) verdict: Result<Attributes, Withheld>,
    /// The rule that decided, if one did.
    pub(crate) by: Option<Ruling<'a>>,
}

impl From<Withheld> for Exported<'_> {
    fn from(why: Withheld) -> Self {
        Exported { verdict: Err(why), by: None }
    }
}

/// A route of our own as `advertise` is offered it, before [`export`].
pub(crate) fn offered(own: &Attributes, offer: &Offer, advertise: &Advertise<'_>) -> Attributes {
    let Offer { peers: _, local_pref, med, prepend, communities, large_communities } = offer;
    let prepended = match advertise.to {
        PeerKind::External => usize::from(*prepend),
        // RFC 4271 section 5.1.2: inside the AS nobody puts it into the path, and who finds it there refuses the route.
        PeerKind::Internal => 0,
    };
    Attributes {
        as_path: std::iter::repeat_n(advertise.own_asn, prepended).collect(),
        local_pref: *local_pref,
        med: *med,
        communities: communities.clone(),
        large_communities: large_communities.clone(),
        ..own.clone()
    }
}

/// Makes of a route what `advertise` is told of it.
pub(crate) fn export<'a>(
    prefix: &Prefix,
    attributes: &Attributes,
    from: Provenance,
    advertise: Advertise<'a>,
) -> Exported<'a> {
    let Advertise { to, name, policy, .. } = advertise;
    // RFC 4271 section 9.2.1: not from internal to internal, unless one of the two is a client (RFC 4456).
    if (from, to) == (Provenance::Learned(PeerKind::Internal), PeerKind::Internal)
        && advertise.reflection.is_none()
    {
        return Withheld::NotReflected.into();
    }
    // RFC 1997 speaks of routes that were received; on our own they are for those who receive them.
    if matches!(from, Provenance::Learned(_)) && is_forbidden_by_community(attributes, to) {
        return Withheld::ByCommunity.into();
    }
    if to == PeerKind::External
        && advertise.terms.is_above_or_beside()
        && attributes.only_to_customer().is_some()
    {
        return Withheld::OnlyToCustomer.into();
    }
    if advertise.long_lived == Agreed::No && attributes.has_community(Community::LLGR_STALE) {
        return Withheld::LongLivedStale.into();
    }
    let route = Route { prefix, attributes, from, peer: name };
    let passed = match run(policy.filters_of(prefix.family(), Direction::Export), route, Direction::Export) {
        Ok(passed) => passed,
        Err(by) => return Exported { verdict: Err(Withheld::FilteredBy), by: Some(by) },
    };
    let is_transit = matches!(from, Provenance::Learned(_)) && to == PeerKind::External;
    if is_transit && policy.export == Export::Own && passed.opened.is_none() {
        return Withheld::NoTransit.into();
    }
    let by = passed.ruling();
    let sent = sent(passed, from, advertise);
    if Family::of(sent.next_hop) != prefix.family() && advertise.extended_next_hop == Agreed::No {
        return Withheld::NotCarried.into();
    }
    Exported { verdict: Ok(sent), by }
}

/// The attributes that go out.
fn sent(passed: Passed<'_, '_>, from: Provenance, advertise: Advertise<'_>) -> Attributes {
    let Passed { attributes, prepend, has_own_med, has_own_next_hop, .. } = passed;
    let attributes = attributes.into_owned();
    if let (PeerKind::Internal, Some(reflection)) = (advertise.to, advertise.reflection) {
        let local_pref = Some(attributes.local_pref.unwrap_or(LocalPref::DEFAULT));
        // A link-local one says nothing on any other link (RFC 2545 section 2): there it is us.
        let OwnNextHop { address: next_hop, link_local } = match is_link_local(attributes.next_hop) {
            true => advertise.next_hop,
            false => OwnNextHop { address: attributes.next_hop, link_local: None },
        };
        return reflection.mark(Attributes { next_hop, link_local, local_pref, ..attributes });
    }
    let OwnNextHop { address: next_hop, link_local } = match has_own_next_hop {
        true => OwnNextHop { address: attributes.next_hop, link_local: None },
        false => advertise.next_hop,
    };
    let mut sent = Attributes {
        next_hop,
        link_local,
        // ORIGINATOR_ID and CLUSTER_LIST stay inside the AS (RFC 4456 section 8).
        originator_id: None,
        cluster_list: Vec::new(),
        ..attributes
    };
    match advertise.to {
        PeerKind::External => {
            let Advertise { own_asn, peer_asn, terms, .. } = advertise;
            sent.as_path = terms.told_path(&sent.as_path, own_asn, 1 + prepend, peer_asn);
            sent.local_pref = None; // RFC 4271 section 5.1.5
            if matches!(from, Provenance::Learned(_)) && !has_own_med {
                sent.med = None; // RFC 4271 section 5.1.4: it was for us alone
            }
            if terms.marks_sent() {
                sent = sent.only_to_customer_from(own_asn); // RFC 9234 section 5
            }
        }
        PeerKind::Internal => {
            sent.local_pref = Some(sent.local_pref.unwrap_or(LocalPref::DEFAULT));
        }
    }
    sent
}

/// A route of our own that is on its way out, behind all filters: who has another way takes that (RFC 8326 section 4).
pub(crate) fn leaving(exported: Exported<'_>, to: PeerKind) -> Exported<'_> {
    let mark = |sent: Attributes| {
        let local_pref = if to == PeerKind::Internal { Some(LocalPref(0)) } else { sent.local_pref };
        Attributes { local_pref, ..sent }.with_community(Community::GRACEFUL_SHUTDOWN)
    };
    Exported { verdict: exported.verdict.map(mark), ..exported }
}

/// RFC 1997, "Well-known communities".
fn is_forbidden_by_community(attributes: &Attributes, to: PeerKind) -> bool {
    attributes.communities.iter().any(|community| match *community {
        Community::NO_ADVERTISE => true,
        Community::NO_EXPORT | Community::NO_EXPORT_SUBCONFED => to == PeerKind::External,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use super::*;
    use crate::config::{FamilyFilters, PeerConfig, Source};
    use crate::policy::filter::{Action, Change, Filter, Match, Otherwise, Rule, RuledBy};
    use crate::types::Med;

    static TERMS: LazyLock<Terms> = LazyLock::new(|| {
        let asn = Asn::new(65101).expect("not 0");
        Terms::of(&PeerConfig::new("tor1a", [192, 0, 2, 9].into(), asn))
    });

    fn advertise(to: PeerKind, policy: &PeerPolicy) -> Advertise<'_> {
        let asn = |value| Asn::new(value).expect("not 0");
        Advertise {
            to,
            name: "tor1a",
            policy,
            own_asn: asn(65111),
            peer_asn: asn(65101),
            terms: &TERMS,
            reflection: None,
            next_hop: OwnNextHop { address: "192.0.2.1".parse().expect("address"), link_local: None },
            extended_next_hop: Agreed::No,
            long_lived: Agreed::No,
        }
    }

    fn policy(export: Export, filters: Vec<Filter>) -> PeerPolicy {
        let export_filters = filters.into_iter().map(Arc::new).collect();
        let filters = FamilyFilters { export: export_filters, ..FamilyFilters::default() };
        PeerPolicy { export, filters: [(Family::Ipv4, filters)].into(), ..PeerPolicy::default() }
    }

    fn exported(
        attributes: &Attributes,
        from: Provenance,
        to: PeerKind,
        policy: &PeerPolicy,
    ) -> Result<Attributes, Withheld> {
        export(&"10.244.2.0/24".parse().expect("prefix"), attributes, from, advertise(to, policy)).verdict
    }

    fn rule(matches: Match, change: Change) -> Rule {
        Rule { matches, action: Action::Accept(change) }
    }

    fn learned() -> Attributes {
        let mut attributes = Attributes::originated("192.0.2.9".parse().expect("address"));
        attributes.as_path = [Asn::new(65101).expect("not 0")].into_iter().collect();
        attributes.med = Some(Med(5));
        attributes
    }

    #[test]
    fn a_node_is_no_transit_between_its_tors() {
        let from = Provenance::Learned(PeerKind::External);
        let own = policy(Export::Own, Vec::new());
        assert_eq!(exported(&learned(), from, PeerKind::External, &own), Err(Withheld::NoTransit));
        let all = policy(Export::All, Vec::new());
        let opened = exported(&learned(), from, PeerKind::External, &all).expect("opened by the operator");
        assert_eq!(opened.as_path.to_string(), "65111 65101");
        assert_eq!(opened.med, None);
    }

    #[test]
    fn external_routes_go_to_internal_peers_with_next_hop_self_and_internal_ones_do_not() {
        let own = policy(Export::Own, Vec::new());
        let sent = |from| exported(&learned(), Provenance::Learned(from), PeerKind::Internal, &own);
        assert_eq!(sent(PeerKind::Internal), Err(Withheld::NotReflected));
        let sent = sent(PeerKind::External).expect("passes");
        assert_eq!(sent.next_hop, advertise(PeerKind::Internal, &own).next_hop.address);
        assert_eq!(sent.local_pref, Some(LocalPref::DEFAULT));
        assert_eq!(sent.as_path.to_string(), "65101");
    }

    #[test]
    fn learned_no_export_stays_inside_and_no_advertise_stays_here() {
        let from = Provenance::Learned(PeerKind::External);
        let mut learned = learned();
        learned.communities = vec![Community::NO_EXPORT];
        let (all, own) = (policy(Export::All, Vec::new()), policy(Export::Own, Vec::new()));
        assert_eq!(exported(&learned, from, PeerKind::External, &all), Err(Withheld::ByCommunity));
        assert!(exported(&learned, from, PeerKind::Internal, &own).is_ok());
        learned.communities = vec![Community::NO_ADVERTISE];
        assert_eq!(exported(&learned, from, PeerKind::Internal, &own), Err(Withheld::ByCommunity));
    }

    #[test]
    fn own_routes_carry_what_they_are_offered_with_as_far_as_it_is_for_the_peer() {
        let own = Attributes::originated("192.0.2.9".parse().expect("address"));
        let offer = Offer {
            local_pref: Some(LocalPref(200)),
            med: Some(Med(7)),
            prepend: 2,
            communities: vec![Community::NO_EXPORT],
            ..Offer::default()
        };
        let sent = |to: PeerKind| {
            let policy = policy(Export::Own, Vec::new());
            let offered = offered(&own, &offer, &advertise(to, &policy));
            exported(&offered, Provenance::Local(Source::Services), to, &policy).expect("told")
        };
        let (external, internal) = (sent(PeerKind::External), sent(PeerKind::Internal));
        assert_eq!(external.as_path.to_string(), "65111 65111 65111");
        assert_eq!((external.local_pref, external.med), (None, Some(Med(7))));
        assert_eq!(external.communities, [Community::NO_EXPORT]);
        assert!(internal.as_path.is_empty(), "{}", internal.as_path);
        assert_eq!((internal.local_pref, internal.med), (Some(LocalPref(200)), Some(Med(7))));
    }

    #[test]
    fn a_filter_changes_what_is_told_and_makes_no_transit_by_accident() {
        let change = Change {
            prepend: 2,
            med: Some(Med(50)),
            local_pref: Some(LocalPref(80)),
            next_hop: "192.0.2.77".parse().ok(),
            add_communities: vec![Community::NO_EXPORT],
            ..Change::default()
        };
        let everything = Filter {
            name: "tor-out".to_owned(),
            rules: vec![rule(Match::default(), change.clone())],
            otherwise: Otherwise::Reject,
        };
        let changes = policy(Export::Own, vec![everything]);
        let own = Attributes::originated("0.0.0.0".parse().expect("address"));
        let local = Provenance::Local(Source::Pods);
        let external = exported(&own, local, PeerKind::External, &changes).expect("our own");
        assert_eq!(external.as_path.to_string(), "65111 65111 65111");
        assert_eq!((external.med, external.local_pref), (Some(Med(50)), None));
        assert_eq!(external.next_hop.to_string(), "192.0.2.77");
        assert_eq!(external.communities, [Community::NO_EXPORT], "it is for the peer");
        let internal = exported(&own, local, PeerKind::Internal, &changes).expect("our own");
        assert!(internal.as_path.is_empty(), "a peer inside the AS would take it for a loop");
        assert_eq!((internal.med, internal.local_pref), (Some(Med(50)), Some(LocalPref(80))));

        let from = Provenance::Learned(PeerKind::External);
        assert_eq!(exported(&learned(), from, PeerKind::External, &changes), Err(Withheld::NoTransit));
        let sources = Some([from].into());
        let named = Filter {
            name: "transit".to_owned(),
            rules: vec![rule(Match { sources, ..Match::default() }, Change { med: Some(Med(9)), ..change })],
            otherwise: Otherwise::Accept,
        };
        let opened = policy(Export::Own, vec![named]);
        let sent = exported(&learned(), from, PeerKind::External, &opened).expect("named");
        assert_eq!((sent.as_path.to_string().as_str(), sent.med), ("65111 65111 65111 65101", Some(Med(9))));
        let internal = Provenance::Learned(PeerKind::Internal);
        assert_eq!(exported(&learned(), internal, PeerKind::External, &opened), Err(Withheld::NoTransit));
        assert_eq!(exported(&learned(), internal, PeerKind::Internal, &opened), Err(Withheld::NotReflected));
    }

    #[test]
    fn what_a_filter_rejects_is_not_told_though_it_is_our_own() {
        let nothing = Filter { name: "none".to_owned(), rules: Vec::new(), otherwise: Otherwise::Reject };
        let policy = policy(Export::All, vec![nothing]);
        let own = Attributes::originated("0.0.0.0".parse().expect("address"));
        let prefix = "10.244.2.0/24".parse().expect("prefix");
        let Exported { verdict, by } =
            export(&prefix, &own, Provenance::Local(Source::Pods), advertise(PeerKind::External, &policy));
        assert_eq!(verdict, Err(Withheld::FilteredBy));
        assert_eq!(by.map(|by| RuledBy::from(by).to_string()).as_deref(), Some("none otherwise"));
    }
}
