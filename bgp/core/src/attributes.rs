//! The path attributes of a route, as a value, and the table that keeps each set once.

mod set;
mod table;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::types::{Asn, CarriedId, Community, LargeCommunity, LocalPref, Med};
use crate::wire::attribute::code;

pub use set::AttributeSet;
pub use table::AttributeTable;
pub(crate) use table::Told;

/// All attributes of a path that is fit for use: the mandatory ones are there.
///
/// One [`AttributeSet`] of them serves many prefixes; [`AttributeTable`] sees to it that equal sets are one object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// ORIGIN
    pub origin: Origin,
    /// AS_PATH
    pub as_path: AsPath,
    /// NEXT_HOP, or the global address of MP_REACH_NLRI.
    pub next_hop: IpAddr,
    /// The link-local address that came beside the global one (RFC 2545 section 3).
    pub link_local: Option<Ipv6Addr>,
    /// MULTI_EXIT_DISC
    pub med: Option<Med>,
    /// LOCAL_PREF
    pub local_pref: Option<LocalPref>,
    /// ATOMIC_AGGREGATE
    pub atomic_aggregate: bool,
    /// AGGREGATOR
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES, in the order of the sender.
    pub communities: Vec<Community>,
    /// LARGE_COMMUNITY, in the order of the sender.
    pub large_communities: Vec<LargeCommunity>,
    /// ORIGINATOR_ID
    pub originator_id: Option<CarriedId>,
    /// CLUSTER_LIST
    pub cluster_list: Vec<CarriedId>,
    /// Optional transitive attributes that we do not look into, by type code; passed on as they are.
    pub opaque: Vec<Opaque>,
    /// Type codes of AGGREGATOR, COMMUNITIES and LARGE_COMMUNITY, where these came with the Partial bit: they keep it
    /// (RFC 4271 section 5).
    pub partial: BTreeSet<u8>,
}

impl Attributes {
    /// A route of our own: no path yet, origin IGP.
    pub fn originated(next_hop: IpAddr) -> Attributes {
        Attributes {
            origin: Origin::Igp,
            as_path: AsPath::default(),
            next_hop,
            link_local: None,
            med: None,
            local_pref: None,
            atomic_aggregate: false,
            aggregator: None,
            communities: Vec::new(),
            large_communities: Vec::new(),
            originator_id: None,
            cluster_list: Vec::new(),
            opaque: Vec::new(),
            partial: BTreeSet::new(),
        }
    }

    /// Whether `community` is among them.
    pub fn has_community(&self, community: Community) -> bool {
        self.communities.contains(&community)
    }

    /// ONLY_TO_CUSTOMER: the AS from which on the route goes down alone (RFC 9234 section 5); 0 may stand there, too.
    pub fn only_to_customer(&self) -> Option<u32> {
        let carried = self.opaque.iter().find(|opaque| opaque.code == code::ONLY_TO_CUSTOMER)?;
        <[u8; 4]>::try_from(&*carried.value).ok().map(u32::from_be_bytes)
    }

    /// With this AS in ONLY_TO_CUSTOMER, unless there is one already: it stays as it was set first.
    pub(crate) fn only_to_customer_from(mut self, asn: Asn) -> Attributes {
        if self.only_to_customer().is_none() {
            let (code, value) = (code::ONLY_TO_CUSTOMER, asn.value().to_be_bytes().into());
            let at = self.opaque.partition_point(|opaque| opaque.code < code);
            self.opaque.insert(at, Opaque { code, partial: false, value });
        }
        self
    }

    /// About how much memory what has no fixed length takes.
    pub(crate) fn octets(&self) -> usize {
        let Attributes { as_path, communities, large_communities, cluster_list, opaque, .. } = self;
        let numbers = as_path.len() + communities.len() + 3 * large_communities.len() + cluster_list.len();
        let carried = opaque.iter().map(|opaque| size_of::<Opaque>() + opaque.value.len());
        size_of::<Attributes>() + 4 * numbers + carried.sum::<usize>()
    }

    /// With `community` among them.
    pub(crate) fn with_community(mut self, community: Community) -> Attributes {
        if !self.has_community(community) {
            self.communities.push(community);
        }
        self
    }
}

/// ORIGIN: how the route came into BGP; lower is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// 0
    Igp,
    /// 1
    Egp,
    /// 2
    Incomplete,
}

impl Origin {
    /// From the attribute's octet.
    pub(crate) fn from_octet(octet: u8) -> Option<Origin> {
        [Origin::Igp, Origin::Egp, Origin::Incomplete].get(usize::from(octet)).copied()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Igp => "IGP",
            Origin::Egp => "EGP",
            Origin::Incomplete => "incomplete",
        })
    }
}

/// AS_PATH: a plain sequence, nearest AS first.
///
/// Sets do not occur: RFC 9774 has a route with an AS_SET treated as withdrawn, and we are in no
/// confederation (RFC 5065).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AsPath(Box<[Asn]>);

impl AsPath {
    /// The ASes, nearest first.
    pub fn asns(&self) -> &[Asn] {
        &self.0
    }

    /// Length as the decision process counts it.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// A route of our own AS.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The AS that told it, `None` for our own AS.
    pub fn neighbor(&self) -> Option<Asn> {
        self.0.first().copied()
    }

    /// Whether `asn` occurs.
    pub fn contains(&self, asn: Asn) -> bool {
        self.0.contains(&asn)
    }

    /// With `asn` in front.
    pub fn prepended(&self, asn: Asn) -> AsPath {
        std::iter::once(asn).chain(self.0.iter().copied()).collect()
    }
}

impl From<Vec<Asn>> for AsPath {
    fn from(asns: Vec<Asn>) -> AsPath {
        AsPath(asns.into())
    }
}

impl FromIterator<Asn> for AsPath {
    fn from_iter<I: IntoIterator<Item = Asn>>(asns: I) -> AsPath {
        AsPath(asns.into_iter().collect())
    }
}

impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, asn) in self.0.iter().enumerate() {
            write!(f, "{}{asn}", if position == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// AGGREGATOR: who made the aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Aggregator {
    /// Its AS.
    pub asn: Asn,
    /// Its address, by convention its identifier.
    pub address: u32,
}

/// An attribute that is carried, not read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Opaque {
    /// Attribute type code.
    pub code: u8,
    /// Whether some speaker on the way did not know it: set by us for those we do not know
    /// (RFC 4271 section 5).
    pub partial: bool,
    /// The value, untouched.
    pub value: Box<[u8]>,
}
