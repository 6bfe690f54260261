//! What can be done to our tables, and each as messages of nf_tables.

use std::net::Ipv4Addr;

use super::expression::{self, Expression, Foreign, arp_rule, map_name, of_statement};
use super::ipset::number;
use super::message::{APPEND, CREATE, EXCLUSIVE, Header, REQUEST, Writer};
use crate::program::{ChainName, Family, Hook, IfName, Interface, Rule, SetName, Verdict};

/// One operation of a batch. An operation on what is not there, or the making of what is there in another form, is
/// refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Makes `table ip cambric` or `table ip6 cambric`, or wakes it and makes it ours again.
    AddTable(Family, Guard),
    /// Removes the table and all in it.
    DropTable(Family),
    /// Makes a chain that packets come to by themselves; what it does not decide is accepted.
    AddBaseChain {
        /// Of which table.
        family: Family,
        /// Its name.
        chain: ChainName,
        /// Where packets come by.
        hook: Hook,
        /// Lower is earlier.
        priority: i32,
    },
    /// Makes an empty chain.
    AddChain {
        /// Of which table.
        family: Family,
        /// Its name.
        chain: ChainName,
    },
    /// Adds a rule behind the others of its chain. Sets it names have to be there.
    AddRule {
        /// Of which table.
        family: Family,
        /// In which chain.
        chain: ChainName,
        /// The rule.
        rule: Rule,
    },
    /// Removes one rule.
    DropRule {
        /// Of which table.
        family: Family,
        /// In which chain.
        chain: ChainName,
        /// As it was read.
        handle: u64,
    },
    /// Removes all rules of a chain.
    FlushChain {
        /// Of which table.
        family: Family,
        /// Which.
        chain: ChainName,
    },
    /// Removes a chain with its rules; refused while a rule or a map leads to it.
    DropChain {
        /// Of which table.
        family: Family,
        /// Which.
        chain: ChainName,
    },
    /// Makes the map from veth to chain that packets of this direction are looked up in: [`Interface::Input`] is
    /// `egress`.
    AddMap {
        /// Of which table.
        family: Family,
        /// Which.
        map: Interface,
    },
    /// Leads a veth to a chain. Refused if it is led to another: that is dropped first, in the same batch.
    AddElement {
        /// Of which table.
        family: Family,
        /// In which map.
        map: Interface,
        /// The veth.
        veth: IfName,
        /// It goes to this chain.
        chain: ChainName,
    },
    /// Closes a veth.
    DropElement {
        /// Of which table.
        family: Family,
        /// In which map.
        map: Interface,
        /// The veth.
        veth: IfName,
    },
    /// Makes `table arp cambric` with all that is in it, members aside.
    AddArpTable(Guard),
    /// Removes it.
    DropArpTable,
    /// The veth may say that it has the address.
    AddArpOwner(IfName, Ipv4Addr),
    /// It may no longer.
    DropArpOwner(IfName, Ipv4Addr),
}

/// Who may change a table while this process lives.
///
/// An owned table belongs to the socket that made it, and so does everything in it: `nft flush ruleset` of others
/// passes it by, their changes get EPERM. The owner's end does not remove it, for it is never made without
/// `persist` (Linux 6.9), and whoever comes next takes it over by [`Operation::AddTable`]. A table that was made
/// without cannot be made owned later (EOPNOTSUPP): it has to be dropped in the same batch before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Guard {
    /// Whoever may change any table.
    #[default]
    Anyone,
    /// This process only.
    Owned,
}

impl Guard {
    /// NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST
    pub(super) fn flags(self) -> u32 {
        match self {
            Guard::Anyone => 0,
            Guard::Owned => table_flag::OWNER | table_flag::PERSIST,
        }
    }
}

/// NFT_TABLE_F_*
pub(super) mod table_flag {
    pub(in crate::kernel) const DORMANT: u32 = 1;
    pub(in crate::kernel) const OWNER: u32 = 2;
    pub(in crate::kernel) const PERSIST: u32 = 4;
}

/// NFPROTO_ARP
pub(super) const ARP: u8 = 3;
/// Names in the ARP table.
pub(super) const ARP_SET: &str = "own";
pub(super) const ARP_CHAIN: &str = "input";
/// NF_ARP_IN
pub(super) const ARP_HOOK: u32 = 0;

const SUBSYSTEM: u16 = 10 << 8;

