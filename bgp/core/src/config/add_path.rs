//! Several paths to a prefix (RFC 7911).

use std::num::NonZeroU8;

/// What of them is wanted of one family of a neighbour; by default nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AddPath {
    /// Whether it may tell us several.
    pub receive: Receive,
    /// How many it is told at most, the best ones; absent: one, without an identifier.
    pub send: Option<NonZeroU8>,
}

/// Whether a neighbour may tell several paths to a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Receive {
    /// It tells one.
    #[default]
    One,
    /// As many as it likes, up to 64.
    Several,
}

impl AddPath {
    /// How many the neighbour is told at most.
    pub(crate) fn most_sent(&self) -> usize {
        self.send.map_or(1, |most| usize::from(most.get()))
    }

    /// What the capability says of it: another number of paths needs no new session.
    pub(crate) fn offered(&self) -> AddPath {
        AddPath { send: self.send.map(|_| NonZeroU8::MIN), ..*self }
    }
}
