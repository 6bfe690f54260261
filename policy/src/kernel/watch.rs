//! What others change in our tables, told by nf_tables itself.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use nix::errno::Errno;

use super::Error;
use super::ipset::number;
use super::message::{Messages, Value};
use super::operation::{ARP, command};
use super::socket::Socket;
use crate::program::{Family, TABLE};

/// NFNLGRP_NFTABLES
const GROUP: u32 = 7;
/// NFTA_GEN_PROC_PID, NFTA_GEN_PROC_NAME
const PROCESS: u16 = 2;
const PROCESS_NAME: u16 = 3;

/// Hears every change of nf_tables in its network namespace, and tells those of our tables that were not ours.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
    own: BTreeSet<u32>,
    heard: Foreigners,
}

/// What others did to our tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foreigners {
    /// In words: `table ip cambric removed`.
    pub changes: BTreeSet<String>,
    /// Who: `nft (1234)`.
    pub processes: BTreeSet<String>,
    /// Events were lost: whatever they told has to be assumed.
    pub lost: bool,
}

impl Foreigners {
    /// Nobody did anything.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && !self.lost
    }
}

impl Watch {
    pub(super) fn open(own: BTreeSet<u32>) -> Result<Watch, Error> {
        let socket = Socket::open()?;
        socket.join(GROUP)?;
        Ok(Watch { socket, own, heard: Foreigners::default() })
    }

    /// Waits until somebody else changes our tables, at most so long (0: looks only), and tells all that is known by then.
    pub fn wait(&mut self, timeout: Duration) -> Result<Foreigners, Error> {
        let mut left = timeout;
        let start = std::time::Instant::now();
        loop {
            self.read_all()?;
            if !self.heard.is_empty() || left.is_zero() {
                return Ok(std::mem::take(&mut self.heard));
            }
            self.socket.wait(left)?;
            left = timeout.saturating_sub(start.elapsed());
        }
    }

    fn read_all(&mut self) -> Result<(), Error> {
        loop {
            match self.socket.receive_now() {
                Ok(Some(messages)) => take(messages, &self.own, &mut self.heard),
                Ok(None) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => self.heard.lost = true,
                Err(error) => return Err(io::Error::into(error)),
            }
        }
    }
}

/// Takes in the events of one read. What cannot be read counts as lost.
fn take(messages: Messages<'_>, own: &BTreeSet<u32>, heard: &mut Foreigners) {
    for message in messages {
        let Ok(message) = message else {
            heard.lost = true;
            return;
        };
        if own.contains(&message.port) {
            continue;
        }
        let Ok((family, attributes)) = message.netfilter() else {
            heard.lost = true;
            continue;
        };
        if message.kind == command::NEWGEN {
            // The last of a batch: who did it.
            let process = attributes.find(PROCESS).ok().flatten().and_then(|value| value.u32().ok());
            let name = attributes.find(PROCESS_NAME).ok().flatten().and_then(|value| value.text().ok());
            if let (Some(process), false) = (process, heard.changes.is_empty()) {
                heard.processes.insert(format!("{} ({process})", name.unwrap_or_default()));
            }
            continue;
        }
        // The first attribute of every other event is the name of the table.
        if attributes
            .find(1)
            .ok()
            .flatten()
            .is_some_and(|Value(name)| name.strip_suffix(b"\0") == Some(TABLE.as_bytes()))
            && let Some(family) = family_name(family)
        {
            heard.changes.insert(format!("{}, table {family} {TABLE}", what(message.kind)));
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
        command::NEWTABLE => "table added or changed",
        command::DELTABLE => "table removed",
        command::NEWCHAIN => "chain added or changed",
        command::DELCHAIN => "chain removed",
        command::NEWRULE => "rule added",
        command::DELRULE => "rule removed",
        command::NEWSET => "set added",
        command::DELSET => "set removed",
        command::NEWSETELEM => "element added",
        command::DELSETELEM => "element removed",
        _ => "something changed",
    }
}
