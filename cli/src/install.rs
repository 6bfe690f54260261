//! `cambric install`: the CNI plugin into the container runtime's folder.
//!
//! The runtime may execute the plugin at any moment, and other networks' plugins may lie in the same folder. So the new
//! one is written beside the old one and takes its name by rename(2): who executes the old one goes on with it, who
//! comes next finds a whole one, and after any error the old one is what it was. Nothing else in the folder is touched,
//! but for one link: containerd before 2.0 starts no pod without a plugin called `loopback`, which kubelet's packages
//! bring along; where none is, ours plays it.

use std::env;
use std::fmt::{self, Display};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use clap::Args;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use crate::table;

const PLUGIN: &str = cambric_cni::cleanup::PLUGIN;
const LOOPBACK: &str = "loopback";
/// What a run that was killed may leave behind, and the next one takes away. No plugin's name begins with a dot.
const NEW_PLUGIN: &str = ".cambric-cni.new";
const NEW_LOOPBACK: &str = ".cambric-loopback.new";
/// For everybody to execute: a runtime may have dropped root's rights over files.
const MODE: u32 = 0o755;

/// What the operator wants.
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Where the container runtime looks for plugins; mostly /opt/cni/bin.
    #[arg(long, value_name = "DIR")]
    cni_bin_dir: PathBuf,
    /// The plugin's file, if it is not the cambric-cni beside this program.
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
}

/// What could not be done with which file. What was in the folder is as it was.
#[derive(Debug, Error)]
#[error("cannot {doing} {}: {cause}", path.display())]
pub(crate) struct InstallError {
    doing: &'static str,
    path: PathBuf,
    cause: io::Error,
}

impl InstallError {
    fn of(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
        move |cause| InstallError { doing, path: path.to_owned(), cause }
    }
}

/// Installs the plugin, and `loopback` where none is. Gives a line for each.
///
/// # Errors
/// [`InstallError`]. The plugin comes first, so it may be installed while `loopback` failed.
pub(crate) fn install(wish: &Install) -> Result<String, InstallError> {
    let folder = &wish.cni_bin_dir;
    let source = match &wish.plugin {
        Some(plugin) => plugin.clone(),
        None => beside_us()?,
    };
    // Of two that install at once one waits: they would take the other's new file away.
    let open = File::open(folder).map_err(InstallError::of("open the folder", folder))?;
    let _turn = Flock::lock(open, FlockArg::LockExclusive)
        .map_err(|(_, errno)| InstallError::of("lock the folder", folder)(errno.into()))?;

    let plugin = install_plugin(&source, folder)?;
    let loopback = install_loopback(folder)?;
    Ok(format!("{plugin}\n{loopback}\n"))
}

/// Where the plugin and what belongs to it may lie, in the order in which it goes: a link that leads nowhere is worse than
/// none.
pub(crate) fn of_ours(folder: &Path) -> Vec<PathBuf> {
    let loopback = folder.join(LOOPBACK);
    let is_ours = matches!(Loopback::at(&loopback), Ok(Loopback::Ours));
    let files = [NEW_LOOPBACK, NEW_PLUGIN, PLUGIN].map(|name| folder.join(name));
    is_ours.then_some(loopback).into_iter().chain(files).collect()
}

fn beside_us() -> Result<PathBuf, InstallError> {
    let us = env::current_exe().map_err(InstallError::of("find", Path::new("this program's own file")))?;
    Ok(us.with_file_name(PLUGIN))
}

fn install_plugin(source: &Path, folder: &Path) -> Result<String, InstallError> {
    let target = folder.join(PLUGIN);
    let new = folder.join(NEW_PLUGIN);
    let had = fs::symlink_metadata(&target).is_ok();
    let copied = copy(source, &new).and_then(|bytes| {
        fs::rename(&new, &target).map_err(InstallError::of("replace", &target))?;
        Ok(bytes)
    });
    let bytes = copied.inspect_err(|_| drop(fs::remove_file(&new)))?;
    // The name is on the disk, too, before anybody relies on it.
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(InstallError::of("sync", folder))?;
    let done = if had { "replaced" } else { "installed" };
    Ok(format!("{done} {}: {bytes} bytes of {}", shown(&target), shown(source)))
}

/// Makes a whole new file, on the disk and executable. Gives its size in bytes.
fn copy(source: &Path, new: &Path) -> Result<u64, InstallError> {
    let mut from = File::open(source).map_err(InstallError::of("read the plugin", source))?;
    remove_left_over(new)?;
    let create = OpenOptions::new().write(true).create_new(true).mode(0o700).open(new);
    let mut into = create.map_err(InstallError::of("create", new))?;
    let bytes = io::copy(&mut from, &mut into).map_err(InstallError::of("copy the plugin to", new))?;
    if bytes == 0 {
        return Err(InstallError::of("use the plugin", source)(io::Error::other("the file is empty")));
    }
    // By itself, since what is asked for at the creation is less by the umask.
    into.set_permissions(Permissions::from_mode(MODE)).map_err(InstallError::of("set the mode of", new))?;
    into.sync_all().map_err(InstallError::of("sync", new))?;
    Ok(bytes)
}

