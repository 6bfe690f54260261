//! What we are to an external neighbour (RFC 9234): who pays whom decides which routes may pass.

use std::fmt;

/// Our role towards a neighbour, and whether it must say its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalRole {
    /// What we are.
    pub role: Role,
    /// What a neighbour that says no role has.
    pub silence: Silence,
}

/// Whether a neighbour that says no role has a session (RFC 9234 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Silence {
    /// It has: our role alone decides what passes.
    #[default]
    Accepted,
    /// It has none: the "strict mode" of the RFC.
    Refused,
}

/// One side of an external session (RFC 9234 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Tells its customer all it knows.
    Provider,
    /// Passes routes on between its clients, and is no hop.
    RouteServer,
    /// Tells a route server its own and its customers' routes.
    RouteServerClient,
    /// Tells its provider its own and its customers' routes.
    Customer,
    /// Tells another network of its size its own and its customers' routes.
    Peer,
}

impl Role {
    /// All of them, by the number that each has on the wire (RFC 9234 section 4.1).
    const NUMBERED: [Role; 5] =
        [Role::Provider, Role::RouteServer, Role::RouteServerClient, Role::Customer, Role::Peer];

    /// `None` for a number that nobody has.
    pub fn from_octet(octet: u8) -> Option<Role> {
        Role::NUMBERED.get(usize::from(octet)).copied()
    }

    /// The number.
    pub(crate) fn octet(self) -> u8 {
        self as u8
    }

    /// What the other side must be (RFC 9234 section 4.2).
    pub fn counterpart(self) -> Role {
        match self {
            Role::Provider => Role::Customer,
            Role::Customer => Role::Provider,
            Role::RouteServer => Role::RouteServerClient,
            Role::RouteServerClient => Role::RouteServer,
            Role::Peer => Role::Peer,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Provider => "provider",
            Role::RouteServer => "route server",
            Role::RouteServerClient => "route server client",
            Role::Customer => "customer",
            Role::Peer => "peer",
        })
    }
}
