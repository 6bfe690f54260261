//! `show route` and its relatives.
//!
//! Tables may be large, and the speaker has other work: first it is asked for the prefixes alone, then for
//! their routes a piece at a time, and each piece is sent before the next one is asked for. So the speaker
//! is held for a moment only, and what waits here for a slow client is one piece.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cambric_api::{Path, Reply, Route, RouteCount};
use cambric_bgp::config::Offer;
use cambric_bgp::policy::filter::RuledBy;
use cambric_bgp::policy::{Refusal, Withheld};
use cambric_bgp::rib::{ExportInfo, Part, PathInfo, Reason, RouteInfo, Verdict};
use cambric_bgp::router::PeerStatus;
use cambric_bgp::types::PathId;
use cambric_bgp::wire::Nlri;
use cambric_bgp::{Attributes, Family, Originated, PeerId, Prefix, Router, ScopedAddress, Source};
use cambric_speaker::{Gone, Handle};

use super::client::Replies;
use super::hops::Hops;
use super::words::escaped;
use super::{Fault, peers};
use crate::state::Shared;

/// Prefixes of one piece: well below a millisecond of the speaker's time, and some 200 kB of text.
const PIECE: usize = 1000;

/// `show route`, all of it or the one to a prefix or an address.
pub(super) async fn show(
    shared: &Shared,
    address: Option<String>,
    prefix: Option<String>,
    replies: &mut Replies<'_>,
) -> Result<Reply, Fault> {
    let asked = prefix.clone().or_else(|| address.clone()).unwrap_or_default();
    let wanted = match (prefix, address) {
        (Some(prefix), _) => match prefix.parse::<Prefix>() {
            Ok(prefix) => Wanted::Prefix(prefix),
            Err(error) => return Ok(Reply::not_understood(error)),
        },
        (None, Some(address)) => match address.parse::<IpAddr>() {
            Ok(address) => Wanted::Holding(address),
            Err(error) => return Ok(Reply::not_understood(format!("for \"{address}\": {error}"))),
        },
        (None, None) => Wanted::All,
    };
    let speaker = peers::speaker(shared)?;
    let peers = peers::all(shared).await?;
    let names = names(&peers);
    let hops = Hops::of(&shared.routes).await;
    let found = match wanted {
        Wanted::All => {
            let listing = Listing {
                part: Part::All,
                keep: &|_| true,
                names: &names,
                hops: Some(&hops),
                attributes: Attributed::AsUsed,
            };
            let last = listing.send(&speaker, replies).await?;
            return Ok(Reply { note: not_kept(&peers), ..last });
        }
        Wanted::Prefix(prefix) => speaker.look(move |router| router.routes_to(&[prefix])).await?,
        Wanted::Holding(address) => speaker.look(move |router| most_specific(router, address)).await?,
    };
    if found.is_empty() {
        return Ok(Reply::no_route(asked));
    }
    let mut routes: Vec<Route> = found.iter().map(|info| route(info, &names, Attributed::AsUsed)).collect();
    hops.describe(&mut routes).await;
    Ok(Reply { note: none_usable(&found, &asked), ..Reply::routes(routes) })
}

/// Paths may be listed and packets all the same go nowhere.
fn none_usable(found: &[RouteInfo], to: &str) -> Option<String> {
    let is_used = found.iter().flat_map(|info| &info.paths).any(|path| path.verdict == Verdict::Best);
    (!is_used).then(|| format!("no usable route to {to}: all that is known is refused"))
}

enum Wanted {
    All,
    Prefix(Prefix),
    Holding(IpAddr),
}

/// The most specific route that holds `address` and can be used; if none can, the most specific one.
fn most_specific(router: &Router, address: IpAddr) -> Vec<RouteInfo> {
    let holding = router.routes_to(&Prefix::holding(address).collect::<Vec<_>>());
    let usable = |info: &RouteInfo| info.paths.iter().any(|path| path.verdict == Verdict::Best);
    let best = holding.iter().filter(|info| usable(info)).max_by_key(|info| info.prefix.length());
    best.or(holding.iter().max_by_key(|info| info.prefix.length())).cloned().into_iter().collect()
}

