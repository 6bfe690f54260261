//! The pods that are wired on this node: what looks found, and what the plugin told by itself.
//!
//! A look takes a while, and the plugin tells its pod while it goes on. What it told counts until a look that began
//! later knows better. And a pod keeps its addresses as long as it is there: one that is not found lacks its host
//! route, which is put back.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use cambric_policy::change::{Change, Endpoint};
use cambric_policy::program::IfName;

use crate::endpoints::Endpoints;

/// All of them, as the enforcer was told.
#[derive(Debug, Default)]
pub(crate) struct Wired {
    told: Endpoints,
    /// Those that the plugin told since the last look began, and when.
    placed: BTreeMap<IfName, (Instant, Endpoint)>,
}

impl Wired {
    /// The plugin has told this one, and so is the enforcer.
    pub(crate) fn place(&mut self, at: Instant, interface: IfName, endpoint: Endpoint) {
        self.told.insert(IfName::clone(&interface), endpoint.clone());
        self.placed.insert(interface, (at, endpoint));
    }

    /// What the enforcer must be told after a look.
    pub(crate) fn look(&mut self, begun: Instant, found: Endpoints) -> Vec<Change> {
        self.placed.retain(|_, (at, _)| *at >= begun);
        let mut now = found;
        now.extend(
            self.placed.iter().map(|(interface, (_, endpoint))| (interface.clone(), endpoint.clone())),
        );
        for (interface, endpoint) in &mut now {
            let told = self.told.get(interface).filter(|told| told.pod == endpoint.pod);
            let is_known = |told: &Endpoint| {
                let mut lasting = endpoint.addresses.iter().filter(|address| !is_link_local(**address));
                lasting.all(|address| told.addresses.contains(address))
            };
            if let Some(told) = told.filter(|told| is_known(told)) {
                endpoint.addresses.extend(&told.addresses);
            }
        }
        let come = now.iter().filter(|(interface, endpoint)| self.told.get(*interface) != Some(endpoint));
        let come = come.map(|(interface, endpoint)| (interface.clone(), Some(endpoint.clone())));
        let gone = self.told.keys().filter(|interface| !now.contains_key(*interface));
        let gone = gone.map(|interface| (interface.clone(), None));
        let changes = gone.chain(come).map(|(interface, endpoint)| Change::Endpoint(interface, endpoint));
        let changes = changes.collect();
        self.told = now;
        changes
    }

    /// Those of the changed that the plugin has told since: they may have been told before the changes were.
    pub(crate) fn again(&self, changes: &[IfName]) -> Vec<Change> {
        let placed = changes.iter().filter_map(|interface| Some((interface, self.placed.get(interface)?)));
        placed
            .map(|(interface, (_, endpoint))| Change::Endpoint(interface.clone(), Some(endpoint.clone())))
            .collect()
    }
}

/// It follows from the link, so it is always found; the plugin does not tell it.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cambric_policy::change::Key;

    use super::*;

    fn endpoint(pod: &str, last: u8) -> Endpoint {
        Endpoint { pod: Some(Key::new("default", pod)), addresses: [[10, 244, 1, last].into()].into() }
    }

    fn words(changes: &[Change]) -> Vec<String> {
        let word = |change: &Change| match change {
            Change::Endpoint(interface, Some(Endpoint { pod: Some(pod), addresses })) => {
                format!("{interface}: {pod} {addresses:?}")
            }
            Change::Endpoint(interface, None) => format!("{interface} is gone"),
            other => format!("{other:?}"),
        };
        changes.iter().map(word).collect()
    }

    #[test]
    fn a_look_tells_what_came_what_changed_and_what_went() {
        let mut wired = Wired::default();
        let begun = Instant::now();
        let first: Endpoints = [("cama".into(), endpoint("a", 1)), ("camb".into(), endpoint("b", 2))].into();
        assert_eq!(
            words(&wired.look(begun, first.clone())),
            ["cama: default/a {10.244.1.1}", "camb: default/b {10.244.1.2}"]
        );
        assert_eq!(words(&wired.look(begun, first)), [""; 0]);
        let second: Endpoints = [("camb".into(), endpoint("b", 3)), ("camc".into(), endpoint("c", 1))].into();
        assert_eq!(
            words(&wired.look(begun, second)),
            ["cama is gone", "camb: default/b {10.244.1.3}", "camc: default/c {10.244.1.1}"]
        );
    }

    #[test]
    fn a_pod_keeps_the_addresses_whose_routes_are_lost() {
        let mut wired = Wired::default();
        let begun = Instant::now();
        let found = |endpoint| Endpoints::from([("cama".into(), endpoint)]);
        wired.look(begun, found(endpoint("a", 1)));
        let link_local: IpAddr = "fe80::1".parse().expect("address");
        let bare = Endpoint { addresses: [link_local].into(), ..endpoint("a", 1) };
        assert_eq!(words(&wired.look(begun, found(bare.clone()))), ["cama: default/a {10.244.1.1, fe80::1}"]);
        assert_eq!(words(&wired.look(begun, found(bare))), [""; 0]);
        assert_eq!(words(&wired.look(begun, found(endpoint("a", 2)))), ["cama: default/a {10.244.1.2}"]);
    }

    #[test]
    fn what_the_plugin_told_counts_until_a_later_look() {
        let mut wired = Wired::default();
        let begun = Instant::now();
        let (told, later) = (begun + Duration::from_millis(1), begun + Duration::from_millis(2));
        wired.place(told, "cama".into(), endpoint("a", 1));
        let half = Endpoint { addresses: [].into(), ..endpoint("a", 1) };
        assert_eq!(
            words(&wired.look(begun, [("cama".into(), half)].into())),
            [""; 0],
            "it was in the making"
        );
        assert_eq!(words(&wired.look(begun, Endpoints::new())), [""; 0], "it was not there yet");
        assert_eq!(words(&wired.again(&["cama".into(), "camb".into()])), ["cama: default/a {10.244.1.1}"]);
        assert_eq!(words(&wired.look(later, Endpoints::new())), ["cama is gone"], "its ADD was undone");
        assert_eq!(words(&wired.again(&["cama".into()])), [""; 0]);
    }
}