/// NFT_MSG_*
pub(super) mod command {
    use super::SUBSYSTEM;
    pub(in crate::kernel) const NEWTABLE: u16 = SUBSYSTEM;
    pub(in crate::kernel) const GETTABLE: u16 = SUBSYSTEM | 1;
    pub(in crate::kernel) const DELTABLE: u16 = SUBSYSTEM | 2;
    pub(in crate::kernel) const NEWCHAIN: u16 = SUBSYSTEM | 3;
    pub(in crate::kernel) const GETCHAIN: u16 = SUBSYSTEM | 4;
    pub(in crate::kernel) const DELCHAIN: u16 = SUBSYSTEM | 5;
    pub(in crate::kernel) const NEWRULE: u16 = SUBSYSTEM | 6;
    pub(in crate::kernel) const GETRULE: u16 = SUBSYSTEM | 7;
    pub(in crate::kernel) const DELRULE: u16 = SUBSYSTEM | 8;
    pub(in crate::kernel) const NEWSET: u16 = SUBSYSTEM | 9;
    pub(in crate::kernel) const GETSET: u16 = SUBSYSTEM | 10;
    pub(in crate::kernel) const DELSET: u16 = SUBSYSTEM | 11;
    pub(in crate::kernel) const NEWSETELEM: u16 = SUBSYSTEM | 12;
    pub(in crate::kernel) const GETSETELEM: u16 = SUBSYSTEM | 13;
    pub(in crate::kernel) const DELSETELEM: u16 = SUBSYSTEM | 14;
    pub(in crate::kernel) const NEWGEN: u16 = SUBSYSTEM | 15;
    pub(in crate::kernel) const GETGEN: u16 = SUBSYSTEM | 16;
}

/// NFTA_TABLE_*
pub(super) mod table {
    pub(in crate::kernel) const NAME: u16 = 1;
    pub(in crate::kernel) const FLAGS: u16 = 2;
    pub(in crate::kernel) const OWNER: u16 = 7;
}

/// NFTA_CHAIN_*
pub(super) mod chain {
    pub(in crate::kernel) const TABLE: u16 = 1;
    pub(in crate::kernel) const NAME: u16 = 3;
    pub(in crate::kernel) const HOOK: u16 = 4;
    pub(in crate::kernel) const POLICY: u16 = 5;
    pub(in crate::kernel) const TYPE: u16 = 7;
    pub(in crate::kernel) const HOOK_NUMBER: u16 = 1;
    pub(in crate::kernel) const HOOK_PRIORITY: u16 = 2;
    pub(in crate::kernel) const FILTER: &str = "filter";
    /// NF_ACCEPT
    pub(in crate::kernel) const ACCEPT: u32 = 1;
}

/// NFTA_RULE_*
pub(super) mod rule {
    pub(in crate::kernel) const TABLE: u16 = 1;
    pub(in crate::kernel) const CHAIN: u16 = 2;
    pub(in crate::kernel) const HANDLE: u16 = 3;
    pub(in crate::kernel) const EXPRESSIONS: u16 = 4;
    pub(in crate::kernel) const USERDATA: u16 = 7;
    /// NFTNL_UDATA_RULE_COMMENT of libnftnl: type, length and text with its final zero.
    pub(in crate::kernel) const COMMENT: u8 = 0;
}

/// NFTA_SET_*
pub(super) mod set {
    pub(in crate::kernel) const TABLE: u16 = 1;
    pub(in crate::kernel) const NAME: u16 = 2;
    pub(in crate::kernel) const FLAGS: u16 = 3;
    pub(in crate::kernel) const KEY_TYPE: u16 = 4;
    pub(in crate::kernel) const KEY_LENGTH: u16 = 5;
    pub(in crate::kernel) const DATA_TYPE: u16 = 6;
    pub(in crate::kernel) const DATA_LENGTH: u16 = 7;
    pub(in crate::kernel) const ID: u16 = 10;
    pub(in crate::kernel) const USERDATA: u16 = 13;
    /// NFT_SET_MAP
    pub(in crate::kernel) const MAP: u32 = 8;
    /// NFT_DATA_VERDICT
    pub(in crate::kernel) const VERDICT: u32 = 0xffff_ff00;
    /// `ifname`, `ifname . ipv4_addr` as `nft` numbers types.
    pub(in crate::kernel) const IFNAME: u32 = 41;
    pub(in crate::kernel) const IFNAME_ADDRESS: u32 = 41 << 6 | 7;
    /// What `nft` needs to show a map of interface names: byte orders of keys and values, and that nothing is merged.
    pub(in crate::kernel) const MAP_USERDATA: [u8; 18] =
        [0, 4, 1, 0, 0, 0, 1, 4, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0];
}

