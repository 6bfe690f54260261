//! What is on the line: each target reads octets by one entrance of `cambric_bgp::wire`.

use cambric_bgp::attributes::AttributeTable;
use cambric_bgp::session::{Agreed, AsWidth, Session};
use cambric_bgp::wire::frame::{self, EXTENDED_MESSAGE_BYTES, HEADER_BYTES, STANDARD_MESSAGE_BYTES};
use cambric_bgp::wire::update::{write_announce, write_withdraw};
use cambric_bgp::wire::{MessageType, Nlri, Notification, Open, RouteRefresh, Update};
use cambric_bgp::{Family, Prefix};

use crate::input::Input;
use crate::session::sessions;

/// A stream that arrives in pieces is the same messages wherever it is cut, and ends with the same fault.
pub(crate) fn framing(octets: &[u8]) {
    let mut input = Input::new(octets);
    let most = if input.flag() { EXTENDED_MESSAGE_BYTES } else { STANDARD_MESSAGE_BYTES };
    let cuts = input.chunk();
    let stream = input.rest();
    let whole = messages(std::iter::once(stream), most);
    let mut pieces = Vec::new();
    let mut rest = stream;
    for cut in cuts {
        let (piece, behind) = rest.split_at(usize::from(*cut).min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    assert_eq!(messages(pieces.into_iter(), most), whole);
}

/// The messages of a stream, what ended it, and what is left of it.
fn messages<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    most: usize,
) -> (Vec<(MessageType, Vec<u8>)>, String, usize) {
    let (mut waiting, mut found) = (Vec::new(), Vec::new());
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            match frame::next(&waiting, most) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    assert!(frame.length <= most && frame.length == HEADER_BYTES + frame.body.len());
                    found.push((frame.kind, frame.body.to_vec()));
                    let length = frame.length;
                    waiting.drain(..length);
                }
                // What is in the buffer behind it differs with the cuts, and nobody looks at it.
                Err(fault) => return (found, fault.to_string(), 0),
            }
        }
    }
    (found, String::new(), waiting.len())
}

/// What was understood of an OPEN is understood again.
pub(crate) fn open(octets: &[u8]) {
    let Ok(open) = Open::decode(octets) else { return };
    let mut out = Vec::new();
    open.write(&mut out);
    let frame = frame::next(&out, STANDARD_MESSAGE_BYTES).expect("what we write is well-formed");
    let again = Open::decode(frame.expect("a whole message").body).expect("what we write is understood");
    assert_eq!((again.asn, again.hold_time, again.router_id), (open.asn, open.hold_time, open.router_id));
    // A capability that says less than it could is written in full.
    let mut out_again = Vec::new();
    again.write(&mut out_again);
    assert_eq!(out_again, out);
}

/// Two OPENs: both sides come to the same session.
pub(crate) fn capabilities(octets: &[u8]) {
    let mut input = Input::new(octets);
    let opens = [input.chunk(), input.rest()].map(Open::decode);
    let [Ok(one), Ok(other)] = opens else { return };
    agree(&Session::negotiate(&one, &other), &Session::negotiate(&other, &one));
}

fn agree(one: &Session, other: &Session) {
    let common = |session: &Session| {
        let Session { kind, as_width, hold_time, families, most_message_bytes, .. } = session.clone();
        let Session { route_refresh, enhanced_refresh, graceful_notification, .. } = session.clone();
        (
            (kind, as_width, hold_time, families, most_message_bytes),
            (route_refresh, enhanced_refresh, graceful_notification),
        )
    };
    assert_eq!(common(one), common(other));
    assert_eq!((&one.add_path.send, &one.add_path.receive), (&other.add_path.receive, &other.add_path.send));
    assert_eq!((&one.offered.ours, &one.offered.theirs), (&other.offered.theirs, &other.offered.ours));
}

/// Any body, under any session.
pub(crate) fn update(octets: &[u8]) {
    let mut input = Input::new(octets);
    let [session, _] = sessions(&mut input);
    let body = input.rest();
    let read = Update::decode(body, &session);
    // What came before changes nothing.
    let mut table = AttributeTable::default();
    for _ in 0..2 {
        assert_eq!(Update::decode_with(body, &session, &mut table), read);
    }
    match read {
        Err(fault) => assert!(!fault.to_string().is_empty()),
        Ok(update) => hold_true(&update, &session),
    }
}

/// What holds of everything that was read.
fn hold_true(update: &Update, session: &Session) {
    assert!(update.announced.len() <= 2);
    for one in &update.announced {
        let family = one.routes.first().expect("at least one route").prefix.family();
        assert!(session.families.contains(&family));
        assert!(one.routes.iter().all(|route| route.prefix.family() == family));
    }
    if let Some(family) = update.end_of_rib {
        assert!(update.withdrawn.is_empty() && update.announced.is_empty());
        assert!(family == Family::Ipv4 || session.families.contains(&family));
    }
    assert!(update.flaws.iter().all(|flaw| !flaw.to_string().is_empty()));
}

