//! What one station still has to hear.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Change, Tables};
use crate::attributes::AttributeSet;
use crate::config::MonitoredTable;
use crate::peer::{Identity, Peer};
use crate::prefix::{Family, Prefix};
use crate::rib::{Part, Rib};
use crate::session::{AddPath, AsWidth, Session};
use crate::types::{HoldTime, PeerId};
use crate::wire::bmp::{self, Down, Ends, Policy, Source, Teller};
use crate::wire::capability::{ExtendedNextHop, four_octet_as};
use crate::wire::frame::{EXTENDED_MESSAGE_BYTES, STANDARD_MESSAGE_BYTES};
use crate::wire::{Capability, Nlri, Open, update};

/// What a feed looks at.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) peers: &'a BTreeMap<PeerId, Peer>,
    pub(crate) rib: &'a Rib,
}

impl<'a> View<'a> {
    fn session(&self, peer: PeerId) -> Option<(&'a Session, Instant)> {
        let (_, session, since) = self.peers.get(&peer)?.established()?;
        Some((session, since))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Feed {
    tables: Tables,
    /// Whether it knows who we are.
    introduced: bool,
    /// Sessions that it believes to be up.
    up: BTreeMap<PeerId, Shown>,
    /// Parts of tables that it has not seen yet, in the order in which it does.
    unseen: VecDeque<Unseen>,
    /// Paths that changed since it saw them, or that it has not seen.
    told: BTreeSet<(PeerId, Nlri)>,
    chosen: BTreeSet<Prefix>,
}

/// A session as the station knows it.
#[derive(Debug)]
struct Shown {
    since: Instant,
    source: Source,
    /// How its routes are written.
    form: Session,
}

#[derive(Debug)]
struct Unseen {
    table: Table,
    /// What of it; `None` before its turn.
    prefixes: Option<Vec<Prefix>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Told(PeerId),
    Chosen,
}

/// Whether a station may know of a route that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    IsTold,
    /// It sees this part of the table for the first time.
    IsUnknown,
}

/// Routes that one table holds now, or does not any more.
#[derive(Default)]
struct Batch {
    announced: Vec<(Arc<AttributeSet>, Vec<Nlri>)>,
    withdrawn: BTreeMap<Family, Vec<Nlri>>,
}

impl Batch {
    fn take(&mut self, route: Nlri, attributes: Option<Arc<AttributeSet>>, gone: Gone) {
        let family = route.prefix.family();
        let Some(attributes) = attributes else {
            if gone == Gone::IsTold {
                self.withdrawn.entry(family).or_default().push(route);
            }
            return;
        };
        // Neighbours in a table often have one set; and one family to a message.
        match self.announced.last_mut() {
            Some((same, routes))
                if Arc::ptr_eq(same, &attributes)
                    && routes.last().is_some_and(|last| last.prefix.family() == family) =>
            {
                routes.push(route);
            }
            _ => self.announced.push((attributes, vec![route])),
        }
    }

    fn write(&self, source: &Source, form: &Session, out: &mut Vec<u8>) {
        let mut updates = Vec::new();
        for routes in self.withdrawn.values() {
            update::write_withdraw(&mut updates, form, routes);
        }
        for (attributes, routes) in &self.announced {
            if update::write_announce(&mut updates, form, attributes, routes).is_err() {
                // It came in a long message, and does not fit a shorter one.
                let long = Session { most_message_bytes: EXTENDED_MESSAGE_BYTES, ..form.clone() };
                if update::write_announce(&mut updates, &long, attributes, routes).is_err() {
                    tracing::debug!("a route has more attributes than any message: no station is told");
                }
            }
        }
        bmp::write_route_monitoring(out, source, &updates);
    }
}

impl Feed {
    /// Octets after which a station must take some first.
    const ROOM: usize = 64 << 10;
    /// Prefixes looked at in one go.
    const PIECE: usize = 256;
    /// And goes: a table of which a station is told nothing, for all is refused, is looked at in more than one turn, too.
    const PIECES: usize = 64;

    pub(super) fn new(tables: Tables) -> Feed {
        Feed {
            tables,
            introduced: false,
            up: BTreeMap::new(),
            unseen: VecDeque::new(),
            told: BTreeSet::new(),
            chosen: BTreeSet::new(),
        }
    }

    pub(super) fn note(&mut self, change: Change) {
        match change {
            Change::Told(peer, route) if self.up.contains_key(&peer) => {
                self.told.insert((peer, route));
            }
            Change::Chosen(prefix) if self.introduced && self.tells_of_chosen() => {
                self.chosen.insert(prefix);
            }
            // It will be seen with the rest, or nobody looks.
            Change::Told(..) | Change::Chosen(_) => {}
        }
    }

