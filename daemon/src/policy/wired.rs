//! The pods that are wired on this node: what looks found, and what the plugin told by itself.
//!
//! A look takes a while, and the plugin tells its pod while it goes on. What it told counts until a look that began
//! later knows better. And a pod keeps its addresses as long as it is there: one that is not found lacks its host
//! route, which is put back.
//!
//! A link of which nobody can tell any more whose it is stays what it was; one that never was anything is closed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cambric_cni::attachment::is_link_local;
use cambric_policy::change::{Change, Endpoint};
use cambric_policy::program::IfName;

use crate::endpoints::{Endpoints, Wire};

/// A link is of nobody for a moment in each ADD; after this long it is a problem.
const NAMED_AFTER: Duration = Duration::from_millis(900);

/// All of them, as the enforcer was told.
#[derive(Debug, Default)]
pub(crate) struct Wired {
    told: BTreeMap<IfName, Endpoint>,
    /// The numbers of the links that the last look found.
    indexes: BTreeMap<IfName, u32>,
    /// Those that the plugin told since the last look began, and when.
    placed: BTreeMap<IfName, (Instant, Endpoint)>,
    /// Those of `placed` that the enforcer may not have heard of: whoever told it was cut off.
    unsure: BTreeSet<IfName>,
    /// Those of which nobody can tell whose they are, since when, and why.
    strange: BTreeMap<IfName, (Instant, String)>,
}

impl Wired {
    /// The plugin has told this one; what the enforcer must be told of it, and [`Wired::is_heard`] when it was. The plugin
    /// tells no link-local address.
    pub(crate) fn place(&mut self, at: Instant, interface: IfName, mut endpoint: Endpoint) -> Endpoint {
        if let Some(told) = self.told.get(&interface).filter(|told| told.pod == endpoint.pod) {
            endpoint.addresses.extend(told.addresses.iter().filter(|address| is_link_local(**address)));
        }
        self.indexes.remove(&interface);
        self.told.insert(IfName::clone(&interface), endpoint.clone());
        self.unsure.insert(IfName::clone(&interface));
        self.placed.insert(interface, (at, endpoint.clone()));
        endpoint
    }

    /// The enforcer knows what the plugin told.
    pub(crate) fn is_heard(&mut self, interface: &IfName) {
        self.unsure.remove(interface);
    }

    /// What the enforcer must be told after a look.
    pub(crate) fn look(&mut self, begun: Instant, found: Endpoints) -> Vec<Change> {
        self.placed.retain(|_, (at, _)| *at >= begun);
        self.note_strange(begun, &found);
        let indexes = found.iter().map(|(interface, wire)| (interface.clone(), wire.index)).collect();
        let mut now: BTreeMap<IfName, Endpoint> = found
            .into_iter()
            .filter_map(|(interface, wire)| {
                self.known(&interface, wire).map(|endpoint| (interface, endpoint))
            })
            .collect();
        for (interface, (_, endpoint)) in &self.placed {
            let found = now.insert(interface.clone(), endpoint.clone());
            if let (Some(found), Some(placed)) = (found, now.get_mut(interface))
                && found.pod == placed.pod
            {
                placed
                    .addresses
                    .extend(found.addresses.into_iter().filter(|address| is_link_local(*address)));
            }
        }
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
        let unsure = std::mem::take(&mut self.unsure);
        let come = now.iter().filter(|(interface, endpoint)| {
            self.told.get(*interface) != Some(endpoint) || unsure.contains(*interface)
        });
        let come = come.map(|(interface, endpoint)| (interface.clone(), Some(endpoint.clone())));
        let gone = self.told.keys().filter(|interface| !now.contains_key(*interface));
        let gone = gone.map(|interface| (interface.clone(), None));
        let changes = gone.chain(come).map(|(interface, endpoint)| Change::Endpoint(interface, endpoint));
        let changes = changes.collect();
        (self.told, self.indexes) = (now, indexes);
        changes
    }

    /// What is at the end of a link, or was when that could be told. A uid that was told stays: DEL forgets it before the
    /// link is gone, and by its name alone what is left of a pod may be judged as the one after it.
    fn known(&self, interface: &IfName, Wire { index, endpoint }: Wire) -> Option<Endpoint> {
        let is_same = self.indexes.get(interface).is_none_or(|before| *before == index);
        let told = self.told.get(interface).filter(|_| is_same);
        let Ok(mut endpoint) = endpoint else { return told.cloned() };
        if let Some(pod) = &mut endpoint.pod
            && pod.uid.is_none()
            && let Some(told) = told.and_then(|told| told.pod.as_ref()).filter(|told| told.key == pod.key)
        {
            pod.uid.clone_from(&told.uid);
        }
        Some(endpoint)
    }