/// `show route import PEER`
pub(super) async fn show_import(
    shared: &Shared,
    wanted: &str,
    replies: &mut Replies<'_>,
) -> Result<Reply, Fault> {
    let meant = peers::named(peers::all(shared).await?, wanted)?;
    let speaker = peers::speaker(shared)?;
    let names = names(&meant);
    let hops = Hops::of(&shared.routes).await;
    for peer in &meant {
        let id = peer.id;
        let keep = move |path: &PathInfo| path.peer == Some(id);
        let listing = Listing {
            part: Part::ToldBy(id),
            keep: &keep,
            names: &names,
            hops: Some(&hops),
            attributes: Attributed::AsTold,
        };
        let last = listing.send(&speaker, replies).await?;
        replies.send(&Reply { more: true, ..last }).await?;
    }
    Ok(Reply { note: not_kept(&meant), ..Reply::routes(Vec::new()) })
}

/// `show route refused [PEER]`
pub(super) async fn show_refused(
    shared: &Shared,
    wanted: Option<&str>,
    replies: &mut Replies<'_>,
) -> Result<Reply, Fault> {
    let all = peers::all(shared).await?;
    let meant = match wanted {
        Some(wanted) => peers::named(all, wanted)?,
        None => all,
    };
    let speaker = peers::speaker(shared)?;
    let names = names(&meant);
    let hops = Hops::of(&shared.routes).await;
    let keep = |path: &PathInfo| {
        matches!(path.verdict, Verdict::Refused(_)) && path.peer.is_some_and(|id| names.contains_key(&id))
    };
    let listing = Listing {
        part: Part::Refused,
        keep: &keep,
        names: &names,
        hops: Some(&hops),
        attributes: Attributed::AsUsed,
    };
    let last = listing.send(&speaker, replies).await?;
    Ok(Reply { note: not_kept(&meant), ..last })
}

