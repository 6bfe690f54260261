//! What an operator says of routes beyond the built-in policy.
//!
//! A filter is a list of rules; the first that matches a route decides: it rejects the route, or accepts it and may change
//! it. `otherwise` is for the routes that no rule matches. A route goes through the filters of a peer one after another:
//! one that rejects it is the last, and what one has changed is what the next one sees.
//!
//! To be accepted by all filters is not to be accepted: behind them stands the built-in policy (RFC 8212), and what it
//! would refuse stays refused unless a rule *opens* it, by saying which routes it means ([`Rule::opens`]). So a filter
//! that shall set a preference on everything does not by accident take in a default route, nor make the node a transit.
//!
//! Pure: whoever asks again why a route has passed gets the same answer, and nothing of it is kept with the route.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::as_path::AsPathPattern;
use crate::attributes::{AsPath, Attributes};
use crate::config::Source;
use crate::prefix::{Family, Prefix};
use crate::types::{Community, LargeCommunity, LocalPref, Med, PeerKind};

/// Ordered rules, the first that matches decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// For people.
    pub name: String,
    /// In this order.
    pub rules: Vec<Rule>,
    /// What becomes of a route that no rule matches.
    pub otherwise: Otherwise,
}

/// What becomes of a route that no rule of a filter matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Otherwise {
    /// The filter has nothing against it.
    Accept,
    /// It is refused.
    #[default]
    Reject,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which routes it is for.
    pub matches: Match,
    /// What becomes of them.
    pub action: Action,
}

/// What becomes of the routes of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// They pass this filter, changed so.
    Accept(Change),
    /// They are refused.
    Reject,
}

/// Which routes: what is absent asks nothing; of each list, one entry must match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Match {
    /// What they are to.
    pub prefixes: Option<Vec<PrefixRange>>,
    /// Communities that they have (RFC 1997).
    pub communities: Option<Vec<Community>>,
    /// Large communities that they have (RFC 8092).
    pub large_communities: Option<Vec<LargeCommunity>>,
    /// What their AS path looks like.
    pub as_path: Option<AsPathPattern>,
    /// Ranges that their next hop is in. A route of our own has none.
    pub next_hops: Option<Vec<Prefix>>,
    /// Names of peers: on import of the one that tells, on export of the one that is told.
    pub peers: Option<BTreeSet<String>>,
    /// Where they come from.
    pub sources: Option<BTreeSet<Provenance>>,
}

/// Where a route comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provenance {
    /// We originate it.
    Local(Source),
    /// A peer of this kind told it.
    Learned(PeerKind),
}

/// Prefixes inside of one, by their length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixRange {
    within: Prefix,
    shortest: u8,
    longest: u8,
}

impl PrefixRange {
    /// What lies in `within` and is at least `ge` and at most `le` bits long. With neither, only `within` itself; with
    /// `ge` alone up to the longest there is, with `le` alone from the length of `within`. `None` where that is nothing:
    /// length of `within` <= `ge` <= `le` <= 32 or 128.
    pub fn new(within: Prefix, ge: Option<u8>, le: Option<u8>) -> Option<PrefixRange> {
        let shortest = ge.unwrap_or(within.length());
        let longest = le.unwrap_or(if ge.is_some() { within.family().bits() } else { within.length() });
        let is_sound =
            within.length() <= shortest && shortest <= longest && longest <= within.family().bits();
        is_sound.then_some(PrefixRange { within, shortest, longest })
    }

    fn holds(&self, prefix: &Prefix) -> bool {
        (self.shortest..=self.longest).contains(&prefix.length()) && self.within.covers(prefix)
    }
}

impl fmt::Display for PrefixRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PrefixRange { within, shortest, longest } = self;
        write!(f, "{within}")?;
        if *shortest != within.length() {
            write!(f, " ge {shortest}")?;
        }
        if longest != shortest || *shortest != within.length() {
            write!(f, " le {longest}")?;
        }
        Ok(())
    }
}

/// What is changed in a route.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// LOCAL_PREF.
    pub local_pref: Option<LocalPref>,
    /// MULTI_EXIT_DISC.
    pub med: Option<Med>,
    /// How often an AS is put before the path once more. On export to an external peer that is ours; on import the
    /// nearest one of the path, so that nobody takes the route for one that has been here. Internal peers are told the
    /// path as it is (RFC 4271 section 5.1.2).
    pub prepend: u8,
    /// Put behind those that are there.
    pub add_communities: Vec<Community>,
    /// Taken away before any is added.
    pub remove_communities: Vec<Community>,
    /// Put behind those that are there.
    pub add_large_communities: Vec<LargeCommunity>,
    /// Taken away before any is added.
    pub remove_large_communities: Vec<LargeCommunity>,
    /// The next hop, of routes of its family.
    pub next_hop: Option<IpAddr>,
}

