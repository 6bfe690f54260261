//! Default routes of other programs in the main table: where the gateway of the node is.
//!
//! Of several the lowest metric counts, as it does for packets. Ours are none of them, whatever their metric: a node
//! that learned a default route would else take whom it learned it from for its gateway.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::{
    PROTOCOL,
    kernel::{KernelRoute, Replaced, Table},
    links::LinkLoss,
    mirror::Form,
    next_hops::{Hop, LinkIndex},
    wanted::{Family, PerFamily},
};

/// Where one points to, the lowest metric first; `None`: to an interface without a gateway, or to a number.
pub(super) type Way = (u32, Option<Hop>);

#[derive(Debug, Default)]
pub(super) struct DefaultRoutes {
    ways: BTreeMap<Family, BTreeSet<Way>>,
    told: PerFamily<Option<IpAddr>>,
}

impl DefaultRoutes {
    /// The kernel has this route.
    pub(super) fn note(&mut self, route: &KernelRoute, replaced: Replaced) {
        let Some(family) = family_of(route) else { return };
        let ways = self.ways.entry(family).or_default();
        if replaced == Replaced::Yes {
            ways.retain(|(metric, _)| *metric != route.metric);
        }
        ways.extend(ways_of(route));
    }

    /// It is gone.
    pub(super) fn gone(&mut self, route: &KernelRoute) {
        let Some(family) = family_of(route) else { return };
        let ways = self.ways.entry(family).or_default();
        ways_of(route).for_each(|way| _ = ways.remove(&way));
    }

    /// The kernel has dropped what went over an interface, and tells nobody: all of it where that was set down, nothing
    /// where it lost its carrier.
    pub(super) fn link_lost(&mut self, link: LinkIndex, loss: LinkLoss) {
        if loss == LinkLoss::Admin {
            let is_over_it = |(_, hop): &Way| hop.is_some_and(|hop| hop.link == link);
            self.ways.values_mut().for_each(|ways| ways.retain(|way| !is_over_it(way)));
        }
    }

    /// Whether one goes over it.
    pub(super) fn are_over(&self, link: LinkIndex) -> bool {
        self.ways.values().flatten().any(|(_, hop)| hop.is_some_and(|hop| hop.link == link))
    }

    /// A listing has shown these and no others.
    pub(super) fn retain(&mut self, shown: &BTreeSet<(Family, Way)>) {
        for (family, ways) in &mut self.ways {
            ways.retain(|way| shown.contains(&(*family, *way)));
        }
    }

    /// The gateways now.
    pub(super) fn gateways(&self) -> PerFamily<Option<IpAddr>> {
        let first = |family| Some(self.ways.get(&family)?.first()?.1?.gateway);
        PerFamily { ipv4: first(Family::Ipv4), ipv6: first(Family::Ipv6) }
    }

    /// The same, if they are others than at the last call.
    pub(super) fn take_changed(&mut self) -> Option<PerFamily<Option<IpAddr>>> {
        let now = self.gateways();
        (std::mem::replace(&mut self.told, now) != now).then_some(now)
    }
}

/// Of a listed route, what [`DefaultRoutes::retain`] takes.
pub(super) fn shown(route: &KernelRoute) -> impl Iterator<Item = (Family, Way)> {
    family_of(route).into_iter().flat_map(|family| ways_of(route).map(move |way| (family, way)))
}

/// Of a default route that counts.
fn family_of(route: &KernelRoute) -> Option<Family> {
    let counts = route.table == Table::Main && route.prefix.length() == 0 && route.protocol != PROTOCOL;
    counts.then(|| route.prefix.family())
}

fn ways_of(route: &KernelRoute) -> impl Iterator<Item = Way> {
    let first = match route.shape.form {
        Form::Plain(hop) => Some(hop),
        Form::Odd(hop) => hop,
        Form::Group(_) | Form::Unreachable => None,
    };
    [first].into_iter().chain(route.siblings.iter().copied().map(Some)).map(|hop| (route.metric, hop))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mirror::Shape, next_hops::tests::hop, wanted::Prefix};

    fn route(network: &str, protocol: u8, metric: u32, hop: Option<Hop>) -> KernelRoute {
        let shape = Shape { form: hop.map_or(Form::Odd(None), Form::Plain), source: None };
        let prefix = Prefix::new(network.parse().expect("network"));
        KernelRoute { table: Table::Main, prefix, metric, protocol, shape, siblings: Vec::new() }
    }

    fn told(defaults: &mut DefaultRoutes) -> Option<(Option<String>, Option<String>)> {
        let text = |gateway: Option<IpAddr>| gateway.map(|gateway| gateway.to_string());
        defaults.take_changed().map(|found| (text(found.ipv4), text(found.ipv6)))
    }

    const STATIC: u8 = 4;

    #[test]
    fn the_lowest_metric_counts_and_ours_never_does() {
        let mut defaults = DefaultRoutes::default();
        let some = |gateway: &str| Some((Some(gateway.to_owned()), None));
        defaults.note(&route("0.0.0.0/0", PROTOCOL, 0, Some(hop("10.9.0.1", 9))), Replaced::No);
        defaults.note(&route("10.0.0.0/8", STATIC, 0, Some(hop("10.9.0.1", 9))), Replaced::No);
        assert_eq!(told(&mut defaults), None);
        let (high, low) = (hop("10.1.0.1", 1), hop("10.2.0.1", 2));
        defaults.note(&route("0.0.0.0/0", STATIC, 100, Some(high)), Replaced::No);
        assert_eq!(told(&mut defaults), some("10.1.0.1"));
        let first = route("0.0.0.0/0", STATIC, 50, Some(low));
        defaults.note(&first, Replaced::No);
        assert_eq!(told(&mut defaults), some("10.2.0.1"));
        assert_eq!(told(&mut defaults), None, "told once");
        defaults.note(&route("0.0.0.0/0", STATIC, 50, Some(hop("10.3.0.1", 2))), Replaced::Yes);
        assert_eq!(told(&mut defaults), some("10.3.0.1"));
        defaults.link_lost(LinkIndex(2), LinkLoss::Carrier);
        assert_eq!(told(&mut defaults), None, "the kernel keeps it");
        defaults.link_lost(LinkIndex(2), LinkLoss::Admin);
        assert_eq!(told(&mut defaults), some("10.1.0.1"));
        defaults.gone(&route("0.0.0.0/0", STATIC, 100, Some(high)));
        assert_eq!(told(&mut defaults), Some((None, None)));
    }

    #[test]
    fn a_default_route_without_a_gateway_hides_those_of_higher_metrics() {
        let mut defaults = DefaultRoutes::default();
        defaults.note(&route("::/0", STATIC, 1024, Some(hop("fd00::1", 1))), Replaced::No);
        assert_eq!(told(&mut defaults), Some((None, Some("fd00::1".to_owned()))));
        defaults.note(&route("::/0", STATIC, 10, None), Replaced::No);
        assert_eq!(told(&mut defaults), Some((None, None)));
        let listed = route("::/0", STATIC, 1024, Some(hop("fd00::1", 1)));
        defaults.retain(&shown(&listed).collect());
        assert_eq!(
            told(&mut defaults),
            Some((None, Some("fd00::1".to_owned()))),
            "a listing has not shown it"
        );
    }
}