/// A link that is ours is made anew: it may be by a path that leads elsewhere by now. Whatever else has the name stays.
fn install_loopback(folder: &Path) -> Result<String, InstallError> {
    let target = folder.join(LOOPBACK);
    match Loopback::at(&target).map_err(InstallError::of("look at", &target))? {
        Loopback::Foreign(what) => Ok(format!("left {}: {what}, not ours", shown(&target))),
        Loopback::Ours => link(folder, &target).map(|()| format!("refreshed {} -> {PLUGIN}", shown(&target))),
        Loopback::Absent => link(folder, &target).map(|()| format!("linked {} -> {PLUGIN}", shown(&target))),
    }
}

fn link(folder: &Path, target: &Path) -> Result<(), InstallError> {
    let new = folder.join(NEW_LOOPBACK);
    remove_left_over(&new)?;
    symlink(PLUGIN, &new).map_err(InstallError::of("create", &new))?;
    let renamed = fs::rename(&new, target).map_err(InstallError::of("replace", target));
    renamed.inspect_err(|_| drop(fs::remove_file(&new)))
}

fn remove_left_over(new: &Path) -> Result<(), InstallError> {
    match fs::remove_file(new) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(InstallError::of("remove what an earlier run left:", new)(error))
        }
        _ => Ok(()),
    }
}

/// Who has the name `loopback`.
#[derive(Debug, PartialEq, Eq)]
enum Loopback {
    Absent,
    /// A symbolic link to a file of our plugin's name, wherever.
    Ours,
    /// Anything else, in words.
    Foreign(&'static str),
}

impl Loopback {
    fn at(path: &Path) -> io::Result<Loopback> {
        let found = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Loopback::Absent),
            found => found?,
        };
        if !found.is_symlink() {
            return Ok(Loopback::Foreign("a plugin is there"));
        }
        Ok(match fs::read_link(path)? {
            to if to.file_name().is_some_and(|name| name == PLUGIN) => Loopback::Ours,
            _ if path.exists() => Loopback::Foreign("a link is there"),
            _ => Loopback::Foreign("a link that leads nowhere is there"),
        })
    }
}

