//! A Kubernetes API server for tests: real HTTP, real watches, and every fault on demand.

mod discovery;
mod kind;
mod path;
mod rbac;
mod requests;
mod server;
mod status;
mod store;
mod table;
mod update;

pub use kind::{Key, Kind, Resource, Version};
pub use path::{Query, Target};
pub use requests::Request;
pub use server::{User, Verb};
pub use status::{Cause, Status};
pub use store::{Object, State};
