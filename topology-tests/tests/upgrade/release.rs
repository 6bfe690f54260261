//! A release: its binaries, and how it leaves what outlives a daemon.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cambric_lab::Node;

use crate::common::CAMBRIC_LAB;
use crate::records::Age;

/// Where a node has them.
const BIN_DIR: &str = "/opt/cambric/bin";
const PLUGIN_DIR: &str = "/opt/cni/bin";
const PLUGIN: &str = "cambric-cni";

/// Binaries of one build.
pub(crate) struct Release {
    folder: PathBuf,
    name: &'static str,
}

impl Release {
    /// What is tested.
    pub(crate) fn of_this_build() -> Release {
        Release { folder: folder_of_this_build(), name: "this build" }
    }

    /// What it is upgraded from and downgraded to.
    pub(crate) fn beside_it() -> Release {
        match std::env::var_os("CAMBRIC_OTHER_RELEASE") {
            Some(folder) => Release { folder: folder.into(), name: "another release" },
            None => Release { folder: folder_of_this_build(), name: "this build as other files" },
        }
    }

    /// As what records are to be left behind: a really other release leaves its own.
    pub(crate) fn age(&self, age: Age) -> Age {
        if self.folder == folder_of_this_build() { age } else { Age::Own }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts its programs in the place of those of a node, as a new image does: they are other files.
    pub(crate) fn replace_image(&self, node: &Node) -> Result<()> {
        ["cambricd", "cambric", PLUGIN].iter().try_for_each(|name| self.replace(node, name, BIN_DIR))
    }

    /// Puts the plugin in the place of that of a node, as the init container does; a release that has no
    /// `cambric install` yet has its plugin put there by hand.
    pub(crate) fn install_plugin(&self, node: &Node) -> Result<()> {
        let help = node.run_ok(&["cambric", "install", "--help"])?;
        if help.contains("--cni-bin-dir") {
            node.run_ok(&["cambric", "install", "--cni-bin-dir", PLUGIN_DIR]).map(drop)
        } else {
            self.put_plugin(node)
        }
    }

    /// Puts the plugin there by hand.
    pub(crate) fn put_plugin(&self, node: &Node) -> Result<()> {
        self.replace(node, PLUGIN, PLUGIN_DIR)
    }

    /// Whether the plugin of a node is this one's, in a file of its own.
    pub(crate) fn has_plugin_at(&self, node: &Node) -> Result<bool> {
        let installed = node.path(PLUGIN_DIR).join(PLUGIN);
        let is_file = fs::symlink_metadata(&installed)?.is_file();
        Ok(is_file && fs::read(installed)? == fs::read(self.folder.join(PLUGIN))?)
    }

    /// By rename, so that at every moment one of the two is there, whole.
    fn replace(&self, node: &Node, name: &str, folder: &str) -> Result<()> {
        let folder = node.path(folder);
        let next = folder.join(format!(".{name}.next"));
        fs::copy(self.folder.join(name), &next)
            .and_then(|_| fs::rename(&next, folder.join(name)))
            .with_context(|| format!("replacing {name} of {} by that of {self}", node.name()))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.folder.display())
    }
}

fn folder_of_this_build() -> PathBuf {
    Path::new(CAMBRIC_LAB).parent().unwrap_or(Path::new(".")).to_owned()
}
