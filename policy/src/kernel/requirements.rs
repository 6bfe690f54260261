//! What the kernel lacks, found by trying: batches without an end are checked and forgotten, so nothing is left behind.

use std::net::Ipv4Addr;

use nix::errno::Errno;

use super::batch::{Batch, CommitError, Purpose};
use super::expression::{SET_MATCH, SET_MATCH_REVISION, map_name};
use super::ipset::{Ipset, number};
use super::message::{Attributes, Writer};
use super::operation::{Guard, Operation, command, element};
use super::socket::Socket;
use super::{Error, held};
use crate::program::{ChainName, Family, Hook, Interface, Ports, Protocol, Rule, Statement};

/// A table that never comes to be, and its chains.
const TABLE: &str = "cambric-probe";
const CHAIN: &str = "probe";
const OTHER_CHAIN: &str = "other";
/// A veth that is not there.
const VETH: &str = "cambricprobe";

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
    for (what, operations) in probes() {
        if !takes(tables, &operations)? {
            lacking.push(what.to_owned());
        }
    }
    if !lists(tables)? {
        lacking.push("listings of tables in nf_tables (CONFIG_NF_TABLES)".to_owned());
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
    let owned = Operation::AddTable(Family::Ipv4, Guard::Owned);
    Ok(if takes(tables, &[owned])? { Guard::Owned } else { Guard::Anyone })
}

/// What a kernel takes that has it all, and the words for it.
fn probes() -> Vec<(&'static str, Vec<Operation>)> {
    use Statement as S;
    let v4 = Family::Ipv4;
    let with_rule = |statements| {
        let rule = Rule { statements, tag: String::new() };
        base(v4).into_iter().chain([Operation::AddRule { family: v4, chain: CHAIN.into(), rule }]).collect()
    };
    vec![
        ("nf_tables for IPv4 (CONFIG_NF_TABLES_IPV4)", base(v4).to_vec()),
        ("nf_tables for IPv6 (CONFIG_NF_TABLES_IPV6)", base(Family::Ipv6).to_vec()),
        (
            "nf_tables for ARP (CONFIG_NF_TABLES_ARP)",
            vec![
                Operation::AddArpTable(Guard::Anyone),
                Operation::AddArpOwner(VETH.into(), Ipv4Addr::LOCALHOST),
                Operation::DropArpOwner(VETH.into(), Ipv4Addr::LOCALHOST),
            ],
        ),
        ("connection tracking in nf_tables (CONFIG_NFT_CT)", with_rule(vec![S::Established])),
        ("limits in nf_tables (CONFIG_NFT_LIMIT)", with_rule(vec![S::AtMostPerSecond(10)])),
        (
            "logging in nf_tables (CONFIG_NFT_LOG and CONFIG_NETFILTER_NETLINK_LOG)",
            with_rule(vec![S::Log { group: 1, prefix: TABLE.to_owned() }]),
        ),
        (
            "interfaces, ports and counters in nf_tables (CONFIG_NF_TABLES)",
            with_rule(vec![
                S::IsVeth(Interface::Input),
                S::Protocol(Protocol::Tcp),
                S::DestinationPort(Ports { first: 1, last: 2 }),
                S::Counter,
            ]),
        ),
        (
            "maps in nf_tables (CONFIG_NF_TABLES, and CONFIG_NF_TABLES_SET where there is one)",
            Family::ALL.into_iter().flat_map(|family| map(family, OTHER_CHAIN.into())).collect(),
        ),
    ]
}

/// A table with a chain that packets come to.
fn base(family: Family) -> [Operation; 2] {
    let table = Operation::AddTable(family, Guard::Anyone);
    [table, Operation::AddBaseChain { family, chain: CHAIN.into(), hook: Hook::Forward, priority: 0 }]
}

/// A map in which a veth is looked up that it leads to this chain.
fn map(family: Family, chain: ChainName) -> Vec<Operation> {
    let map = Interface::Input;
    let rule = Rule { statements: vec![Statement::Dispatch(map)], tag: TABLE.to_owned() };
    let mut operations = base(family).to_vec();
    operations.extend([
        Operation::AddChain { family, chain: OTHER_CHAIN.into() },
        Operation::AddMap { family, map },
        Operation::AddRule { family, chain: CHAIN.into(), rule },
        Operation::AddElement { family, map, veth: VETH.into(), chain },
        Operation::DropElement { family, map, veth: VETH.into() },
    ]);
    operations
}

/// Whether the kernel would do all of it, in a table of the probe's name.
fn takes(tables: &mut Socket, operations: &[Operation]) -> Result<bool, Error> {
    let mut batch = Batch::begin(tables, None);
    for operation in operations {
        // None of them names a set of ipset.
        let wrote = batch.put(|sequence, writer| operation.write(TABLE, sequence, |_| None, writer));
        debug_assert_eq!(wrote, Ok(()), "probes are short");
    }
    taken(batch.send(Purpose::Trial))
}

/// Whether the kernel lists what is in a table. What is not there is no reason to refuse the question as such.
fn lists(tables: &mut Socket) -> Result<bool, Error> {
    for kind in [command::GETCHAIN, command::GETRULE, command::GETSET, command::GETSETELEM] {
        let question = |message: &mut Writer| {
            // In all of them the table's name is the same attribute.
            message.text(element::TABLE, TABLE);
            if kind == command::GETSETELEM {
                message.text(element::SET, map_name(Interface::Input));
            }
        };
        match tables.list(kind, number(Family::Ipv4), question, |_| Ok(())) {
            Ok(()) => {}
            Err(Error::Refused(errno)) if errno == Errno::ENOENT as i32 => {}
            Err(Error::Refused(errno)) if errno == Errno::EPERM as i32 => return Err(Error::Refused(errno)),
            Err(Error::Refused(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
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

#[cfg(test)]
mod tests {
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// Asks in a network namespace of its own.
    fn asked<T: Send + 'static>(question: impl FnOnce(&mut Socket) -> T + Send + 'static) -> Option<T> {
        if !nix::unistd::Uid::effective().is_root() {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "needs root");
            println!("not run: needs root");
            return None;
        }
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
            question(&mut Socket::open().expect("a socket"))
        });
        Some(thread.join().expect("asked"))
    }

    #[test]
    fn a_probe_of_maps_is_looked_at_to_its_end() {
        let told = asked(|tables| {
            let mut takes = |operations: &[Operation]| takes(tables, operations).expect("asked");
            let whole = map(Family::Ipv6, OTHER_CHAIN.into());
            let without_map = whole.iter().filter(|operation| !matches!(operation, Operation::AddMap { .. }));
            [
                takes(&whole),
                takes(&map(Family::Ipv6, "nowhere".into())),
                takes(&without_map.cloned().collect::<Vec<_>>()),
            ]
        });
        if let Some(told) = told {
            assert_eq!(told, [true, false, false]);
        }
    }

    #[test]
    fn maps_and_listings_are_among_what_is_probed() {
        let of_maps = |operation: &Operation| matches!(operation, Operation::AddElement { .. });
        assert!(probes().iter().any(|(what, probe)| what.contains("maps") && probe.iter().any(of_maps)));
        assert_ne!(asked(|tables| lists(tables).expect("asked")), Some(false));
    }
}
