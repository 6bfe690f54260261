//! Sets of ipset, by its own netlink protocol: no tool is run, so none can be of another revision than the kernel's.
//!
//! - `protocol`: what the kernel calls its commands, attributes, errors and types.
//! - `member`: members as attributes.
//! - `offer`: how many of them go at once.

mod member;
mod offer;
mod protocol;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::message::{ACK, Attributes, ERROR, Header, NO_FAMILY, REQUEST, Value, Writer};
use super::socket::{Listing, Socket};
use super::{Damaged, Error};
use crate::program::{Family, Member, Set, SetKind, SetName};
pub use member::{ForeignMember, Reason};
use member::{check, read_member, write_member};
use offer::{Answer, Refusal, offer};
pub(super) use protocol::errno::BUSY;
pub(super) use protocol::words;
use protocol::{
    ADD, CREATE, DEL, DESTROY, GET_BYINDEX, GET_BYNAME, HEADERS_ONLY, KINDS, LIST, NAMES_ONLY,
    PROTOCOL_VERSION, TYPE, Type, command, data, errno, type_of,
};

/// What the names of our sets begin with.
pub(super) const PREFIXES: [&str; 2] = ["cam4", "cam6"];

/// Members go in messages of at most so many bytes: the list of them is an attribute, which ends at 65,535.
const MESSAGE_BYTES: usize = 60_000;
/// Messages go together in one send as long as it is shorter than this.
const SEND_BYTES: usize = 480_000;
/// IPSET_MIMINAL_HASHSIZE: the kernel's lowest.
const LEAST_BUCKETS: usize = 64;
/// Highest number of buckets that we ask for: 32 MiB of pointers.
const MOST_BUCKETS: usize = 1 << 22;

/// NFPROTO_*
pub(super) fn number(family: Family) -> u8 {
    match family {
        Family::Ipv4 => 2,
        Family::Ipv6 => 10,
    }
}

fn family_of(number: u8) -> Option<Family> {
    Family::ALL.into_iter().find(|family| self::number(*family) == number)
}

/// A set as it is in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldSet {
    /// Its family.
    pub family: Family,
    /// Its kind, and those members that can be ours.
    pub set: Set,
    /// All others: somebody else added them. Every one counts as a member for packets.
    pub foreign: BTreeSet<ForeignMember>,
}

/// The way to the kernel's sets.
#[derive(Debug)]
pub(super) struct Ipset {
    socket: Socket,
    revisions: HashMap<(SetKind, Family), u8>,
}

impl Ipset {
    /// In the network namespace of the calling thread.
    pub(super) fn open() -> Result<Ipset, Error> {
        Ok(Ipset { socket: Socket::open()?, revisions: HashMap::new() })
    }

