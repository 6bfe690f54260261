//! `cambric install`: the CNI plugin into the container runtime's folder.
//!
//! The runtime may execute the plugin at any moment, and other networks' plugins may lie in the same folder. So the new
//! one is written beside the old one and takes its name by rename(2): who executes the old one goes on with it, who
//! comes next finds a whole one, and after any error the old one is what it was. Nothing else in the folder is touched,
//! but for one plugin: containerd before 2.0 starts no pod without one called `loopback`, which kubelet's packages bring
//! along; where none is, ours plays it. It is a copy: through a link whoever copies the reference plugins into the folder
//! would write over ours, and every pod would "start" with `lo` alone.

use std::env;
use std::fmt::{self, Display};
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cambric_api::node;
use cambric_cni::lock_file;
use clap::Args;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use crate::table;

const PLUGIN: &str = cambric_cni::cleanup::PLUGIN;
const LOOPBACK: &str = "loopback";
/// What a run that was killed may leave behind, and the next one takes away. No plugin's name begins with a dot.
const NEW_PLUGIN: &str = ".cambric-cni.new";
const NEW_LOOPBACK: &str = ".cambric-loopback.new";
const LOCK: &str = ".cambric-cni.lock";
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
#[error("cannot {doing} {}: {cause}{}", path.display(), node::whose(path, cause))]
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
/// [`InstallError`]. Both are whole on the disk before either takes its name.
pub(crate) fn install(wish: &Install) -> Result<String, InstallError> {
    let folder = &wish.cni_bin_dir;
    let source = match &wish.plugin {
        Some(plugin) => plugin.clone(),
        None => beside_us()?,
    };
    let folder_file = File::open(folder).map_err(InstallError::of("open the folder", folder))?;
    // Of two that install at once one waits: they would take the other's new file away.
    let lock = folder.join(LOCK);
    let file = lock_file::open(&lock).map_err(InstallError::of("make", &lock))?;
    let _turn = Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| InstallError::of("lock", &lock)(errno.into()))?;

    let [plugin, loopback] = [PLUGIN, LOOPBACK].map(|name| folder.join(name));
    let [new_plugin, new_loopback] = [NEW_PLUGIN, NEW_LOOPBACK].map(|name| folder.join(name));
    let had_plugin = fs::symlink_metadata(&plugin).is_ok();
    let had_loopback = Loopback::at(folder).map_err(InstallError::of("look at", &loopback))?;
    let placed = copy(&source, &new_plugin).and_then(|bytes| {
        match had_loopback {
            Loopback::Foreign(_) => remove_left_over(&new_loopback)?,
            Loopback::Absent | Loopback::Ours => drop(copy(&source, &new_loopback)?),
        }
        rename(&new_plugin, &plugin).map(|()| bytes)
    });
    let bytes = placed.inspect_err(|_| {
        for new in [&new_plugin, &new_loopback] {
            drop(fs::remove_file(new));
        }
    })?;
    // From here on the new loopback lies there until it has its name, if only by the next run: see `Loopback::at`.
    if !matches!(had_loopback, Loopback::Foreign(_)) {
        rename(&new_loopback, &loopback)?;
    }
    // The names are on the disk, too, before anybody relies on them.
    folder_file.sync_all().map_err(InstallError::of("sync", folder))?;

    let done = if had_plugin { "replaced" } else { "installed" };
    let first = format!("{done} {}: {bytes} bytes of {}", shown(&plugin), shown(&source));
    let loopback = shown(&loopback);
    let second = match had_loopback {
        Loopback::Foreign(what) => format!("left {loopback}: {what}, not ours"),
        Loopback::Ours => format!("replaced {loopback}: a copy of {PLUGIN}"),
        Loopback::Absent => format!("installed {loopback}: a copy of {PLUGIN}"),
    };
    Ok(format!("{first}\n{second}\n"))
}

/// Where the plugin and what belongs to it may lie, in the order in which it goes: `loopback` is known by the plugin.
pub(crate) fn of_ours(folder: &Path) -> Vec<PathBuf> {
    let is_ours = matches!(Loopback::at(folder), Ok(Loopback::Ours));
    let loopback = is_ours.then_some(LOOPBACK);
    loopback
        .into_iter()
        .chain([NEW_LOOPBACK, NEW_PLUGIN, PLUGIN, LOCK])
        .map(|name| folder.join(name))
        .collect()
}

