//! `show protocols`: who we speak with, how much they told, and why it ended the last time.
//!
//! Counts of several families share a column: `12+10` is twelve IPv4 and ten IPv6 routes. A peer that
//! lost one family only is then seen at a glance, which a sum would hide.

use std::collections::BTreeSet;

use cambric_api::{
    AddPath, Bfd, FamilyCounts, FamilyFilters, GracefulRestart, LastError, Protocol, Session, Settings, Stale,
};

use super::{joined, span};
use crate::table::{Column, Fields, Table};

const NONE: &str = "no peers\n";

const ESTABLISHED: &str = "Established";

/// Seconds for which an error concerns a peer that is Established: why it was down, the operator may ask still.
const NEWS_S: u64 = 600;

/// One line a peer.
pub(super) fn render_brief(protocols: &[Protocol]) -> String {
    if protocols.is_empty() {
        return NONE.to_owned();
    }
    let families: BTreeSet<&str> =
        protocols.iter().flat_map(|peer| &peer.families).map(|counts| counts.family.as_str()).collect();
    let mut table = Table::new([
        Column::Left("Name"),
        Column::Left("Address"),
        Column::Right("AS"),
        Column::Left("State"),
        Column::Right("Since"),
        Column::Right("Received"),
        Column::Right("Accepted"),
        Column::Right("Refused"),
        Column::Right("Sent"),
        Column::Left("Last error"),
    ]);
    for peer in protocols {
        let by_family = |count| by_family(peer, &families, count);
        table.row([
            peer.name.clone(),
            peer.address.clone(),
            asn(peer),
            state(peer),
            span(peer.since_s),
            by_family(|counts| counts.received),
            by_family(|counts| counts.accepted),
            by_family(|counts| counts.refused),
            by_family(|counts| counts.sent),
            news(peer).map_or_else(|| "-".to_owned(), error_with_age),
        ]);
    }
    let mut text = table.to_string();
    if families.len() > 1 {
        let families: Vec<_> = families.into_iter().collect();
        let mut legend = Fields::new();
        legend.field("Routes", families.join("+"));
        text.push_str(&legend.to_string());
    }
    text
}

/// One block a peer.
pub(super) fn render_full(protocols: &[Protocol]) -> String {
    if protocols.is_empty() {
        return NONE.to_owned();
    }
    let blocks: Vec<String> = protocols.iter().map(block).collect();
    blocks.join("\n")
}

fn by_family(peer: &Protocol, families: &BTreeSet<&str>, count: fn(&FamilyCounts) -> usize) -> String {
    let of_family = |family: &&str| {
        let counts = peer.families.iter().find(|counts| counts.family == **family);
        counts.map_or_else(|| "-".to_owned(), |counts| count(counts).to_string())
    };
    let cells: Vec<String> = families.iter().map(of_family).collect();
    if cells.is_empty() { "-".to_owned() } else { cells.join("+") }
}

/// The last error, unless it is one that a session has outlived.
fn news(peer: &Protocol) -> Option<&LastError> {
    let is_news = |error: &&LastError| peer.state != ESTABLISHED || error.ago_s < NEWS_S;
    peer.last_error.as_ref().filter(is_news)
}

/// Its number; where any of a kind will do and it has not told it yet, the kind.
fn asn(peer: &Protocol) -> String {
    match (&peer.settings, peer.asn) {
        (Some(settings), 0) => settings.asn.clone(),
        (_, asn) => asn.to_string(),
    }
}

fn state(peer: &Protocol) -> String {
    if peer.disabled { format!("{}, disabled", peer.state) } else { peer.state.clone() }
}

fn error_with_age(error: &LastError) -> String {
    format!("{} ({} ago)", error.what, span(error.ago_s))
}

