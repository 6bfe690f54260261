//! Which peers the operator has disabled: known beyond a restart of the daemon, so that a crash or an upgrade
//! in the middle of his work does not bring them back. The file is on tmpfs: a reboot does.
//!
//! One peer a line: its address, and behind a space its name, so that it is found by it when no manifest names it. The
//! first line is `# version 1`; the first release wrote none, and takes it for a peer that it does not understand, which
//! it logs. Of a later version what is understood here counts, and the rest is logged.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cambric_bgp::ScopedAddress;

const FILE_NAME: &str = "disabled";
/// Of what is written here.
const FIRST_LINE: &str = "# version 1";

/// The disabled peers by address, those among them that no manifest names at the moment.
#[derive(Debug)]
pub struct Disabled {
    path: PathBuf,
    names: BTreeMap<ScopedAddress, String>,
}

impl Disabled {
    /// What an earlier run left. What is not understood is passed over and logged: a node without a network
    /// would be worse than a peer that is not disabled any more.
    pub fn read(run_dir: &Path) -> Disabled {
        let path = run_dir.join(FILE_NAME);
        let octets = fs::read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::error!(path = %path.display(), error = %error, "which peers are disabled cannot be read");
            }
            Vec::new()
        });
        let text = String::from_utf8_lossy(&octets);
        let mut names = BTreeMap::new();
        for line in text.lines().filter(|line| *line != FIRST_LINE) {
            let (address, name) = line.split_once(' ').unwrap_or((line, ""));
            match address.parse() {
                Ok(address) => drop(names.insert(address, name.to_owned())),
                Err(_) => tracing::warn!(path = %path.display(), line, "disabled peer is not understood"),
            }
        }
        Disabled { path, names }
    }

    /// Of whom.
    pub fn addresses(&self) -> impl Iterator<Item = ScopedAddress> {
        self.names.keys().cloned()
    }

    /// Address and name of each.
    pub(super) fn names(&self) -> &BTreeMap<ScopedAddress, String> {
        &self.names
    }

    /// Makes `names` the disabled ones.
    ///
    /// # Errors
    /// The file's; nothing has changed then.
    pub(super) fn set(&mut self, names: BTreeMap<ScopedAddress, String>) -> io::Result<()> {
        if names == self.names {
            return Ok(());
        }
        let lines = names.iter().map(|(address, name)| format!("{address} {name}\n"));
        let text: String = [format!("{FIRST_LINE}\n")].into_iter().chain(lines).collect();
        let temporary = self.path.with_extension("tmp");
        fs::write(&temporary, text)?;
        fs::rename(&temporary, &self.path)?;
        self.names = names;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cambric_bgp::ScopedAddress;

    fn names(entries: &[(&str, &str)]) -> BTreeMap<ScopedAddress, String> {
        let entry = |(address, name): &(&str, &str)| (address.parse().expect("address"), (*name).to_owned());
        entries.iter().map(entry).collect()
    }

    #[test]
    fn disabled_peers_are_known_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut disabled = Disabled::read(folder.path());
        assert_eq!(disabled.addresses().count(), 0);
        let two = names(&[("10.0.1.1", "tor1a"), ("2001:db8::1", "tor 1b")]);
        disabled.set(two.clone()).expect("a folder to write in");
        assert_eq!(Disabled::read(folder.path()).names(), &two);
        disabled.set(BTreeMap::new()).expect("a folder to write in");
        assert_eq!(Disabled::read(folder.path()).addresses().count(), 0);
    }

    #[test]
    fn lines_by_hand_are_taken_and_rubbish_is_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(FILE_NAME), b"10.0.1.1\nfoo\n\xff\n\n2001:db8::1 b").expect("a file");
        let disabled = Disabled::read(folder.path());
        assert_eq!(disabled.names(), &names(&[("10.0.1.1", ""), ("2001:db8::1", "b")]));
    }

    #[test]
    fn files_of_the_release_before_and_of_a_later_one_are_read_line_by_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE_NAME);
        for text in ["10.0.1.1 tor1a\n", "# version 2\n10.0.1.1 tor1a\nsince=7 fe80::1%eth0 tor1b\n"] {
            fs::write(&path, text).expect("written");
            let disabled = Disabled::read(folder.path());
            assert_eq!(disabled.names(), &names(&[("10.0.1.1", "tor1a")]), "{text}");
        }
        let mut disabled = Disabled::read(folder.path());
        disabled.set(names(&[("10.0.1.2", "b")])).expect("a folder to write in");
        assert_eq!(fs::read_to_string(path).expect("there"), "# version 1\n10.0.1.2 b\n");
    }

    #[test]
    fn file_that_cannot_be_read_disables_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join(FILE_NAME)).expect("a folder in it");
        assert_eq!(Disabled::read(folder.path()).addresses().count(), 0);
    }

    #[test]
    fn what_cannot_be_written_is_not_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut disabled = Disabled::read(folder.path());
        drop(folder);
        assert!(disabled.set(names(&[("10.0.1.1", "tor1a")])).is_err());
        assert_eq!(disabled.addresses().count(), 0);
    }
}
