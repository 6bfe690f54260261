//! What a folder of YAML manifests says, as `kubectl apply -f` would take it.
//!
//! Files are read in the order of their names. A typing error must not cost sessions: a file with a fault, or one
//! that contradicts another, is a [`Problem`] and counts as it was before. So does one that is emptied, as by a
//! writer who is not done, and one that is removed while others refer to what is in it.
//!
//! A file that had a fault from the start has nothing it could count as. If nobody can tell what is in it, the view
//! says so, and nobody acts on it; a wrong value costs what it is in, and the rest is served (see
//! [`values`](crate::values)). A daemon that is started anew goes on where the last one was (see
//! [`record`](super::record)): neither an upgrade nor a reboot is a reason to let go of what works.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::manifest::Manifest;
use super::record::{Record, Recorded};
use crate::contradictions::{self, Claims, Entry, Refusal, Settled};
use crate::objects::{Objects, Problem};
use crate::values::Costs;

/// What becomes of a file that cannot be taken.
const AS_BEFORE: &str = "it counts as it was before";

/// A folder, and what its files said when each could last be taken.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// What counted in the last view, by file name.
    taken: BTreeMap<String, File>,
    /// What was granted in the last view.
    claims: Claims,
    /// There was a view with nothing unknown in it.
    seen_whole: bool,
    record: Option<Record>,
}

/// A version of a file.
#[derive(Debug, Clone, Default)]
struct File {
    /// What it says. Two versions that say the same are the same, whatever their comments.
    manifest: Manifest,
    text: String,
}

/// A view in the making.
#[derive(Debug, Default)]
struct Draft {
    /// What counts of each file.
    files: BTreeMap<String, File>,
    problems: Vec<Problem>,
    unknown: Vec<Problem>,
}

impl Draft {
    fn settle(&self, held: &Claims) -> Settled {
        contradictions::settle(&entries(&self.files), held)
    }
}

fn entries(files: &BTreeMap<String, File>) -> Vec<&Entry> {
    files.values().flat_map(|file| &file.manifest.entries).collect()
}

impl Folder {
    /// The folder at `path`, of which nothing is known yet.
    pub fn new(path: PathBuf) -> Folder {
        let (taken, claims) = (BTreeMap::new(), Claims::default());
        Folder { path, taken, claims, seen_whole: false, record: None }
    }

    /// The folder at `path`, of which is known what the file `record` says, and which keeps that file.
    pub(super) fn with_record(path: PathBuf, record: PathBuf) -> Folder {
        let mut record = Record::new(record);
        let mut folder = Folder::new(path);
        if let Some(recorded) = record.read().filter(|recorded| recorded.folder == folder.path) {
            folder.go_on_from(recorded);
        }
        folder.record = Some(record);
        folder
    }

