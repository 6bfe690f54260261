//! The first process of a node: builds the node's root, says so, and reaps.
//!
//! `up` starts it in new namespaces as `cambric-lab init FOLDER` (see [`crate::state`]). The root is an overlay: below
//! the host's files, above a tmpfs. So programs of the host are there, everything a node writes is its own and gone
//! with it, and a bind may have any target. Folders in which the host's own FRR, CNI or Cambric would show are
//! emptied. When this process is killed, the kernel kills all others of the node and drops all its mounts.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{User, pivot_root, sethostname, setsid};
use serde::{Deserialize, Serialize};

use crate::clab::{Access, Bind, NodeSpec, Role};
use crate::state;

/// What an init says on its standard output once the node stands.
pub(crate) const READY: &str = "ready";

/// Where a node finds the binaries that are tested.
pub(crate) const BIN_DIR: &str = "/opt/cambric/bin";

/// Settings of every node, before those of the file. The first four are containerlab's: without duplicate address
/// detection an address is of use at once. The last two are ours: links that are set down and up again keep the IPv6
/// addresses that `exec` gave them, as they keep the IPv4 ones.
pub(crate) const SYSCTLS: [(&str, &str); 6] = [
    ("net.ipv6.conf.all.disable_ipv6", "0"),
    ("net.ipv6.conf.default.disable_ipv6", "0"),
    ("net.ipv6.conf.all.accept_dad", "0"),
    ("net.ipv6.conf.default.accept_dad", "0"),
    ("net.ipv6.conf.all.keep_addr_on_down", "1"),
    ("net.ipv6.conf.default.keep_addr_on_down", "1"),
];

/// Folders of the host that a node must not see: they would make it behave otherwise on another host.
const EMPTIED: [&str; 8] = [
    "/etc/cambric",
    "/etc/cni",
    "/etc/frr",
    "/opt/cambric",
    "/opt/cni",
    "/var/lib/cambric",
    "/var/lib/cni",
    "/var/log",
];

/// Folders that may be file systems of their own; an overlay shows only the one it lies over.
const MAYBE_MOUNTED: [&str; 11] =
    ["/usr", "/usr/local", "/lib", "/bin", "/sbin", "/etc", "/opt", "/var", "/var/lib", "/home", "/root"];

const CGROUPS: &str = "/sys/fs/cgroup";

/// The old root while the new one is built.
const HOST: &str = "/.host";

/// What an init is told: `spec.json` in the node's folder.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) node: NodeSpec,
    /// Folder of the host that becomes [`BIN_DIR`].
    pub(crate) bin_dir: PathBuf,
}

impl Orders {
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        state::write(&folder.join("spec.json"), &serde_json::to_string_pretty(self)?)
    }

    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("spec.json");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
    }
}

/// Runs as the init of the node whose folder this is; returns only with an error.
///
/// # Errors
/// When the node cannot be built.
pub fn run(folder: &Path) -> Result<()> {
    if std::process::id() != 1 {
        bail!("this verb is for cambric-lab itself: it must be the first process of a PID namespace");
    }
    let orders = Orders::read(folder)?;
    setsid().context("leaving the terminal")?;
    build_root(folder)?;
    furnish(folder, &orders)?;
    forget_host()?;
    writeln!(io::stdout(), "{READY}")?;
    reap_for_ever()
}

