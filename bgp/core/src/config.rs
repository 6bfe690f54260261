//! What the operator wants of the router: said as a whole, again and again; the router finds the
//! difference to what it has (see [`Router::apply`](crate::Router::apply)).

mod add_path;
mod drain;
mod monitoring;
mod originated;
mod role;
mod transport;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::filter::{Direction, Filter};
use crate::prefix::{Family, Prefix};
use crate::types::{Asn, HoldTime, PeerKind, RouterId, ScopedAddress, is_link_local};

pub use add_path::{AddPath, Receive};
pub use drain::Drain;
pub(crate) use drain::{Stage, Stages};
pub use monitoring::{MonitoredTable, Monitoring, StationConfig};
pub use originated::{Offer, Originated, Source};
pub use role::{LocalRole, Role, Silence};
pub use transport::{Distance, Password, SocketOptions, Transport, Ttl};

/// Who we are; a change of it restarts all sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterConfig {
    /// Our AS.
    pub asn: Asn,
    /// Our identifier, unique in the AS.
    pub router_id: RouterId,
    /// Of the cluster whose reflector we are (RFC 4456 section 7); our identifier if absent.
    pub cluster_id: Option<RouterId>,
    /// How long peers may keep our routes while we are away; 0 to 4095 s (RFC 4724 section 3).
    pub restart_time: Duration,
    /// After a restart: how long to wait for the peers' End-of-RIB before routes are chosen without it
    /// (the Selection_Deferral_Timer of RFC 4724 section 4.1).
    pub deferral: Duration,
    /// Most next hops of one route.
    pub max_paths: usize,
}

impl RouterConfig {
    /// With the defaults of everything but the names.
    pub fn new(asn: Asn, router_id: RouterId) -> RouterConfig {
        RouterConfig {
            asn,
            router_id,
            cluster_id: None,
            restart_time: Duration::from_secs(120),
            deferral: Duration::from_secs(60),
            max_paths: 16,
        }
    }
}

/// All that should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Ourselves.
    pub router: RouterConfig,
    /// The neighbours, by the address we talk to.
    pub peers: BTreeMap<ScopedAddress, PeerConfig>,
    /// Where further neighbours may connect from; of several that hold an address the longest counts.
    pub listen_ranges: BTreeMap<Prefix, ListenRange>,
    /// From where nobody connects, though a wider range of [`Wanted::listen_ranges`] holds it: neighbours and ranges that
    /// are meant and cannot be had now, as without their key.
    pub closed: BTreeSet<Prefix>,
    /// What we announce as our own.
    pub originated: BTreeMap<Prefix, Originated>,
    /// What the cluster declares: the yardstick of the import policy.
    pub declared: Declared,
    /// The links of this host with their addresses.
    pub links: Vec<Link>,
    /// What of our own is on its way out.
    pub drain: Drain,
    /// Who is told what the tables hold.
    pub monitoring: Monitoring,
}

impl Wanted {
    /// A router without peers and prefixes.
    pub fn new(router: RouterConfig) -> Wanted {
        Wanted {
            router,
            peers: BTreeMap::new(),
            listen_ranges: BTreeMap::new(),
            closed: BTreeSet::new(),
            originated: BTreeMap::new(),
            declared: Declared::default(),
            links: Vec::new(),
            drain: Drain::default(),
            monitoring: Monitoring::default(),
        }
    }
}

/// The families a session shall carry.
pub type Families = BTreeSet<Family>;

/// One neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// For people; unique by convention only.
    pub name: String,
    /// TCP port it listens on.
    pub port: u16,
    /// The AS it must have.
    pub asn: PeerAsn,
    /// The AS that we are in for this peer, and the only one of ours that it sees; the router's if absent.
    pub local_asn: Option<Asn>,
    /// Whether its own AS in a path is replaced by ours before it is told.
    pub as_override: AsOverride,
    /// How often an AS of ours may occur in the path of a route that it tells; more often is a loop.
    pub allow_own_as: u8,
    /// What it is to us as a route reflector; counts for an internal peer.
    pub role: ReflectorRole,
    /// What we propose.
    pub hold_time: HoldTime,
    /// A third of the hold time if absent or longer than that.
    pub keepalive: Option<Duration>,
    /// What we offer to carry.
    pub families: Families,
    /// Who connects.
    pub connect: ConnectMode,
    /// How it is reached.
    pub transport: Transport,
    /// What passes.
    pub policy: PeerPolicy,
    /// Most routes accepted of a family; beyond it further ones are refused and the session stays.
    pub max_prefixes: usize,
    /// At how many percent of these somebody is warned; 1 to 100.
    pub warn_at_percent: u8,
    /// How long each side keeps the other's routes while it is away.
    pub restart: RestartConfig,
    /// Where there may be several paths to a prefix.
    pub add_path: BTreeMap<Family, AddPath>,
    /// What we are to it; counts for an external peer.
    pub local_role: Option<LocalRole>,
    /// A session of BFD beside that of BGP (RFC 5882); none if absent.
    pub bfd: Option<cambric_bfd::Config>,
}