    /// A text that another version of this daemon has taken, and this one cannot read, is no state to go
    /// back to: then nothing is known.
    fn go_on_from(&mut self, Recorded { files, ages, .. }: Recorded) {
        let decoded = |(name, text): (String, String)| {
            let manifest = Manifest::decode(&name, &text);
            (name, File { manifest, text })
        };
        let files: BTreeMap<String, File> = files.into_iter().map(decoded).collect();
        let mut faults = files.values().flat_map(|file| &file.manifest.faults);
        if faults.any(|(_, costs)| *costs == Costs::All) {
            return;
        }
        self.claims = contradictions::settle(&entries(&files), &Claims::from_ages(ages)).claims;
        self.taken = files;
        self.seen_whole = true;
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there was a view with nothing unknown in it.
    pub(super) fn seen_whole(&self) -> bool {
        self.seen_whole
    }

    /// What the folder says now; a file with a fault, or one that contradicts another, says what it said before.
    ///
    /// # Errors
    /// The folder cannot be listed. A file that cannot be read is a problem of the view.
    pub fn view(&mut self) -> io::Result<Objects> {
        let mut draft = Draft::default();
        for (name, path) in manifests(&self.path)? {
            let file = match fs::read_to_string(&path) {
                Ok(text) => File { manifest: Manifest::decode(&name, &text), text },
                Err(error) => File { manifest: Manifest::unreadable(&name, &error), text: String::new() },
            };
            self.take(&mut draft, name, file);
        }
        let Settled { mut objects, claims, .. } = self.settle(&mut draft);
        self.seen_whole |= draft.unknown.is_empty();
        objects.problems = draft.problems;
        objects.problems.sort();
        objects.notices.extend(draft.files.values().flat_map(|file| file.manifest.notices.clone()));
        if self.seen_whole {
            (self.taken, self.claims) = (draft.files, claims);
            self.keep_record();
        } else {
            // Nobody acts on this view: nothing in it is a state to go back to.
            objects.unknown = draft.unknown;
        }
        Ok(objects)
    }

    fn keep_record(&mut self) {
        let Some(record) = &mut self.record else { return };
        let files = self.taken.iter().map(|(name, file)| (name.clone(), file.text.clone())).collect();
        record.keep(Recorded { folder: self.path.clone(), files, ages: self.claims.ages() });
    }

    /// Decides what counts of one file by itself.
    fn take(&self, draft: &mut Draft, name: String, file: File) {
        let now = &file.manifest;
        let before = self.taken.get(&name).filter(|before| before.manifest != *now);
        if let Some(before) = before {
            if now.is_empty && !before.manifest.is_empty {
                let what = "there is nothing in it; remove the file to remove its objects";
                draft.problems.push(Problem::new(&name, what).and(AS_BEFORE));
                draft.files.insert(name, before.clone());
                return;
            }
            if !now.faults.is_empty() {
                draft.problems.extend(now.faults.iter().map(|(fault, _)| fault.clone().and(AS_BEFORE)));
                draft.files.insert(name, before.clone());
                return;
            }
        }
        for (fault, costs) in &now.faults {
            draft.problems.push(match costs {
                Costs::Only(what) => fault.clone().and(&format!("this {what} is left out")),
                Costs::All if self.seen_whole => fault.clone().and("it is left out"),
                Costs::All => fault.clone(),
            });
            if *costs == Costs::All {
                draft.unknown.push(fault.clone());
            }
        }
        draft.files.insert(name, file);
    }

    /// Lets files that contradict others count as they were before, until nothing is left that could.
    fn settle(&self, draft: &mut Draft) -> Settled {
        loop {
            let settled = draft.settle(&self.claims);
            let culprit = settled.refused.iter().find_map(|refusal| {
                let file = self.culprit(draft, refusal)?;
                Some((file.to_owned(), refusal.problem.clone()))
            });
            let Some((file, problem)) = culprit else {
                let standing =
                    settled.refused.iter().map(|refusal| refusal.problem.clone().and("it is left out"));
                draft.problems.extend(standing);
                return settled;
            };
            // A culprit has changed, so it was there before.
            let before = self.taken.get(&file).cloned().unwrap_or_default();
            let gone = draft.files.insert(file.clone(), before).is_none();
            draft.problems.push(if gone {
                Problem::new(&file, format!("is gone, and is missing: {problem}")).and(AS_BEFORE)
            } else if problem.place.starts_with(&format!("{file}, ")) {
                problem.and(AS_BEFORE)
            } else {
                Problem::new(&file, format!("leaves out what is missing: {problem}")).and(AS_BEFORE)
            });
        }
    }

    /// The file whose change is the reason, if one is and if there is a state to go back to: the one that
    /// contradicts, or else the one that had what is missing now.
    fn culprit<'a>(&'a self, draft: &Draft, refusal: &'a Refusal) -> Option<&'a str> {
        let missing = refusal.missing.as_ref();
        let had = missing.and_then(|(kind, name)| self.claims.file_of(*kind, name));
        let is_changed = |file: &&str| {
            let now = draft.files.get(*file).map(|now| &now.manifest);
            self.taken.get(*file).is_some_and(|before| now != Some(&before.manifest))
        };
        [Some(refusal.file.as_str()), had].into_iter().flatten().find(is_changed)
    }
}

/// The manifests of a folder: file names, in their order, and paths.
fn manifests(folder: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if is_manifest(&path) {
            files.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path);
        }
    }
    Ok(files)
}

/// Editors' and Kubernetes' own hidden files are passed over.
fn is_manifest(file: &Path) -> bool {
    let hidden = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let yaml = file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    yaml && !hidden
}

#[cfg(test)]
mod tests;