    fn note_strange(&mut self, begun: Instant, found: &Endpoints) {
        let strange = found.iter().filter_map(|(interface, wire)| {
            let why = wire.endpoint.as_ref().err()?.clone();
            let is_same = self.indexes.get(interface) == Some(&wire.index);
            let before = self.strange.get(interface).filter(|_| is_same);
            Some((interface.clone(), (before.map_or(begun, |(since, _)| *since), why)))
        });
        self.strange = strange.collect();
    }

    /// What is wrong with links, as of a look that began then, in words.
    pub(crate) fn problems(&self, begun: Instant) -> Vec<String> {
        let strange =
            self.strange.iter().filter(|(_, (since, _))| begun.duration_since(*since) >= NAMED_AFTER);
        let word = |(interface, (_, why)): (&IfName, &(Instant, String))| {
            let becomes = match self.told.contains_key(interface) {
                true => "it is judged as it was before",
                false => "it is closed: nothing goes through it",
            };
            format!("link {interface}: whose it is cannot be told: {why}; {becomes}")
        };
        strange.map(word).collect()
    }

    /// Those of the changed that the plugin has told since, as they are now: they may have been told before the changes
    /// were.
    pub(crate) fn again(&self, changes: &[IfName]) -> Vec<Change> {
        let placed = changes.iter().filter(|interface| self.placed.contains_key(*interface));
        placed
            .filter_map(|interface| Some((interface.clone(), Some(self.told.get(interface)?.clone()))))
            .map(|(interface, endpoint)| Change::Endpoint(interface, endpoint))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use cambric_policy::change::{Key, PodRef};
    use cambric_policy::pod::Uid;

    use super::*;

    fn endpoint(pod: &str, last: u8) -> Endpoint {
        Endpoint { pod: Some(Key::new("default", pod).into()), addresses: [[10, 244, 1, last].into()].into() }
    }

    fn wire(endpoint: Endpoint) -> Wire {
        Wire { index: 7, endpoint: Ok(endpoint) }
    }

    fn words(changes: &[Change]) -> Vec<String> {
        let word = |change: &Change| match change {
            Change::Endpoint(interface, Some(Endpoint { pod: Some(pod), addresses })) => {
                format!("{interface}: {} {addresses:?}", pod.key)
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
        let first: Endpoints =
            [("cama".into(), wire(endpoint("a", 1))), ("camb".into(), wire(endpoint("b", 2)))].into();
        assert_eq!(
            words(&wired.look(begun, first.clone())),
            ["cama: default/a {10.244.1.1}", "camb: default/b {10.244.1.2}"]
        );
        assert_eq!(words(&wired.look(begun, first)), [""; 0]);
        let second: Endpoints =
            [("camb".into(), wire(endpoint("b", 3))), ("camc".into(), wire(endpoint("c", 1)))].into();
        assert_eq!(
            words(&wired.look(begun, second)),
            ["cama is gone", "camb: default/b {10.244.1.3}", "camc: default/c {10.244.1.1}"]
        );
    }

    #[test]
    fn a_link_keeps_the_uid_that_was_told_of_it() {
        let of = |uid: &str, pod: &str| {
            let pod = PodRef { key: Key::new("default", pod), uid: Uid::new(uid) };
            Endpoint { pod: Some(pod), ..endpoint("a", 1) }
        };
        let found = |index, endpoint| [("cama".into(), Wire { index, endpoint: Ok(endpoint) })].into();
        let mut wired = Wired::default();
        let begun = Instant::now();
        assert_eq!(wired.look(begun, found(7, of("u", "a"))).len(), 1);
        assert_eq!(words(&wired.look(begun, found(7, of("", "a")))), [""; 0], "the file of its uid is gone");
        assert_eq!(wired.told["cama"], of("u", "a"));
        wired.look(begun, found(7, of("", "b")));
        assert_eq!(wired.told["cama"], of("", "b"), "it is another pod's");
        wired.look(begun, found(7, of("u", "a")));
        wired.look(begun, found(8, of("", "a")));
        assert_eq!(wired.told["cama"], of("", "a"), "it is another link");

        wired.place(begun, "cama".into(), of("v", "a"));
        wired.look(begun + Duration::from_secs(1), found(9, of("", "a")));
        assert_eq!(wired.told["cama"], of("v", "a"), "the plugin told it");
    }

    #[test]
    fn what_the_enforcer_may_not_have_heard_of_is_told_again() {
        let mut wired = Wired::default();
        let start = Instant::now();
        for interface in ["cama", "camb"] {
            wired.place(start, interface.into(), endpoint("a", 1));
        }
        wired.is_heard(&"cama".into());
        let later = start + Duration::from_secs(1);
        let found = || ["cama", "camb"].map(|name| (name.into(), wire(endpoint("a", 1)))).into();
        assert_eq!(words(&wired.look(later, found())).len(), 1, "the other one is known");
        assert_eq!(words(&wired.look(later, found())), [""; 0]);
    }

    #[test]
    fn a_pod_keeps_the_addresses_whose_routes_are_lost() {
        let mut wired = Wired::default();
        let begun = Instant::now();
        let found = |endpoint| Endpoints::from([("cama".into(), wire(endpoint))]);
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
        wired.is_heard(&"cama".into());
        let half = Endpoint { addresses: [].into(), ..endpoint("a", 1) };
        assert_eq!(
            words(&wired.look(begun, [("cama".into(), wire(half))].into())),
            [""; 0],
            "it was in the making"
        );
        assert_eq!(words(&wired.look(begun, Endpoints::new())), [""; 0], "it was not there yet");
        assert_eq!(words(&wired.again(&["cama".into(), "camb".into()])), ["cama: default/a {10.244.1.1}"]);
        assert_eq!(words(&wired.look(later, Endpoints::new())), ["cama is gone"], "its ADD was undone");
        assert_eq!(words(&wired.again(&["cama".into()])), [""; 0]);
    }

    /// The plugin has put it into the kernel's sets; without it the pod's neighbour discovery is dropped as spoofed.
    #[test]
    fn a_pod_that_is_placed_keeps_its_link_local_address() {
        let mut wired = Wired::default();
        let begun = Instant::now();
        let link_local: IpAddr = "fe80::1".parse().expect("address");
        let bare = || Endpoint { addresses: [link_local].into(), ..endpoint("a", 1) };
        let all = || Endpoint { addresses: [[10, 244, 1, 1].into(), link_local].into(), ..endpoint("a", 1) };
        wired.look(begun, [("cama".into(), wire(bare()))].into());
        assert_eq!(wired.place(begun, "cama".into(), endpoint("a", 1)), all());
        let mut wired = Wired::default();
        assert_eq!(
            wired.place(begun, "cama".into(), endpoint("a", 1)),
            endpoint("a", 1),
            "no look has found it yet"
        );
        let changes = wired.look(begun, [("cama".into(), wire(bare()))].into());
        assert_eq!(words(&changes), ["cama: default/a {10.244.1.1, fe80::1}"]);
        let again = wired.again(&["cama".into()]);
        assert_eq!(words(&again), ["cama: default/a {10.244.1.1, fe80::1}"], "nothing would tell it later");
    }

    #[test]
    fn a_link_that_does_not_tell_whose_it_is_stays_what_it_was_or_closed() {
        let mut wired = Wired::default();
        let begun = Instant::now();
        let unknown = |index| Wire { index, endpoint: Err("it has no alias".to_owned()) };
        wired.look(begun, [("cama".into(), wire(endpoint("a", 1)))].into());
        let found = || Endpoints::from([("cama".into(), unknown(7)), ("camb".into(), unknown(8))]);
        assert_eq!(words(&wired.look(begun, found())), [""; 0]);
        assert_eq!(wired.problems(begun), [""; 0], "as for a moment in each ADD");
        let later = begun + Duration::from_secs(1);
        assert_eq!(words(&wired.look(later, found())), [""; 0]);
        assert_eq!(
            wired.problems(later),
            [
                "link cama: whose it is cannot be told: it has no alias; it is judged as it was before",
                "link camb: whose it is cannot be told: it has no alias; it is closed: nothing goes through it",
            ]
        );
        let another = [("cama".into(), unknown(9))];
        assert_eq!(words(&wired.look(later, another.into())), ["cama is gone"], "it is another link");
        assert_eq!(wired.problems(later), [""; 0]);
    }
}
