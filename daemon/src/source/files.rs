//! The manifests of a folder: which files are some, and their text.
//!
//! Whatever has the name of a manifest, reading it ends soon: a pipe that nobody writes to, or a device that never
//! ends, is a fault like any other.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// A thousand nodes fit into one file, and more is none that people write.
const MOST_BYTES: u64 = 4 << 20;
/// As `kubectl apply -f` takes them; upper case, too, since nobody means to say nothing with it.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// File names, in their order, and paths.
pub(super) fn manifests(folder: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if is_manifest(&path) {
            files.insert(shown(&path), path);
        }
    }
    Ok(files)
}

/// Two names that are not UTF-8 stay two names.
fn shown(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_str().map_or_else(|| format!("{name:?}"), str::to_owned)
}

/// Editors' and Kubernetes' own hidden files are passed over.
fn is_manifest(file: &Path) -> bool {
    let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = file.extension().unwrap_or_default();
    !hidden && EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Whether others than its owner may read it: the file, and the folder that it is in.
pub(super) fn is_open_to_others(path: &Path) -> bool {
    let mode = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
    let folder = path.parent().map_or(0, mode);
    [(0o040, 0o010), (0o004, 0o001)]
        .into_iter()
        .any(|(read, search)| mode(path) & read != 0 && folder & search != 0)
}

/// The text of one file, without the mark that some editors put before it.
pub(super) fn text(path: &Path) -> io::Result<String> {
    let refuse = |what: &str| Err(io::Error::other(what));
    // Opening a device can already do something; so it is looked at before, and what was opened again.
    if !fs::metadata(path)?.is_file() {
        return refuse("it is no regular file");
    }
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return refuse("it is no regular file");
    }
    let mut octets = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > MOST_BYTES {
        return refuse("it is over 4 MiB");
    }
    match String::from_utf8(octets) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)),
        Err(_) => refuse("it is not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    #[test]
    fn what_is_no_file_or_has_no_end_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = |name: &str| folder.path().join(name);
        mkfifo(&path("pipe.yaml"), Mode::S_IRWXU).expect("own folder");
        symlink("/dev/zero", path("zero.yaml")).expect("own folder");
        fs::create_dir(path("folder.yaml")).expect("own folder");
        fs::write(path("large.yaml"), vec![b' '; MOST_BYTES as usize + 1]).expect("own folder");
        fs::write(path("latin1.yaml"), b"a: \xE9\n").expect("own folder");
        for (name, says) in [
            ("pipe.yaml", "it is no regular file"),
            ("zero.yaml", "it is no regular file"),
            ("folder.yaml", "it is no regular file"),
            ("large.yaml", "it is over 4 MiB"),
            ("latin1.yaml", "it is not UTF-8"),
        ] {
            assert_eq!(text(&path(name)).expect_err(name).to_string(), says, "{name}");
        }
        fs::write(path("large.yaml"), vec![b' '; MOST_BYTES as usize]).expect("own folder");
        assert!(text(&path("large.yaml")).is_ok());
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("a.yaml");
        fs::write(&path, "\u{feff}kind: Pod\n").expect("own folder");
        assert_eq!(text(&path).expect("own file"), "kind: Pod\n");
    }

    #[test]
    fn manifests_are_told_by_their_names() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let odd = [b"\xFE.yaml".as_slice(), b"\xFF.yaml"].map(OsStr::from_bytes);
        let names = ["a.yaml", "b.yml", "c.json", "d.YAML", ".e.yaml", "f.yaml~", "g.txt", "yaml"];
        for name in names.map(OsStr::new).into_iter().chain(odd) {
            fs::write(folder.path().join(name), "").expect("own folder");
        }
        let found: Vec<String> = manifests(folder.path()).expect("own folder").into_keys().collect();
        assert_eq!(found, [r#""\xFE.yaml""#, r#""\xFF.yaml""#, "a.yaml", "b.yml", "c.json", "d.YAML"]);
    }
}
