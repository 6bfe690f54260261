//! `show protocols`: who we speak with, how much they told, and why it ended the last time.
//!
//! Counts of several families share a column: `12+10` is twelve IPv4 and ten IPv6 routes. A peer that
//! lost one family only is then seen at a glance, which a sum would hide.

use std::collections::BTreeSet;

use cambric_api::{FamilyCounts, GracefulRestart, LastError, Protocol, Session, Settings};

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
            peer.asn.to_string(),
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
    fields.field("  AS", format_args!("{} ({})", peer.asn, peer.kind));
    fields.field("  State", format_args!("{} for {}", state(peer), span(peer.since_s)));
    if peer.disabled {
        fields.field("  Disabled", format_args!("by the operator; `enable {}` brings it back", peer.name));
    }
    fields.list("  Last error", peer.last_error.iter().map(error_with_age), "none");
    fields.field("  Flawed updates", peer.flawed_updates);
    if let Some(settings) = &peer.settings {
        add_settings(&mut fields, settings);
    }
    if let Some(session) = &peer.session {
        add_session(&mut fields, session);
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
    if settings.passive {
        fields.field("  Connects", "only the peer does");
    }
    let most = settings.max_prefixes;
    match settings.import.as_str() {
        "declared" => {
            fields.field("  Import", format_args!("what the cluster declares, at most {most} a family"))
        }
        other => fields.field("  Import", format_args!("{other}, at most {most} a family")),
    }
    match settings.export.as_str() {
        "own" => fields.field("  Export", "our own; to an internal peer also what external ones told"),
        other => fields.field("  Export", other),
    }
}

fn add_session(fields: &mut Fields, session: &Session) {
    fields.field("  Router ID", &session.router_id);
    match session.hold_time_s {
        0 => fields.field("  Hold time", "never expires"),
        seconds => fields.field("  Hold time", format_args!("{seconds} s")),
    }
    fields.field("  Families", joined(&session.families));
    fields.field("  AS numbers", format_args!("{} octets", session.as_octets));
    fields.field("  Longest message", format_args!("{} octets", session.most_message_bytes));
    fields.field("  Route refresh", if session.route_refresh { "yes" } else { "no" });
    fields.list("  Graceful restart", session.graceful_restart.iter().map(graceful_restart), "not offered");
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
        let numbers = [counts.received, counts.accepted, counts.refused, counts.sent];
        let [received, accepted, refused, sent] = numbers.map(|number| number.to_string());
        table.row([counts.family.clone(), received, accepted, refused, sent]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(family: &str, received: usize, refused: usize, sent: usize) -> FamilyCounts {
        FamilyCounts {
            family: family.to_owned(),
            received,
            accepted: received - refused,
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
            settings: Some(Settings {
                local_address: Some("10.0.1.11".to_owned()),
                port: 179,
                passive: false,
                hold_time_s: 9,
                import: "declared".to_owned(),
                export: "own".to_owned(),
                max_prefixes: 20_000,
            }),
            state: "Established".to_owned(),
            disabled: false,
            since_s: 187_200,
            last_error: None,
            session: Some(Session {
                router_id: "10.255.0.1".to_owned(),
                hold_time_s: 9,
                families: vec!["ipv4".to_owned(), "ipv6".to_owned()],
                as_octets: 4,
                most_message_bytes: 4096,
                route_refresh: true,
                graceful_restart: Some(GracefulRestart {
                    restarted: false,
                    restart_time_s: 120,
                    families: vec!["ipv4".to_owned()],
                }),
            }),
            families: vec![family("ipv4", 25, 1, 2), family("ipv6", 24, 0, 2)],
            flawed_updates: 0,
        }
    }

    fn down() -> Protocol {
        Protocol {
            name: "tor1b".to_owned(),
            address: "2001:db8:1::2".to_owned(),
            asn: 4_200_000_102,
            kind: "external".to_owned(),
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
  Import:            what the cluster declares, at most 20000 a family
  Export:            our own; to an internal peer also what external ones told
  Router ID:         10.255.0.1
  Hold time:         9 s
  Families:          ipv4 ipv6
  AS numbers:        4 octets
  Longest message:   4096 octets
  Route refresh:     yes
  Graceful restart:  120 s, it keeps ipv4
  Routes  Received  Accepted  Refused  Sent
  ipv4          25        24        1     2
  ipv6          24        24        0     2

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
  Routes  Received  Accepted  Refused  Sent
  ipv6           0         0        0     0
";
        assert_eq!(render_full(&[established(), down()]), expected);
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
