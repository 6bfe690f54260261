//! What counts of a BGPAdvertisement.

use std::collections::{BTreeMap, BTreeSet};

use cambric_bgp::config::Offer;
use cambric_bgp::{LocalPref, Med};

use super::{Costs, Fault, Fields, OBJECT, quoted};
use crate::kinds::{
    self, AdvertisedKind, BGPAdvertisementSpec, MOST_LABEL_OCTETS, MOST_LABELS, MOST_NAME_OCTETS,
    RouteAttributes, ServiceAddress,
};
use crate::objects::{Advertised, Advertisement, What};

const ENTRY: Costs = Costs::Only("entry");
/// Sorts of prefixes that one object names.
const MOST_ENTRIES: usize = 64;
/// Peers that one object names.
const MOST_PEERS: usize = 64;
/// Aggregates of one entry.
const MOST_AGGREGATES: usize = 64;

/// What counts; nothing if it would be for other nodes or peers than was meant.
pub(crate) fn advertisement(spec: &BGPAdvertisementSpec) -> (Option<Advertisement>, Vec<Fault>) {
    let mut fields = Fields::default();
    let labels = fields.labels_of_nodes(spec);
    let peers = spec.peers.as_ref().map(|names| fields.peer_names(names));
    let is_for_whom_was_meant = fields.faults.is_empty();
    let entries = fields.advertised(&spec.advertised, peers.as_ref());
    let found = Advertisement { labels, entries };
    (is_for_whom_was_meant.then_some(found), fields.faults)
}

impl Fields {
    fn labels_of_nodes(&mut self, spec: &BGPAdvertisementSpec) -> BTreeMap<String, String> {
        let labels = spec.node_selector.clone().unwrap_or_default().match_labels;
        self.few_labels(OBJECT, "spec.nodeSelector.matchLabels", &labels);
        labels
    }

    fn few_labels(&mut self, costs: Costs, field: &str, labels: &BTreeMap<String, String>) {
        self.limited(costs, field, labels.len(), MOST_LABELS);
        for (name, value) in labels.iter().filter(|(_, value)| value.chars().count() > MOST_LABEL_OCTETS) {
            let what = format!("no label has more than {MOST_LABEL_OCTETS} letters");
            self.refuse(costs, format!("{field}.{name}"), quoted(value), what);
        }
    }

    fn peer_names(&mut self, names: &[String]) -> BTreeSet<String> {
        if names.is_empty() {
            self.refuse(OBJECT, "spec.peers", "empty", "leave it out for all peers");
        }
        self.limited(OBJECT, "spec.peers", names.len(), MOST_PEERS);
        for (at, name) in names.iter().enumerate() {
            // A session within a mesh may be called by a node's name, or by an address.
            let length = name.chars().count();
            if length == 0 || length > MOST_NAME_OCTETS {
                let what = format!("{length} letters");
                self.refuse(OBJECT, format!("spec.peers[{at}]"), what, format!("1 to {MOST_NAME_OCTETS}"));
            }
        }
        names.iter().cloned().collect()
    }

