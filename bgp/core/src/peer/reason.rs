//! Why connections to a peer end: what the operator reads.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Identity;
use crate::types::HoldTime;
use crate::wire::Notification;
use crate::wire::notification::{code, open};

/// Why a connection or session ended last, or what was wrong with an UPDATE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// When.
    pub at: Instant,
    /// In words, whose fault first.
    pub what: String,
}

/// The last reason of a peer.
#[derive(Debug)]
pub(crate) struct Reason {
    peer: IpAddr,
    pub(crate) last: Option<LastError>,
    /// When one side told the other what is wrong, if that is the last reason and nothing has settled it since.
    told_at: Option<Instant>,
}

impl Reason {
    /// How long a peer may turn us away without a word because of what was said before: BIRD does so for up
    /// to five minutes after an error.
    const SULKING: Duration = Duration::from_secs(300);

    pub(crate) fn of(peer: IpAddr) -> Reason {
        Reason { peer, last: None, told_at: None }
    }

    /// A connection or an attempt ended.
    pub(crate) fn note(&mut self, now: Instant, what: String) {
        tracing::debug!(peer = %self.peer, error = %what, "connection ended");
        self.told_at = None;
        self.last = Some(LastError { at: now, what });
    }

    /// It ended with a NOTIFICATION, sent or received, over a fault.
    pub(crate) fn note_told(&mut self, now: Instant, what: String) {
        self.note(now, what);
        self.told_at = Some(now);
    }

    /// It ended without a word before there was a session: no news while a reason is known.
    pub(crate) fn note_silent(&mut self, now: Instant, what: &str) {
        if self.told_at.is_none_or(|at| now.duration_since(at) > Self::SULKING) {
            self.note(now, what.to_owned());
        }
    }

    /// A session is up, or the operator has changed something: what ends now ends for a reason of its own.
    pub(crate) fn settle(&mut self) {
        self.told_at = None;
    }
}

/// The field of our OPEN, or the attribute, that the peer finds fault with.
pub(crate) fn about(notification: &Notification, identity: &Identity, hold_time: HoldTime) -> Option<String> {
    match (notification.code, notification.subcode) {
        (code::OPEN, open::BAD_PEER_AS) => Some(format!("we announced AS {}", identity.asn)),
        (code::OPEN, open::BAD_BGP_IDENTIFIER) => {
            Some(format!("we announced identifier {}", identity.router_id))
        }
        (code::OPEN, open::UNACCEPTABLE_HOLD_TIME) => {
            Some(format!("we proposed a hold time of {} s", hold_time.as_secs()))
        }
        _ => notification.attribute(),
    }
}
