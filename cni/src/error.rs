//! What the plugin answers when it cannot do what it was asked.
//!
//! The runtime shows code, message and details to whoever looks at the pod, so the message says what failed and the
//! details say why, in the kernel's words where it has some. Codes below 100 belong to the CNI specification; ours
//! start at 100 and never change their meaning.

use serde_json::{Value, json};

use crate::version::CniVersion;

/// The number in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// The configuration's version is not spoken here, or too old for the command.
    IncompatibleVersion = 1,
    /// A field of the configuration is not served; the message names key and value.
    UnsupportedField = 2,
    /// Environment variables are missing or invalid; the message names them.
    BadEnvironment = 4,
    /// stdin could not be read.
    Io = 5,
    /// stdin is not the JSON we need.
    Decode = 6,
    /// A field of the configuration has a value that cannot be.
    InvalidConfig = 7,
    /// `CNI_NETNS` is gone, is no network namespace, or is the plugin's own.
    InvalidNetns = 8,
    /// The node is not ready for pods, or this pod's policy is not in place: the same call will do later.
    TryAgainLater = 11,
    /// The pod already has that interface, or another namespace has it for the same container.
    InterfaceExists = 100,
    /// All addresses of all ranges are leased.
    NoFreeAddress = 101,
    /// The node already has a route to the pod's address that is not ours.
    AddressTaken = 102,
    /// The lease table could not be read or written.
    LeaseTable = 103,
    /// The kernel refused something on the node's side, or one of `nodeAddresses` is not there.
    HostWiring = 104,
    /// The kernel refused something in the pod's namespace.
    PodWiring = 105,
    /// DEL could not remove everything; the details name what is left.
    CleanUp = 106,
    /// CHECK found the attachment otherwise than ADD left it; the details name every difference.
    Differs = 107,
}

/// An error as the runtime gets it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{msg} ({details})")]
pub struct CniError {
    /// The number.
    pub code: Code,
    /// What failed: one short line.
    pub msg: String,
    /// Why; may be empty.
    pub details: String,
    /// The version the answer is written in.
    version: CniVersion,
}

impl CniError {
    /// An error without details, in the newest version.
    pub fn new(code: Code, msg: impl Into<String>) -> CniError {
        CniError { code, msg: msg.into(), details: String::new(), version: CniVersion::NEWEST }
    }

    /// Adds a reason behind those there are.
    #[must_use]
    pub fn with_details(mut self, more: impl ToString) -> CniError {
        if !self.details.is_empty() {
            self.details.push_str("; ");
        }
        self.details.push_str(&more.to_string());
        self
    }

    /// Answers in the version the runtime asked in.
    #[must_use]
    pub fn in_version(self, version: CniVersion) -> CniError {
        CniError { version, ..self }
    }

    /// The object for stdout (specification 1.1.0, "Error").
    pub fn to_json(&self) -> Value {
        let mut object = json!({
            "cniVersion": self.version.as_str(),
            "code": self.code as u32,
            "msg": self.msg,
        });
        if !self.details.is_empty() {
            object["details"] = self.details.clone().into();
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_runtimes_version_and_all_details() {
        let error = CniError::new(Code::HostWiring, "cannot wire")
            .with_details("no such device")
            .with_details("undo: lease kept")
            .in_version(CniVersion::V0_4_0);
        assert_eq!(
            error.to_json(),
            json!({"cniVersion": "0.4.0", "code": 104, "msg": "cannot wire",
                   "details": "no such device; undo: lease kept"})
        );
    }

    #[test]
    fn json_without_details_has_no_such_key() {
        assert_eq!(CniError::new(Code::Io, "x").to_json().get("details"), None);
    }
}
