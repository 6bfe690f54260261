//! `show route`: every way to a prefix, and why it is used or not.
//!
//! A mark tells what became of a path, as in birdc: `*` is the best one, `+` is used beside it, `!` was
//! refused; without a mark it lost. In a listing of what a peer was told, each has `>`. Next to it stands
//! the reason by its name; `all` adds what the name means, and the attributes.

use cambric_api::{Path, Route, RouteCount};

use super::joined;
use crate::command::Detail;
use crate::table::{Column, Fields, Table};

/// What the names of reasons mean: those of the decision process first, then those of import, then those of export.
///
/// A reason that is not here, or that comes with words of its own (`Name: words`), is printed as it is.
const REASONS: &[(&str, &str)] = &[
    ("LongLivedStale", "its teller is long away; the last resort of all until he is back"),
    ("LinkDown", "the link to its teller went down; a last resort until he is back"),
    ("PeerSilent", "nothing was heard of its teller for the hold time; a last resort"),
    ("NotLocal", "another path is our own"),
    ("LowerLocalPref", "its local preference is lower"),
    ("LongerAsPath", "its AS path is longer"),
    ("WorseOrigin", "its origin is worse (IGP before EGP before incomplete)"),
    ("HigherMed", "another path by the same neighbour AS has a lower MED"),
    ("InternalPeer", "another path is from an external peer"),
    ("Multipath", "as good as the best, used beside it"),
    ("BeyondMaxPaths", "as good as the best, but there are enough next hops already"),
    ("HigherRouterId", "tie: another peer's router ID is lower"),
    ("LongerClusterList", "tie: its cluster list is longer"),
    ("HigherPeerAddress", "tie: another peer's address is lower"),
    ("HigherPathId", "tie: the same peer tells a path with a lower identifier"),
    ("OwnAsInPath", "our own AS is in its path"),
    ("OwnOriginatorId", "we brought it into the AS, and a reflector tells it back"),
    ("OwnClusterId", "a reflector of our cluster has passed it on already"),
    ("RouteLeak", "it was for customers alone, and its teller is none of our providers (RFC 9234)"),
    ("NotRoutable", "such addresses are never routed"),
    ("NextHopIsOurs", "its next hop is an address of ours"),
    ("NextHopMapped", "its next hop is an IPv4 address written as IPv6"),
    ("NextHopNotOnLink", "no link of ours reaches its next hop directly"),
    ("NextHopInsidePrefix", "it would be the way to its own next hop"),
    ("FilteredBy", "a filter of the operator rejects it"),
    ("DefaultRoute", "a default route needs a filter that accepts it"),
    ("OwnPrefix", "it lies inside our own pod prefix"),
    ("LinkSubnet", "it lies inside the subnet of a link of ours"),
    ("OwnAddress", "it is an address of this node"),
    ("Disputed", "two nodes claim this range, and it is not the peer's"),
    ("NotDeclared", "the cluster declares no such prefix, and no filter accepts it"),
    ("OverMaxPrefixes", "the peer told more routes than it may"),
    ("OverMaxPaths", "the peer told 64 other paths to its prefix"),
    ("FilteredBy", "a filter rejects it"),
    ("ToldByIt", "the peer has told it itself"),
    ("NotCarried", "the session does not carry its family, or we have no address of it there"),
    (
        "Deferred",
        "it is not yet known which path is best: we have restarted, and peers are still telling theirs",
    ),
    ("NotOffered", "no advertisement offers it to this peer"),
    ("Aggregated", "an aggregate is told in its place"),
    ("Drained", "it is our own, and drained (RFC 8326)"),
    ("NotReflected", "it came from inside the AS, and we are no reflector for this peer"),
    ("ByCommunity", "a community of it says so (RFC 1997)"),
    ("OnlyToCustomer", "it is for customers alone, and the peer is none of ours (RFC 9234)"),
    ("LongLivedStale", "its teller is away for long, and this peer knows nothing of that (RFC 9494)"),
    ("BeyondMostPaths", "the peer is told as many better paths as it is told at most"),
    (
        "NoTransit",
        "it came from a peer, and no rule of an export filter names External or Internal as its source",
    ),
];

