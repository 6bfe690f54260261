//! Capabilities in words (RFC 5492).

use cambric_bgp::config::Role;
use cambric_bgp::wire::capability::AfiSafi;
use cambric_bgp::wire::{
    AddPathFamily, Capability, ExtendedNextHop, GracefulRestart, LongLivedGracefulRestart,
};

/// Each by itself, in the order of the message.
pub(super) fn words(capabilities: &[Capability]) -> Vec<String> {
    capabilities.iter().map(one).collect()
}

fn one(capability: &Capability) -> String {
    match capability {
        Capability::MultiProtocol(family) => format!("{} routes", self::family(*family)),
        Capability::RouteRefresh => "route refresh".to_owned(),
        Capability::ExtendedNextHop(entries) => extended_next_hop(entries),
        Capability::ExtendedMessage => "extended messages".to_owned(),
        Capability::GracefulRestart(restart) => graceful_restart(restart),
        Capability::FourOctetAs(asn) => format!("4-octet AS {asn}"),
        Capability::Role(role) => self::role(*role),
        Capability::AddPath(families) => add_path(families),
        Capability::EnhancedRouteRefresh => "enhanced route refresh".to_owned(),
        Capability::LongLivedGracefulRestart(long_lived) => self::long_lived(long_lived),
        Capability::Unknown { code, .. } => unknown(*code),
    }
}

fn family(family: AfiSafi) -> String {
    match family.family() {
        Some(family) => family.to_string(),
        None => format!("AFI {} SAFI {}", family.afi, family.safi),
    }
}

/// Whether it kept forwarding is said of each family that it keeps.
fn graceful_restart(restart: &GracefulRestart) -> String {
    let families = restart.families.iter().map(|entry| {
        let kept = if entry.forwarding_kept { " forwarded all the time" } else { "" };
        format!("{}{kept}", family(entry.family))
    });
    let mut words = vec![format!("graceful restart {} s", restart.restart_time_s)];
    words.extend(families);
    words.extend(restart.restarted.then(|| "has restarted".to_owned()));
    words.extend(restart.notification.then(|| "over notifications".to_owned()));
    words.join(" / ")
}

fn extended_next_hop(entries: &[ExtendedNextHop]) -> String {
    let entry = |entry: &ExtendedNextHop| match entry.next_hop_afi {
        2 => format!("{} over ipv6", family(entry.family)),
        afi => format!("{} over AFI {afi}", family(entry.family)),
    };
    ["extended next hop".to_owned()]
        .into_iter()
        .chain(entries.iter().map(entry))
        .collect::<Vec<_>>()
        .join(" / ")
}

fn long_lived(long_lived: &LongLivedGracefulRestart) -> String {
    let families = long_lived.families.iter();
    let families =
        families.map(|entry| format!("{} {} s", family(entry.family), entry.stale_time().as_secs()));
    ["long-lived graceful restart".to_owned()].into_iter().chain(families).collect::<Vec<_>>().join(" / ")
}

fn role(number: u8) -> String {
    Role::from_octet(number).map_or_else(|| format!("role {number}"), |role| format!("role {role}"))
}

/// As `additional paths ipv4 both / ipv6 received`.
fn add_path(families: &[AddPathFamily]) -> String {
    let families = families.iter().map(|AddPathFamily { family, receives, sends }| {
        let ways = match (receives, sends) {
            (true, true) => "both ways",
            (true, false) => "received",
            _ => "sent",
        };
        format!("{} {ways}", self::family(*family))
    });
    ["additional paths".to_owned()].into_iter().chain(families).collect::<Vec<_>>().join(" / ")
}

/// Names of IANA's registry of capability codes.
fn unknown(code: u8) -> String {
    let name = match code {
        3 => "outbound route filtering",
        7 => "BGPsec",
        8 => "multiple labels",
        67 => "dynamic capability",
        68 => "multisession",
        69 => "additional paths",
        73 => "host name",
        75 => "software version",
        76 => "paths limit",
        128 => "route refresh (before RFC 2918)",
        _ => return format!("capability {code}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use cambric_bgp::Family;
    use cambric_bgp::wire::capability::RestartFamily;

    use super::*;

    #[test]
    fn each_says_what_its_sender_can() {
        let ipv4 = AfiSafi::from(Family::Ipv4);
        let restart = GracefulRestart {
            restarted: true,
            notification: true,
            restart_time_s: 120,
            families: vec![RestartFamily { family: ipv4, forwarding_kept: true }],
        };
        let found = words(&[
            Capability::MultiProtocol(ipv4),
            Capability::MultiProtocol(AfiSafi { afi: 25, safi: 70 }),
            Capability::FourOctetAs(65001),
            Capability::GracefulRestart(restart),
            Capability::AddPath(vec![
                AddPathFamily { family: ipv4, receives: true, sends: true },
                AddPathFamily { family: Family::Ipv6.into(), receives: true, sends: false },
            ]),
            Capability::Role(3),
            Capability::Role(9),
            Capability::Unknown { code: 200, value: Vec::new() },
        ]);
        let expected = [
            "ipv4 routes",
            "AFI 25 SAFI 70 routes",
            "4-octet AS 65001",
            "graceful restart 120 s / ipv4 forwarded all the time / has restarted / over notifications",
            "additional paths / ipv4 both ways / ipv6 received",
            "role customer",
            "role 9",
            "capability 200",
        ];
        assert_eq!(found, expected);
    }
}
