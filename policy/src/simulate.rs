//! What becomes of a packet: the compiled program is run for it, as the kernel would run it.
//!
//! Only the first packet of a connection needs the rules; later ones are `established`. Counters and logs do nothing
//! here, and a limit always has room.

use std::net::IpAddr;

use crate::program::{
    BaseChain, ChainName, End, Family, Hook, IfName, Interface, Member, Program, Protocol, Rule, Set,
    SetKind, Statement, Table, VETH_PREFIX, Verdict,
};

/// Deepest nesting of jumps (the kernel's NFT_JUMP_STACK_SIZE); it loads no chains that go deeper.
const MOST_JUMPS: usize = 16;
/// Most jumps and gotos of a packet: no chains of ours come near, and chains in a circle end here.
const MOST_MOVES: usize = 1 << 10;

/// A packet as it passes the node.
///
/// With input and output it is forwarded, with input alone it is for the node. What the node sends meets no rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The interface it came in by.
    pub input: Option<IfName>,
    /// The interface it goes out by.
    pub output: Option<IfName>,
    /// Of the same family as the destination.
    pub source: IpAddr,
    /// After any translation.
    pub destination: IpAddr,
    /// IANA protocol number.
    pub protocol: u8,
    /// `None`: its protocol has no ports.
    pub destination_port: Option<u16>,
    /// It is of a connection that was let through, or an error about one.
    pub is_established: bool,
}

/// What became of a packet, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Its end.
    pub outcome: Outcome,
    /// Tags of the rules that fitted, in order.
    pub trace: Vec<String>,
}

/// The end of a packet's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// No rule of ours is against it.
    Passed,
    /// A rule dropped it.
    Dropped {
        /// The rule's chain.
        chain: ChainName,
        /// The rule's tag.
        tag: String,
    },
}

impl Judgement {
    /// Whether no rule dropped it.
    pub fn is_passed(&self) -> bool {
        self.outcome == Outcome::Passed
    }
}

/// Runs a program for a packet. A program that the kernel would not load, for its jumps, drops what comes that far.
pub fn judge(program: &Program, packet: &Packet) -> Judgement {
    let hooks: &[Hook] = match (&packet.input, &packet.output) {
        (Some(_), Some(_)) => &[Hook::Prerouting, Hook::Forward],
        (Some(_), None) => &[Hook::Prerouting, Hook::Input],
        (None, _) => &[],
    };
    let table = program.table(Family::of(packet.destination));
    let mut run = Run { program, table, packet, trace: Vec::new(), moves_left: MOST_MOVES };
    for &hook in hooks {
        let mut chains: Vec<&BaseChain> =
            table.base_chains.iter().filter(|chain| chain.hook == hook).collect();
        chains.sort_by_key(|chain| chain.priority);
        for chain in chains {
            let outcome = run.base_chain(chain);
            if outcome != Outcome::Passed {
                return Judgement { outcome, trace: run.trace };
            }
        }
    }
    Judgement { outcome: Outcome::Passed, trace: run.trace }
}

struct Run<'a> {
    program: &'a Program,
    table: &'a Table,
    packet: &'a Packet,
    trace: Vec<String>,
    moves_left: usize,
}

/// A chain that is being run, and the rules of it that are still to come.
struct Place<'a> {
    chain: &'a ChainName,
    rules: std::slice::Iter<'a, Rule>,
}

impl<'a> Run<'a> {
    fn base_chain(&mut self, base: &'a BaseChain) -> Outcome {
        let mut stack = vec![Place { chain: &base.name, rules: base.rules.iter() }];
        while let Some(place) = stack.last_mut() {
            let chain = place.chain;
            let Some(rule) = place.rules.next() else {
                stack.pop();
                continue;
            };
            let dropped = || Outcome::Dropped { chain: chain.clone(), tag: rule.tag.clone() };
            let next = match self.verdict(rule) {
                None => continue,
                Some(Verdict::Accept) => return Outcome::Passed,
                Some(Verdict::Drop) => return dropped(),
                Some(Verdict::Return) => {
                    stack.pop();
                    continue;
                }
                Some(Verdict::Jump(_)) if stack.len() >= MOST_JUMPS => return dropped(),
                Some(Verdict::Jump(next)) => next,
                Some(Verdict::Goto(next)) => {
                    stack.pop();
                    next
                }
            };
            let found = self.table.chains.get_key_value(&next).filter(|_| self.moves_left > 0);
            let Some((chain, rules)) = found else { return dropped() };
            self.moves_left -= 1;
            stack.push(Place { chain, rules: rules.iter() });
        }
        Outcome::Passed
    }

