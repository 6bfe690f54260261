//! Where the gateway of the node is: default routes of other programs, as the kernel has them.

mod common;

use cambric_routes::{Change, PerFamily};
use common::{TOR1, TOR1_V6, TOR2, address, config, in_both_modes, ip, start, until, via};

#[test]
fn the_gateways_follow_the_default_routes_of_others_and_not_ours() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        ip(&format!("route add default via {TOR1} metric 400"));
        let running = start(config(dir.path())).await;
        let gateways = running.routes.default_gateways();
        let are = |ipv4: Option<&str>, ipv6: Option<&str>| PerFamily {
            ipv4: ipv4.map(address),
            ipv6: ipv6.map(address),
        };
        assert_eq!(*gateways.borrow(), are(Some(TOR1), None), "there from the start");

        running.set(vec![via("0.0.0.0/0", &[TOR2]), via("::/0", &[TOR1_V6])]).await;
        assert_eq!(*gateways.borrow(), are(Some(TOR1), None), "ours has a lower metric, and is none");

        ip(&format!("-6 route add default via {TOR1_V6} metric 10"));
        until("IPv6", || *gateways.borrow() == are(Some(TOR1), Some(TOR1_V6))).await;
        ip(&format!("route add default via {TOR2} metric 10"));
        until("the lower metric", || *gateways.borrow() == are(Some(TOR2), Some(TOR1_V6))).await;
        ip("route replace default via 10.2.0.9 metric 10");
        until("another gateway", || *gateways.borrow() == are(Some("10.2.0.9"), Some(TOR1_V6))).await;
        // The kernel drops its IPv4 routes without a word.
        ip("link set up2 down");
        until("the link is gone", || *gateways.borrow() == are(Some(TOR1), Some(TOR1_V6))).await;
        ip("addr del 10.1.0.2/24 dev up1");
        until("the address is gone", || *gateways.borrow() == are(None, Some(TOR1_V6))).await;
        running
            .set(vec![Change::Drop(common::prefix("0.0.0.0/0")), Change::Drop(common::prefix("::/0"))])
            .await;
        assert_eq!(*gateways.borrow(), are(None, Some(TOR1_V6)));
        ip("-6 route del default metric 10");
        until("none is left", || *gateways.borrow() == are(None, None)).await;
    });
}
