//! Statements of a rule as the kernel's expressions, and back.
//!
//! A rule is a list of small steps over registers: load, compare, look up, decide. Each of our statements is one or a
//! few of them, in one form only, which is the form `nft` writes where it has one; so what is read back is ours, or it
//! is not. linux/netfilter/nf_tables.h, NFTA_*; nf_tables_compat.h and xt_set.h for the match of ipset.

use super::Damaged;
use super::message::{Attributes, Value, Writer};
use crate::program::{ChainName, End, Interface, Ports, Protocol, SetName, Statement, VETH_PREFIX, Verdict};

/// One expression, as far as we write any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    /// Loads something about the packet.
    Meta { key: u32, register: u32 },
    /// Loads something about its connection.
    Ct { key: u32, register: u32 },
    /// Loads bytes of the packet.
    Payload { base: u32, offset: u32, length: u32, register: u32 },
    /// `register & mask ^ xor`, in place.
    Bitwise { register: u32, mask: Vec<u8>, xor: Vec<u8> },
    /// Goes on if the register begins so (or, `equal` false, does not).
    Compare { register: u32, equal: bool, bytes: Vec<u8> },
    /// Goes on if the register is within, both ends included.
    Range { register: u32, first: Vec<u8>, last: Vec<u8> },
    /// Looks the register up in a native set: goes on if it is in it (`inverted`: is not), or takes the verdict of
    /// a map.
    Lookup { set: String, register: u32, verdict: bool, inverted: bool },
    /// Counts.
    Counter { packets: u64, bytes: u64 },
    /// Goes on at most so often in so many seconds.
    Limit { rate: u64, seconds: u64, burst: u32 },
    /// To an NFLOG group.
    Log { group: u16, prefix: String },
    /// The match of ipset: number, dimensions, flags (IPSET_INV_MATCH, IPSET_DIM_ONE_SRC, ...).
    InSet { index: u16, dimensions: u8, flags: u8 },
    /// A verdict.
    Verdict(Verdict),
}

/// A rule that we would not write, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Foreign(pub String);

impl From<Damaged> for Foreign {
    fn from(damaged: Damaged) -> Foreign {
        Foreign(damaged.to_string())
    }
}

/// NFT_REG_1: 16 bytes; NFT_REG_VERDICT.
const REGISTER: u32 = 1;
/// NFT_REG_2: the 16 bytes behind it.
const NEXT_REGISTER: u32 = 2;
const VERDICT_REGISTER: u32 = 0;

/// enum nft_meta_keys
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_L4PROTO: u32 = 16;
/// enum nft_ct_keys
const CT_STATE: u32 = 0;
/// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED) | NF_CT_STATE_BIT(IP_CT_RELATED)`
const ESTABLISHED_OR_RELATED: u32 = 1 << 1 | 1 << 2;
/// enum nft_payload_bases
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// Where TCP, UDP and SCTP have the destination port.
const DESTINATION_PORT_OFFSET: u32 = 2;
/// Where ARP for IPv4 over Ethernet has the sender's address.
const ARP_SENDER_OFFSET: u32 = 14;

/// IPSET_INV_MATCH
const INVERTED: u8 = 1;
/// The revision of the match that is spoken: the first with more than one dimension in few bytes, in every kernel
/// since 2.6.39.
pub(super) const SET_MATCH_REVISION: u32 = 1;
pub(super) const SET_MATCH: &str = "set";
/// struct xt_set_info_match_v1, rounded up (XT_ALIGN): the last 4 bytes say nothing.
const SET_MATCH_BYTES: usize = 8;

/// Name of the map that a dispatch looks an interface up in.
pub(super) fn map_name(interface: Interface) -> &'static str {
    match interface {
        Interface::Input => "egress",
        Interface::Output => "ingress",
    }
}

