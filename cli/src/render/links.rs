//! `show interfaces` and `show neighbors`: the node's links, and who is on them.

use cambric_api::{Interface, Neighbor};

use crate::table::{Column, Table};

/// One line a link, more where it has several addresses, peers or gateways.
pub(super) fn render_interfaces(interfaces: &[Interface]) -> String {
    let mut table = Table::new([
        Column::Left("Name"),
        Column::Left("State"),
        Column::Left("Role"),
        Column::Right("MTU"),
        Column::Left("MAC"),
        Column::Left("Addresses"),
        Column::Left("Peers"),
        Column::Left("Gateways"),
        Column::Right("Routes"),
    ]);
    for link in interfaces {
        let lists = [&link.addresses, &link.peers, &link.gateways];
        let lines = lists.iter().map(|list| list.len()).max().unwrap_or_default().max(1);
        for line in 0..lines {
            let first = |cell: String| if line == 0 { cell } else { String::new() };
            let [addresses, peers, gateways] = lists.map(|list| match (list.get(line), line) {
                (Some(entry), _) => entry.clone(),
                (None, 0) => "-".to_owned(),
                (None, _) => String::new(),
            });
            table.row([
                first(link.name.clone()),
                first(link.state.clone()),
                first(link.role.clone()),
                first(link.mtu_bytes.to_string()),
                first(link.mac.clone().unwrap_or_else(|| "-".to_owned())),
                addresses,
                peers,
                gateways,
                first(link.routes.to_string()),
            ]);
        }
    }
    table.to_string()
}

/// One line a neighbour.
pub(super) fn render_neighbors(neighbors: &[Neighbor]) -> String {
    if neighbors.is_empty() {
        return "no neighbours\n".to_owned();
    }
    let mut table = Table::new([
        Column::Left("Address"),
        Column::Left("Interface"),
        Column::Left("MAC"),
        Column::Left("State"),
        Column::Left("Peer"),
        Column::Left("Session"),
        Column::Right("Routes"),
        Column::Left("Not used because"),
    ]);
    for neighbor in neighbors {
        let or_dash = |cell: &Option<String>| cell.clone().unwrap_or_else(|| "-".to_owned());
        table.row([
            neighbor.address.clone(),
            or_dash(&neighbor.interface),
            or_dash(&neighbor.mac),
            or_dash(&neighbor.state),
            or_dash(&neighbor.peer),
            or_dash(&neighbor.session),
            neighbor.routes.to_string(),
            or_dash(&neighbor.unusable),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn interface_with_several_addresses_has_several_lines() {
        let uplink = Interface {
            name: "eth1".to_owned(),
            state: "up".to_owned(),
            mtu_bytes: 9000,
            mac: Some("02:00:00:00:01:0b".to_owned()),
            role: "uplink".to_owned(),
            addresses: words(&["10.0.1.11/31", "2001:db8:1::b/127"]),
            peers: words(&["tor1a"]),
            gateways: words(&["10.0.1.10", "2001:db8:1::a"]),
            routes: 46,
        };
        let bare = Interface {
            name: "cam0123456789ab".to_owned(),
            state: "no-carrier".to_owned(),
            mtu_bytes: 1500,
            role: "pod".to_owned(),
            ..Interface::default()
        };
        let expected = "\
Name             State       Role     MTU  MAC                Addresses          Peers  Gateways       Routes
cam0123456789ab  no-carrier  pod     1500  -                  -                  -      -                   0
eth1             up          uplink  9000  02:00:00:00:01:0b  10.0.1.11/31       tor1a  10.0.1.10          46
                                                              2001:db8:1::b/127         2001:db8:1::a
";
        assert_eq!(render_interfaces(&[bare, uplink]), expected);
    }

    #[test]
    fn neighbour_says_why_it_is_not_used() {
        let good = Neighbor {
            address: "10.0.1.10".to_owned(),
            interface: Some("eth1".to_owned()),
            mac: Some("02:00:00:00:01:0a".to_owned()),
            state: Some("REACHABLE".to_owned()),
            peer: Some("tor1a".to_owned()),
            session: Some("Established".to_owned()),
            routes: 23,
            unusable: None,
        };
        let lost = Neighbor {
            address: "10.0.1.12".to_owned(),
            state: Some("FAILED".to_owned()),
            routes: 0,
            unusable: Some("lost with its session".to_owned()),
            mac: None,
            session: Some("Active".to_owned()),
            ..good.clone()
        };
        let expected = "\
Address    Interface  MAC                State      Peer   Session      Routes  Not used because
10.0.1.10  eth1       02:00:00:00:01:0a  REACHABLE  tor1a  Established      23  -
10.0.1.12  eth1       -                  FAILED     tor1a  Active            0  lost with its session
";
        assert_eq!(render_neighbors(&[good, lost]), expected);
        assert_eq!(render_neighbors(&[]), "no neighbours\n");
    }
}
