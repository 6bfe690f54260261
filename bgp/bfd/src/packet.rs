//! Control packets (RFC 5880 section 4.1): octets to values and back.

use std::fmt;
use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

use thiserror::Error;

/// Names a session to the system that made it up.
pub type Discriminator = NonZeroU32;

/// Octets of a packet without authentication.
pub(crate) const BYTES: usize = 24;
/// With authentication there are two more, at least.
const AUTHENTICATED_BYTES: u8 = 26;
const VERSION: u8 = 1;

/// How it stands with a session (RFC 5880 section 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// An operator wants none; it says nothing about the path.
    AdminDown,
    /// Nothing is heard, or the other does not hear us.
    Down,
    /// It is heard, and is to say that it hears us.
    Init,
    /// Both hear each other.
    Up,
}

impl State {
    fn from_bits(bits: u8) -> State {
        match bits & 3 {
            0 => State::AdminDown,
            1 => State::Down,
            2 => State::Init,
            _ => State::Up,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::AdminDown => "AdminDown",
            State::Down => "Down",
            State::Init => "Init",
            State::Up => "Up",
        })
    }
}

/// Why a session changed its state last, as one side tells the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Diagnostic(pub u8);

impl Diagnostic {
    /// None.
    pub const NONE: Diagnostic = Diagnostic(0);
    /// Nothing was heard in time.
    pub const DETECTION_TIME_EXPIRED: Diagnostic = Diagnostic(1);
    /// The other side said that it is down.
    pub const NEIGHBOR_SIGNALED_DOWN: Diagnostic = Diagnostic(3);
    /// The operator wants none.
    pub const ADMINISTRATIVELY_DOWN: Diagnostic = Diagnostic(7);
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "No Diagnostic",
            1 => "Control Detection Time Expired",
            2 => "Echo Function Failed",
            3 => "Neighbor Signaled Session Down",
            4 => "Forwarding Plane Reset",
            5 => "Path Down",
            6 => "Concatenated Path Down",
            7 => "Administratively Down",
            8 => "Reverse Concatenated Path Down",
            other => return write!(f, "Diagnostic {other}"),
        })
    }
}

/// A control packet without authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Why the sender's session changed last.
    pub diagnostic: Diagnostic,
    /// Its state.
    pub state: State,
    /// It wants an answer at once (P).
    pub poll: bool,
    /// It is such an answer (F).
    pub is_final: bool,
    /// Its BFD goes on while its control plane does not (C).
    pub control_plane_independent: bool,
    /// It wants no packets while both are up (D).
    pub demand: bool,
    /// How many of its packets may be missed.
    pub multiplier: NonZeroU8,
    /// Its name of the session.
    pub my_discriminator: Discriminator,
    /// Our name of the session; absent while it has not heard it.
    pub your_discriminator: Option<Discriminator>,
    /// How often it would send, in microseconds.
    pub desired_min_tx: Duration,
    /// How often it can receive; zero: it wants no packets.
    pub required_min_rx: Duration,
}

/// Why a packet is not taken. In the order of looking, which is that of RFC 5881 section 5 and RFC 5880 section 6.8.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
pub enum Refusal {
    /// It may come from anywhere (RFC 5881 section 5).
    #[error("TTL or hop limit is not 255")]
    Ttl,
    /// There are too few octets for a packet.
    #[error("it is cut short")]
    Truncated,
    /// It is not of version 1.
    #[error("version is not 1")]
    Version,
    /// Its length is less than that of the fields it must have.
    #[error("length is too small")]
    LengthTooSmall,
    /// Its length is more than there are octets.
    #[error("length is more than there is")]
    LengthTooLarge,
    /// It would be down at once.
    #[error("detection multiplier is 0")]
    ZeroMultiplier,
    /// RFC 5880 reserves that.
    #[error("multipoint bit is set")]
    Multipoint,
    /// The sender has no name for the session.
    #[error("my discriminator is 0")]
    ZeroMyDiscriminator,
    /// It names a session that is not there (any more).
    #[error("your discriminator is of no session")]
    UnknownSession,
    /// It names a session that is with somebody else.
    #[error("its sender is not whom the session is with")]
    WrongSource,
    /// It names none of ours, and a session that is coming up or is up has heard our name.
    #[error("your discriminator is 0 in a session that is not down")]
    ZeroYourDiscriminator,
    /// Nobody wants a session with its sender.
    #[error("its sender is no neighbour")]
    UnknownNeighbor,
    /// Authentication (A) is not in use here.
    #[error("it is authenticated, and we have no keys")]
    Authenticated,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Refusal; 13] = [
        Refusal::Ttl,
        Refusal::Truncated,
        Refusal::Version,
        Refusal::LengthTooSmall,
        Refusal::LengthTooLarge,
        Refusal::ZeroMultiplier,
        Refusal::Multipoint,
        Refusal::ZeroMyDiscriminator,
        Refusal::UnknownSession,
        Refusal::WrongSource,
        Refusal::ZeroYourDiscriminator,
        Refusal::UnknownNeighbor,
        Refusal::Authenticated,
    ];
}

