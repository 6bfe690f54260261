//! What a peer that comes and goes with the same fault puts into the log.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use cambric_bgp::ConnId;
use support::lines::Lines;
use support::scripted::{self, Device, capability, keepalive, message};
use support::{ip, passive, router};
use tracing::Level;

const US: &str = "10.2.0.1";
const PEER: &str = "10.2.0.2";
const OTHER: &str = "10.2.0.3";

/// As soon as a peer that flaps is back.
const FLAP: Duration = Duration::from_secs(16);
const HOUR: Duration = Duration::from_secs(3600);

fn device() -> Device {
    let mut wanted = router(65001, US);
    wanted.peers = BTreeMap::from([passive(65002, PEER), passive(65002, OTHER)]);
    Device::new(wanted)
}

fn opened(device: &mut Device, peer: &str, capabilities: &[&[u8]]) -> ConnId {
    let conn = device.accept(ip(US), ip(peer));
    let as4 = capability::four_octet_as(65002);
    device.send(conn, &scripted::open(65002, [10, 2, 0, 2], &[&[&as4[..]], capabilities].concat()));
    conn
}

fn established(device: &mut Device, peer: &str, capabilities: &[&[u8]]) -> ConnId {
    let conn = opened(device, peer, capabilities);
    device.send(conn, &keepalive());
    conn
}

/// Warnings over ten sessions in a row, and over one more an hour later.
fn warned(device: &mut Device, session: impl Fn(&mut Device) -> ConnId) -> (usize, usize) {
    // That nothing came up to now is said once, too.
    device.advance(2 * FLAP);
    let warnings = Lines::of(Level::WARN);
    for _ in 0..10 {
        let conn = session(device);
        device.hang_up(conn);
        device.advance(FLAP);
    }
    let at_first = warnings.take();
    device.advance(HOUR);
    let conn = session(device);
    device.hang_up(conn);
    (at_first, warnings.take())
}

#[test]
fn malformed_updates_are_logged_once_an_hour_and_not_once_a_session() {
    let mut device = device();
    let warned = warned(&mut device, |device| {
        let conn = established(device, PEER, &[capability::IPV4]);
        device.send(conn, &message(2, &[0, 0, 0, 6, 0x80, 4, 3, 0, 0, 0, 24, 10, 3, 1]));
        conn
    });
    assert_eq!(warned, (3, 3), "MULTI_EXIT_DISC, and what is missing");
}

#[test]
fn sessions_that_carry_no_routes_are_logged_once_an_hour() {
    let mut device = device();
    let warned = warned(&mut device, |device| established(device, PEER, &[&[1, 4, 0, 25, 0, 70]]));
    assert_eq!(warned, (1, 1));
}

#[test]
fn same_identifier_is_logged_once() {
    let mut device = device();
    let warned = warned(&mut device, |device| {
        let other = established(device, OTHER, &[capability::IPV4]);
        let conn = established(device, PEER, &[capability::IPV4]);
        device.hang_up(other);
        conn
    });
    assert_eq!(warned, (1, 0));
}

/// Who hears that the session is gone logs why; an attempt that fails for nothing new is no news.
#[test]
fn session_that_was_replaced_is_not_logged_once_more_as_a_failed_attempt() {
    let graceful: &[u8] = &[64, 6, 0x40, 120, 0, 1, 1, 0x80];
    let mut device = device();
    established(&mut device, PEER, &[capability::IPV4, graceful]);
    device.advance(Duration::from_secs(1));
    let warnings = Lines::of(Level::WARN);
    let conn = opened(&mut device, PEER, &[capability::IPV4, graceful]);
    device.send(conn, &message(3, &[6, 7]));
    assert_eq!(warnings.take(), 0);
}