    fn advertised(
        &mut self,
        entries: &[kinds::Advertised],
        peers: Option<&BTreeSet<String>>,
    ) -> Vec<Advertised> {
        if entries.is_empty() {
            self.refuse(OBJECT, "spec.advertised", "empty", "what shall be announced?");
        }
        self.limited(OBJECT, "spec.advertised", entries.len(), MOST_ENTRIES);
        let mut found: Vec<Advertised> = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let field = format!("spec.advertised[{at}]");
            let faults_before = self.faults.len();
            let what = self.what(&field, entry);
            let offer = self.attributes(&field, entry.attributes.as_ref());
            let is_plain = |what: &What| matches!(what, What::Pods | What::NodeAddress);
            let first = found.iter().find(|first| is_plain(&first.what) && first.what == what);
            if let Some(first) = first {
                let reason = format!("{} is of the same", first.field);
                self.refuse(ENTRY, format!("{field}.what"), format!("{:?}", entry.what), reason);
            }
            if self.faults.len() == faults_before {
                let offer = Offer { peers: peers.cloned(), ..offer };
                found.push(Advertised { field, what, offer });
            }
        }
        found
    }

    fn what(&mut self, field: &str, entry: &kinds::Advertised) -> What {
        let kinds::Advertised { what, service_addresses, service_labels, aggregates, .. } = entry;
        let is_services = *what == AdvertisedKind::Services;
        let is_aggregates = *what == AdvertisedKind::Aggregates;
        for (name, is_there, is_wanted, must) in [
            ("serviceAddresses", service_addresses.is_some(), is_services, true),
            ("serviceLabels", service_labels.is_some(), is_services, false),
            ("aggregates", aggregates.is_some(), is_aggregates, true),
        ] {
            let field = format!("{field}.{name}");
            match (is_there, is_wanted) {
                (false, true) if must => self.refuse(ENTRY, field, "absent", format!("{what:?} need it")),
                (true, false) => self.refuse(ENTRY, field, "there", format!("not used with what: {what:?}")),
                _ => {}
            }
        }
        match what {
            AdvertisedKind::Pods => What::Pods,
            AdvertisedKind::NodeAddress => What::NodeAddress,
            AdvertisedKind::Services => {
                let addresses: BTreeSet<ServiceAddress> =
                    service_addresses.iter().flatten().copied().collect();
                if service_addresses.as_ref().is_some_and(Vec::is_empty) {
                    let names = "one of ClusterIP, ExternalIP and LoadBalancerIP at least";
                    self.refuse(ENTRY, format!("{field}.serviceAddresses"), "empty", names);
                }
                if service_addresses.as_ref().is_some_and(|listed| listed.len() > addresses.len()) {
                    self.refuse(ENTRY, format!("{field}.serviceAddresses"), "one", "stands twice");
                }
                let labels = service_labels.clone().unwrap_or_default();
                self.few_labels(ENTRY, &format!("{field}.serviceLabels"), &labels);
                What::Services { addresses, labels }
            }
            AdvertisedKind::Aggregates => {
                let (field, texts) =
                    (format!("{field}.aggregates"), aggregates.as_deref().unwrap_or_default());
                if aggregates.as_ref().is_some_and(Vec::is_empty) {
                    self.refuse(ENTRY, &field, "empty", "at least one prefix");
                }
                What::Aggregates(self.prefixes(ENTRY, &field, texts, MOST_AGGREGATES))
            }
        }
    }

    fn attributes(&mut self, field: &str, attributes: Option<&RouteAttributes>) -> Offer {
        let Some(attributes) = attributes else { return Offer::default() };
        let RouteAttributes { local_pref, med, prepend, communities, large_communities } = attributes;
        let field = |name: &str| format!("{field}.attributes.{name}");
        let (communities, large_communities) = (communities.as_deref(), large_communities.as_deref());
        let communities = self.communities(ENTRY, &field("communities"), communities);
        let large_communities = self.large_communities(ENTRY, &field("largeCommunities"), large_communities);
        Offer {
            peers: None,
            local_pref: local_pref.map(LocalPref),
            med: med.map(Med),
            prepend: self.prepended(ENTRY, &field("prepend"), *prepend),
            communities: communities.unwrap_or_default(),
            large_communities: large_communities.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use cambric_bgp::types::{Community, LargeCommunity};

    use super::*;

    fn read(spec: &str) -> (Option<Advertisement>, Vec<String>) {
        let spec: BGPAdvertisementSpec = serde_yaml_ng::from_str(spec).expect("of the type");
        let (found, faults) = advertisement(&spec);
        (found, faults.into_iter().map(|fault| fault.what).collect())
    }

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let (found, faults) = read(
            "{peers: [tor1], advertised: [{what: Pods, attributes: {localPref: 0, med: 4294967295, prepend: 16, \
             communities: ['65535:65535', no-export, no-peer, no-export], largeCommunities: ['4294967295:0:7']}}]}",
        );
        assert_eq!(faults, [""; 0]);
        let offer = Offer {
            peers: Some(["tor1".to_owned()].into()),
            local_pref: Some(LocalPref(0)),
            med: Some(Med(u32::MAX)),
            prepend: 16,
            communities: vec![Community(u32::MAX), Community::NO_EXPORT, Community(0xFFFF_FF04)],
            large_communities: vec![LargeCommunity([u32::MAX, 0, 7])],
        };
        assert_eq!(found.expect("without fault").entries[0].offer, offer);
    }

    #[test]
    fn a_wrong_entry_is_left_out_and_names_field_and_value() {
        let table = [
            ("{what: Services}", "spec.advertised[0].serviceAddresses: absent: Services need it"),
            (
                "{what: Pods, serviceLabels: {a: b}}",
                "spec.advertised[0].serviceLabels: there: not used with what: Pods",
            ),
            (
                "{what: Aggregates, aggregates: []}",
                "spec.advertised[0].aggregates: empty: at least one prefix",
            ),
            (
                "{what: Aggregates, aggregates: [10.0.0.1/8]}",
                "spec.advertised[0].aggregates[0]: 10.0.0.1/8: host bits are set; 10.0.0.0/8 is without them",
            ),
            ("{what: Pods, attributes: {prepend: 17}}", "spec.advertised[0].attributes.prepend: 17: 1 to 16"),
            (
                "{what: Pods, attributes: {communities: ['65536:1']}}",
                "spec.advertised[0].attributes.communities[0]: \"65536:1\": not of the form AS:number, each up to \
                 65535, nor a well-known name (RFC 1997)",
            ),
            (
                "{what: Pods, attributes: {communities: []}}",
                "spec.advertised[0].attributes.communities: empty: leave it out",
            ),
            (
                "{what: Pods, attributes: {largeCommunities: ['1:2:3:4']}}",
                "spec.advertised[0].attributes.largeCommunities[0]: \"1:2:3:4\": not of the form AS:number:number, \
                 each up to 4294967295 (RFC 8092)",
            ),
        ];
        for (entry, says) in table {
            let (found, faults) = read(&format!("{{advertised: [{entry}, {{what: NodeAddress}}]}}"));
            assert_eq!(faults, [says]);
            assert_eq!(found.expect("the rest counts").entries.len(), 1, "{entry}");
        }
    }

    #[test]
    fn one_that_would_be_for_other_peers_is_left_out_as_a_whole() {
        for peers in ["[]", "['']"] {
            let (found, faults) = read(&format!("{{peers: {peers}, advertised: [{{what: Pods}}]}}"));
            assert!(found.is_none() && faults.len() == 1, "{peers}: {faults:?}");
        }
    }
}