fn block(peer: &Protocol) -> String {
    let mut fields = Fields::new();
    fields.field("Peer", &peer.name);
    fields.field("  Address", &peer.address);
    if !peer.found.is_empty() && peer.found != "address" {
        fields.field("  Found as", &peer.found);
    }
    match peer.asn {
        0 => fields.field("  AS", format_args!("any that is {}", peer.kind)),
        asn => fields.field("  AS", format_args!("{asn} ({})", peer.kind)),
    }
    fields.field("  State", format_args!("{} for {}", state(peer), span(peer.since_s)));
    if peer.disabled {
        fields.field("  Disabled", format_args!("by the operator; `enable {}` brings it back", peer.name));
    }
    fields.list("  Last error", peer.last_error.iter().map(error_with_age), "none");
    match &peer.last_flaw {
        Some(flaw) => {
            fields.field(
                "  Flawed updates",
                format_args!("{}, last {}", peer.flawed_updates, error_with_age(flaw)),
            );
        }
        None => fields.field("  Flawed updates", peer.flawed_updates),
    }
    if let Some(settings) = &peer.settings {
        add_settings(&mut fields, settings);
    }
    if let Some(session) = &peer.session {
        add_session(&mut fields, session);
    }
    if let Some(bfd) = &peer.bfd {
        add_bfd(&mut fields, bfd);
    }
    if !peer.stale.is_empty() {
        fields.list("  Stale routes", peer.stale.iter().map(stale), "none");
    }
    let not_kept: usize = peer.families.iter().map(|counts| counts.not_kept).sum();
    if not_kept > 0 {
        fields.field(
            "  Not kept",
            format_args!("{not_kept} of the refused, beyond its limit; no listing has them"),
        );
    }
    let mut text = fields.to_string();
    if !peer.families.is_empty() {
        text.push_str(&counts(&peer.families));
    }
    text
}

fn add_settings(fields: &mut Fields, settings: &Settings) {
    let local = settings.local_address.as_deref().unwrap_or("chosen by the kernel");
    fields.field("  Local address", local);
    if let Some(interface) = &settings.local_interface {
        fields.field("  Interface", interface);
    }
    match (settings.passive, settings.active) {
        (true, _) => fields.field("  Connects", "only the peer does"),
        (_, true) => fields.field("  Connects", "only we do"),
        _ => {}
    }
    add_way(fields, settings);
    add_as_path(fields, settings);
    if settings.reflector_client {
        fields.field("  Reflector", "it is a client of ours");
    }
    if let Some(role) = &settings.local_role {
        let strict = if settings.strict_role { ", and it must say its own" } else { "" };
        fields.field("  Local role", format_args!("we are its {role}{strict}"));
    }
    let add_path = settings.add_path.iter().map(add_path);
    add_path.for_each(|words| fields.field("  Several paths", words));
    let most = match (settings.max_prefixes, settings.warn_at_percent) {
        (most, 0) => format!("at most {most} a family"),
        (most, percent) => format!("at most {most} a family, a warning at {percent} %"),
    };
    match settings.import.as_str() {
        "declared" => fields.field("  Import", format_args!("what the cluster declares, {most}")),
        other => fields.field("  Import", format_args!("{other}, {most}")),
    }
    match settings.export.as_str() {
        "own" => fields.field("  Export", "our own; to an internal peer also what external ones told"),
        other => fields.field("  Export", other),
    }
    for FamilyFilters { family, import, export } in &settings.filters {
        for (direction, names) in [("import", import), ("export", export)] {
            if !names.is_empty() {
                fields.field("  Filters", format_args!("{family} {direction} through {}", names.join(", ")));
            }
        }
    }
}

/// As `ipv4: it may tell several, is told up to 4`.
fn add_path(AddPath { family, receive, send }: &AddPath) -> String {
    let receive = receive.then(|| "it may tell several".to_owned());
    let send = send.map(|most| format!("it is told up to {most}"));
    format!("{family}: {}", receive.into_iter().chain(send).collect::<Vec<_>>().join(", "))
}

/// How packets come and go.
fn add_way(fields: &mut Fields, settings: &Settings) {
    match (settings.distance.as_str(), settings.hops) {
        ("ttl-security", Some(1)) => fields.field("  TTL security", "packets from the link only"),
        ("ttl-security", Some(hops)) => {
            fields.field("  TTL security", format_args!("packets from within {hops} hops only"));
        }
        ("multihop", Some(ttl)) => fields.field("  Multihop", format_args!("TTL {ttl}")),
        _ => {}
    }
    if settings.md5 {
        fields.field("  TCP MD5", "on");
    }
}

/// What is done with our AS and its.
fn add_as_path(fields: &mut Fields, settings: &Settings) {
    if let Some(asn) = settings.local_asn {
        fields.field("  Local AS", asn);
    }
    if settings.as_override {
        fields.field("  AS override", "its AS is told as ours");
    }
    match settings.own_as {
        0 => {}
        1 => fields.field("  Own AS", "allowed once in its paths"),
        times => fields.field("  Own AS", format_args!("allowed {times} times in its paths")),
    }
}

