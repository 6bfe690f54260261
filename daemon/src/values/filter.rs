//! What counts of a BGPFilter.
//!
//! A fault costs the whole filter: one without a rule of its own would let pass, or hold back, what was meant otherwise.

use std::collections::{BTreeMap, BTreeSet};

use cambric_bgp::config::Source;
use cambric_bgp::policy::as_path::AsPathPattern;
use cambric_bgp::policy::filter::{Action, Change, Filter, Match, Otherwise, PrefixRange, Provenance, Rule};
use cambric_bgp::types::{LocalPref, Med, PeerKind};
use cambric_bgp::{Family, Prefix};

use super::{Fault, Fields, OBJECT, canonical, family, quoted};
use crate::kinds::{
    BGPFilterSpec, FamilyFilters, FilterAction, FilterChange, FilterMatch, FilterPrefix, FilterRule,
    MOST_NAME_OCTETS, RouteSource,
};
use crate::objects::FilterNames;

/// Rules of a filter.
const MOST_RULES: usize = 128;
/// Entries of a list in a rule.
const MOST_ENTRIES: usize = 64;
/// Letters of a pattern.
const MOST_PATTERN: usize = 256;
/// Filters that a route goes through.
const MOST_FILTERS: usize = 16;

/// The filter of this name; nothing if there is a fault.
pub(crate) fn filter(name: &str, spec: &BGPFilterSpec) -> (Option<Filter>, Vec<Fault>) {
    let mut fields = Fields::default();
    fields.limited(OBJECT, "spec.rules", spec.rules.len(), MOST_RULES);
    let rules = spec.rules.iter().enumerate();
    let rules = rules.map(|(at, rule)| fields.rule(&format!("spec.rules[{at}]"), rule)).collect();
    let otherwise = match spec.otherwise {
        FilterAction::Accept => Otherwise::Accept,
        FilterAction::Reject => Otherwise::Reject,
    };
    let found = Filter { name: name.to_owned(), rules, otherwise };
    (fields.faults.is_empty().then_some(found), fields.faults)
}

impl Fields {
    fn rule(&mut self, field: &str, rule: &FilterRule) -> Rule {
        let FilterRule { match_, action, set } = rule;
        let matches = match match_ {
            Some(wanted) => self.matches(&format!("{field}.match"), wanted),
            None => Match::default(),
        };
        let change = match set {
            Some(set) => self.change(&format!("{field}.set"), set),
            None => Change::default(),
        };
        let action = match action {
            FilterAction::Accept => Action::Accept(change),
            FilterAction::Reject => {
                if set.is_some() {
                    let reason = "what is rejected cannot be changed: set goes with action: Accept";
                    self.refuse(OBJECT, format!("{field}.set"), "there", reason);
                }
                Action::Reject
            }
        };
        Rule { matches, action }
    }

    fn matches(&mut self, field: &str, wanted: &FilterMatch) -> Match {
        let FilterMatch { prefixes, communities, large_communities, as_path, next_hops, peers, sources } =
            wanted;
        Match {
            prefixes: prefixes.as_ref().map(|list| self.ranges_of(&format!("{field}.prefixes"), list)),
            communities: self.communities(OBJECT, &format!("{field}.communities"), communities.as_deref()),
            large_communities: self.large_communities(
                OBJECT,
                &format!("{field}.largeCommunities"),
                large_communities.as_deref(),
            ),
            as_path: as_path.as_ref().and_then(|text| self.pattern(&format!("{field}.asPath"), text)),
            next_hops: next_hops.as_ref().map(|texts| {
                let field = format!("{field}.nextHops");
                self.some(&field, texts.len(), MOST_ENTRIES);
                self.prefixes(OBJECT, &field, texts, MOST_ENTRIES)
            }),
            peers: peers.as_ref().map(|names| {
                let field = format!("{field}.peers");
                self.some(&field, names.len(), MOST_ENTRIES);
                self.names(&field, names);
                names.iter().cloned().collect()
            }),
            sources: sources.as_ref().map(|sources| self.sources(&format!("{field}.sources"), sources)),
        }
    }

    /// Not empty, and not too long.
    fn some(&mut self, field: &str, items: usize, most: usize) {
        if items == 0 {
            self.refuse(OBJECT, field, "empty", "leave it out for any");
        }
        self.limited(OBJECT, field, items, most);
    }

    fn ranges_of(&mut self, field: &str, list: &[FilterPrefix]) -> Vec<PrefixRange> {
        self.some(field, list.len(), MOST_ENTRIES);
        let range = |(at, entry)| self.range(&format!("{field}[{at}]"), entry);
        list.iter().enumerate().filter_map(range).collect()
    }

