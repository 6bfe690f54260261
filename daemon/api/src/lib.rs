//! The words that `cambricd` and `cambric` exchange.
//!
//! Over the control socket (`/run/cambric/cambricd.sock`) go JSON lines: one [`Request`], then one
//! [`Reply`], as often as the client likes. Each reply has a numeric code in the manner of birdc (its
//! `doc/reply_codes`), and birdc's own where it has one for the matter: 0xxx done, 1xxx here is what you
//! asked for, 8xxx it cannot be done now, 9xxx not understood.
//!
//! A long listing comes in several lines, each a reply of its own; all but the last say `"more":true`. So
//! the daemon holds a piece of it at a time and the speaker is asked for a piece at a time: a piece is of one
//! moment, the whole is not. [`Reply::append`] makes one of them again for a client that wants the whole.
//!
//! **Releases.** Fields are only ever added. Both sides pass over fields that they do not know, and a verb that the
//! daemon does not know is answered with 9001. Each line says which release wrote it ([`VERSION`]; the first release said
//! nothing), so that what is not understood can be told with both: by the daemon in the answer, by the CLI in its error.
//!
//! [`node`] is what both know about the node's disk: no words, but files that one leaves and the other removes.
//!
//! Times are whole seconds since the event, as a client has no use for the daemon's clock.
#![forbid(unsafe_code)]

mod action;
mod drain;
mod dump;
mod line;
mod link;
mod log;
pub mod node;
mod policy;
mod protocol;
mod reply;
mod request;
mod route;
mod station;
mod status;

pub use action::{Action, Check, Outcome};
pub use drain::{Drainable, Draining};
pub use dump::Dump;
pub use line::{LineError, MOST_LINE_BYTES, read_line, write_line};
pub use link::{Interface, Neighbor};
pub use log::LogFilter;
pub use policy::{
    Count, Denial, Denied, Placed, Policy, PolicyDirection, PolicyPod, PolicyStatus, PolicyTable, Repairs,
};
pub use protocol::{
    AddPath, Bfd, BfdRemote, FamilyCounts, FamilyFilters, GracefulRestart, LastError, Protocol, Session,
    Settings, Stale,
};
pub use reply::{Body, Reply};
pub use request::{ALL, Asked, Request};
pub use route::{Path, Route, RouteCount};
pub use station::Station;
pub use status::{ClusterStatus, HttpStatus, Keeping, KernelStatus, KindStatus, NodeAddress, Status};