/// From here `/` is the overlay and [`HOST`] what was `/`.
fn build_root(folder: &Path) -> Result<()> {
    let root = folder.join("root");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("making mounts private")?;
    mount(Some("cambric-lab"), &root, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .context("mounting the node's tmpfs")?;
    let new_root = overlay(Path::new("/"), &root, "root", None)?;
    let host = new_root.join(HOST.trim_start_matches('/'));
    fs::create_dir(&host)?;
    pivot_root(&new_root, &host).context("changing to the node's root")?;
    std::env::set_current_dir("/")?;

    let layers = host_path(&root);
    for (number, folder) in MAYBE_MOUNTED.iter().enumerate() {
        if is_mount_point(&host_path(Path::new(folder))) {
            overlay(&host_path(Path::new(folder)), &layers, &format!("layer{number}"), Some(folder))?;
        }
    }
    Ok(())
}

/// Lays an empty writable layer over `below`; returns where both are seen together.
fn overlay(below: &Path, layers: &Path, name: &str, at: Option<&str>) -> Result<PathBuf> {
    let [upper, work, merged] = ["upper", "work", "merged"].map(|part| layers.join(format!("{name}-{part}")));
    for folder in [&upper, &work, &merged] {
        fs::create_dir(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    fs::set_permissions(&upper, fs::metadata(below)?.permissions())?;
    let at = at.map_or(merged, PathBuf::from);
    let layers =
        format!("lowerdir={},upperdir={},workdir={}", below.display(), upper.display(), work.display());
    mount(Some("overlay"), &at, Some("overlay"), MsFlags::empty(), Some(layers.as_str()))
        .with_context(|| format!("laying an overlay over {}", below.display()))?;
    Ok(at)
}

fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::symlink_metadata(path).ok().filter(fs::Metadata::is_dir).map(|m| m.dev());
    match (device(path), path.parent().and_then(device)) {
        (Some(own), Some(parent)) => own != parent,
        _ => false,
    }
}

fn host_path(path: &Path) -> PathBuf {
    Path::new(HOST).join(path.strip_prefix("/").unwrap_or(path))
}

fn furnish(folder: &Path, orders: &Orders) -> Result<()> {
    let node = &orders.node;
    for (kind, at, options) in [
        ("proc", "/proc", ""),
        ("sysfs", "/sys", ""),
        ("tmpfs", "/run", "mode=755"),
        ("tmpfs", "/tmp", "mode=1777"),
    ] {
        mount(Some(kind), at, Some(kind), MsFlags::empty(), Some(options))
            .with_context(|| format!("mounting {at}"))?;
    }
    mount_at(&host_path(Path::new("/dev")), Path::new("/dev"), Access::ReadWrite)?;
    // Control groups have no namespace of ours: a container runtime in a node makes them where the host does.
    if host_path(Path::new(CGROUPS)).exists() {
        mount_at(&host_path(Path::new(CGROUPS)), Path::new(CGROUPS), Access::ReadWrite)?;
    }
    for folder in EMPTIED {
        empty(Path::new(folder))?;
    }
    // Folders that Debian's /run has and programs count on.
    for folder in ["/run/lock", "/run/netns", "/run/cambric"] {
        fs::create_dir(folder)?;
    }
    mount_at(&host_path(&folder.join("log")), Path::new("/var/log"), Access::ReadWrite)?;
    sethostname(&node.name).context("setting the host name")?;
    fs::write("/etc/hostname", format!("{}\n", node.name))?;
    let defaults = SYSCTLS.into_iter();
    let own = node.sysctls.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    for (key, value) in defaults.chain(own) {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        fs::write(&path, value).with_context(|| format!("sysctl {key}={value}"))?;
    }
    install_binaries(folder, &orders.bin_dir)?;
    for bind in &node.binds {
        // FRR wants to own its configuration, and must not come to own the user's files.
        if node.role == Role::Frr && bind.target.starts_with("/etc/frr") {
            copy(&host_path(&bind.source), &bind.target)
        } else {
            mount_bind(bind)
        }
        .with_context(|| format!("binding {} to {}", bind.source.display(), bind.target.display()))?;
    }
    if node.role == Role::Frr {
        prepare_frr()?;
    }
    Ok(())
}

/// The binaries that are tested, and the plugin where runtimes look for it. A node may put others in their place: it is
/// the only one to see them.
fn install_binaries(folder: &Path, bin_dir: &Path) -> Result<()> {
    fs::create_dir_all(BIN_DIR)?;
    fs::create_dir_all("/opt/cni/bin")?;
    fs::create_dir_all("/etc/cni/net.d")?;
    overlay(&host_path(bin_dir), &host_path(&folder.join("root")), "binaries", Some(BIN_DIR))?;
    symlink(format!("{BIN_DIR}/cambric-cni"), "/opt/cni/bin/cambric-cni")?;
    Ok(())
}

fn mount_bind(bind: &Bind) -> Result<()> {
    let source = host_path(&bind.source);
    if source.is_dir() {
        fs::create_dir_all(&bind.target)?;
    } else {
        create_parents(&bind.target)?;
        fs::OpenOptions::new().append(true).create(true).open(&bind.target)?;
    }
    mount_at(&source, &bind.target, bind.access)
}

fn mount_at(source: &Path, target: &Path, access: Access) -> Result<()> {
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), target, None::<&str>, bind, None::<&str>)
        .with_context(|| format!("mounting {}", target.display()))?;
    if access == Access::ReadOnly {
        // A bind takes flags only in a second step.
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, target, None::<&str>, read_only, None::<&str>)
            .with_context(|| format!("making {} read-only", target.display()))?;
    }
    Ok(())
}

/// Copies a file or a folder with all in it.
pub(crate) fn copy(source: &Path, target: &Path) -> Result<()> {
    if !source.is_dir() {
        create_parents(target)?;
        fs::copy(source, target)?;
        return Ok(());
    }
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        copy(&entry.path(), &target.join(entry.file_name()))?;
    }
    Ok(())
}

fn create_parents(target: &Path) -> io::Result<()> {
    target.parent().map_or(Ok(()), fs::create_dir_all)
}

/// Removes what is in a folder, in this node only.
fn empty(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("emptying {}", folder.display()));
        }
        _ => {}
    }
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))
}

/// Folders and owners that FRR expects; Debian's package makes them in its service files, which run nowhere here.
fn prepare_frr() -> Result<()> {
    let user = User::from_name("frr")?.context("there is no user frr: is the package frr installed?")?;
    let conf = Path::new("/etc/frr");
    let vtysh = conf.join("vtysh.conf");
    if !vtysh.exists() {
        fs::write(vtysh, "service integrated-vtysh-config\n")?;
    }
    for folder in ["/run/frr", "/var/log/frr"] {
        fs::DirBuilder::new().mode(0o755).recursive(true).create(folder)?;
    }
    for path in [conf, Path::new("/run/frr"), Path::new("/var/log/frr")] {
        chown_all(path, &user)?;
    }
    Ok(())
}

fn chown_all(path: &Path, user: &User) -> Result<()> {
    chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
        .with_context(|| format!("giving {} to frr", path.display()))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            chown_all(&entry?.path(), user)?;
        }
    } else {
        fs::set_permissions(path, fs::Permissions::from_mode(0o640))?;
    }
    Ok(())
}

/// Lets go of the host's mounts: a copy of a `/run/netns` mount would keep another lab's namespace alive.
fn forget_host() -> Result<()> {
    umount2(HOST, MntFlags::MNT_DETACH).context("letting go of the host's root")?;
    fs::remove_dir(HOST)?;
    Ok(())
}

fn reap_for_ever() -> Result<()> {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block()?;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => {
                children.wait()?;
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for children"),
        }
    }
}