    pub(super) fn wants(&self, view: &View<'_>) -> bool {
        !self.introduced
            || !self.unseen.is_empty()
            || !self.told.is_empty()
            || !self.chosen.is_empty()
            || self.gone(view).next().is_some()
            || self.new_sessions(view).next().is_some()
    }

    pub(super) fn transmit(&mut self, system: &str, view: &View<'_>, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.introduced, true) {
            bmp::write_initiation(out, system, concat!("Cambric ", env!("CARGO_PKG_VERSION")));
            self.begin_chosen(view, out);
        }
        self.end_sessions(view, out);
        self.begin_sessions(view, out);
        for _ in 0..Self::PIECES {
            if out.len() >= Self::ROOM || !self.go_on(view, out) {
                break;
            }
        }
    }

    /// One piece of what is to be told; false if there is nothing more.
    fn go_on(&mut self, view: &View<'_>, out: &mut Vec<u8>) -> bool {
        if let Some(Unseen { table, prefixes }) = self.unseen.front_mut() {
            let table = *table;
            let prefixes = prefixes.get_or_insert_with(|| {
                let mut prefixes = view.rib.prefixes(match table {
                    Table::Told(peer) => Part::ToldBy(peer),
                    Table::Chosen => Part::All,
                });
                prefixes.sort_unstable();
                prefixes
            });
            let piece = prefixes.split_off(prefixes.len().saturating_sub(Self::PIECE));
            let is_last = prefixes.is_empty();
            self.show(view, table, &piece, out);
            if is_last {
                self.unseen.pop_front();
                self.end_of_rib(view, table, out);
            }
            return true;
        }
        let changed: Vec<(PeerId, Nlri)> =
            std::iter::from_fn(|| self.told.pop_first()).take(Self::PIECE).collect();
        let prefixes: Vec<Prefix> =
            std::iter::from_fn(|| self.chosen.pop_first()).take(Self::PIECE).collect();
        for of_peer in changed.chunk_by(|one, other| one.0 == other.0) {
            let routes: Vec<Nlri> = of_peer.iter().map(|(_, route)| *route).collect();
            self.tell(view, of_peer[0].0, &routes, Gone::IsTold, out);
        }
        self.tell_chosen(view, &prefixes, Gone::IsTold, out);
        !changed.is_empty() || !prefixes.is_empty()
    }

    // --- sessions ------------------------------------------------------------------------------------

    fn tells_of_peers(&self) -> bool {
        self.policies().next().is_some()
    }

    /// On which sides of the policy it looks.
    fn policies(&self) -> impl Iterator<Item = Policy> + use<> {
        let before = self.tables.contains(&MonitoredTable::AdjRibInPrePolicy).then_some(Policy::Before);
        let after = self.tables.contains(&MonitoredTable::AdjRibInPostPolicy).then_some(Policy::After);
        before.into_iter().chain(after)
    }