/// This release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/cambric/cambricd.sock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_replies_survive_the_line() {
        let mut line = Vec::new();
        let request = Request::ShowRoute { address: Some("10.244.1.7".to_owned()), prefix: None };
        write_line(&mut line, &request).expect("vector");
        assert_eq!(line, b"{\"verb\":\"show-route\",\"for\":\"10.244.1.7\"}\n");
        assert_eq!(read_line::<Request>(&mut line.as_slice()).expect("own line"), request);

        let reply = Reply::routes(vec![Route { prefix: "::/0".to_owned(), paths: Vec::new() }]);
        let mut line = Vec::new();
        write_line(&mut line, &reply).expect("vector");
        assert_eq!(read_line::<Reply>(&mut line.as_slice()).expect("own line"), reply);
    }

    #[test]
    fn unknown_fields_are_passed_over_and_unknown_verbs_are_not() {
        let known = b"{\"verb\":\"show-status\",\"colour\":\"red\"}\n";
        assert!(read_line::<Request>(&mut known.as_slice()).is_ok());
        let unknown = b"{\"verb\":\"dance\"}\n";
        assert!(matches!(read_line::<Request>(&mut unknown.as_slice()), Err(LineError::Json(_))));
        assert!(matches!(read_line::<Request>(&mut b"".as_slice()), Err(LineError::Closed)));
        assert!(matches!(read_line::<Request>(&mut b"{}".as_slice()), Err(LineError::Closed)));
    }

    #[test]
    fn a_line_of_another_release_is_read_or_told_with_its_release() {
        let mut line = Vec::new();
        let request = Request::ShowRouteExport { peer: "a".to_owned() };
        write_line(&mut line, &Asked { request: &request, version: "9.0.0" }).expect("vector");
        assert_eq!(line, b"{\"verb\":\"show-route-export\",\"peer\":\"a\",\"version\":\"9.0.0\"}\n");
        assert_eq!(
            read_line::<Request>(&mut line.as_slice()).expect("the first release reads it, too"),
            request
        );

        let later = b"{\"code\":1007,\"version\":\"9.0.0\",\"colour\":\"red\",\"routes\":[]}\n";
        let reply: Reply = read_line(&mut later.as_slice()).expect("a listing");
        assert_eq!((reply.version.as_deref(), reply.body), (Some("9.0.0"), Body::Routes(Vec::new())));
        let first = b"{\"code\":1007,\"routes\":[]}\n";
        assert_eq!(read_line::<Reply>(&mut first.as_slice()).expect("a listing"), Reply::routes(Vec::new()));

        let strange = b"{\"code\":1099,\"version\":\"9.0.0\",\"tunnels\":[]}\n";
        let error = read_line::<Reply>(&mut strange.as_slice()).expect_err("no body that is known");
        assert!(matches!(&error, LineError::OtherRelease { version, .. } if version == "9.0.0"), "{error}");
    }

    #[test]
    fn pieces_of_a_listing_make_one_and_an_error_among_them_stays_one() {
        let piece =
            |prefix: &str| Reply::routes(vec![Route { prefix: prefix.to_owned(), paths: Vec::new() }]);
        let mut listing = Reply { more: true, ..piece("10.0.0.0/24") };
        listing.append(Reply { note: Some("some more".to_owned()), ..piece("10.0.1.0/24") }).expect("routes");
        let Body::Routes(routes) = &listing.body else { panic!("{listing:?}") };
        assert_eq!(
            routes.iter().map(|route| route.prefix.as_str()).collect::<Vec<_>>(),
            ["10.0.0.0/24", "10.0.1.0/24"]
        );
        assert_eq!((listing.more, listing.note.as_deref()), (false, Some("some more")));
        let error = Reply::unavailable("gone");
        assert_eq!(listing.append(error.clone()), Err(Box::new(error)));
    }

    #[test]
    fn code_says_what_happened_to_all_peers() {
        let action = |outcome| Action { peer: "a".to_owned(), address: "10.0.0.1".to_owned(), outcome };
        let code = |outcomes: &[Outcome]| Reply::actions(outcomes.iter().map(|o| action(*o)).collect()).code;
        assert_eq!(code(&[Outcome::Disabled, Outcome::Disabled]), 9);
        assert_eq!(code(&[Outcome::Enabled, Outcome::AlreadyEnabled]), 0);
        assert_eq!(code(&[]), 0);
        let newer: Action =
            serde_json::from_str(r#"{"peer":"a","address":"::1","outcome":"painted"}"#).expect("known");
        assert_eq!(newer.outcome, Outcome::Other);
    }

    #[test]
    fn no_route_is_an_error_with_an_empty_listing() {
        let reply = Reply::no_route("10.0.0.1");
        assert!(reply.is_error() && reply.body == Body::Routes(Vec::new()), "{reply:?}");
        assert_eq!((reply.code, reply.note.as_deref()), (8001, Some("no route to 10.0.0.1")));
    }

    #[test]
    fn check_with_problems_is_an_error_that_says_all_it_found() {
        let check = Check { changes: vec!["peer a is new".to_owned()], ..Check::default() };
        assert_eq!(Reply::check(check.clone()).code, 20);
        let reply = Reply::check(Check { problems: vec!["a.yaml: no".to_owned()], ..check });
        assert!(reply.code == 8002 && reply.is_error(), "{reply:?}");
    }
}