    /// The default route is one as any other here.
    fn range(&mut self, field: &str, entry: &FilterPrefix) -> Option<PrefixRange> {
        let FilterPrefix { cidr, ge, le } = entry;
        let prefix = canonical(cidr).then(|| cidr.parse::<Prefix>().ok()).flatten();
        let Some(prefix) = prefix else {
            self.refuse(OBJECT, format!("{field}.cidr"), quoted(cidr), "not of the form address/length");
            return None;
        };
        let address = cidr.split('/').next().and_then(|address| address.parse().ok());
        if address != Some(prefix.address()) {
            let reason = format!("host bits are set; {prefix} is without them");
            self.refuse(OBJECT, format!("{field}.cidr"), cidr, reason);
            return None;
        }
        let range = PrefixRange::new(prefix, *ge, *le);
        if range.is_none() {
            let (shortest, longest) = (prefix.length(), prefix.family().bits());
            let number = |name, value: &Option<u8>| value.map(|value| format!("{name} {value}"));
            let given = [number("ge", ge), number("le", le)].into_iter().flatten().collect::<Vec<_>>();
            let reason = format!("of {prefix} there is {shortest} <= ge <= le <= {longest}");
            self.refuse(OBJECT, field, given.join(", "), reason);
        }
        range
    }

    fn pattern(&mut self, field: &str, text: &str) -> Option<AsPathPattern> {
        let letters = text.chars().count();
        if text.is_empty() || letters > MOST_PATTERN {
            let reason = format!("1 to {MOST_PATTERN} letters; ^$ is the empty path");
            self.refuse(OBJECT, field, format!("{letters} letters"), reason);
            return None;
        }
        let pattern = AsPathPattern::new(text);
        pattern.map_err(|error| self.refuse(OBJECT, field, quoted(text), error)).ok()
    }

    fn sources(&mut self, field: &str, sources: &[RouteSource]) -> BTreeSet<Provenance> {
        self.some(field, sources.len(), MOST_ENTRIES);
        let found: BTreeSet<Provenance> = sources.iter().map(|source| provenance(*source)).collect();
        if found.len() < sources.len() {
            self.refuse(OBJECT, field, format!("{} items", sources.len()), "one stands twice");
        }
        found
    }

    fn change(&mut self, field: &str, set: &FilterChange) -> Change {
        let FilterChange { local_pref, med, prepend, next_hop, .. } = set;
        let in_set = |name: &str| format!("{field}.{name}");
        let (added, removed) = (
            self.communities(OBJECT, &in_set("addCommunities"), set.add_communities.as_deref()),
            self.communities(OBJECT, &in_set("removeCommunities"), set.remove_communities.as_deref()),
        );
        let (added_large, removed_large) = (
            self.large_communities(
                OBJECT,
                &in_set("addLargeCommunities"),
                set.add_large_communities.as_deref(),
            ),
            self.large_communities(
                OBJECT,
                &in_set("removeLargeCommunities"),
                set.remove_large_communities.as_deref(),
            ),
        );
        let next_hop = next_hop.as_ref();
        Change {
            local_pref: local_pref.map(LocalPref),
            med: med.map(Med),
            prepend: self.prepended(OBJECT, &in_set("prepend"), *prepend),
            add_communities: added.unwrap_or_default(),
            remove_communities: removed.unwrap_or_default(),
            add_large_communities: added_large.unwrap_or_default(),
            remove_large_communities: removed_large.unwrap_or_default(),
            next_hop: next_hop.and_then(|text| self.spelt_address(OBJECT, &in_set("nextHop"), text)),
        }
    }

    fn names(&mut self, field: &str, names: &[String]) {
        for (at, name) in names.iter().enumerate() {
            let letters = name.chars().count();
            if letters == 0 || letters > MOST_NAME_OCTETS {
                let reason = format!("a name has 1 to {MOST_NAME_OCTETS}");
                self.refuse(OBJECT, format!("{field}[{at}]"), format!("{letters} letters"), reason);
            }
        }
    }

    /// The filters of a BGPPeerConfig, by name.
    pub(super) fn filter_names(&mut self, lists: &[FamilyFilters]) -> BTreeMap<Family, FilterNames> {
        let mut found = BTreeMap::new();
        for (at, FamilyFilters { family: name, import, export }) in lists.iter().enumerate() {
            let field = format!("spec.filters[{at}]");
            for (direction, names) in [("import", import), ("export", export)] {
                let field = format!("{field}.{direction}");
                self.limited(OBJECT, &field, names.len(), MOST_FILTERS);
                self.names(&field, names);
            }
            let names = FilterNames { field: field.clone(), import: import.clone(), export: export.clone() };
            if found.insert(family(name), names).is_some() {
                self.refuse(OBJECT, format!("{field}.family"), family(name), "stands twice");
            }
        }
        found
    }
}

fn provenance(source: RouteSource) -> Provenance {
    match source {
        RouteSource::Pods => Provenance::Local(Source::Pods),
        RouteSource::NodeAddress => Provenance::Local(Source::NodeAddress),
        RouteSource::Services => Provenance::Local(Source::Services),
        RouteSource::Aggregate => Provenance::Local(Source::Aggregate),
        RouteSource::External => Provenance::Learned(PeerKind::External),
        RouteSource::Internal => Provenance::Learned(PeerKind::Internal),
    }
}

