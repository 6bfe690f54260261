//! What is known of one kind. Lists and watch events go in, what changed comes out; there is no I/O, and time is an
//! argument.
//!
//! # A list that is older than what is known
//!
//! After a fail-over an API server may answer from a store that lags behind, and it may be restored from a backup. Both
//! show an older state, and nobody can tell at first which it is. So a list whose resourceVersion is lower than the
//! highest version that was seen **removes nothing** and brings nothing back: of it only objects are taken that are
//! newer than what is known of them, by their own version, or by a later `creationTimestamp` with another uid; and
//! unknown ones only if they were created later than all that was ever seen of the kind: others may be ones that
//! were seen to go. That is an alarm, and lists are asked for again and again, every one as a consistent read
//! (resourceVersion unset: "most recent" in Kubernetes' table of list semantics).
//!
//! The alarm ends with a list at or above the highest version seen. Or the history is given up, and the next list is
//! believed whatever its version, once lists have been older **for [`CONFIRMED_AFTER`] on, at least
//! [`CONFIRMED_BY`] of them, none lower than the one before, and the last higher than the first**: this server answers
//! consistent reads from a store that takes writes, so it is the cluster now. A stale replica cannot do that. One that
//! is cut off from the quorum cannot answer a consistent read at all, one that answers from an old cache does not move
//! on, and one that catches up gets past what is known, for its lag is not constant over minutes in which it moves.
//!
//! That there is another cluster behind the address is for others to find out (see [`connection`](crate::connection)).
//!
//! # Weak spot
//!
//! A server restored from a backup that gets past the version we know before we look again cannot be told from one
//! that only went on. Kubernetes' own guide restores with a revision that is raised (`etcdutl snapshot restore
//! --bump-revision --mark-compacted`), after which our watch is answered by 410 and we list.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use cambric_policy::change::Key;
use cambric_policy::pod::Uid;

use crate::shared::Shared;
use crate::version::Version;

/// How long lists must have been older before they are believed.
pub(crate) const CONFIRMED_AFTER: Duration = Duration::from_secs(300);
/// And how many.
pub(crate) const CONFIRMED_BY: u32 = 5;

/// What is known of an object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Known<T> {
    pub(crate) uid: Option<Uid>,
    pub(crate) version: Version,
    /// In seconds since 1970.
    pub(crate) created: Option<i64>,
    pub(crate) says: T,
}

impl<T> Known<T> {
    /// Whether `self` stands in the place of `known`, by the only clock that goes on over a restored backup.
    fn was_created_in_place_of(&self, known: &Known<T>) -> bool {
        self.uid != known.uid && self.created > known.created && known.created.is_some()
    }
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event<T> {
    /// ADDED or MODIFIED.
    Shows(Key, Known<T>),
    /// DELETED, with the version of that.
    Gone(Key, Option<Uid>, Version),
    /// BOOKMARK.
    Reached(Version),
}

/// What became of an object; `None`: it is gone.
pub(crate) type Change<T> = (Key, Option<T>);

/// What a whole list turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// It is what is known now; a watch goes on from there.
    Current(Version),
    /// It is older than what is known. In words.
    Older(String),
    /// It is older, and confirmed: what was known counts no longer against what the next list says.
    Confirmed,
}

/// See above.
#[derive(Debug, Clone)]
pub(crate) struct Cache<T> {
    objects: Shared<Key, Known<T>>,
    /// All that changed up to here is known; `None`: all were never shown, or what was seen counts no longer.
    version: Option<Version>,
    /// The highest that was seen. Higher than `version` only after a list that was cut off.
    seen: Option<Version>,
    /// All objects were shown once.
    is_shown: bool,
    /// When the youngest object ever seen was created.
    newest: Option<i64>,
    listing: Option<Listing<T>>,
    older: Option<Older>,
}

/// A list under way.
#[derive(Debug, Clone)]
struct Listing<T> {
    /// The highest that was seen before.
    seen: Option<Version>,
    shown: HashSet<Key>,
    /// What can be judged only when it is known how old the list is.
    held: BTreeMap<Key, Known<T>>,
}

/// Lists have been older than what is known.
#[derive(Debug, Clone)]
struct Older {
    since: Instant,
    first: Version,
    last: Version,
    lists: u32,
}

