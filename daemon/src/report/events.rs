//! Kubernetes Events of this node, told in time and never a flood. Pure: time is an argument, requests are values.
//!
//! ```text
//!   happening -> a series of it is open -> its count moves, once a minute at most
//!             -> a new one, and both buckets (of the node, of the object) have room -> an Event
//!             -> no room -> counted, and told once it is quiet: "and 4980 more: n17, n18, n19, ..."
//! ```
//!
//! Nothing waits in a queue: what has not been written yet is the latest state of each series, and there are few of
//! them. What nobody could be told for an hour is forgotten; API servers keep Events no longer (`--event-ttl`).
//!
//! The API server lets nobody change the note of an Event, only its series (`ValidateEventUpdate` in
//! pkg/apis/core/validation/events.go of Kubernetes): other words are another Event.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::objects::ObjectRef;

/// How long the same happening is the same Event.
const SERIES: Duration = Duration::from_secs(600);
/// How often the count of a series moves at most.
const BETWEEN_COUNTS: Duration = Duration::from_secs(60);
/// How often any series of the node moves at most.
const BETWEEN_AGAINS: Duration = Duration::from_secs(15);
/// How long a series waits that the server forbids.
const BETWEEN_REFUSALS: Duration = Duration::from_secs(300);
/// How long it must be quiet before what was not told one by one is told as a number,
const QUIET: Duration = Duration::from_secs(10);
/// and how long that waits at most, if it does not get quiet.
const UNQUIET: Duration = Duration::from_secs(60);
/// Between two such numbers of one kind.
const BETWEEN_CLOSINGS: Duration = Duration::from_secs(300);
/// What nobody could be told for so long is not told any more.
const TOO_OLD: Duration = Duration::from_secs(3600);
/// Most series at a time, and most objects that are looked at one by one.
const MOST: usize = 64;
/// Names that are given as examples of many.
const EXAMPLES: usize = 3;
/// The longest note in octets (events.k8s.io/v1).
const MOST_NOTE_OCTETS: usize = 1024;

/// What an Event is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum About {
    /// This node.
    Node,
    /// An object of the cluster.
    Object(ObjectRef),
}

/// `type` of an Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// As it should be.
    Normal,
    /// Somebody may want to look.
    Warning,
}

/// Something that operators want to hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Happening {
    /// Whom it is shown with.
    pub(crate) about: About,
    /// `Warning`, or not.
    pub(crate) severity: Severity,
    /// In CamelCase; at most 128 octets.
    pub(crate) reason: &'static str,
    /// What was done, in CamelCase; at most 128 octets.
    pub(crate) action: &'static str,
    /// Who or what it happened to; with reason and object it says which happenings are the same.
    pub(crate) subject: String,
    /// For people.
    pub(crate) note: String,
}

/// Which happenings are the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) about: About,
    pub(crate) reason: &'static str,
    /// Empty where it stands for many.
    pub(crate) subject: String,
}

/// A moment on both clocks: one that people read, one that does not jump.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) steady: Instant,
    pub(crate) of_day: SystemTime,
}

impl Moment {
    pub(crate) fn now() -> Moment {
        Moment { steady: Instant::now(), of_day: SystemTime::now() }
    }
}

/// The next request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Write {
    /// A new Event.
    Create(New),
    /// The series of one that is there.
    Count {
        /// Its name.
        name: String,
        /// Times so far, at least 2.
        count: u32,
        /// When it was seen last.
        last: SystemTime,
    },
}

/// What an Event says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct New {
    pub(crate) severity: Severity,
    pub(crate) action: &'static str,
    pub(crate) note: String,
    /// Times so far, at least 1.
    pub(crate) count: u32,
    pub(crate) first: SystemTime,
    pub(crate) last: SystemTime,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An Event of this name has the count that was written.
    Written(String),
    /// The Event is gone: another one is made.
    Gone,
    /// We may not, now: it is tried again later.
    Deferred,
    /// The server does not want it; the words are for the operator, and it is not tried again.
    Refused,
}

