//! Several paths to a prefix, and what we are to a peer.

use std::collections::BTreeMap;
use std::num::NonZeroU8;

use cambric_bgp::Family;
use cambric_bgp::config::{AddPath, LocalRole, Receive, Role, Silence};

use super::{Fields, OBJECT, family};
use crate::kinds::{self, BGPPeerConfigSpec, FamilyAddPath, Feature, MOST_PATHS};

impl Fields {
    pub(super) fn add_path(&mut self, entries: &[FamilyAddPath]) -> BTreeMap<Family, AddPath> {
        let mut found = BTreeMap::new();
        for (at, FamilyAddPath { family: name, receive, send_paths }) in entries.iter().enumerate() {
            let field = format!("spec.addPath[{at}]");
            if let Some(paths) = send_paths.filter(|paths| !(1..=MOST_PATHS).contains(paths)) {
                let reason = format!("1 to {MOST_PATHS}; leave it out for one without an identifier");
                self.refuse(OBJECT, format!("{field}.sendPaths"), paths, reason);
            }
            let receive = match receive {
                Feature::Disabled => Receive::One,
                Feature::Enabled => Receive::Several,
            };
            let send = send_paths.and_then(NonZeroU8::new);
            if found.insert(family(name), AddPath { receive, send }).is_some() {
                self.refuse(OBJECT, format!("{field}.family"), family(name), "stands twice");
            }
        }
        found
    }

    pub(super) fn local_role(&mut self, spec: &BGPPeerConfigSpec) -> Option<LocalRole> {
        if spec.strict_role == Feature::Enabled && spec.local_role.is_none() {
            self.refuse(OBJECT, "spec.strictRole", "Enabled", "goes with localRole");
        }
        let role = match spec.local_role? {
            kinds::LocalRole::Provider => Role::Provider,
            kinds::LocalRole::RouteServer => Role::RouteServer,
            kinds::LocalRole::RouteServerClient => Role::RouteServerClient,
            kinds::LocalRole::Customer => Role::Customer,
            kinds::LocalRole::Peer => Role::Peer,
        };
        let silence = match spec.strict_role {
            Feature::Disabled => Silence::Accepted,
            Feature::Enabled => Silence::Refused,
        };
        Some(LocalRole { role, silence })
    }
}
