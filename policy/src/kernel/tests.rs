//! Bytes against values, in both directions, and damage. The bytes are those that `nft --debug=mnl` 1.0.6 shows on
//! a little-endian machine for the rule beside them (of a look-up in a named map without the map's number, which is
//! only of use in the same batch); of the match of ipset, which `nft` cannot write, as linux/netfilter/xt_set.h has
//! it.

use proptest::prelude::*;

use super::expression::{self, Expression, of_statement, to_statements};
use super::message::{Attributes, DUMP, Header, Messages, REQUEST, Writer};
use super::{held, ipset, log, watch};
use crate::program::{End, Interface, Ports, Protocol, SetName, Statement, Verdict};

/// An attribute: length, kind, bytes, padding.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (value.len() as u16 + 4).to_le_bytes().to_vec();
    bytes.extend(kind.to_le_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An expression in its list element, from its name and the attributes of its data.
fn element(name: &str, data: &[(u16, &[u8])]) -> Vec<u8> {
    let data: Vec<u8> = data.iter().flat_map(|(kind, value)| attribute(*kind, value)).collect();
    let name = attribute(1, &[name.as_bytes(), b"\0"].concat());
    attribute(0x8001, &[name, attribute(0x8002, &data)].concat())
}

fn value(bytes: &[u8]) -> Vec<u8> {
    attribute(1, bytes)
}

fn verdict(code: i32, chain: &[u8]) -> Vec<u8> {
    let mut inner = attribute(1, &code.to_be_bytes());
    if !chain.is_empty() {
        inner.extend(attribute(2, chain));
    }
    attribute(0x8002, &inner)
}

/// A statement, and the bytes of its expressions.
fn vectors() -> Vec<(Statement, Vec<Vec<u8>>)> {
    const ONE: &[u8] = &[0, 0, 0, 1];
    const TWO: &[u8] = &[0, 0, 0, 2];
    const ZERO: &[u8] = &[0, 0, 0, 0];
    const FOUR: &[u8] = &[0, 0, 0, 4];
    let in_set =
        |ends: &[End], inverted| Statement::InSet { set: "cam4self".into(), ends: ends.to_vec(), inverted };
    let matched = |info: &[u8]| vec![element("match", &[(1, b"set\0"), (2, ONE), (3, info)])];
    let meta = |key: u8| element("meta", &[(2, &[0, 0, 0, key]), (1, ONE)]);
    let decided =
        |code, chain: &[u8]| vec![element("immediate", &[(1, ZERO), (0x8002, &verdict(code, chain))])];
    let port = element("payload", &[(1, ONE), (2, TWO), (3, TWO), (4, TWO)]);
    vec![
        // iifname "cam*"
        (
            Statement::IsVeth(Interface::Input),
            vec![meta(6), element("cmp", &[(1, ONE), (2, ZERO), (0x8003, &value(b"cam"))])],
        ),
        (
            Statement::IsVeth(Interface::Output),
            vec![meta(7), element("cmp", &[(1, ONE), (2, ZERO), (0x8003, &value(b"cam"))])],
        ),
        // ct state established,related
        (
            Statement::Established,
            vec![
                element("ct", &[(2, ZERO), (1, ONE)]),
                element(
                    "bitwise",
                    &[(1, ONE), (2, ONE), (3, FOUR), (0x8004, &value(&[6, 0, 0, 0])), (0x8005, &value(ZERO))],
                ),
                element("cmp", &[(1, ONE), (2, ONE), (0x8003, &value(ZERO))]),
            ],
        ),
        // meta l4proto sctp
        (
            Statement::Protocol(Protocol::Sctp),
            vec![meta(16), element("cmp", &[(1, ONE), (2, ZERO), (0x8003, &value(&[132]))])],
        ),
        // th dport 80
        (
            Statement::DestinationPort(Ports { first: 80, last: 80 }),
            vec![port.clone(), element("cmp", &[(1, ONE), (2, ZERO), (0x8003, &value(&[0, 80]))])],
        ),
        // th dport 80-90, as newer nft writes it
        (
            Statement::DestinationPort(Ports { first: 80, last: 90 }),
            vec![
                port,
                element(
                    "range",
                    &[(1, ONE), (2, ZERO), (0x8003, &value(&[0, 80])), (0x8004, &value(&[0, 90]))],
                ),
            ],
        ),
        // -m set ! --match-set cam4self src,src
        (in_set(&[End::Source, End::Source], true), matched(&[0x34, 0x12, 2, 0b111, 0, 0, 0, 0])),
        // -m set --match-set cam4self dst,src
        (in_set(&[End::Destination, End::Source], false), matched(&[0x34, 0x12, 2, 0b100, 0, 0, 0, 0])),
        // -m set --match-set cam4self src
        (in_set(&[End::Source], false), matched(&[0x34, 0x12, 1, 0b10, 0, 0, 0, 0])),
        (Statement::Counter, vec![element("counter", &[])]),
        // limit rate 10/second burst 10 packets
        (
            Statement::AtMostPerSecond(10),
            vec![element(
                "limit",
                &[
                    (1, &[0, 0, 0, 0, 0, 0, 0, 10]),
                    (2, &[0, 0, 0, 0, 0, 0, 0, 1]),
                    (3, &[0, 0, 0, 10]),
                    (4, ZERO),
                    (5, ZERO),
                ],
            )],
        ),
        // log group 5 prefix "x"
        (
            Statement::Log { group: 5, prefix: "x".to_owned() },
            vec![element("log", &[(2, b"x\0"), (1, &[0, 5])])],
        ),
        (Statement::Verdict(Verdict::Drop), decided(0, b"")),
        (Statement::Verdict(Verdict::Accept), decided(1, b"")),
        (Statement::Verdict(Verdict::Jump("egress".into())), decided(-3, b"egress\0")),
        (Statement::Verdict(Verdict::Goto("x".into())), decided(-4, b"x\0")),
        (Statement::Verdict(Verdict::Return), decided(-5, b"")),
        // iifname vmap @egress
        (
            Statement::Dispatch(Interface::Input),
            vec![meta(6), element("lookup", &[(2, ONE), (3, ZERO), (1, b"egress\0")])],
        ),
        (
            Statement::Dispatch(Interface::Output),
            vec![meta(7), element("lookup", &[(2, ONE), (3, ZERO), (1, b"ingress\0")])],
        ),
    ]
}

fn name(index: u16) -> Option<SetName> {
    (index == 0x1234).then(|| "cam4self".into())
}

fn encode(expressions: &[Expression]) -> Vec<u8> {
    let mut writer = Writer::new();
    expression::write_list(&mut writer, expressions);
    writer.as_bytes().to_vec()
}

#[test]
#[cfg(target_endian = "little")]
fn statements_are_these_bytes_and_these_bytes_are_the_statements() {
    for (statement, bytes) in vectors() {
        let expressions = of_statement(&statement, |_| Some(0x1234)).expect("written");
        assert_eq!(encode(&expressions), bytes.concat(), "{statement:?}");
        // The kernel tells of a counter what it counted.
        if statement != Statement::Counter {
            let read = expression::read_list(Attributes(&bytes.concat())).expect("read");
            assert_eq!(to_statements(&read, name), Ok(vec![statement]));
        }
    }
    let counter = element("counter", &[(1, &[0, 0, 0, 0, 0, 0, 1, 0]), (2, &[0, 0, 0, 0, 0, 0, 0, 3])]);
    let read = expression::read_list(Attributes(&counter)).expect("read");
    assert_eq!(expression::counted(&read), Some((3, 256)));
    assert_eq!(to_statements(&read, name), Ok(vec![Statement::Counter]));
}

/// Sets the bits that say nothing: type flags and padding of attributes, whether the length of a text counts its
/// final zero or padding, and the end of the match's data, which the kernel does not look at (XT_ALIGN).
fn ignore(bytes: &[u8], ignored: &mut [u8]) {
    let mut start = 0;
    while start < bytes.len() {
        let length = usize::from(u16::from_le_bytes([bytes[start], bytes[start + 1]]));
        let (end, padded) = (start + length, length.next_multiple_of(4));
        let value = start + 4..end;
        ignored[start + 3] |= 0xc0;
        ignored[end..start + padded].fill(0xff);
        if bytes[start + 3] & 0x80 != 0 {
            ignore(&bytes[value.clone()], &mut ignored[value]);
        } else if let [text @ .., 0] = &bytes[value.clone()]
            && text.iter().all(u8::is_ascii_lowercase)
            && !text.is_empty()
        {
            let means_the_same = |bit: &u8| {
                let changed = length ^ 1 << bit;
                changed >= length - 1 && changed.next_multiple_of(4) == padded
            };
            ignored[start] |= (0..8).filter(means_the_same).fold(0, |bits, bit| bits | 1 << bit);
        } else if bytes[value.clone()].starts_with(&[0x34, 0x12]) {
            ignored[end - 4..end].fill(0xff);
        }
        start += padded;
    }
}

#[test]
#[cfg(target_endian = "little")]
fn a_rule_with_one_bit_changed_is_foreign_or_means_something_else() {
    for (statement, bytes) in vectors() {
        let whole = bytes.concat();
        let mut ignored = vec![0; whole.len()];
        ignore(&whole, &mut ignored);
        for nth in 0..whole.len() {
            for bit in (0..8).filter(|bit| ignored[nth] & 1 << bit == 0) {
                let mut changed = whole.clone();
                changed[nth] ^= 1 << bit;
                let read = expression::read_list(Attributes(&changed));
                let means = read.and_then(|read| to_statements(&read, name));
                assert_ne!(means, Ok(vec![statement.clone()]), "bit {bit} of byte {nth}: {changed:02x?}");
            }
        }
    }
}

#[test]
fn what_an_attribute_cannot_hold_is_told() {
    let mut writer = Writer::new();
    writer.bytes(1, &[0; 65_531]);
    assert!(!writer.take_too_long());
    writer.bytes(1, &[0; 65_532]);
    assert!(writer.take_too_long());
    writer.nested(1, |inner| inner.bytes(1, &[0; 65_530]));
    assert!(writer.take_too_long());
    assert!(!writer.take_too_long());
}

#[test]
fn a_damaged_message_ends_the_reading() {
    let mut writer = Writer::new();
    let header = Header { kind: 7, flags: REQUEST | DUMP, sequence: 9, family: 2, resource: 0 };
    for _ in 0..2 {
        writer.message(header, |message| message.text(1, "cambric"));
    }
    let bytes = writer.as_bytes();
    let messages: Vec<_> = Messages(bytes).map(|message| message.expect("whole")).collect();
    assert_eq!(messages.len(), 2);
    assert_eq!((messages[1].kind, messages[1].sequence, messages[1].flags), (7, 9, REQUEST | DUMP));
    let (family, attributes) = messages[1].netfilter().expect("netfilter");
    assert_eq!((family, attributes.need(1).expect("there").text()), (2, Ok("cambric")));
    for end in 0..bytes.len() {
        let read: Vec<_> = Messages(&bytes[..end]).collect();
        assert!(read.len() <= 2);
        let whole = read.iter().filter(|message| message.is_ok()).count();
        assert_eq!(whole, usize::from(end >= bytes.len() / 2), "{end}");
    }
}

/// Has every reader look at bytes that the kernel might send.
fn read_as_anything(bytes: &[u8]) {
    for message in Messages(bytes).flatten() {
        let _ = message.error();
        let Ok((_, attributes)) = message.netfilter() else { continue };
        drop(expression::read_list(attributes).map(|read| to_statements(&read, name)));
        drop(expression::read_verdict(attributes));
    }
    held::read_anything(bytes);
    ipset::read_anything(bytes);
    log::read_anything(bytes);
    watch::read_anything(bytes);
}

/// A message as the kernel would send it, of any kind, with attributes of any kind and depth.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop::collection::vec(any::<u8>(), 0..24);
    let attributes = leaf.prop_recursive(4, 48, 6, |inner| {
        prop::collection::vec((0u16..12, any::<bool>(), inner), 0..6).prop_map(|attributes| {
            let kind = |kind: u16, nested: bool| if nested { kind | 0x8000 } else { kind };
            attributes
                .iter()
                .flat_map(|(number, nested, value)| attribute(kind(*number, *nested), value))
                .collect()
        })
    });
    (0u16..0x1000, any::<u32>(), 0u8..12, attributes).prop_map(|(kind, sequence, family, body)| {
        let mut bytes = (20 + body.len() as u32).to_le_bytes().to_vec();
        bytes.extend(kind.to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(sequence.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend([family, 0, 0, 0]);
        bytes.extend(body);
        bytes
    })
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read_as_anything(&bytes);
    }

    #[test]
    fn no_message_makes_a_reader_panic(bytes in messages(), cut in any::<prop::sample::Index>()) {
        read_as_anything(&bytes);
        read_as_anything(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn no_flaw_in_a_rule_makes_a_reader_panic(
        which in any::<prop::sample::Index>(),
        flaws in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let all = vectors();
        let mut bytes = which.get(&all).1.concat();
        for (place, byte) in &flaws {
            let place = place.index(bytes.len());
            bytes[place] = *byte;
        }
        drop(expression::read_list(Attributes(&bytes)).map(|read| to_statements(&read, name)));
    }

    #[test]
    fn what_is_written_of_a_statement_is_read_back(
        first in any::<u16>(), more in any::<u16>(), group in any::<u16>(), rate in any::<u32>(),
        prefix in "[ -~]{0,63}",
        chain in "[ -~]{1,200}", ends in prop::collection::vec(any::<bool>(), 1..4), inverted in any::<bool>(),
    ) {
        let ends = ends.into_iter().map(|source| if source { End::Source } else { End::Destination }).collect();
        for statement in [
            Statement::DestinationPort(Ports { first, last: first.saturating_add(more) }),
            Statement::Log { group, prefix },
            Statement::AtMostPerSecond(rate),
            Statement::Verdict(Verdict::Goto(chain.as_str().into())),
            Statement::InSet { set: "cam4self".into(), ends, inverted },
        ] {
            let expressions = of_statement(&statement, |_| Some(0x1234)).expect("written");
            let read = expression::read_list(Attributes(&encode(&expressions))).expect("read");
            prop_assert_eq!(to_statements(&read, name), Ok(vec![statement]));
        }
    }
}
