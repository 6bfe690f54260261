//! What the session of BFD beside that of BGP means to a peer (RFC 5882).
//!
//! | BFD | session of BGP | outcome |
//! | --- | --- | --- |
//! | comes up, or never does | any | none: it holds no session back (section 4.1) |
//! | up -> down, the peer said AdminDown | any | none (sections 3.2 and 4.2) |
//! | up -> down else | Established | ends, BFD Down (RFC 9384); no route outlives it, as section 4.3.2.2 has it |
//! | up -> down else | gone, and routes are kept | C: they go (4.3.1). Else they stay: it shared the fate of the control plane (4.3.2) |

use std::collections::BTreeSet;

use cambric_bfd::{Down, Status};

use super::{Context, Effect, End, Peer};
use crate::wire::Notification;
use crate::wire::notification::{cease, code};

impl Peer {
    /// How its session of BFD is now; `None`: there is none.
    pub(crate) fn handle_bfd(&mut self, cx: &mut Context<'_>, status: Option<Status>) {
        let before = std::mem::replace(&mut self.bfd, status);
        let Some(down) = self.bfd.as_ref().and_then(|status| news(before.as_ref(), status)) else { return };
        if !down.cause.is_failure() {
            return;
        }
        match self.established().map(|(conn, _, since)| (conn, since)) {
            // A session that came after that is a sign of life.
            Some((_, since)) if since > down.at => {}
            Some((conn, ..)) => {
                let notification = Notification::new(code::CEASE, cease::BFD_DOWN);
                self.reason.note(cx.now, format!("sent {notification}: {}", down.cause));
                // Where both keep routes over a NOTIFICATION, this one is none of those (RFC 9384 section 3).
                self.fail_quietly(cx, conn, &self.worded(conn, &notification, End::Leave));
            }
            None if down.control_plane_independent && self.helper.give_up() => {
                cx.effects.push(Effect::Down { kept: BTreeSet::new() });
            }
            None => {}
        }
    }
}

/// How it was lost, if that is news.
fn news(before: Option<&Status>, status: &Status) -> Option<Down> {
    let same = before.filter(|before| before.discriminator == status.discriminator);
    status.last_down.filter(|_| status.downs > same.map_or(0, |before| before.downs))
}