/// NFTA_SET_ELEM_*, NFTA_SET_ELEM_LIST_*
pub(super) mod element {
    pub(in crate::kernel) const TABLE: u16 = 1;
    pub(in crate::kernel) const SET: u16 = 2;
    pub(in crate::kernel) const ELEMENTS: u16 = 3;
    pub(in crate::kernel) const ITEM: u16 = 1;
    pub(in crate::kernel) const KEY: u16 = 1;
    pub(in crate::kernel) const DATA: u16 = 2;
    /// NFTA_DATA_VALUE
    pub(in crate::kernel) const VALUE: u16 = 1;
}

/// Longest name of an interface, with its final zero.
pub(super) const INTERFACE_BYTES: usize = 16;
/// Longest tag: a comment of `nft` has 128 bytes with its final zero.
const MOST_TAG_BYTES: usize = 127;

impl Operation {
    /// Writes the messages of the operation, all with one sequence number, for tables of this name.
    pub(super) fn write(
        &self,
        table: &str,
        sequence: u32,
        index: impl FnMut(&SetName) -> Option<u16>,
        writer: &mut Writer,
    ) -> Result<(), Foreign> {
        let mut messages = Messages { table, sequence, writer };
        match self {
            Operation::AddTable(family, guard) => messages.add_table(number(*family), *guard),
            Operation::DropTable(family) => messages.drop_table(number(*family)),
            Operation::AddBaseChain { family, chain, hook, priority } => {
                messages.add_base_chain(number(*family), chain, hook_number(*hook), *priority);
            }
            Operation::AddChain { family, chain } => messages.add_chain(number(*family), chain),
            Operation::AddRule { family, chain, rule } => {
                let mut index = index;
                let mut expressions = Vec::with_capacity(rule.statements.len() * 2);
                for statement in &rule.statements {
                    expressions.extend(of_statement(statement, &mut index)?);
                }
                if rule.tag.len() > MOST_TAG_BYTES {
                    return Err(Foreign(format!("a tag of {} bytes", rule.tag.len())));
                }
                messages.add_rule(number(*family), chain, &expressions, &rule.tag);
            }
            Operation::DropRule { family, chain, handle } => {
                messages.put(command::DELRULE, 0, number(*family), |message| {
                    message.text(rule::TABLE, table);
                    message.text(rule::CHAIN, chain);
                    message.u64(rule::HANDLE, *handle);
                });
            }
            Operation::FlushChain { family, chain } => {
                messages.put(command::DELRULE, 0, number(*family), |message| {
                    message.text(rule::TABLE, table);
                    message.text(rule::CHAIN, chain);
                });
            }
            Operation::DropChain { family, chain } => {
                messages.put(command::DELCHAIN, 0, number(*family), |message| {
                    message.text(chain::TABLE, table);
                    message.text(chain::NAME, chain);
                });
            }
            Operation::AddMap { family, map } => messages.add_map(number(*family), *map),
            Operation::AddElement { family, map, veth, chain } => {
                let verdict = Verdict::Goto(chain.clone());
                messages.element(
                    command::NEWSETELEM,
                    number(*family),
                    map_name(*map),
                    &key(veth)?,
                    Some(&verdict),
                );
            }
            Operation::DropElement { family, map, veth } => {
                messages.element(command::DELSETELEM, number(*family), map_name(*map), &key(veth)?, None);
            }
            Operation::AddArpTable(guard) => {
                messages.add_table(ARP, *guard);
                messages.add_arp_set();
                messages.add_base_chain(ARP, ARP_CHAIN, ARP_HOOK, 0);
                messages.add_rule(ARP, ARP_CHAIN, &arp_rule(ARP_SET), "spoofed");
            }
            Operation::DropArpTable => messages.drop_table(ARP),
            Operation::AddArpOwner(veth, address) => {
                messages.element(command::NEWSETELEM, ARP, ARP_SET, &arp_key(veth, *address)?, None);
            }
            Operation::DropArpOwner(veth, address) => {
                messages.element(command::DELSETELEM, ARP, ARP_SET, &arp_key(veth, *address)?, None);
            }
        }
        Ok(())
    }
}

/// NF_INET_*
pub(super) fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
    }
}

fn key(veth: &str) -> Result<Vec<u8>, Foreign> {
    if veth.is_empty() || veth.len() >= INTERFACE_BYTES || veth.as_bytes().contains(&0) {
        return Err(Foreign(format!("{veth:?} is no name of an interface")));
    }
    let mut key = veth.as_bytes().to_vec();
    key.resize(INTERFACE_BYTES, 0);
    Ok(key)
}

