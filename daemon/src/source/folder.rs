//! What a folder of YAML manifests says, as `kubectl apply -f` would take it.
//!
//! Files are read in the order of their names. A typing error must not cost sessions: a file with a fault, or one
//! that contradicts another, is a [`Problem`] and counts as it was before. So does one that is emptied, as by a
//! writer who is not done, and one that is removed while others refer to what is in it, or while a file with a fault
//! may be where its objects are meant to be now.
//!
//! A folder from which all manifests have gone is one that somebody is about to fill again, or that is not
//! mounted: all counts as before. Nobody empties it on purpose, because a node without objects would go on as it
//! does: one that should do nothing is drained, and its daemon stopped.
//!
//! Nor does anything change while the Node object of this node is gone, which has then lost sight of itself.
//!
//! A file that had a fault from the start has nothing it could count as. If nobody can tell what is in it, the view
//! says so, and nobody acts on it; a wrong value costs what it is in, and the rest is served (see
//! [`values`](crate::values)). If it can only be a Pod, a Namespace or a NetworkPolicy, policies alone wait for it. A
//! daemon that is started anew goes on where the last one was (see [`record`](super::record)): neither an upgrade nor a
//! reboot is a reason to let go of what works.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::files;
use super::manifest::Manifest;
use super::record::{Counts, Record};
use crate::contradictions::{self, Claimant, Claims, Entry, Refusal, Settled};
use crate::intent::NoIntent;
use crate::objects::{Kind, Objects, Problem, Reason};
use crate::values::Costs;

/// What becomes of a file that cannot be taken.
const AS_BEFORE: &str = "it counts as it was before";
/// What becomes of a policy with a fault.
const FAILS_CLOSED: &str = "it isolates the pods it selects and allows nothing";
/// What it means for policies that nobody knows what is there.
const POLICY_WAITS: &str = "no pod is judged anew before it is mended";
/// What becomes of all of them.
const ALL_AS_BEFORE: &str = "all counts as it was before";
/// One file that counts as before may leave another without what it needs, and so on. After so many steps, all
/// that has changed counts as before.
const MOST_ROUNDS: usize = 32;
/// What is given up in one look can be taken by others in the next.
const MOST_LOOKS: usize = 8;

/// A folder, and what its files said when each could last be taken.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// What counted in the last view.
    taken: Files,
    /// What was granted in the last view.
    claims: Claims,
    /// There was a view with nothing unknown in it but what policies are made of.
    seen_whole: bool,
    /// And one with nothing unknown at all.
    seen_by_policy: bool,
    record: Option<Record>,
    /// Why the record does not say what counted in the last view.
    unrecorded: Option<Problem>,
}

/// By name.
type Files = BTreeMap<String, Arc<File>>;

/// A version of a file.
#[derive(Debug, Clone, Default, PartialEq)]
struct File {
    /// What it says. Two versions that say the same are the same, whatever their comments.
    manifest: Manifest,
    /// Nothing if it could not be read.
    text: Option<String>,
}

/// A view in the making.
#[derive(Debug, Default)]
struct Draft {
    /// What counts of each file.
    files: Files,
    problems: Vec<Problem>,
    unknown: Vec<Problem>,
    unknown_to_policy: Vec<Problem>,
}

impl Draft {
    fn settle(&self, held: &Claims) -> Settled {
        let entries: Vec<&Entry> = self.files.values().flat_map(|file| &file.manifest.entries).collect();
        contradictions::settle(&entries, held)
    }
}

impl Folder {
    /// The folder at `path`, of which nothing is known yet.
    pub fn new(path: PathBuf) -> Folder {
        let (taken, claims) = (BTreeMap::new(), Claims::default());
        let (seen_whole, seen_by_policy) = (false, false);
        Folder { path, taken, claims, seen_whole, seen_by_policy, record: None, unrecorded: None }
    }

    /// The folder at `path`, of which is known what `record` says, and which keeps it.
    pub(super) fn with_record(path: PathBuf, mut record: Record) -> Folder {
        let mut folder = Folder::new(path);
        if let Some(counts) = record.read(&folder.path) {
            folder.go_on_from(counts);
        }
        folder.record = Some(record);
        folder
    }

