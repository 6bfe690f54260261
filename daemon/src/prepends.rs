//! Prepends that nobody sees: an internal peer is told the AS path as it is (RFC 4271 section 5.1.2), so what an
//! advertisement or an export filter puts before it for internal peers alone does nothing. Pure.

use std::collections::BTreeMap;

use cambric_bgp::config::Wanted;
use cambric_bgp::policy::filter::{Action, Filter};
use cambric_bgp::types::PeerKind;
use cambric_bgp::{PeerConfig, PeerPolicy};

use crate::advertisements::Entry;
use crate::objects::{Kind, Objects, Problem};

/// What is to be told of them at this node.
pub(crate) fn notices(objects: &Objects, entries: &[Entry<'_>], wanted: &Wanted) -> Vec<Problem> {
    let of_ranges = wanted.listen_ranges.values().map(|range| &range.template);
    let peers: Vec<(&PeerConfig, PeerKind)> =
        wanted.peers.values().chain(of_ranges).map(|peer| (peer, peer.kind(wanted.router.asn))).collect();
    let of_entries = entries.iter().filter_map(|entry| of_entry(entry, &peers));
    of_entries.chain(of_filters(objects, &peers)).collect()
}

fn of_entry(entry: &Entry<'_>, peers: &[(&PeerConfig, PeerKind)]) -> Option<Problem> {
    let offer = &entry.says.offer;
    let is_meant = |peer: &PeerConfig| offer.peers.as_ref().is_none_or(|names| names.contains(&peer.name));
    let meant: Vec<&(&PeerConfig, PeerKind)> = peers.iter().filter(|(peer, _)| is_meant(peer)).collect();
    let (first, _) = meant.first()?;
    if offer.prepend == 0 || meant.iter().any(|(_, kind)| *kind == PeerKind::External) {
        return None;
    }
    let field = format!("{}.attributes.prepend: {}", entry.says.field, offer.prepend);
    let what =
        if offer.peers.is_some() { format!("peer {} is", first.name) } else { "all peers are".to_owned() };
    Some(notice(entry.place, Kind::BGPAdvertisement, entry.name, &field, &what))
}

fn of_filters(objects: &Objects, peers: &[(&PeerConfig, PeerKind)]) -> Vec<Problem> {
    // By filter: an internal peer that is told through it, unless it serves somebody it has an effect for.
    let mut vain: BTreeMap<&str, Option<(&Filter, &str)>> = BTreeMap::new();
    for (PeerConfig { name, policy: PeerPolicy { filters, .. }, .. }, kind) in peers {
        for filters in filters.values() {
            for filter in &filters.import {
                vain.insert(&filter.name, None);
            }
            for filter in &filters.export {
                let found = (*kind == PeerKind::Internal).then_some((&**filter, name.as_str()));
                let known = vain.entry(&filter.name).or_insert(found);
                *known = known.and(found);
            }
        }
    }
    let mut notices = Vec::new();
    for (name, found) in vain {
        let (Some((filter, peer)), Some(shown)) = (found, objects.filters.get(name)) else { continue };
        for (at, rule) in filter.rules.iter().enumerate() {
            let Action::Accept(change) = &rule.action else { continue };
            if change.prepend > 0 {
                let field = format!("spec.rules[{at}].set.prepend: {}", change.prepend);
                notices.push(notice(&shown.place, Kind::BGPFilter, name, &field, &format!("peer {peer} is")));
            }
        }
    }
    notices
}

fn notice(place: &str, kind: Kind, name: &str, field: &str, who: &str) -> Problem {
    let what = format!("{field}: {who} internal, and internal peers see the AS path as it is: no effect");
    Problem::new(place, what).about(kind, name).found_here()
}
