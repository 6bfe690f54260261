//! How a peer is, as others see it: its state, who wanted it, and why a connection of its own is not taken.

use std::fmt;

use crate::prefix::Prefix;

/// The states of RFC 4271 section 8.2.2, of the connection that is furthest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerState {
    /// Nothing is attempted: the peer is disabled.
    Idle,
    /// Waiting for the next attempt, or for the peer's.
    Active,
    /// A TCP connection is being opened.
    Connect,
    /// Our OPEN is out.
    OpenSent,
    /// The peer's OPEN is in.
    OpenConfirm,
    /// Routes flow.
    Established,
}

impl fmt::Display for PeerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PeerState::Idle => "Idle",
            PeerState::Active => "Active",
            PeerState::Connect => "Connect",
            PeerState::OpenSent => "OpenSent",
            PeerState::OpenConfirm => "OpenConfirm",
            PeerState::Established => "Established",
        })
    }
}

/// Whether the operator lets a peer be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admin {
    /// It may have a session.
    Enabled,
    /// It may not, until the operator enables it: neither do we connect nor may it.
    Disabled,
}

/// Why somebody is a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerOrigin {
    /// Its address is configured.
    Configured,
    /// It connected from this listen range.
    Range(Prefix),
}

/// Why a connection from outside is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No peer with this address is configured, and no listen range holds it.
    UnknownPeer,
    /// As many peers as may be have come from its listen range.
    RangeFull,
    /// It comes from an address of ours.
    Ourselves,
    /// The peer shall not connect to us: we do to it.
    WeConnect,
    /// Two connections of this peer are there already.
    NoSlot,
    /// The operator has disabled this peer, and it was told so a moment ago.
    Disabled,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::UnknownPeer => "no peer of ours has this address, and no listen range holds it",
            Refused::RangeFull => "as many peers as may be have come from its listen range",
            Refused::Ourselves => "it comes from an address of ours",
            Refused::WeConnect => "we connect to this peer, and it may not to us (connect: Active)",
            Refused::NoSlot => "this peer has two connections already",
            Refused::Disabled => "this peer is disabled",
        })
    }
}