impl<T: Clone + PartialEq> Cache<T> {
    /// Nothing is known.
    pub(crate) fn new() -> Cache<T> {
        let (objects, version, seen, newest) = (Shared::default(), None, None, None);
        Cache { objects, version, seen, is_shown: false, newest, listing: None, older: None }
    }

    /// What an earlier run knew, all of it, up to `version`; `seen` is the highest that it saw.
    pub(crate) fn restored(objects: Shared<Key, Known<T>>, version: Version, seen: Version) -> Cache<T> {
        let newest = objects.iter().filter_map(|(_, known)| known.created).max();
        let (version, seen) = (Some(version), Some(seen));
        Cache { objects, version, seen, is_shown: true, newest, listing: None, older: None }
    }

    pub(crate) fn objects(&self) -> &Shared<Key, Known<T>> {
        &self.objects
    }

    pub(crate) fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    pub(crate) fn is_shown(&self) -> bool {
        self.is_shown
    }

    /// What was seen counts no longer: the next list that begins is believed, whatever its version. Objects stay until
    /// then, and what a list or a watch still tells that is under way changes nothing.
    pub(crate) fn give_history_up(&mut self) {
        (self.version, self.seen, self.newest, self.older) = (None, None, None, None);
        self.listing = None;
    }

    /// There is no such kind: nothing of it is left.
    pub(crate) fn empty(&mut self) -> Vec<Change<T>> {
        let gone = self.objects.iter().map(|(key, _)| (key.clone(), None)).collect();
        *self = Cache { is_shown: true, ..Cache::new() };
        gone
    }

    /// A list begins; one that was under way is none.
    pub(crate) fn begin_list(&mut self) {
        self.listing =
            Some(Listing { seen: self.seen.clone(), shown: HashSet::new(), held: BTreeMap::new() });
    }

    /// The list shows an object. What is newer by its own version is taken at once, wherever it is from; what is not
    /// waits for the end of the list, which says how old the list is.
    pub(crate) fn show(&mut self, key: Key, found: Known<T>) -> Option<Change<T>> {
        let listing = self.listing.as_mut()?;
        listing.shown.insert(key.clone());
        // A stream may show it once more after it has changed.
        listing.held.remove(&key);
        let is_sure = match (self.objects.get(&key), &listing.seen) {
            // What is known counts no longer, and goes at the end: until then nothing is mixed with it. After a restored
            // backup an equal version may say something else.
            (_, None) => !self.is_shown,
            (Some(known), _) if found.uid == known.uid && found.version == known.version => {
                if found.says == known.says {
                    return None;
                }
                // It was written down by an earlier version of ours, which took less from the same object.
                true
            }
            (Some(known), _) if found.uid == known.uid => found.version.is_newer_than(&known.version),
            (_, Some(seen)) => found.version.is_newer_than(seen),
        };
        if is_sure {
            return self.take(key, found);
        }
        listing.held.insert(key, found);
        None
    }

    /// The list shows an object that cannot be read: it counts as before.
    pub(crate) fn show_unreadable(&mut self, key: Key) {
        if let Some(listing) = &mut self.listing {
            listing.shown.insert(key);
        }
    }

    /// Since the list began an object has gone, with the version of that.
    pub(crate) fn show_gone(&mut self, key: Key, uid: Option<Uid>, version: Version) -> Option<Change<T>> {
        let listing = self.listing.as_mut()?;
        listing.shown.remove(&key);
        listing.held.remove(&key);
        // What is not newer than all that was seen goes at the end, if the list turns out not to be older.
        let is_later = listing.seen.as_ref().is_none_or(|seen| version.is_newer_than(seen));
        let is_meant = |known: &Known<T>| known.uid == uid && version.is_newer_than(&known.version);
        if !is_later || !self.objects.get(&key).is_some_and(is_meant) {
            return None;
        }
        raise(&mut self.seen, &version);
        self.objects.remove(&key);
        Some((key, None))
    }