/// All of this node's.
#[derive(Debug)]
pub(crate) struct Events {
    of_node: Bucket,
    of_objects: BTreeMap<About, Bucket>,
    series: BTreeMap<Key, Series>,
    /// Before then no series is written again.
    again_from: Instant,
    withheld: BTreeMap<(About, &'static str), Withheld>,
}

#[derive(Debug, Clone)]
struct Series {
    new: New,
    /// What the server has: the name, and the count that was written.
    told: Option<(String, u32)>,
    last_seen: Instant,
    /// When there is something to write.
    due: Option<Instant>,
    last_written: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Withheld {
    severity: Severity,
    action: &'static str,
    count: u32,
    examples: Vec<String>,
    since: Instant,
    last_seen: Instant,
    not_before: Option<Instant>,
}

impl Events {
    pub(crate) fn new(now: Instant) -> Events {
        Events {
            of_node: Bucket::of_node(now),
            of_objects: BTreeMap::new(),
            series: BTreeMap::new(),
            again_from: now,
            withheld: BTreeMap::new(),
        }
    }

    /// It has happened.
    pub(crate) fn note(&mut self, now: Moment, happening: Happening) {
        self.note_for_later(now, happening, Duration::ZERO);
    }

    /// It has happened, and is told after `wait`, and so is each count of it.
    pub(crate) fn note_for_later(&mut self, now: Moment, happening: Happening, wait: Duration) {
        let Happening { about, severity, reason, action, subject, mut note } = happening;
        shorten(&mut note, MOST_NOTE_OCTETS);
        let key = Key { about, reason, subject };
        let new = New { severity, action, note, count: 1, first: now.of_day, last: now.of_day };
        if let Some(series) = self.series.get_mut(&key)
            && now.steady.saturating_duration_since(series.last_seen) < SERIES
        {
            series.again(now, new, wait);
            return;
        }
        self.forget(now.steady);
        if self.series.len() < MOST && self.take(now.steady, &key.about) {
            let series = Series::new(now.steady, new);
            self.series.insert(key, Series { due: Some(now.steady + wait), ..series });
        } else {
            self.withhold(now.steady, key, &new);
        }
    }

    /// When [`Events::poll_write`] may have something.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let series = self.series.values().filter_map(|series| series.due(self.again_from));
        let withheld = self.withheld.iter().filter(|(of, _)| self.is_last_told(of));
        series.chain(withheld.filter_map(|(_, withheld)| withheld.due())).min()
    }

