//! What is logged.

use serde::{Deserialize, Serialize};

/// `log`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct LogFilter {
    /// In force, as `cambric_bgp=debug,info`.
    pub filter: String,
    /// Of the command line: in force again after a restart, or on [`LogFilter::DEFAULT`].
    pub default: String,
}

impl LogFilter {
    /// Stands for the filter of the command line where one is to be named.
    pub const DEFAULT: &'static str = "default";
}
