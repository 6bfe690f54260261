//! The tables as an operator looks at them: all routes, what one peer told and was told, what is refused.

use std::sync::Arc;

use super::decision::{Decision, decide};
use super::{Best, DestId, Destination, Freshness, InCounts, Local, Reason, Rib, aggregates};
use crate::attributes::{AttributeSet, Attributes};
use crate::config::Originated;
use crate::policy::filter::RuledBy;
use crate::policy::{Exported, Judged, Refusal, Withheld, judge};
use crate::prefix::{Family, Prefix};
use crate::types::{PathId, PeerId, ScopedAddress};
use crate::wire::Nlri;

/// Numbers of one peer and family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Routes the peer told, those not kept among them.
    pub received: usize,
    /// Of these: fit for use.
    pub accepted: usize,
    /// Of these: refused.
    pub refused: usize,
    /// Of the refused: counted and not kept, since the peer told more of them than its limit. No listing
    /// has them, and one that is told twice counts twice.
    pub not_kept: usize,
    /// Routes it was told.
    pub sent: usize,
}

/// One path to a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// Who told it; `None` for our own.
    pub peer: Option<PeerId>,
    /// Which of several paths of this peer (RFC 7911); 0 where it tells one.
    pub path_id: PathId,
    /// Why it is there, and to whom it is offered with what, if it is our own.
    pub originated: Option<Arc<Originated>>,
    /// Aggregates of ours that are told in its place, if it is our own.
    pub aggregates: Vec<Prefix>,
    /// With what: as the peer told it, before our policy.
    pub attributes: Arc<AttributeSet>,
    /// With what it is used, where a filter has changed that.
    pub changed: Option<Arc<AttributeSet>>,
    /// Where it leads, with the link that a link-local next hop is on; `None` for our own.
    pub next_hop: Option<ScopedAddress>,
    /// The rule of a filter that lets it pass or refuses it, if one had a word in it.
    pub ruled_by: Option<RuledBy>,
    /// What became of it.
    pub verdict: Verdict,
    /// Kept for a peer that is restarting (RFC 4724), or whose link went down.
    pub stale: bool,
}

/// What becomes of the best route to a prefix on its way to one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportInfo {
    /// With what it is told; as we have it, if it is not.
    pub attributes: Attributes,
    /// Why it is not told.
    pub withheld: Option<Withheld>,
    /// The rule of a filter that lets it pass or holds it back, if one had a word in it.
    pub ruled_by: Option<RuledBy>,
}

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The one that is told on.
    Best,
    /// Usable, not best.
    Lost(Reason),
    /// Not usable.
    Refused(Refusal),
}

/// A prefix with its paths, the best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteInfo {
    /// Which.
    pub prefix: Prefix,
    /// At least one.
    pub paths: Vec<PathInfo>,
}

/// Which part of the tables is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of them.
    All,
    /// What this peer told.
    ToldBy(PeerId),
    /// What this peer was told.
    ToldTo(PeerId),
    /// What is refused.
    Refused,
}

impl Rib {
    /// The prefixes of a part, in no order: a small thing to take away even from a large table. Their routes
    /// can then be asked for in pieces.
    pub(crate) fn prefixes(&self, part: Part) -> Vec<Prefix> {
        let of = |id: &DestId| self.dest(*id).prefix;
        match part {
            Part::All => self.index.keys().copied().collect(),
            Part::ToldBy(peer) => {
                self.peers.get(&peer).into_iter().flat_map(|tables| &tables.told).map(of).collect()
            }
            Part::ToldTo(peer) => {
                let out = self.peers.get(&peer).and_then(|tables| tables.out.as_ref());
                out.into_iter().flat_map(|out| out.sent_to()).map(|id| of(&id)).collect()
            }
            Part::Refused => {
                let live = self.live().map(|(_, dest)| dest);
                let holds_one = live.filter(|dest| dest.paths.iter().any(|path| path.verdict.is_err()));
                holds_one.map(|dest| dest.prefix).collect()
            }
        }
    }

    /// The routes to these prefixes, as far as they are still there.
    pub(crate) fn routes_to(&self, prefixes: &[Prefix]) -> Vec<RouteInfo> {
        let found = prefixes.iter().filter_map(|prefix| self.index.get(prefix)).map(|id| self.dest(*id));
        let mut routes: Vec<RouteInfo> = found
            .map(|dest| RouteInfo { prefix: dest.prefix, paths: self.paths(dest) })
            .filter(|route| !route.paths.is_empty())
            .collect();
        routes.sort_by_key(|route| route.prefix);
        routes
    }

    /// What `peer` was told of these prefixes.
    pub(crate) fn sent(&self, peer: PeerId, prefixes: &[Prefix]) -> Vec<(Nlri, Arc<AttributeSet>)> {
        let Some(out) = self.peers.get(&peer).and_then(|tables| tables.out.as_ref()) else {
            return Vec::new();
        };
        let found = prefixes.iter().filter_map(|prefix| Some((*prefix, *self.index.get(prefix)?)));
        let paths = |(prefix, id)| {
            out.sent_of(id).map(move |(path_id, sent)| (Nlri { prefix, path_id }, Arc::clone(sent)))
        };
        found.flat_map(paths).collect()
    }

