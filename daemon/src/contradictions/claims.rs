//! What only one object can have, and who has it.
//!
//! Objects are known by kind and name: a file that is renamed changes nothing. Only of two objects of one name
//! does the file tell which is meant.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cambric_bgp::Prefix;
use serde::{Deserialize, Serialize};

use crate::objects::Kind;
use crate::site::Site;

/// What only one object can have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Claim {
    Name(Kind, String),
    /// A node's own address.
    Address(IpAddr),
    /// Pods of a node live in it. Overlapping ones contradict each other.
    Range(#[serde(with = "text")] Prefix),
    /// To be the configuration of a node.
    Configures(String),
    /// To be a peer of a node, at one place.
    Peer(String, Site),
    /// To be the peer of a node that is called so.
    PeerName(String, String),
    /// That a peer has the options of this name. Never granted: nothing contradicts it, but they may be missing.
    Options(Site, String),
    /// That options have the key in this entry of this Secret. Never granted, either.
    Key(String, String),
    /// That a BGPPeerConfig has the filter of this name. Never granted, either.
    Filter(String),
}

/// Who claims.
pub(crate) type Claimant = (Kind, String);

/// Which claim goes first: the lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Precedence {
    /// It is not of this node itself.
    pub(super) is_remote: bool,
    /// It was not granted before.
    pub(super) is_new: bool,
    /// Its file was refused it before.
    pub(super) was_refused: bool,
    /// The view its object has been in since.
    pub(super) since: u64,
}

/// What was granted, and to whom; and what was not. All that one view hands to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// The objects that count.
    #[serde(with = "pairs")]
    pub(super) objects: BTreeMap<Claimant, Standing>,
    #[serde(with = "pairs")]
    pub(super) granted: BTreeMap<Claim, Claimant>,
    /// What does not count; with the file it is from.
    pub(super) refused: BTreeSet<(String, Claimant, Claim)>,
    /// The AS of each node that has one, by name: no claim, but as little to be lost.
    #[serde(default)]
    pub(super) asns: BTreeMap<String, u32>,
    /// How many views there were that had something new.
    pub(super) views: u64,
}

/// An object that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    /// The file that shows it.
    pub(super) file: String,
    /// The view it has been in since.
    pub(super) since: u64,
}

impl Claims {
    /// The file that showed the object, when the claims were granted.
    pub(crate) fn file_of(&self, claimant: &Claimant) -> Option<&String> {
        self.objects.get(claimant).map(|standing| &standing.file)
    }

    /// The objects that count, each with the file that shows it.
    pub(crate) fn objects(&self) -> impl Iterator<Item = (&Claimant, &String)> {
        self.objects.iter().map(|(claimant, standing)| (claimant, &standing.file))
    }

    /// The lower goes first: what is local, what was granted, and then the older object. Of two of one name, one that was refused
    /// does not come to count because the other has moved to a file of another name.
    pub(super) fn precedence(
        &self,
        claim: &Claim,
        claimant: &Claimant,
        file: &str,
        is_local: bool,
    ) -> Precedence {
        let (is_held, was_refused) = match claim {
            Claim::Name(..) => {
                let refused = (file.to_owned(), claimant.clone(), claim.clone());
                (self.file_of(claimant).is_some_and(|held| held == file), self.refused.contains(&refused))
            }
            _ => (self.granted.get(claim) == Some(claimant), false),
        };
        let since = self.objects.get(claimant).map_or(u64::MAX, |standing| standing.since);
        Precedence { is_remote: !is_local, is_new: !is_held, was_refused, since }
    }
}

/// JSON has only texts for keys.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer, K: Serialize, V: Serialize>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        D: Deserializer<'de>,
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
    {
        Ok(Vec::deserialize(deserializer)?.into_iter().collect())
    }
}

/// As people write it.
mod text {
    use cambric_bgp::Prefix;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(prefix: &Prefix, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(prefix)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Prefix, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
