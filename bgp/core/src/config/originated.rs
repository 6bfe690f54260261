//! What we announce as our own: why, to whom, and with what.

use std::collections::BTreeSet;

use crate::types::{Community, LargeCommunity, LocalPref, Med};

/// A prefix of ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Originated {
    /// Why we announce it.
    pub source: Source,
    /// To whom, with what: the first one that is for a peer decides, and a peer that none is for is not told.
    pub offers: Vec<Offer>,
}

impl Originated {
    /// Told to every peer, with no attributes beyond those that must be there.
    pub fn plain(source: Source) -> Originated {
        Originated { source, offers: vec![Offer::default()] }
    }

    /// What the peer of this name is told with, `None` if it is not told.
    pub fn offer_for(&self, peer: &str) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.is_for(peer))
    }
}

/// Why we announce a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Pods of this node live in it.
    Pods,
    /// An address of this node.
    NodeAddress,
    /// An address of a service.
    Services,
    /// It covers prefixes of this node, and stands for them: whoever is told it is not told of them.
    Aggregate,
}

impl Source {
    /// The name, as manifests and listings have it.
    pub fn name(self) -> &'static str {
        match self {
            Source::Pods => "Pods",
            Source::NodeAddress => "NodeAddress",
            Source::Services => "Services",
            Source::Aggregate => "Aggregate",
        }
    }
}

/// With what some peers are told of a prefix; by default all of them, with nothing particular.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Offer {
    /// Names of the peers it is for; all of them if absent.
    pub peers: Option<BTreeSet<String>>,
    /// For internal peers; 100 if absent.
    pub local_pref: Option<LocalPref>,
    /// None if absent.
    pub med: Option<Med>,
    /// How often our AS stands in the path beyond the once that it must, towards external peers.
    pub prepend: u8,
    /// In this order.
    pub communities: Vec<Community>,
    /// In this order.
    pub large_communities: Vec<LargeCommunity>,
}

impl Offer {
    fn is_for(&self, peer: &str) -> bool {
        self.peers.as_ref().is_none_or(|peers| peers.contains(peer))
    }
}
