//! The answer: a code and what was asked for.

use serde::{Deserialize, Serialize};

use crate::{
    Action, Check, Draining, Dump, Interface, LogFilter, Neighbor, Placed, PolicyPod, PolicyTable, Protocol,
    Route, RouteCount, Station, Status,
};

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Four digits; see the crate's head.
    pub code: u16,
    /// The release that answers; absent from the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The listing goes on in the next line.
    #[serde(default, skip_serializing_if = "is_false")]
    pub more: bool,
    /// What the reader of a listing should know besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The rest.
    #[serde(flatten)]
    pub body: Body,
}

/// What an answer holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::large_enum_variant, reason = "there is one reply at a time")]
pub enum Body {
    /// 0008 to 0012: by peer.
    Actions(Vec<Action>),
    /// 0014: by family.
    RouteCounts(Vec<RouteCount>),
    /// 0020, and 8002 if there are problems.
    Check(Check),
    /// 0024
    Placed(Placed),
    /// 0025, and 1026 where it was only asked for.
    Log(LogFilter),
    /// 0027 and 0028: what is drained now.
    Drain(Vec<Draining>),
    /// 0029
    Dump(Dump),
    /// 1000
    Status(Status),
    /// 1001
    Interfaces(Vec<Interface>),
    /// 1002
    Protocols(Vec<Protocol>),
    /// 1007, and 8001 if there is none to what was asked for.
    Routes(Vec<Route>),
    /// 1013
    Neighbors(Vec<Neighbor>),
    /// 1024
    Policy(PolicyTable),
    /// 1025
    PolicyPods(Vec<PolicyPod>),
    /// 1027
    Stations(Vec<Station>),
    /// 8xxx and 9xxx: one sentence for the operator.
    Error(String),
}

impl Reply {
    fn new(code: u16, body: Body) -> Reply {
        Reply { code, version: None, more: false, note: None, body }
    }

    /// Code of what happened to the peers, if the same to all; 0000 otherwise.
    pub fn actions(actions: Vec<Action>) -> Reply {
        let code = actions.first().map_or(0, |first| first.outcome.code());
        let is_common = actions.iter().all(|action| action.outcome.code() == code);
        Reply::new(if is_common { code } else { 0 }, Body::Actions(actions))
    }

    /// Code 0014.
    pub fn route_counts(counts: Vec<RouteCount>) -> Reply {
        Reply::new(14, Body::RouteCounts(counts))
    }

    /// Code 0020, or 8002 if it found problems.
    pub fn check(check: Check) -> Reply {
        Reply::new(if check.problems.is_empty() { 20 } else { 8002 }, Body::Check(check))
    }

    /// Code 0024.
    pub fn placed(interface: impl Into<String>) -> Reply {
        Reply::new(24, Body::Placed(Placed { interface: interface.into() }))
    }

    /// Code 0025: it is another one from now on.
    pub fn log_set(filter: LogFilter) -> Reply {
        Reply::new(25, Body::Log(filter))
    }

    /// Code 0027.
    pub fn drained(draining: Vec<Draining>) -> Reply {
        Reply::new(27, Body::Drain(draining))
    }

    /// Code 0028.
    pub fn undrained(draining: Vec<Draining>) -> Reply {
        Reply::new(28, Body::Drain(draining))
    }

    /// Code 0029.
    pub fn dump(dump: Dump) -> Reply {
        Reply::new(29, Body::Dump(dump))
    }

    /// Code 1026.
    pub fn log(filter: LogFilter) -> Reply {
        Reply::new(1026, Body::Log(filter))
    }

    /// Code 1000.
    pub fn status(status: Status) -> Reply {
        Reply::new(1000, Body::Status(status))
    }

    /// Code 1001.
    pub fn interfaces(interfaces: Vec<Interface>) -> Reply {
        Reply::new(1001, Body::Interfaces(interfaces))
    }

    /// Code 1002.
    pub fn protocols(protocols: Vec<Protocol>) -> Reply {
        Reply::new(1002, Body::Protocols(protocols))
    }

    /// Code 1007.
    pub fn routes(routes: Vec<Route>) -> Reply {
        Reply::new(1007, Body::Routes(routes))
    }

    /// Code 1013.
    pub fn neighbors(neighbors: Vec<Neighbor>) -> Reply {
        Reply::new(1013, Body::Neighbors(neighbors))
    }

    /// Code 1024.
    pub fn policy(table: PolicyTable) -> Reply {
        Reply::new(1024, Body::Policy(table))
    }

    /// Code 1025.
    pub fn policy_pods(pods: Vec<PolicyPod>) -> Reply {
        Reply::new(1025, Body::PolicyPods(pods))
    }

    /// Code 1027.
    pub fn stations(stations: Vec<Station>) -> Reply {
        Reply::new(1027, Body::Stations(stations))
    }

    /// Code 8001: no route holds what was asked for.
    pub fn no_route(to: impl std::fmt::Display) -> Reply {
        let note = Some(format!("no route to {to}"));
        Reply { note, ..Reply::new(8001, Body::Routes(Vec::new())) }
    }

    /// Code 8003: nothing of that name; `near` are names that may have been meant.
    pub fn no_such(what: &str, name: &str, near: &[String]) -> Reply {
        let near = match near {
            [] => String::new(),
            near => format!("; there is {}", near.join(", ")),
        };
        Reply::new(8003, Body::Error(format!("no {what} \"{name}\"{near}")))
    }

    /// Code 8004: what would have to do it stops, or has not started.
    pub fn unavailable(why: impl std::fmt::Display) -> Reply {
        Reply::new(8004, Body::Error(why.to_string()))
    }

    /// Code 8008: it was tried, and failed.
    pub fn failed(why: impl std::fmt::Display) -> Reply {
        Reply::new(8008, Body::Error(why.to_string()))
    }

    /// Code 8010: the pod is not judged by its policies yet, and closed so long.
    pub fn not_placed(why: impl std::fmt::Display) -> Reply {
        Reply::new(8010, Body::Error(why.to_string()))
    }

    /// Code 8011: the log's filter means nothing; the one before stays.
    pub fn bad_filter(why: impl std::fmt::Display) -> Reply {
        Reply::new(8011, Body::Error(why.to_string()))
    }

    /// Code 9001: not understood.
    pub fn not_understood(why: impl std::fmt::Display) -> Reply {
        Reply::new(9001, Body::Error(why.to_string()))
    }

    /// Whether it says that something is wrong.
    pub fn is_error(&self) -> bool {
        self.code >= 8000
    }

    /// Takes in the next piece of a listing.
    ///
    /// # Errors
    /// The piece, if it is none of this listing.
    pub fn append(&mut self, next: Reply) -> Result<(), Box<Reply>> {
        let Reply { code, version, more, note, body } = next;
        match (&mut self.body, body) {
            (Body::Routes(routes), Body::Routes(further)) => routes.extend(further),
            (_, body) => return Err(Box::new(Reply { code, version, more, note, body })),
        }
        self.more = more;
        self.note = note.or(self.note.take());
        Ok(())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}