fn add_session(fields: &mut Fields, session: &Session) {
    fields.field("  Router ID", &session.router_id);
    match session.hold_time_s {
        0 => fields.field("  Hold time", "never expires"),
        seconds => fields.field("  Hold time", format_args!("{seconds} s{}", keepalive(session))),
    }
    fields.field("  Families", joined(&session.families));
    fields.field("  AS numbers", format_args!("{} octets", session.as_octets));
    fields.field("  Longest message", format_args!("{} octets", session.most_message_bytes));
    for (name, families) in
        [("  It tells paths", &session.several_received), ("  It is told paths", &session.several_sent)]
    {
        if !families.is_empty() {
            fields.field(name, format_args!("several to a prefix of {}", joined(families)));
        }
    }
    fields.field(
        "  Route refresh",
        match (session.route_refresh, session.enhanced_refresh) {
            (false, _) => "no",
            (true, false) => "yes, not framed",
            (true, true) => "yes, framed (RFC 7313)",
        },
    );
    fields.list("  Graceful restart", session.graceful_restart.iter().map(graceful_restart), "not offered");
    fields.field(
        "  Notifications",
        match session.graceful_notification {
            true => "routes outlive them, but for a hard reset (RFC 8538)",
            false => "end with all routes",
        },
    );
    let long_lived = |seconds| match seconds {
        0 => "agreed on, but it asks for no time (RFC 9494)".to_owned(),
        _ => format!("{seconds} s beyond that, as a last resort (RFC 9494)"),
    };
    fields.list("  Long-lived", session.long_lived_s.map(long_lived), "not offered by both");
    for (name, offered) in [("  We offered", &session.we_offered), ("  It offered", &session.it_offered)] {
        if !offered.is_empty() {
            fields.field(name, offered.join(", "));
        }
    }
}

fn add_bfd(fields: &mut Fields, bfd: &Bfd) {
    let times =
        |what: &str, time: Option<u64>| time.map(|ms| format!(", {what} {ms} ms")).unwrap_or_default();
    let (sends, lost) = (times("a packet every", bfd.transmit_ms), times("lost after", bfd.detection_ms));
    fields.field("  BFD", format_args!("{} for {}{sends}{lost}", bfd.state, span(bfd.since_s)));
    match &bfd.remote {
        Some(remote) => {
            let fate = match remote.control_plane_independent {
                true => "apart from its control plane (C)",
                false => "with its control plane",
            };
            fields.field(
                "  BFD of the peer",
                format_args!(
                    "{} ({}), sends every {} ms, receives every {} ms, x {}, {fate}",
                    remote.state, remote.diagnostic, remote.transmit_ms, remote.receive_ms, remote.multiplier
                ),
            );
        }
        None => fields.field("  BFD of the peer", "nothing heard"),
    }
    let down = bfd.last_down.iter().map(error_with_age);
    fields.list("  BFD lost", down.map(|down| format!("{} times, last: {down}", bfd.downs)), "never");
}

fn stale(stale: &Stale) -> String {
    let why = match stale.why.as_str() {
        "away" => "while it is away",
        "back" => "until it has told all",
        _ => "as a last resort",
    };
    format!("{} {} {why}, for {} more", stale.routes, stale.family, span(stale.left_s))
}

fn keepalive(session: &Session) -> String {
    match session.keepalive_ms {
        Some(ms) if ms % 1000 == 0 => format!(", keepalive every {} s", ms / 1000),
        Some(ms) => format!(", keepalive every {ms} ms"),
        None => String::new(),
    }
}

fn graceful_restart(offer: &GracefulRestart) -> String {
    let restarted = if offer.restarted { ", it has restarted" } else { "" };
    format!("{} s, it keeps {}{restarted}", offer.restart_time_s, joined(&offer.families))
}

