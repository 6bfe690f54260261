//! NOTIFICATION: why a session ends (RFC 4271 section 4.5), in codes and in words.

use std::borrow::Cow;
use std::fmt;

use super::attribute;

/// Error code, subcode and data of a NOTIFICATION.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Error code; 1 to 8 are known today.
    pub code: u8,
    /// Meaning depends on the code; 0 is "unspecific".
    pub subcode: u8,
    /// What the error was found in; free text for a shutdown (RFC 9003).
    pub data: Vec<u8>,
}

/// Error codes (RFC 4271 section 4.5, RFC 7313 section 5, RFC 9687 section 5).
pub mod code {
    #![allow(missing_docs, reason = "the names are those of the RFCs")]
    pub const MESSAGE_HEADER: u8 = 1;
    pub const OPEN: u8 = 2;
    pub const UPDATE: u8 = 3;
    pub const HOLD_TIMER_EXPIRED: u8 = 4;
    pub const FSM: u8 = 5;
    pub const CEASE: u8 = 6;
    pub const ROUTE_REFRESH: u8 = 7;
    pub const SEND_HOLD_TIMER_EXPIRED: u8 = 8;
}

/// Subcodes of Message Header Error (RFC 4271 section 6.1).
pub mod header {
    #![allow(missing_docs, reason = "the names are those of the RFC")]
    pub const NOT_SYNCHRONIZED: u8 = 1;
    pub const BAD_LENGTH: u8 = 2;
    pub const BAD_TYPE: u8 = 3;
}

/// Subcodes of OPEN Message Error (RFC 4271 section 6.2).
pub mod open {
    #![allow(missing_docs, reason = "the names are those of the RFC")]
    pub const UNSPECIFIC: u8 = 0;
    pub const UNSUPPORTED_VERSION: u8 = 1;
    pub const BAD_PEER_AS: u8 = 2;
    pub const BAD_BGP_IDENTIFIER: u8 = 3;
    pub const UNSUPPORTED_PARAMETER: u8 = 4;
    pub const UNACCEPTABLE_HOLD_TIME: u8 = 6;
    /// RFC 5492 section 3
    pub const UNSUPPORTED_CAPABILITY: u8 = 7;
    /// RFC 9234 section 4.2
    pub const ROLE_MISMATCH: u8 = 11;
}

/// Subcodes of UPDATE Message Error (RFC 4271 section 6.3).
pub mod update {
    #![allow(missing_docs, reason = "the names are those of the RFC")]
    pub const MALFORMED_ATTRIBUTE_LIST: u8 = 1;
    pub const UNRECOGNIZED_WELL_KNOWN: u8 = 2;
    pub const MISSING_WELL_KNOWN: u8 = 3;
    pub const ATTRIBUTE_FLAGS: u8 = 4;
    pub const ATTRIBUTE_LENGTH: u8 = 5;
    pub const INVALID_ORIGIN: u8 = 6;
    pub const INVALID_NEXT_HOP: u8 = 8;
    pub const OPTIONAL_ATTRIBUTE: u8 = 9;
    pub const INVALID_NETWORK_FIELD: u8 = 10;
    pub const MALFORMED_AS_PATH: u8 = 11;
}

/// Subcodes of ROUTE-REFRESH Message Error (RFC 7313 section 5).
pub mod refresh {
    #![allow(missing_docs, reason = "the names are those of the RFC")]
    pub const INVALID_LENGTH: u8 = 1;
}

/// Subcodes of Finite State Machine Error (RFC 6608 section 3).
pub mod fsm {
    #![allow(missing_docs, reason = "the names are those of the RFC")]
    pub const OPEN_SENT: u8 = 1;
    pub const OPEN_CONFIRM: u8 = 2;
    pub const ESTABLISHED: u8 = 3;
}

