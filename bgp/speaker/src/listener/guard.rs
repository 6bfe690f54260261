//! Who may knock: keys and least TTL of a socket that listens, kept as the router wants them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd;

use cambric_bgp::config::Password;
use cambric_bgp::router::ListenerOptions;
use cambric_bgp::{Family, Prefix};

use crate::socket::{in_words, option};

/// What the kernel has taken up to now.
#[derive(Debug)]
pub(crate) struct Guard {
    family: Family,
    keys: BTreeMap<Prefix, Password>,
    least_ttl: u8,
    /// What failed last, and was logged.
    told: Option<String>,
}

impl Guard {
    /// Of a socket of `family` that has nothing yet.
    pub(crate) fn new(family: Family) -> Guard {
        Guard { family, keys: BTreeMap::new(), least_ttl: 0, told: None }
    }

    /// Brings the socket to `wanted`. What fails is tried again the next time: until then the peers that it
    /// concerns cannot connect to us, for what is accepted gets the key once more, and is closed without it.
    pub(crate) fn follow(&mut self, socket: &impl AsFd, wanted: &ListenerOptions) {
        let failed = [self.follow_keys(socket, &wanted.keys), self.follow_ttl(socket, wanted)];
        let failed = failed.into_iter().find_map(Result::err);
        if failed.is_some() && failed != self.told {
            let error = failed.as_deref().unwrap_or_default();
            tracing::error!(error, family = %self.family, "peers that connect to us are turned away");
        }
        self.told = failed;
    }

    /// First what goes, so that there is room; then what comes.
    fn follow_keys(&mut self, socket: &impl AsFd, wanted: &BTreeMap<Prefix, Password>) -> Result<(), String> {
        let mut failed = Ok(());
        self.keys.retain(|peer, _| {
            let goes = !wanted.contains_key(peer);
            let gone = if goes { option::set_key(socket, *peer, None) } else { Ok(()) };
            let stays = !goes || gone.is_err();
            failed = std::mem::replace(&mut failed, Ok(())).and(gone);
            stays
        });
        for (peer, key) in wanted.iter().filter(|(peer, _)| peer.family() == self.family) {
            if self.keys.get(peer) != Some(key) {
                match option::set_key(socket, *peer, Some(key)) {
                    Ok(()) => drop(self.keys.insert(*peer, key.clone())),
                    Err(why) => failed = failed.and(Err(format!("{peer}: {why}"))),
                }
            }
        }
        failed
    }

    fn follow_ttl(&mut self, socket: &impl AsFd, wanted: &ListenerOptions) -> Result<(), String> {
        let least = wanted.least_ttl.get(&self.family).copied().unwrap_or(0);
        if least != self.least_ttl {
            let any: IpAddr = if self.family == Family::Ipv4 { [0; 4].into() } else { [0; 16].into() };
            let set = option::set_least_ttl(socket, any, least);
            set.map_err(|error| format!("TTL security: {}", in_words(error)))?;
            self.least_ttl = least;
        }
        Ok(())
    }
}
