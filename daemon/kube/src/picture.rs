//! What is known of the cluster at one moment, and how it is known.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use cambric_policy::change::{Key, PolicyObject};
use k8s_openapi::api::core::v1::Namespace;
use serde_json::Value;

use crate::Pod;
use crate::json::Json;
use crate::kinds::Kind;
use crate::service::{EndpointSlice, Service};
use crate::shared::Shared;
use crate::wire::{self, Found};

/// The taint that keeps pods away from a node that has no routes yet.
pub const NOT_READY_TAINT: &str = "cambric.dev/not-ready";
/// The condition of a Node whose pods cannot be reached.
pub const NETWORK_UNAVAILABLE: &str = "NetworkUnavailable";

/// All that is known. Two pictures share what they have in common: a clone is cheap, and so is looking for what they
/// differ in.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    /// Of all nodes.
    pub pods: Shared<Key, Arc<Pod>>,
    /// By name; with nothing but name and labels.
    pub namespaces: Shared<Arc<str>, Arc<Namespace>>,
    /// Those with faults among them.
    pub policies: Shared<Key, Arc<PolicyObject>>,
    /// Empty until a BGPAdvertisement asks for services.
    pub services: Shared<Key, Arc<Service>>,
    /// As the services.
    pub slices: Shared<Key, Arc<EndpointSlice>>,
    /// Nodes, of which only labels, uid, creationTimestamp, ranges of pods and addresses are kept, and, if they are
    /// there, [`NOT_READY_TAINT`] (key and effect) and a true [`NETWORK_UNAVAILABLE`] (type and status); our kinds,
    /// whole but for `metadata.managedFields` and `metadata.resourceVersion`; and the Secrets of the namespace of the
    /// client, of which only `data` up to 80 octets an entry is kept, and how long others are (`lengths`). `apiVersion` and `kind` are always there.
    pub documents: Shared<DocumentId, Json>,
    /// Every kind that is asked for was shown once, by the server or by the snapshot.
    pub is_complete: bool,
    /// How it is known.
    pub health: Health,
}

impl Picture {
    /// Takes an object in as if the server had shown it: what is kept of it is what is kept of all. For tests of those
    /// who look at pictures.
    ///
    /// # Errors
    /// It is of no kind that is watched, or cannot be read; in words.
    pub fn show(&mut self, object: &Value) -> Result<(), String> {
        let named = object["kind"].as_str().unwrap_or_default();
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == named);
        let kind = kind.ok_or_else(|| format!("kind: {named:?} is not watched"))?;
        match wire::read(kind, &object.to_string()) {
            Found::Object(key, known) => {
                self.put(kind, &key, Some(&known.says));
                Ok(())
            }
            Found::Unreadable(_, what) | Found::Nameless(what) => Err(what),
        }
    }
}

/// Which object a document is of; all of these kinds are the cluster's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentId {
    /// As `BGPPeerConfig`.
    pub kind: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// How it stands with the API server and with what is known of each kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Health {
    /// Which server is spoken with, as `https://192.0.2.1:6443`; `None`: no configuration can be used.
    pub server: Option<String>,
    /// What is wrong with the connection as a whole, and since when it is. The text names file and field.
    pub trouble: Option<Trouble>,
    /// What is wrong with a configuration that was to take the place of the one in use, with file and field.
    pub configuration: Option<String>,
    /// What is wrong with the snapshot on the disk, in words that name the file.
    pub journal: Vec<String>,
    /// By kind, as `NetworkPolicy`; all kinds are there from the start, but for those that nobody has asked for yet.
    pub kinds: BTreeMap<String, KindHealth>,
}

/// Something that keeps on being wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// In words.
    pub what: String,
    /// When it began.
    pub since: SystemTime,
}

/// How it stands with one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct KindHealth {
    /// How many are known.
    pub objects: usize,
    /// The highest resourceVersion that was seen.
    pub version: Option<String>,
    /// All objects of it were shown once, by the server or by the snapshot.
    pub is_shown: bool,
    /// Where what is known comes from, and what is in the way of more.
    pub state: KindState,
    /// Since when it is in that state.
    pub since: SystemTime,
    /// Objects that cannot be read, as `ns/name`, and what is wrong with each, with the field. They count as before.
    pub unreadable: Vec<(String, String)>,
}

/// See [`KindHealth::state`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum KindState {
    /// Nothing was asked yet, or no answer has come.
    #[default]
    Unknown,
    /// It is what was known before the daemon was started.
    FromSnapshot,
    /// Changes come as they happen.
    Watching,
    /// The server does not answer, or with a fault; this is the last of them. What is known stays.
    Away(String),
    /// The server does not let us: which verb on which resource, and its own words. What is known stays.
    Refused(String),
    /// The server shows an older state than is known, which removes nothing until it is confirmed.
    Older(String),
    /// The server does not know the kind: its definition is not installed. There is none of it; asked again now and
    /// then.
    NotInstalled(String),
}
