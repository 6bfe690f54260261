//! What the operator wants of the router: said as a whole, again and again; the router finds the
//! difference to what it has (see [`Router::apply`](crate::Router::apply)).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::prefix::{Family, Prefix};
use crate::types::{Asn, HoldTime, PeerKind, RouterId};

/// Who we are; a change of it restarts all sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterConfig {
    /// Our AS.
    pub asn: Asn,
    /// Our identifier, unique in the AS.
    pub router_id: RouterId,
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
    pub peers: BTreeMap<IpAddr, PeerConfig>,
    /// What we announce as our own.
    pub originated: BTreeMap<Prefix, Originated>,
    /// What the cluster declares: the yardstick of the import policy.
    pub declared: Declared,
    /// The links of this host with their addresses.
    pub links: Vec<Link>,
}

impl Wanted {
    /// A router without peers and prefixes.
    pub fn new(router: RouterConfig) -> Wanted {
        Wanted {
            router,
            peers: BTreeMap::new(),
            originated: BTreeMap::new(),
            declared: Declared::default(),
            links: Vec::new(),
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
    /// Source address of our connections; chosen by the kernel if absent.
    pub local_address: Option<IpAddr>,
    /// The AS it must have.
    pub asn: Asn,
    /// What we propose.
    pub hold_time: HoldTime,
    /// A third of the hold time if absent or longer than that.
    pub keepalive: Option<Duration>,
    /// What we offer to carry.
    pub families: Families,
    /// Who connects.
    pub connect: ConnectMode,
    /// What passes.
    pub policy: PeerPolicy,
    /// Most routes accepted of a family; beyond it further ones are refused and the session stays.
    pub max_prefixes: usize,
}

impl PeerConfig {
    /// The default of `max_prefixes`: no fabric of nodes and pods comes near, a full table is far over.
    pub const DEFAULT_MAX_PREFIXES: usize = 20_000;

    /// With the defaults: the family of `address`, both sides connect, the fabric's policy.
    pub fn new(name: impl Into<String>, address: IpAddr, asn: Asn) -> PeerConfig {
        PeerConfig {
            name: name.into(),
            port: 179,
            local_address: None,
            asn,
            hold_time: HoldTime::DEFAULT,
            keepalive: None,
            families: BTreeSet::from([Family::of(address)]),
            connect: ConnectMode::Both,
            policy: PeerPolicy::default(),
            max_prefixes: Self::DEFAULT_MAX_PREFIXES,
        }
    }

    /// Internal if it is in `local_asn`.
    pub fn kind(&self, local_asn: Asn) -> PeerKind {
        if self.asn == local_asn { PeerKind::Internal } else { PeerKind::External }
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
    /// We only listen.
    Passive,
}

/// What passes between us and a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerPolicy {
    /// Of what it tells us.
    pub import: Import,
    /// Of what we know.
    pub export: Export,
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

/// Why we announce a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Originated {
    /// Pods of this node live in it.
    Pods,
    /// An address of this node.
    NodeAddress,
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
    pub(crate) fn reaches(&self, address: IpAddr) -> bool {
        let mut subnets = self.addresses.iter().map(|entry| &entry.subnet);
        subnets.any(|subnet| !subnet.is_host() && subnet.contains(address))
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