#[cfg(test)]
mod tests {
    use cambric_bgp::types::{Community, LargeCommunity};

    use super::*;

    fn read(spec: &str) -> (Option<Filter>, Vec<String>) {
        let spec: BGPFilterSpec = serde_yaml_ng::from_str(spec).expect("of the type");
        let (found, faults) = filter("tor-in", &spec);
        (found, faults.into_iter().map(|fault| fault.what).collect())
    }

    #[test]
    fn a_filter_is_read_as_it_is_written() {
        let (found, faults) = read(
            "{rules: [{match: {prefixes: [{cidr: 0.0.0.0/0}, {cidr: 10.0.0.0/8, ge: 16}], asPath: ^65101_,
             communities: [no-export], largeCommunities: ['1:2:3'], nextHops: [10.1.0.0/16], peers: [tor1a],
             sources: [External, Pods]}, action: Accept, set: {localPref: 50, med: 0, prepend: 16,
             addCommunities: ['65101:1'], removeLargeCommunities: ['1:2:3'], nextHop: 10.1.0.1}},
             {action: Reject}], otherwise: Accept}",
        );
        assert_eq!(faults, [""; 0]);
        let prefix = |text: &str| text.parse::<Prefix>().expect("prefix");
        let range = |text, ge| PrefixRange::new(prefix(text), ge, None).expect("sound");
        let matches = Match {
            prefixes: Some(vec![range("0.0.0.0/0", None), range("10.0.0.0/8", Some(16))]),
            communities: Some(vec![Community::NO_EXPORT]),
            large_communities: Some(vec![LargeCommunity([1, 2, 3])]),
            as_path: AsPathPattern::new("^65101_").ok(),
            next_hops: Some(vec![prefix("10.1.0.0/16")]),
            peers: Some(["tor1a".to_owned()].into()),
            sources: Some([Provenance::Local(Source::Pods), Provenance::Learned(PeerKind::External)].into()),
        };
        let change = Change {
            local_pref: Some(LocalPref(50)),
            med: Some(Med(0)),
            prepend: 16,
            add_communities: vec![Community(65101 << 16 | 1)],
            remove_large_communities: vec![LargeCommunity([1, 2, 3])],
            next_hop: "10.1.0.1".parse().ok(),
            ..Change::default()
        };
        let rules = vec![
            Rule { matches, action: Action::Accept(change) },
            Rule { matches: Match::default(), action: Action::Reject },
        ];
        let name = "tor-in".to_owned();
        assert_eq!(found, Some(Filter { name, rules, otherwise: Otherwise::Accept }));
    }

    #[test]
    fn a_wrong_value_costs_the_filter_and_names_field_and_value() {
        let of = |wanted: &str| format!("{{rules: [{{match: {wanted}, action: Accept}}]}}");
        let set = |set: &str| format!("{{rules: [{{action: Accept, set: {set}}}]}}");
        let table = [
            (
                of("{prefixes: [{cidr: 10.0.0.1/8}]}"),
                "spec.rules[0].match.prefixes[0].cidr: 10.0.0.1/8: host bits are set; 10.0.0.0/8 is without them",
            ),
            (
                of("{prefixes: [{cidr: 10.0.0.0/8, ge: 24, le: 16}]}"),
                "spec.rules[0].match.prefixes[0]: ge 24, le 16: of 10.0.0.0/8 there is 8 <= ge <= le <= 32",
            ),
            (
                of("{prefixes: [{cidr: ten}]}"),
                "spec.rules[0].match.prefixes[0].cidr: \"ten\": not of the form address/length",
            ),
            (of("{prefixes: []}"), "spec.rules[0].match.prefixes: empty: leave it out for any"),
            (
                of("{communities: ['65536:1']}"),
                "spec.rules[0].match.communities[0]: \"65536:1\": not of the form AS:number, each up to 65535, nor a \
                 well-known name (RFC 1997)",
            ),
            (
                of("{asPath: '65101x'}"),
                "spec.rules[0].match.asPath: \"65101x\": 'x' does not occur in an AS path; digits, spaces and \
                 _ ^ $ . * + ? | ( ) [ ] { } , - : do",
            ),
            (of("{sources: [Pods, Pods]}"), "spec.rules[0].match.sources: 2 items: one stands twice"),
            (set("{prepend: 17}"), "spec.rules[0].set.prepend: 17: 1 to 16"),
            (set("{nextHop: 224.0.0.1}"), "spec.rules[0].set.nextHop: 224.0.0.1: a multicast address"),
            (
                "{rules: [{action: Reject, set: {med: 1}}]}".to_owned(),
                "spec.rules[0].set: there: what is rejected cannot be changed: set goes with action: Accept",
            ),
        ];
        for (spec, says) in table {
            let (found, faults) = read(&spec);
            assert_eq!((found, faults), (None, vec![says.to_owned()]), "{spec}");
        }
    }
}