fn counts(families: &[FamilyCounts]) -> String {
    let mut table = Table::new([
        Column::Left("Routes"),
        Column::Right("Received"),
        Column::Right("Accepted"),
        Column::Right("Refused"),
        Column::Right("Sent"),
    ])
    .indent(2);
    for counts in families {
        let numbers = [counts.received, counts.refused, counts.sent];
        let [received, refused, sent] = numbers.map(|number| number.to_string());
        let accepted = match (counts.accepted, counts.limit) {
            (accepted, 0) => accepted.to_string(),
            (accepted, limit) => format!("{accepted} of {limit}"),
        };
        table.row([counts.family.clone(), received, accepted, refused, sent]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use cambric_api::BfdRemote;

    use super::*;

    fn family(family: &str, received: usize, refused: usize, sent: usize) -> FamilyCounts {
        FamilyCounts {
            family: family.to_owned(),
            received,
            accepted: received - refused,
            limit: 20_000,
            refused,
            not_kept: 0,
            sent,
        }
    }

    fn established() -> Protocol {
        Protocol {
            name: "tor1a".to_owned(),
            address: "10.0.1.1".to_owned(),
            asn: 65101,
            kind: "external".to_owned(),
            found: "address".to_owned(),
            settings: Some(Settings {
                local_address: Some("10.0.1.11".to_owned()),
                port: 179,
                hold_time_s: 9,
                import: "declared".to_owned(),
                export: "own".to_owned(),
                max_prefixes: 20_000,
                warn_at_percent: 80,
                filters: vec![FamilyFilters {
                    family: "ipv4".to_owned(),
                    import: vec!["tor-in".to_owned(), "bogons".to_owned()],
                    export: Vec::new(),
                }],
                ..Settings::default()
            }),
            state: "Established".to_owned(),
            disabled: false,
            since_s: 187_200,
            last_error: None,
            session: Some(Session {
                router_id: "10.255.0.1".to_owned(),
                hold_time_s: 9,
                keepalive_ms: Some(3000),
                families: vec!["ipv4".to_owned(), "ipv6".to_owned()],
                as_octets: 4,
                most_message_bytes: 4096,
                route_refresh: true,
                graceful_restart: Some(GracefulRestart {
                    restarted: false,
                    restart_time_s: 120,
                    families: vec!["ipv4".to_owned()],
                }),
                ..Session::default()
            }),
            families: vec![family("ipv4", 25, 1, 2), family("ipv6", 24, 0, 2)],
            flawed_updates: 0,
            last_flaw: None,
            stale: Vec::new(),
            bfd: None,
        }
    }

    fn down() -> Protocol {
        Protocol {
            name: "tor1b".to_owned(),
            address: "2001:db8:1::2".to_owned(),
            asn: 4_200_000_102,
            kind: "external".to_owned(),
            found: String::new(),
            settings: Some(Settings {
                passive: true,
                import: "all".to_owned(),
                export: "all".to_owned(),
                max_prefixes: 5,
                ..Settings::default()
            }),
            state: "Active".to_owned(),
            disabled: false,
            since_s: 192,
            last_error: Some(LastError {
                ago_s: 12,
                what: "sent OPEN Message Error: Bad Peer AS (2/2): its AS is 65103, configured is 65102"
                    .to_owned(),
            }),
            session: None,
            families: vec![family("ipv6", 0, 0, 0)],
            flawed_updates: 3,
            last_flaw: None,
            stale: Vec::new(),
            bfd: None,
        }
    }

    #[test]
    fn one_line_a_peer() {
        let expected = "\
Name   Address                AS  State        Since  Received  Accepted  Refused  Sent  Last error
tor1a  10.0.1.1            65101  Established  2d04h     25+24     24+24      1+0   2+2  -
tor1b  2001:db8:1::2  4200000102  Active       3m12s       -+0       -+0      -+0   -+0  sent OPEN Message Error: Bad Peer AS (2/2): its AS is 65103, configured is 65102 (12s ago)
Routes:  ipv4+ipv6
";
        assert_eq!(render_brief(&[established(), down()]), expected);
    }

    #[test]
    fn error_that_a_session_has_outlived_is_told_with_all_only() {
        let error = |ago_s| Some(LastError { ago_s, what: "connect: Network is unreachable".to_owned() });
        let up = |ago_s| Protocol { last_error: error(ago_s), ..established() };
        assert!(render_brief(&[up(599)]).contains("connect: Network is unreachable (9m59s ago)"));
        assert!(!render_brief(&[up(600)]).contains("unreachable"));
        assert!(render_full(&[up(600)]).contains("unreachable"));
        let down = Protocol { last_error: error(86_400), ..down() };
        assert!(render_brief(&[down]).contains("unreachable"));
    }

    #[test]
    fn bfd_is_told_with_its_times_and_how_it_was_lost() {
        let bfd = Bfd { state: "Down".to_owned(), since_s: 3, transmit_ms: Some(1000), ..Bfd::default() };
        let expected = "\
BFD:               Down for 3s, a packet every 1000 ms
  BFD of the peer:   nothing heard
  BFD lost:          never
";
        let text = render_full(&[Protocol { bfd: Some(bfd.clone()), ..established() }]);
        assert!(text.contains(expected), "{text}");
        let remote = BfdRemote {
            state: "Up".to_owned(),
            diagnostic: "No Diagnostic".to_owned(),
            control_plane_independent: true,
            transmit_ms: 300,
            receive_ms: 50,
            multiplier: 3,
        };
        let lost = LastError { ago_s: 60, what: "nothing heard for 900 ms".to_owned() };
        let up = Bfd {
            state: "Up".to_owned(),
            remote: Some(remote),
            detection_ms: Some(900),
            downs: 2,
            last_down: Some(lost),
            ..bfd
        };
        let expected = "\
BFD:               Up for 3s, a packet every 1000 ms, lost after 900 ms
  BFD of the peer:   Up (No Diagnostic), sends every 300 ms, receives every 50 ms, x 3, apart from its control plane (C)
  BFD lost:          2 times, last: nothing heard for 900 ms (1m00s ago)
";
        let text = render_full(&[Protocol { bfd: Some(up), ..established() }]);
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn one_family_needs_no_legend() {
        let expected = "\
Name   Address                AS  State   Since  Received  Accepted  Refused  Sent  Last error
tor1b  2001:db8:1::2  4200000102  Active  3m12s         0         0        0     0  -
";
        assert_eq!(render_brief(&[Protocol { last_error: None, ..down() }]), expected);
    }

    #[test]
    fn one_block_a_peer() {
        let expected = "\
Peer:                tor1a
  Address:           10.0.1.1
  AS:                65101 (external)
  State:             Established for 2d04h
  Last error:        none
  Flawed updates:    0
  Local address:     10.0.1.11
  Import:            what the cluster declares, at most 20000 a family, a warning at 80 %
  Export:            our own; to an internal peer also what external ones told
  Filters:           ipv4 import through tor-in, bogons
  Router ID:         10.255.0.1
  Hold time:         9 s, keepalive every 3 s
  Families:          ipv4 ipv6
  AS numbers:        4 octets
  Longest message:   4096 octets
  Route refresh:     yes, not framed
  Graceful restart:  120 s, it keeps ipv4
  Notifications:     end with all routes
  Long-lived:        not offered by both
  Routes  Received     Accepted  Refused  Sent
  ipv4          25  24 of 20000        1     2
  ipv6          24  24 of 20000        0     2

Peer:              tor1b
  Address:         2001:db8:1::2
  AS:              4200000102 (external)
  State:           Active for 3m12s
  Last error:      sent OPEN Message Error: Bad Peer AS (2/2): its AS is 65103, configured is 65102 (12s ago)
  Flawed updates:  3
  Local address:   chosen by the kernel
  Connects:        only the peer does
  Import:          all, at most 5 a family
  Export:          all
  Routes  Received    Accepted  Refused  Sent
  ipv6           0  0 of 20000        0     0
";
        assert_eq!(render_full(&[established(), down()]), expected);
    }

    #[test]
    fn what_a_peer_has_of_its_own_is_told_and_of_a_key_that_there_is_one() {
        let settings = Settings {
            asn: "external".to_owned(),
            local_interface: Some("eth1".to_owned()),
            active: true,
            distance: "ttl-security".to_owned(),
            hops: Some(1),
            md5: true,
            local_asn: Some(64_999),
            as_override: true,
            own_as: 2,
            reflector_client: true,
            local_role: Some("customer".to_owned()),
            strict_role: true,
            add_path: vec![AddPath { family: "ipv4".to_owned(), receive: true, send: Some(4) }],
            import: "all".to_owned(),
            export: "all".to_owned(),
            ..Settings::default()
        };
        let flaw = LastError { ago_s: 5, what: "ORIGIN of 2 octets: treated as withdrawn".to_owned() };
        let peer = Protocol {
            asn: 0,
            found: "called from 10.1.0.0/16".to_owned(),
            settings: Some(settings),
            last_flaw: Some(flaw),
            ..down()
        };
        assert!(
            render_brief(std::slice::from_ref(&peer)).contains("  external  Active  "),
            "the AS is not known"
        );
        let text = render_full(&[peer]);
        for line in [
            "  Found as:        called from 10.1.0.0/16\n",
            "  AS:              any that is external\n",
            "  Flawed updates:  3, last ORIGIN of 2 octets: treated as withdrawn (5s ago)\n",
            "  Interface:       eth1\n",
            "  Connects:        only we do\n",
            "  TTL security:    packets from the link only\n",
            "  TCP MD5:         on\n",
            "  Local AS:        64999\n",
            "  AS override:     its AS is told as ours\n",
            "  Own AS:          allowed 2 times in its paths\n",
            "  Reflector:       it is a client of ours\n",
            "  Local role:      we are its customer, and it must say its own\n",
            "  Several paths:   ipv4: it may tell several, it is told up to 4\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn what_both_offered_and_what_is_kept_is_told() {
        let session = Session {
            route_refresh: true,
            enhanced_refresh: true,
            graceful_notification: true,
            long_lived_s: Some(3600),
            we_offered: vec!["ipv4 routes".to_owned(), "route refresh".to_owned()],
            it_offered: vec!["ipv4 routes".to_owned()],
            ..Session::default()
        };
        let without =
            Protocol { session: Some(Session { long_lived_s: Some(0), ..session.clone() }), ..established() };
        assert!(
            render_full(&[without])
                .contains("  Long-lived:        agreed on, but it asks for no time (RFC 9494)\n")
        );
        let stale = Stale { family: "ipv4".to_owned(), routes: 25, why: "back".to_owned(), left_s: 350 };
        let peer = Protocol { session: Some(session), stale: vec![stale], ..established() };
        let text = render_full(&[peer]);
        for line in [
            "  Route refresh:     yes, framed (RFC 7313)\n",
            "  Notifications:     routes outlive them, but for a hard reset (RFC 8538)\n",
            "  Long-lived:        3600 s beyond that, as a last resort (RFC 9494)\n",
            "  We offered:        ipv4 routes, route refresh\n",
            "  It offered:        ipv4 routes\n",
            "  Stale routes:      25 ipv4 until it has told all, for 5m50s more\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn disabled_peer_says_so_and_how_it_comes_back() {
        let disabled = Protocol { disabled: true, state: "Idle".to_owned(), last_error: None, ..down() };
        assert!(render_brief(std::slice::from_ref(&disabled)).contains("  Idle, disabled  3m12s  "));
        let text = render_full(&[disabled]);
        assert!(text.contains("  State:           Idle, disabled for 3m12s\n"), "{text}");
        assert!(
            text.contains("  Disabled:        by the operator; `enable tor1b` brings it back\n"),
            "{text}"
        );
    }

    #[test]
    fn use_of_the_limit_is_told_unless_an_older_daemon_does_not_say_it() {
        let mut peer = established();
        (peer.families[0].accepted, peer.families[0].limit) = (812, 1000);
        peer.families[1].limit = 0;
        let text = render_full(&[peer]);
        assert!(text.contains("  ipv4          25  812 of 1000        1     2\n"), "{text}");
        assert!(text.contains("  ipv6          24           24        0     2\n"), "{text}");
    }

    #[test]
    fn routes_that_were_not_kept_are_told() {
        let mut peer = established();
        peer.families[0].not_kept = 9500;
        let text = render_full(&[peer]);
        assert!(text.contains("  Not kept:          9500 of the refused, beyond its limit;"), "{text}");
    }

    #[test]
    fn session_says_what_was_not_agreed_on() {
        let session =
            Session { hold_time_s: 0, route_refresh: false, graceful_restart: None, ..Session::default() };
        let text = render_full(&[Protocol { session: Some(session), ..established() }]);
        for line in [
            "  Hold time:         never expires\n",
            "  Families:          -\n",
            "  Route refresh:     no\n",
            "  Graceful restart:  not offered\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn text_of_a_peer_is_escaped() {
        let last_error = Some(LastError { ago_s: 1, what: "\x1b[2Jbye\nfake  10.0.0.9".to_owned() });
        for text in [render_brief, render_full]
            .map(|render| render(&[Protocol { last_error: last_error.clone(), ..down() }]))
        {
            assert!(text.contains("\\u{1b}[2Jbye\\u{a}fake  10.0.0.9 (1s ago)"), "{text}");
        }
    }

    #[test]
    fn no_peers_are_said_so() {
        assert_eq!(render_brief(&[]), "no peers\n");
        assert_eq!(render_full(&[]), "no peers\n");
    }
}
