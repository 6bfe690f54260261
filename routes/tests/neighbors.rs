//! What is told besides routes: links with MTU and Ethernet address, neighbours, routes by gateway.

mod common;

use cambric_routes::{Hop, NeighborState};
use common::{TOR1, TOR1_V6, TOR2, address, config, in_both_modes, in_namespace, ip, start, until, via};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

#[test]
fn neighbors_are_listed_with_state_and_ethernet_address() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = start(config(dir.path())).await;
        ip(&format!("neigh add {TOR1} lladdr 02:00:00:00:00:01 dev up1 nud permanent"));
        ip(&format!("neigh add {TOR1_V6} lladdr 02:00:00:00:00:01 dev up1 nud stale"));
        ip(&format!("neigh add {TOR2} dev up2 nud failed"));
        let up = |name: &str| running.routes.links().borrow().by_name(name).expect("known").index;
        let neighbors = running.routes.neighbors().await.expect("listed");
        let found = |text: &str| {
            let neighbor = neighbors.iter().find(|neighbor| neighbor.address == address(text)).expect(text);
            (neighbor.interface, neighbor.lladdr, neighbor.state)
        };
        assert_eq!(found(TOR1), (up("up1"), Some(MAC), NeighborState::Permanent));
        assert_eq!(found(TOR1_V6), (up("up1"), Some(MAC), NeighborState::Stale));
        assert_eq!(found(TOR2), (up("up2"), None, NeighborState::Failed));
        assert!(!neighbors.iter().any(|neighbor| neighbor.address.is_multicast()), "{neighbors:?}");
    });
}

#[test]
fn gateways_are_told_of_what_no_link_reaches() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = start(config(dir.path())).await;
        ip(&format!("route add default via {TOR1}"));
        ip(&format!("-6 route add 2001:db8:9::/64 via {TOR1_V6}"));
        let asked = ["203.0.113.1", TOR2, "2001:db8:9::1", "2001:db8:99::1"].map(address).into();
        let gateways = running.routes.gateways(&asked).await.expect("the kernel answers");
        let far = [("203.0.113.1", TOR1), ("2001:db8:9::1", TOR1_V6)];
        assert_eq!(gateways, far.map(|(far, gateway)| (address(far), address(gateway))).into());
    });
}

#[test]
fn links_tell_mtu_and_ethernet_address_and_their_changes() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = start(config(dir.path())).await;
        let links = running.routes.links();
        let up1 = || links.borrow().by_name("up1").cloned().expect("known");
        assert_eq!(up1().mtu_bytes, 1500);
        assert_eq!(links.borrow().by_name("lo").and_then(|lo| lo.mac), None);
        ip("link set up1 mtu 9000");
        ip("link set up1 address 02:00:00:00:00:01");
        until("both told", || (up1().mtu_bytes, up1().mac) == (9000, Some(MAC))).await;
    });
}

#[test]
fn routes_are_counted_by_gateway() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = start(config(dir.path())).await;
        running
            .set(vec![
                via("20.0.0.0/24", &[TOR1, TOR2]),
                via("20.0.1.0/24", &[TOR1]),
                via("2001:db8:a::/64", &[TOR1_V6]),
            ])
            .await;
        let links = running.routes.links();
        let hop = |gateway: &str, link: &str| {
            let link = links.borrow().by_name(link).expect("known").index;
            Hop { gateway: address(gateway), link }
        };
        let by_gateway = running.snapshot().await.by_gateway;
        let expected = [(hop(TOR1, "up1"), 2), (hop(TOR2, "up2"), 1), (hop(TOR1_V6, "up1"), 1)];
        assert_eq!(by_gateway, expected.into());
    });
}