    /// What a rule does with the packet; `None`: nothing, the next rule's turn.
    fn verdict(&mut self, rule: &Rule) -> Option<Verdict> {
        for statement in &rule.statements {
            let verdict = match statement {
                Statement::Verdict(verdict) => Some(verdict.clone()),
                Statement::Dispatch(interface) => Some(Verdict::Goto(self.dispatch(*interface)?)),
                condition if self.fits(condition) => None,
                _ => return None,
            };
            if verdict.is_some() {
                self.trace.push(rule.tag.clone());
                return verdict;
            }
        }
        self.trace.push(rule.tag.clone());
        None
    }

    fn fits(&self, statement: &Statement) -> bool {
        let packet = self.packet;
        match statement {
            Statement::IsVeth(interface) => {
                self.interface(*interface).is_some_and(|name| name.starts_with(VETH_PREFIX))
            }
            Statement::Established => packet.is_established,
            Statement::Protocol(protocol) => packet.protocol == protocol.number(),
            Statement::DestinationPort(ports) => {
                packet.destination_port.is_some_and(|port| (ports.first..=ports.last).contains(&port))
            }
            Statement::InSet { set, ends, inverted } => {
                let set = self.table.sets.get(set);
                set.is_some_and(|set| self.is_in(set, ends)) != *inverted
            }
            Statement::Counter | Statement::AtMostPerSecond(_) | Statement::Log { .. } => true,
            Statement::Verdict(_) | Statement::Dispatch(_) => false,
        }
    }

    fn interface(&self, interface: Interface) -> Option<&IfName> {
        match interface {
            Interface::Input => self.packet.input.as_ref(),
            Interface::Output => self.packet.output.as_ref(),
        }
    }

    fn dispatch(&self, interface: Interface) -> Option<ChainName> {
        let placement = self.program.dispatch.get(self.interface(interface)?)?;
        Some(match interface {
            Interface::Input => placement.egress.clone(),
            Interface::Output => placement.ingress.clone(),
        })
    }

    fn is_in(&self, set: &Set, ends: &[End]) -> bool {
        let packet = self.packet;
        let address = |end: End| match end {
            End::Source => packet.source,
            End::Destination => packet.destination,
        };
        match (set.kind, ends) {
            (SetKind::Addresses, [end]) => set.members.contains(&Member::Address(address(*end))),
            (SetKind::Networks, [end]) => is_in_network(set, address(*end)),
            // A packet's source port is in no rule of ours, so packets do not tell it.
            (SetKind::AddressPorts, [end, End::Destination]) => {
                let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
                    .into_iter()
                    .find(|known| known.number() == packet.protocol);
                protocol.zip(packet.destination_port).is_some_and(|(protocol, port)| {
                    set.members.contains(&Member::AddressPort(address(*end), protocol, port))
                })
            }
            (SetKind::Owners, [end, interface]) => {
                let interface = match interface {
                    End::Source => Interface::Input,
                    End::Destination => Interface::Output,
                };
                let owner = |name: &IfName| Member::Owner(address(*end), name.clone());
                self.interface(interface).is_some_and(|name| set.members.contains(&owner(name)))
            }
            _ => false,
        }
    }
}

/// The network of every length that the address is in is looked for, as the kernel does it.
fn is_in_network(set: &Set, address: IpAddr) -> bool {
    let whole = if address.is_ipv4() { 32 } else { 128 };
    (1..=whole).any(|length| set.members.contains(&Member::Network(network_of(address, length), length)))
}

fn network_of(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

#[cfg(test)]
mod tests;
