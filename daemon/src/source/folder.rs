//! What a folder of YAML manifests says, as `kubectl apply -f` would take it.
//!
//! Files are read in the order of their names; which of them count is up to [`documents`](super::documents).
//!
//! A folder from which all manifests have gone is one that somebody is about to fill again, or that is not
//! mounted: all counts as before. Nobody empties it on purpose, because a node without objects would go on as it
//! does: one that should do nothing is drained, and its daemon stopped.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::documents::{Document, Documents, Look, Set};
use super::files;
use super::record::Record;
use crate::objects::{Object, Problem, Reason};
use crate::view::View;

/// A folder, and what its files said when each could last be taken.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    documents: Documents,
    record: Option<Record>,
    /// Why the record does not say what counted in the last view.
    unrecorded: Option<Problem>,
}

impl Folder {
    /// The folder at `path` for node `own`, of which nothing is known yet.
    pub fn new(path: PathBuf, own: &str) -> Folder {
        Folder { path, documents: Documents::of_files(own), record: None, unrecorded: None }
    }

    /// The folder at `path`, of which is known what `record` says, and which keeps it.
    pub(super) fn with_record(path: PathBuf, mut record: Record) -> Folder {
        let mut folder = Folder::new(path, record.node());
        if let Some(counts) = record.read(&folder.path)
            && !folder.documents.go_on_from(counts)
        {
            tracing::warn!(folder = %folder.path.display(), "another version has taken these manifests: starting from nothing");
        }
        folder.record = Some(record);
        folder
    }

    /// Whether a daemon that is started anew would go on from the last view, as of when it was last recorded.
    pub(super) fn is_recorded(&self) -> bool {
        self.unrecorded.is_none()
    }

    /// What the folder says now; a file with a fault, or one that contradicts another, says what it said before.
    /// Blocks on the file system.
    pub fn view(&mut self) -> View {
        let look = self.look();
        let mut view = self.documents.view(&look);
        let exposed = self.exposed();
        if !exposed.is_empty() {
            let problems = &mut Arc::make_mut(&mut view.fabric).problems;
            problems.extend(exposed);
            problems.sort();
        }
        self.tell_record(&mut view);
        view
    }

    /// Keys that others than root may read.
    fn exposed(&self) -> Vec<Problem> {
        let has_keys = |file: &Document| {
            file.manifest.entries.iter().any(|entry| matches!(entry.object, Object::Secret(_)))
        };
        let with_keys = self.documents.taken.iter().filter(|(_, file)| has_keys(file));
        let exposed = with_keys.filter(|(name, _)| files::is_open_to_others(&self.path.join(&***name)));
        let problem = |(name, _): (&Arc<str>, &Arc<Document>)| {
            let what = "it has a Secret in it, and others than its owner may read it: `chmod 600` ends that";
            Problem::new(&**name, what).found_here()
        };
        exposed.map(problem).collect()
    }

    fn look(&self) -> Look {
        let lost = |what: String| {
            Look::Lost(Problem::new(self.path.display().to_string(), what).because(Reason::Unreadable))
        };
        match self.read() {
            Err(error) => lost(format!("folder cannot be listed: {error}")),
            Ok(files) if self.documents.are_all_gone(&files) => {
                let what = "there is no manifest in it any more; to have this node do nothing, drain it and stop cambricd";
                lost(what.to_owned())
            }
            Ok(files) => Look::All(files),
        }
    }

    /// The files as they are now.
    fn read(&self) -> io::Result<Set> {
        let read = |(name, path): (String, PathBuf)| {
            let file = match files::text(&path) {
                Ok(text) => self.decode(&name, text),
                Err(error) => Arc::new(Document::unreadable(&name, &error)),
            };
            (Arc::from(name), file)
        };
        Ok(files::manifests(&self.path)?.into_iter().map(read).collect())
    }

    fn decode(&self, name: &str, text: String) -> Arc<Document> {
        match self.documents.taken.get(name) {
            Some(taken) if taken.is_of(&text) => Arc::clone(taken),
            _ => Arc::new(Document::file(name, text)),
        }
    }

    /// Says in the last view what is in the way of its record; whether that is new.
    pub(super) fn tell_record(&self, view: &mut View) -> bool {
        let Some(record) = &self.record else { return false };
        let place = record.path().display().to_string();
        let others = view.fabric.problems.iter().filter(|problem| problem.place != place);
        let mut problems: Vec<Problem> = others.chain(&self.unrecorded).cloned().collect();
        problems.sort();
        let is_new = problems != view.fabric.problems;
        if is_new {
            Arc::make_mut(&mut view.fabric).problems = problems;
        }
        is_new
    }

    /// Writes down what counts, for the daemon that comes after this one. Nobody waits for it: it takes as long as the
    /// disk.
    pub(super) fn keep_record(&mut self) {
        let Some(record) = &mut self.record else { return };
        let Some(counts) = self.documents.counts(None) else { return };
        let kept = record.keep(&self.path, counts);
        let what = |error| {
            format!("cannot be written: {error}; a daemon that is started anew goes on from what is in it")
        };
        self.unrecorded =
            kept.err().map(|error| Problem::new(record.path().display().to_string(), what(error)));
    }
}

#[cfg(test)]
mod filters;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod random_edits;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod tests;
