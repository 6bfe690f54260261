//! Readiness latches: a run is ready once it has every session back that the run before it had.
//!
//! Whoever updates a cluster goes on to the next node when this one is ready. A version that cannot speak with a switch
//! must therefore not become ready at the first node, and so the [`record`] of the last run says who there was: each
//! peer that was Established, in which families. It is waited for until it was so again, and had told its routes; each
//! by itself, for in a large mesh there is always a node that restarts.
//!
//! Who is not configured is waited for, too: a running daemon takes out of the record whom the operator takes out of the
//! configuration, so who is missing at the start is mostly somebody of whom this version reads nothing: a field it
//! refuses, a definition that was not applied. What is known from a snapshot alone tells nothing of that, so the server's
//! word is waited for, unless it cannot be reached. Not waited for is who was away already, another node that is none of the
//! mesh any more, and whom the operator has disabled, which is the way out for who is gone for good.
//!
//! A peer at the default gateway is where the route points to now. Of those who called from a listen range nobody is
//! waited for by himself: they come and go, and whoever comes back shows that the range is served. So a range that had
//! somebody waits for one of its peers, whichever it is.
//!
//! Once nobody is waited for and everything else is there, the run is measured: no outage undoes that, and from then on
//! the record follows the sessions as they come and go. Before, it only grows: a version that fails again and again does
//! not erase what it is measured by. Nothing is written on the way down, where sessions end for no fault of theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::Instant;

use cambric_bgp::router::PeerOrigin;
use cambric_bgp::{Family, Prefix, Router, ScopedAddress};

pub mod record;

use record::Record;

/// Peers that were Established.
pub type Sessions = BTreeMap<ScopedAddress, Past>;

/// Most peers that are named; a mesh may have a thousand.
const FEW: usize = 5;

/// A peer that was Established.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// As it was configured; may be empty.
    pub name: String,
    /// Why it was a peer.
    pub bond: Bond,
    /// What its session carried.
    pub families: BTreeSet<Family>,
}

/// Why somebody was a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bond {
    /// A manifest named it.
    Named,
    /// It is this node, one of the mesh.
    Node(String),
    /// It called from this listen range.
    Range(Prefix),
}

/// A configured peer, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// As configured.
    pub name: String,
    /// Families that a session with it shall carry.
    pub families: BTreeSet<Family>,
    /// Families that its session carries, each with whether the peer has told its routes; `None`: it has no session.
    pub session: Option<BTreeMap<Family, Told>>,
    /// The listen range that it called from.
    pub range: Option<Prefix>,
}

/// Whether a peer has told its routes of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// By End-of-RIB, or it had the time.
    All,
    /// It may be about to.
    Awaited,
}

/// All peers that are configured.
pub fn peers(router: &Router, now: Instant) -> BTreeMap<ScopedAddress, Peer> {
    let peer = |status: cambric_bgp::router::PeerStatus| {
        let told = |family: &Family| match router.has_told(now, status.id, *family) {
            true => Told::All,
            false => Told::Awaited,
        };
        let session = status
            .session
            .as_ref()
            .map(|session| session.families.iter().map(|family| (*family, told(family))).collect());
        let range = match status.origin {
            PeerOrigin::Configured => None,
            PeerOrigin::Range(range) => Some(range),
        };
        (status.address, Peer { session, name: status.config.name, families: status.config.families, range })
    };
    router.peers().into_iter().map(peer).collect()
}

/// What there is at one moment.
#[derive(Debug)]
pub struct Seen<'a> {
    /// All that are configured.
    pub peers: BTreeMap<ScopedAddress, Peer>,
    /// Those of them that are other nodes, with these nodes' names.
    pub mesh: &'a BTreeMap<ScopedAddress, String>,
    /// Those of them that are where a default route points to.
    pub gateways: &'a BTreeMap<ScopedAddress, Family>,
    /// The listen ranges that are configured.
    pub ranges: BTreeSet<Prefix>,
    /// Peers that the operator has disabled, configured or not.
    pub disabled: BTreeSet<ScopedAddress>,
    /// In words, what of the configuration is known from before, and may be gone.
    pub unconfirmed: Vec<String>,
}

