//! What is drained: on its way out of the fabric, before the node is taken out of service.

use serde::{Deserialize, Serialize};

/// What an operator drains, or no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drainable {
    /// Both.
    #[default]
    All,
    /// Addresses of services.
    Services,
    /// Ranges of pods.
    Pods,
}

/// A part that is drained.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Draining {
    /// `services` or `pods`.
    pub part: String,
    /// Who wants it: `operator`, `label`.
    #[serde(default)]
    pub by: Vec<String>,
    /// Seconds since it began.
    pub since_s: u64,
    /// Seconds that it is still told with GRACEFUL_SHUTDOWN; then it is told no more. 0: it is not told.
    pub left_s: u64,
}
