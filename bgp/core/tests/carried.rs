//! Attributes that are passed on: nothing of them is lost on the way.

mod support;

use std::collections::BTreeMap;

use cambric_bgp::ConnId;
use cambric_bgp::config::ReflectorRole;
use cambric_bgp::wire::MessageType;
use support::scripted::{Device, capability, keepalive, message, open};
use support::{ip, passive, router};

const US: &str = "10.2.0.1";

/// A reflector with two clients, 10.2.0.2 and 10.2.0.3.
fn reflector() -> (Device, [ConnId; 2]) {
    let mut wanted = router(65001, US);
    wanted.peers = BTreeMap::from(["10.2.0.2", "10.2.0.3"].map(|peer| passive(65001, peer)));
    wanted.peers.values_mut().for_each(|peer| peer.role = ReflectorRole::Client);
    let mut device = Device::new(wanted);
    let conns = [2, 3].map(|last| {
        let conn = device.accept(ip(US), ip(&format!("10.2.0.{last}")));
        let as4 = capability::four_octet_as(65001);
        device.send(conn, &open(65001, [10, 2, 0, last], &[capability::IPV4, &as4]));
        device.send(conn, &keepalive());
        conn
    });
    (device, conns)
}

/// What the second client is told when the first tells 10.244.2.0/24 with these attributes: flags, type and value of each.
fn passed_on(attributes: &[(u8, u8, &[u8])]) -> Vec<(u8, u8, Vec<u8>)> {
    let (mut device, [one, other]) = reflector();
    device.received(other);
    let octets: Vec<u8> = attributes
        .iter()
        .flat_map(|(flags, code, value)| [&[*flags, *code, value.len() as u8], *value].concat())
        .collect();
    let body = [&[0, 0, 0, octets.len() as u8][..], &octets, &[24, 10, 244, 2]].concat();
    device.send(one, &message(2, &body));
    let told = device.received(other);
    let update = told.iter().find(|message| message.kind == MessageType::Update).expect("told");
    let mut rest = &update.body[4..update.body.len() - 4];
    let mut read = Vec::new();
    while let [flags, code, length, more @ ..] = rest {
        let (value, behind) = more.split_at(usize::from(*length));
        read.push((*flags, *code, value.to_vec()));
        rest = behind;
    }
    read
}

const HEAD: [(u8, u8, &[u8]); 4] =
    [(0x40, 1, &[0]), (0x40, 2, &[]), (0x40, 3, &[10, 2, 0, 2]), (0x40, 5, &[0, 0, 0, 100])];

/// RFC 4271 section 5: it must not be set back to 0 by any other AS.
#[test]
fn partial_bit_stays_where_it_was_set_and_is_not_set_where_it_was_not() {
    let carried: [(u8, &[u8]); 5] = [
        (7, &[0, 0, 0xFD, 0xEA, 10, 0, 0, 9]),
        (8, &[0xFD, 0xEA, 0, 1]),
        (16, &[0, 2, 0xFD, 0xEA, 0, 0, 0, 1]),
        (25, &[0; 20]),
        (32, &[0, 0, 0xFD, 0xEA, 0, 0, 0, 1, 0, 0, 0, 2]),
    ];
    for flags in [0xE0, 0xC0] {
        let told: Vec<(u8, u8, &[u8])> = carried.iter().map(|(code, value)| (flags, *code, *value)).collect();
        let read = passed_on(&[&HEAD[..], &told].concat());
        for (code, value) in carried {
            let found = read.iter().find(|(_, of, _)| *of == code).expect("passed on");
            assert_eq!((found.0, &found.2[..]), (flags, value), "attribute {code}");
        }
    }
}

/// RFC 4456 section 7: a cluster id is any four octets.
#[test]
fn identifiers_of_zero_are_passed_on_like_any_other() {
    let read = passed_on(&[&HEAD[..], &[(0x80, 9, &[0; 4]), (0x80, 10, &[0, 0, 0, 0, 0, 0, 0, 7])]].concat());
    let value = |code: u8| read.iter().find(|(_, of, _)| *of == code).map(|(.., value)| value.clone());
    assert_eq!(value(9), Some(vec![0; 4]));
    assert_eq!(value(10), Some(vec![10, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7]));
}
