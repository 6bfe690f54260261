//! Why connections to a peer end: what the operator reads.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Identity;
use crate::config::{Distance, PeerConfig, Transport};
use crate::prefix::Family;
use crate::types::ScopedAddress;
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
    peer: ScopedAddress,
    pub(crate) last: Option<LastError>,
    /// When one side told the other what is wrong, if that is the last reason and nothing has settled it since.
    told_at: Option<Instant>,
    /// What is in the log already, and since when; the oldest first.
    logged: VecDeque<(String, Instant)>,
}

impl Reason {
    /// How long a peer may turn us away without a word because of what was said before: BIRD does so for up
    /// to five minutes after an error.
    const SULKING: Duration = Duration::from_secs(300);
    /// When the log may have the same again.
    pub(crate) const LOG_AGAIN: Duration = Duration::from_secs(3600);
    /// Different reasons that the log may have in that time: words of the peer are among them.
    const MOST_LOGGED: usize = 8;

    pub(crate) fn of(peer: ScopedAddress) -> Reason {
        Reason { peer, last: None, told_at: None, logged: VecDeque::new() }
    }

    /// A connection or an attempt ended.
    pub(crate) fn note(&mut self, now: Instant, what: String) {
        tracing::debug!(address = %self.peer, error = %what, "connection ended");
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

    /// An attempt came to nothing: the log has it, once for each reason and not at each attempt.
    pub(crate) fn log_failed_attempt(&mut self, now: Instant, name: &str) {
        if self.is_news(now)
            && let Some(LastError { what, .. }) = &self.last
        {
            tracing::warn!(peer = %name, address = %self.peer, reason = %what, "no session with a peer");
        }
    }

    /// A session is up, and what was noted last is why it carries nothing.
    pub(crate) fn log_without_routes(&mut self, now: Instant, name: &str) {
        if self.is_news(now)
            && let Some(LastError { what, .. }) = &self.last
        {
            tracing::warn!(peer = %name, address = %self.peer, error = %what, "session carries no routes");
        }
    }

    /// A session ended: whoever hears of that logs why.
    pub(crate) fn log_by_other(&mut self, now: Instant) {
        self.is_news(now);
    }

    /// Whether the log has not had the last reason, and may have it; from now on it has.
    fn is_news(&mut self, now: Instant) -> bool {
        let Some(LastError { what, .. }) = &self.last else { return false };
        while self.logged.front().is_some_and(|(_, at)| now.duration_since(*at) >= Self::LOG_AGAIN) {
            self.logged.pop_front();
        }
        let is_news = self.logged.len() < Self::MOST_LOGGED && self.logged.iter().all(|(old, _)| old != what);
        if is_news {
            self.logged.push_back((what.clone(), now));
        }
        is_news
    }

    /// The operator has changed something: what is wrong now is worth a line, though it was wrong before.
    pub(crate) fn log_anew(&mut self) {
        self.logged.clear();
    }

    /// A session is up, or the operator has changed something: what ends now ends for a reason of its own.
    pub(crate) fn settle(&mut self) {
        self.told_at = None;
    }
}

/// Somebody took the connection, or made it, and then nothing was heard.
pub(super) fn no_open_came(transport: &Transport) -> String {
    format!("connected, but no OPEN came{}", perhaps(transport))
}

/// Why a peer that is alive might say nothing: what of our settings makes the kernel of one side drop what the other sends.
pub(crate) fn perhaps(transport: &Transport) -> String {
    let mut causes = Vec::new();
    if transport.password.is_some() {
        causes.push("the peer may have no key or another one (TCP MD5)".to_owned());
    }
    if let Distance::Within(hops) = transport.distance {
        let hops = hops.max(1);
        causes.push(format!(
            "the peer may be more than {hops} {} away, or not send with TTL 255 (TTL security)",
            if hops == 1 { "hop" } else { "hops" }
        ));
    }
    causes.iter().map(|cause| format!("; {cause}")).collect()
}

/// The field of our OPEN, or the attribute, that the peer finds fault with.
pub(crate) fn about(notification: &Notification, identity: &Identity, config: &PeerConfig) -> Option<String> {
    match (notification.code, notification.subcode) {
        (code::OPEN, open::BAD_PEER_AS) => Some(format!("we announced AS {}", config.own_asn(identity.asn))),
        (code::OPEN, open::BAD_BGP_IDENTIFIER) => {
            Some(format!("we announced identifier {}", identity.router_id))
        }
        (code::OPEN, open::UNACCEPTABLE_HOLD_TIME) => {
            Some(format!("we proposed a hold time of {} s", config.hold_time.as_secs()))
        }
        (code::OPEN, open::UNSUPPORTED_CAPABILITY) => {
            Some(format!("we offered {}", in_words(config.families.iter().copied())))
        }
        _ => notification.attribute(),
    }
}

/// `ipv4 and ipv6`
pub(crate) fn in_words(families: impl Iterator<Item = Family>) -> String {
    families.map(|family| family.to_string()).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_each_reason_once_and_never_many() {
        let now = Instant::now();
        let mut reason = Reason::of("192.0.2.1".parse().expect("address"));
        let mut lines = 0;
        for attempt in 0..100 {
            for what in ["connect: Connection refused", "connect: no answer"] {
                reason.note(now + Duration::from_secs(attempt), what.to_owned());
                lines += usize::from(reason.is_news(now + Duration::from_secs(attempt)));
            }
        }
        assert_eq!(lines, 2);
        // A peer may choose its words.
        for number in 0..1000 {
            reason.note(now, format!("received {number}"));
            lines += usize::from(reason.is_news(now));
        }
        assert_eq!(lines, Reason::MOST_LOGGED);
        let later = now + Reason::LOG_AGAIN;
        reason.note(later, "connect: Connection refused".to_owned());
        assert!(reason.is_news(later));
        assert!(!reason.is_news(later));
        reason.log_anew();
        assert!(reason.is_news(later));
    }
}