fn beside_us() -> Result<PathBuf, InstallError> {
    let us = env::current_exe().map_err(InstallError::of("find", Path::new("this program's own file")))?;
    Ok(us.with_file_name(PLUGIN))
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

fn rename(new: &Path, target: &Path) -> Result<(), InstallError> {
    fs::rename(new, target).map_err(InstallError::of("replace", target))
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
    /// The same as the plugin beside it; or, as earlier versions made it, a symbolic link to a file of our plugin's
    /// name, wherever. Who writes to such a link writes to the plugin.
    Ours,
    /// Anything else, in words.
    Foreign(&'static str),
}

impl Loopback {
    fn at(folder: &Path) -> io::Result<Loopback> {
        let [path, plugin, new] = [LOOPBACK, PLUGIN, NEW_LOOPBACK].map(|name| folder.join(name));
        let found = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Loopback::Absent),
            found => found?,
        };
        if !found.is_symlink() {
            // A run that was killed when the plugin had its name already has left the new loopback, to be the same.
            let is_ours = is_same(&path, &plugin)? || is_same(&new, &plugin)?;
            return Ok(if is_ours { Loopback::Ours } else { Loopback::Foreign("a plugin is there") });
        }
        Ok(match fs::read_link(&path)? {
            to if to.file_name().is_some_and(|name| name == PLUGIN) => Loopback::Ours,
            _ if path.exists() => Loopback::Foreign("a link is there"),
            _ => Loopback::Foreign("a link that leads nowhere is there"),
        })
    }
}

/// Whether both are files with the same in them.
fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let length = |path| match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        found => found.map(|found: Metadata| found.is_file().then_some(found.len())),
    };
    let [Some(first), Some(second)] = [length(one)?, length(other)?] else { return Ok(false) };
    if first != second {
        return Ok(false);
    }
    let [mut one, mut other] = [BufReader::new(File::open(one)?), BufReader::new(File::open(other)?)];
    loop {
        let (first, second) = (one.fill_buf()?, other.fill_buf()?);
        let both = first.len().min(second.len());
        if first[..both] != second[..both] {
            return Ok(false);
        }
        if both == 0 {
            return Ok(first.len() == second.len());
        }
        one.consume(both);
        other.consume(both);
    }
}

