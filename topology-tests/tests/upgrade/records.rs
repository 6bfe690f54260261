//! What a daemon leaves for the next one under `/run/cambric`, as another release than this one would leave it.
//!
//! An earlier one knows less: its records do not say of which version they are, and it kept none of who was Established.
//! A later one knows more: its records are of a later version, and have fields that this one has never heard of.
//!
//! Not here: a table of leases of a later version. No pod is started then, and the plugin says what to do
//! (`cni/tests/plugin/leases`).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use cambric_lab::Node;
use serde_json::{Map, Value};

/// Folder of what lives as long as the kernel.
const RUN_DIR: &str = "/run/cambric";

/// Routes that were left in the kernel, and whether pods are judged.
const OF_EVERY_RELEASE: [&str; 2] = ["fib.json", "ready"];

/// Who was Established: the first release kept none.
const PEERS: &str = "peers.json";

/// Whose records are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// Those that it writes.
    Own,
    /// Of the release before records had versions.
    Earlier,
    /// Of a release to come.
    Later,
}

impl Age {
    /// Makes the records of a node, whose daemon is away, those of such a release.
    pub(crate) fn leave_records(self, node: &Node) -> Result<()> {
        let folder = node.path(RUN_DIR);
        let rewrite_all = |names: &[&str], change: fn(&mut Map<String, Value>)| {
            names.iter().try_for_each(|name| rewrite(&folder, name, change))
        };
        match self {
            Age::Own => Ok(()),
            Age::Earlier => {
                fs::remove_file(folder.join(PEERS)).context(PEERS)?;
                rewrite_all(&OF_EVERY_RELEASE, |record| drop(record.remove("version")))
            }
            Age::Later => rewrite_all(&[OF_EVERY_RELEASE.as_slice(), &[PEERS]].concat(), |record| {
                record.insert("version".to_owned(), 1000.into());
                record.insert("ofAReleaseToCome".to_owned(), true.into());
            }),
        }
    }
}

/// By rename: plugins are at work.
fn rewrite(folder: &Path, name: &str, change: fn(&mut Map<String, Value>)) -> Result<()> {
    let (path, next) = (folder.join(name), folder.join(format!(".{name}.next")));
    let context = || format!("the record {}", path.display());
    let text = fs::read(&path).with_context(context)?;
    let mut record: Map<String, Value> = serde_json::from_slice(&text).with_context(context)?;
    change(&mut record);
    fs::write(&next, serde_json::to_string(&record)?)
        .and_then(|()| fs::rename(&next, &path))
        .with_context(context)
}