/// Which rule decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuledBy {
    /// The name of the filter.
    pub filter: String,
    /// Where in it.
    pub place: Place,
}

/// A place in a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// This rule; the first one is 1.
    Rule(usize),
    /// No rule matches.
    Otherwise,
}

impl fmt::Display for RuledBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Rule(number) => write!(f, "{} rule {number}", self.filter),
            Place::Otherwise => write!(f, "{} otherwise", self.filter),
        }
    }
}

/// Which way a route goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Import,
    Export,
}

/// A route at the door.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route<'a> {
    pub(crate) prefix: &'a Prefix,
    pub(crate) attributes: &'a Attributes,
    pub(crate) from: Provenance,
    /// Name of the peer that tells or is told.
    pub(crate) peer: &'a str,
}

/// A place in a filter, not yet in words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ruling<'a> {
    filter: &'a Filter,
    place: Place,
}

impl From<Ruling<'_>> for RuledBy {
    fn from(ruling: Ruling<'_>) -> RuledBy {
        RuledBy { filter: ruling.filter.name.clone(), place: ruling.place }
    }
}

/// A route that no filter rejects.
#[derive(Debug)]
pub(crate) struct Passed<'f, 'r> {
    /// As the filters have left it, but for `prepend`.
    pub(crate) attributes: Cow<'r, Attributes>,
    pub(crate) prepend: usize,
    /// A filter has set them: they are not what the teller said.
    pub(crate) has_own_med: bool,
    pub(crate) has_own_next_hop: bool,
    /// The first rule that opens what the built-in policy would refuse.
    pub(crate) opened: Option<Ruling<'f>>,
    /// The word of the last filter.
    pub(crate) by: Option<Ruling<'f>>,
}

/// Sends a route through `filters`, one after another.
///
/// # Errors
/// One rejects it: which, by what.
pub(crate) fn run<'f, 'r>(
    filters: &'f [Arc<Filter>],
    route: Route<'r>,
    direction: Direction,
) -> Result<Passed<'f, 'r>, Ruling<'f>> {
    let attributes = Cow::Borrowed(route.attributes);
    let mut passed = Passed {
        attributes,
        prepend: 0,
        has_own_med: false,
        has_own_next_hop: false,
        opened: None,
        by: None,
    };
    for filter in filters {
        let at = filter.rules.iter().position(|rule| rule.matches.fits(&route, &passed.attributes));
        let place = at.map_or(Place::Otherwise, |at| Place::Rule(at + 1));
        let ruling = Ruling { filter, place };
        match at.map(|at| &filter.rules[at]) {
            Some(Rule { action: Action::Reject, .. }) => return Err(ruling),
            None if filter.otherwise == Otherwise::Reject => return Err(ruling),
            None => {}
            Some(rule) => {
                if rule.opens(direction, route.from) {
                    passed.opened.get_or_insert(ruling);
                }
                if let Action::Accept(change) = &rule.action {
                    passed.apply(change, route.prefix.family());
                }
            }
        }
        passed.by = Some(ruling);
    }
    Ok(passed)
}

impl Rule {
    /// Whether it accepts what the built-in policy alone would refuse. On import if it says which routes it is for by
    /// something that they carry: prefix, community, AS path or next hop. On export, where that would be transit, if it
    /// names their source.
    pub(crate) fn opens(&self, direction: Direction, from: Provenance) -> bool {
        let Match { prefixes, communities, large_communities, as_path, next_hops, peers: _, sources } =
            &self.matches;
        let says_which = match direction {
            Direction::Import => {
                prefixes.is_some()
                    || communities.is_some()
                    || large_communities.is_some()
                    || as_path.is_some()
                    || next_hops.is_some()
            }
            Direction::Export => sources.as_ref().is_some_and(|sources| sources.contains(&from)),
        };
        says_which && matches!(self.action, Action::Accept(_))
    }
}

impl Match {
    /// `now` are the attributes as the filters before have left them.
    fn fits(&self, route: &Route<'_>, now: &Attributes) -> bool {
        let Match { prefixes, communities, large_communities, as_path, next_hops, peers, sources } = self;
        fn any<T>(list: &Option<Vec<T>>, fits: impl Fn(&T) -> bool) -> bool {
            list.as_ref().is_none_or(|list| list.iter().any(fits))
        }
        let is_own = matches!(route.from, Provenance::Local(_));
        sources.as_ref().is_none_or(|sources| sources.contains(&route.from))
            && peers.as_ref().is_none_or(|peers| peers.contains(route.peer))
            && any(prefixes, |range| range.holds(route.prefix))
            && any(communities, |community| now.communities.contains(community))
            && any(large_communities, |community| now.large_communities.contains(community))
            && any(next_hops, |range| !is_own && range.contains(now.next_hop))
            && as_path.as_ref().is_none_or(|pattern| pattern.fits(&now.as_path))
    }
}

