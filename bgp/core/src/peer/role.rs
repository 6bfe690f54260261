//! Whether a peer is to us what we are to it (RFC 9234 section 4.2).

use std::collections::BTreeSet;

use super::{Identity, Peer};
use crate::config::{LocalRole, Role, Silence};
use crate::types::PeerKind;
use crate::wire::notification::{Notification, code, open as subcode};
use crate::wire::{Capability, Fault, Open};

impl Peer {
    /// What we are to it; inside an AS nobody has a role.
    pub(super) fn local_role(&self, identity: &Identity) -> Option<LocalRole> {
        self.config.local_role.filter(|_| self.config.kind(identity.asn) == PeerKind::External)
    }

    pub(super) fn check_role(&self, identity: &Identity, open: &Open) -> Result<(), Fault> {
        let said: BTreeSet<u8> = open.roles().collect();
        let mismatch =
            |what: String| Err(Fault::new(Notification::new(code::OPEN, subcode::ROLE_MISMATCH), what));
        if self.config.kind(identity.asn) == PeerKind::External && said.len() > 1 {
            return mismatch("peer says several roles".to_owned());
        }
        let Some(LocalRole { role, silence }) = self.local_role(identity) else { return Ok(()) };
        let wanted = role.counterpart();
        match said.first() {
            None if silence == Silence::Accepted => Ok(()),
            None => mismatch(format!("peer says no role, and must be our {wanted}")),
            Some(one) if Role::from_octet(*one) == Some(wanted) => Ok(()),
            Some(one) => {
                let said = Role::from_octet(*one)
                    .map_or_else(|| format!("of role {one}"), |role| format!("our {role}"));
                mismatch(format!(
                    "peer says that it is {said}; we are its {role}, so it must be our {wanted}"
                ))
            }
        }
    }

    /// Our role, for OPEN.
    pub(super) fn our_role(&self, identity: &Identity) -> Option<Capability> {
        self.local_role(identity).map(|local| Capability::Role(local.role.octet()))
    }
}
