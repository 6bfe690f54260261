//! What the driver's sockets must be like: those with one peer, and those that all peers connect to.

use std::collections::BTreeMap;

use super::Router;
use crate::config::{Password, PeerConfig, SocketOptions, Ttl};
use crate::prefix::{Family, Prefix};
use crate::types::ScopedAddress;

/// What the sockets that listen must be like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListenerOptions {
    /// Keys of TCP MD5, by the addresses at the other end; of several that hold an address the longest counts. Who has
    /// none connects without a signature.
    pub keys: BTreeMap<Prefix, Password>,
    /// The least TTL with which a packet may arrive (RFC 5082), for families all of whose peers have one: theirs is known only
    /// when they have connected.
    pub least_ttl: BTreeMap<Family, u8>,
}

impl Router {
    /// What a socket with the peer at `remote` must be like, whoever opened it; `None` if there is no such peer.
    pub fn socket_options(&self, remote: &ScopedAddress) -> Option<SocketOptions> {
        let peer = self.peers.get(self.by_address.get(remote)?)?;
        Some(self.options_of(remote, &peer.config))
    }

    /// What the sockets that listen must be like, by what [`Router::apply`] was told last.
    pub fn listener_options(&self) -> ListenerOptions {
        let mut options = ListenerOptions::default();
        for family in Family::ALL {
            let all: Vec<(Prefix, SocketOptions)> = self.may_connect(family).collect();
            let unsigned = all.iter().filter(|(_, of)| of.password.is_none());
            let unsigned: Vec<Prefix> = unsigned.map(|(prefix, _)| *prefix).collect();
            for (from, of) in &all {
                let Some(password) = &of.password else { continue };
                let inside =
                    unsigned.iter().filter(|hole| from.length() < hole.length() && from.covers(hole));
                let inside: Vec<Prefix> = inside.copied().collect();
                options.keys.extend(from.without(&inside).into_iter().map(|part| (part, password.clone())));
            }
            let least = all.iter().map(|(_, of)| match of.ttl {
                Ttl::Guarded { least } => least,
                Ttl::Usual | Ttl::Exactly(_) => 0,
            });
            options.least_ttl.extend(least.min().filter(|least| *least > 0).map(|least| (family, least)));
        }
        options
    }

    /// All from where peers may connect, shorter prefixes first: the part of a range that is another's is replaced.
    fn may_connect(&self, family: Family) -> impl Iterator<Item = (Prefix, SocketOptions)> {
        let ranges = self.wanted.listen_ranges.iter().map(|(range, of)| (*range, &of.template));
        let peers = self.wanted.peers.iter().map(|(address, config)| (Prefix::host(address.ip()), config));
        let mut all: Vec<(Prefix, &PeerConfig)> = ranges.chain(peers).collect();
        all.retain(|(prefix, _)| prefix.family() == family);
        all.sort_by_key(|(prefix, _)| prefix.length());
        all.into_iter().map(|(prefix, config)| (prefix, self.options_of(&prefix.address().into(), config)))
    }

    /// A link-local address is on the link of its scope, whatever the configuration says.
    pub(super) fn options_of(&self, remote: &ScopedAddress, config: &PeerConfig) -> SocketOptions {
        let options = config.transport.socket(config.kind(self.identity.asn));
        let interface = remote.interface().map(str::to_owned).or(options.interface);
        SocketOptions { interface, ..options }
    }
}