impl<'f> Passed<'f, '_> {
    /// The rule that decided: the one that opened the door, or the last one.
    pub(crate) fn ruling(&self) -> Option<Ruling<'f>> {
        self.opened.or(self.by)
    }

    fn apply(&mut self, change: &Change, family: Family) {
        if *change == Change::default() {
            return;
        }
        let Change {
            local_pref,
            med,
            prepend,
            add_communities,
            remove_communities,
            add_large_communities,
            remove_large_communities,
            next_hop,
        } = change;
        let attributes = self.attributes.to_mut();
        attributes.local_pref = local_pref.or(attributes.local_pref);
        attributes.med = med.or(attributes.med);
        self.has_own_med |= med.is_some();
        exchange(&mut attributes.communities, remove_communities, add_communities);
        exchange(&mut attributes.large_communities, remove_large_communities, add_large_communities);
        if let Some(next_hop) = next_hop.filter(|next_hop| Family::of(*next_hop) == family) {
            attributes.next_hop = next_hop;
            attributes.link_local = None;
            self.has_own_next_hop = true;
        }
        self.prepend += usize::from(*prepend);
    }

    /// As it comes into our tables.
    pub(crate) fn imported(self) -> Option<Attributes> {
        let nearest = self.attributes.as_path.neighbor().filter(|_| self.prepend > 0);
        if nearest.is_none() && matches!(self.attributes, Cow::Borrowed(_)) {
            return None;
        }
        let mut attributes = self.attributes.into_owned();
        if let Some(nearest) = nearest {
            let more = std::iter::repeat_n(nearest, self.prepend);
            attributes.as_path = more.chain(attributes.as_path.asns().iter().copied()).collect::<AsPath>();
        }
        Some(attributes)
    }
}