impl Seen<'_> {
    /// Who shows that a peer of the last run is back.
    fn counterpart(&self, address: &ScopedAddress, had: &Past) -> Option<&Peer> {
        if let Bond::Range(range) = &had.bond {
            let of_range = || self.peers.values().filter(|peer| peer.range == Some(*range));
            return of_range().find(|peer| missing(peer, had).is_none()).or_else(|| of_range().next());
        }
        // Nor has who is found by his interface an address of his own.
        let on_links = self.peers.iter().filter(|(at, _)| at.interface().is_some()).map(|(_, peer)| peer);
        let at_gateway = || {
            let at_gateways = self.gateways.keys().filter_map(|gateway| self.peers.get(gateway));
            at_gateways.chain(on_links.clone())
        };
        self.peers.get(address).or_else(|| at_gateway().find(|peer| peer.name == had.name))
    }
}

/// Whether this run has been measured by the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Latch {
    /// Not yet.
    Closed {
        /// Who was Established when the last run ended.
        last: Sessions,
        /// Who of them was back in this run, with its routes.
        back: BTreeSet<ScopedAddress>,
    },
    /// It was found good, and stays so.
    Open,
}

impl Latch {
    /// Ticks off who is back.
    pub fn tick(&mut self, seen: &Seen) {
        let Latch::Closed { last, back } = self else { return };
        let is_back = |(address, had): &(&ScopedAddress, &Past)| {
            seen.counterpart(address, had).is_some_and(|peer| missing(peer, had).is_none())
        };
        back.extend(last.iter().filter(is_back).map(|(address, _)| address.clone()));
    }

    /// Who is waited for; nobody, when all are back.
    pub fn awaits(&self, seen: &Seen) -> BTreeMap<ScopedAddress, Awaited> {
        let Latch::Closed { last, back } = self else { return BTreeMap::new() };
        let mut ranges = BTreeSet::new();
        let awaited = |(address, had): (&ScopedAddress, &Past)| {
            let is_back = back.contains(address);
            let why = match (&had.bond, seen.counterpart(address, had)) {
                _ if seen.disabled.contains(address) => None,
                // One line for all of them.
                (Bond::Range(range), _) if seen.ranges.contains(range) => {
                    let is_served = is_back || !ranges.insert(*range);
                    (!is_served).then_some(Why::NobodyFrom(*range))
                }
                (_, Some(peer)) => unread(peer, had).or_else(|| missing(peer, had).filter(|_| !is_back)),
                // The mesh follows the Nodes: who is none of it any more, or all of it, was taken out.
                (Bond::Node(_), None) => None,
                (_, None) => Some(Why::NotConfigured),
            }?;
            let name = seen.peers.get(address).map_or(&had.name, |peer| &peer.name);
            let name = if name.is_empty() { address.to_string() } else { name.clone() };
            Some((address.clone(), Awaited { name, address: address.clone(), bond: had.bond.clone(), why }))
        };
        last.iter().filter_map(awaited).collect()
    }

    /// What the next run should find, if this one ended now.
    pub fn to_record(&self, seen: &Seen) -> Sessions {
        let mut sessions = match self {
            Latch::Closed { last, .. } => last.clone(),
            Latch::Open => Sessions::new(),
        };
        for (address, peer) in &seen.peers {
            let Some(session) = &peer.session else { continue };
            let mut families: BTreeSet<Family> = session.keys().copied().collect();
            families.extend(sessions.remove(address).into_iter().flat_map(|had| had.families));
            let bond = match (peer.range, seen.mesh.get(address)) {
                (Some(range), _) => Bond::Range(range),
                (None, Some(node)) => Bond::Node(node.clone()),
                (None, None) => Bond::Named,
            };
            sessions.insert(address.clone(), Past { name: peer.name.clone(), bond, families });
        }
        sessions
    }
}

