//! What goes wrong, as a real outage shows it. What takes the whole server away is at [`crate::ApiServer`].

use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::kind::Resource;
use crate::path::Target;
use crate::server::Verb;
use crate::store::State;

/// A state of the cluster to go back to.
#[derive(Debug, Clone)]
pub struct Mark(pub(crate) Arc<State>);

impl Mark {
    /// The version of then.
    pub fn version(&self) -> u64 {
        self.0.version()
    }
}

/// One way in which the server misbehaves, towards every client, from [`Faults::set`] to [`Faults::clear`].
#[derive(Debug, Clone)]
pub enum Fault {
    /// Every request is answered this much later.
    Latency(Duration),
    /// Every request is answered 429, with this time in `Retry-After`.
    Throttle {
        /// Rounded up to seconds.
        retry_after: Duration,
    },
    /// 403 for a verb of a resource, as when a role lacks it.
    Refuse {
        /// `list`; `*`: all.
        verb: &'static str,
        /// Plural name, `nodes/status` for a subresource; `*`: all.
        resource: &'static str,
    },
    /// 401 for everybody, as when tokens or certificates have run out.
    Unauthorized,
    /// 500 for everything, as when etcd has lost its quorum.
    ServerError,
    /// A watch is cut after so many octets: in the middle of an event unless that number happens to be a boundary.
    /// Octets count from when the watch begins or, for those that are open, from now.
    TornWatch {
        /// Of the body.
        after_octets: usize,
    },
    /// Watches, those that are open too, send not one octet more, as when the network in between has lost the connection.
    /// They stay dead when the fault is over; new ones then work.
    HangingWatch,
    /// The server that answers is behind: lists show an older state with its older version, and so do watches that
    /// begin, which then show nothing new. When the fault is over it catches up. Watches that are open are not
    /// concerned: [`crate::ApiServer::restart`] makes clients come to the server that is behind.
    StaleLists(Mark),
    /// Watches of this resource from any version are answered with 410 `Expired` as an event in the stream.
    Expired {
        /// Plural name; `*`: all.
        resource: &'static str,
    },
    /// Watches of this resource from any version are answered with HTTP 410, as by servers without watch cache.
    ExpiredOutright {
        /// Plural name; `*`: all.
        resource: &'static str,
    },
    /// What comes of `sendInitialEvents=true`.
    StreamingLists(StreamingLists),
}

/// Kinds of servers by what they make of `sendInitialEvents`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StreamingLists {
    /// Synthetic `ADDED` events, then a bookmark annotated `k8s.io/initial-events-end` (1.32 and newer).
    #[default]
    Works,
    /// An `ERROR` event inside a 200: the storage cannot do it.
    RefusedInStream,
    /// 422 `Invalid`: the feature is off (1.27 to 1.31).
    Refused,
    /// The parameter is not known (before 1.27): 422 `Invalid` because of the `resourceVersionMatch` beside it.
    Unknown,
}

impl Fault {
    /// Whether several of this sort can be set at once.
    fn is_one_of_many(&self) -> bool {
        matches!(self, Fault::Refuse { .. } | Fault::Expired { .. } | Fault::ExpiredOutright { .. })
    }
}

/// The faults that are set.
#[derive(Debug)]
pub struct Faults(watch::Sender<Active>);

impl Faults {
    pub(crate) fn new() -> Faults {
        Faults(watch::Sender::new(Active::default()))
    }

    /// From now on. Takes the place of an earlier one of its sort; refusals and expiries add up.
    pub fn set(&self, fault: Fault) {
        self.0.send_modify(|active| {
            if !fault.is_one_of_many() {
                active.faults.retain(|other| discriminant(other) != discriminant(&fault));
            }
            if matches!(fault, Fault::HangingWatch) {
                active.hung += 1;
            }
            active.faults.push(fault);
        });
    }

    /// No fault from now on.
    pub fn clear(&self) {
        self.0.send_modify(|active| active.faults.clear());
    }

    pub(crate) fn now(&self) -> Active {
        self.0.borrow().clone()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<Active> {
        self.0.subscribe()
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Active {
    faults: Vec<Fault>,
    /// How often all watches were hung: one that began at another count is dead.
    pub(crate) hung: u64,
}

impl Active {
    fn find<T>(&self, wanted: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        self.faults.iter().find_map(wanted)
    }

    pub(crate) fn latency(&self) -> Option<Duration> {
        self.find(|fault| if let Fault::Latency(time) = fault { Some(*time) } else { None })
    }

    pub(crate) fn throttle(&self) -> Option<Duration> {
        self.find(|fault| if let Fault::Throttle { retry_after } = fault { Some(*retry_after) } else { None })
    }

    pub(crate) fn is_unauthorized(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault, Fault::Unauthorized))
    }

    pub(crate) fn is_server_error(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault, Fault::ServerError))
    }

    pub(crate) fn hangs_watches(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault, Fault::HangingWatch))
    }

    pub(crate) fn torn_after(&self) -> Option<usize> {
        self.find(
            |fault| if let Fault::TornWatch { after_octets } = fault { Some(*after_octets) } else { None },
        )
    }

    pub(crate) fn stale(&self) -> Option<Mark> {
        self.find(|fault| if let Fault::StaleLists(mark) = fault { Some(mark.clone()) } else { None })
    }

    pub(crate) fn streaming_lists(&self) -> StreamingLists {
        self.find(|fault| if let Fault::StreamingLists(way) = fault { Some(*way) } else { None })
            .unwrap_or_default()
    }

    pub(crate) fn expires(&self, resource: &Resource) -> Option<Expiry> {
        let is_meant = |name: &str| name == "*" || name == &*resource.plural;
        self.find(|fault| match fault {
            Fault::Expired { resource } if is_meant(resource) => Some(Expiry::InStream),
            Fault::ExpiredOutright { resource } if is_meant(resource) => Some(Expiry::Outright),
            _ => None,
        })
    }

    pub(crate) fn refuses(&self, verb: Verb, target: &Target) -> bool {
        let full = match &target.subresource {
            None => target.resource.plural.to_string(),
            Some(subresource) => format!("{}/{subresource}", target.resource.plural),
        };
        let is = |wanted: &str, name: &str| wanted == "*" || wanted == name;
        self.faults.iter().any(|fault| {
            matches!(fault, Fault::Refuse { verb: one, resource } if is(one, verb.name()) && is(resource, &full))
        })
    }
}

/// How 410 is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    InStream,
    Outright,
}
