//! Framing: the 19-octet header and what may follow it (RFC 4271 section 4.1 and 6.1).

use super::fault::Fault;
use super::notification::{self, Notification, code};

/// Marker, length, type.
pub const HEADER_BYTES: usize = 19;
/// The longest message without RFC 8654, and of OPEN and KEEPALIVE with it.
pub const STANDARD_MESSAGE_BYTES: usize = 4096;
/// The longest message once both sides offered RFC 8654.
pub const EXTENDED_MESSAGE_BYTES: usize = 65535;

/// The type octet of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    /// 1
    Open,
    /// 2
    Update,
    /// 3
    Notification,
    /// 4
    Keepalive,
    /// 5 (RFC 2918)
    RouteRefresh,
}

impl std::fmt::Display for MessageType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            MessageType::Open => "OPEN",
            MessageType::Update => "UPDATE",
            MessageType::Notification => "NOTIFICATION",
            MessageType::Keepalive => "KEEPALIVE",
            MessageType::RouteRefresh => "ROUTE-REFRESH",
        })
    }
}

impl MessageType {
    fn from_octet(octet: u8) -> Option<MessageType> {
        Some(match octet {
            1 => MessageType::Open,
            2 => MessageType::Update,
            3 => MessageType::Notification,
            4 => MessageType::Keepalive,
            5 => MessageType::RouteRefresh,
            _ => return None,
        })
    }

    pub(crate) fn octet(self) -> u8 {
        match self {
            MessageType::Open => 1,
            MessageType::Update => 2,
            MessageType::Notification => 3,
            MessageType::Keepalive => 4,
            MessageType::RouteRefresh => 5,
        }
    }

    /// The lengths a message of this type may have, header included (RFC 4271 section 6.1).
    fn length_is_possible(self, length: usize) -> bool {
        match self {
            MessageType::Open => (29..=STANDARD_MESSAGE_BYTES).contains(&length),
            MessageType::Update => length >= 23,
            MessageType::Notification => length >= 21,
            MessageType::Keepalive => length == HEADER_BYTES,
            MessageType::RouteRefresh => length >= 23,
        }
    }
}

/// One message as it came, header taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the header said it is.
    pub kind: MessageType,
    /// All after the header.
    pub body: &'a [u8],
    /// Octets the message took from the stream.
    pub length: usize,
}

/// The first message in `stream`, `None` while it is not complete.
///
/// A wrong marker is reported as soon as one octet of it is seen: who speaks TLS to us need not be
/// waited for.
///
/// # Errors
/// What RFC 4271 section 6.1 asks to answer; the stream cannot be used any further.
pub fn next(stream: &[u8], most: usize) -> Result<Option<Frame<'_>>, Fault> {
    let marker = &stream[..stream.len().min(16)];
    if *marker != [0xFF; 16][..marker.len()] {
        let answer = Notification::new(code::MESSAGE_HEADER, notification::header::NOT_SYNCHRONIZED);
        return Err(Fault::new(
            answer,
            "no marker of ones before a message: it speaks no BGP, or lost its place",
        ));
    }
    let Some((header, rest)) = stream.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let (length, kind) = (u16::from_be_bytes([header[16], header[17]]), header[18]);
    let bad_length = || {
        let data = length.to_be_bytes();
        let answer = Notification::with(code::MESSAGE_HEADER, notification::header::BAD_LENGTH, data);
        Fault::new(
            answer,
            format!("a message of {length} octets and type {kind}, on a session for up to {most}"),
        )
    };
    if !(HEADER_BYTES..=most).contains(&usize::from(length)) {
        return Err(bad_length());
    }
    let bad_type = || {
        let answer = Notification::with(code::MESSAGE_HEADER, notification::header::BAD_TYPE, [kind]);
        Fault::new(answer, format!("a message of type {kind}"))
    };
    let kind = MessageType::from_octet(kind).ok_or_else(bad_type)?;
    if !kind.length_is_possible(length.into()) {
        return Err(bad_length());
    }
    let length = usize::from(length);
    Ok(rest.get(..length - HEADER_BYTES).map(|body| Frame { kind, body, length }))
}

/// The length of the first message in `messages`, which are of our own making.
pub(crate) fn length(messages: &[u8]) -> Option<usize> {
    let (header, _) = messages.split_first_chunk::<HEADER_BYTES>()?;
    Some(u16::from_be_bytes([header[16], header[17]]).into())
}

/// Appends a message to `out`: a header, then what `body` writes. The caller keeps it within the
/// longest message.
pub(crate) fn write(out: &mut Vec<u8>, kind: MessageType, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0xFF; 16]);
    out.extend_from_slice(&[0, 0, kind.octet()]);
    body(out);
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    out[start + 16..start + 18].copy_from_slice(&length.to_be_bytes());
}

/// Appends a KEEPALIVE.
pub fn write_keepalive(out: &mut Vec<u8>) {
    write(out, MessageType::Keepalive, |_| ());
}

/// Appends a NOTIFICATION, its data cut to what a standard message holds.
pub(crate) fn write_notification(out: &mut Vec<u8>, notification: &Notification) {
    write(out, MessageType::Notification, |out| {
        out.extend_from_slice(&[notification.code, notification.subcode]);
        let most = STANDARD_MESSAGE_BYTES - HEADER_BYTES - 2;
        out.extend_from_slice(&notification.data[..notification.data.len().min(most)]);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u16, kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xFF; 16];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn incomplete_messages_wait() {
        let keepalive = message(19, 4, &[]);
        for cut in 0..keepalive.len() {
            assert_eq!(next(&keepalive[..cut], STANDARD_MESSAGE_BYTES), Ok(None));
        }
        let frame = next(&keepalive, STANDARD_MESSAGE_BYTES).expect("good").expect("complete");
        assert_eq!((frame.kind, frame.length), (MessageType::Keepalive, 19));
    }

    #[test]
    fn wrong_marker_is_seen_at_the_first_octet() {
        let error = next(&[0x16, 0x03, 0x01], STANDARD_MESSAGE_BYTES).expect_err("no marker").notification;
        assert_eq!((error.code, error.subcode), (1, 1));
    }

    #[test]
    fn impossible_lengths_are_refused_with_the_length_as_data() {
        for (length, kind) in [(18, 4), (20, 4), (28, 1), (22, 2), (20, 3), (22, 5), (4097, 2), (0, 4)] {
            let error = next(&message(length, kind, &[0; 40]), STANDARD_MESSAGE_BYTES)
                .expect_err("length")
                .notification;
            assert_eq!((error.code, error.subcode), (1, 2), "{length} {kind}");
            assert_eq!(error.data, length.to_be_bytes());
        }
    }

    #[test]
    fn long_messages_pass_only_when_agreed_and_never_as_open() {
        let update = message(5000, 2, &[0; 5000]);
        assert!(next(&update, STANDARD_MESSAGE_BYTES).is_err());
        assert!(next(&update, EXTENDED_MESSAGE_BYTES).is_ok());
        assert!(next(&message(5000, 1, &[0; 5000]), EXTENDED_MESSAGE_BYTES).is_err());
    }
}
