//! Files and folders: ours by their names, and a folder of ours when nothing else is in it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use cambric_api::node::stem;

use super::report::{Report, Verb};

/// Removes a file or a folder with all that is in it. What is not there is nothing to tell.
pub(super) fn remove(report: &mut Report, path: &Path) {
    let is_folder = match fs::symlink_metadata(path) {
        Err(error) if is_absent(&error) => return,
        Err(error) => return report.fail(Verb::Remove, path.display(), error),
        Ok(found) => found.is_dir(),
    };
    report.act(Verb::Remove, path.display(), || {
        let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        removed.or_else(|error| if is_absent(&error) { Ok(()) } else { Err(error) })
    });
}

/// What in a folder has one of these stems, by name. In a folder that is not there is nothing.
pub(super) fn with_stems(report: &mut Report, folder: &Path, stems: &[&str]) -> Vec<PathBuf> {
    match names(folder) {
        Ok(names) => {
            names.iter().filter(|name| stems.contains(&stem(name))).map(|name| folder.join(name)).collect()
        }
        Err(error) => {
            report.fail(Verb::Remove, format_args!("what is in {}", folder.display()), error);
            Vec::new()
        }
    }
}

/// Removes a folder of ours that has nothing in it, or had nothing but what has these stems, if it is only asked.
///
/// The root of a mount cannot be removed and is nothing to tell: a container has the folder by it.
pub(super) fn remove_folder(report: &mut Report, folder: &Path, stems: &[&str]) {
    let mut others = match names(folder) {
        Ok(names) => names,
        Err(error) => return report.fail(Verb::Remove, folder.display(), error),
    };
    if report.is_dry() {
        others.retain(|name| !stems.contains(&stem(name)));
    }
    match fs::symlink_metadata(folder) {
        Err(error) if is_absent(&error) => {}
        _ if is_mount(folder) => {}
        _ if others.is_empty() => {
            report.act(Verb::Remove, folder.display(), || fs::remove_dir(folder));
        }
        // What of it is ours could not be removed, and that is told.
        _ if others.iter().all(|name| stems.contains(&stem(name))) => {}
        _ => report.leave(folder.display(), format_args!("others have files in it: {}", others.join(", "))),
    }
}

/// Names in a folder, in order.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Also if the way to it leads over something that is no folder.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Whether something is mounted there: by the device, and of a bind mount by the table of mounts.
fn is_mount(folder: &Path) -> bool {
    let Ok(folder) = fs::canonicalize(folder) else { return false };
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().filter_map(|line| line.split(' ').nth(1)).any(|place| Path::new(place) == folder)
}
