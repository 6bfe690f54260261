//! What the kernel is to hold, as plain data: the compiler makes it, the simulator runs it, the kernel is made equal
//! to it. One [`Table`] a family.
//!
//! Names of sets and of class chains are hashes of what they stand for, so whoever reads the kernel after a restart
//! knows which of them are still right, and nothing that is in use ever changes its meaning: a new meaning has a new name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Name of the tables, one a family, and of the ARP table.
pub const TABLE: &str = "cambric";
/// What names of host veths begin with; the plugin gives them.
pub const VETH_PREFIX: &str = "cam";
/// Longest name of a set, in bytes, without the final zero (the kernel's IPSET_MAXNAMELEN is 32).
pub const MOST_SET_NAME_BYTES: usize = 31;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// `table ip cambric`, sets `cam4…`.
    Ipv4,
    /// `table ip6 cambric`, sets `cam6…`.
    Ipv6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::Ipv4, Family::Ipv6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::Ipv4,
            IpAddr::V6(_) => Family::Ipv6,
        }
    }
}

/// Name of an interface of the node, at most 15 bytes.
pub type IfName = Arc<str>;
/// Name of a set.
pub type SetName = Arc<str>;
/// Name of a chain: the same in both families.
pub type ChainName = Arc<str>;

/// A transport protocol that NetworkPolicy knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// 6
    Tcp,
    /// 17
    Udp,
    /// 132
    Sctp,
}

impl Protocol {
    /// Its number (IANA protocol numbers).
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        })
    }
}

/// What an ipset holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetKind {
    /// `hash:ip`
    Addresses,
    /// `hash:net`; takes no prefix of length 0.
    Networks,
    /// `hash:ip,port`
    AddressPorts,
    /// `hash:net,iface`
    Owners,
}

/// A member of an ipset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    /// Of [`SetKind::Addresses`].
    Address(IpAddr),
    /// Of [`SetKind::Networks`]: host bits are zero, the length is 1 to 32 or 128.
    Network(IpAddr, u8),
    /// Of [`SetKind::AddressPorts`].
    AddressPort(IpAddr, Protocol, u16),
    /// Of [`SetKind::Owners`]: one address and the veth of the pod that has it.
    Owner(IpAddr, IfName),
}

/// A set and its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// What it holds.
    pub kind: SetKind,
    /// All of one family.
    pub members: BTreeSet<Member>,
}

/// Which end of a packet is looked up in a set: an address, a port or an interface (source: the one it came in by).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// `src`
    Source,
    /// `dst`
    Destination,
}

/// The interface that a packet came in by, or goes out by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interface {
    /// `iifname`
    Input,
    /// `oifname`
    Output,
}

/// One part of a rule. They are looked at in order; the first that does not fit ends the rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Statement {
    /// The interface's name begins with [`VETH_PREFIX`].
    IsVeth(Interface),
    /// `ct state established,related`: packets of connections that were let through, ICMP errors about them among them.
    Established,
    /// `meta l4proto`
    Protocol(Protocol),
    /// `th dport`; after [`Statement::Protocol`].
    DestinationPort(Ports),
    /// An ipset match, one end for each dimension of the set.
    InSet {
        /// Which.
        set: SetName,
        /// As many as the set has dimensions.
        ends: Vec<End>,
        /// It fits what is *not* in the set.
        inverted: bool,
    },
    /// Counts packets and bytes that came so far. Equal to any other counter, whatever it has counted.
    Counter,
    /// Fits at most so many times a second, with a burst of as many.
    AtMostPerSecond(u32),
    /// Tells whoever listens to the NFLOG group. The prefix is at most 63 bytes of printable ASCII.
    Log {
        /// NFLOG group.
        group: u16,
        /// Told with every packet.
        prefix: String,
    },
    /// Ends the rule.
    Verdict(Verdict),
    /// Looks the interface up in the map of its direction: [`Interface::Input`] in the map `egress`,
    /// [`Interface::Output`] in `ingress`. What is not in it does not fit.
    Dispatch(Interface),
}

/// Ports, both ends included; the first is at most the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Ends this base chain; other programs' chains still see the packet.
    Accept,
    /// The end.
    Drop,
    /// Goes on after the rule that jumped.
    Return,
    /// Comes back.
    Jump(ChainName),
    /// Does not come back: a `return` there is one of here.
    Goto(ChainName),
}

/// A rule. Nothing of it is compared by what it has counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// In order.
    pub statements: Vec<Statement>,
    /// For people and for counters: `default/allow-dns egress[0]`; at most 120 bytes. Kept in the rule's user data, where `nft list` shows it
    /// as its comment.
    pub tag: String,
}

/// A chain that packets come to by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseChain {
    /// Its name.
    pub name: ChainName,
    /// Where.
    pub hook: Hook,
    /// As nf_tables counts: lower is earlier.
    pub priority: i32,
    /// In order; a packet that none decides is accepted.
    pub rules: Vec<Rule>,
}

/// Where packets come by (NF_INET_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// 0
    Prerouting,
    /// 1
    Input,
    /// 2
    Forward,
}

/// The chains that judge a pod's traffic, by its veth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// What the pod sends goes to this chain.
    pub egress: ChainName,
    /// What is sent to the pod goes to this chain.
    pub ingress: ChainName,
}

/// All of one family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Where packets come in.
    pub base_chains: Vec<BaseChain>,
    /// All others.
    pub chains: BTreeMap<ChainName, Vec<Rule>>,
    /// By name.
    pub sets: BTreeMap<SetName, Set>,
}

/// All that the kernel is to hold, ARP aside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// `table ip cambric`
    pub ipv4: Table,
    /// `table ip6 cambric`
    pub ipv6: Table,
    /// By veth; the same in both families. Kept in the maps `egress` and `ingress` of both tables.
    pub dispatch: BTreeMap<IfName, Placement>,
}

impl Program {
    /// One family's part.
    pub fn table(&self, family: Family) -> &Table {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }

    /// One family's part, to be changed.
    pub fn table_mut(&mut self, family: Family) -> &mut Table {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }
}

/// What one change of the cluster changes in the program. What is made and what is dropped are names that nothing else
/// of the same program had or has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// New sets with all their members.
    pub sets_made: Vec<(Family, SetName, Set)>,
    /// New chains.
    pub chains_made: Vec<(Family, ChainName, Vec<Rule>)>,
    /// Members of addresses that another pod has from now on: they leave before any rule or other member changes.
    pub left_first: Vec<(Family, SetName, Member)>,
    /// New members of sets that were there.
    pub joined: Vec<(Family, SetName, Member)>,
    /// Members that leave sets that stay.
    pub left: Vec<(Family, SetName, Member)>,
    /// Veths that are judged otherwise from now on, or (`None`) are closed.
    pub dispatch: Vec<(IfName, Option<Placement>)>,
    /// Chains that nothing leads to any more.
    pub chains_dropped: Vec<(Family, ChainName)>,
    /// Sets that no rule names any more.
    pub sets_dropped: Vec<(Family, SetName)>,
}