impl Packet {
    /// Reads the payload of a datagram, and whether it is authenticated: that is looked at when its session is known.
    ///
    /// # Errors
    /// As far as the octets alone show.
    pub(crate) fn decode(octets: &[u8]) -> Result<(Packet, Authentication), Refusal> {
        let Some(fields) = octets.first_chunk::<BYTES>() else { return Err(Refusal::Truncated) };
        let word =
            |at: usize| u32::from_be_bytes([fields[at], fields[at + 1], fields[at + 2], fields[at + 3]]);
        let (first, flags, multiplier, length) = (fields[0], fields[1], fields[2], fields[3]);
        let has = |flag: u8| flags & flag != 0;
        let authentication =
            if has(flag::AUTHENTICATION) { Authentication::Some } else { Authentication::None };
        let least = match authentication {
            Authentication::None => BYTES as u8,
            Authentication::Some => AUTHENTICATED_BYTES,
        };
        if first >> 5 != VERSION {
            return Err(Refusal::Version);
        }
        if length < least {
            return Err(Refusal::LengthTooSmall);
        }
        if usize::from(length) > octets.len() {
            return Err(Refusal::LengthTooLarge);
        }
        let multiplier = NonZeroU8::new(multiplier).ok_or(Refusal::ZeroMultiplier)?;
        if has(flag::MULTIPOINT) {
            return Err(Refusal::Multipoint);
        }
        let my_discriminator = Discriminator::new(word(4)).ok_or(Refusal::ZeroMyDiscriminator)?;
        let packet = Packet {
            diagnostic: Diagnostic(first & 0x1F),
            state: State::from_bits(flags >> 6),
            poll: has(flag::POLL),
            is_final: has(flag::FINAL),
            control_plane_independent: has(flag::CONTROL_PLANE_INDEPENDENT),
            demand: has(flag::DEMAND),
            multiplier,
            my_discriminator,
            your_discriminator: Discriminator::new(word(8)),
            desired_min_tx: Duration::from_micros(word(12).into()),
            required_min_rx: Duration::from_micros(word(16).into()),
        };
        Ok((packet, authentication))
    }

    /// Writes it; times beyond 71 minutes are cut to that, and we do no echo.
    pub fn encode(&self) -> [u8; BYTES] {
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX).to_be_bytes();
        let mut flags = (self.state as u8) << 6;
        for (is_set, flag) in [
            (self.poll, flag::POLL),
            (self.is_final, flag::FINAL),
            (self.control_plane_independent, flag::CONTROL_PLANE_INDEPENDENT),
            (self.demand, flag::DEMAND),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        let mut octets = [0; BYTES];
        octets[0] = VERSION << 5 | self.diagnostic.0 & 0x1F;
        octets[1] = flags;
        octets[2] = self.multiplier.get();
        octets[3] = BYTES as u8;
        octets[4..8].copy_from_slice(&self.my_discriminator.get().to_be_bytes());
        octets[8..12].copy_from_slice(&self.your_discriminator.map_or(0, Discriminator::get).to_be_bytes());
        octets[12..16].copy_from_slice(&micros(self.desired_min_tx));
        octets[16..20].copy_from_slice(&micros(self.required_min_rx));
        octets
    }
}

/// Whether a packet carries authentication (A).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Authentication {
    None,
    Some,
}

mod flag {
    pub(super) const POLL: u8 = 0x20;
    pub(super) const FINAL: u8 = 0x10;
    pub(super) const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
    pub(super) const AUTHENTICATION: u8 = 0x04;
    pub(super) const DEMAND: u8 = 0x02;
    pub(super) const MULTIPOINT: u8 = 0x01;
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// As bfdd 8.4 sends it while it is up and polls, with its 50 ms for echo.
    const OF_FRR: [u8; BYTES] = [
        0x20, 0xE8, 3, 24, 0x12, 0x34, 0x56, 0x78, 0x9A, 0xBC, 0xDE, 0xF0, 0, 0x04, 0x93, 0xE0, 0, 0, 0xC3,
        0x50, 0, 0, 0xC3, 0x50,
    ];

