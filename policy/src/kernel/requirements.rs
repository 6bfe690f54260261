//! What the kernel lacks, found by trying: batches without an end are checked and forgotten, so nothing is left behind.

use nix::errno::Errno;

use super::batch::{Batch, CommitError, Purpose};
use super::expression::{Expression, SET_MATCH, SET_MATCH_REVISION, of_statement, write_list};
use super::ipset::{Ipset, number};
use super::message::{Attributes, CREATE, Header, REQUEST, Writer};
use super::operation::{ARP, Guard, chain, command, rule, table};
use super::socket::Socket;
use super::{Error, Foreign, held};
use crate::program::{Family, Interface, Ports, Protocol, Statement};

/// A table that never comes to be.
const TABLE: &str = "cambric-probe";
const CHAIN: &str = "probe";

/// NFNL_SUBSYS_NFT_COMPAT, NFNL_MSG_COMPAT_GET
const COMPAT_GET: u16 = 11 << 8;
/// NFTA_COMPAT_*
const COMPAT_NAME: u16 = 1;
const COMPAT_REVISION: u16 = 2;
const COMPAT_TYPE: u16 = 3;
/// A match, no target.
const COMPAT_MATCH: u32 = 0;

/// The options that are not there, in words; empty: all are.
pub(super) fn find(tables: &mut Socket, ipset: &mut Ipset) -> Result<Vec<String>, Error> {
    let mut lacking = ipset.requirements()?;
    if let Err(error) = held::generation(tables) {
        return match error {
            Error::Refused(_) => {
                lacking.push("nf_tables (CONFIG_NF_TABLES)".to_owned());
                Ok(lacking)
            }
            error => Err(error),
        };
    }
    for (what, family, hook) in [
        ("nf_tables for IPv4 (CONFIG_NF_TABLES_IPV4)", number(Family::Ipv4), 2),
        ("nf_tables for IPv6 (CONFIG_NF_TABLES_IPV6)", number(Family::Ipv6), 2),
        ("nf_tables for ARP (CONFIG_NF_TABLES_ARP)", ARP, 0),
    ] {
        if !takes(tables, family, hook, &[])? {
            lacking.push(what.to_owned());
        }
    }
    for (what, statements) in statements() {
        let mut expressions = Vec::new();
        for statement in &statements {
            // None of them names a set.
            expressions.extend(of_statement(statement, |_| None).unwrap_or_default());
        }
        if !takes(tables, number(Family::Ipv4), 2, &expressions)? {
            lacking.push(what.to_owned());
        }
    }
    for family in Family::ALL {
        if !has_set_match(tables, family)? {
            lacking.push(
                "the match of ipset in nf_tables (CONFIG_NFT_COMPAT and CONFIG_NETFILTER_XT_SET)".to_owned(),
            );
            break;
        }
    }
    // The group is bound by the log reader; that rules may name it does not say that it can be.
    Ok(lacking)
}

/// Whether tables can be owned and outlive the owner (Linux 6.9).
pub(super) fn guard(tables: &mut Socket) -> Result<Guard, Error> {
    let mut batch = Batch::begin(tables, None);
    put(&mut batch, command::NEWTABLE, number(Family::Ipv4), |message| {
        message.text(table::NAME, TABLE);
        message.u32(table::FLAGS, Guard::Owned.flags());
    });
    Ok(if taken(batch.send(Purpose::Trial))? { Guard::Owned } else { Guard::Anyone })
}

fn statements() -> Vec<(&'static str, Vec<Statement>)> {
    use Statement as S;
    vec![
        ("connection tracking in nf_tables (CONFIG_NFT_CT)", vec![S::Established]),
        ("limits in nf_tables (CONFIG_NFT_LIMIT)", vec![S::AtMostPerSecond(10)]),
        (
            "logging in nf_tables (CONFIG_NFT_LOG and CONFIG_NETFILTER_NETLINK_LOG)",
            vec![S::Log { group: 1, prefix: TABLE.to_owned() }],
        ),
        (
            "interfaces, ports and counters in nf_tables (CONFIG_NF_TABLES)",
            vec![
                S::IsVeth(Interface::Input),
                S::Protocol(Protocol::Tcp),
                S::DestinationPort(Ports { first: 1, last: 2 }),
                S::Counter,
            ],
        ),
    ]
}

/// Whether the kernel would take a base chain with a rule of these expressions.
fn takes(tables: &mut Socket, family: u8, hook: u32, expressions: &[Expression]) -> Result<bool, Error> {
    let mut batch = Batch::begin(tables, None);
    put(&mut batch, command::NEWTABLE, family, |message| message.text(table::NAME, TABLE));
    put(&mut batch, command::NEWCHAIN, family, |message| {
        message.text(chain::TABLE, TABLE);
        message.text(chain::NAME, CHAIN);
        message.text(chain::TYPE, chain::FILTER);
        message.nested(chain::HOOK, |place| {
            place.u32(chain::HOOK_NUMBER, hook);
            place.u32(chain::HOOK_PRIORITY, 0);
        });
    });
    if !expressions.is_empty() {
        put(&mut batch, command::NEWRULE, family, |message| {
            message.text(rule::TABLE, TABLE);
            message.text(rule::CHAIN, CHAIN);
            message.nested(rule::EXPRESSIONS, |list| write_list(list, expressions));
        });
    }
    taken(batch.send(Purpose::Trial))
}

fn put(batch: &mut Batch<'_>, kind: u16, family: u8, body: impl FnOnce(&mut Writer)) {
    let wrote = batch.put(|sequence, writer| {
        let header = Header { kind, flags: REQUEST | CREATE, sequence, family, resource: 0 };
        writer.message(header, body);
        Ok::<(), Foreign>(())
    });
    debug_assert_eq!(wrote, Ok(()), "probes are short");
}

/// A kernel without a thing refuses it; that we may ask at all is another matter.
fn taken(sent: Result<(), CommitError>) -> Result<bool, Error> {
    match sent {
        Ok(()) => Ok(true),
        Err(CommitError::Refused { errno, .. } | CommitError::Batch(errno))
            if errno == Errno::EPERM as i32 =>
        {
            Err(Error::Refused(errno))
        }
        Err(CommitError::Refused { .. } | CommitError::Batch(_)) => Ok(false),
        Err(CommitError::Conflict | CommitError::Lost) => Err(Error::Restless),
        Err(CommitError::Other(error)) => Err(error),
    }
}

fn has_set_match(tables: &mut Socket, family: Family) -> Result<bool, Error> {
    let asked = tables.ask(
        COMPAT_GET,
        number(family),
        |message| {
            message.text(COMPAT_NAME, SET_MATCH);
            message.u32(COMPAT_REVISION, SET_MATCH_REVISION);
            message.u32(COMPAT_TYPE, COMPAT_MATCH);
        },
        |_: Attributes<'_>| Ok(()),
    );
    match asked {
        Ok(()) => Ok(true),
        Err(Error::Refused(errno)) if errno == Errno::EPERM as i32 => Err(Error::Refused(errno)),
        Err(Error::Refused(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
