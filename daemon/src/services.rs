//! Which addresses of services a node announces. Pure, but for [`Answers`], which remembers what it was shown.
//!
//! A service is selected by its labels, and its addresses by their sort. Where its traffic policy says that a node uses
//! its own endpoints alone, that node announces the address while one of them is ready and serves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use cambric_bgp::config::Declared;
use cambric_bgp::{Family, Prefix};
use cambric_kube::{AddressType, EndpointSlice, Service, Shared, TrafficPolicy};
use cambric_policy::change::Key;
use k8s_openapi::api::core::v1;

use crate::advertisements::Entry;
use crate::kinds::ServiceAddress;
use crate::objects::{Kind, Objects, Problem, Reason, What};
use crate::values::{Costs, Fault};

/// Addresses of services that are named when they are refused: a wrong range of a load balancer may cost thousands.
const MOST_NAMED: usize = 10;

/// What is known of services at a node. A clone is cheap.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Served {
    /// All of them.
    pub services: Shared<Key, Arc<Service>>,
    /// Those with an endpoint at this node that is ready and serves, each with the family of that: an address leads to
    /// endpoints of its own family alone.
    pub answered: Arc<BTreeSet<(Key, Family)>>,
}

/// Follows which services have an endpoint at this node. What happens at others costs a look at what has changed.
#[derive(Debug, Default)]
pub struct Answers {
    node: String,
    slices: Shared<Key, Arc<EndpointSlice>>,
    /// By service and family, its slices with such an endpoint.
    here: BTreeMap<(Key, Family), BTreeSet<Key>>,
    answered: Arc<BTreeSet<(Key, Family)>>,
}

impl Answers {
    /// At `node`, of which nothing is known yet.
    pub fn at(node: impl Into<String>) -> Answers {
        Answers { node: node.into(), ..Answers::default() }
    }

    /// Takes over what is shown now.
    pub fn follow(
        &mut self,
        services: &Shared<Key, Arc<Service>>,
        now: &Shared<Key, Arc<EndpointSlice>>,
    ) -> Served {
        for (slice, says) in self.slices.differences(now) {
            let before = self.slices.get(&slice).cloned();
            for (says, is_there) in [(before, false), (says, true)] {
                let Some(says) = says.filter(|says| says.answers_at(&self.node)) else { continue };
                let service =
                    Key { namespace: Arc::clone(&slice.namespace), name: Arc::clone(&says.service) };
                for family in families(says.address_type) {
                    let of = (service.clone(), *family);
                    let slices = self.here.entry(of.clone()).or_default();
                    if is_there {
                        slices.insert(slice.clone());
                    } else {
                        slices.remove(&slice);
                    }
                    if slices.is_empty() {
                        self.here.remove(&of);
                    }
                }
            }
        }
        self.slices = now.clone();
        if !self.here.keys().eq(self.answered.iter()) {
            self.answered = Arc::new(self.here.keys().cloned().collect());
        }
        Served { services: services.clone(), answered: Arc::clone(&self.answered) }
    }
}

/// What the endpoints of a slice answer for. One that is not known to be of either may be of both: a service is rather
/// announced once too often than not at all, for the moment until the server shows the slice.
fn families(address_type: AddressType) -> &'static [Family] {
    match address_type {
        AddressType::Ipv4 => &[Family::Ipv4],
        AddressType::Ipv6 => &[Family::Ipv6],
        AddressType::Unsaid => &Family::ALL,
        AddressType::Other => &[],
    }
}