/// The expressions of a statement; `index` knows the numbers of the sets.
pub(super) fn of_statement(
    statement: &Statement,
    mut index: impl FnMut(&SetName) -> Option<u16>,
) -> Result<Vec<Expression>, Foreign> {
    use Expression as E;
    Ok(match statement {
        Statement::IsVeth(interface) => is_veth(*interface).to_vec(),
        Statement::Established => vec![
            E::Ct { key: CT_STATE, register: REGISTER },
            E::Bitwise {
                register: REGISTER,
                mask: ESTABLISHED_OR_RELATED.to_ne_bytes().to_vec(),
                xor: vec![0; 4],
            },
            E::Compare { register: REGISTER, equal: false, bytes: vec![0; 4] },
        ],
        Statement::Protocol(protocol) => vec![
            E::Meta { key: META_L4PROTO, register: REGISTER },
            E::Compare { register: REGISTER, equal: true, bytes: vec![protocol.number()] },
        ],
        Statement::DestinationPort(Ports { first, last }) => {
            let (first, last) = (first.to_be_bytes().to_vec(), last.to_be_bytes().to_vec());
            vec![
                E::Payload {
                    base: TRANSPORT_HEADER,
                    offset: DESTINATION_PORT_OFFSET,
                    length: 2,
                    register: REGISTER,
                },
                if first == last {
                    E::Compare { register: REGISTER, equal: true, bytes: first }
                } else {
                    E::Range { register: REGISTER, first, last }
                },
            ]
        }
        Statement::InSet { set, ends, inverted } => {
            let index = index(set).ok_or_else(|| Foreign(format!("the set {set} is not there")))?;
            let sources = ends.iter().enumerate().filter(|(_, end)| **end == End::Source);
            let flags =
                sources.fold(u8::from(*inverted) * INVERTED, |flags, (nth, _)| flags | source_flag(nth));
            let dimensions = u8::try_from(ends.len()).unwrap_or(u8::MAX);
            vec![E::InSet { index, dimensions, flags }]
        }
        Statement::Counter => vec![E::Counter { packets: 0, bytes: 0 }],
        Statement::AtMostPerSecond(rate) => {
            vec![E::Limit { rate: u64::from(*rate), seconds: 1, burst: *rate }]
        }
        Statement::Log { group, prefix } => vec![E::Log { group: *group, prefix: prefix.clone() }],
        Statement::Verdict(verdict) => vec![E::Verdict(verdict.clone())],
        Statement::Dispatch(interface) => vec![
            E::Meta { key: name_key(*interface), register: REGISTER },
            E::Lookup {
                set: map_name(*interface).to_owned(),
                register: REGISTER,
                verdict: true,
                inverted: false,
            },
        ],
    })
}

fn is_veth(interface: Interface) -> [Expression; 2] {
    [
        Expression::Meta { key: name_key(interface), register: REGISTER },
        Expression::Compare { register: REGISTER, equal: true, bytes: VETH_PREFIX.as_bytes().to_vec() },
    ]
}

fn name_key(interface: Interface) -> u32 {
    match interface {
        Interface::Input => META_IIFNAME,
        Interface::Output => META_OIFNAME,
    }
}

/// IPSET_DIM_ONE_SRC for the first dimension, and so on.
fn source_flag(nth: usize) -> u8 {
    1u8.checked_shl(nth as u32 + 1).unwrap_or_default()
}

/// The one rule of the ARP table: what a pod says of whose address it has, unless (interface, address) is in the set.
pub(super) fn arp_rule(set: &str) -> Vec<Expression> {
    use Expression as E;
    let mut rule = is_veth(Interface::Input).to_vec();
    rule.extend([
        E::Meta { key: META_IIFNAME, register: REGISTER },
        E::Payload { base: NETWORK_HEADER, offset: ARP_SENDER_OFFSET, length: 4, register: NEXT_REGISTER },
        E::Lookup { set: set.to_owned(), register: REGISTER, verdict: false, inverted: true },
        E::Counter { packets: 0, bytes: 0 },
        E::Verdict(Verdict::Drop),
    ]);
    rule
}

/// The statements that a rule's expressions stand for; `name` knows the names of the sets.
pub(super) fn to_statements(
    expressions: &[Expression],
    mut name: impl FnMut(u16) -> Option<SetName>,
) -> Result<Vec<Statement>, Foreign> {
    let mut statements = Vec::new();
    let mut rest = expressions;
    while !rest.is_empty() {
        let (statement, taken) = first_statement(rest, &mut name)?;
        statements.push(statement);
        rest = &rest[taken..];
    }
    Ok(statements)
}