/// A path may have been given by anybody, and steers no terminal.
fn shown(path: &Path) -> impl Display {
    fmt::from_fn(move |f| f.write_str(&table::printable(&path.display().to_string())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, chown, symlink};
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
            "installed {}: 11 bytes of {}\ninstalled {}: a copy of cambric-cni\n",
            plugin.display(),
            source.display(),
            loopback.display()
        );
        assert_eq!(lines, expected);
        assert_eq!(node.text(PLUGIN), "the new one");
        for file in [&plugin, &loopback] {
            let found = fs::symlink_metadata(file).expect("there");
            assert_eq!((found.is_file(), found.mode() & 0o7777), (true, 0o755));
        }
        assert_eq!(node.names(), [LOCK, PLUGIN, LOOPBACK]);
        assert_eq!(fs::metadata(node.bin(LOCK)).expect("there").mode() & 0o777, 0o600);
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
            assert_eq!(
                (node.text(PLUGIN).as_str(), node.names()),
                ("the old one", vec![LOCK.to_owned(), PLUGIN.to_owned()])
            );
        }
        let nowhere = Install { cni_bin_dir: "/nonexistent/bin".into(), plugin: None };
        let error = install(&nowhere).expect_err("no folder").to_string();
        assert_eq!(error, "cannot open the folder /nonexistent/bin: No such file or directory (os error 2)");

        fs::remove_file(node.bin(PLUGIN)).expect("removed");
        fs::create_dir(node.bin(PLUGIN)).expect("a folder by the plugin's name");
        let error = node.install().expect_err("no file there").to_string();
        assert!(error.contains("cannot replace") && error.contains("bin/cambric-cni: "), "{error}");
        assert_eq!(node.names(), [LOCK, PLUGIN]);
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
        assert_eq!(node.names(), [LOCK, PLUGIN, LOOPBACK]);
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
            symlink(to, node.bin(LOOPBACK)).expect("as earlier versions made it");
            assert_eq!(line(&node), "replaced loopback: a copy of cambric-cni");
            assert!(fs::symlink_metadata(node.bin(LOOPBACK)).expect("there").is_file());
            assert_eq!(node.text(LOOPBACK), "the new one");
        }
        fs::write(node.folder.path().join("new"), "a later one").expect("plugin");
        assert_eq!(line(&node), "replaced loopback: a copy of cambric-cni");
        assert_eq!(node.text(LOOPBACK), "a later one");
        assert_eq!(node.names(), [LOCK, PLUGIN, LOOPBACK]);
    }

    /// As `cp plugins/* /opt/cni/bin` does, which writes to what is there.
    #[test]
    fn who_writes_over_the_loopback_leaves_the_plugin_as_it_is() {
        let node = Node::new();
        node.install().expect("installed");
        fs::write(node.bin(LOOPBACK), "theirs").expect("written over");
        assert_eq!(node.text(PLUGIN), "the new one");
        node.install().expect("installed");
        assert_eq!((node.text(PLUGIN).as_str(), node.text(LOOPBACK).as_str()), ("the new one", "theirs"));
        assert!(!of_ours(&node.bin("")).contains(&node.bin(LOOPBACK)));
    }

    #[test]
    fn what_a_killed_run_left_goes_with_the_next() {
        let node = Node::new();
        fs::write(node.bin(NEW_PLUGIN), "half").expect("file");
        symlink("x", node.bin(NEW_LOOPBACK)).expect("link");
        node.install().expect("installed");
        assert_eq!((node.text(PLUGIN).as_str(), node.names().len()), ("the new one", 3));

        // Killed when the plugin was replaced and the loopback was not.
        fs::write(node.bin(LOOPBACK), "the old one").expect("file");
        fs::write(node.bin(NEW_LOOPBACK), "the new one").expect("file");
        assert!(of_ours(&node.bin("")).contains(&node.bin(LOOPBACK)));
        fs::write(node.folder.path().join("new"), "a later one").expect("plugin");
        node.install().expect("installed");
        assert_eq!((node.text(LOOPBACK).as_str(), node.names().len()), ("a later one", 3));
    }

    /// A node user may open the folder, and lock it.
    #[test]
    fn lock_that_anybody_could_take_is_not_waited_for() {
        let node = Node::new();
        let open = File::open(node.bin("")).expect("folder");
        let _held = Flock::lock(open, FlockArg::LockShared).map_err(|(_, errno)| errno).expect("locked");
        let (done, told) = std::sync::mpsc::channel();
        let bin = node.bin("");
        let plugin = Some(node.folder.path().join("new"));
        std::thread::spawn(move || done.send(install(&Install { cni_bin_dir: bin, plugin }).is_ok()));
        assert_eq!(told.recv_timeout(std::time::Duration::from_secs(20)), Ok(true));
    }

    #[test]
    fn folder_of_another_user_is_named_with_its_owner() {
        if !nix::unistd::geteuid().is_root() {
            assert_ne!(env::var("CI").as_deref(), Ok("true"), "needs root");
            println!("not run: needs root");
            return;
        }
        let node = Node::new();
        chown(node.bin(""), Some(997), None).expect("own folder");
        let refused =
            |path: &Path| InstallError::of("make", path)(ErrorKind::PermissionDenied.into()).to_string();
        let bin = node.bin("");
        let bin = bin.display().to_string();
        let bin = bin.trim_end_matches('/');
        let words = format!(
            "cannot make {bin}/.cambric-cni.lock: permission denied; the folder {bin} belongs to uid 997 with mode 0755 \
             and has to belong to root (chown)"
        );
        assert_eq!(refused(&node.bin(LOCK)), words);
        chown(node.bin(""), Some(0), None).expect("own folder");
        assert!(refused(&node.bin(LOCK)).ends_with(": permission denied"));
    }
}