    fn changed(at: usize, octet: u8) -> Result<(Packet, Authentication), Refusal> {
        let mut octets = OF_FRR;
        octets[at] = octet;
        Packet::decode(&octets)
    }

    #[test]
    fn packet_of_another_implementation_is_read() {
        let expected = Packet {
            diagnostic: Diagnostic::NONE,
            state: State::Up,
            poll: true,
            is_final: false,
            control_plane_independent: true,
            demand: false,
            multiplier: NonZeroU8::new(3).expect("not 0"),
            my_discriminator: Discriminator::new(0x1234_5678).expect("not 0"),
            your_discriminator: Discriminator::new(0x9ABC_DEF0),
            desired_min_tx: Duration::from_millis(300),
            required_min_rx: Duration::from_millis(50),
        };
        assert_eq!(Packet::decode(&OF_FRR), Ok((expected, Authentication::None)));
        let mut ours = OF_FRR;
        ours[20..].copy_from_slice(&[0; 4]);
        assert_eq!(expected.encode(), ours, "but for echo, which we do not do");
    }

    #[test]
    fn each_check_refuses_by_name() {
        assert_eq!(Packet::decode(&OF_FRR[..23]), Err(Refusal::Truncated));
        assert_eq!(changed(0, 0x00), Err(Refusal::Version));
        assert_eq!(changed(0, 0x40), Err(Refusal::Version));
        assert_eq!(changed(3, 23), Err(Refusal::LengthTooSmall));
        assert_eq!(changed(3, 25), Err(Refusal::LengthTooLarge));
        assert_eq!(changed(2, 0), Err(Refusal::ZeroMultiplier));
        assert_eq!(changed(1, 0xC1), Err(Refusal::Multipoint));
        let mut nameless = OF_FRR;
        nameless[4..8].copy_from_slice(&[0; 4]);
        assert_eq!(Packet::decode(&nameless), Err(Refusal::ZeroMyDiscriminator));
    }

    #[test]
    fn authentication_needs_two_octets_more_and_is_told() {
        assert_eq!(changed(1, 0xC4), Err(Refusal::LengthTooSmall));
        let mut octets = [OF_FRR.as_slice(), &[1, 2]].concat();
        octets[1] = 0xC4;
        octets[3] = 26;
        let found = Packet::decode(&octets).map(|(_, authentication)| authentication);
        assert_eq!(found, Ok(Authentication::Some));
    }

    fn any_packet() -> impl Strategy<Value = Packet> {
        let state =
            prop_oneof![Just(State::AdminDown), Just(State::Down), Just(State::Init), Just(State::Up)];
        let flags = any::<[bool; 4]>();
        let numbers = (0_u8..32, 1_u8.., 1_u32.., any::<u32>(), any::<u32>(), any::<u32>());
        (state, flags, numbers).prop_map(|(state, flags, (diagnostic, multiplier, mine, yours, tx, rx))| {
            Packet {
                diagnostic: Diagnostic(diagnostic),
                state,
                poll: flags[0],
                is_final: flags[1],
                control_plane_independent: flags[2],
                demand: flags[3],
                multiplier: NonZeroU8::new(multiplier).expect("from 1"),
                my_discriminator: Discriminator::new(mine).expect("from 1"),
                your_discriminator: Discriminator::new(yours),
                desired_min_tx: Duration::from_micros(tx.into()),
                required_min_rx: Duration::from_micros(rx.into()),
            }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(packet in any_packet()) {
            prop_assert_eq!(Packet::decode(&packet.encode()), Ok((packet, Authentication::None)));
        }

        #[test]
        fn nothing_panics(octets in vec(any::<u8>(), 0..64)) {
            let _ = Packet::decode(&octets);
        }

        /// Random octets hardly get past the first checks.
        #[test]
        fn nothing_panics_that_begins_well(packet in any_packet(), at in 0..BYTES, octet in any::<u8>(), more in vec(any::<u8>(), 0..8)) {
            let mut octets = packet.encode().to_vec();
            octets[at] = octet;
            octets.extend(more);
            let _ = Packet::decode(&octets);
        }
    }
}