/// None of them twice (RFC 8092 section 5 asks for it; it serves RFC 1997 as well).
fn exchange<T: PartialEq + Copy>(list: &mut Vec<T>, remove: &[T], add: &[T]) {
    list.retain(|entry| !remove.contains(entry));
    for entry in add {
        if !list.contains(entry) {
            list.push(*entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Asn;

    const EXTERNAL: Provenance = Provenance::Learned(PeerKind::External);

    fn prefix(text: &str) -> Prefix {
        text.parse().expect("test prefix")
    }

    fn range(text: &str, ge: Option<u8>, le: Option<u8>) -> PrefixRange {
        PrefixRange::new(prefix(text), ge, le).expect("sound")
    }

    fn to(ranges: &[PrefixRange]) -> Match {
        Match { prefixes: Some(ranges.to_vec()), ..Match::default() }
    }

    fn accept(matches: Match) -> Rule {
        changed(matches, Change::default())
    }

    fn changed(matches: Match, change: Change) -> Rule {
        Rule { matches, action: Action::Accept(change) }
    }

    fn reject(matches: Match) -> Rule {
        Rule { matches, action: Action::Reject }
    }

    fn filter(name: &str, rules: Vec<Rule>, otherwise: Otherwise) -> Arc<Filter> {
        Arc::new(Filter { name: name.to_owned(), rules, otherwise })
    }

    fn attributes() -> Attributes {
        let mut attributes = Attributes::originated("172.16.11.0".parse().expect("address"));
        attributes.as_path = [65101, 65102].iter().filter_map(|asn| Asn::new(*asn)).collect();
        attributes.communities = vec![Community(65101 << 16 | 7)];
        attributes.large_communities = vec![LargeCommunity([65101, 1, 2])];
        attributes.med = Some(Med(5));
        attributes
    }

    /// The rule that decides in `filters`, `!` before one that rejects, and whether the built-in policy is opened.
    fn ruled(filters: &[Arc<Filter>], to: &str, from: Provenance, direction: Direction) -> (String, bool) {
        let (to, attributes) = (prefix(to), attributes());
        let route = Route { prefix: &to, attributes: &attributes, from, peer: "tor1a" };
        match run(filters, route, direction) {
            Ok(passed) => (
                passed.by.map(|by| RuledBy::from(by).to_string()).unwrap_or_default(),
                passed.opened.is_some(),
            ),
            Err(by) => (format!("!{}", RuledBy::from(by)), false),
        }
    }

    #[test]
    fn lengths_of_a_range_are_as_the_kind_says() {
        type Row<'a> = (&'a str, Option<u8>, Option<u8>, &'a [&'a str], &'a [&'a str]);
        let table: [Row<'_>; 5] = [
            ("10.0.0.0/8", None, None, &["10.0.0.0/8"], &["10.0.0.0/9", "0.0.0.0/0", "10.1.0.0/16"]),
            ("10.0.0.0/8", Some(24), None, &["10.1.2.0/24", "10.1.2.3/32"], &["10.0.0.0/8", "10.0.0.0/23"]),
            ("10.0.0.0/8", None, Some(16), &["10.0.0.0/8", "10.1.0.0/16"], &["10.1.0.0/17", "11.0.0.0/16"]),
            ("0.0.0.0/0", None, None, &["0.0.0.0/0"], &["10.0.0.0/8", "::/0"]),
            ("fd00::/8", Some(64), Some(64), &["fd00:1::/64"], &["fd00:1::/65", "fd00::/8", "fe80::/64"]),
        ];
        for (within, ge, le, held, not_held) in table {
            let range = range(within, ge, le);
            assert!(held.iter().all(|text| range.holds(&prefix(text))), "{range}: {held:?}");
            assert!(!not_held.iter().any(|text| range.holds(&prefix(text))), "{range}: {not_held:?}");
        }
        for (ge, le) in [(Some(7), None), (None, Some(7)), (Some(20), Some(19)), (None, Some(33))] {
            assert_eq!(PrefixRange::new(prefix("10.0.0.0/8"), ge, le), None, "{ge:?} {le:?}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_is_named() {
        let tor_in = filter(
            "tor-in",
            vec![
                reject(to(&[range("10.66.0.0/16", None, Some(32))])),
                accept(to(&[range("0.0.0.0/0", None, None), range("10.0.0.0/8", Some(16), None)])),
                reject(to(&[range("10.0.0.0/8", None, Some(32))])),
            ],
            Otherwise::Accept,
        );
        for (to, expected) in [
            ("10.66.1.0/24", "!tor-in rule 1"),
            ("0.0.0.0/0", "tor-in rule 2"),
            ("10.1.0.0/16", "tor-in rule 2"),
            ("10.0.0.0/9", "!tor-in rule 3"),
            ("192.0.2.0/24", "tor-in otherwise"),
        ] {
            assert_eq!(ruled(&[Arc::clone(&tor_in)], to, EXTERNAL, Direction::Import).0, expected, "{to}");
        }
        let nothing = filter("nothing", Vec::new(), Otherwise::default());
        assert_eq!(ruled(&[nothing], "10.1.0.0/16", EXTERNAL, Direction::Import).0, "!nothing otherwise");
    }

    #[test]
    fn each_field_of_a_match_asks_and_of_each_list_one_entry_serves() {
        let some = |text: &str| Some(vec![prefix(text)]);
        let (one, other) = (Community(65101 << 16 | 7), Community(65101 << 16 | 8));
        let pattern = |text| AsPathPattern::new(text).ok();
        let names = |name: &str| Some(BTreeSet::from(["other".to_owned(), name.to_owned()]));
        let large = |last| Some(vec![LargeCommunity([65101, 1, last])]);
        let from = |source| Some(BTreeSet::from([source]));
        let table = [
            (Match::default(), true),
            (Match { communities: Some(vec![other, one]), ..Match::default() }, true),
            (Match { communities: Some(vec![other]), ..Match::default() }, false),
            (Match { large_communities: large(2), ..Match::default() }, true),
            (Match { large_communities: large(3), ..Match::default() }, false),
            (Match { as_path: pattern("^65101_"), ..Match::default() }, true),
            (Match { as_path: pattern("^65102_"), ..Match::default() }, false),
            (Match { next_hops: some("172.16.11.0/31"), ..Match::default() }, true),
            (Match { next_hops: some("172.16.12.0/31"), ..Match::default() }, false),
            (Match { peers: names("tor1a"), ..Match::default() }, true),
            (Match { peers: names("tor1b"), ..Match::default() }, false),
            (Match { sources: from(EXTERNAL), ..Match::default() }, true),
            (Match { sources: from(Provenance::Local(Source::Pods)), ..Match::default() }, false),
            (Match { sources: from(EXTERNAL), communities: Some(vec![other]), ..Match::default() }, false),
        ];
        for (matches, expected) in table {
            let filter = filter("f", vec![accept(matches.clone())], Otherwise::Reject);
            let (by, _) = ruled(&[filter], "192.0.2.0/24", EXTERNAL, Direction::Import);
            assert_eq!(by == "f rule 1", expected, "{matches:?}");
        }
    }

    #[test]
    fn filters_come_one_after_another_and_the_later_sees_what_the_earlier_changed() {
        let mark = Community(65111 << 16 | 1);
        let marks = filter(
            "marks",
            vec![changed(Match::default(), Change { add_communities: vec![mark], ..Change::default() })],
            Otherwise::Reject,
        );
        let marked = Match { communities: Some(vec![mark]), ..Match::default() };
        let refuses = filter("refuses", vec![reject(marked)], Otherwise::Accept);
        let by = |filters: &[Arc<Filter>]| ruled(filters, "192.0.2.0/24", EXTERNAL, Direction::Import).0;
        assert_eq!(by(&[Arc::clone(&marks), Arc::clone(&refuses)]), "!refuses rule 1");
        assert_eq!(by(&[refuses, marks]), "marks rule 1");
    }

    #[test]
    fn only_a_rule_that_says_which_routes_it_is_for_opens_the_import() {
        let opens = |rule: Rule, otherwise| {
            ruled(&[filter("f", vec![rule], otherwise)], "0.0.0.0/0", EXTERNAL, Direction::Import).1
        };
        assert!(opens(accept(to(&[range("0.0.0.0/0", None, None)])), Otherwise::Reject));
        let community = Some(vec![Community(65101 << 16 | 7)]);
        assert!(opens(accept(Match { communities: community, ..Match::default() }), Otherwise::Reject));
        let preferred = Change { local_pref: Some(LocalPref(200)), ..Change::default() };
        assert!(!opens(changed(Match::default(), preferred), Otherwise::Accept));
        let sources = Some(BTreeSet::from([EXTERNAL]));
        assert!(!opens(accept(Match { sources, ..Match::default() }), Otherwise::Accept));
        assert!(!opens(reject(to(&[range("10.0.0.0/8", None, None)])), Otherwise::Accept));
    }

    #[test]
    fn only_a_rule_that_names_the_source_opens_the_export() {
        let opens = |matches: Match| {
            let filter = filter("f", vec![accept(matches)], Otherwise::Accept);
            ruled(&[filter], "10.244.2.0/24", EXTERNAL, Direction::Export).1
        };
        assert!(!opens(to(&[range("10.244.0.0/16", None, Some(24))])), "meant for our own");
        assert!(opens(Match { sources: Some(BTreeSet::from([EXTERNAL])), ..Match::default() }));
    }

    #[test]
    fn changes_are_made_and_what_was_told_stays_as_it_was() {
        let (old, new) = (Community(65101 << 16 | 7), Community(65101 << 16 | 9));
        let change = Change {
            local_pref: Some(LocalPref(300)),
            med: Some(Med(9)),
            prepend: 2,
            add_communities: vec![new, new],
            remove_communities: vec![old],
            add_large_communities: vec![LargeCommunity([65101, 1, 2]), LargeCommunity([1, 2, 3])],
            remove_large_communities: vec![LargeCommunity([65101, 1, 2])],
            next_hop: "172.16.11.2".parse().ok(),
        };
        let filters = [filter("f", vec![changed(Match::default(), change)], Otherwise::Reject)];
        let (told, v4, v6) = (attributes(), prefix("192.0.2.0/24"), prefix("2001:db8::/32"));
        let imported = |prefix| {
            let route = Route { prefix, attributes: &told, from: EXTERNAL, peer: "tor1a" };
            run(&filters, route, Direction::Import).expect("accepted").imported().expect("changed")
        };
        let changed = imported(&v4);
        assert_eq!((changed.local_pref, changed.med), (Some(LocalPref(300)), Some(Med(9))));
        assert_eq!(changed.as_path.to_string(), "65101 65101 65101 65102");
        assert_eq!(changed.communities, [new]);
        assert_eq!(changed.large_communities, [LargeCommunity([65101, 1, 2]), LargeCommunity([1, 2, 3])]);
        assert_eq!(changed.next_hop.to_string(), "172.16.11.2");
        assert_eq!(imported(&v6).next_hop, told.next_hop, "an IPv4 next hop is none for IPv6");
        assert_eq!(told, attributes());
    }

    #[test]
    fn a_route_that_nothing_changes_is_not_copied() {
        let filters = [filter("f", vec![accept(Match::default())], Otherwise::Reject)];
        let (told, to) = (attributes(), prefix("192.0.2.0/24"));
        let route = Route { prefix: &to, attributes: &told, from: EXTERNAL, peer: "tor1a" };
        assert!(run(&filters, route, Direction::Import).expect("accepted").imported().is_none());
    }
}