    /// A text that another version of this daemon has taken, and this one cannot read, is no state to go
    /// back to: then nothing is known. If it is only what policies are made of, only they know nothing.
    fn go_on_from(&mut self, Counts { files, broken, claims }: Counts) {
        let decoded = |(name, text): (String, String)| {
            let manifest = Manifest::decode(&name, &text);
            (name, Arc::new(File { manifest, text: Some(text) }))
        };
        let files: Files = files.into_iter().map(decoded).collect();
        let mut of_another_version =
            files.iter().filter(|(name, _)| !broken.contains(*name)).map(|(_, file)| &file.manifest);
        let is_readable_to_policy = !of_another_version.clone().any(Manifest::hides_something);
        if of_another_version.any(Manifest::hides_all) {
            tracing::warn!(folder = %self.path.display(), "another version has taken these manifests: starting from nothing");
            return;
        }
        (self.taken, self.claims) = (files, claims);
        (self.seen_whole, self.seen_by_policy) = (true, is_readable_to_policy);
    }

    /// Whether a daemon that is started anew would go on from the last view, as of when it was last recorded.
    pub(super) fn is_recorded(&self) -> bool {
        self.unrecorded.is_none()
    }

    /// What the folder says now; a file with a fault, or one that contradicts another, says what it said before.
    /// Blocks on the file system.
    pub fn view(&mut self) -> Objects {
        let found = self.read();
        let mut looks = 0;
        let (draft, mut objects) = loop {
            let mut draft = self.look(&found);
            let mut settled = self.settle(&mut draft, &found);
            if let Some(problem) = self.own_node_lost(&settled.claims) {
                draft.files = self.taken.clone();
                draft.problems.push(problem);
                settled = draft.settle(&self.claims);
            }
            let Settled { objects, claims, .. } = settled;
            looks += 1;
            // An empty folder may be one that is not mounted yet.
            self.seen_whole |= draft.unknown.is_empty() && !draft.files.is_empty();
            self.seen_by_policy |= self.seen_whole && draft.unknown_to_policy.is_empty();
            // Nobody acts on a view that is not whole: nothing in it is a state to go back to.
            let is_steady = !self.seen_whole || (self.taken == draft.files && self.claims == claims);
            if !is_steady {
                (self.taken, self.claims) = (draft.files.clone(), claims);
            }
            if is_steady || looks == MOST_LOOKS {
                break (draft, objects);
            }
        };
        objects.problems = draft.problems;
        objects.problems.extend(self.unrecorded.clone());
        objects.problems.sort();
        objects.notices.extend(draft.files.values().flat_map(|file| file.manifest.notices.clone()));
        if !self.seen_whole {
            objects.unknown = draft.unknown;
        }
        if !self.seen_by_policy {
            objects.unknown_to_policy = draft.unknown_to_policy;
        }
        objects
    }

    /// Whoever loses sight of itself goes on as before, and so does a daemon that is started anew.
    fn own_node_lost(&self, now: &Claims) -> Option<Problem> {
        let node = self.record.as_ref()?.node();
        let own = (Kind::Node, node.to_owned());
        let is_lost = self.claims.file_of(&own).is_some() && now.file_of(&own).is_none();
        let problem = || NoIntent::NodeUnknown(node.to_owned()).problem_while_going_on();
        is_lost.then(problem).flatten()
    }

    /// The files as they are now.
    fn read(&self) -> io::Result<Files> {
        let read = |(name, path): (String, PathBuf)| {
            let file = match files::text(&path) {
                Ok(text) => self.decode(&name, text),
                Err(error) => Arc::new(File { manifest: Manifest::unreadable(&name, &error), text: None }),
            };
            (name, file)
        };
        Ok(files::manifests(&self.path)?.into_iter().map(read).collect())
    }

    fn decode(&self, name: &str, text: String) -> Arc<File> {
        match self.taken.get(name) {
            Some(taken) if taken.text.as_ref() == Some(&text) => Arc::clone(taken),
            _ => Arc::new(File { manifest: Manifest::decode(name, &text), text: Some(text) }),
        }
    }

    /// Decides what counts of each file by itself.
    fn look(&self, found: &io::Result<Files>) -> Draft {
        let mut draft = Draft::default();
        let counted = self.taken.values().any(|file| !file.manifest.entries.is_empty());
        let (files, lost) = match found {
            Err(error) => (&self.taken, Some(format!("folder cannot be listed: {error}"))),
            Ok(files) if counted && files.iter().all(|(name, file)| self.is_foreign(name, file)) => {
                let what = "there is no manifest in it any more; to have this node do nothing, drain it and stop cambricd";
                (&self.taken, Some(what.to_owned()))
            }
            Ok(files) => (files, None),
        };
        if let Some(what) = lost {
            let problem = Problem::new(self.path.display().to_string(), what).because(Reason::Unreadable);
            if self.seen_whole {
                draft.problems.push(problem.and(ALL_AS_BEFORE));
            } else {
                draft.unknown.push(problem.clone());
                draft.problems.push(problem);
            }
        }
        for (name, file) in files {
            self.take(&mut draft, name, file);
        }
        draft
    }