/// What no listing has: refused paths beyond the limit of their peer are counted and forgotten.
fn not_kept(peers: &[PeerStatus]) -> Option<String> {
    let of_peer = |peer: &PeerStatus| peer.counts.values().map(|counts| counts.not_kept).sum::<usize>();
    let peers = peers.iter().map(|peer| (escaped(&peer.config.name), of_peer(peer)));
    let lines: Vec<String> = peers
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{count} more refused paths of {name} were counted and not kept"))
        .collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

/// `show route export PEER`
pub(super) async fn show_export(
    shared: &Shared,
    wanted: &str,
    replies: &mut Replies<'_>,
) -> Result<Reply, Fault> {
    let meant = peers::named(peers::all(shared).await?, wanted)?;
    let speaker = peers::speaker(shared)?;
    for peer in meant {
        let (id, name) = (peer.id, escaped(&peer.config.name));
        for piece in pieces(&speaker, Part::ToldTo(id)).await? {
            let look = move |router: &Router| {
                let rules: BTreeMap<Nlri, ExportInfo> = router.exports(id, &piece).into_iter().collect();
                // What is announced by ourselves is told as ours: a route of our own is always the best.
                let own = |prefix: &Prefix| router.wanted().originated.get(prefix).map(|own| own.source);
                let sources: BTreeMap<Prefix, Source> =
                    piece.iter().filter_map(|prefix| Some((*prefix, own(prefix)?))).collect();
                (router.sent(id, &piece), rules, sources)
            };
            let (sent, rules, sources) = speaker.look(look).await?;
            let routes = sent.iter().map(|(told, attributes)| {
                let rule = rules.get(told).and_then(|info| info.ruled_by.as_ref());
                let mut route = told_route(*told, attributes, &name, "sent", rule, None);
                let is_own = told.path_id.0 <= PathId::OWN.0;
                let source =
                    sources.get(&told.prefix).filter(|_| is_own).map(|source| source.name().to_owned());
                route.paths.iter_mut().for_each(|path| path.source.clone_from(&source));
                route
            });
            replies.send(&Reply { more: true, ..Reply::routes(routes.collect()) }).await?;
        }
    }
    Ok(Reply::routes(Vec::new()))
}

/// `show route noexport PEER`
pub(super) async fn show_noexport(
    shared: &Shared,
    wanted: &str,
    replies: &mut Replies<'_>,
) -> Result<Reply, Fault> {
    let meant = peers::named(peers::all(shared).await?, wanted)?;
    let speaker = peers::speaker(shared)?;
    for peer in meant {
        let (id, name) = (peer.id, escaped(&peer.config.name));
        for piece in pieces(&speaker, Part::All).await? {
            let mut found = speaker.look(move |router| router.exports(id, &piece)).await?;
            found.retain(|(_, info)| info.withheld.is_some());
            let routes = found.iter().map(|(held_back, info)| {
                let ExportInfo { attributes, withheld, ruled_by } = info;
                let reason = withheld.map(Withheld::name);
                told_route(*held_back, attributes, &name, "withheld", ruled_by.as_ref(), reason)
            });
            replies.send(&Reply { more: true, ..Reply::routes(routes.collect()) }).await?;
        }
    }
    Ok(Reply::routes(Vec::new()))
}

/// `show route count`
pub(super) async fn count(shared: &Shared) -> Result<Reply, Fault> {
    let speaker = peers::speaker(shared)?;
    let mut counts: BTreeMap<Family, RouteCount> = Family::ALL
        .map(|family| (family, RouteCount { family: family.to_string(), ..RouteCount::default() }))
        .into();
    let peers = peers::all(shared).await?;
    for piece in pieces(&speaker, Part::All).await? {
        for info in speaker.look(move |router| router.routes_to(&piece)).await? {
            let count = counts.entry(info.prefix.family()).or_default();
            let refused = |path: &&PathInfo| matches!(path.verdict, Verdict::Refused(_));
            count.prefixes += 1;
            count.usable += usize::from(info.paths.iter().any(|path| path.verdict == Verdict::Best));
            count.paths += info.paths.len();
            count.refused += info.paths.iter().filter(refused).count();
        }
    }
    let counts = Reply::route_counts(counts.into_values().collect());
    Ok(Reply { note: not_kept(&peers), ..counts })
}

type Names = BTreeMap<PeerId, String>;

fn names(peers: &[PeerStatus]) -> Names {
    peers.iter().map(|peer| (peer.id, escaped(&peer.config.name))).collect()
}

/// The prefixes of a part by order, in pieces.
pub(super) async fn pieces(speaker: &Handle, part: Part) -> Result<Vec<Vec<Prefix>>, Gone> {
    let mut prefixes = speaker.look(move |router| router.prefixes(part)).await?;
    prefixes.sort_unstable();
    Ok(prefixes.chunks(PIECE).map(<[Prefix]>::to_vec).collect())
}

/// Paths of a part of the tables.
struct Listing<'a> {
    part: Part,
    keep: &'a (dyn Fn(&PathInfo) -> bool + Sync),
    names: &'a Names,
    /// What the kernel makes of their next hops.
    hops: Option<&'a Hops<'a>>,
    attributes: Attributed,
}

/// Which attributes are shown, where a filter has changed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attributed {
    /// Those with which the route is used.
    AsUsed,
    /// Those that the peer told.
    AsTold,
}

impl Listing<'_> {
    /// Sends all pieces but the last, and gives that.
    async fn send(&self, speaker: &Handle, replies: &mut Replies<'_>) -> Result<Reply, Fault> {
        let mut last = Reply::routes(Vec::new());
        for (index, piece) in pieces(speaker, self.part).await?.into_iter().enumerate() {
            if index > 0 {
                replies.send(&Reply { more: true, ..last }).await?;
            }
            let mut found = speaker.look(move |router| router.routes_to(&piece)).await?;
            found.iter_mut().for_each(|info| info.paths.retain(self.keep));
            found.retain(|info| !info.paths.is_empty());
            let mut routes: Vec<Route> =
                found.iter().map(|info| route(info, self.names, self.attributes)).collect();
            if let Some(hops) = self.hops {
                hops.describe(&mut routes).await;
            }
            last = Reply::routes(routes);
        }
        Ok(last)
    }
}

