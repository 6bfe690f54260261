//! What others change in our tables, told by nf_tables itself.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;

use super::Error;
use super::ipset::number;
use super::message::Messages;
use super::operation::{ARP, command};
use super::socket::Socket;
use crate::program::{Family, TABLE};

/// NFNLGRP_NFTABLES
const GROUP: u32 = 7;
/// NFTA_GEN_ID, NFTA_GEN_PROC_PID, NFTA_GEN_PROC_NAME
const GENERATION: u16 = 1;
const PROCESS: u16 = 2;
const PROCESS_NAME: u16 = 3;

/// Hears every change of nf_tables in its network namespace.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
    /// Sockets whose changes are ours.
    own: BTreeSet<u32>,
    /// What others did to our tables in the batch that is being told.
    deed: Option<String>,
    last_touch: Option<String>,
}

/// Something that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A batch of anybody, ours among them, made this the generation.
    Generation(u32),
    /// Somebody else changed one of our tables.
    Touched,
    /// Events were lost: whatever they told has to be assumed.
    Overrun,
}

impl Watch {
    pub(super) fn open(own: BTreeSet<u32>) -> Result<Watch, Error> {
        let socket = Socket::open()?;
        socket.join(GROUP)?;
        Ok(Watch { socket, own, deed: None, last_touch: None })
    }

    /// What was heard since this was last asked, in order. Does not wait.
    pub fn take(&mut self) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        loop {
            match self.socket.receive_now() {
                Ok(Some(messages)) => {
                    take(messages, &self.own, &mut self.deed, &mut self.last_touch, &mut events);
                }
                Ok(None) => return Ok(events),
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    events.push(Event::Overrun)
                }
                Err(error) => return Err(io::Error::into(error)),
            }
        }
    }

    /// Waits until there is something to take, at most so long.
    pub fn wait(&self, timeout: Duration) -> Result<bool, Error> {
        Ok(self.socket.wait(timeout)?)
    }

    /// Who last touched our tables, and how: `nft (1234): table ip cambric removed`.
    pub fn last_touch(&self) -> Option<&str> {
        self.last_touch.as_deref()
    }
}

impl AsFd for Watch {
    /// Readable when there is something to take.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.fd()
    }
}

/// Takes in the events of one read. What cannot be read counts as lost.
fn take(
    messages: Messages<'_>,
    own: &BTreeSet<u32>,
    deed: &mut Option<String>,
    last_touch: &mut Option<String>,
    events: &mut Vec<Event>,
) {
    for message in messages {
        let Ok(message) = message else { return events.push(Event::Overrun) };
        let Ok((family, attributes)) = message.netfilter() else {
            events.push(Event::Overrun);
            continue;
        };
        let number = |kind| attributes.find(kind).ok().flatten().and_then(|value| value.u32().ok());
        if message.kind == command::NEWGEN {
            // The last of a batch: the generation, and who did it.
            if let Some(deed) = deed.take() {
                let name = attributes.find(PROCESS_NAME).ok().flatten().and_then(|value| value.text().ok());
                let process = number(PROCESS).unwrap_or_default();
                *last_touch = Some(format!("{} ({process}): {deed}", name.unwrap_or("?")));
            }
            events.push(number(GENERATION).map_or(Event::Overrun, Event::Generation));
            continue;
        }
        // The first attribute of every other event is the name of the table.
        let table = attributes.find(1).ok().flatten().and_then(|value| value.text().ok());
        if table == Some(TABLE)
            && let Some(family) = family_name(family)
            && !own.contains(&message.port)
        {
            deed.get_or_insert_with(|| format!("table {family} {TABLE}{}", what(message.kind)));
            if events.last() != Some(&Event::Touched) {
                events.push(Event::Touched);
            }
        }
    }
}

fn family_name(family: u8) -> Option<&'static str> {
    match family {
        ARP => Some("arp"),
        _ if family == number(Family::Ipv4) => Some("ip"),
        _ if family == number(Family::Ipv6) => Some("ip6"),
        _ => None,
    }
}

fn what(kind: u16) -> &'static str {
    match kind {
        command::NEWTABLE => " added or changed",
        command::DELTABLE => " removed",
        command::NEWCHAIN => ", chain added or changed",
        command::DELCHAIN => ", chain removed",
        command::NEWRULE => ", rule added",
        command::DELRULE => ", rule removed",
        command::NEWSET => ", set added",
        command::DELSET => ", set removed",
        command::NEWSETELEM => ", element added",
        command::DELSETELEM => ", element removed",
        _ => " changed",
    }
}

/// Reads bytes as events.
#[cfg(test)]
pub(super) fn read_anything(bytes: &[u8]) {
    take(Messages(bytes), &BTreeSet::new(), &mut None, &mut None, &mut Vec::new());
}