/// One attribute of any kind and shape beside good ones: no prefix of the message is lost without a word (RFC 7606
/// section 2).
pub(crate) fn attribute(octets: &[u8]) {
    let mut input = Input::new(octets);
    let [session, _] = sessions(&mut input);
    let (flags, code, is_first) = (input.octet(), input.octet(), input.flag());
    let value = input.rest();
    let mut good = vec![0x40, 1, 1, 0];
    let asn = session.peer_asn.value();
    match session.as_width {
        AsWidth::Four => {
            good.extend_from_slice(&[0x40, 2, 6, 2, 1]);
            good.extend_from_slice(&asn.to_be_bytes());
        }
        AsWidth::Two => {
            good.extend_from_slice(&[0x40, 2, 4, 2, 1]);
            good.extend_from_slice(&session.peer_asn.two_octets().to_be_bytes());
        }
    }
    good.extend_from_slice(&[0x40, 3, 4, 10, 2, 0, 2]);
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    let mut one = vec![flags | 0x10, code];
    one.extend_from_slice(&length.to_be_bytes());
    one.extend_from_slice(&value[..usize::from(length)]);
    let list = if is_first { [one, good].concat() } else { [good, one].concat() };
    let has_ids = session.add_path.receive.contains(&Family::Ipv4);
    let route = [if has_ids { &[0, 0, 0, 7][..] } else { &[] }, &[24, 198, 51, 100]].concat();
    let Ok(list_length) = u16::try_from(list.len()) else { return };
    let body = [&[0, 0][..], &list_length.to_be_bytes(), &list, &route].concat();
    let Ok(update) = Update::decode(&body, &session) else { return };
    hold_true(&update, &session);
    let prefix: Prefix = "198.51.100.0/24".parse().expect("a prefix");
    let is_it = |route: &Nlri| route.prefix == prefix;
    let is_announced = update.announced.iter().any(|one| one.routes.iter().any(is_it));
    let is_lost = update.withdrawn.iter().any(is_it);
    assert!(is_announced || is_lost || !session.families.contains(&Family::Ipv4), "{update:?}");
}

/// Prefixes in each of the four places where they stand; what was withdrawn can be withdrawn by us.
pub(crate) fn nlri(octets: &[u8]) {
    let mut input = Input::new(octets);
    let [session, teller] = sessions(&mut input);
    let (place, list) = (input.below(3), input.rest());
    let Ok(length) = u16::try_from(list.len() + 7) else { return };
    let afi = if place == 1 { 1 } else { 2 };
    let body = match place {
        0 => [&(length - 7).to_be_bytes()[..], list, &[0, 0]].concat(),
        _ => {
            let head = [0x90, 15, (length >> 8) as u8, length as u8];
            let value = length - 4;
            let head = [head[0], head[1], (value >> 8) as u8, value as u8, 0, afi, 1];
            [&[0, 0][..], &length.to_be_bytes(), &head, list].concat()
        }
    };
    let Ok(update) = Update::decode(&body, &session) else { return };
    hold_true(&update, &session);
    let mut out = Vec::new();
    write_withdraw(&mut out, &teller, &update.withdrawn);
    let mut again = Vec::new();
    for body in bodies(&out, &session) {
        again.extend(Update::decode(body, &session).expect("what we write is understood").withdrawn);
    }
    let is_spoken =
        update.withdrawn.first().is_some_and(|first| session.families.contains(&first.prefix.family()));
    if is_spoken {
        assert_eq!(again, update.withdrawn);
    }
}

/// The bodies of what was written.
fn bodies<'a>(octets: &'a [u8], session: &Session) -> Vec<&'a [u8]> {
    let mut rest = octets;
    let mut bodies = Vec::new();
    while let Some(frame) =
        frame::next(rest, session.most_message_bytes).expect("what we write is well-formed")
    {
        bodies.push(frame.body);
        rest = &rest[frame.length..];
    }
    assert!(rest.is_empty(), "half a message");
    bodies
}

/// What was read can be written by who told it, and is read as the same.
pub(crate) fn round_trip(octets: &[u8]) {
    let mut input = Input::new(octets);
    let [session, teller] = sessions(&mut input);
    let Ok(update) = Update::decode(input.rest(), &session) else { return };
    for one in &update.announced {
        let mut out = Vec::new();
        if write_announce(&mut out, &teller, &one.attributes, &one.routes).is_err() {
            continue; // a message that is full already has no room for what we add
        }
        let mut told = Vec::new();
        for body in bodies(&out, &session) {
            let again = Update::decode(body, &session).expect("what we write is understood");
            assert_eq!((&again.flaws, &again.withdrawn), (&vec![], &vec![]));
            for announcement in again.announced {
                let mut attributes = (**announcement.attributes).clone();
                // It is of the link between the two, and not told on.
                attributes.link_local = one.attributes.link_local;
                assert_eq!(attributes, **one.attributes);
                told.extend(announcement.routes);
            }
        }
        assert_eq!(told, one.routes);
    }
}

/// Why a session ended, in words that no terminal takes for orders.
pub(crate) fn notification(octets: &[u8]) {
    let notification = Notification::decode(octets);
    let words = format!("{notification} {:?} {:?}", notification.attribute(), notification.shutdown_text());
    assert!(!words.chars().any(char::is_control), "{words:?}");
    let meant = notification.meant();
    assert!(notification.is_hard_reset() || *meant == notification);
}

/// A request for routes, or a fault that says so.
pub(crate) fn refresh(octets: &[u8]) {
    for enhanced in [Agreed::Yes, Agreed::No] {
        match RouteRefresh::decode(octets, enhanced) {
            Ok(refresh) => assert!(octets.len() >= 4, "{refresh:?}"),
            Err(fault) => assert!(octets.len() < 4 || enhanced == Agreed::Yes, "{fault}"),
        }
    }
}
