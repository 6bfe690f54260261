//! What links, addresses and refusals allow: from a wish to the hops that can be used now.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{Fib, Refusal, RefusalState, Wish};
use crate::{
    diff::{Aim, Resolved},
    event::{Event, Unusable},
    intern::Interned,
    next_hops::Hop,
    wanted::{NextHop, Target},
};

impl Fib {
    /// Gives a wish a number and resolves it, unless a route has it already.
    pub(super) fn acquire_wish(&mut self, wish: &Wish) -> Interned {
        let number = self.wishes.acquire(wish);
        if !self.resolved.contains_key(&number) {
            let resolved = self.resolve(wish);
            self.resolved.insert(number, resolved);
            self.tell_missing_sources();
        }
        number
    }

    /// One route less has the wish.
    pub(super) fn release_wish(&mut self, number: Interned) {
        self.wishes.release(number);
        if self.wishes.get(number).is_none() {
            self.resolved.remove(&number);
            self.unsettled.remove(&number);
        }
    }

    /// A next hop that is wanted again is no longer lost.
    pub(super) fn vouch_for(&mut self, target: &Target) {
        if self.lost.is_empty() {
            return;
        }
        let Target::Via(next_hops) = target else { return };
        let before = self.lost.len();
        // By its gateway: the address through which it is resolved may be away for the moment.
        let links = &self.links;
        let names = |next_hop: &NextHop, hop: &Hop| {
            let on_link = |name: &String| links.by_name(name).is_some_and(|link| link.index == hop.link);
            next_hop.gateway == hop.gateway && next_hop.interface.as_ref().is_none_or(on_link)
        };
        self.lost.retain(|hop| !next_hops.iter().any(|next_hop| names(next_hop, hop)));
        if self.lost.len() != before {
            self.resolve_again();
        }
    }

    /// Resolves all wishes again and queues the prefixes of those that changed.
    pub(super) fn resolve_again(&mut self) {
        let mut changed = self.update_resolutions();
        changed.append(&mut self.unsettled);
        if changed.is_empty() {
            return;
        }
        for (prefix, wish) in &self.wanted {
            if changed.contains(wish) {
                self.pending.push(*prefix);
            }
        }
    }

    /// Resolves all wishes again. Returns those that changed.
    pub(super) fn update_resolutions(&mut self) -> BTreeSet<Interned> {
        let resolved = self.wishes.iter().map(|(number, wish, _)| (number, self.resolve(wish)));
        let changed: Vec<(Interned, Resolved)> =
            resolved.filter(|(number, resolved)| self.resolved.get(number) != Some(resolved)).collect();
        let numbers = changed.iter().map(|(number, _)| *number).collect();
        self.resolved.extend(changed);
        self.tell_missing_sources();
        numbers
    }

    fn resolve(&self, wish: &Wish) -> Resolved {
        let source = wish.source.filter(|address| self.links.is_source(*address));
        let Target::Via(next_hops) = &wish.target else { return Resolved { aim: Aim::Unreachable, source } };
        let found = next_hops.iter().filter_map(|next_hop| self.links.resolve(next_hop));
        // Two names for one way out count once.
        let vouched: BTreeSet<Hop> = found.filter(|hop| !self.lost.contains(hop)).collect();
        let usable: Vec<Hop> = vouched.iter().filter(|hop| self.is_usable(hop)).copied().collect();
        let aim = match usable.is_empty() {
            true => Aim::Wait(vouched.into_iter().collect()),
            false => Aim::Hops(usable),
        };
        Resolved { aim, source }
    }

    fn is_usable(&self, hop: &Hop) -> bool {
        let waiting = |refusal: &Refusal| refusal.state == RefusalState::Waiting;
        self.links.usable(hop) && !self.refused.get(hop).is_some_and(waiting)
    }

    /// Tells once of each preferred source that the node lacks.
    fn tell_missing_sources(&mut self) {
        let sources = self.wishes.iter().filter_map(|(_, wish, _)| wish.source);
        let missing: BTreeSet<IpAddr> = sources.filter(|address| !self.links.is_source(*address)).collect();
        let new = missing.difference(&self.missing_sources);
        self.events.extend(new.map(|address| Event::PreferredSourceMissing { address: *address }));
        self.missing_sources = missing;
    }

    /// Wanted next hops that are not used, and why.
    pub(super) fn unusable(&self) -> BTreeMap<Hop, Unusable> {
        let next_hops = self.wishes.iter().filter_map(|(_, wish, _)| match &wish.target {
            Target::Via(next_hops) => Some(next_hops),
            Target::Unreachable => None,
        });
        let hops = next_hops.flatten().filter_map(|next_hop| self.links.resolve(next_hop));
        hops.filter_map(|hop| Some((hop, self.why_unusable(&hop)?))).collect()
    }

    fn why_unusable(&self, hop: &Hop) -> Option<Unusable> {
        if self.lost.contains(hop) {
            Some(Unusable::Lost)
        } else if !self.links.usable(hop) {
            Some(Unusable::LinkDown)
        } else {
            self.refused.get(hop).map(|_| Unusable::Refused)
        }
    }
}