fn arp_key(veth: &str, address: Ipv4Addr) -> Result<Vec<u8>, Foreign> {
    let mut key = key(veth)?;
    key.extend(address.octets());
    Ok(key)
}

/// Writes the messages of one operation.
struct Messages<'a> {
    table: &'a str,
    sequence: u32,
    writer: &'a mut Writer,
}

impl Messages<'_> {
    fn put(&mut self, kind: u16, flags: u16, family: u8, body: impl FnOnce(&mut Writer)) {
        let header = Header { kind, flags: REQUEST | flags, sequence: self.sequence, family, resource: 0 };
        self.writer.message(header, body);
    }

    fn add_table(&mut self, family: u8, guard: Guard) {
        let table = self.table;
        self.put(command::NEWTABLE, CREATE, family, |message| {
            message.text(table::NAME, table);
            message.u32(table::FLAGS, guard.flags());
        });
    }

    fn drop_table(&mut self, family: u8) {
        let table = self.table;
        self.put(command::DELTABLE, 0, family, |message| message.text(table::NAME, table));
    }

    fn add_chain(&mut self, family: u8, name: &str) {
        let table = self.table;
        self.put(command::NEWCHAIN, CREATE | EXCLUSIVE, family, |message| {
            message.text(chain::TABLE, table);
            message.text(chain::NAME, name);
        });
    }

    fn add_base_chain(&mut self, family: u8, name: &str, hook: u32, priority: i32) {
        let table = self.table;
        self.put(command::NEWCHAIN, CREATE | EXCLUSIVE, family, |message| {
            message.text(chain::TABLE, table);
            message.text(chain::NAME, name);
            message.text(chain::TYPE, chain::FILTER);
            message.u32(chain::POLICY, chain::ACCEPT);
            message.nested(chain::HOOK, |place| {
                place.u32(chain::HOOK_NUMBER, hook);
                place.u32(chain::HOOK_PRIORITY, priority as u32);
            });
        });
    }

    fn add_rule(&mut self, family: u8, chain: &str, expressions: &[Expression], tag: &str) {
        let table = self.table;
        self.put(command::NEWRULE, CREATE | APPEND, family, |message| {
            message.text(rule::TABLE, table);
            message.text(rule::CHAIN, chain);
            message.nested(rule::EXPRESSIONS, |list| expression::write_list(list, expressions));
            if !tag.is_empty() {
                let mut comment = vec![rule::COMMENT, (tag.len() + 1) as u8];
                comment.extend_from_slice(tag.as_bytes());
                comment.push(0);
                message.bytes(rule::USERDATA, &comment);
            }
        });
    }

    fn add_map(&mut self, family: u8, map: Interface) {
        let table = self.table;
        let id = self.sequence;
        self.put(command::NEWSET, CREATE | EXCLUSIVE, family, |message| {
            message.text(set::TABLE, table);
            message.text(set::NAME, map_name(map));
            message.u32(set::FLAGS, set::MAP);
            message.u32(set::KEY_TYPE, set::IFNAME);
            message.u32(set::KEY_LENGTH, INTERFACE_BYTES as u32);
            message.u32(set::DATA_TYPE, set::VERDICT);
            message.u32(set::DATA_LENGTH, 0);
            message.u32(set::ID, id);
            message.bytes(set::USERDATA, &set::MAP_USERDATA);
        });
    }

    fn add_arp_set(&mut self) {
        let table = self.table;
        let id = self.sequence;
        self.put(command::NEWSET, CREATE | EXCLUSIVE, ARP, |message| {
            message.text(set::TABLE, table);
            message.text(set::NAME, ARP_SET);
            message.u32(set::FLAGS, 0);
            message.u32(set::KEY_TYPE, set::IFNAME_ADDRESS);
            message.u32(set::KEY_LENGTH, INTERFACE_BYTES as u32 + 4);
            message.u32(set::ID, id);
        });
    }

    fn element(&mut self, kind: u16, family: u8, set: &str, key: &[u8], verdict: Option<&Verdict>) {
        let table = self.table;
        let flags = if kind == command::NEWSETELEM { CREATE } else { 0 };
        self.put(kind, flags, family, |message| {
            message.text(element::TABLE, table);
            message.text(element::SET, set);
            message.nested(element::ELEMENTS, |list| {
                list.nested(element::ITEM, |item| {
                    item.nested(element::KEY, |value| value.bytes(element::VALUE, key));
                    if let Some(verdict) = verdict {
                        item.nested(element::DATA, |data| expression::write_verdict(data, verdict));
                    }
                });
            });
        });
    }
}
