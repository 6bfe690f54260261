//! Readiness latches: a run is ready once it has every session back that the run before it had.
//!
//! Whoever updates a cluster goes on to the next node when this one is ready. A version that cannot speak with a switch
//! must therefore not become ready at the first node, and so the [`record`] of the last run says who there was: each
//! peer that was Established, in which families. It is waited for until it is so again, and has told its routes. Not
//! waited for is who was away already, and who is not configured any more or disabled: waiting would not bring it back.
//!
//! Once all are back and everything else is there, the run is measured: no outage undoes that, and from then on the
//! record follows the sessions as they come and go. Before, it only grows: a version that fails again and again does
//! not erase what it is measured by. Nothing is written on the way down, where sessions end for no fault of theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use cambric_bgp::{Admin, Family, Router};

pub mod record;

use record::Record;

/// Peers that are Established, and the families their sessions carry.
pub type Sessions = BTreeMap<IpAddr, BTreeSet<Family>>;

/// Most peers that are named; a mesh may have a thousand.
const FEW: usize = 5;

/// A configured peer, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// As configured.
    pub name: String,
    /// Where it is.
    pub address: IpAddr,
    /// Whether the operator lets it be.
    pub admin: Admin,
    /// Families that a session with it shall carry.
    pub families: BTreeSet<Family>,
    /// Families that its session carries, each with whether the peer has told its routes; `None`: it has no session.
    pub session: Option<BTreeMap<Family, Told>>,
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
pub fn peers(router: &Router, now: Instant) -> Vec<Peer> {
    let peer = |status: cambric_bgp::router::PeerStatus| {
        let told = |family: &Family| match router.has_told(now, status.id, *family) {
            true => Told::All,
            false => Told::Awaited,
        };
        Peer {
            session: status
                .session
                .as_ref()
                .map(|session| session.families.iter().map(|family| (*family, told(family))).collect()),
            name: status.config.name,
            address: status.address,
            admin: status.admin,
            families: status.config.families,
        }
    };
    router.peers().into_iter().map(peer).collect()
}

/// Whether this run has been measured by the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Latch {
    /// Not yet.
    Closed {
        /// Who was Established when the last run ended.
        last: Sessions,
    },
    /// It was found good, and stays so.
    Open,
}

impl Latch {
    /// Who is waited for, in words; nobody, when all are back.
    pub fn awaits(&self, peers: &[Peer]) -> Vec<String> {
        let Latch::Closed { last } = self else { return Vec::new() };
        let mut awaited: Vec<String> = peers
            .iter()
            .filter_map(|peer| {
                let why = missing(peer, last.get(&peer.address)?)?;
                Some(format!("{why} {} ({}), which the last run had", peer.name, peer.address))
            })
            .collect();
        let more = awaited.len().saturating_sub(FEW);
        awaited.truncate(FEW);
        awaited.extend((more > 0).then(|| format!("the same of {more} more peers")));
        awaited
    }

    /// What the next run should find, if this one ended now.
    pub fn to_record(&self, peers: &[Peer]) -> Sessions {
        let mut sessions = match self {
            Latch::Closed { last } => last.clone(),
            Latch::Open => Sessions::new(),
        };
        for peer in peers {
            let families = peer.session.iter().flat_map(BTreeMap::keys);
            if peer.session.is_some() {
                sessions.entry(peer.address).or_default().extend(families);
            }
        }
        sessions
    }
}

/// The latch as others see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Shown {
    /// Nobody has looked at the peers yet.
    #[default]
    Unseen,
    /// In words, who is waited for; nobody, while something else is missing.
    Closed(Vec<String>),
    /// It stays so.
    Open,
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
        Ok(Keeper { latch: Latch::Closed { last: last.unwrap_or_default() }, record, changed: false })
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

    /// Opens the latch if all peers are back and nothing else is missing, and makes the record say what there is.
    pub fn look(&mut self, peers: &[Peer], is_rest_there: bool) -> Shown {
        self.changed = false;
        let awaited = self.latch.awaits(peers);
        if self.is_closed() && awaited.is_empty() && is_rest_there {
            tracing::info!("ready: every session that the last run had is back");
            self.latch = Latch::Open;
        }
        self.record.set(self.latch.to_record(peers));
        if self.is_closed() { Shown::Closed(awaited) } else { Shown::Open }
    }
}

