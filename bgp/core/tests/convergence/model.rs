//! What every table should be in the end, from the configuration alone: routers in numbers, who all look at what their
//! neighbours have until nothing changes any more. It knows neither sessions nor time, and shares nothing with the engine.

use std::collections::{BTreeMap, BTreeSet};

/// Who passes on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fabric {
    pub(crate) routers: Vec<Speaker>,
    /// Pairs that have a session, the lower number first.
    pub(crate) sessions: BTreeSet<(usize, usize)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Speaker {
    pub(crate) asn: u32,
    /// All its internal peers are its clients.
    pub(crate) is_reflector: bool,
    /// External peers are told what external peers told.
    pub(crate) is_transit: bool,
    /// By number of the prefix.
    pub(crate) own: BTreeMap<usize, Own>,
}

/// With what a prefix of its own is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) med: Option<u32>,
    pub(crate) local_pref: Option<u32>,
    pub(crate) prepend: u8,
}

/// A route, at its teller's or its taker's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    pub(crate) as_path: Vec<u32>,
    /// The number of a router.
    pub(crate) next_hop: usize,
    pub(crate) med: Option<u32>,
    pub(crate) local_pref: Option<u32>,
    /// The number of a router.
    pub(crate) originator: Option<usize>,
    pub(crate) clusters: Vec<usize>,
}

/// The best route to a prefix at a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Best {
    Own,
    Learned { from: usize, route: Route, next_hops: BTreeSet<usize> },
}

/// By router and prefix.
pub(crate) type Tables = BTreeMap<(usize, usize), Best>;

impl Fabric {
    fn are_peers(&self, one: usize, other: usize) -> bool {
        self.sessions.contains(&(one.min(other), one.max(other)))
    }

    fn are_internal(&self, one: usize, other: usize) -> bool {
        self.routers[one].asn == self.routers[other].asn
    }

    pub(crate) fn peers(&self, of: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.routers.len()).filter(move |other| *other != of && self.are_peers(of, *other))
    }

    /// What `from` tells `to` of a prefix, if anything.
    pub(crate) fn told(&self, tables: &Tables, from: usize, to: usize, prefix: usize) -> Option<Route> {
        let teller = &self.routers[from];
        let own = |own: &Own| Route {
            as_path: vec![teller.asn; usize::from(own.prepend)],
            next_hop: from,
            med: own.med,
            local_pref: own.local_pref,
            originator: None,
            clusters: Vec::new(),
        };
        let (route, heard_of) = match tables.get(&(from, prefix))? {
            Best::Own => (own(teller.own.get(&prefix)?), None),
            Best::Learned { from, route, .. } => (route.clone(), Some(*from)),
        };
        if heard_of == Some(to) {
            return None;
        }
        if self.are_internal(from, to) {
            let local_pref = Some(route.local_pref.unwrap_or(100));
            return match heard_of {
                // RFC 4456: to clients and from them, with tracks, and otherwise as it came.
                Some(third) if self.are_internal(from, third) => teller.is_reflector.then(|| Route {
                    local_pref,
                    originator: Some(route.originator.unwrap_or(third)),
                    clusters: [vec![from], route.clusters].concat(),
                    ..route
                }),
                // Of its own nobody prepends inside the AS.
                None => Some(Route { as_path: Vec::new(), local_pref, ..route }),
                Some(_) => Some(Route { next_hop: from, local_pref, ..route }),
            };
        }
        if heard_of.is_some() && !teller.is_transit {
            return None;
        }
        // RFC 4271 section 5.1.4: the MED of another is not told on.
        let med = if heard_of.is_none() { route.med } else { None };
        let as_path = [vec![teller.asn], route.as_path].concat();
        Some(Route { as_path, next_hop: from, med, local_pref: None, originator: None, clusters: Vec::new() })
    }

    fn is_refused(&self, at: usize, prefix: usize, route: &Route) -> bool {
        let taker = &self.routers[at];
        route.as_path.contains(&taker.asn)
            || route.originator == Some(at)
            || route.clusters.contains(&at)
            || route.next_hop == at
            || taker.own.contains_key(&prefix)
    }

    fn decided(&self, tables: &Tables, at: usize, prefix: usize) -> Option<Best> {
        if self.routers[at].own.contains_key(&prefix) {
            return Some(Best::Own);
        }
        let told = self.peers(at).filter_map(|peer| Some((peer, self.told(tables, peer, at, prefix)?)));
        let mut left: Vec<(usize, Route)> =
            told.filter(|(_, route)| !self.is_refused(at, prefix, route)).collect();
        let most = left.iter().map(|(_, route)| route.local_pref.unwrap_or(100)).max()?;
        left.retain(|(_, route)| route.local_pref.unwrap_or(100) == most);
        let shortest = left.iter().map(|(_, route)| route.as_path.len()).min()?;
        left.retain(|(_, route)| route.as_path.len() == shortest);
        let all = left.clone();
        left.retain(|(_, m)| {
            let better =
                |n: &Route| m.as_path.first() == n.as_path.first() && n.med.unwrap_or(0) < m.med.unwrap_or(0);
            !all.iter().any(|(_, n)| better(n))
        });
        if left.iter().any(|(peer, _)| !self.are_internal(at, *peer)) {
            left.retain(|(peer, _)| !self.are_internal(at, *peer));
        }
        let next_hops = left.iter().map(|(_, route)| route.next_hop).collect();
        // Identifiers and addresses are in the order of the numbers.
        let (from, route) = left
            .into_iter()
            .min_by_key(|(peer, route)| (route.originator.unwrap_or(*peer), route.clusters.len(), *peer))?;
        Some(Best::Learned { from, route, next_hops })
    }

    /// The tables in the end. `None` if there is no end, or more than one: then the order of events would decide, and no
    /// speaker can be held to one of them.
    pub(crate) fn settled(&self, prefixes: usize) -> Option<Tables> {
        let forwards: Vec<usize> = (0..self.routers.len()).collect();
        let backwards: Vec<usize> = forwards.iter().rev().copied().collect();
        let one = self.settled_in_turn(&forwards, prefixes)?;
        let other = self.settled_in_turn(&backwards, prefixes)?;
        let all_at_once = self.settled_at_once(prefixes)?;
        (one == other && one == all_at_once).then_some(one)
    }

    fn settled_in_turn(&self, order: &[usize], prefixes: usize) -> Option<Tables> {
        let mut tables = Tables::new();
        for _ in 0..ROUNDS {
            let before = tables.clone();
            for at in order {
                for prefix in 0..prefixes {
                    let best = self.decided(&tables, *at, prefix);
                    set(&mut tables, (*at, prefix), best);
                }
            }
            if tables == before {
                return Some(tables);
            }
        }
        None
    }

    fn settled_at_once(&self, prefixes: usize) -> Option<Tables> {
        let mut tables = Tables::new();
        for _ in 0..ROUNDS {
            let before = tables.clone();
            for at in 0..self.routers.len() {
                for prefix in 0..prefixes {
                    set(&mut tables, (at, prefix), self.decided(&before, at, prefix));
                }
            }
            if tables == before {
                return Some(tables);
            }
        }
        None
    }
}

/// Far more than a fabric of five needs.
const ROUNDS: usize = 50;

fn set(tables: &mut Tables, of: (usize, usize), best: Option<Best>) {
    match best {
        Some(best) => drop(tables.insert(of, best)),
        None => drop(tables.remove(&of)),
    }
}