    /// All of the list was shown.
    pub(crate) fn end_list(&mut self, version: Version, now: Instant) -> (Vec<Change<T>>, Verdict) {
        let Some(Listing { seen, shown, held }) = self.listing.take() else {
            return (Vec::new(), Verdict::Older("nothing was listed".to_owned()));
        };
        if let Some(known) = seen.clone().filter(|known| version.is_older_than(known)) {
            let taken =
                held.into_iter().filter_map(|(key, found)| self.take_from_older(key, found)).collect();
            let missing = self.objects.iter().filter(|(key, _)| !shown.contains(*key)).count();
            return (taken, self.note_older(version, &known, missing, now));
        }
        let mut changes: Vec<Change<T>> =
            held.into_iter().filter_map(|(key, found)| self.take(key, found)).collect();
        let gone = self.objects.iter().filter(|(key, _)| !shown.contains(*key)).map(|(key, _)| key.clone());
        for key in gone.collect::<Vec<Key>>() {
            self.objects.remove(&key);
            changes.push((key, None));
        }
        self.seen = seen;
        raise(&mut self.seen, &version);
        self.version = Some(version.clone());
        (self.is_shown, self.older) = (true, None);
        (changes, Verdict::Current(version))
    }

    /// A watch from what is known tells something.
    pub(crate) fn handle(&mut self, event: Event<T>) -> Option<Change<T>> {
        let known_until = self.version.as_ref()?;
        match event {
            Event::Shows(key, found) => {
                let version = found.version.clone();
                let is_news = match self.objects.get(&key) {
                    // Of an object that is not known only what is not older than all that is known: others are gone.
                    None => !version.is_older_than(known_until),
                    Some(known) => version != known.version && !version.is_older_than(&known.version),
                };
                self.reach(version);
                if is_news { self.take(key, found) } else { None }
            }
            Event::Gone(key, uid, version) => {
                let is_meant = |known: &Known<T>| known.uid == uid && !version.is_older_than(&known.version);
                let is_gone = self.objects.get(&key).is_some_and(is_meant);
                self.reach(version);
                is_gone.then(|| {
                    self.objects.remove(&key);
                    (key, None)
                })
            }
            Event::Reached(version) => {
                self.reach(version);
                None
            }
        }
    }

    /// The highest version is never lowered.
    fn reach(&mut self, version: Version) {
        for highest in [&mut self.version, &mut self.seen] {
            raise(highest, &version);
        }
    }

    /// What is the same but for its version is no change, and stays the copy that others have.
    fn take(&mut self, key: Key, mut found: Known<T>) -> Option<Change<T>> {
        self.newest = self.newest.max(found.created);
        raise(&mut self.seen, &found.version);
        let known = self.objects.get(&key).filter(|known| known.says == found.says);
        if let Some(known) = known {
            found.says = known.says.clone();
            self.objects.insert(key, found);
            return None;
        }
        let says = found.says.clone();
        self.objects.insert(key.clone(), found);
        Some((key, Some(says)))
    }

    fn take_from_older(&mut self, key: Key, found: Known<T>) -> Option<Change<T>> {
        let is_new = match self.objects.get(&key) {
            Some(known) => found.was_created_in_place_of(known),
            None => found.created > self.newest && self.newest.is_some(),
        };
        if is_new { self.take(key, found) } else { None }
    }

    fn note_older(&mut self, version: Version, known: &Version, missing: usize, now: Instant) -> Verdict {
        let words = format!(
            "a list of version {version} came after version {known}: it removes nothing before a newer one confirms it \
             ({missing} objects are not in it)"
        );
        match &mut self.older {
            Some(older) if !version.is_older_than(&older.last) => {
                older.last = version;
                older.lists += 1;
                let has_moved = older.last.is_newer_than(&older.first);
                let is_long = now.saturating_duration_since(older.since) >= CONFIRMED_AFTER;
                if has_moved && is_long && older.lists >= CONFIRMED_BY {
                    self.give_history_up();
                    return Verdict::Confirmed;
                }
            }
            _ => {
                self.older = Some(Older { since: now, first: version.clone(), last: version, lists: 1 });
            }
        }
        Verdict::Older(words)
    }
}

/// A number stays unless there is a higher one: nothing could be older than what compares with nothing.
pub(crate) fn raise(highest: &mut Option<Version>, version: &Version) {
    let is_lower = |highest: &Version| match version.order(highest) {
        Some(order) => order.is_lt(),
        None => highest.is_number(),
    };
    if !highest.as_ref().is_some_and(is_lower) {
        *highest = Some(version.clone());
    }
}

#[cfg(test)]
mod tests;
