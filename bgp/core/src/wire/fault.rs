//! What a peer did that its session does not survive.

use std::borrow::Cow;
use std::fmt;

use super::Notification;

/// A rule that the peer broke: the answer to it, and the words for our operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What the peer is told.
    pub notification: Notification,
    /// Which field or attribute, and what is wrong with it.
    pub what: Cow<'static, str>,
}

impl Fault {
    pub(crate) fn new(notification: Notification, what: impl Into<Cow<'static, str>>) -> Fault {
        Fault { notification, what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.notification, self.what)
    }
}