/// By prefix, which of `entries` name it, by their place; and what is wrong.
pub(crate) fn announced(
    entries: &[Entry<'_>],
    served: &Served,
    objects: &Objects,
    declared: &Declared,
    is_on_link: impl Fn(IpAddr) -> bool,
) -> (BTreeMap<Prefix, BTreeSet<usize>>, Vec<Problem>) {
    let mut found: BTreeMap<Prefix, BTreeSet<usize>> = BTreeMap::new();
    let named: Vec<(usize, &BTreeSet<ServiceAddress>, &BTreeMap<String, String>)> = entries
        .iter()
        .enumerate()
        .filter_map(|(at, entry)| match &entry.says.what {
            What::Services { addresses, labels } => Some((at, addresses, labels)),
            _ => None,
        })
        .collect();
    if named.is_empty() {
        return (found, Vec::new());
    }
    let judge = Judge::new(objects, declared);
    let (mut refused, mut outside) = (BTreeMap::new(), BTreeMap::new());
    for (key, service) in served.services.iter() {
        let selects = |labels: &BTreeMap<String, String>| {
            labels.iter().all(|(name, value)| service.labels.get(name) == Some(value.as_str()))
        };
        for &(at, sorts, _) in named.iter().filter(|(_, _, labels)| selects(labels)) {
            for sort in sorts {
                for (field, text) in addresses(service, *sort) {
                    let address = match judge.look_at(text, &is_on_link) {
                        Ok(address) => address,
                        Err((reason, why)) => {
                            let problem = Problem::new(
                                format!("Service {key}"),
                                format!("{field}: {text}: {why}; it is not announced"),
                            );
                            let problem = problem.about(Kind::Service, key.to_string()).because(reason);
                            refused.insert((key, field), problem);
                            continue;
                        }
                    };
                    // Wherever it is answered for: what is wrong does not come and go with endpoints.
                    if !declared.services.iter().any(|range| range.contains(address)) {
                        outside.entry(address).or_insert((at, key));
                    }
                    let answers = policy(service, *sort) == TrafficPolicy::Cluster
                        || served.answered.contains(&(key.clone(), Family::of(address)));
                    if answers {
                        found.entry(Prefix::host(address)).or_default().insert(at);
                    }
                }
            }
        }
    }
    let are_more = refused.len() > MOST_NAMED;
    let mut problems: Vec<Problem> = refused.into_values().take(MOST_NAMED).collect();
    // Without their number: it would be another problem with each service that comes or goes.
    if are_more {
        let what = format!("more than {MOST_NAMED} addresses are refused; not all of them are named");
        problems.push(Problem::new("Services", what));
    }
    if let Some((address, (at, key))) = outside.first_key_value() {
        let Entry { name, place, says } = entries[*at];
        let what = format!(
            "{}: addresses of services in none of the ranges of serviceCIDRs: other nodes take no route to them",
            says.field
        );
        let problem = Problem::new(place, what).such_as(format!("{address} of Service {key}"));
        problems.push(problem.about(Kind::BGPAdvertisement, name).found_here());
    }
    (found, problems)
}

fn addresses(service: &Service, sort: ServiceAddress) -> &[(String, String)] {
    match sort {
        ServiceAddress::ClusterIP => &service.cluster_addresses,
        ServiceAddress::ExternalIP => &service.external_addresses,
        ServiceAddress::LoadBalancerIP => &service.balancer_addresses,
    }
}

fn policy(service: &Service, sort: ServiceAddress) -> TrafficPolicy {
    match sort {
        ServiceAddress::ClusterIP => service.internal_policy,
        ServiceAddress::ExternalIP | ServiceAddress::LoadBalancerIP => service.external_policy,
    }
}

/// Whether an address may be a service's. Who writes a Service could take what is another's.
struct Judge {
    nodes: BTreeMap<IpAddr, String>,
    pods: BTreeSet<Prefix>,
}

impl Judge {
    fn new(objects: &Objects, declared: &Declared) -> Judge {
        let internal = objects.nodes.iter().flat_map(|(name, node)| {
            node.says.internal_addresses.iter().map(move |(_, address)| (*address, name.clone()))
        });
        let particular = objects.node_overrides.iter().flat_map(|(name, shown)| {
            shown.says.addresses.values().map(move |address| (*address, name.clone()))
        });
        Judge { nodes: internal.chain(particular).collect(), pods: declared.pods.iter().copied().collect() }
    }

    fn look_at(&self, text: &str, is_on_link: impl Fn(IpAddr) -> bool) -> Result<IpAddr, (Reason, String)> {
        let invalid = |why: &str| (Reason::Invalid, why.to_owned());
        let Ok(address) = text.parse::<IpAddr>() else { return Err(invalid("not an IP address")) };
        if let Some(why) = not_routed(address) {
            return Err(invalid(why));
        }
        if let Some(node) = self.nodes.get(&address) {
            let winner = crate::objects::ObjectRef { kind: Kind::Node, name: node.clone() };
            return Err((Reason::Conflicted { winner }, format!("Conflicted: an address of Node {node}")));
        }
        if is_on_link(address) {
            return Err(invalid("an address of this node"));
        }
        if let Some(range) = self.pods_around(address) {
            return Err(invalid(&format!("in the range {range} of pods")));
        }
        Ok(address)
    }

    /// There may be thousands of ranges, and of addresses.
    fn pods_around(&self, address: IpAddr) -> Option<Prefix> {
        Prefix::holding(address).find(|prefix| self.pods.contains(prefix))
    }
}

/// As the import policy of everybody else has it.
fn not_routed(address: IpAddr) -> Option<&'static str> {
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let is_odd = match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some(),
    };
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() || is_link_local || is_odd
    {
        return Some("such addresses are never routed");
    }
    None
}

/// What is wrong with a Service that people write: a word that means nothing would mean `Cluster`.
pub(crate) fn faults(service: &v1::Service) -> Vec<Fault> {
    let spec = service.spec.as_ref();
    let policies = [
        ("externalTrafficPolicy", spec.and_then(|spec| spec.external_traffic_policy.as_deref())),
        ("internalTrafficPolicy", spec.and_then(|spec| spec.internal_traffic_policy.as_deref())),
    ];
    let wrong = policies.into_iter().filter_map(|(field, value)| {
        let value = value.filter(|value| !matches!(*value, "Cluster" | "Local"))?;
        let what = format!("spec.{field}: {value:?}: Cluster or Local");
        Some(Fault { what, reason: Reason::Invalid, costs: Costs::Only("service") })
    });
    wrong.collect()
}

#[cfg(test)]
mod tests;
