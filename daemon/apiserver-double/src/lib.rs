//! A Kubernetes API server for tests: real HTTP, real watches, and every fault on demand.

mod apply;
mod cause;
mod discovery;
mod jsonpath;
mod kind;
mod lists;
mod patch;
mod path;
mod rbac;
mod requests;
mod schema;
mod server;
mod status;
mod store;
mod table;
mod time;
mod update;

pub use kind::{Key, Kind, Resource, Version};
pub use path::{Query, Target};
pub use requests::Request;
pub use server::{User, Verb};
pub use status::{Cause, Status};
pub use store::{Object, State};