    /// Whether the last number of what was withheld is told, or gone.
    fn is_last_told(&self, (about, reason): &(About, &'static str)) -> bool {
        let key = Key { about: about.clone(), reason, subject: String::new() };
        self.series.get(&key).is_none_or(|series| series.due.is_none())
    }

    /// What to write now. It stays due until [`Events::handle_outcome`] says how it ended.
    pub(crate) fn poll_write(&mut self, now: Moment) -> Option<(Key, Write)> {
        self.close(now);
        let is_too_old = |series: &Series| now.steady.saturating_duration_since(series.last_seen) >= TOO_OLD;
        self.series.retain(|_, series| series.due.is_none() || !is_too_old(series));
        let due =
            self.series.iter().filter_map(|(key, series)| Some((series.due(self.again_from)?, key, series)));
        let (due, key, series) = due.min_by_key(|(due, ..)| *due)?;
        let write = match &series.told {
            Some((name, _)) => {
                Write::Count { name: name.clone(), count: series.new.count, last: series.new.last }
            }
            None => Write::Create(series.new.clone()),
        };
        (due <= now.steady).then(|| (key.clone(), write))
    }

    /// How `write` of `key` ended. What happened meanwhile is told next.
    pub(crate) fn handle_outcome(&mut self, now: Instant, key: &Key, write: &Write, outcome: Outcome) {
        let Some(series) = self.series.get_mut(key) else { return };
        let (note, count) = match write {
            Write::Create(new) => (Some(&new.note), new.count),
            Write::Count { count, .. } => (None, *count),
        };
        if series.last_written.replace(now).is_some() {
            self.again_from = now + BETWEEN_AGAINS;
        }
        series.due = None;
        match outcome {
            Outcome::Deferred => {
                series.due = Some(now + BETWEEN_REFUSALS);
                return;
            }
            // Its words may have become others while it was written.
            Outcome::Written(name) if note.is_none_or(|note| *note == series.new.note) => {
                series.told = Some((name, count));
            }
            Outcome::Written(_) => series.told = None,
            Outcome::Gone => series.told = None,
            Outcome::Refused => {
                self.series.remove(key);
                return;
            }
        }
        series.schedule(now);
    }

    fn take(&mut self, now: Instant, about: &About) -> bool {
        if !self.of_objects.contains_key(about) {
            self.of_objects.retain(|_, bucket| !bucket.is_full(now));
            if self.of_objects.len() >= MOST {
                return false;
            }
        }
        let of_object = self.of_objects.entry(about.clone()).or_insert_with(|| Bucket::of_object(now));
        let has_room = of_object.has_room(now) && self.of_node.has_room(now);
        if has_room {
            of_object.take();
            self.of_node.take();
        }
        has_room
    }

    fn withhold(&mut self, now: Instant, key: Key, new: &New) {
        let mut of = (key.about, key.reason);
        if self.withheld.len() >= MOST && !self.withheld.contains_key(&of) {
            of.0 = About::Node;
        }
        let withheld = self.withheld.entry(of).or_insert_with(|| Withheld {
            severity: new.severity,
            action: new.action,
            count: 0,
            examples: Vec::new(),
            since: now,
            last_seen: now,
            not_before: None,
        });
        if withheld.count == 0 {
            withheld.since = now;
        }
        withheld.last_seen = now;
        withheld.count = withheld.count.saturating_add(1);
        if withheld.examples.len() < EXAMPLES && !withheld.examples.contains(&key.subject) {
            withheld.examples.push(key.subject);
        }
    }

    /// What was withheld becomes one Event of its own, once the last of them is told.
    fn close(&mut self, now: Moment) {
        for ((about, reason), withheld) in &mut self.withheld {
            let key = Key { about: about.clone(), reason, subject: String::new() };
            let is_told = self.series.get(&key).is_none_or(|series| series.due.is_none());
            if !is_told || withheld.due().is_none_or(|due| due > now.steady) {
                continue;
            }
            let (count, examples) = (withheld.count, withheld.examples.join(", "));
            let is_all = usize::try_from(count).is_ok_and(|count| count <= withheld.examples.len());
            let mut note = format!("and {count} more: {examples}{}", if is_all { "" } else { ", ..." });
            shorten(&mut note, MOST_NOTE_OCTETS);
            let Withheld { severity, action, .. } = *withheld;
            let new = New { severity, action, note, count: 1, first: now.of_day, last: now.of_day };
            self.series.insert(key, Series::new(now.steady, new));
            withheld.count = 0;
            withheld.examples.clear();
            withheld.not_before = Some(now.steady + BETWEEN_CLOSINGS);
        }
    }

    /// What nobody asks for any more.
    fn forget(&mut self, now: Instant) {
        let age = |seen: Instant| now.saturating_duration_since(seen);
        self.series
            .retain(|_, series| age(series.last_seen) < if series.due.is_some() { TOO_OLD } else { SERIES });
        self.withheld
            .retain(|_, withheld| withheld.count > 0 || withheld.not_before.is_some_and(|at| at > now));
    }
}

impl Series {
    fn new(now: Instant, new: New) -> Series {
        Series { new, told: None, last_seen: now, due: Some(now), last_written: None }
    }

    fn again(&mut self, now: Moment, new: New, wait: Duration) {
        self.last_seen = now.steady;
        if new.note == self.new.note {
            self.new.count = self.new.count.saturating_add(1);
            self.new.last = new.last;
        } else if self.told.take().is_some() {
            // Other words are another Event, no sooner than the count would have moved.
            self.new = new;
        } else {
            let count = self.new.count.saturating_add(1);
            self.new = New { count, first: self.new.first, ..new };
        }
        self.schedule(now.steady + wait);
    }

    fn due(&self, again_from: Instant) -> Option<Instant> {
        let due = self.due?;
        Some(if self.last_written.is_some() { due.max(again_from) } else { due })
    }

    /// What the server has not been told is told then, or later.
    fn schedule(&mut self, from: Instant) {
        if self.told.as_ref().is_some_and(|(_, count)| *count == self.new.count) {
            self.due = None;
        } else if self.due.is_none() {
            self.due = Some(self.last_written.map_or(from, |at| at + BETWEEN_COUNTS).max(from));
        }
    }
}

impl Withheld {
    fn due(&self) -> Option<Instant> {
        let due = (self.last_seen + QUIET).min(self.since + UNQUIET);
        (self.count > 0).then_some(self.not_before.map_or(due, |at| at.max(due)))
    }
}

/// A token bucket.
#[derive(Debug, Clone)]
struct Bucket {
    size: u32,
    left: u32,
    interval: Duration,
    filled: Instant,
}

impl Bucket {
    /// 20 at once, then one each half minute.
    fn of_node(now: Instant) -> Bucket {
        Bucket { size: 20, left: 20, interval: Duration::from_secs(30), filled: now }
    }

