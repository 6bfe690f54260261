//! What a daemon leaves for the next one under `/run/cambric`, as another release than this one would leave it.
//!
//! An earlier one knows less: a record of today without what says its version. A later one knows more: fields that this
//! one has never heard of, a version beyond its own, and a table of leases that it cannot read.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use cambric_lab::Node;
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

/// Folder of what lives as long as the kernel.
const RUN_DIR: &str = "/run/cambric";

/// What routes were left in the kernel.
const ROUTES: &str = "fib.json";

/// Where the header of a table of leases has its version, in four octets (`cni::lease::table`).
const VERSION_AT: u64 = 8;
const MAGIC: &[u8; 8] = b"CAMLEASE";

/// Whose records are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// Those that it writes.
    Own,
    /// Of a release before.
    Earlier,
    /// Of a release to come.
    Later,
}

impl Age {
    /// Makes the records of a node, whose daemon is away, those of such a release.
    pub(crate) fn leave_records(self, node: &Node) -> Result<()> {
        let folder = node.path(RUN_DIR);
        match self {
            Age::Own => Ok(()),
            Age::Earlier => rewrite(&folder.join(ROUTES), |record| {
                record.remove("version");
            }),
            Age::Later => {
                rewrite(&folder.join(ROUTES), |record| {
                    record.insert("version".to_owned(), 1000.into());
                    record.insert("ofAReleaseToCome".to_owned(), true.into());
                })?;
                every_table(&folder, |table| Ok(table.write_all_at(&1000_u32.to_le_bytes(), VERSION_AT)?))
            }
        }
    }
}

fn rewrite(path: &Path, change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> Result<()> {
    let context = || format!("the record {}", path.display());
    let mut record: Value =
        serde_json::from_slice(&fs::read(path).with_context(context)?).with_context(context)?;
    change(record.as_object_mut().with_context(context)?);
    fs::write(path, record.to_string()).with_context(context)
}

/// Under the lock of the network's leases: plugins are at work.
fn every_table(folder: &Path, change: impl Fn(&File) -> Result<()>) -> Result<()> {
    let mut tables = 0;
    for network in fs::read_dir(folder.join("ipam"))? {
        let network = network?.path();
        let lock = File::open(network.join("lock"))?;
        let _turn = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
        for entry in fs::read_dir(&network)? {
            let path = entry?.path();
            let table = OpenOptions::new().read(true).write(true).open(&path)?;
            let mut magic = [0; MAGIC.len()];
            if table.read_at(&mut magic, 0)? == magic.len() && magic == *MAGIC {
                change(&table).with_context(|| format!("the table {}", path.display()))?;
                tables += 1;
            }
        }
    }
    ensure!(tables > 0, "no table of leases in {}", folder.display());
    Ok(())
}