    /// The options that the kernel lacks for sets.
    pub(super) fn requirements(&mut self) -> Result<Vec<String>, Error> {
        let mut lacking = Vec::new();
        for kind in KINDS {
            for family in Family::ALL {
                match self.revision(kind, family) {
                    Ok(_) => {}
                    Err(Error::Refused(errno::FIND_TYPE)) => {
                        let Type { name, option, .. } = type_of(kind);
                        lacking.push(format!("sets of the type {name} ({option})"));
                        break;
                    }
                    // Nobody registered for the subsystem.
                    Err(Error::Refused(EINVAL)) => return Ok(vec!["ipset (CONFIG_IP_SET)".to_owned()]),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(lacking)
    }

    /// The revision that is spoken for a type: the kernel's newest, or the newest that is known here.
    fn revision(&mut self, kind: SetKind, family: Family) -> Result<u8, Error> {
        if let Some(revision) = self.revisions.get(&(kind, family)) {
            return Ok(*revision);
        }
        let Type { name, known, .. } = type_of(kind);
        let newest = self.socket.ask(
            TYPE,
            number(family),
            |message| {
                message.u8(command::PROTOCOL, PROTOCOL_VERSION);
                message.text(command::TYPENAME, name);
                message.u8(command::FAMILY, number(family));
            },
            |answer| answer.need(command::REVISION)?.u8(),
        )?;
        let revision = newest.min(known);
        self.revisions.insert((kind, family), revision);
        Ok(revision)
    }

    /// Makes a set. One that is there already and is of the same kind, family and size is success.
    pub(super) fn create(
        &mut self,
        family: Family,
        name: &SetName,
        kind: SetKind,
        room: usize,
        most: u32,
    ) -> Result<(), Error> {
        let revision = self.revision(kind, family).map_err(|error| error.of_set(name))?;
        let header = Header { kind: CREATE, flags: 0, sequence: 0, family: number(family), resource: 0 };
        self.socket
            .tell(header, |message| {
                message.u8(command::PROTOCOL, PROTOCOL_VERSION);
                message.text(command::SETNAME, name);
                message.text(command::TYPENAME, type_of(kind).name);
                message.u8(command::REVISION, revision);
                message.u8(command::FAMILY, number(family));
                message.nested(command::DATA, |data| {
                    data.ordered(data::HASHSIZE, &buckets(room).to_be_bytes());
                    data.ordered(data::MAXELEM, &most.to_be_bytes());
                });
            })
            .map_err(|error| error.of_set(name))
    }

    /// Removes a set; one that is not there is success, one that a rule names is an error.
    pub(super) fn destroy(&mut self, name: &SetName) -> Result<(), Error> {
        let header = Header { kind: DESTROY, flags: 0, sequence: 0, family: 0, resource: 0 };
        let told = self.socket.tell(header, |message| {
            message.u8(command::PROTOCOL, PROTOCOL_VERSION);
            message.text(command::SETNAME, name);
        });
        match told {
            Err(Error::Refused(ENOENT)) => Ok(()),
            told => told.map_err(|error| error.of_set(name)),
        }
    }

    /// Adds members. All that can be added are: those that were refused are told at the end. After the first that
    /// found the set full no more are tried, nor after many in a row that were refused for one reason (see `offer`).
    pub(super) fn add(&mut self, family: Family, name: &SetName, members: &[Member]) -> Result<(), Error> {
        self.change(ADD, family, name, members)
    }

    /// Removes members; those that are not there are none too.
    pub(super) fn del(&mut self, family: Family, name: &SetName, members: &[Member]) -> Result<(), Error> {
        self.change(DEL, family, name, members)
    }

    /// Removes members that are none of ours.
    ///
    /// They go in their order: a `wildcard` member is also found by the longer names that it stands for
    /// (`hash_netiface4_data_equal`), so of names that begin alike the shortest goes first.
    pub(super) fn del_foreign(
        &mut self,
        name: &SetName,
        members: &BTreeSet<ForeignMember>,
    ) -> Result<(), Error> {
        let members = members.iter().collect::<Vec<_>>();
        let refused = offer(members.len(), |offered| {
            self.send_members(DEL, name, &members[offered], |data, member| member.write(data))
        })?;
        match refused.first() {
            None => Ok(()),
            Some((_, errno)) => Err(Error::Refused(*errno).of_set(name)),
        }
    }

    fn change(&mut self, kind: u16, family: Family, name: &SetName, members: &[Member]) -> Result<(), Error> {
        let mut refused = Vec::new();
        let mut sound = Vec::with_capacity(members.len());
        for member in members {
            match check(family, member) {
                Ok(()) => sound.push(member),
                Err(reason) => refused.push((member.clone(), reason)),
            }
        }
        let by_kernel = offer(sound.len(), |offered| {
            self.send_members(kind, name, &sound[offered], |data, member| write_member(data, member))
        })?;
        refused.extend(by_kernel.into_iter().map(|(nth, number)| (sound[nth].clone(), Reason::of(number))));
        if refused.is_empty() { Ok(()) } else { Err(Error::Members { set: name.clone(), refused }) }
    }

    /// Sends as many members as go in one send and reads all answers.
    fn send_members<M>(
        &mut self,
        kind: u16,
        name: &SetName,
        members: &[M],
        write: impl Fn(&mut Writer, &M),
    ) -> Result<Answer, Error> {
        let mut writer = Writer::new();
        let mut rest = members;
        // By sequence number the first member of each message, and how many.
        let mut open: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
        let mut sent = 0;
        while !rest.is_empty() && writer.len() < SEND_BYTES {
            let sequence = self.socket.next_sequence();
            let mut packed = 0;
            let header = Header { kind, flags: REQUEST | ACK, sequence, family: NO_FAMILY, resource: 0 };
            let start = writer.len();
            writer.message(header, |message| {
                message.u8(command::PROTOCOL, PROTOCOL_VERSION);
                message.text(command::SETNAME, name);
                // With a line number here an error tells the number of the member.
                message.u32(command::LINENO, 0);
                message.nested(command::ADT, |list| {
                    while let Some(member) = rest.get(packed)
                        && list.len() - start < MESSAGE_BYTES
                    {
                        packed += 1;
                        list.nested(command::DATA, |data| {
                            write(data, member);
                            data.ordered(data::LINENO, &(packed as u32).to_be_bytes());
                        });
                    }
                });
            });
            open.insert(sequence, (sent, packed));
            sent += packed;
            rest = &rest[packed..];
        }
        self.socket.send(writer.as_bytes())?;
        let mut refusal: Option<Refusal> = None;
        while !open.is_empty() {
            for message in self.socket.receive()? {
                let message = message?;
                if message.kind != ERROR {
                    continue;
                }
                let Some((first, count)) = open.remove(&message.sequence) else { continue };
                let (number, about) = message.error()?;
                if number != 0 {
                    // Without a line the message could not be read: some member in it has what sets of this type know not.
                    let line = line_of(about)?.unwrap_or_default() as usize;
                    let nth = first + line.clamp(1, count.max(1)) - 1;
                    let is_exact = line > 0 || count == 1;
                    if refusal.is_none_or(|earlier| nth < earlier.nth) {
                        refusal = Some(Refusal { nth, number, is_exact });
                    }
                }
            }
        }
        match refusal {
            Some(Refusal { number: ENOENT, .. }) => Err(Error::Refused(ENOENT).of_set(name)),
            refusal => Ok(Answer { sent, refusal }),
        }
    }

    /// The number that rules know a set by.
    pub(super) fn index(&mut self, name: &str) -> Result<u16, Error> {
        self.socket.ask(
            GET_BYNAME,
            0,
            |message| {
                message.u8(command::PROTOCOL, PROTOCOL_VERSION);
                message.text(command::SETNAME, name);
            },
            |answer| answer.need(command::INDEX)?.u16(),
        )
    }

    /// The name of the set with this number.
    pub(super) fn name(&mut self, index: u16) -> Result<SetName, Error> {
        self.socket.ask(
            GET_BYINDEX,
            0,
            |message| {
                message.u8(command::PROTOCOL, PROTOCOL_VERSION);
                message.u16(command::INDEX, index);
            },
            |answer| Ok(answer.need(command::SETNAME)?.text()?.into()),
        )
    }

    /// The names of all sets that are ours by their names.
    pub(super) fn names(&mut self) -> Result<BTreeSet<SetName>, Error> {
        Ok(self.list(NAMES_ONLY, |_| Ok(()))?.into_keys().collect())
    }

    /// How many members each set has that is ours by its name.
    pub(super) fn sizes(&mut self) -> Result<BTreeMap<SetName, usize>, Error> {
        self.list(HEADERS_ONLY, |set| {
            let elements = set.need(command::DATA)?.nested().find(data::ELEMENTS)?;
            Ok(elements.map(Value::u32).transpose()?.unwrap_or_default() as usize)
        })
    }

    /// Lists all sets that are ours by their names, without members.
    fn list<T>(
        &mut self,
        flags: u32,
        read: impl Fn(Attributes<'_>) -> Result<T, Damaged>,
    ) -> Result<BTreeMap<SetName, T>, Error> {
        let mut sets = BTreeMap::new();
        self.socket.list(
            LIST,
            0,
            |message| {
                message.u8(command::PROTOCOL, PROTOCOL_VERSION);
                message.u32(command::FLAGS, flags);
            },
            |part| {
                let Listing::Message(message) = part else {
                    sets.clear();
                    return Ok(());
                };
                let (_, set) = message.netfilter()?;
                let name = set.need(command::SETNAME)?.text()?;
                if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
                    sets.insert(name.into(), read(set)?);
                }
                Ok(())
            },
        )?;
        Ok(sets)
    }

    /// One set; `None`: there is none of this name, or it is of a kind that is none of ours.
    pub(super) fn read(&mut self, name: &SetName) -> Result<Option<HeldSet>, Error> {
        let mut held: Option<HeldSet> = None;
        let listed = self.socket.list(
            LIST,
            0,
            |message| {
                message.u8(command::PROTOCOL, PROTOCOL_VERSION);
                message.text(command::SETNAME, name);
            },
            |part| {
                match part {
                    Listing::Anew => held = None,
                    Listing::Message(message) => read_part(message.netfilter()?.1, &mut held)?,
                }
                Ok(())
            },
        );
        match listed {
            Ok(()) => Ok(held),
            Err(Error::Refused(ENOENT)) => Ok(None),
            Err(error) => Err(error.of_set(name)),
        }
    }
}

const ENOENT: i32 = nix::errno::Errno::ENOENT as i32;
const EINVAL: i32 = nix::errno::Errno::EINVAL as i32;

/// A hash of two members a bucket is filled without growing; it grows by itself when more come.
fn buckets(room: usize) -> u32 {
    (room / 2).clamp(LEAST_BUCKETS, MOST_BUCKETS).next_power_of_two() as u32
}

/// The line number in the message that an error brings back: it begins with its own header.
fn line_of(about: &[u8]) -> Result<Option<u32>, Damaged> {
    let Some(attributes) = about.get(20..) else { return Ok(None) };
    // The attributes after it may be cut off.
    for attribute in Attributes(attributes) {
        match attribute? {
            (command::LINENO, value) => return value.u32().map(Some),
            (command::ADT, _) => break,
            _ => {}
        }
    }
    Ok(None)
}

/// One message of a listing: the first of a set says what it is, each brings members.
fn read_part(attributes: Attributes<'_>, held: &mut Option<HeldSet>) -> Result<(), Damaged> {
    if let (Some(name), Some(family)) =
        (attributes.find(command::TYPENAME)?, attributes.find(command::FAMILY)?)
    {
        let name = name.text()?;
        let kind = KINDS.into_iter().find(|kind| type_of(*kind).name == name);
        *held = kind.zip(family_of(family.u8()?)).map(|(kind, family)| HeldSet {
            family,
            set: Set { kind, members: BTreeSet::new() },
            foreign: BTreeSet::new(),
        });
    }
    let (Some(held), Some(list)) = (held, attributes.find(command::ADT)?) else { return Ok(()) };
    for member in list.nested() {
        let (kind, member) = member?;
        if kind != command::DATA {
            continue;
        }
        match read_member(held.family, held.set.kind, member.nested())? {
            Some(member) => drop(held.set.members.insert(member)),
            None => drop(held.foreign.insert(ForeignMember::read(member.nested())?)),
        }
    }
    Ok(())
}

/// Reads bytes as a listing of each kind, and as what an error brings back.
#[cfg(test)]
pub(super) fn read_anything(bytes: &[u8]) {
    let _ = line_of(bytes);
    for kind in KINDS {
        let set = Set { kind, members: BTreeSet::new() };
        let mut held = Some(HeldSet { family: Family::Ipv4, set, foreign: BTreeSet::new() });
        let _ = read_part(Attributes(bytes), &mut held);
        drop(read_member(Family::Ipv6, kind, Attributes(bytes)));
        drop(ForeignMember::read(Attributes(bytes)));
        let _ = read_part(Attributes(bytes.get(20..).unwrap_or_default()), &mut held);
    }
}