/// What we ask of a neighbour for the time that we are away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartConfig {
    /// How long it may keep our routes as they were (RFC 4724 section 3), 0 to 4095 s; that of the router if absent.
    pub restart_time: Option<Duration>,
    /// How long beyond that as a last resort (RFC 9494 section 3.1), up to 16,777,215 s. 0: not at all, and its routes
    /// are not kept so either.
    pub long_lived: Duration,
}

impl Default for RestartConfig {
    /// An hour beyond the restart time: a daemon that does not come up is no reason to cut off the pods of a node that
    /// forwards. And where a peer speaks long-lived graceful restart, it is what makes it keep our routes when we hang
    /// past the hold time: BIRD 2 knows no other way (RFC 8538).
    fn default() -> RestartConfig {
        RestartConfig { restart_time: None, long_lived: Duration::from_secs(3600) }
    }
}

impl PeerConfig {
    /// The default of `warn_at_percent`.
    pub const DEFAULT_WARN_AT_PERCENT: u8 = 80;
    /// The default of `max_prefixes`: no fabric of nodes and pods comes near, a full table is far over.
    pub const DEFAULT_MAX_PREFIXES: usize = 20_000;

    /// With the defaults: the family of `address`, or both if that is link-local; both sides connect, the fabric's policy.
    ///
    /// A link without addresses is there for both families (RFC 8950), and its neighbour has none of either.
    pub fn new(name: impl Into<String>, address: IpAddr, asn: impl Into<PeerAsn>) -> PeerConfig {
        PeerConfig {
            name: name.into(),
            port: 179,
            asn: asn.into(),
            local_asn: None,
            as_override: AsOverride::Off,
            allow_own_as: 0,
            role: ReflectorRole::NonClient,
            hold_time: HoldTime::DEFAULT,
            keepalive: None,
            families: if is_link_local(address) { Family::ALL.into() } else { [Family::of(address)].into() },
            connect: ConnectMode::Both,
            transport: Transport::default(),
            policy: PeerPolicy::default(),
            max_prefixes: Self::DEFAULT_MAX_PREFIXES,
            warn_at_percent: Self::DEFAULT_WARN_AT_PERCENT,
            restart: RestartConfig::default(),
            add_path: BTreeMap::new(),
            local_role: None,
            bfd: None,
        }
    }

    /// What of several paths to a prefix is wanted of a family.
    pub(crate) fn add_path(&self, family: Family) -> AddPath {
        self.add_path.get(&family).copied().unwrap_or_default()
    }

    /// Internal if it is in our AS, as far as this peer knows it; `router_asn` is the router's.
    pub fn kind(&self, router_asn: Asn) -> PeerKind {
        match self.asn {
            PeerAsn::Exactly(asn) if asn == self.own_asn(router_asn) => PeerKind::Internal,
            PeerAsn::Exactly(_) | PeerAsn::External => PeerKind::External,
            PeerAsn::Internal => PeerKind::Internal,
        }
    }

    /// The AS that we are in for this peer; `router_asn` is the router's.
    pub fn own_asn(&self, router_asn: Asn) -> Asn {
        self.local_asn.unwrap_or(router_asn)
    }

    /// Whether going from `self` to `new` needs a new session. Policy and limits do not, and timers count
    /// from the next session on: they are no reason to let go of one.
    pub(crate) fn needs_new_session(&self, new: &PeerConfig) -> bool {
        let session = |config: &PeerConfig| PeerConfig {
            name: String::new(),
            hold_time: HoldTime::DEFAULT,
            keepalive: None,
            policy: PeerPolicy::default(),
            max_prefixes: 0,
            warn_at_percent: 0,
            as_override: AsOverride::Off,
            allow_own_as: 0,
            role: ReflectorRole::NonClient,
            restart: RestartConfig::default(),
            add_path: config
                .families
                .iter()
                .map(|family| (*family, config.add_path(*family).offered()))
                .filter(|(_, offered)| *offered != AddPath::default())
                .collect(),
            bfd: None,
            ..config.clone()
        };
        session(self) != session(new)
    }
}

/// Who opens the TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectMode {
    /// Whoever is first.
    Both,
    /// We do, and it may not.
    Active,
    /// We only listen.
    Passive,
}

/// The AS of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerAsn {
    /// This one.
    Exactly(Asn),
    /// Any but ours: what its OPEN says.
    External,
    /// Ours.
    Internal,
}

impl PeerAsn {
    /// Whether a peer may announce `asn`, where we announce `own`.
    pub(crate) fn admits(self, asn: Asn, own: Asn) -> bool {
        match self {
            PeerAsn::Exactly(expected) => asn == expected,
            PeerAsn::External => asn != own,
            PeerAsn::Internal => asn == own,
        }
    }
}

impl From<Asn> for PeerAsn {
    fn from(asn: Asn) -> PeerAsn {
        PeerAsn::Exactly(asn)
    }
}

impl fmt::Display for PeerAsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAsn::Exactly(asn) => asn.fmt(f),
            PeerAsn::External => f.write_str("external"),
            PeerAsn::Internal => f.write_str("internal"),
        }
    }
}