/// Subcodes of Cease (RFC 4486 section 4, RFC 8538 section 3).
pub mod cease {
    #![allow(missing_docs, reason = "the names are those of the RFCs")]
    pub const MAXIMUM_PREFIXES: u8 = 1;
    pub const ADMINISTRATIVE_SHUTDOWN: u8 = 2;
    pub const PEER_DECONFIGURED: u8 = 3;
    pub const ADMINISTRATIVE_RESET: u8 = 4;
    pub const CONNECTION_REJECTED: u8 = 5;
    pub const OTHER_CONFIGURATION_CHANGE: u8 = 6;
    pub const CONNECTION_COLLISION: u8 = 7;
    pub const OUT_OF_RESOURCES: u8 = 8;
    pub const HARD_RESET: u8 = 9;
    pub const BFD_DOWN: u8 = 10;
}

impl Notification {
    /// Without data.
    pub fn new(code: u8, subcode: u8) -> Notification {
        Notification { code, subcode, data: Vec::new() }
    }

    /// With data.
    pub fn with(code: u8, subcode: u8, data: impl Into<Vec<u8>>) -> Notification {
        Notification { code, subcode, data: data.into() }
    }

    /// From the body of a message; the frame has made sure of two octets.
    pub fn decode(body: &[u8]) -> Notification {
        let (code, subcode) = (body.first().copied().unwrap_or(0), body.get(1).copied().unwrap_or(0));
        Notification { code, subcode, data: body.get(2..).unwrap_or_default().to_vec() }
    }

    /// The same as a Hard Reset: whoever gets it keeps no routes, though both agreed that other NOTIFICATIONs leave them
    /// (RFC 8538 section 3).
    pub(crate) fn hard(&self) -> Notification {
        let mut data = vec![self.code, self.subcode];
        data.extend_from_slice(&self.data);
        Notification { code: code::CEASE, subcode: cease::HARD_RESET, data }
    }

    /// Whether it is one that no route outlives.
    pub fn is_hard_reset(&self) -> bool {
        self.code == code::CEASE && self.subcode == cease::HARD_RESET
    }