    /// Says in the last view what is in the way of its record; whether that is new.
    pub(super) fn tell_record(&self, view: &mut Objects) -> bool {
        let Some(record) = &self.record else { return false };
        let place = record.path().display().to_string();
        let before = view.problems.clone();
        view.problems.retain(|problem| problem.place != place);
        view.problems.extend(self.unrecorded.clone());
        view.problems.sort();
        view.problems != before
    }

    /// Writes down what counts, for the daemon that comes after this one. Nobody waits for it: it takes as long as the
    /// disk.
    pub(super) fn keep_record(&mut self) {
        let Some(record) = self.record.as_mut().filter(|_| self.seen_whole) else { return };
        let text = |(name, file): (&String, &Arc<File>)| Some((name.clone(), file.text.clone()?));
        // What policies still wait for is not to be passed over by the daemon that comes next.
        let is_passed_over = |(_, file): &(&String, &Arc<File>)| {
            file.manifest.hides_all() || (self.seen_by_policy && file.manifest.hides_something())
        };
        let counts = Counts {
            files: self.taken.iter().filter_map(text).collect(),
            broken: self.taken.iter().filter(is_passed_over).map(|(name, _)| name.clone()).collect(),
            claims: self.claims.clone(),
        };
        let kept = record.keep(&self.path, counts);
        let what = |error| {
            format!("cannot be written: {error}; a daemon that is started anew goes on from what is in it")
        };
        self.unrecorded =
            kept.err().map(|error| Problem::new(record.path().display().to_string(), what(error)));
    }

    /// There never was anything in it that is our business.
    fn is_foreign(&self, name: &str, file: &File) -> bool {
        let now = &file.manifest;
        let is_emptied =
            now.is_empty && self.taken.get(name).is_some_and(|before| !before.manifest.entries.is_empty());
        now.entries.is_empty() && now.faults.is_empty() && !is_emptied
    }

    /// Decides what counts of one file by itself.
    fn take(&self, draft: &mut Draft, name: &str, file: &Arc<File>) {
        let now = &file.manifest;
        let is_state =
            |before: &Manifest| before != now && !before.entries.is_empty() && !now.is_no_worse_than(before);
        let before = self.taken.get(name).filter(|before| is_state(&before.manifest));
        if let Some(before) = before {
            if now.is_empty && !before.manifest.is_empty {
                let what = "there is nothing in it; remove the file to remove its objects";
                let problem = Problem::new(name, what).because(Reason::CountsAsBefore);
                draft.problems.push(problem.and(AS_BEFORE));
                draft.files.insert(name.to_owned(), Arc::clone(before));
                return;
            }
            if !now.faults.is_empty() {
                draft.problems.extend(now.faults.iter().map(|(fault, _)| fault.clone().and(AS_BEFORE)));
                draft.files.insert(name.to_owned(), Arc::clone(before));
                return;
            }
        }
        for (fault, costs) in &now.faults {
            draft.problems.push(match costs {
                Costs::Only(what) => fault.clone().and(&format!("this {what} is left out")),
                Costs::Closed => fault.clone().and(FAILS_CLOSED),
                Costs::Policies if !self.seen_by_policy => fault.clone().and(POLICY_WAITS),
                _ if !self.seen_whole => fault.clone(),
                Costs::All | Costs::Policies => fault.clone().and("it is left out"),
                Costs::Rest => fault.clone().and("it and all that follows in the file is left out"),
            });
            if costs.hides_all() {
                draft.unknown.push(fault.clone());
            } else if costs.hides_something() {
                draft.unknown_to_policy.push(fault.clone());
            }
        }
        draft.files.insert(name.to_owned(), Arc::clone(file));
    }

