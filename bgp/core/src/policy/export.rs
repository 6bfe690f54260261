//! Which routes a peer is told, and with which attributes.

use std::net::IpAddr;

use crate::attributes::Attributes;
use crate::config::Export;
use crate::types::{Asn, Community, LocalPref, PeerKind};

/// Who is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Advertise {
    pub(crate) to: PeerKind,
    pub(crate) policy: Export,
    pub(crate) own_asn: Asn,
    /// Our address on the session's link, of the route's family.
    pub(crate) next_hop: IpAddr,
}

/// Where a route came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provenance {
    Local,
    Learned(PeerKind),
}

/// The attributes to send, `None` if the peer is not told.
pub(crate) fn export(attributes: &Attributes, from: Provenance, advertise: &Advertise) -> Option<Attributes> {
    let passes = match (from, advertise.to, advertise.policy) {
        (Provenance::Local, _, _) => true,
        // RFC 4271 section 9.2.1: not from internal to internal, we are no reflector.
        (Provenance::Learned(PeerKind::Internal), PeerKind::Internal, _) => false,
        (Provenance::Learned(PeerKind::External), PeerKind::Internal, _) => true,
        (Provenance::Learned(_), PeerKind::External, Export::All) => true,
        (Provenance::Learned(_), PeerKind::External, Export::Own) => false,
    };
    if !passes || is_forbidden_by_community(attributes, advertise.to) {
        return None;
    }
    let mut sent = Attributes {
        next_hop: advertise.next_hop,
        link_local: None,
        // ORIGINATOR_ID and CLUSTER_LIST stay inside the AS, and nobody reflects here (RFC 4456).
        originator_id: None,
        cluster_list: Vec::new(),
        ..attributes.clone()
    };
    match advertise.to {
        PeerKind::External => {
            sent.as_path = sent.as_path.prepended(advertise.own_asn);
            sent.local_pref = None; // RFC 4271 section 5.1.5
            if from != Provenance::Local {
                sent.med = None; // RFC 4271 section 5.1.4: it was for us alone
            }
        }
        PeerKind::Internal => {
            sent.local_pref = Some(sent.local_pref.unwrap_or(LocalPref::DEFAULT));
        }
    }
    Some(sent)
}

/// RFC 1997, "Well-known communities".
fn is_forbidden_by_community(attributes: &Attributes, to: PeerKind) -> bool {
    attributes.communities.iter().any(|community| match *community {
        Community::NO_ADVERTISE => true,
        Community::NO_EXPORT | Community::NO_EXPORT_SUBCONFED => to == PeerKind::External,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Med;

    fn advertise(to: PeerKind, policy: Export) -> Advertise {
        let own_asn = Asn::new(65111).expect("not 0");
        Advertise { to, policy, own_asn, next_hop: "192.0.2.1".parse().expect("address") }
    }

    fn learned() -> Attributes {
        let mut attributes = Attributes::originated("192.0.2.9".parse().expect("address"));
        attributes.as_path = [Asn::new(65101).expect("not 0")].into_iter().collect();
        attributes.med = Some(Med(5));
        attributes
    }

    #[test]
    fn a_node_is_no_transit_between_its_tors() {
        let from = Provenance::Learned(PeerKind::External);
        assert_eq!(export(&learned(), from, &advertise(PeerKind::External, Export::Own)), None);
        let opened = export(&learned(), from, &advertise(PeerKind::External, Export::All));
        let opened = opened.expect("opened by the operator");
        assert_eq!(opened.as_path.to_string(), "65111 65101");
        assert_eq!(opened.med, None);
    }

    #[test]
    fn external_routes_go_to_internal_peers_with_next_hop_self_and_internal_ones_do_not() {
        let internal = advertise(PeerKind::Internal, Export::Own);
        let sent = export(&learned(), Provenance::Learned(PeerKind::External), &internal).expect("passes");
        assert_eq!(sent.next_hop, internal.next_hop);
        assert_eq!(sent.local_pref, Some(LocalPref::DEFAULT));
        assert_eq!(sent.as_path.to_string(), "65101");
        assert_eq!(export(&learned(), Provenance::Learned(PeerKind::Internal), &internal), None);
    }

    #[test]
    fn no_export_stays_inside_and_no_advertise_stays_here() {
        let mut own = Attributes::originated("192.0.2.9".parse().expect("address"));
        own.communities = vec![Community::NO_EXPORT];
        assert!(export(&own, Provenance::Local, &advertise(PeerKind::External, Export::Own)).is_none());
        assert!(export(&own, Provenance::Local, &advertise(PeerKind::Internal, Export::Own)).is_some());
        own.communities = vec![Community::NO_ADVERTISE];
        assert!(export(&own, Provenance::Local, &advertise(PeerKind::Internal, Export::Own)).is_none());
    }
}
