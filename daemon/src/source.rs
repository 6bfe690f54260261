//! Where objects come from. A source gives complete views, one after another; what changed between two of
//! them is for others to find out.

pub mod dir;
pub mod documents;
mod files;
pub mod folder;
mod folder_watch;
pub mod kube;
pub(crate) mod manifest;
mod network_policy;
mod pod;
pub(crate) mod record;
mod typing_errors;

use tokio::sync::watch;

use crate::view::View;

/// The latest complete view; `None` before the first.
pub type Views = watch::Receiver<Option<View>>;