/// Whether a peer's own AS in a path is hidden from it: sites of one AS that reach each other over us would
/// take each other's routes for a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AsOverride {
    /// It sees the path as it is.
    #[default]
    Off,
    /// It sees our AS in the place of its own.
    On,
}

/// What a peer is to a route reflector (RFC 4456 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReflectorRole {
    /// It is told what clients tell, and is in the full mesh with all others like it.
    #[default]
    NonClient,
    /// It is told what all internal peers tell, and tells all of them: we are its reflector. What we could not use
    /// ourselves, for its next hop is on no link of ours, is not reflected (RFC 4271 section 9.1.2).
    Client,
}

/// Where neighbours may connect from that are not named one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenRange {
    /// What each of them is like. We never connect to it, whatever its `connect` says.
    pub template: PeerConfig,
    /// How many there may be at a time.
    pub most_peers: usize,
}

/// What passes between us and a neighbour. [`filter`](crate::policy::filter) says how built-in policy and filters work
/// together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerPolicy {
    /// Of what it tells us.
    pub import: Import,
    /// Of what we know.
    pub export: Export,
    /// What the operator says beyond that; absent: nothing.
    pub filters: BTreeMap<Family, FamilyFilters>,
}

impl PeerPolicy {
    pub(crate) fn filters_of(&self, family: Family, direction: Direction) -> &[Arc<Filter>] {
        self.filters.get(&family).map_or(&[], |filters| match direction {
            Direction::Import => &filters.import,
            Direction::Export => &filters.export,
        })
    }

    /// Families of which routes may come to pass, or to pass no more, in this direction on the way from `self` to `new`.
    pub(crate) fn changed(&self, new: &PeerPolicy, direction: Direction) -> BTreeSet<Family> {
        let built_in = match direction {
            Direction::Import => self.import != new.import,
            Direction::Export => self.export != new.export,
        };
        let differs =
            |family: &Family| self.filters_of(*family, direction) != new.filters_of(*family, direction);
        Family::ALL.into_iter().filter(|family| built_in || differs(family)).collect()
    }

    /// Whether a rule of a filter asks which peer tells or is told.
    pub(crate) fn asks_for_peers(&self) -> bool {
        let filters = self.filters.values().flat_map(|filters| filters.import.iter().chain(&filters.export));
        filters.flat_map(|filter| &filter.rules).any(|rule| rule.matches.peers.is_some())
    }
}

/// Filters of one family, which routes go through one after another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FamilyFilters {
    /// For what the neighbour tells us.
    pub import: Vec<Arc<Filter>>,
    /// For what it is told.
    pub export: Vec<Arc<Filter>>,
}

/// Import policy of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Import {
    /// What the cluster declares and nothing else: the built-in policy that RFC 8212 asks for.
    #[default]
    Declared,
    /// Everything that is sound.
    All,
}

/// Export policy of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Export {
    /// Our own prefixes; to an internal peer also what external peers told us. Never transit between
    /// external peers.
    #[default]
    Own,
    /// Every best path.
    All,
}

/// What the cluster is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Declared {
    /// Ranges pods get addresses from.
    pub pods: Vec<Prefix>,
    /// Ranges services get addresses from.
    pub services: Vec<Prefix>,
    /// Addresses of the nodes that exist; only these are accepted as host routes.
    pub nodes: BTreeSet<IpAddr>,
    /// By address of a peer, ranges that it claims and that are another's: what it originates in them is refused. What
    /// it passes on is not.
    pub disputed: BTreeMap<IpAddr, Vec<Prefix>>,
}

/// A link of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Interface name.
    pub name: String,
    /// Whether it carries packets.
    pub state: LinkState,
    /// Addresses with the length of their subnet.
    pub addresses: Vec<LinkAddress>,
}

impl Link {
    /// Whether `address` is reached through it without a gateway.
    ///
    /// All links have the subnet of link-local addresses, so of those it says nothing: they name their link.
    pub(crate) fn reaches(&self, address: &ScopedAddress) -> bool {
        if is_link_local(address.ip()) {
            return address.interface() == Some(&*self.name);
        }
        let mut subnets = self.addresses.iter().map(|entry| &entry.subnet);
        subnets.any(|subnet| !subnet.is_host() && subnet.contains(address.ip()))
    }

    /// Whether `address` is one of its own.
    pub(crate) fn has(&self, address: &ScopedAddress) -> bool {
        let is_meant = !is_link_local(address.ip()) || address.interface() == Some(&*self.name);
        is_meant && self.addresses.iter().any(|entry| entry.address == address.ip())
    }
}

/// Whether a link carries packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// It is up and has a carrier.
    Up,
    /// It does not.
    Down,
}

/// One address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkAddress {
    /// Ours.
    pub address: IpAddr,
    /// The subnet that is reached without a gateway.
    pub subnet: Prefix,
}

impl LinkAddress {
    /// `None` where `length` is over the family's.
    pub fn new(address: IpAddr, length: u8) -> Option<LinkAddress> {
        Some(LinkAddress { address, subnet: Prefix::new(address, length).ok()? })
    }
}
