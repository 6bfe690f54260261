//! What the kernel holds of ours, read back.
//!
//! A listing is of one moment only as long as the generation is the same before and after; else it is made anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::Ipv4Addr;

use super::expression::{self, Expression, Foreign, arp_rule, map_name, to_statements};
use super::ipset::{Ipset, number};
use super::message::{Attributes, Value, Writer};
use super::operation::{
    ARP, ARP_CHAIN, ARP_HOOK, ARP_SET, Guard, INTERFACE_BYTES, chain, command, element, hook_number, rule,
    set, table, table_flag,
};
use super::socket::{Listing, Socket};
use super::{Damaged, Error};
use crate::program::{ChainName, Family, Hook, IfName, Interface, Rule, SetName, TABLE, Verdict};

/// All of ours in nf_tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// The generation of all nf_tables that this is; a batch that tells it is taken only if nobody changed anything
    /// since.
    pub generation: u32,
    /// `table ip cambric`
    pub ipv4: Option<HeldTable>,
    /// `table ip6 cambric`
    pub ipv6: Option<HeldTable>,
    /// `table arp cambric`
    pub arp: Option<HeldArp>,
}

impl Held {
    /// One family's table.
    pub fn table(&self, family: Family) -> Option<&HeldTable> {
        match family {
            Family::Ipv4 => self.ipv4.as_ref(),
            Family::Ipv6 => self.ipv6.as_ref(),
        }
    }
}

/// The families in which there may be a table of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldFamily {
    /// `table ip cambric`, `table ip6 cambric`
    Ip(Family),
    /// `table arp cambric`
    Arp,
}

impl HeldFamily {
    const ALL: [HeldFamily; 3] =
        [HeldFamily::Ip(Family::Ipv4), HeldFamily::Ip(Family::Ipv6), HeldFamily::Arp];

    fn number(self) -> u8 {
        match self {
            HeldFamily::Ip(family) => number(family),
            HeldFamily::Arp => ARP,
        }
    }
}

/// As `nft` names it.
impl fmt::Display for HeldFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeldFamily::Ip(Family::Ipv4) => "ip",
            HeldFamily::Ip(Family::Ipv6) => "ip6",
            HeldFamily::Arp => "arp",
        })
    }
}

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldTable {
    /// About the table itself.
    pub state: TableState,
    /// All its chains.
    pub chains: BTreeMap<ChainName, HeldChain>,
    /// The maps that are there, from veth to what becomes of its packets.
    pub maps: BTreeMap<Interface, BTreeMap<IfName, Verdict>>,
    /// What else is in it, in words.
    pub foreign: Vec<String>,
}

/// How a table stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableState {
    /// The socket that owns it now, as the kernel numbers it (see [`super::Kernel::port`]); `None`: anyone may
    /// change it.
    pub owner: Option<u32>,
    /// How it was made: only one that was made [`Guard::Owned`] can be made ours again.
    pub guard: Guard,
    /// Its rules are switched off: somebody put it to sleep.
    pub dormant: bool,
}

/// A chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldChain {
    /// Where packets come in by themselves; `None`: they are led to it.
    pub base: Option<HeldBase>,
    /// In order.
    pub rules: Vec<HeldRule>,
}

/// Where packets come into a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldBase {
    /// `None`: a place where none of our chains is, or of another type than `filter`.
    pub hook: Option<Hook>,
    /// As nf_tables counts.
    pub priority: i32,
    /// What it does not decide is accepted.
    pub accepts: bool,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRule {
    /// By which it can be removed.
    pub handle: u64,
    /// The rule; or what in it is none of ours.
    pub rule: Result<Rule, Foreign>,
}

/// The ARP table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldArp {
    /// About the table itself.
    pub state: TableState,
    /// Chain, rule and set are as we make them.
    pub whole: bool,
    /// Who may say that it has which address.
    pub owners: BTreeSet<(IfName, Ipv4Addr)>,
}

/// What a rule has counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Of which table.
    pub family: Family,
    /// In which chain.
    pub chain: ChainName,
    /// The rule's.
    pub tag: String,
    /// Packets so far.
    pub packets: u64,
    /// Bytes so far.
    pub bytes: u64,
}

/// Reads that were made anew, since somebody changed something meanwhile, before it is taken as an error.
const MOST_READS: usize = 32;

/// Reads all.
pub(super) fn read(socket: &mut Socket, ipset: &mut Ipset) -> Result<Held, Error> {
    for _ in 0..MOST_READS {
        let before = generation(socket)?;
        let mut names = Names { ipset, known: HashMap::new() };
        let held = Held {
            generation: before,
            ipv4: read_table(socket, &mut names, Family::Ipv4)?,
            ipv6: read_table(socket, &mut names, Family::Ipv6)?,
            arp: read_arp(socket)?,
        };
        if generation(socket)? == before {
            return Ok(held);
        }
    }
    Err(Error::Restless)
}

