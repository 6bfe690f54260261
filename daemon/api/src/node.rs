//! What the daemon leaves on its node's disk, and what it found there: `cambric cleanup` takes it back.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The CNI configuration: low enough a number to be taken before others' ones.
pub const CONFLIST: &str = "10-cambric.conflist";
/// It comes by this name. The runtime takes files that end in .conf, .conflist or .json: this is none of them.
pub const CONFLIST_TEMPORARY: &str = ".10-cambric.conflist.tmp";

/// A second daemon on a node finds this file in the folder of run-time files locked (flock).
pub const LOCK: &str = "cambricd.lock";
/// The record of sysctls in the folder of run-time files.
pub const SYSCTLS: &str = "sysctls.json";
/// Its temporary file.
pub const SYSCTLS_TEMPORARY: &str = ".sysctls.json.tmp";
/// Stems of the daemon's files in the folder of run-time files: a name up to its first dot, a leading one aside.
pub const RUN_STEMS: [&str; 5] = ["cambricd", "disabled", "drain", "peers", "sysctls"];
/// Stems of its files and folders in the folder of the last known state.
pub const STATE_STEMS: [&str; 3] = ["manifests", "claims", "cluster"];

/// The stem of a file's name: `fib` of `fib.json.new`, `ready` of `.ready.tmp`.
pub fn stem(name: &str) -> &str {
    let name = name.strip_prefix('.').unwrap_or(name);
    name.split_once('.').map_or(name, |(stem, _)| stem)
}

/// Words to put behind a refusal at this path: whose the folder is, if it is not root's. Without CAP_DAC_OVERRIDE root may
/// write to its own folders alone, and some tools give these ones to a user of theirs (kubespray: `kube`).
pub fn whose(path: &Path, error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return String::new();
    }
    let folder = path.ancestors().find_map(|above| {
        let found = fs::metadata(above).ok()?;
        found.is_dir().then_some((above, found))
    });
    match folder {
        Some((folder, found)) if found.uid() != 0 => format!(
            "; the folder {} belongs to uid {} with mode {:04o} and has to belong to root (chown)",
            // Without a slash at its end.
            folder.components().as_path().display(),
            found.uid(),
            found.mode() & 0o7777
        ),
        _ => String::new(),
    }
}

/// The sysctls that the daemon changed, with what it found before its first change. On tmpfs, since a reboot resets both.
///
/// Of a later version nothing is known but the version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctls {
    /// [`Sysctls::VERSION`]
    pub version: u32,
    /// By their paths below /proc/sys/net, as `ipv4/ip_forward`.
    pub found: BTreeMap<String, Sysctl>,
}

/// A sysctl that the daemon changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// What it was before.
    pub before: String,
    /// What it is by the daemon's doing: its own write, or what the kernel makes of that.
    pub ours: String,
}

/// Why a record cannot be gone by.
#[derive(Debug, thiserror::Error)]
pub enum SysctlsError {
    /// Another version of Cambric wrote it.
    #[error("it is of version {0}, this one knows {known}", known = Sysctls::VERSION)]
    Version(u32),
    /// It is no record.
    #[error(transparent)]
    Damaged(#[from] serde_json::Error),
}

impl Sysctls {
    /// Of what is written here.
    pub const VERSION: u32 = 1;

    /// Reads a record.
    ///
    /// # Errors
    /// [`SysctlsError`]
    pub fn parse(text: &[u8]) -> Result<Sysctls, SysctlsError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        match serde_json::from_slice::<Head>(text)?.version {
            Sysctls::VERSION => Ok(serde_json::from_slice(text)?),
            other => Err(SysctlsError::Version(other)),
        }
    }
}

impl Default for Sysctls {
    fn default() -> Sysctls {
        Sysctls { version: Sysctls::VERSION, found: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_of_another_version_is_told_by_its_version() {
        let sysctl = Sysctl { before: "0".to_owned(), ours: "1".to_owned() };
        let record = Sysctls { found: [("ipv4/ip_forward".to_owned(), sysctl)].into(), ..Sysctls::default() };
        let text = serde_json::to_vec(&record).expect("a record");
        assert_eq!(Sysctls::parse(&text).expect("its own"), record);
        let error = Sysctls::parse(b"{\"version\":2,\"found\":[]}").expect_err("a later one");
        assert_eq!(error.to_string(), "it is of version 2, this one knows 1");
        assert!(matches!(Sysctls::parse(b"{\"version\":1,\"fo"), Err(SysctlsError::Damaged(_))));
    }

    #[test]
    fn refusal_in_a_folder_of_another_user_says_whose_it_is() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        // Root's own, and the nearest that is there counts.
        assert_eq!(whose(Path::new("/nonexistent/net.d"), &denied), "");
        let folder = std::env::temp_dir().join(format!("cambric-whose-{}", std::process::id()));
        fs::create_dir(&folder).expect("own folder");
        if std::os::unix::fs::chown(&folder, Some(997), None).is_ok() {
            let words = whose(&folder.join("net.d"), &denied);
            let expected = format!("; the folder {} belongs to uid 997 with mode ", folder.display());
            assert!(words.starts_with(&expected), "{words}");
            assert_eq!(whose(&folder, &io::ErrorKind::StorageFull.into()), "");
        } else {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "needs root");
            println!("not run: needs root");
        }
        fs::remove_dir(&folder).expect("own folder");
    }

    #[test]
    fn stem_is_the_name_up_to_its_first_dot() {
        for (name, expected) in [
            ("fib.json.new", "fib"),
            (".ready.tmp", "ready"),
            ("ipam", "ipam"),
            ("claims.version-2.json", "claims"),
            ("", ""),
            (".", ""),
        ] {
            assert_eq!(stem(name), expected, "{name}");
        }
    }
}
