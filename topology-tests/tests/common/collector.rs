//! A station of the BGP Monitoring Protocol in the namespace of a node, with a parser that is not ours.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bgpkit_parser::Elementor;
use bgpkit_parser::bmp::messages::{BmpMessage, BmpMessageBody, BmpPeerType, PerPeerFlags};
use bgpkit_parser::bmp::parse_bmp_msg;
use bgpkit_parser::models::{Asn, BgpMessage, ElemType};
use cambric_lab::{Node, poll};

const LIMIT: Duration = Duration::from_secs(30);

/// A table of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    /// What a peer told, before our policy.
    Before(IpAddr),
    /// And behind it.
    After(IpAddr),
    /// What was chosen.
    Chosen,
}

/// What it knows.
pub(crate) struct Collector {
    listener: TcpListener,
    stream: Option<TcpStream>,
    unread: Vec<u8>,
    pub(crate) tables: BTreeMap<Table, BTreeSet<String>>,
    pub(crate) messages: usize,
}

impl Collector {
    /// Listens where the node's manifest says that it does.
    pub(crate) fn listen(node: &Node, at: SocketAddr) -> Result<Collector> {
        let listener = node.in_netns(|| TcpListener::bind(at))??;
        listener.set_nonblocking(true)?;
        Ok(Collector { listener, stream: None, unread: Vec::new(), tables: BTreeMap::new(), messages: 0 })
    }

    /// Reads until what it knows is as wanted.
    pub(crate) fn until(&mut self, what: &str, wanted: impl Fn(&Collector) -> bool) -> Result<()> {
        let seen = poll::until_some(what, LIMIT, || {
            self.read()?;
            Ok(wanted(self).then_some(()))
        });
        seen.with_context(|| format!("{} messages; {:?}", self.messages, self.tables))
    }

    /// How many routes are in all tables of a sort.
    pub(crate) fn count(&self, of: impl Fn(&Table) -> bool) -> usize {
        self.tables.iter().filter(|(table, _)| of(table)).map(|(_, routes)| routes.len()).sum()
    }

    fn read(&mut self) -> Result<()> {
        if self.stream.is_none() {
            let Ok((stream, _)) = self.listener.accept() else { return Ok(()) };
            stream.set_nonblocking(true)?;
            self.stream = Some(stream);
        }
        let Some(stream) = &mut self.stream else { return Ok(()) };
        match stream.read_to_end(&mut self.unread) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
            // A new connection tells everything anew.
            Ok(_) => {
                (self.stream, self.tables) = (None, BTreeMap::new());
                self.unread.clear();
            }
        }
        while let Some(length) = self.whole() {
            let message: Vec<u8> = self.unread.drain(..length).collect();
            let message = parse_bmp_msg(&mut message.into()).map_err(|error| anyhow!("{error}"))?;
            self.messages += 1;
            self.take(message);
        }
        Ok(())
    }

    /// The length of the next message, if it is here.
    fn whole(&self) -> Option<usize> {
        let [_, a, b, c, d, ..] = self.unread[..] else { return None };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
        (self.unread.len() >= length).then_some(length)
    }

    fn take(&mut self, message: BmpMessage) {
        let Some(header) = message.per_peer_header else { return };
        let after = matches!(header.peer_flags, PerPeerFlags::PeerFlags(flags) if flags.is_post_policy());
        let table = match (header.peer_type, after) {
            (BmpPeerType::LocalRib, _) => Table::Chosen,
            (_, false) => Table::Before(header.peer_ip),
            (_, true) => Table::After(header.peer_ip),
        };
        match message.message_body {
            BmpMessageBody::PeerDownNotification(_) => {
                let gone = [Table::Before(header.peer_ip), Table::After(header.peer_ip)];
                self.tables.retain(|table, _| !gone.contains(table));
            }
            BmpMessageBody::RouteMonitoring(route) => {
                let BgpMessage::Update(update) = route.bgp_message else { return };
                let routes = self.tables.entry(table).or_default();
                let anybody = (header.peer_ip, Asn::new_32bit(1));
                for element in Elementor::bgp_update_to_elems(update, 0.0, &anybody.0, &anybody.1) {
                    let prefix = element.prefix.prefix.to_string();
                    match element.elem_type {
                        ElemType::ANNOUNCE => drop(routes.insert(prefix)),
                        ElemType::WITHDRAW => drop(routes.remove(&prefix)),
                    }
                }
            }
            _ => {}
        }
    }
}