/// The statement that the expressions begin with, and how many of them it is.
fn first_statement(
    expressions: &[Expression],
    mut name: impl FnMut(u16) -> Option<SetName>,
) -> Result<(Statement, usize), Foreign> {
    use Expression as E;
    let candidate = match expressions {
        [E::Meta { key, .. }, E::Compare { bytes, .. }, ..] if *key == META_L4PROTO => {
            protocol(bytes).map(Statement::Protocol)
        }
        [E::Meta { key, .. }, E::Compare { .. }, ..] => interface(*key).map(Statement::IsVeth),
        [E::Meta { key, .. }, E::Lookup { .. }, ..] => interface(*key).map(Statement::Dispatch),
        [E::Ct { .. }, ..] => Some(Statement::Established),
        [E::Payload { .. }, E::Compare { bytes, .. }, ..] => {
            ports(bytes, bytes).map(Statement::DestinationPort)
        }
        [E::Payload { .. }, E::Range { first, last, .. }, ..] => {
            ports(first, last).map(Statement::DestinationPort)
        }
        [E::InSet { index, dimensions, flags }, ..] => Some(Statement::InSet {
            set: name(*index).ok_or_else(|| Foreign(format!("no set has the number {index}")))?,
            ends: (0..usize::from(*dimensions))
                .map(|nth| if flags & source_flag(nth) != 0 { End::Source } else { End::Destination })
                .collect(),
            inverted: flags & INVERTED != 0,
        }),
        [E::Counter { .. }, ..] => Some(Statement::Counter),
        [E::Limit { rate, .. }, ..] => u32::try_from(*rate).ok().map(Statement::AtMostPerSecond),
        [E::Log { group, prefix }, ..] => Some(Statement::Log { group: *group, prefix: prefix.clone() }),
        [E::Verdict(verdict), ..] => Some(Statement::Verdict(verdict.clone())),
        _ => None,
    };
    let unknown = || Foreign(format!("none of our rules has {:?} there", expressions.first()));
    let statement = candidate.ok_or_else(unknown)?;
    // What the statement is made of has to be what was read: registers, lengths, flags and all.
    let index = match expressions.first() {
        Some(E::InSet { index, .. }) => Some(*index),
        _ => None,
    };
    let ours = of_statement(&statement, |_| index)?;
    let same = expressions.get(..ours.len()).is_some_and(|read| {
        read.iter().zip(&ours).all(|(read, ours)| {
            read == ours || matches!((read, ours), (E::Counter { .. }, E::Counter { .. }))
        })
    });
    if same { Ok((statement, ours.len())) } else { Err(unknown()) }
}

fn interface(key: u32) -> Option<Interface> {
    [Interface::Input, Interface::Output].into_iter().find(|interface| name_key(*interface) == key)
}

fn protocol(bytes: &[u8]) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|protocol| bytes == [protocol.number()])
}

fn ports(first: &[u8], last: &[u8]) -> Option<Ports> {
    let port = |bytes: &[u8]| Some(u16::from_be_bytes(bytes.try_into().ok()?));
    Some(Ports { first: port(first)?, last: port(last)? })
}

/// Packets and bytes of the first counter.
pub(super) fn counted(expressions: &[Expression]) -> Option<(u64, u64)> {
    expressions.iter().find_map(|expression| match expression {
        Expression::Counter { packets, bytes } => Some((*packets, *bytes)),
        _ => None,
    })
}

/// NFTA_LIST_ELEM
const ELEMENT: u16 = 1;
/// NFTA_EXPR_*
const NAME: u16 = 1;
const DATA: u16 = 2;
/// NFTA_DATA_*
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
/// NFTA_VERDICT_*
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
/// NFT_CMP_EQ, NFT_CMP_NEQ
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
/// NFT_RANGE_EQ
const WITHIN: u32 = 0;
/// NFT_LOOKUP_F_INV
const LOOKUP_INVERTED: u32 = 1;
/// NFT_LIMIT_PKTS
const PACKETS: u32 = 0;

/// Writes expressions as a list (NFTA_RULE_EXPRESSIONS).
pub(super) fn write_list(list: &mut Writer, expressions: &[Expression]) {
    for expression in expressions {
        list.nested(ELEMENT, |element| write(element, expression));
    }
}