/// The generation of all nf_tables of this network namespace.
pub(super) fn generation(socket: &mut Socket) -> Result<u32, Error> {
    // NFTA_GEN_ID
    socket.ask(command::GETGEN, 0, |_| {}, |answer| answer.need(1)?.u32())
}

/// Which of our tables there are, and how they stand: nothing of what is in them is read.
pub(super) fn tables(socket: &mut Socket) -> Result<Vec<(HeldFamily, TableState)>, Error> {
    let mut tables = Vec::new();
    for family in HeldFamily::ALL {
        if let Some(state) = table_state(socket, family.number())? {
            tables.push((family, state));
        }
    }
    Ok(tables)
}

/// What all rules with a counter have counted.
pub(super) fn counters(socket: &mut Socket) -> Result<Vec<Counted>, Error> {
    let mut counters = Vec::new();
    for family in Family::ALL {
        if table_state(socket, number(family))?.is_none() {
            continue;
        }
        for raw in read_rules(socket, number(family))? {
            let counted = raw.expressions.ok().and_then(|expressions| expression::counted(&expressions));
            if let Some((packets, bytes)) = counted {
                counters.push(Counted { family, chain: raw.chain, tag: raw.tag, packets, bytes });
            }
        }
    }
    Ok(counters)
}

/// Names of sets by their numbers.
struct Names<'a> {
    ipset: &'a mut Ipset,
    known: HashMap<u16, Option<SetName>>,
}

impl Names<'_> {
    /// Learns the names of the sets that the rules speak of.
    fn learn(&mut self, expressions: &[Expression]) -> Result<(), Error> {
        for expression in expressions {
            let Expression::InSet { index, .. } = expression else { continue };
            if self.known.contains_key(index) {
                continue;
            }
            let name = match self.ipset.name(*index) {
                Ok(name) => Some(name),
                Err(Error::Refused(_)) => None,
                Err(error) => return Err(error),
            };
            self.known.insert(*index, name);
        }
        Ok(())
    }
}

fn read_table(
    socket: &mut Socket,
    names: &mut Names<'_>,
    family: Family,
) -> Result<Option<HeldTable>, Error> {
    let Some(state) = table_state(socket, number(family))? else { return Ok(None) };
    let mut held = HeldTable { state, chains: read_chains(socket, number(family))?, ..HeldTable::default() };
    for raw in read_rules(socket, number(family))? {
        let rule = match raw.expressions {
            Err(foreign) => Err(foreign),
            Ok(expressions) => {
                names.learn(&expressions)?;
                to_statements(&expressions, |index| names.known.get(&index).cloned().flatten())
                    .map(|statements| Rule { statements, tag: raw.tag })
            }
        };
        let chain = held.chains.entry(raw.chain).or_default();
        chain.rules.push(HeldRule { handle: raw.handle, rule });
    }
    for listed in read_sets(socket, number(family))? {
        let interface = [Interface::Input, Interface::Output]
            .into_iter()
            .find(|interface| map_name(*interface) == listed.name && listed.is_map());
        match interface {
            Some(interface) => {
                held.maps
                    .insert(interface, read_map(socket, number(family), &listed.name, &mut held.foreign)?);
            }
            // A set without a name belongs to a rule, which is foreign itself.
            None if listed.anonymous() => {}
            None => held.foreign.push(format!("set {}", listed.name)),
        }
    }
    Ok(Some(held))
}

fn read_arp(socket: &mut Socket) -> Result<Option<HeldArp>, Error> {
    let Some(state) = table_state(socket, ARP)? else { return Ok(None) };
    let chains = read_raw_chains(socket, ARP)?;
    let rules = read_rules(socket, ARP)?;
    let sets = read_sets(socket, ARP)?;
    let whole = matches!(&chains[..], [(name, Some(base))] if &**name == ARP_CHAIN && *base == RawBase {
        hook: ARP_HOOK, priority: 0, accepts: true, filter: true,
    }) && matches!(&rules[..], [rule] if is_arp_rule(rule))
        && matches!(&sets[..], [listed] if listed.name == ARP_SET && listed.is_arp());
    let mut owners = BTreeSet::new();
    if sets.iter().any(|listed| listed.name == ARP_SET && listed.is_arp()) {
        for (key, _) in read_elements(socket, ARP, ARP_SET)? {
            let Some((veth, address)) = key.split_at_checked(INTERFACE_BYTES) else { continue };
            let address = <[u8; 4]>::try_from(address).map_err(|_| Damaged("a member of another length"))?;
            owners.insert((Value(veth).text()?.into(), address.into()));
        }
    }
    Ok(Some(HeldArp { state, whole, owners }))
}

