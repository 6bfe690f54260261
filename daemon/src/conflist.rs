//! The CNI configuration: its presence tells the runtime that pods may start.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use cambric_api::node;
use cambric_bgp::{Family, Prefix};
use serde_json::{Value, json};

use crate::args::PolicyGate;
use crate::intent::Intent;

/// File name.
pub const FILE_NAME: &str = node::CONFLIST;
/// Name of the network: the plugin keeps its leases under it.
pub const NETWORK: &str = "cambric";
/// The newest version of the CNI specification that runtimes in use understand.
const CNI_VERSION: &str = "1.0.0";

/// The configuration for `intent`.
pub fn render(intent: &Intent, run_dir: &Path, gate: PolicyGate) -> Value {
    let addresses: Vec<IpAddr> = intent.node_addresses.values().copied().collect();
    let plugin = json!({
        "type": "cambric-cni",
        "ranges": ranges(&intent.pod_prefixes),
        "nodeAddresses": addresses,
        "runDir": run_dir,
        "policyGate": gate.as_str(),
    });
    json!({ "cniVersion": CNI_VERSION, "name": NETWORK, "plugins": [plugin] })
}

/// The n-th IPv4 range and the n-th IPv6 range are one: a pod has the same place in both.
fn ranges(prefixes: &[Prefix]) -> Vec<Value> {
    let of = |family: Family| prefixes.iter().filter(move |prefix| prefix.family() == family);
    let (mut v4, mut v6) = (of(Family::Ipv4), of(Family::Ipv6));
    let pairs = std::iter::from_fn(|| match (v4.next(), v6.next()) {
        (None, None) => None,
        pair => Some(pair),
    });
    let text = |prefix: Option<&Prefix>| prefix.map(Prefix::to_string);
    pairs
        .map(|(v4, v6)| match (text(v4), text(v6)) {
            (Some(v4), Some(v6)) => json!({ "ipv4": v4, "ipv6": v6 }),
            (Some(v4), None) => json!({ "ipv4": v4 }),
            (None, v6) => json!({ "ipv6": v6 }),
        })
        .collect()
}

/// Whether it is there, just so.
pub fn stands(folder: &Path, content: &Value) -> bool {
    let present = fs::read(folder.join(FILE_NAME)).ok();
    present.and_then(|present| serde_json::from_slice::<Value>(&present).ok()).as_ref() == Some(content)
}

/// Writes it if it differs: to a temporary file, then by rename, since the runtime reads at any time.
///
/// # Errors
/// The folder's; what was there before stays.
pub fn write(folder: &Path, content: &Value) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(content)?;
    text.push(b'\n');
    let path = folder.join(FILE_NAME);
    if fs::read(&path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    let temporary = folder.join(node::CONFLIST_TEMPORARY);
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_paired_in_order() {
        let prefixes: Vec<Prefix> =
            ["10.1.0.0/24", "fd00:1::/64", "10.2.0.0/24"].map(|p| p.parse().expect("prefix")).into();
        assert_eq!(
            json!(ranges(&prefixes)),
            json!([{ "ipv4": "10.1.0.0/24", "ipv6": "fd00:1::/64" }, { "ipv4": "10.2.0.0/24" }])
        );
    }

    #[test]
    fn the_gate_is_told_to_the_plugin() {
        for gate in [PolicyGate::Off, PolicyGate::Prefer, PolicyGate::Require] {
            let objects = crate::objects::Objects {
                nodes: [(
                    "n1".to_owned(),
                    crate::objects::Shown { place: String::new(), says: Default::default() },
                )]
                .into(),
                ..Default::default()
            };
            let intent = crate::intent::intent(&objects, "n1", &[]).expect("node is known");
            let conflist = render(&intent, Path::new("/run/cambric"), gate);
            assert_eq!(conflist["plugins"][0]["policyGate"], gate.as_str());
        }
    }

    #[test]
    fn an_unchanged_file_is_not_written_again() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let inode = || {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(folder.path().join(FILE_NAME)).expect("written").ino()
        };
        write(folder.path(), &json!({"a": 1})).expect("own folder");
        let first = inode();
        write(folder.path(), &json!({"a": 1})).expect("own folder");
        assert_eq!(inode(), first);
        write(folder.path(), &json!({"a": 2})).expect("own folder");
        assert_ne!(inode(), first);
    }
}