    /// 10 at once, then one a minute.
    fn of_object(now: Instant) -> Bucket {
        Bucket { size: 10, left: 10, interval: Duration::from_secs(60), filled: now }
    }

    fn fill(&mut self, now: Instant) {
        let intervals = now.saturating_duration_since(self.filled).as_secs() / self.interval.as_secs();
        let fresh = u32::try_from(intervals).unwrap_or(u32::MAX);
        self.filled += self.interval.saturating_mul(fresh);
        self.left = self.left.saturating_add(fresh).min(self.size);
    }

    fn has_room(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.left > 0
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.left == self.size
    }

    fn take(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

/// At most so many octets, and whole characters.
fn shorten(text: &mut String, most: usize) {
    if text.len() <= most {
        return;
    }
    let ends = "...";
    let cut = (0..=most - ends.len()).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(cut);
    text.push_str(ends);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A server that takes everything, and a clock of its own.
    struct Rig {
        events: Events,
        now: Moment,
        written: Vec<(Key, Write)>,
    }

    impl Rig {
        fn new() -> Rig {
            let now = Moment::now();
            Rig { events: Events::new(now.steady), now, written: Vec::new() }
        }

        fn note(&mut self, reason: &'static str, subject: &str, note: &str) {
            self.events.note(self.now, happening(reason, subject, note));
        }

        /// Time passes, and whatever is due meanwhile is written.
        fn pass(&mut self, time: Duration) {
            let until = self.now.steady + time;
            loop {
                let due = self.events.poll_timeout().unwrap_or(until).max(self.now.steady);
                if due > until {
                    break;
                }
                self.step(due);
                let Some((key, write)) = self.events.poll_write(self.now) else {
                    if due == until {
                        break;
                    } else {
                        continue;
                    };
                };
                let name = match &write {
                    Write::Create(_) => format!("event-{}", self.written.len()),
                    Write::Count { name, .. } => name.clone(),
                };
                self.events.handle_outcome(self.now.steady, &key, &write, Outcome::Written(name));
                self.written.push((key, write));
            }
            self.step(until);
        }

        fn step(&mut self, to: Instant) {
            let time = to - self.now.steady;
            self.now = Moment { steady: to, of_day: self.now.of_day + time };
        }

        fn words(&self) -> Vec<String> {
            let word = |(key, write): &(Key, Write)| match write {
                Write::Create(new) if new.count > 1 => format!("{} {} x{}", key.reason, new.note, new.count),
                Write::Create(new) => format!("{} {}", key.reason, new.note),
                Write::Count { name, count, .. } => format!("{name} x{count}"),
            };
            self.written.iter().map(word).collect()
        }
    }

    fn happening(reason: &'static str, subject: &str, note: &str) -> Happening {
        let (subject, note) = (subject.to_owned(), note.to_owned());
        Happening { about: About::Node, severity: Severity::Normal, reason, action: "Peering", subject, note }
    }

    #[test]
    fn what_is_told_later_is_told_once_with_all_that_happened_meanwhile() {
        let mut rig = Rig::new();
        let unreadable = || happening("Unreadable", "source", "refused");
        rig.events.note_for_later(rig.now, unreadable(), 100 * SECOND);
        rig.pass(50 * SECOND);
        rig.events.note_for_later(rig.now, unreadable(), 100 * SECOND);
        rig.pass(49 * SECOND);
        assert_eq!(rig.words(), [""; 0]);
        rig.pass(2 * SECOND);
        assert_eq!(rig.words(), ["Unreadable refused x2"]);
    }

    #[test]
    fn what_is_told_later_and_happens_again_is_counted_later_too() {
        let mut rig = Rig::new();
        let unreadable = || happening("Unreadable", "source", "refused");
        rig.events.note_for_later(rig.now, unreadable(), 100 * SECOND);
        rig.pass(300 * SECOND);
        rig.events.note_for_later(rig.now, unreadable(), 100 * SECOND);
        rig.pass(99 * SECOND);
        assert_eq!(rig.words(), ["Unreadable refused"], "others count first");
        rig.pass(2 * SECOND);
        assert_eq!(rig.words(), ["Unreadable refused", "event-0 x2"]);
    }

    #[test]
    fn what_happens_once_is_told_at_once() {
        let mut rig = Rig::new();
        rig.note("SessionUp", "tor1", "tor1 is up");
        rig.pass(SECOND);
        assert_eq!(rig.words(), ["SessionUp tor1 is up"]);
        rig.pass(600 * SECOND);
        assert_eq!(rig.written.len(), 1);
    }

    #[test]
    fn the_same_again_only_moves_the_count_and_once_a_minute_at_most() {
        let mut rig = Rig::new();
        for _ in 0..180 {
            rig.note("SessionUp", "tor1", "tor1 is up");
            rig.pass(SECOND);
        }
        rig.pass(61 * SECOND);
        assert_eq!(rig.words(), ["SessionUp tor1 is up", "event-0 x60", "event-0 x120", "event-0 x180"]);
    }

    #[test]
    fn the_same_after_ten_quiet_minutes_is_another_event() {
        let mut rig = Rig::new();
        rig.note("SessionUp", "tor1", "tor1 is up");
        rig.pass(601 * SECOND);
        rig.note("SessionUp", "tor1", "tor1 is up");
        rig.pass(SECOND);
        assert_eq!(rig.words(), ["SessionUp tor1 is up", "SessionUp tor1 is up"]);
    }

    #[test]
    fn other_words_are_another_event_no_sooner_than_a_minute_later() {
        let mut rig = Rig::new();
        rig.note("SessionDown", "tor1", "tor1: hold timer");
        rig.pass(SECOND);
        rig.note("SessionDown", "tor1", "tor1: refused");
        rig.pass(58 * SECOND);
        assert_eq!(rig.written.len(), 1);
        rig.pass(2 * SECOND);
        assert_eq!(rig.words(), ["SessionDown tor1: hold timer", "SessionDown tor1: refused"]);
    }

    #[test]
    fn a_mesh_of_5000_coming_up_is_ten_events_and_a_number() {
        let mut rig = Rig::new();
        for peer in 0..5000 {
            rig.note("SessionUp", &format!("n{peer}"), &format!("n{peer} is up"));
            rig.pass(Duration::from_millis(2));
        }
        rig.pass(3600 * SECOND);
        assert_eq!(rig.written.len(), 11, "{:?}", rig.words());
        assert_eq!(rig.words()[10], "SessionUp and 4990 more: n10, n11, n12, ...");
    }

    #[test]
    fn a_mesh_of_5000_that_flaps_for_an_hour_does_not_flood_the_server() {
        let mut rig = Rig::new();
        let mut told = 0;
        for _ in 0..60 {
            for peer in 0..5000 {
                rig.note("SessionDown", &format!("n{peer}"), &format!("n{peer} is down"));
                rig.note("SessionUp", &format!("n{peer}"), &format!("n{peer} is up"));
                told += 2;
            }
            rig.pass(60 * SECOND);
        }
        rig.pass(3600 * SECOND);
        assert_eq!(told, 600_000);
        assert!(rig.written.len() < 60 * 8, "{} writes", rig.written.len());
        assert!(rig.events.series.len() <= MOST + 2 && rig.events.withheld.len() <= MOST);
    }

    #[test]
    fn each_object_has_its_own_bucket_and_the_node_one_for_all() {
        let mut rig = Rig::new();
        for object in 0..10 {
            for subject in 0..20 {
                let of = ObjectRef { kind: crate::objects::Kind::BGPPeerConfig, name: format!("p{object}") };
                let about = About::Object(of);
                let happening = happening("Invalid", &format!("field {subject}"), "wrong");
                rig.events.note(rig.now, Happening { about, ..happening });
            }
        }
        rig.pass(9 * SECOND);
        let of = |name: &str| {
            let is_of = |key: &Key| matches!(&key.about, About::Object(of) if of.name == name);
            rig.written.iter().filter(|(key, _)| is_of(key)).count()
        };
        assert_eq!([of("p0"), of("p1"), of("p2")], [10, 10, 0]);
        rig.pass(60 * SECOND);
        assert_eq!(rig.written.len(), 30, "one number for each of the ten objects");
    }

    #[test]
    fn while_nobody_listens_the_latest_state_waits_and_no_queue_grows() {
        let mut rig = Rig::new();
        for minute in 0..480 {
            for peer in 0..100 {
                rig.note("SessionDown", &format!("n{peer}"), &format!("n{peer}: reason {minute}"));
            }
            rig.step(rig.now.steady + 60 * SECOND);
        }
        assert!(rig.events.series.len() <= MOST, "{}", rig.events.series.len());
        rig.pass(10 * SECOND);
        let all_new = rig.written.iter().all(|(_, write)| matches!(write, Write::Create(_)));
        assert!(all_new && rig.written.len() <= MOST + 1, "{:?}", rig.words());
        assert!(rig.words()[0].ends_with("reason 479 x480"), "{:?}", rig.words()[0]);
    }

    #[test]
    fn what_nobody_could_be_told_for_an_hour_is_forgotten() {
        let mut rig = Rig::new();
        rig.note("SessionUp", "tor1", "tor1 is up");
        rig.step(rig.now.steady + TOO_OLD);
        rig.pass(SECOND);
        assert_eq!(rig.words(), [""; 0]);
    }

    #[test]
    fn an_event_that_is_gone_is_made_again_and_one_that_is_refused_is_not() {
        let mut rig = Rig::new();
        rig.note("SessionUp", "tor1", "tor1 is up");
        rig.pass(SECOND);
        rig.note("SessionUp", "tor1", "tor1 is up");
        rig.step(rig.now.steady + 60 * SECOND);
        let (key, write) = rig.events.poll_write(rig.now).expect("the count");
        rig.events.handle_outcome(rig.now.steady, &key, &write, Outcome::Gone);
        rig.pass(61 * SECOND);
        assert_eq!(rig.words(), ["SessionUp tor1 is up", "SessionUp tor1 is up x2"]);
        rig.note("SessionUp", "tor2", "tor2 is up");
        let (key, write) = rig.events.poll_write(rig.now).expect("the event");
        rig.events.handle_outcome(rig.now.steady, &key, &write, Outcome::Refused);
        rig.pass(600 * SECOND);
        assert_eq!(rig.written.len(), 2);
    }

    #[test]
    fn an_event_that_is_forbidden_waits_alone_and_is_tried_again() {
        let mut rig = Rig::new();
        rig.note("SessionUp", "tor1", "tor1 is up");
        let (key, write) = rig.events.poll_write(rig.now).expect("the event");
        rig.events.handle_outcome(rig.now.steady, &key, &write, Outcome::Deferred);
        rig.note("SessionUp", "tor2", "tor2 is up");
        rig.pass(SECOND);
        assert_eq!(rig.words(), ["SessionUp tor2 is up"], "others go on");
        rig.pass(BETWEEN_REFUSALS);
        assert_eq!(rig.words(), ["SessionUp tor2 is up", "SessionUp tor1 is up"]);
    }

    /// Or whoever waits for it would be busy until then.
    #[test]
    fn a_number_that_waits_for_another_one_that_is_forbidden_is_not_due() {
        let mut rig = Rig::new();
        for peer in 0..100 {
            rig.note("SessionUp", &format!("n{peer}"), "it is up");
        }
        rig.pass(QUIET - SECOND);
        rig.step(rig.now.steady + SECOND);
        let (key, write) = rig.events.poll_write(rig.now).expect("the number");
        assert!(key.subject.is_empty());
        rig.step(rig.now.steady + BETWEEN_CLOSINGS / 2);
        rig.events.handle_outcome(rig.now.steady, &key, &write, Outcome::Deferred);
        for peer in 100..200 {
            rig.note("SessionUp", &format!("n{peer}"), "it is up");
        }
        rig.step(rig.now.steady + BETWEEN_CLOSINGS * 3 / 4);
        while let Some((key, write)) = rig.events.poll_write(rig.now) {
            rig.events.handle_outcome(rig.now.steady, &key, &write, Outcome::Written("event".to_owned()));
        }
        assert!(rig.events.poll_timeout().is_none_or(|due| due > rig.now.steady));
    }

    #[test]
    fn a_note_is_shortened_to_whole_characters() {
        for length in 1000..1100 {
            let mut note = "é".repeat(length);
            shorten(&mut note, MOST_NOTE_OCTETS);
            assert!(note.len() <= MOST_NOTE_OCTETS && note.ends_with("..."));
        }
        let mut short = "short".to_owned();
        shorten(&mut short, MOST_NOTE_OCTETS);
        assert_eq!(short, "short");
    }
}