    /// What a Hard Reset stands for, if its data says so; itself for every other.
    pub fn meant(&self) -> Cow<'_, Notification> {
        if !self.is_hard_reset() || self.data.len() < 2 {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Notification::decode(&self.data))
    }

    /// The text a peer gave with its shutdown, made safe for a terminal and a log (RFC 9003 section 2).
    pub fn shutdown_text(&self) -> Option<String> {
        let is_shutdown = self.code == code::CEASE
            && matches!(self.subcode, cease::ADMINISTRATIVE_SHUTDOWN | cease::ADMINISTRATIVE_RESET);
        let (&length, text) = self.data.split_first().filter(|_| is_shutdown)?;
        let text = text.get(..usize::from(length))?;
        let text: String = String::from_utf8_lossy(text).chars().flat_map(char::escape_debug).collect();
        (!text.is_empty()).then_some(text)
    }

    /// The attribute that an UPDATE error names in its data (RFC 4271 section 6.3), if it names one.
    pub fn attribute(&self) -> Option<String> {
        let at = match (self.code, self.subcode) {
            (
                code::UPDATE,
                update::MALFORMED_ATTRIBUTE_LIST | update::INVALID_NETWORK_FIELD | update::MALFORMED_AS_PATH,
            ) => return None,
            (code::UPDATE, update::MISSING_WELL_KNOWN) => 0,
            (code::UPDATE, _) => 1, // behind the flags
            _ => return None,
        };
        self.data.get(at).map(|attribute| attribute::name(*attribute).into_owned())
    }

    fn name(&self) -> (&'static str, Option<&'static str>) {
        let subcode = match (self.code, self.subcode) {
            (1, 1) => Some("Connection Not Synchronized"),
            (1, 2) => Some("Bad Message Length"),
            (1, 3) => Some("Bad Message Type"),
            (2, 1) => Some("Unsupported Version Number"),
            (2, 2) => Some("Bad Peer AS"),
            (2, 3) => Some("Bad BGP Identifier"),
            (2, 4) => Some("Unsupported Optional Parameter"),
            (2, 6) => Some("Unacceptable Hold Time"),
            (2, 7) => Some("Unsupported Capability"),
            (2, 11) => Some("Role Mismatch"),
            (3, 1) => Some("Malformed Attribute List"),
            (3, 2) => Some("Unrecognized Well-known Attribute"),
            (3, 3) => Some("Missing Well-known Attribute"),
            (3, 4) => Some("Attribute Flags Error"),
            (3, 5) => Some("Attribute Length Error"),
            (3, 6) => Some("Invalid ORIGIN Attribute"),
            (3, 8) => Some("Invalid NEXT_HOP Attribute"),
            (3, 9) => Some("Optional Attribute Error"),
            (3, 10) => Some("Invalid Network Field"),
            (3, 11) => Some("Malformed AS_PATH"),
            (5, 1) => Some("Unexpected Message in OpenSent"),
            (5, 2) => Some("Unexpected Message in OpenConfirm"),
            (5, 3) => Some("Unexpected Message in Established"),
            (6, 1) => Some("Maximum Number of Prefixes Reached"),
            (6, 2) => Some("Administrative Shutdown"),
            (6, 3) => Some("Peer De-configured"),
            (6, 4) => Some("Administrative Reset"),
            (6, 5) => Some("Connection Rejected"),
            (6, 6) => Some("Other Configuration Change"),
            (6, 7) => Some("Connection Collision Resolution"),
            (6, 8) => Some("Out of Resources"),
            (6, 9) => Some("Hard Reset"),
            (6, 10) => Some("BFD Down"),
            (7, 1) => Some("Invalid Message Length"),
            _ => None,
        };
        let code = match self.code {
            1 => "Message Header Error",
            2 => "OPEN Message Error",
            3 => "UPDATE Message Error",
            4 => "Hold Timer Expired",
            5 => "Finite State Machine Error",
            6 => "Cease",
            7 => "ROUTE-REFRESH Message Error",
            8 => "Send Hold Timer Expired",
            _ => "Unknown Error",
        };
        (code, subcode)
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Cow::Owned(meant) = self.meant()
            && !meant.is_hard_reset()
        {
            return write!(f, "{meant}, as a Hard Reset (6/9)");
        }
        let (code, subcode) = self.name();
        match subcode {
            Some(subcode) => write!(f, "{code}: {subcode} ({}/{})", self.code, self.subcode)?,
            None => write!(f, "{code} ({}/{})", self.code, self.subcode)?,
        }
        self.shutdown_text().map_or(Ok(()), |text| write!(f, " \"{text}\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shutdown_text_is_escaped() {
        let notification = Notification::with(6, 2, b"\x09hi\x1b[2J\n!!!".to_vec());
        assert_eq!(notification.to_string(), "Cease: Administrative Shutdown (6/2) \"hi\\u{1b}[2J\\n!!\"");
    }

    #[test]
    fn shutdown_text_longer_than_the_message_is_left_out() {
        let notification = Notification::with(6, 2, b"\xFFhi".to_vec());
        assert_eq!(notification.to_string(), "Cease: Administrative Shutdown (6/2)");
    }

    #[test]
    fn hard_reset_says_what_it_stands_for() {
        let shutdown = Notification::with(6, 2, b"\x02by".to_vec());
        let hard = shutdown.hard();
        assert_eq!((hard.code, hard.subcode, &hard.data[..]), (6, 9, &b"\x06\x02\x02by"[..]));
        assert_eq!(*hard.meant(), shutdown);
        let words = "Cease: Administrative Shutdown (6/2) \"by\", as a Hard Reset (6/9)";
        assert_eq!(hard.to_string(), words);
        assert_eq!(hard.hard().to_string(), "Cease: Hard Reset (6/9)");
        assert_eq!(Notification::with(6, 9, vec![6]).to_string(), "Cease: Hard Reset (6/9)");
    }

    #[test]
    fn unknown_codes_are_shown_by_number() {
        assert_eq!(Notification::new(77, 1).to_string(), "Unknown Error (77/1)");
    }
}