/// One line a path; with [`Detail::Full`] its attributes below.
pub(super) fn render(routes: &[Route], detail: Detail) -> String {
    let below = |path: &Path| (detail == Detail::Full).then(|| attributes(path));
    listed(routes, ["Verdict", "AS path"], |path| [verdict(path), as_path(path)], below)
}

/// One line a path, at its end the reason by name and in words.
pub(super) fn render_reasons(routes: &[Route]) -> String {
    let reason = |path: &Path| why(path).unwrap_or_else(|| path.verdict.clone());
    listed(routes, ["AS path", "Why"], |path| [as_path(path), reason(path)], |_| None)
}

/// Which path it is, then what is asked for of it.
fn listed(
    routes: &[Route],
    asked: [&'static str; 2],
    cells: impl Fn(&Path) -> [String; 2],
    below: impl Fn(&Path) -> Option<Fields>,
) -> String {
    if routes.is_empty() {
        return "no routes\n".to_owned();
    }
    let mut table = Table::new(["Prefix", "", "Next hop", "From", asked[0], asked[1]].map(Column::Left));
    for route in routes {
        for (index, path) in route.paths.iter().enumerate() {
            let prefix = if index == 0 { route.prefix.as_str() } else { "" };
            let [first, second] = cells(path);
            table.row([
                prefix.to_owned(),
                mark(path).to_owned(),
                path.next_hop.clone().unwrap_or_else(|| "-".to_owned()),
                path.peer.clone().unwrap_or_else(|| "local".to_owned()),
                first,
                second,
            ]);
            if let Some(fields) = below(path) {
                table.below(fields);
            }
        }
    }
    table.to_string()
}

/// One line a family.
pub(super) fn render_counts(counts: &[RouteCount]) -> String {
    let mut table = Table::new([
        Column::Left("Family"),
        Column::Right("Prefixes"),
        Column::Right("Usable"),
        Column::Right("Paths"),
        Column::Right("Refused"),
    ]);
    for count in counts {
        let numbers = [count.prefixes, count.usable, count.paths, count.refused];
        let [prefixes, usable, paths, refused] = numbers.map(|number| number.to_string());
        table.row([count.family.clone(), prefixes, usable, paths, refused]);
    }
    table.to_string()
}

fn mark(path: &Path) -> &'static str {
    match path.verdict.as_str() {
        "best" => "*",
        "multipath" => "+",
        "refused" => "!",
        "sent" => ">",
        "withheld" => "!",
        _ => "",
    }
}

/// `best`, `multipath`, `lost: LongerAsPath`, `refused: DefaultRoute`; the reason by name only.
fn verdict(path: &Path) -> String {
    let mut words = path.verdict.clone();
    if let Some(reason) = path.reason.as_deref().filter(|_| path.verdict != "multipath") {
        let name = reason.split_once(':').map_or(reason, |(name, _)| name);
        words.push_str(": ");
        words.push_str(name);
    }
    if path.stale {
        words.push_str(", stale");
    }
    if path.unused.is_some() {
        words.push_str(", not in use");
    }
    words
}

/// Nearest AS first, and the origin as routers have always marked it.
fn as_path(path: &Path) -> String {
    let origin = match path.origin.as_str() {
        "IGP" => "i",
        "EGP" => "e",
        _ => "?",
    };
    if path.as_path.is_empty() { origin.to_owned() } else { format!("{} {origin}", joined(&path.as_path)) }
}

fn attributes(path: &Path) -> Fields {
    let mut fields = Fields::new().indent(8);
    if let Some(why) = why(path) {
        fields.field("Reason", why);
    }
    if let Some(rule) =
        path.rule.as_ref().filter(|_| !matches!(path.verdict.as_str(), "refused" | "withheld"))
    {
        fields.field("Passed by", rule);
    }
    if let Some(id) = path.path_id {
        fields.field("Path ID", id);
    }
    if path.stale {
        fields.field("Stale", "kept until the restarting peer tells it again (RFC 4724)");
    }
    if let Some(unused) = &path.unused {
        fields.field("Not in use", unused);
    }
    if let Some(interface) = &path.interface {
        fields.field("Interface", interface);
    }
    if let Some(source) = &path.source {
        fields.field("Source", source);
    }
    for offer in &path.offers {
        fields.field("Offered", offer);
    }
    fields.field("Origin", &path.origin);
    if let Some(local_pref) = path.local_pref {
        fields.field("Local pref", local_pref);
    }
    if let Some(med) = path.med {
        fields.field("MED", med);
    }
    if !path.communities.is_empty() {
        fields.field("Communities", joined(&path.communities));
    }
    if !path.large_communities.is_empty() {
        fields.field("Large communities", joined(&path.large_communities));
    }
    if let Some(asn) = path.only_to_customer {
        fields.field("Only to customer", format_args!("since AS {asn}"));
    }
    fields
}