fn is_arp_rule(raw: &RawRule) -> bool {
    let Ok(expressions) = &raw.expressions else { return false };
    let uncounted = |expression: &Expression| match expression {
        Expression::Counter { .. } => Expression::Counter { packets: 0, bytes: 0 },
        other => other.clone(),
    };
    expressions.iter().map(uncounted).eq(arp_rule(ARP_SET))
}

fn table_state(socket: &mut Socket, family: u8) -> Result<Option<TableState>, Error> {
    let asked = socket.ask(
        command::GETTABLE,
        family,
        |message| message.text(table::NAME, TABLE),
        |answer| {
            let flags = answer.find(table::FLAGS)?.map(Value::u32).transpose()?.unwrap_or_default();
            Ok(TableState {
                owner: answer.find(table::OWNER)?.map(Value::u32).transpose()?,
                guard: if flags & table_flag::PERSIST != 0 { Guard::Owned } else { Guard::Anyone },
                dormant: flags & table_flag::DORMANT != 0,
            })
        },
    );
    match asked {
        Ok(state) => Ok(Some(state)),
        Err(Error::Refused(errno)) if errno == nix::errno::Errno::ENOENT as i32 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lists what belongs to our table of a family.
fn list<T>(
    socket: &mut Socket,
    command: u16,
    family: u8,
    body: impl Fn(&mut Writer),
    mut read: impl FnMut(Attributes<'_>) -> Result<Option<T>, Damaged>,
) -> Result<Vec<T>, Error> {
    let mut listed = Vec::new();
    socket.list(command, family, body, |part| {
        match part {
            Listing::Anew => listed.clear(),
            Listing::Message(message) => {
                let (this, attributes) = message.netfilter()?;
                // In all listings the first attribute is the table's name.
                if this == family && attributes.need(1)?.text()? == TABLE {
                    listed.extend(read(attributes)?);
                }
            }
        }
        Ok(())
    })?;
    Ok(listed)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RawBase {
    hook: u32,
    priority: i32,
    accepts: bool,
    filter: bool,
}

type RawChain = (ChainName, Option<RawBase>);

fn read_raw_chains(socket: &mut Socket, family: u8) -> Result<Vec<RawChain>, Error> {
    let body = |message: &mut Writer| message.text(chain::TABLE, TABLE);
    list(socket, command::GETCHAIN, family, body, read_chain)
}

fn read_chain(attributes: Attributes<'_>) -> Result<Option<RawChain>, Damaged> {
    let name = attributes.need(chain::NAME)?.text()?.into();
    let Some(place) = attributes.find(chain::HOOK)? else { return Ok(Some((name, None))) };
    let kind = attributes.find(chain::TYPE)?.map(Value::text).transpose()?.unwrap_or_default();
    let base = RawBase {
        hook: place.nested().need(chain::HOOK_NUMBER)?.u32()?,
        priority: place.nested().need(chain::HOOK_PRIORITY)?.u32()? as i32,
        accepts: attributes.need(chain::POLICY)?.u32()? == chain::ACCEPT,
        filter: kind == chain::FILTER,
    };
    Ok(Some((name, Some(base))))
}

fn read_chains(socket: &mut Socket, family: u8) -> Result<BTreeMap<ChainName, HeldChain>, Error> {
    let chains = read_raw_chains(socket, family)?.into_iter();
    Ok(chains
        .map(|(name, base)| {
            let base = base.map(|raw| HeldBase {
                hook: [Hook::Prerouting, Hook::Input, Hook::Forward]
                    .into_iter()
                    .find(|hook| raw.filter && hook_number(*hook) == raw.hook),
                priority: raw.priority,
                accepts: raw.accepts,
            });
            (name, HeldChain { base, rules: Vec::new() })
        })
        .collect())
}

struct RawRule {
    chain: ChainName,
    handle: u64,
    expressions: Result<Vec<Expression>, Foreign>,
    tag: String,
}

fn read_rules(socket: &mut Socket, family: u8) -> Result<Vec<RawRule>, Error> {
    let body = |message: &mut Writer| message.text(rule::TABLE, TABLE);
    list(socket, command::GETRULE, family, body, read_rule)
}

fn read_rule(attributes: Attributes<'_>) -> Result<Option<RawRule>, Damaged> {
    let list = attributes.find(rule::EXPRESSIONS)?.unwrap_or(Value(&[]));
    Ok(Some(RawRule {
        chain: attributes.need(rule::CHAIN)?.text()?.into(),
        handle: attributes.need(rule::HANDLE)?.u64()?,
        expressions: expression::read_list(list.nested()),
        tag: read_tag(attributes.find(rule::USERDATA)?)?,
    }))
}

/// The comment in a rule's user data; what is none of ours may hold anything there.
fn read_tag(userdata: Option<Value<'_>>) -> Result<String, Damaged> {
    let comment = userdata.and_then(|Value(bytes)| {
        let (&[kind, length], rest) = bytes.split_first_chunk::<2>()?;
        (kind == rule::COMMENT).then(|| rest.get(..usize::from(length))).flatten()
    });
    Ok(comment.and_then(|bytes| Value(bytes).text().ok()).unwrap_or_default().to_owned())
}

struct ListedSet {
    name: String,
    flags: u32,
    key_type: u32,
    key_length: u32,
    data_type: Option<u32>,
}

impl ListedSet {
    fn is_map(&self) -> bool {
        self.flags == set::MAP
            && self.key_type == set::IFNAME
            && self.key_length == INTERFACE_BYTES as u32
            && self.data_type == Some(set::VERDICT)
    }

    fn is_arp(&self) -> bool {
        self.flags == 0 && self.key_length == INTERFACE_BYTES as u32 + 4
    }

    fn anonymous(&self) -> bool {
        // NFT_SET_ANONYMOUS
        self.flags & 1 != 0
    }
}

fn read_sets(socket: &mut Socket, family: u8) -> Result<Vec<ListedSet>, Error> {
    let body = |message: &mut Writer| message.text(set::TABLE, TABLE);
    list(socket, command::GETSET, family, body, read_set)
}

fn read_set(attributes: Attributes<'_>) -> Result<Option<ListedSet>, Damaged> {
    let optional = |kind| attributes.find(kind)?.map(Value::u32).transpose();
    Ok(Some(ListedSet {
        name: attributes.need(set::NAME)?.text()?.to_owned(),
        flags: optional(set::FLAGS)?.unwrap_or_default(),
        key_type: optional(set::KEY_TYPE)?.unwrap_or_default(),
        key_length: optional(set::KEY_LENGTH)?.unwrap_or_default(),
        data_type: optional(set::DATA_TYPE)?,
    }))
}

/// Elements of a map that are none of ours are told in words.
fn read_map(
    socket: &mut Socket,
    family: u8,
    name: &str,
    foreign: &mut Vec<String>,
) -> Result<BTreeMap<IfName, Verdict>, Error> {
    let mut map = BTreeMap::new();
    for (key, verdict) in read_elements(socket, family, name)? {
        let veth = Value(&key).text()?;
        match verdict {
            Some(Ok(verdict)) => {
                map.insert(veth.into(), verdict);
            }
            Some(Err(Foreign(what))) => foreign.push(format!("{veth} in the map {name}: {what}")),
            None => foreign.push(format!("{veth} in the map {name}: no verdict")),
        }
    }
    Ok(map)
}

/// A key and, in a map, its verdict.
type Element = (Vec<u8>, Option<Result<Verdict, Foreign>>);

fn read_elements(socket: &mut Socket, family: u8, name: &str) -> Result<Vec<Element>, Error> {
    let body = |message: &mut Writer| {
        message.text(element::TABLE, TABLE);
        message.text(element::SET, name);
    };
    let parts = list(socket, command::GETSETELEM, family, body, read_items)?;
    Ok(parts.into_iter().flatten().collect())
}

/// The elements in one message of a listing.
fn read_items(attributes: Attributes<'_>) -> Result<Option<Vec<Element>>, Damaged> {
    let Some(elements) = attributes.find(element::ELEMENTS)? else { return Ok(None) };
    let mut part = Vec::new();
    for item in elements.nested() {
        let (kind, item) = item?;
        if kind != element::ITEM {
            continue;
        }
        // A catch-all element has no key.
        let key = item.nested().find(element::KEY)?;
        let key = key.map(|key| key.nested().need(element::VALUE)).transpose()?;
        let verdict = item.nested().find(element::DATA)?.map(|data| expression::read_verdict(data.nested()));
        part.push((key.unwrap_or(Value(b"*")).0.to_vec(), verdict));
    }
    Ok(Some(part))
}

/// Reads bytes as a part of each listing.
#[cfg(test)]
pub(super) fn read_anything(bytes: &[u8]) {
    for attributes in [Attributes(bytes), Attributes(bytes.get(20..).unwrap_or_default())] {
        drop(read_chain(attributes));
        let _ = read_rule(attributes).map(|raw| raw.map(|raw| is_arp_rule(&raw)));
        drop(read_set(attributes));
        drop(read_items(attributes));
    }
}
