//! What was done, or would be.

use serde::{Deserialize, Serialize};

/// What was found in a folder of manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Check {
    /// The folder.
    pub path: String,
    /// What the operator should mend.
    #[serde(default)]
    pub problems: Vec<String>,
    /// What would change, in words.
    #[serde(default)]
    pub changes: Vec<String>,
}

/// What became of one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Its name.
    pub peer: String,
    /// Its address.
    pub address: String,
    /// What happened.
    pub outcome: Outcome,
}

/// What happened to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// 0008: nothing, it was so before.
    AlreadyDisabled,
    /// 0009
    Disabled,
    /// 0010: nothing, it was so before.
    AlreadyEnabled,
    /// 0011
    Enabled,
    /// 0012
    Restarted,
    /// Something that this version does not know.
    #[serde(other)]
    Other,
}

impl Outcome {
    pub(crate) fn code(self) -> u16 {
        match self {
            Outcome::AlreadyDisabled => 8,
            Outcome::Disabled => 9,
            Outcome::AlreadyEnabled => 10,
            Outcome::Enabled => 11,
            Outcome::Restarted => 12,
            Outcome::Other => 0,
        }
    }
}