    /// Sessions that it believes to be up and that are not, or are others.
    fn gone<'a>(&'a self, view: &'a View<'_>) -> impl Iterator<Item = PeerId> + 'a {
        let is_up = |peer: PeerId, since: Instant| view.session(peer).is_some_and(|(_, now)| now == since);
        self.up.iter().filter(move |(peer, shown)| !is_up(**peer, shown.since)).map(|(peer, _)| *peer)
    }

    fn new_sessions<'a>(&'a self, view: &'a View<'_>) -> impl Iterator<Item = PeerId> + 'a {
        let is_new = |peer: &&Peer| peer.established().is_some() && !self.up.contains_key(&peer.id);
        view.peers.values().filter(move |peer| self.tells_of_peers() && is_new(peer)).map(|peer| peer.id)
    }

    fn end_sessions(&mut self, view: &View<'_>, out: &mut Vec<u8>) {
        for peer in self.gone(view).collect::<Vec<_>>() {
            let Some(shown) = self.up.remove(&peer) else { continue };
            let why = view.peers.get(&peer).map_or(Down::Removed, |peer| peer.last_end().clone());
            bmp::write_peer_down(out, &shown.source, &why);
            // All that it told is gone with it (RFC 7854 section 4.9).
            self.told.retain(|(teller, _)| *teller != peer);
            self.unseen.retain(|unseen| unseen.table != Table::Told(peer));
        }
    }

    fn begin_sessions(&mut self, view: &View<'_>, out: &mut Vec<u8>) {
        for id in self.new_sessions(view).collect::<Vec<_>>() {
            let Some(peer) = view.peers.get(&id) else { continue };
            let Some((session, since)) = view.session(id) else { continue };
            let teller = Teller::Peer { address: peer.address.ip(), policy: Policy::Before };
            let source =
                Source { teller, asn: session.peer_asn, router_id: session.peer_id, at: Duration::ZERO };
            let own_asn = peer.config.own_asn(view.identity.asn);
            let (ours, theirs) = session.opens(own_asn, view.identity.router_id);
            bmp::write_peer_up(out, &source, peer.ends(), &ours, &theirs);
            // As the peer would write them: the station knows its OPEN.
            let add_path = AddPath { send: session.add_path.receive.clone(), receive: [].into() };
            let form = Session {
                as_width: AsWidth::Four,
                most_message_bytes: STANDARD_MESSAGE_BYTES,
                add_path,
                ..session.clone()
            };
            self.up.insert(id, Shown { since, source, form });
            self.unseen.push_back(Unseen { table: Table::Told(id), prefixes: None });
        }
    }

    // --- what peers told -----------------------------------------------------------------------------

    fn show(&mut self, view: &View<'_>, table: Table, prefixes: &[Prefix], out: &mut Vec<u8>) {
        match table {
            Table::Chosen => self.tell_chosen(view, prefixes, Gone::IsUnknown, out),
            Table::Told(peer) => {
                let routes: Vec<Nlri> = view.rib.told_names(peer, prefixes);
                self.tell(view, peer, &routes, Gone::IsUnknown, out);
            }
        }
    }

    fn tell(&self, view: &View<'_>, peer: PeerId, routes: &[Nlri], gone: Gone, out: &mut Vec<u8>) {
        let Some(shown) = self.up.get(&peer) else { return };
        for policy in self.policies() {
            let mut batch = Batch::default();
            // A default route last: readers that guess whether there are path identifiers (bgpkit-parser does) take a zero
            // at the beginning for one.
            for route in routes.iter().rev() {
                batch.take(*route, view.rib.told_now(peer, route, policy), gone);
            }
            batch.write(&on_side(shown.source, policy), &shown.form, out);
        }
    }

    fn end_of_rib(&self, view: &View<'_>, table: Table, out: &mut Vec<u8>) {
        let Table::Told(peer) = table else {
            let mut updates = Vec::new();
            Family::ALL.into_iter().for_each(|family| update::write_end_of_rib(&mut updates, family));
            return bmp::write_route_monitoring(out, &ourselves(view), &updates);
        };
        let Some(shown) = self.up.get(&peer) else { return };
        for policy in self.policies() {
            let mut updates = Vec::new();
            shown.form.families.iter().for_each(|family| update::write_end_of_rib(&mut updates, *family));
            bmp::write_route_monitoring(out, &on_side(shown.source, policy), &updates);
        }
    }

    // --- what we chose -------------------------------------------------------------------------------

    fn tells_of_chosen(&self) -> bool {
        self.tables.contains(&MonitoredTable::LocRib)
    }

    fn begin_chosen(&mut self, view: &View<'_>, out: &mut Vec<u8>) {
        if !self.tells_of_chosen() {
            return;
        }
        let open = open_of_table(view);
        let ends = Ends { local: IpAddr::V4(Ipv4Addr::UNSPECIFIED), local_port: 0, remote_port: 0 };
        bmp::write_peer_up(out, &ourselves(view), ends, &open, &open);
        self.unseen.push_back(Unseen { table: Table::Chosen, prefixes: None });
    }

    fn tell_chosen(&self, view: &View<'_>, prefixes: &[Prefix], gone: Gone, out: &mut Vec<u8>) {
        if !self.tells_of_chosen() || prefixes.is_empty() {
            return;
        }
        let open = open_of_table(view);
        let mut batch = Batch::default();
        for prefix in prefixes.iter().rev() {
            batch.take((*prefix).into(), view.rib.chosen(prefix), gone);
        }
        batch.write(&ourselves(view), &Session::negotiate(&open, &open), out);
    }
}

/// What a table could say if it had a session: nobody sends it (RFC 9069 section 5.1).
fn open_of_table(view: &View<'_>) -> Open {
    let (asn, router_id) = (view.identity.asn, view.identity.router_id);
    let families = Family::ALL.into_iter().map(|family| Capability::MultiProtocol(family.into()));
    let ipv4_over_ipv6 = Capability::ExtendedNextHop(vec![ExtendedNextHop::IPV4_OVER_IPV6]);
    let rest = [ipv4_over_ipv6, Capability::ExtendedMessage, four_octet_as(asn)];
    let capabilities = families.chain(rest).collect();
    Open { asn, hold_time: HoldTime::DEFAULT, router_id, capabilities }
}

fn on_side(source: Source, side: Policy) -> Source {
    match source.teller {
        Teller::Peer { address, .. } => Source { teller: Teller::Peer { address, policy: side }, ..source },
        Teller::Ourselves => source,
    }
}

fn ourselves(view: &View<'_>) -> Source {
    let (asn, router_id) = (view.identity.asn, view.identity.router_id);
    Source { teller: Teller::Ourselves, asn, router_id, at: Duration::ZERO }
}