/// A peer of the last run that is waited for. Its words say what frees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    /// What it is called, now or in the last run; its address, where that is not known.
    pub name: String,
    address: ScopedAddress,
    bond: Bond,
    why: Why,
}

impl Awaited {
    /// Nothing that can be named is configured for it.
    pub fn is_not_configured(&self) -> bool {
        self.why == Why::NotConfigured
    }
}

/// What this run lacks of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    NotConfigured,
    NobodyFrom(Prefix),
    FamilyNotConfigured(Family),
    Away,
    NotCarried(Family),
    NotTold(Family),
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Awaited { name, address, bond, why } = self;
        match why {
            Why::NotConfigured => write!(
                f,
                "{name} ({address}): had a session in the last run, and is not configured as this version reads it"
            )?,
            Why::NobodyFrom(range) => {
                write!(
                    f,
                    "a session with one of the peers from {range}, as {name} ({address}) in the last run"
                )?;
            }
            Why::FamilyNotConfigured(family) => write!(
                f,
                "{name} ({address}): carried {family} in the last run, which is not configured as this version reads it"
            )?,
            Why::Away => write!(f, "the session with {name} ({address}), which the last run had")?,
            Why::NotCarried(family) => {
                write!(f, "{family} in the session with {name} ({address}), which the last run had")?;
            }
            Why::NotTold(family) => {
                write!(f, "the {family} routes of {name} ({address}), which the last run had")?;
            }
        }
        match (why, bond) {
            // The session itself is well: disabling the peer would cost it. And in a range there may be others.
            (Why::FamilyNotConfigured(_) | Why::NotCarried(_) | Why::NobodyFrom(_), _) => {
                write!(f, "; if that is meant: remove {}, and start the daemon anew", record::FILE)
            }
            // By its address: the name may be that of a peer at another one.
            (Why::NotConfigured, _) => write!(f, "; if that is meant: `cambric disable {address}`"),
            (_, Bond::Node(node)) => {
                write!(
                    f,
                    "; if it is gone for good: delete the Node object {node}, or `cambric disable {name}`"
                )
            }
            _ => write!(f, "; if it is gone for good: `cambric disable {name}`"),
        }
    }
}

/// The latch as others see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Shown {
    /// Nobody has looked at the peers yet.
    #[default]
    Unseen,
    /// Not all is there.
    Closed {
        /// Who is waited for; nobody, while something else is missing.
        awaited: BTreeMap<ScopedAddress, Awaited>,
        /// As [`Seen::unconfirmed`]; nothing, where the last run had nobody.
        unconfirmed: Vec<String>,
    },
    /// It stays so.
    Open,
}

impl Shown {
    /// In words, who and what is waited for.
    pub fn awaits(&self) -> Vec<String> {
        let Shown::Closed { awaited, unconfirmed } = self else { return Vec::new() };
        let more = awaited.len().saturating_sub(FEW);
        let mut words: Vec<String> = awaited.values().take(FEW).map(Awaited::to_string).collect();
        words.extend((more > 0).then(|| format!("{more} more peers of the last run")));
        words.extend(unconfirmed.iter().cloned());
        words
    }

    /// Those among them that are no peers as far as the speaker knows, with their names.
    pub fn not_configured(&self) -> BTreeMap<ScopedAddress, String> {
        let Shown::Closed { awaited, .. } = self else { return BTreeMap::new() };
        let strangers = awaited.iter().filter(|(_, awaited)| awaited.is_not_configured());
        strangers.map(|(address, awaited)| (address.clone(), awaited.name.clone())).collect()
    }
}

/// The latch and its record, in the hands of the main loop.
#[derive(Debug)]
pub struct Keeper {
    latch: Latch,
    record: Record,
    changed: bool,
}

impl Keeper {
    /// Measured by what the last run of this boot left.
    ///
    /// # Errors
    /// As [`Record::open`].
    pub fn start(run_dir: &Path) -> io::Result<Keeper> {
        let (record, last) = Record::open(run_dir)?;
        let latch = Latch::Closed { last: last.unwrap_or_default(), back: BTreeSet::new() };
        Ok(Keeper { latch, record, changed: false })
    }