/// A path may have been given by anybody, and steers no terminal.
fn shown(path: &Path) -> impl Display {
    fmt::from_fn(move |f| f.write_str(&table::printable(&path.display().to_string())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::process::{Child, Command, Stdio};

    use tempfile::TempDir;

    use super::*;

    /// A folder of plugins and a new plugin to come.
    struct Node {
        folder: TempDir,
    }

    impl Node {
        fn new() -> Node {
            let folder = tempfile::tempdir().expect("folder");
            fs::create_dir(folder.path().join("bin")).expect("folder of plugins");
            fs::write(folder.path().join("new"), "the new one").expect("plugin");
            Node { folder }
        }

        fn bin(&self, name: &str) -> PathBuf {
            self.folder.path().join("bin").join(name)
        }

        fn install(&self) -> Result<String, InstallError> {
            self.install_from("new")
        }

        fn install_from(&self, plugin: &str) -> Result<String, InstallError> {
            let plugin = Some(self.folder.path().join(plugin));
            install(&Install { cni_bin_dir: self.bin(""), plugin })
        }

        /// All names in the folder of plugins.
        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.bin("")).expect("folder").flatten();
            let mut names: Vec<String> =
                entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        }

        fn text(&self, name: &str) -> String {
            fs::read_to_string(self.bin(name)).expect(name)
        }
    }

    /// Ends with the test.
    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn an_empty_folder_gets_the_plugin_for_everybody_and_a_loopback() {
        let node = Node::new();
        let lines = node.install().expect("installed");
        let (plugin, loopback) = (node.bin(PLUGIN), node.bin(LOOPBACK));
        let source = node.folder.path().join("new");
        let expected = format!(
            "installed {}: 11 bytes of {}\nlinked {} -> cambric-cni\n",
            plugin.display(),
            source.display(),
            loopback.display()
        );
        assert_eq!(lines, expected);
        assert_eq!(node.text(PLUGIN), "the new one");
        assert_eq!(fs::metadata(&plugin).expect("there").mode() & 0o7777, 0o755);
        assert_eq!(fs::read_link(&loopback).expect("link"), Path::new(PLUGIN));
        assert_eq!(node.names(), [PLUGIN, LOOPBACK]);
    }

    #[test]
    fn who_executes_the_old_one_goes_on_with_it() {
        let node = Node::new();
        fs::copy("/bin/sleep", node.bin(PLUGIN)).expect("a plugin that takes its time");
        let old = fs::metadata(node.bin(PLUGIN)).expect("there").ino();
        let child = Command::new(node.bin(PLUGIN)).arg("600").stdin(Stdio::null()).spawn();
        let mut running = Running(child.expect("started"));
        let exe = format!("/proc/{}/exe", running.0.id());
        assert_eq!(fs::metadata(&exe).expect("running").ino(), old);
        let lines = node.install().expect("installed");
        assert!(lines.starts_with("replaced "), "{lines}");
        assert_eq!(running.0.try_wait().expect("waited"), None, "it goes on");
        assert_eq!(fs::metadata(&exe).expect("running").ino(), old);
        assert_eq!(node.text(PLUGIN), "the new one");
    }

    #[test]
    fn after_an_error_all_is_as_it_was_and_the_error_names_path_and_cause() {
        let node = Node::new();
        fs::write(node.bin(PLUGIN), "the old one").expect("plugin");
        fs::write(node.folder.path().join("empty"), "").expect("file");
        fs::create_dir(node.folder.path().join("folder")).expect("folder");
        for (plugin, words) in [
            ("absent", "absent: No such file or directory"),
            ("empty", "empty: the file is empty"),
            ("folder", "Is a directory"),
        ] {
            let error = node.install_from(plugin).expect_err(plugin).to_string();
            assert!(error.contains(words), "{error}");
            assert_eq!((node.text(PLUGIN).as_str(), node.names()), ("the old one", vec![PLUGIN.to_owned()]));
        }
        let nowhere = Install { cni_bin_dir: "/nonexistent/bin".into(), plugin: None };
        let error = install(&nowhere).expect_err("no folder").to_string();
        assert_eq!(error, "cannot open the folder /nonexistent/bin: No such file or directory (os error 2)");

        fs::remove_file(node.bin(PLUGIN)).expect("removed");
        fs::create_dir(node.bin(PLUGIN)).expect("a folder by the plugin's name");
        let error = node.install().expect_err("no file there").to_string();
        assert!(error.contains("cannot replace") && error.contains("bin/cambric-cni: "), "{error}");
        assert_eq!(node.names(), [PLUGIN]);
    }

    #[test]
    fn a_link_by_the_plugins_name_is_replaced_and_not_followed() {
        let node = Node::new();
        let elsewhere = node.folder.path().join("elsewhere");
        fs::write(&elsewhere, "somebody else's").expect("file");
        symlink(&elsewhere, node.bin(PLUGIN)).expect("link");
        symlink(&elsewhere, node.bin(NEW_PLUGIN)).expect("a trap");
        node.install().expect("installed");
        assert_eq!(fs::read_to_string(elsewhere).expect("there"), "somebody else's");
        assert!(fs::symlink_metadata(node.bin(PLUGIN)).expect("there").is_file());
        assert_eq!(node.names(), [PLUGIN, LOOPBACK]);
    }

    #[test]
    fn a_loopback_of_others_is_left_and_ours_is_refreshed() {
        let node = Node::new();
        let line = |node: &Node| {
            let lines = node.install().expect("installed");
            lines.lines().nth(1).expect("two lines").replace(&node.bin("").display().to_string(), "")
        };
        fs::write(node.bin(LOOPBACK), "theirs").expect("plugin");
        assert_eq!(line(&node), "left loopback: a plugin is there, not ours");
        assert_eq!(node.text(LOOPBACK), "theirs");
        for (to, left) in [
            (node.folder.path().join("new"), "left loopback: a link is there, not ours"),
            ("/nonexistent/loopback".into(), "left loopback: a link that leads nowhere is there, not ours"),
        ] {
            fs::remove_file(node.bin(LOOPBACK)).expect("removed");
            symlink(&to, node.bin(LOOPBACK)).expect("link");
            assert_eq!(line(&node), left);
            assert_eq!(fs::read_link(node.bin(LOOPBACK)).expect("link"), to);
        }
        for to in [PLUGIN, "/moved/away/cambric-cni"] {
            fs::remove_file(node.bin(LOOPBACK)).expect("removed");
            symlink(to, node.bin(LOOPBACK)).expect("link");
            assert_eq!(line(&node), "refreshed loopback -> cambric-cni");
            assert_eq!(node.text(LOOPBACK), "the new one");
        }
        assert_eq!(node.names(), [PLUGIN, LOOPBACK]);
    }

    #[test]
    fn what_a_killed_run_left_goes_with_the_next() {
        let node = Node::new();
        fs::write(node.bin(NEW_PLUGIN), "half").expect("file");
        symlink("x", node.bin(NEW_LOOPBACK)).expect("link");
        node.install().expect("installed");
        assert_eq!((node.text(PLUGIN).as_str(), node.names().len()), ("the new one", 2));
    }
}