    /// Lets files that contradict others count as they were before, until nothing is left that could.
    fn settle(&self, draft: &mut Draft, found: &io::Result<Files>) -> Settled {
        let mut rounds = 0;
        loop {
            let settled = draft.settle(&self.claims);
            let mut culprits = BTreeMap::new();
            for refusal in settled.refused.iter().filter(|refusal| refusal.is_new) {
                if let Some(file) = self.culprit(draft, refusal) {
                    culprits.entry(file.to_owned()).or_insert_with(|| refusal.problem.clone());
                }
            }
            if culprits.is_empty() {
                culprits = self.lost(draft, found, &settled.claims);
            }
            if culprits.is_empty() {
                let refused = settled.refused.iter().map(|refusal| refusal.problem.clone());
                draft.problems.extend(refused.map(|problem| problem.and("it is left out")));
                return settled;
            }
            if rounds == MOST_ROUNDS {
                for file in self.taken.keys().filter(|file| self.is_changed(draft, file)) {
                    let what = "changed at once with others that contradict each other";
                    culprits.entry(file.clone()).or_insert_with(|| changed(file, what));
                }
            }
            for (file, problem) in culprits {
                self.put_back(draft, file, problem);
            }
            rounds += 1;
        }
    }

    /// A file that has changed, so it was there before.
    fn put_back(&self, draft: &mut Draft, file: String, problem: Problem) {
        let before = self.taken.get(&file).cloned().unwrap_or_default();
        let is_gone = draft.files.insert(file.clone(), before).is_none();
        draft.problems.push(if problem.place == file || problem.place.starts_with(&format!("{file}, ")) {
            problem.and(AS_BEFORE)
        } else if is_gone {
            changed(&file, format!("is gone, and is missing: {problem}")).and(AS_BEFORE)
        } else {
            changed(&file, format!("has changed, and now {problem}")).and(AS_BEFORE)
        });
    }

    /// The file whose change is the reason, if one is and if there is a state to go back to: the one that has
    /// taken something away, or else the one that contradicts.
    fn culprit<'a>(&self, draft: &Draft, refusal: &'a Refusal) -> Option<&'a str> {
        let files = refusal.because_of.iter().chain([&refusal.file]);
        files.map(String::as_str).find(|file| self.is_changed(draft, file))
    }

    /// The files that have shown what does not count now, or from a file with a fault, while such a file may be where
    /// it is meant to be.
    fn lost(&self, draft: &Draft, found: &io::Result<Files>, now: &Claims) -> BTreeMap<String, Problem> {
        let mut lost = BTreeMap::new();
        let Ok(found) = found else { return lost };
        for (claimant, file) in self.claims.objects() {
            let shows = now.file_of(claimant).and_then(|shows| draft.files.get(shows));
            let is_whole = shows.is_some_and(|shows| shows.manifest.faults.is_empty());
            let stays = || now.file_of(claimant) == Some(file) && self.was_never_good(draft, file);
            if is_whole || !self.is_changed(draft, file) || stays() {
                continue;
            }
            let may_show = |(name, now): &(&String, &Arc<File>)| self.may_show(draft, name, now, claimant);
            if let Some((faulty, _)) = found.iter().find(may_show) {
                let (kind, name) = claimant;
                let is_gone = !draft.files.contains_key(file);
                let what = if is_gone { "is gone" } else { "has changed" };
                let what = format!("{what} while {faulty} has a fault: {kind} {name} may be meant there");
                lost.entry(file.to_owned()).or_insert_with(|| changed(file, what));
            }
        }
        lost
    }

    /// Whether `claimant` may be meant in a file that does not count as it is.
    fn may_show(&self, draft: &Draft, name: &str, now: &File, claimant: &Claimant) -> bool {
        let counts = draft.files.get(name).is_some_and(|file| file.manifest == now.manifest);
        let is_emptied = now.manifest.is_empty && !counts;
        let is_whole = counts && now.manifest.faults.is_empty();
        let shows = || now.manifest.claimants().any(|shown| shown == *claimant);
        now.manifest.hides(claimant.0) || is_emptied || (!is_whole && shows())
    }

    /// Whether a file that counts as it is now shows policies that fail closed, as it did before.
    fn was_never_good(&self, draft: &Draft, file: &str) -> bool {
        let (now, before) = (draft.files.get(file), self.taken.get(file));
        now.zip(before).is_some_and(|(now, before)| now.manifest.is_no_worse_than(&before.manifest))
    }

    fn is_changed(&self, draft: &Draft, file: &str) -> bool {
        let now = draft.files.get(file).map(|now| &now.manifest);
        self.taken.get(file).is_some_and(|before| now != Some(&before.manifest))
    }
}

/// What a file does to others.
fn changed(file: &str, what: impl Into<String>) -> Problem {
    Problem::new(file, what).because(Reason::CountsAsBefore)
}

#[cfg(test)]
mod policies;
#[cfg(test)]
mod random_edits;
#[cfg(test)]
mod tests;