    /// Where the last run had sessions over link-local addresses, by the link.
    pub fn last_on_links(&self) -> BTreeMap<String, Ipv6Addr> {
        let Latch::Closed { last, .. } = &self.latch else { return BTreeMap::new() };
        let on_link = |at: &ScopedAddress| match at.ip() {
            IpAddr::V6(v6) => Some((at.interface()?.to_owned(), v6)),
            IpAddr::V4(_) => None,
        };
        last.keys().filter_map(on_link).collect()
    }

    /// A session has come or gone, or other peers are configured.
    pub fn note_change(&mut self) {
        self.changed = true;
    }

    /// Whether the record may say something else than there is.
    pub fn has_changed(&self) -> bool {
        self.changed
    }

    /// Whether it may open, or the record has to be tried again: a look now and then is called for.
    pub fn is_unsettled(&self) -> bool {
        self.is_closed() || self.record.is_behind()
    }

    fn is_closed(&self) -> bool {
        self.latch != Latch::Open
    }

    /// Opens the latch if nobody is waited for and nothing else is missing, and makes the record say what there is.
    pub fn look(&mut self, seen: &Seen, is_rest_there: bool) -> Shown {
        self.changed = false;
        self.latch.tick(seen);
        let awaited = self.latch.awaits(seen);
        let is_measured = matches!(&self.latch, Latch::Closed { last, .. } if !last.is_empty());
        let unconfirmed = if is_measured { seen.unconfirmed.clone() } else { Vec::new() };
        if self.is_closed() && awaited.is_empty() && unconfirmed.is_empty() && is_rest_there {
            tracing::info!("ready: no peer of the last run is waited for");
            self.latch = Latch::Open;
        }
        self.record.set(self.latch.to_record(seen));
        if self.is_closed() { Shown::Closed { awaited, unconfirmed } } else { Shown::Open }
    }
}

/// What of the peer's families is not configured any more, as far as this version can tell.
fn unread(peer: &Peer, had: &Past) -> Option<Why> {
    had.families.difference(&peer.families).next().map(|family| Why::FamilyNotConfigured(*family))
}

