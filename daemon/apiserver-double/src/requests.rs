//! What was asked of the server, for tests that count.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// How many requests are remembered; older ones are forgotten.
const REMEMBERED: usize = 1_000_000;

/// One request and what it was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for paths of no resource the
    /// HTTP method in lower case.
    pub verb: String,
    /// Empty: core, or a path of no resource.
    pub group: String,
    /// Plural; for a path of no resource the path.
    pub resource: String,
    /// `status`, or empty.
    pub subresource: String,
    /// Empty: none, or all.
    pub namespace: String,
    /// Empty: the collection.
    pub name: String,
    /// As it was sent, percent-encoded.
    pub query: String,
    /// Who asked; empty: the server could not tell.
    pub user: String,
    /// The header of that name.
    pub user_agent: String,
    /// HTTP status of the answer; 0: cut before there was one.
    pub status: u16,
}

/// All requests, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Requests(Mutex<VecDeque<Request>>);

impl Requests {
    pub(crate) fn add(&self, request: Request) {
        let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() == REMEMBERED {
            requests.pop_front();
        }
        requests.push_back(request);
    }

    pub(crate) fn all(&self) -> Vec<Request> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(crate) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