    /// What becomes of the best routes to these prefixes on their way to `peer`; of all usable ones, where it is told of
    /// several.
    pub(crate) fn exports(&self, peer: PeerId, prefixes: &[Prefix]) -> Vec<(Nlri, ExportInfo)> {
        let aggregates = self.aggregates_told(peer);
        let mut exports = Vec::new();
        for prefix in prefixes {
            let Some(id) = self.index.get(prefix).copied() else { continue };
            let most = self.most_paths(peer, prefix.family());
            let paths = match most {
                Some(_) => self.paths_by_rank(id),
                None => self.dest(id).best.iter().map(|best| (PathId::default(), best.clone())).collect(),
            };
            let mut told = 0;
            for (path_id, best) in paths {
                let mut info = self.export_info(peer, prefix, &best, &aggregates);
                if info.withheld.is_none() {
                    told += 1;
                    info.withheld = most.filter(|most| told > *most).map(|_| Withheld::BeyondMostPaths);
                }
                exports.push((Nlri { prefix: *prefix, path_id }, info));
            }
        }
        exports
    }

    fn export_info(&self, peer: PeerId, prefix: &Prefix, best: &Best, aggregates: &[Prefix]) -> ExportInfo {
        let Exported { verdict, by } = self.outcome(peer, prefix, best, aggregates);
        let attributes = match &verdict {
            Ok(sent) => sent.clone(),
            Err(_) => Attributes::clone(&best.attributes),
        };
        ExportInfo { attributes, withheld: verdict.err(), ruled_by: by.map(RuledBy::from) }
    }

    pub(crate) fn counts(&self, peer: PeerId, family: Family) -> Counts {
        let Some(tables) = self.peers.get(&peer) else { return Counts::default() };
        let InCounts { accepted, refused, dropped, .. } =
            tables.counts.get(&family).copied().unwrap_or_default();
        let sent = tables.out.as_ref().map_or(0, |out| out.sent_count(family));
        let (received, refused) = (accepted + refused + dropped, refused + dropped);
        Counts { received, accepted, refused, not_kept: dropped, sent }
    }

    /// Whether at least one peer was told `prefix`.
    pub(crate) fn is_announced(&self, prefix: &Prefix) -> bool {
        self.index.get(prefix).is_some_and(|id| self.dest(*id).sent_to > 0)
    }

    /// All paths of a destination with what became of them.
    fn paths(&self, dest: &Destination) -> Vec<PathInfo> {
        let (candidates, owners) = self.candidates(dest);
        let decision = decide(&candidates, self.max_paths);
        let verdict = |owner: Option<usize>| match &decision {
            Some(Decision { best, losers, .. }) => {
                let index = owners.iter().position(|entry| *entry == owner)?;
                if index == *best {
                    Some(Verdict::Best)
                } else {
                    losers.get(&index).copied().map(Verdict::Lost)
                }
            }
            None => None,
        };
        let local = dest.local.iter().filter_map(|local| {
            let Local { originated, attributes } = local.clone();
            let verdict = verdict(None)?;
            Some(PathInfo {
                peer: None,
                path_id: PathId::default(),
                originated: Some(originated),
                aggregates: aggregates::around(&dest.prefix, self.aggregates.prefixes()).copied().collect(),
                attributes,
                changed: None,
                next_hop: None,
                ruled_by: None,
                verdict,
                stale: false,
            })
        });
        let learned = dest.paths.iter().enumerate().filter_map(|(at, path)| {
            let verdict = match path.verdict {
                Ok(()) => verdict(Some(at))?,
                Err(refusal) => Verdict::Refused(refusal),
            };
            // Judged once more for its reason: that is pure, and seldom asked for.
            let tables = self.peers.get(&path.from.peer);
            let ruled_by = tables.and_then(|tables| {
                let told = tables.told(&dest.prefix, &path.attributes);
                let Judged { by, .. } = judge(told, &tables.policy, &self.view);
                by.map(RuledBy::from)
            });
            Some(PathInfo {
                peer: Some(path.from.peer),
                path_id: path.from.path_id,
                originated: None,
                aggregates: Vec::new(),
                attributes: Arc::clone(&path.attributes),
                changed: path.changed.clone(),
                next_hop: tables.map(|tables| tables.address.beside(path.used().next_hop)),
                ruled_by: ruled_by.filter(|_| path.verdict != Err(Refusal::OverMaxPrefixes)),
                verdict,
                stale: path.freshness != Freshness::Fresh,
            })
        });
        let mut paths: Vec<PathInfo> = local.chain(learned).collect();
        paths.sort_by_key(|path| match path.verdict {
            Verdict::Best => (0, None, path.peer, path.path_id),
            Verdict::Lost(reason) => (1, Some(std::cmp::Reverse(reason)), path.peer, path.path_id),
            Verdict::Refused(_) => (2, None, path.peer, path.path_id),
        });
        paths
    }
}