fn route(info: &RouteInfo, names: &Names, attributed: Attributed) -> Route {
    Route {
        prefix: info.prefix.to_string(),
        paths: info.paths.iter().map(|info| path(info, names, attributed)).collect(),
    }
}

fn path(info: &PathInfo, names: &Names, attributed: Attributed) -> Path {
    let (verdict, reason) = match info.verdict {
        Verdict::Best => ("best", None),
        Verdict::Lost(Reason::Multipath) => ("multipath", None),
        Verdict::Lost(reason) => ("lost", Some(reason.name().to_owned())),
        Verdict::Refused(refusal) => ("refused", Some(by_rule(refusal.name(), info.ruled_by.as_ref()))),
    };
    let used = info.changed.as_ref().filter(|_| attributed == Attributed::AsUsed).unwrap_or(&info.attributes);
    Path {
        peer: info.peer.map(|id| names.get(&id).cloned().unwrap_or_else(|| "a peer that is gone".to_owned())),
        path_id: named(info.path_id),
        next_hop: match (attributed, &info.changed) {
            (Attributed::AsTold, Some(_)) => Some(used.next_hop.to_string()),
            _ => info.next_hop.as_ref().map(ScopedAddress::to_string),
        },
        verdict: verdict.to_owned(),
        reason,
        rule: info.ruled_by.as_ref().map(rule_text),
        stale: info.stale,
        source: info.originated.as_ref().map(|own| own.source.name().to_owned()),
        offers: info.originated.as_deref().map(|own| offers(own, &info.aggregates)).unwrap_or_default(),
        ..attributes(used)
    }
}

/// A filter's verdict with the rule: `FilteredBy tor-in rule 3`.
fn by_rule(reason: &str, rule: Option<&RuledBy>) -> String {
    match rule {
        Some(rule) if reason == Refusal::FilteredBy.name() => format!("{reason} {}", rule_text(rule)),
        _ => reason.to_owned(),
    }
}

fn rule_text(rule: &RuledBy) -> String {
    escaped(&rule.to_string())
}

/// What `peer` was told of a prefix, or was not.
fn told_route(
    Nlri { prefix, path_id }: Nlri,
    sent: &Attributes,
    peer: &str,
    verdict: &str,
    rule: Option<&RuledBy>,
    reason: Option<&str>,
) -> Route {
    let path = Path {
        peer: Some(peer.to_owned()),
        path_id: named(path_id),
        next_hop: Some(sent.next_hop)
            .filter(|next_hop| !next_hop.is_unspecified())
            .map(|next_hop| next_hop.to_string()),
        verdict: verdict.to_owned(),
        reason: reason.map(|reason| by_rule(reason, rule)),
        rule: rule.map(rule_text),
        ..attributes(sent)
    };
    Route { prefix: prefix.to_string(), paths: vec![path] }
}

fn named(path_id: PathId) -> Option<u32> {
    Some(path_id.0).filter(|id| *id > 0)
}

/// As `to all peers: MED 7, communities 65001:100`.
fn offers(own: &Originated, aggregates: &[Prefix]) -> Vec<String> {
    let names = |names: &BTreeSet<String>| {
        names.iter().map(|name| escaped(name).to_string()).collect::<Vec<_>>().join(", ")
    };
    let of_offer = |offer: &Offer| {
        let Offer { peers, local_pref, med, prepend, communities, large_communities } = offer;
        let listed =
            |what: &str, all: Vec<String>| (!all.is_empty()).then(|| format!("{what} {}", all.join(" ")));
        let with: Vec<String> = [
            local_pref.map(|value| format!("local preference {}", value.0)),
            med.map(|value| format!("MED {}", value.0)),
            (*prepend > 0).then(|| format!("own AS {prepend} times more")),
            listed("communities", communities.iter().map(ToString::to_string).collect()),
            listed("large communities", large_communities.iter().map(ToString::to_string).collect()),
        ]
        .into_iter()
        .flatten()
        .collect();
        let to = peers.as_ref().map_or_else(|| "all peers".to_owned(), names);
        let with = if with.is_empty() { "as it is".to_owned() } else { with.join(", ") };
        format!("to {to}: {with}")
    };
    let to_whom_aggregates_are_told =
        aggregates.iter().map(|aggregate| format!("not to who is told {aggregate} in its place"));
    own.offers.iter().map(of_offer).chain(to_whom_aggregates_are_told).collect()
}