/// What of a peer that the last run had this one lacks.
fn missing(peer: &Peer, had: &BTreeSet<Family>) -> Option<String> {
    if peer.admin == Admin::Disabled {
        return None;
    }
    let Some(session) = &peer.session else { return Some("the session with".to_owned()) };
    had.intersection(&peer.families).find_map(|family| match session.get(family) {
        Some(Told::All) => None,
        Some(Told::Awaited) => Some(format!("the {family} routes of")),
        None => Some(format!("{family} in the session with")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use Family::{Ipv4, Ipv6};
    use Told::{All, Awaited};

    fn address(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    fn had(entries: &[(&str, &[Family])]) -> Sessions {
        entries.iter().map(|(at, families)| (address(at), families.iter().copied().collect())).collect()
    }

    fn closed(entries: &[(&str, &[Family])]) -> Latch {
        Latch::Closed { last: had(entries) }
    }

    /// A dual-stack peer.
    fn peer(name: &str, at: &str, session: Option<&[(Family, Told)]>) -> Peer {
        Peer {
            name: name.to_owned(),
            address: address(at),
            admin: Admin::Enabled,
            families: [Ipv4, Ipv6].into(),
            session: session.map(|session| session.iter().copied().collect()),
        }
    }

    const TOR_A: &str = "10.0.1.1";
    const TOR_B: &str = "10.0.1.2";
    const BOTH: &[(Family, Told)] = &[(Ipv4, All), (Ipv6, All)];

    #[test]
    fn a_peer_that_was_up_is_waited_for_until_it_has_told_its_routes_of_all_families() {
        let latch = closed(&[(TOR_A, &[Ipv4, Ipv6])]);
        let awaits = |session| latch.awaits(&[peer("tor-a", TOR_A, session)]);
        assert_eq!(awaits(None), ["the session with tor-a (10.0.1.1), which the last run had"]);
        let half = &[(Ipv4, All), (Ipv6, Awaited)][..];
        assert_eq!(awaits(Some(half)), ["the ipv6 routes of tor-a (10.0.1.1), which the last run had"]);
        let one = &[(Ipv4, All)][..];
        assert_eq!(awaits(Some(one)), ["ipv6 in the session with tor-a (10.0.1.1), which the last run had"]);
        assert_eq!(awaits(Some(BOTH)), [""; 0]);
    }

    #[test]
    fn who_was_away_is_gone_from_the_configuration_or_is_disabled_is_not_waited_for() {
        let latch = closed(&[(TOR_A, &[Ipv4])]);
        assert_eq!(latch.awaits(&[peer("tor-b", TOR_B, None)]), [""; 0], "tor-a is not configured");
        let disabled = Peer { admin: Admin::Disabled, ..peer("tor-a", TOR_A, None) };
        assert_eq!(latch.awaits(&[disabled]), [""; 0]);
        let family_gone = Peer { families: [Ipv6].into(), ..peer("tor-a", TOR_A, Some(&[(Ipv6, Awaited)])) };
        assert_eq!(latch.awaits(&[family_gone]), [""; 0]);
        assert_eq!(closed(&[]).awaits(&[peer("tor-a", TOR_A, None)]), [""; 0], "a first run");
    }

    #[test]
    fn an_open_latch_waits_for_nobody() {
        assert_eq!(Latch::Open.awaits(&[peer("tor-a", TOR_A, None)]), [""; 0]);
    }

    #[test]
    fn the_record_of_a_run_that_was_not_ready_only_grows() {
        let latch = closed(&[(TOR_A, &[Ipv4, Ipv6])]);
        let peers = [peer("tor-a", TOR_A, None), peer("tor-b", TOR_B, Some(&[(Ipv4, Awaited)]))];
        assert_eq!(latch.to_record(&peers), had(&[(TOR_A, &[Ipv4, Ipv6]), (TOR_B, &[Ipv4])]));
        assert_eq!(
            latch.to_record(&[]),
            had(&[(TOR_A, &[Ipv4, Ipv6])]),
            "a version that sees no peers at all"
        );
        let less = [peer("tor-a", TOR_A, Some(&[(Ipv4, All)]))];
        assert_eq!(latch.to_record(&less), had(&[(TOR_A, &[Ipv4, Ipv6])]));
    }

    #[test]
    fn the_record_of_a_run_that_was_ready_follows_the_sessions() {
        let peers = [peer("tor-a", TOR_A, None), peer("tor-b", TOR_B, Some(&[(Ipv4, Awaited)]))];
        assert_eq!(Latch::Open.to_record(&peers), had(&[(TOR_B, &[Ipv4])]));
    }

    #[test]
    fn the_latch_opens_when_nothing_else_is_missing_and_what_the_next_run_finds_follows_from_then_on() {
        let folder = tempfile::tempdir().expect("folder");
        let (up, down) = ([peer("tor-a", TOR_A, Some(BOTH))], [peer("tor-a", TOR_A, None)]);
        let awaited = vec!["the session with tor-a (10.0.1.1), which the last run had".to_owned()];
        let run = || Keeper::start(folder.path()).expect("a boot ID");
        assert_eq!(run().look(&up, true), Shown::Open, "a first run");
        for _ in 0..2 {
            assert_eq!(run().look(&down, true), Shown::Closed(awaited.clone()), "a version that fails");
        }
        let mut third = run();
        assert_eq!(third.look(&up, false), Shown::Closed(Vec::new()));
        assert_eq!(third.look(&down, true), Shown::Closed(awaited), "it went before the rest was there");
        assert_eq!(third.look(&up, true), Shown::Open);
        assert_eq!(third.look(&down, false), Shown::Open, "an outage undoes nothing");
        assert_eq!(run().look(&down, true), Shown::Open, "it was away when the last run ended");
    }

    #[test]
    fn of_many_peers_a_few_are_named() {
        let at = |number: usize| format!("10.0.1.{number}");
        let last = Latch::Closed { last: (1..=9).map(|nth| (address(&at(nth)), [Ipv4].into())).collect() };
        let peers: Vec<Peer> = (1..=9).map(|nth| peer(&format!("n{nth}"), &at(nth), None)).collect();
        let awaited = last.awaits(&peers);
        assert_eq!((awaited.len(), awaited[5].as_str()), (6, "the same of 4 more peers"));
    }
}