fn write(element: &mut Writer, expression: &Expression) {
    use Expression as E;
    let mut named = |name: &str, data: &dyn Fn(&mut Writer)| {
        element.text(NAME, name);
        element.nested(DATA, data);
    };
    match expression {
        E::Meta { key, register } => named("meta", &|data| {
            data.u32(2, *key);
            data.u32(1, *register);
        }),
        E::Ct { key, register } => named("ct", &|data| {
            data.u32(2, *key);
            data.u32(1, *register);
        }),
        E::Payload { base, offset, length, register } => named("payload", &|data| {
            data.u32(1, *register);
            data.u32(2, *base);
            data.u32(3, *offset);
            data.u32(4, *length);
        }),
        E::Bitwise { register, mask, xor } => named("bitwise", &|data| {
            data.u32(1, *register);
            data.u32(2, *register);
            data.u32(3, mask.len() as u32);
            data.nested(4, |value| value.bytes(DATA_VALUE, mask));
            data.nested(5, |value| value.bytes(DATA_VALUE, xor));
        }),
        E::Compare { register, equal, bytes } => named("cmp", &|data| {
            data.u32(1, *register);
            data.u32(2, if *equal { EQUAL } else { NOT_EQUAL });
            data.nested(3, |value| value.bytes(DATA_VALUE, bytes));
        }),
        E::Range { register, first, last } => named("range", &|data| {
            data.u32(1, *register);
            data.u32(2, WITHIN);
            data.nested(3, |value| value.bytes(DATA_VALUE, first));
            data.nested(4, |value| value.bytes(DATA_VALUE, last));
        }),
        E::Lookup { set, register, verdict, inverted } => named("lookup", &|data| {
            data.u32(2, *register);
            if *verdict {
                data.u32(3, VERDICT_REGISTER);
            }
            data.text(1, set);
            if *inverted {
                data.u32(5, LOOKUP_INVERTED);
            }
        }),
        E::Counter { .. } => named("counter", &|_| {}),
        E::Limit { rate, seconds, burst } => named("limit", &|data| {
            data.u64(1, *rate);
            data.u64(2, *seconds);
            data.u32(3, *burst);
            data.u32(4, PACKETS);
            data.u32(5, 0);
        }),
        E::Log { group, prefix } => named("log", &|data| {
            data.text(2, prefix);
            data.u16(1, *group);
        }),
        E::InSet { index, dimensions, flags } => named("match", &|data| {
            data.text(1, SET_MATCH);
            data.u32(2, SET_MATCH_REVISION);
            let [low, high] = index.to_ne_bytes();
            let info: [u8; SET_MATCH_BYTES] = [low, high, *dimensions, *flags, 0, 0, 0, 0];
            data.bytes(3, &info);
        }),
        E::Verdict(verdict) => named("immediate", &|data| {
            data.u32(1, VERDICT_REGISTER);
            data.nested(2, |value| write_verdict(value, verdict));
        }),
    }
}

/// NF_DROP, NF_ACCEPT and enum nft_verdicts
fn verdict_code(verdict: &Verdict) -> (i32, Option<&ChainName>) {
    match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5, None),
    }
}

/// Writes a verdict as data (NFTA_DATA_VERDICT).
pub(super) fn write_verdict(data: &mut Writer, verdict: &Verdict) {
    let (code, chain) = verdict_code(verdict);
    data.nested(DATA_VERDICT, |value| {
        value.u32(VERDICT_CODE, code as u32);
        if let Some(chain) = chain {
            value.text(VERDICT_CHAIN, chain);
        }
    });
}

/// Reads a verdict from data.
pub(super) fn read_verdict(data: Attributes<'_>) -> Result<Verdict, Foreign> {
    let Some(verdict) = data.find(DATA_VERDICT)? else {
        return Err(Foreign("a value that is no verdict".to_owned()));
    };
    let code = verdict.nested().need(VERDICT_CODE)?.u32()? as i32;
    let chain = || Ok::<ChainName, Foreign>(verdict.nested().need(VERDICT_CHAIN)?.text()?.into());
    Ok(match code {
        0 => Verdict::Drop,
        1 => Verdict::Accept,
        -3 => Verdict::Jump(chain()?),
        -4 => Verdict::Goto(chain()?),
        -5 => Verdict::Return,
        code => return Err(Foreign(format!("a verdict that is none of ours ({code})"))),
    })
}