fn attributes(attributes: &Attributes) -> Path {
    Path {
        as_path: attributes.as_path.asns().iter().map(|asn| asn.value()).collect(),
        origin: attributes.origin.to_string(),
        local_pref: attributes.local_pref.map(|value| value.0),
        med: attributes.med.map(|value| value.0),
        only_to_customer: attributes.only_to_customer(),
        communities: attributes.communities.iter().map(ToString::to_string).collect(),
        large_communities: attributes.large_communities.iter().map(ToString::to_string).collect(),
        ..Path::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use cambric_api::Body;
    use cambric_bgp::router::Restarted;
    use cambric_bgp::{Asn, RouterConfig, RouterId};
    use cambric_speaker::SpeakerConfig;
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::net::UnixStream;
    use tokio::sync::mpsc;

    use super::*;

    /// A speaker that originates `count` prefixes, and speaks with nobody. It lives as long as its events.
    fn speaker_with(count: usize) -> (Handle, mpsc::Receiver<cambric_speaker::Event>) {
        let asn = Asn::new(65001).expect("not 0");
        let mut wanted = cambric_bgp::Wanted::new(RouterConfig::new(asn, RouterId::new(1).expect("not 0")));
        let prefix = |index: usize| Prefix::new([10, 0, (index >> 8) as u8, index as u8].into(), 32);
        wanted.originated = (0..count)
            .map(|index| (prefix(index).expect("length"), Originated::plain(Source::Pods)))
            .collect();
        let router = Router::new(Instant::now(), wanted, Restarted::No, BTreeSet::new(), 1);
        let (handle, events, _) =
            cambric_speaker::start(&SpeakerConfig { port: 0 }, router).expect("any port");
        (handle, events)
    }

    #[tokio::test]
    async fn large_table_is_sent_in_pieces_of_which_the_last_says_so() {
        let (speaker, _events) = speaker_with(2 * PIECE + 1);
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let reader = tokio::spawn(async move {
            let (mut pieces, mut lines) = (Vec::new(), BufReader::new(theirs).lines());
            while let Some(line) = lines.next_line().await.expect("a line") {
                pieces.push(serde_json::from_str::<Reply>(&line).expect("a reply"));
            }
            pieces
        });
        let (_, mut write_half) = ours.into_split();
        let mut replies = Replies(&mut write_half);
        let names = Names::new();
        let listing = Listing {
            part: Part::All,
            keep: &|_| true,
            names: &names,
            hops: None,
            attributes: Attributed::AsUsed,
        };
        let last = listing.send(&speaker, &mut replies).await.expect("all is there");
        replies.send(&last).await.expect("somebody reads");
        drop(write_half);

        let pieces = reader.await.expect("the reader");
        assert_eq!(pieces.iter().map(|piece| piece.more).collect::<Vec<_>>(), [true, true, false]);
        let routes = pieces.into_iter().flat_map(|piece| match piece.body {
            Body::Routes(routes) => routes,
            other => panic!("{other:?}"),
        });
        let prefixes: Vec<Prefix> =
            routes.map(|route| route.prefix.parse().expect("a prefix of ours")).collect();
        assert_eq!(prefixes.len(), 2 * PIECE + 1);
        assert!(prefixes.is_sorted());
    }

    #[tokio::test]
    async fn empty_part_is_one_reply_without_routes() {
        let (speaker, _events) = speaker_with(0);
        let (ours, _theirs) = UnixStream::pair().expect("a pair of sockets");
        let (_, mut write_half) = ours.into_split();
        let names = Names::new();
        let listing = Listing {
            part: Part::Refused,
            keep: &|_| true,
            names: &names,
            hops: None,
            attributes: Attributed::AsUsed,
        };
        let only = listing.send(&speaker, &mut Replies(&mut write_half)).await.expect("a speaker");
        assert_eq!(only, Reply::routes(Vec::new()));
    }
}
