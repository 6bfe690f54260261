//! Sessions out of an input: two OPENs, each with any of the capabilities, and what is agreed on by them.

use cambric_bgp::session::Session;
use cambric_bgp::wire::Open;

use crate::input::Input;

/// The capabilities that an input chooses from, a bit each; those that one side of Cambric may not know are among them.
const CAPABILITIES: [&[u8]; 12] = [
    &[1, 4, 0, 1, 0, 1],                                         // IPv4 unicast
    &[1, 4, 0, 2, 0, 1],                                         // IPv6 unicast
    &[2, 0],                                                     // route refresh
    &[6, 0],                                                     // extended message
    &[70, 0],                                                    // enhanced route refresh
    &[64, 10, 0xC0, 120, 0, 1, 1, 0x80, 0, 2, 1, 0x80],          // graceful restart with N
    &[71, 14, 0, 1, 1, 0x80, 0, 0, 60, 0, 2, 1, 0x80, 0, 0, 60], // long-lived graceful restart
    &[69, 8, 0, 1, 1, 3, 0, 2, 1, 3],                            // add-path, both ways (RFC 7911)
    &[69, 8, 0, 1, 1, 1, 0, 2, 1, 2],                            // add-path, one way each
    &[5, 6, 0, 1, 0, 1, 0, 2],                                   // IPv4 over IPv6 next hops (RFC 8950)
    &[9, 1, 3],                                                  // role: customer (RFC 9234)
    &[9, 1, 0],                                                  // role: provider
];

/// The body of an OPEN. `four_octets`: whether it says its AS in four.
pub(crate) fn open_body(asn: u32, id: u32, chosen: u16, four_octets: bool) -> Vec<u8> {
    let listed = CAPABILITIES.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1);
    let mut capabilities: Vec<u8> = listed.flat_map(|(_, octets)| octets.iter().copied()).collect();
    if four_octets {
        capabilities.extend_from_slice(&[65, 4]);
        capabilities.extend_from_slice(&asn.to_be_bytes());
    }
    let mut body = vec![4];
    body.extend_from_slice(&u16::try_from(asn).unwrap_or(23456).to_be_bytes());
    body.extend_from_slice(&90_u16.to_be_bytes());
    body.extend_from_slice(&id.to_be_bytes());
    let length = u8::try_from(capabilities.len()).expect("all capabilities together are short");
    match length {
        0 => body.push(0),
        _ => body.extend_from_slice(&[length + 2, 2, length]),
    }
    body.extend_from_slice(&capabilities);
    body
}

/// What five octets of the input agree on: as the one side sees it, and as the other does.
pub(crate) fn sessions(input: &mut Input<'_>) -> [Session; 2] {
    let (chosen, kind) = ([input.u16(), input.u16()], input.octet());
    let asns = match kind & 3 {
        0 => [65001, 65002],
        1 => [65001, 65001],
        2 => [65001, 4_200_000_002],
        _ => [4_200_000_001, 65002],
    };
    // Bits that only one side can have are nothing that an operator can want.
    let opens = [0, 1].map(|side| {
        let four_octets = kind >> (2 + side) & 1 == 0;
        // RFC 6793 section 9: who has such a number says so.
        let four_octets = four_octets || asns[side] > 0xFFFF;
        let body = open_body(asns[side], 0x0A02_0001 + side as u32, chosen[side], four_octets);
        Open::decode(&body).expect("a good OPEN")
    });
    let [one, other] = &opens;
    [Session::negotiate(one, other), Session::negotiate(other, one)]
}
