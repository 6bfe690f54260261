//! The objects a source has shown, and what was wrong with those it could not show.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::Node;

use crate::kinds::{BGPClusterConfigSpec, BGPNodeOverrideSpec, BGPPeerConfigSpec};

/// A complete view. Every source gives this and nothing else.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Objects {
    /// By name.
    pub nodes: BTreeMap<String, Node>,
    /// Oldest first: where two disagree the older one wins.
    pub cluster_configs: Vec<Named<BGPClusterConfigSpec>>,
    /// By name.
    pub peer_configs: BTreeMap<String, BGPPeerConfigSpec>,
    /// By name, which is the node's.
    pub node_overrides: BTreeMap<String, BGPNodeOverrideSpec>,
    /// What could not be taken.
    pub problems: Vec<Problem>,
    /// Of the problems, those that hide what was never seen: any object may be behind them. Empty from the
    /// first view on that shows all; until then nobody may act on what seems absent.
    pub unknown: Vec<Problem>,
}

/// An object's spec under its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Named<T> {
    /// `metadata.name`
    pub name: String,
    /// The rest.
    pub spec: T,
}

/// Something the operator should mend: where it stands, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// An object as `BGPPeerConfig tor`, or a file.
    pub place: String,
    /// Field, value and reason.
    pub what: String,
}

impl Problem {
    /// Makes one.
    pub fn new(place: impl Into<String>, what: impl Into<String>) -> Problem {
        Problem { place: place.into(), what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}
