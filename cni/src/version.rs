//! Versions of the CNI specification that the plugin speaks.

use std::fmt;

use serde_json::{Value, json};

use crate::error::{CniError, Code};

/// A version of the specification, as in `cniVersion`. Older compares less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CniVersion {
    /// 0.3.1
    V0_3_1,
    /// 0.4.0
    V0_4_0,
    /// 1.0.0
    V1_0_0,
    /// 1.1.0
    V1_1_0,
}

impl CniVersion {
    /// All of them, oldest first.
    pub const ALL: [CniVersion; 4] =
        [CniVersion::V0_3_1, CniVersion::V0_4_0, CniVersion::V1_0_0, CniVersion::V1_1_0];

    /// The newest: spoken when the runtime's own could not be read.
    pub const NEWEST: CniVersion = CniVersion::V1_1_0;

    /// Reads `cniVersion`; absent means 0.1.0 (specification 1.0.0, "network configuration format").
    ///
    /// # Errors
    /// Code 6 for what is no version, code 1 for one that is not spoken here.
    pub fn parse(given: Option<&str>) -> Result<CniVersion, CniError> {
        let given = given.unwrap_or("0.1.0");
        if !is_version(given) {
            return Err(CniError::new(Code::Decode, format!("cniVersion {given:?} is not a version")));
        }
        CniVersion::ALL.into_iter().find(|version| version.as_str() == given).ok_or_else(|| {
            CniError::new(Code::IncompatibleVersion, "incompatible CNI versions").with_details(format!(
                "the configuration has {given:?}, the plugin supports {:?}",
                CniVersion::ALL.map(CniVersion::as_str)
            ))
        })
    }

    /// As in `cniVersion`.
    pub fn as_str(self) -> &'static str {
        match self {
            CniVersion::V0_3_1 => "0.3.1",
            CniVersion::V0_4_0 => "0.4.0",
            CniVersion::V1_0_0 => "1.0.0",
            CniVersion::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for CniVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The answer to VERSION.
pub fn answer() -> Value {
    json!({
        "cniVersion": CniVersion::NEWEST.as_str(),
        "supportedVersions": CniVersion::ALL.map(CniVersion::as_str),
    })
}

/// What a person reads who starts the plugin by hand.
pub fn about() -> String {
    format!(
        "cambric-cni {}: routed pod network of Cambric\nCNI protocol versions supported: {}",
        env!("CARGO_PKG_VERSION"),
        CniVersion::ALL.map(CniVersion::as_str).join(", ")
    )
}

fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| part.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supported_version_parses_to_itself() {
        for version in CniVersion::ALL {
            assert_eq!(CniVersion::parse(Some(version.as_str())), Ok(version));
        }
    }

    #[test]
    fn nonsense_is_a_decode_error_and_a_strange_version_an_incompatible_one() {
        for (given, code) in [
            (Some("one"), Code::Decode),
            (Some("1.0"), Code::Decode),
            (Some(""), Code::Decode),
            (Some("0.2.0"), Code::IncompatibleVersion),
            (Some("2.0.0"), Code::IncompatibleVersion),
            (None, Code::IncompatibleVersion),
        ] {
            assert_eq!(CniVersion::parse(given).expect_err("refused").code, code, "{given:?}");
        }
    }
}
