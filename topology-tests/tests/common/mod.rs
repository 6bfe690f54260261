//! What the integration tests share: what they need from the machine, small labs, stand-ins.

#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod held;
pub(crate) mod monitor;
pub(crate) mod operator;
pub(crate) mod stand_in_peer;
pub(crate) mod tables;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use cambric_lab::{Lab, Options};

/// The executable that is tested.
pub(crate) const CAMBRIC_LAB: &str = env!("CARGO_BIN_EXE_cambric-lab");

/// Whether a test can run. What is missing is said; with `CI=true` it fails the test.
pub(crate) fn machine_has(needs: &[Need]) -> bool {
    let missing: Vec<&str> = needs.iter().filter_map(Need::missing).collect();
    if missing.is_empty() {
        return true;
    }
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    eprintln!("{test}: not run: needs {}", missing.join(", "));
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI has all that tests need");
    false
}

/// Something a test needs from the machine.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Need {
    Root,
    Frr,
    Bird,
    Gobgp,
    Busybox,
    CniPlugins,
    /// The tools that show what is in the kernel.
    Netfilter,
    /// Cambric itself, built beside the lab runner.
    Cambric,
    /// Docker and what makes its base image.
    Docker,
    /// Cambric for an empty root.
    StaticCambric,
    /// A container runtime, and what it is spoken to with.
    Containerd,
}

/// Folder of the programs that images are made of.
pub(crate) fn static_binaries() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/static/dev")
}

impl Need {
    fn missing(&self) -> Option<&'static str> {
        let (is_there, what) = match self {
            Self::Root => (nix::unistd::geteuid().is_root(), "root"),
            Self::Frr => (cambric_lab::frr::installed().is_ok(), "the package frr"),
            Self::Bird => (Path::new("/usr/sbin/bird").exists(), "the package bird2"),
            Self::Gobgp => (Path::new("/usr/bin/gobgpd").exists(), "the package gobgpd"),
            Self::Busybox => (Path::new("/bin/busybox").exists(), "the package busybox-static"),
            Self::CniPlugins => {
                (Path::new("/usr/lib/cni/ptp").exists(), "the package containernetworking-plugins")
            }
            Self::Netfilter => {
                let there = ["nft", "ipset"].iter().all(|name| Path::new("/usr/sbin").join(name).exists());
                (there, "the packages nftables and ipset")
            }
            Self::Cambric => {
                let built = |name: &&str| Path::new(CAMBRIC_LAB).with_file_name(name).exists();
                let all = ["cambricd", "cambric", "cambric-cni"].iter().all(built);
                (all, "Cambric: cargo build -p cambricd -p cambric -p cambric-cni")
            }
            Self::Docker => {
                let all = ["/usr/sbin/dockerd", "/usr/sbin/debootstrap"]
                    .iter()
                    .all(|file| Path::new(file).exists());
                (all, "the packages docker.io and debootstrap")
            }
            Self::StaticCambric => {
                let built = |name: &&str| static_binaries().join(name).exists();
                (["cambricd", "cambric", "cambric-cni"].iter().all(built), "static binaries: make static")
            }
            Self::Containerd => {
                let what =
                    "the packages containerd, runc, busybox-static, python3-grpcio and python3-grpc-tools";
                (cambric_lab::containerd::installed(), what)
            }
        };
        (!is_there).then_some(what)
    }
}

/// What makes c1 and f1 of `labs/one-switch` peers, in both families.
pub(crate) const PEERS_OF_ONE_SWITCH: &str = r#"apiVersion: cambric.dev/v1alpha1
kind: BGPNodeOverride
metadata: { name: c1 }
spec:
  peers:
  - { name: f1, address: 192.0.2.0, asn: 65001, peerConfig: switch }
  - { name: f1-v6, address: "2001:db8:0:1::", asn: 65001, peerConfig: switch }
"#;

/// A folder with a lab file; the lab's name is one no other test has.
pub(crate) struct LabFolder {
    folder: tempfile::TempDir,
    pub(crate) name: String,
}

impl LabFolder {
    /// `topology` is what stands under that key, indented by two.
    pub(crate) fn new(name: &str, topology: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let name = format!("{name}-{}", std::process::id());
        let text = format!("name: {name}\ntopology:\n{topology}");
        fs::write(folder.path().join(format!("{name}.clab.yml")), text).expect("writing the lab file");
        Self { folder, name }
    }

    /// A copy of a lab, its path from this crate, under another name: one that somebody has up is left alone.
    pub(crate) fn copy_of(lab: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        copy_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join(lab), folder.path());
        let name = Path::new(lab).file_name().and_then(|name| name.to_str()).expect("a lab has a name");
        let file = folder.path().join(format!("{name}.clab.yml"));
        let text = fs::read_to_string(&file).expect("the lab file");
        static COPIES: AtomicU32 = AtomicU32::new(1);
        let own_name = format!("{name}-{}-{}", std::process::id(), COPIES.fetch_add(1, Ordering::Relaxed));
        let renamed = text.replace(&format!("name: {name}\n"), &format!("name: {own_name}\n"));
        fs::write(&file, renamed).expect("renaming the lab");
        Self { folder, name: own_name }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).expect("writing a file of the lab");
        path
    }

    pub(crate) fn load(&self) -> Lab {
        Lab::load(self.path()).unwrap_or_else(|error| panic!("{error:#}"))
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("reading the lab").flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_folder(&source, &target);
        } else {
            fs::copy(&source, &target).expect("copying the lab");
        }
    }
}

/// Brings a lab up, does the work and takes it down. If the work fails, the tables and logs of every router are
/// printed first.
pub(crate) fn in_lab(folder: &LabFolder, work: impl FnOnce(&Lab) -> Result<()>) {
    in_lab_with(&options(), folder, work);
}

/// As [`in_lab`], with other binaries.
pub(crate) fn in_lab_with(options: &Options, folder: &LabFolder, work: impl FnOnce(&Lab) -> Result<()>) {
    let lab = folder.load().up_guarded(options, &progress).unwrap_or_else(|error| panic!("{error:#}"));
    if let Err(error) = work(&lab) {
        tables::print(&lab);
        panic!("{error:#}");
    }
    lab.down().expect("the lab goes down");
}

/// Brings a lab up, and says what it is about.
pub(crate) fn progress(step: &str) {
    eprintln!("{step}");
}

pub(crate) fn options() -> Options {
    Options::new(CAMBRIC_LAB)
}

/// A folder with a `cambricd` that only writes a CNI configuration for Debian's `ptp` plugin. So the lab's own ways
/// with daemons and pods are tested without Cambric.
pub(crate) fn stand_in() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = folder.path().join("cambricd");
    fs::write(&program, STAND_IN).expect("writing the stand-in");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("making it executable");
    folder
}

const STAND_IN: &str = r#"#!/bin/sh
echo "stand-in $*, GREETING=$GREETING"
cat > /etc/cni/net.d/half <<'END'
{ "cniVersion": "1.0.0", "name": "stand-in", "plugins": [
  { "type": "ptp", "ipam": { "type": "host-local", "ranges": [
    [{ "subnet": "192.0.2.0/24" }], [{ "subnet": "2001:db8:1::/64" }] ],
    "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }] } } ] }
END
mv /etc/cni/net.d/half /etc/cni/net.d/10-cambric.conflist
sleep infinity &
wait
"#;