/// The reason by name and in words.
fn why(path: &Path) -> Option<String> {
    let reason = path.reason.as_deref()?;
    Some(match (&path.behind, &path.peer) {
        (Some(gateway), Some(peer)) => {
            format!("{reason}: {peer} is behind gateway {gateway}; peer with the TOR")
        }
        _ => reason_in_words(reason),
    })
}

fn reason_in_words(reason: &str) -> String {
    match REASONS.iter().find(|(name, _)| *name == reason) {
        Some((name, words)) => format!("{name}: {words}"),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(peer: &str, next_hop: &str, as_path: &[u32], verdict: &str) -> Path {
        Path {
            peer: Some(peer.to_owned()),
            next_hop: Some(next_hop.to_owned()),
            verdict: verdict.to_owned(),
            as_path: as_path.to_vec(),
            origin: "IGP".to_owned(),
            ..Path::default()
        }
    }

    fn because(reason: &str, path: Path) -> Path {
        Path { reason: Some(reason.to_owned()), ..path }
    }

    fn routes() -> Vec<Route> {
        let own = Path { origin: "IGP".to_owned(), verdict: "best".to_owned(), ..Path::default() };
        let best = Path {
            local_pref: Some(100),
            med: Some(0),
            communities: vec!["65101:100".to_owned(), "65535:0".to_owned()],
            large_communities: vec!["65101:1:2".to_owned()],
            ..path("tor1a", "10.0.1.1", &[65101, 64513], "best")
        };
        let beside = because("Multipath", path("tor1b", "10.0.2.1", &[65102, 64513], "multipath"));
        let lost = because("LongerAsPath", path("node7", "10.0.1.17", &[65103, 65104, 64513], "lost"));
        let not_on_link = Path {
            behind: Some("10.0.1.1".to_owned()),
            ..because("NextHopNotOnLink", path("node9", "10.0.9.9", &[], "refused"))
        };
        let stale = Path {
            stale: true,
            origin: "incomplete".to_owned(),
            ..path("tor1b", "10.0.2.1", &[65102], "best")
        };
        vec![
            Route { prefix: "10.244.1.0/24".to_owned(), paths: vec![own] },
            Route { prefix: "10.244.2.0/24".to_owned(), paths: vec![best, beside, lost] },
            Route { prefix: "10.244.9.0/24".to_owned(), paths: vec![not_on_link] },
            Route { prefix: "10.96.0.0/16".to_owned(), paths: vec![stale] },
        ]
    }

    #[test]
    fn one_line_a_path() {
        let expected = "\
Prefix            Next hop   From   Verdict                    AS path
10.244.1.0/24  *  -          local  best                       i
10.244.2.0/24  *  10.0.1.1   tor1a  best                       65101 64513 i
               +  10.0.2.1   tor1b  multipath                  65102 64513 i
                  10.0.1.17  node7  lost: LongerAsPath         65103 65104 64513 i
10.244.9.0/24  !  10.0.9.9   node9  refused: NextHopNotOnLink  i
10.96.0.0/16   *  10.0.2.1   tor1b  best, stale                65102 ?
";
        assert_eq!(render(&routes(), Detail::Brief), expected);
    }

    #[test]
    fn all_adds_attributes_and_reasons_in_words() {
        let expected = "\
Prefix            Next hop   From   Verdict                    AS path
10.244.1.0/24  *  -          local  best                       i
        Origin:  IGP
10.244.2.0/24  *  10.0.1.1   tor1a  best                       65101 64513 i
        Origin:             IGP
        Local pref:         100
        MED:                0
        Communities:        65101:100 65535:0
        Large communities:  65101:1:2
               +  10.0.2.1   tor1b  multipath                  65102 64513 i
        Reason:  Multipath: as good as the best, used beside it
        Origin:  IGP
                  10.0.1.17  node7  lost: LongerAsPath         65103 65104 64513 i
        Reason:  LongerAsPath: its AS path is longer
        Origin:  IGP
10.244.9.0/24  !  10.0.9.9   node9  refused: NextHopNotOnLink  i
        Reason:  NextHopNotOnLink: node9 is behind gateway 10.0.1.1; peer with the TOR
        Origin:  IGP
10.96.0.0/16   *  10.0.2.1   tor1b  best, stale                65102 ?
        Stale:   kept until the restarting peer tells it again (RFC 4724)
        Origin:  incomplete
";
        assert_eq!(render(&routes(), Detail::Full), expected);
    }

    #[test]
    fn path_that_the_kernel_does_not_use_says_why() {
        let best = Path {
            interface: Some("eth1".to_owned()),
            unused: Some("its link is down".to_owned()),
            ..path("tor1a", "10.0.1.1", &[65101], "best")
        };
        let routes = [Route { prefix: "10.244.2.0/24".to_owned(), paths: vec![best] }];
        let expected = "\
Prefix            Next hop  From   Verdict           AS path
10.244.2.0/24  *  10.0.1.1  tor1a  best, not in use  65101 i
        Not in use:  its link is down
        Interface:   eth1
        Origin:      IGP
";
        assert_eq!(render(&routes, Detail::Full), expected);
    }

    #[test]
    fn reason_of_a_newer_daemon_is_shown_by_name() {
        assert_eq!(reason_in_words("WrongMoon"), "WrongMoon");
        let routes = [Route {
            prefix: "::/0".to_owned(),
            paths: vec![because("WrongMoon", path("a", "::1", &[], "lost"))],
        }];
        assert!(render(&routes, Detail::Brief).contains("lost: WrongMoon"));
    }

    /// Where `bgp/core` gives its reasons their names: the only list of them that is surely whole.
    #[test]
    fn every_reason_of_the_core_has_words_here() {
        let named_by_core = [
            include_str!("../../../bgp/core/src/rib/decision.rs"),
            include_str!("../../../bgp/core/src/policy/import.rs"),
            include_str!("../../../bgp/core/src/policy/export.rs"),
        ];
        for source in named_by_core {
            let arm = |line: &'static str| {
                let (variant, name) = line.trim().strip_suffix("\",")?.split_once(" => \"")?;
                (variant.split_once("::")?.1 == name).then_some(name)
            };
            let names: Vec<&str> = source.lines().filter_map(arm).collect();
            assert!(names.len() >= 8, "only {names:?}");
            for name in names {
                assert!(REASONS.iter().any(|(known, _)| *known == name), "no words for {name}");
            }
        }
    }

    #[test]
    fn what_a_peer_was_told_has_its_own_mark() {
        let sent = Path { origin: "IGP".to_owned(), ..path("tor1a", "10.0.1.11", &[64512], "sent") };
        let expected = "\
Prefix            Next hop   From   Verdict  AS path
10.244.1.0/24  >  10.0.1.11  tor1a  sent     64512 i
";
        let route = Route { prefix: "10.244.1.0/24".to_owned(), paths: vec![sent] };
        assert_eq!(render(&[route], Detail::Brief), expected);
    }

    #[test]
    fn refused_paths_say_why_in_words() {
        let default = because("DefaultRoute", path("tor1a", "10.0.1.1", &[65101], "refused"));
        let routes = [Route { prefix: "0.0.0.0/0".to_owned(), paths: vec![default.clone(), default] }];
        let expected = "\
Prefix        Next hop  From   AS path  Why
0.0.0.0/0  !  10.0.1.1  tor1a  65101 i  DefaultRoute: a default route needs a filter that accepts it
           !  10.0.1.1  tor1a  65101 i  DefaultRoute: a default route needs a filter that accepts it
";
        assert_eq!(render_reasons(&routes), expected);
        assert_eq!(render_reasons(&[]), "no routes\n");
    }

    #[test]
    fn counts_have_a_line_for_each_family() {
        let count = RouteCount { family: "ipv4".to_owned(), prefixes: 12, usable: 10, paths: 24, refused: 2 };
        let expected = "\
Family  Prefixes  Usable  Paths  Refused
ipv4          12      10     24        2
";
        assert_eq!(render_counts(&[count]), expected);
    }

    #[test]
    fn no_routes_are_said_so() {
        assert_eq!(render(&[], Detail::Brief), "no routes\n");
    }
}