/// Reads a list of expressions (NFTA_RULE_EXPRESSIONS).
pub(super) fn read_list(list: Attributes<'_>) -> Result<Vec<Expression>, Foreign> {
    let mut expressions = Vec::new();
    for element in list {
        let (kind, element) = element?;
        if kind == ELEMENT {
            expressions.push(read(element.nested())?);
        }
    }
    Ok(expressions)
}

fn read(element: Attributes<'_>) -> Result<Expression, Foreign> {
    use Expression as E;
    let name = element.need(NAME)?.text()?;
    let data = element.find(DATA)?.unwrap_or(Value(&[])).nested();
    let number = |kind: u16| data.need(kind)?.u32();
    let optional =
        |kind: u16| Ok::<u32, Damaged>(data.find(kind)?.map(Value::u32).transpose()?.unwrap_or_default());
    let value = |kind: u16| Ok::<Vec<u8>, Damaged>(data.need(kind)?.nested().need(DATA_VALUE)?.0.to_vec());
    let foreign = |what: &str| Err(Foreign(format!("a `{name}` that is none of ours: {what}")));
    Ok(match name {
        "meta" => E::Meta { key: number(2)?, register: number(1)? },
        "ct" => E::Ct { key: number(2)?, register: number(1)? },
        "payload" => {
            E::Payload { register: number(1)?, base: number(2)?, offset: number(3)?, length: number(4)? }
        }
        "bitwise" => {
            let (from, to) = (number(1)?, number(2)?);
            // NFTA_BITWISE_OP: 0 is mask and xor, the only one before 5.6.
            if from != to || optional(6)? != 0 {
                return foreign("another operation");
            }
            let (length, mask, xor) = (number(3)? as usize, value(4)?, value(5)?);
            if mask.len() != length || xor.len() != length {
                return foreign("another length");
            }
            E::Bitwise { register: to, mask, xor }
        }
        "cmp" => {
            let equal = match number(2)? {
                EQUAL => true,
                NOT_EQUAL => false,
                _ => return foreign("another comparison"),
            };
            E::Compare { register: number(1)?, equal, bytes: value(3)? }
        }
        "range" => {
            if number(2)? != WITHIN {
                return foreign("another comparison");
            }
            E::Range { register: number(1)?, first: value(3)?, last: value(4)? }
        }
        "lookup" => E::Lookup {
            set: data.need(1)?.text()?.to_owned(),
            register: number(2)?,
            verdict: match data.find(3)? {
                None => false,
                Some(register) if register.u32()? == VERDICT_REGISTER => true,
                Some(_) => return foreign("to another register"),
            },
            inverted: match optional(5)? {
                0 => false,
                LOOKUP_INVERTED => true,
                _ => return foreign("unknown flags"),
            },
        },
        "counter" => E::Counter { bytes: data.need(1)?.u64()?, packets: data.need(2)?.u64()? },
        "limit" => {
            if number(4)? != PACKETS || number(5)? != 0 {
                return foreign("another limit");
            }
            E::Limit { rate: data.need(1)?.u64()?, seconds: data.need(2)?.u64()?, burst: number(3)? }
        }
        "log" => {
            // Snapshot length, threshold, level and flags are told only when they were given.
            if data.find(3)?.is_some() || data.find(5)?.is_some() || data.find(6)?.is_some() {
                return foreign("other settings");
            }
            let prefix = data.find(2)?.map(Value::text).transpose()?.unwrap_or_default();
            E::Log { group: data.need(1)?.u16()?, prefix: prefix.to_owned() }
        }
        "match" => {
            if data.need(1)?.text()? != SET_MATCH || number(2)? != SET_MATCH_REVISION {
                return foreign("another match");
            }
            let Some([low, high, dimensions, flags, ..]) = data.need(3)?.0.first_chunk::<SET_MATCH_BYTES>()
            else {
                return foreign("it is too short");
            };
            E::InSet { index: u16::from_ne_bytes([*low, *high]), dimensions: *dimensions, flags: *flags }
        }
        "immediate" => {
            if number(1)? != VERDICT_REGISTER {
                return foreign("to another register");
            }
            E::Verdict(read_verdict(data.need(2)?.nested())?)
        }
        _ => return Err(Foreign(format!("a `{name}`"))),
    })
}