/// What a peer's session lacks of what the last run had.
fn missing(peer: &Peer, had: &Past) -> Option<Why> {
    let Some(session) = &peer.session else { return Some(Why::Away) };
    had.families.intersection(&peer.families).find_map(|family| match session.get(family) {
        Some(Told::All) => None,
        Some(Told::Awaited) => Some(Why::NotTold(*family)),
        None => Some(Why::NotCarried(*family)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use Family::{Ipv4, Ipv6};
    use Told::{All, Awaited};

    type Session = Option<&'static [(Family, Told)]>;

    const TOR_A: &str = "10.0.1.1";
    const TOR_B: &str = "10.0.1.2";
    const BOTH: &[(Family, Told)] = &[(Ipv4, All), (Ipv6, All)];

    fn address(text: &str) -> ScopedAddress {
        text.parse().expect("address")
    }

    fn had(entries: &[(&str, &str, &[Family])]) -> Sessions {
        let past = |name: &str, families: &[Family]| Past {
            name: name.to_owned(),
            bond: Bond::Named,
            families: families.iter().copied().collect(),
        };
        entries.iter().map(|(name, at, families)| (address(at), past(name, families))).collect()
    }

    fn measured_by(last: Sessions) -> Latch {
        Latch::Closed { last, back: BTreeSet::new() }
    }

    /// The node n2, a peer of the mesh.
    fn node() -> Sessions {
        let past = Past { name: "n2".to_owned(), bond: Bond::Node("n2".to_owned()), families: [Ipv4].into() };
        [(address("10.0.9.2"), past)].into()
    }

    /// Dual-stack peers.
    fn seen(peers: &[(&str, &str, Session)]) -> Seen<'static> {
        let peer = |name: &str, session: Session| Peer {
            name: name.to_owned(),
            families: [Ipv4, Ipv6].into(),
            session: session.map(|session| session.iter().copied().collect()),
            range: None,
        };
        Seen {
            peers: peers.iter().map(|(name, at, session)| (address(at), peer(name, *session))).collect(),
            mesh: const { &BTreeMap::new() },
            gateways: const { &BTreeMap::new() },
            ranges: BTreeSet::new(),
            disabled: BTreeSet::new(),
            unconfirmed: Vec::new(),
        }
    }

    fn shown(awaited: BTreeMap<ScopedAddress, super::Awaited>) -> Shown {
        Shown::Closed { awaited, unconfirmed: Vec::new() }
    }

    fn words(latch: &Latch, seen: &Seen) -> Vec<String> {
        shown(latch.awaits(seen)).awaits()
    }

    #[test]
    fn a_peer_that_was_up_is_waited_for_until_it_has_told_its_routes_of_all_families() {
        let latch = measured_by(had(&[("tor-a", TOR_A, &[Ipv4, Ipv6])]));
        let awaits = |session| {
            let words = words(&latch, &seen(&[("tor-a", TOR_A, session)]));
            words
                .into_iter()
                .map(|line| line.split_once(';').expect("a way out").0.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(awaits(None), ["the session with tor-a (10.0.1.1), which the last run had"]);
        let half = &[(Ipv4, All), (Ipv6, Awaited)][..];
        assert_eq!(awaits(Some(half)), ["the ipv6 routes of tor-a (10.0.1.1), which the last run had"]);
        let one = &[(Ipv4, All)][..];
        assert_eq!(awaits(Some(one)), ["ipv6 in the session with tor-a (10.0.1.1), which the last run had"]);
        assert_eq!(awaits(Some(BOTH)), [""; 0]);
    }

    #[test]
    fn who_was_away_or_is_disabled_is_not_waited_for() {
        let none = measured_by(Sessions::new());
        assert_eq!(words(&none, &seen(&[("tor-a", TOR_A, None)])), [""; 0], "a first run");
        let latch = measured_by(had(&[("tor-a", TOR_A, &[Ipv4])]));
        for peers in [&[("tor-a", TOR_A, None)][..], &[]] {
            let disabled = Seen { disabled: [address(TOR_A)].into(), ..seen(peers) };
            assert_eq!(words(&latch, &disabled), [""; 0]);
        }
    }

    #[test]
    fn what_this_version_reads_nothing_of_is_waited_for() {
        let mut latch = measured_by(had(&[("tor-a", TOR_A, &[Ipv4, Ipv6])]));
        let gone = "tor-a (10.0.1.1): had a session in the last run, and is not configured as this version reads it; \
            if that is meant: `cambric disable 10.0.1.1`";
        assert_eq!(words(&latch, &seen(&[("tor-b", TOR_B, None)])), [gone]);
        let mut one_family = seen(&[("tor-a", TOR_A, Some(&[(Ipv4, All)]))]);
        one_family.peers.values_mut().for_each(|peer| peer.families = [Ipv4].into());
        let family = "tor-a (10.0.1.1): carried ipv6 in the last run, which is not configured as this version reads \
            it; if that is meant: remove peers.json, and start the daemon anew";
        assert_eq!(words(&latch, &one_family), [family]);
        latch.tick(&seen(&[("tor-a", TOR_A, Some(BOTH))]));
        assert_eq!(words(&latch, &seen(&[])), [gone], "what a snapshot knew, and the server did not confirm");
    }

    #[test]
    fn a_node_is_waited_for_as_long_as_it_is_one_of_the_mesh() {
        let latch = measured_by(node());
        assert_eq!(words(&latch, &seen(&[])), [""; 0], "its Node was deleted, or the mesh was turned off");
        let away = words(&latch, &seen(&[("n2", "10.0.9.2", None)]));
        let expected = "the session with n2 (10.0.9.2), which the last run had; if it is gone for good: delete the \
            Node object n2, or `cambric disable n2`";
        assert_eq!(away, [expected]);
    }

    #[test]
    fn a_peer_at_the_gateway_is_waited_for_where_the_route_points_to_now() {
        let mut latch = measured_by(had(&[("tor", TOR_A, &[Ipv4])]));
        let gateways = [(address(TOR_B), Ipv4)].into();
        let away = words(&latch, &Seen { gateways: &gateways, ..seen(&[("tor", TOR_B, None)]) });
        assert!(away[0].starts_with("the session with tor (10.0.1.1), which the last run had"), "{away:?}");
        let other = Seen { gateways: &gateways, ..seen(&[("another", TOR_B, Some(BOTH))]) };
        assert!(words(&latch, &other)[0].contains("is not configured"), "it is another peer");
        let back = Seen { gateways: &gateways, ..seen(&[("tor", TOR_B, Some(BOTH))]) };
        latch.tick(&back);
        assert_eq!(words(&latch, &back), [""; 0]);
    }

    #[test]
    fn of_a_listen_range_one_peer_is_waited_for_whichever_it_is() {
        let range: Prefix = "10.0.1.0/24".parse().expect("range");
        let of_range = |peers: &[(&str, &str, Session)]| {
            let mut seen = Seen { ranges: [range].into(), ..seen(peers) };
            seen.peers.values_mut().for_each(|peer| peer.range = Some(range));
            seen
        };
        let up = of_range(&[("racks", TOR_A, Some(BOTH)), ("racks", TOR_B, Some(BOTH))]);
        let last = Latch::Open.to_record(&up);
        assert!(last.values().all(|past| past.bond == Bond::Range(range)), "{last:?}");
        let mut latch = measured_by(last);
        let waits = "a session with one of the peers from 10.0.1.0/24, as racks (10.0.1.1) in the last run; if that \
            is meant: remove peers.json, and start the daemon anew";
        assert_eq!(words(&latch, &of_range(&[])), [waits]);
        let not_told = of_range(&[("racks", TOR_B, Some(&[(Ipv4, Awaited), (Ipv6, All)]))]);
        assert_eq!(words(&latch, &not_told), [waits]);
        let gone = words(&latch, &seen(&[]));
        assert!(gone.len() == 2 && gone[0].contains("is not configured"), "{gone:?}");
        latch.tick(&of_range(&[("racks", "10.0.1.3", Some(BOTH))]));
        assert_eq!(words(&latch, &of_range(&[])), [""; 0], "somebody has come, who was not there before");
    }

    #[test]
    fn who_frees_a_peer_that_is_not_configured_finds_it_by_its_name() {
        let latch = measured_by(had(&[("tor-a", TOR_A, &[Ipv4]), ("tor-b", TOR_B, &[Ipv4])]));
        let shown = shown(latch.awaits(&seen(&[("tor-b", TOR_B, None)])));
        assert_eq!(shown.not_configured(), [(address(TOR_A), "tor-a".to_owned())].into());
    }

    #[test]
    fn each_is_ticked_off_by_itself() {
        let mut latch = measured_by(had(&[("tor-a", TOR_A, &[Ipv4]), ("tor-b", TOR_B, &[Ipv4])]));
        latch.tick(&seen(&[("tor-a", TOR_A, Some(BOTH)), ("tor-b", TOR_B, None)]));
        let other = seen(&[("tor-a", TOR_A, None), ("tor-b", TOR_B, Some(BOTH))]);
        assert!(words(&latch, &seen(&[("tor-a", TOR_A, None), ("tor-b", TOR_B, None)]))[0].contains("tor-b"));
        latch.tick(&other);
        assert_eq!(words(&latch, &other), [""; 0]);
    }

    #[test]
    fn an_open_latch_waits_for_nobody() {
        assert_eq!(Latch::Open.awaits(&seen(&[("tor-a", TOR_A, None)])), BTreeMap::new());
    }

    #[test]
    fn the_record_of_a_run_that_was_not_ready_only_grows() {
        let one = had(&[("tor-a", TOR_A, &[Ipv4, Ipv6])]);
        let mut latch = measured_by(one.clone());
        let peers = seen(&[("tor-a", TOR_A, None), ("tor-b", TOR_B, Some(&[(Ipv4, Awaited)]))]);
        let two = had(&[("tor-a", TOR_A, &[Ipv4, Ipv6]), ("tor-b", TOR_B, &[Ipv4])]);
        assert_eq!(latch.to_record(&peers), two);
        latch.tick(&seen(&[("tor-a", TOR_A, Some(BOTH))]));
        assert_eq!(latch.to_record(&seen(&[])), one, "a version that sees no peers at all");
        assert_eq!(latch.to_record(&seen(&[("tor-a", TOR_A, Some(&[(Ipv4, All)]))])), one);
    }

    #[test]
    fn the_record_of_a_run_that_was_ready_follows_the_sessions() {
        let peers = seen(&[("tor-a", TOR_A, None), ("tor-b", TOR_B, Some(&[(Ipv4, Awaited)]))]);
        assert_eq!(Latch::Open.to_record(&peers), had(&[("tor-b", TOR_B, &[Ipv4])]));
        let mesh = [(address("10.0.9.2"), "n2".to_owned())].into();
        let peers = Seen { mesh: &mesh, ..seen(&[("n2", "10.0.9.2", Some(&[(Ipv4, All)]))]) };
        assert_eq!(Latch::Open.to_record(&peers), node());
    }

    #[test]
    fn the_latch_opens_when_nothing_else_is_missing_and_what_the_next_run_finds_follows_from_then_on() {
        let folder = tempfile::tempdir().expect("folder");
        let (up, down) = (seen(&[("tor-a", TOR_A, Some(BOTH))]), seen(&[("tor-a", TOR_A, None)]));
        let run = || Keeper::start(folder.path()).expect("a boot ID");
        let awaits_one = |shown: &Shown| matches!(shown, Shown::Closed { awaited, .. } if awaited.len() == 1);
        assert_eq!(run().look(&up, true), Shown::Open, "a first run");
        for _ in 0..2 {
            assert!(awaits_one(&run().look(&down, true)), "a version that fails");
            assert!(awaits_one(&run().look(&seen(&[]), true)), "a version that reads nothing of it");
        }
        let mut last = run();
        assert_eq!(last.look(&up, false), shown(BTreeMap::new()));
        assert_eq!(last.look(&down, true), Shown::Open, "it was back, whatever became of it");
        assert_eq!(last.look(&down, false), Shown::Open, "an outage undoes nothing");
        assert_eq!(run().look(&down, true), Shown::Open, "it was away when the last run ended");
    }

    #[test]
    fn what_a_snapshot_tells_is_no_measure_until_the_server_confirms_it() {
        let folder = tempfile::tempdir().expect("folder");
        let run = || Keeper::start(folder.path()).expect("a boot ID");
        let up = || seen(&[("tor-a", TOR_A, Some(BOTH))]);
        let unconfirmed = Seen { unconfirmed: vec!["BGPClusterConfig".to_owned()], ..up() };
        assert_eq!(run().look(&unconfirmed, true), Shown::Open, "a first run");
        let mut second = run();
        assert_eq!(second.look(&unconfirmed, true).awaits(), ["BGPClusterConfig"]);
        assert_eq!(second.look(&seen(&[]), true).awaits().len(), 1, "it went, and the peer with it");
        assert_eq!(second.look(&up(), true), Shown::Open);
    }

    #[test]
    fn of_many_peers_a_few_are_named() {
        let at = |number: usize| format!("10.0.1.{number}");
        let past = Past { name: "n".to_owned(), bond: Bond::Named, families: [Ipv4].into() };
        let last = measured_by((1..=9).map(|nth| (address(&at(nth)), past.clone())).collect());
        let words = words(&last, &seen(&[]));
        assert_eq!((words.len(), words[5].as_str()), (6, "4 more peers of the last run"));
    }
}
