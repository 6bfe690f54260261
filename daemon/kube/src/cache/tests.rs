use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn key(name: &str) -> Key {
    Key::new("default", name)
}

fn known(uid: &str, version: u64, created: i64, says: u32) -> Known<u32> {
    Known { uid: Uid::new(uid), version: Version::Number(version), created: Some(created), says }
}

/// Name, uid, version, creation and what it says.
type Row = (&'static str, &'static str, u64, i64, u32);

fn list(cache: &mut Cache<u32>, rows: &[Row], version: u64, now: Instant) -> (Vec<String>, Verdict) {
    cache.begin_list();
    let mut changes: Vec<Change<u32>> = Vec::new();
    for (name, uid, version, created, says) in rows {
        changes.extend(cache.show(key(name), known(uid, *version, *created, *says)));
    }
    let (more, verdict) = cache.end_list(Version::Number(version), now);
    changes.extend(more);
    (words(changes), verdict)
}

fn words(changes: impl IntoIterator<Item = Change<u32>>) -> Vec<String> {
    changes.into_iter().map(|(key, says)| format!("{} {says:?}", key.name)).collect()
}

fn current(version: u64) -> Verdict {
    Verdict::Current(Version::Number(version))
}

/// Two objects at version 10.
fn two() -> Cache<u32> {
    let mut cache = Cache::new();
    let (changes, verdict) =
        list(&mut cache, &[("a", "u1", 5, 100, 1), ("b", "u2", 7, 101, 2)], 10, Instant::now());
    assert_eq!((changes, verdict), (vec!["a Some(1)".to_owned(), "b Some(2)".to_owned()], current(10)));
    cache
}

#[test]
fn a_newer_list_changes_what_is_another_and_removes_what_is_missing() {
    let mut cache = two();
    let (changes, verdict) =
        list(&mut cache, &[("a", "u1", 12, 100, 3), ("c", "u3", 11, 102, 4)], 20, Instant::now());
    assert_eq!(changes, ["a Some(3)", "c Some(4)", "b None"]);
    assert_eq!((verdict, cache.version()), (current(20), Some(&Version::Number(20))));
}

#[test]
fn what_changes_nothing_that_counts_is_no_change() {
    let mut cache = two();
    assert_eq!(cache.handle(Event::Shows(key("a"), known("u1", 15, 100, 1))), None);
    assert_eq!(cache.version(), Some(&Version::Number(15)));
    let rows = [("a", "u1", 16, 100, 1), ("b", "u2", 7, 101, 2)];
    assert_eq!(list(&mut cache, &rows, 16, Instant::now()), (Vec::new(), current(16)));
}

#[test]
fn what_changes_nothing_that_counts_is_not_kept_twice() {
    let object = |version| Known {
        uid: Uid::new("u1"),
        version: Version::Number(version),
        created: None,
        says: Arc::new("long".to_owned()),
    };
    let mut cache = Cache::new();
    cache.begin_list();
    let (_, told) = cache.show(key("a"), object(5)).expect("it is new");
    let told = told.expect("it is there");
    cache.end_list(Version::Number(10), Instant::now());
    assert_eq!(cache.handle(Event::Shows(key("a"), object(11))), None);
    cache.begin_list();
    assert_eq!(cache.show(key("a"), object(12)), None);
    cache.end_list(Version::Number(13), Instant::now());
    let kept = cache.objects().get(&key("a")).expect("it is there");
    assert_eq!(kept.version, Version::Number(12));
    assert!(Arc::ptr_eq(&kept.says, &told), "whoever was told has another copy");
}

#[test]
fn an_older_list_removes_nothing_and_brings_nothing_back() {
    let mut cache = two();
    assert_eq!(words(cache.handle(Event::Gone(key("b"), Uid::new("u2"), Version::Number(11)))), ["b None"]);
    assert_eq!(words(cache.handle(Event::Shows(key("c"), known("u3", 12, 102, 3)))), ["c Some(3)"]);
    let (changes, verdict) =
        list(&mut cache, &[("a", "u1", 4, 100, 9), ("b", "u2", 7, 101, 2)], 10, Instant::now());
    assert_eq!(changes, [""; 0]);
    let Verdict::Older(words) = verdict else { panic!("{verdict:?}") };
    assert!(words.contains("version 10 came after version 12") && words.contains("1 objects"), "{words}");
    assert_eq!(cache.version(), Some(&Version::Number(12)));
}

#[test]
fn of_an_older_list_only_what_was_made_later_than_all_is_taken() {
    let mut cache = two();
    let rows = [("a", "u9", 4, 200, 3), ("c", "u8", 4, 201, 4), ("d", "u7", 4, 101, 5)];
    let (changes, verdict) = list(&mut cache, &rows, 6, Instant::now());
    assert_eq!(changes, ["a Some(3)", "c Some(4)"]);
    assert!(matches!(verdict, Verdict::Older(_)));
}

#[test]
fn the_alarm_ends_with_a_list_that_is_not_older() {
    let (mut cache, now) = (two(), Instant::now());
    assert!(matches!(list(&mut cache, &[], 6, now).1, Verdict::Older(_)));
    let (changes, verdict) = list(&mut cache, &[("a", "u1", 5, 100, 1)], 10, now + SECOND);
    assert_eq!((changes, verdict), (vec!["b None".to_owned()], current(10)));
}

/// What a server shows that was restored from a backup: lower versions, which go on.
#[test]
fn older_lists_that_move_on_for_five_minutes_are_believed() {
    let (mut cache, begun) = (two(), Instant::now());
    for step in 0..10 {
        let (changes, verdict) =
            list(&mut cache, &[("b", "u2", 2, 90, 7)], 3 + step / 4, begun + SECOND * 31 * step as u32);
        assert_eq!(changes, [""; 0]);
        assert!(matches!(verdict, Verdict::Older(_)), "after {step}: {verdict:?}");
    }
    assert_eq!(list(&mut cache, &[], 6, begun + SECOND * 310).1, Verdict::Confirmed);
    assert_eq!(cache.objects().len(), 2, "until the next list");
    let (changes, verdict) = list(&mut cache, &[("b", "u2", 2, 90, 7)], 6, begun + SECOND * 311);
    assert_eq!((changes, verdict), (vec!["b Some(7)".to_owned(), "a None".to_owned()], current(6)));
}

/// What a replica shows that is stuck, or two of them in turn.
#[test]
fn older_lists_that_stand_still_or_go_back_are_never_believed() {
    for versions in [[6, 6], [8, 6]] {
        let (mut cache, begun) = (two(), Instant::now());
        for step in 0..1000 {
            let version = versions[step % 2];
            let (_, verdict) = list(&mut cache, &[], version, begun + SECOND * 30 * step as u32);
            assert!(matches!(verdict, Verdict::Older(_)), "{versions:?} after {step}");
        }
        assert_eq!(cache.objects().len(), 2);
    }
}

#[test]
fn a_list_of_another_history_that_is_not_older_is_the_truth() {
    let mut cache = two();
    let (changes, verdict) =
        list(&mut cache, &[("a", "u1", 3, 100, 9), ("b", "u5", 4, 50, 8)], 30, Instant::now());
    assert_eq!((changes, verdict), (vec!["a Some(9)".to_owned(), "b Some(8)".to_owned()], current(30)));
}

#[test]
fn late_events_and_those_of_others_change_nothing() {
    let mut cache = two();
    for event in [
        Event::Shows(key("a"), known("u1", 4, 100, 9)),
        Event::Shows(key("c"), known("u3", 9, 100, 9)),
        Event::Gone(key("a"), Uid::new("u1"), Version::Number(4)),
        Event::Gone(key("a"), Uid::new("u9"), Version::Number(14)),
        Event::Gone(key("x"), Uid::new("u9"), Version::Number(14)),
        Event::Reached(Version::Number(3)),
    ] {
        assert_eq!(cache.handle(event.clone()), None, "{event:?}");
    }
    assert_eq!(cache.version(), Some(&Version::Number(14)));
}

#[test]
fn an_object_that_cannot_be_read_stays_as_it_was() {
    let mut cache = two();
    cache.begin_list();
    cache.show_unreadable(key("a"));
    let (changes, _) = cache.end_list(Version::Number(11), Instant::now());
    assert_eq!(words(changes), ["b None"]);
}

#[test]
fn a_list_that_was_cut_off_leaves_no_trace_in_the_next() {
    let mut cache = two();
    cache.begin_list();
    cache.show_unreadable(key("a"));
    cache.show_unreadable(key("b"));
    assert_eq!(list(&mut cache, &[("a", "u1", 5, 100, 1)], 11, Instant::now()).0, ["b None"]);
}

#[test]
fn versions_that_are_no_numbers_are_believed_as_they_come() {
    let version = Version::new("x1");
    let known = |version: &str, says| Known { version: Version::new(version), ..known("u1", 0, 100, says) };
    let mut cache = Cache::new();
    cache.begin_list();
    cache.show(key("a"), known("x0", 1));
    assert_eq!(cache.end_list(version.clone(), Instant::now()).1, Verdict::Current(version));
    assert_eq!(words(cache.handle(Event::Shows(key("a"), known("w", 2)))), ["a Some(2)"]);
    cache.begin_list();
    assert_eq!(cache.show(key("a"), known("v", 3)), None, "not before the end");
    let (changes, verdict) = cache.end_list(Version::new("a"), Instant::now());
    assert_eq!(
        (words(changes), verdict),
        (vec!["a Some(3)".to_owned()], Verdict::Current(Version::new("a")))
    );
}

/// A restored backup has another history: an equal version of the same object may say something else.
#[test]
fn after_history_was_given_up_an_equal_version_is_no_proof_of_equal_content() {
    let mut cache = two();
    cache.give_history_up();
    let rows = [("a", "u1", 5, 100, 9), ("b", "u2", 7, 101, 2)];
    assert_eq!(list(&mut cache, &rows, 8, Instant::now()), (vec!["a Some(9)".to_owned()], current(8)));
}

/// As that of another cluster: what is there and what was there are never seen together.
#[test]
fn after_history_was_given_up_nothing_is_taken_before_the_end_of_the_list() {
    let mut cache = two();
    cache.give_history_up();
    cache.begin_list();
    assert_eq!(cache.show(key("c"), known("u3", 3, 90, 9)), None);
    let (changes, verdict) = cache.end_list(Version::Number(4), Instant::now());
    let mut changes = words(changes);
    changes.sort();
    assert_eq!(
        (changes, verdict),
        (["a None", "b None", "c Some(9)"].map(str::to_owned).to_vec(), current(4))
    );
}

/// A watch or a list of the cluster before, which is not ended in the same instant.
#[test]
fn after_history_was_given_up_what_was_under_way_tells_nothing() {
    let mut cache = two();
    cache.begin_list();
    cache.give_history_up();
    let late = known("u3", 90, 100, 9);
    assert_eq!(cache.show(key("c"), late.clone()), None);
    assert_eq!(cache.handle(Event::Shows(key("c"), late)), None);
    assert_eq!(cache.handle(Event::Gone(key("a"), Uid::new("u1"), Version::Number(91))), None);
    assert_eq!(cache.handle(Event::Reached(Version::Number(92))), None);
    let (changes, verdict) = list(&mut cache, &[("b", "u2", 2, 90, 7)], 4, Instant::now());
    assert_eq!((changes, verdict), (vec!["b Some(7)".to_owned(), "a None".to_owned()], current(4)));
}

/// Another object of that name, which is deleted and made again while the list streams: only the last is newer than all.
#[test]
fn what_a_list_shows_later_of_an_object_counts() {
    let mut cache = two();
    cache.begin_list();
    assert_eq!(cache.show(key("a"), known("u9", 9, 100, 8)), None, "not before the end");
    assert_eq!(words(cache.show(key("a"), known("u9", 12, 100, 9))), ["a Some(9)"]);
    assert_eq!(cache.show(key("b"), known("u8", 8, 100, 7)), None);
    assert_eq!(cache.show(key("b"), known("u2", 7, 101, 2)), None, "it is as it was");
    assert_eq!(cache.end_list(Version::Number(12), Instant::now()), (Vec::new(), current(12)));
    let says = |name| cache.objects().get(&key(name)).expect("it is known").says;
    assert_eq!((says("a"), says("b")), (9, 2));
}

#[test]
fn what_goes_while_a_list_streams_is_gone_at_its_end() {
    let mut cache = two();
    cache.begin_list();
    cache.show(key("a"), known("u1", 5, 100, 1));
    assert_eq!(words(cache.show(key("c"), known("u3", 11, 102, 3))), ["c Some(3)"]);
    assert_eq!(cache.show(key("d"), known("u4", 9, 100, 4)), None);
    cache.show(key("b"), known("u2", 7, 101, 2));
    let mut gone =
        |name, uid, version| words(cache.show_gone(key(name), Uid::new(uid), Version::Number(version)));
    assert_eq!(gone("a", "u1", 12), ["a None"]);
    assert_eq!(gone("c", "u3", 13), ["c None"]);
    assert_eq!(gone("d", "u4", 14), [""; 0], "it was never taken");
    assert_eq!(gone("b", "u2", 8), [""; 0], "not before it is known how old the list is");
    let (changes, verdict) = cache.end_list(Version::Number(14), Instant::now());
    assert_eq!((words(changes), verdict), (vec!["b None".to_owned()], current(14)));
    assert_eq!(cache.objects().len(), 0);
}

#[test]
fn a_number_is_never_given_up_for_a_version_that_compares_with_nothing() {
    let mut cache = two();
    cache.handle(Event::Reached(Version::new("x")));
    cache.handle(Event::Shows(key("a"), Known { version: Version::new("x1"), ..known("u1", 0, 100, 3) }));
    assert!(matches!(list(&mut cache, &[], 9, Instant::now()).1, Verdict::Older(_)), "10 was seen");
    cache.begin_list();
    cache.end_list(Version::new("y"), Instant::now());
    assert!(matches!(list(&mut cache, &[], 9, Instant::now()).1, Verdict::Older(_)), "and still was");
}

#[test]
fn of_a_snapshot_the_same_rules_hold() {
    let objects =
        [(key("a"), known("u1", 5, 100, 1)), (key("b"), known("u2", 7, 101, 2))].into_iter().collect();
    let mut cache = Cache::restored(objects, Version::Number(10), Version::Number(12));
    assert!(matches!(list(&mut cache, &[], 11, Instant::now()).1, Verdict::Older(_)), "later ones were seen");
    assert!(matches!(list(&mut cache, &[], 6, Instant::now()).1, Verdict::Older(_)));
    assert_eq!(list(&mut cache, &[("a", "u1", 5, 100, 1)], 12, Instant::now()).0, ["b None"]);
}

/// A server with its whole history. Each step is a version.
#[derive(Debug, Clone, Default)]
struct Server {
    states: Vec<BTreeMap<u8, Known<u32>>>,
    events: Vec<Event<u32>>,
}

impl Server {
    fn of(steps: &[(u8, bool)]) -> Server {
        let mut server =
            Server { states: vec![BTreeMap::new()], events: vec![Event::Reached(Version::Number(0))] };
        for (at, (name, stays)) in steps.iter().enumerate() {
            let version = Version::Number(at as u64 + 1);
            let mut state = server.states.last().cloned().unwrap_or_default();
            let object_key = key(&name.to_string());
            let event = match (state.get_mut(name), stays) {
                (Some(object), true) => {
                    (object.version, object.says) = (version, object.says + 1);
                    Event::Shows(object_key, object.clone())
                }
                (Some(object), false) => {
                    let uid = object.uid.clone();
                    state.remove(name);
                    Event::Gone(object_key, uid, version)
                }
                (None, _) => {
                    let object = Known {
                        uid: Uid::new(&format!("uid-{at}")),
                        version,
                        created: Some(at as i64),
                        says: 0,
                    };
                    state.insert(*name, object.clone());
                    Event::Shows(object_key, object)
                }
            };
            server.states.push(state);
            server.events.push(event);
        }
        server
    }
}

/// What a client does.
#[derive(Debug, Clone)]
enum Step {
    /// A whole list as of a moment: the latest, or one that may be older.
    List(prop::sample::Index),
    /// The same as a stream, in which so many changes come before the end.
    Stream(prop::sample::Index, usize),
    /// Part of one, and then it is cut off.
    CutOff(prop::sample::Index, prop::sample::Index),
    /// A watch from what is known, for so many events, a stale one some before it.
    Watch(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<prop::sample::Index>().prop_map(Step::List),
        (any::<prop::sample::Index>(), 0_usize..10).prop_map(|(at, count)| Step::Stream(at, count)),
        (any::<prop::sample::Index>(), any::<prop::sample::Index>())
            .prop_map(|(at, part)| Step::CutOff(at, part)),
        (0_usize..20, prop_oneof![Just(0), 0_usize..5])
            .prop_map(|(count, before)| Step::Watch(count, before)),
    ]
}

proptest! {
    /// However lists of all ages and watches follow each other: nothing comes back that was known to be gone, nothing
    /// goes that is there, no object grows older, and what is known is what the server had at the highest version up to
    /// which all was seen. Beside it is only what came later, and what only an older list has ever shown, until the
    /// next list that is not older.
    #[test]
    fn what_is_known_is_what_the_server_had_at_the_highest_version_seen(
        history in prop::collection::vec((0_u8..12, prop::bool::weighted(0.6)), 1..120),
        steps in prop::collection::vec(step(), 1..30),
    ) {
        let server = Server::of(&history);
        let mut cache: Cache<u32> = Cache::new();
        // What one knows who applies every change: told by what the cache says has changed.
        let mut told: BTreeMap<Key, u32> = BTreeMap::new();
        let now = Instant::now();
        let (mut ever, mut strays) = (BTreeSet::new(), BTreeSet::new());
        for step in steps {
            let mut is_current = false;
            let before = cache.clone();
            let mut changes = Vec::new();
            match step {
                Step::List(at) => {
                    let at = at.index(server.states.len());
                    cache.begin_list();
                    for (name, object) in &server.states[at] {
                        changes.extend(cache.show(key(&name.to_string()), object.clone()));
                    }
                    let (more, verdict) = cache.end_list(Version::Number(at as u64), now);
                    changes.extend(more);
                    let is_older = before.seen.as_ref().is_some_and(|seen| Version::Number(at as u64).is_older_than(seen));
                    prop_assert_eq!(matches!(verdict, Verdict::Older(_)), is_older);
                    is_current = !is_older;
                }
                Step::Stream(at, count) => {
                    let at = at.index(server.states.len());
                    cache.begin_list();
                    for (name, object) in &server.states[at] {
                        changes.extend(cache.show(key(&name.to_string()), object.clone()));
                    }
                    for event in server.events.iter().skip(at + 1).take(count) {
                        changes.extend(match event.clone() {
                            Event::Shows(key, object) => cache.show(key, object),
                            Event::Gone(key, uid, version) => cache.show_gone(key, uid, version),
                            Event::Reached(_) => None,
                        });
                    }
                    let at = (at + count).min(server.states.len() - 1) as u64;
                    let (more, verdict) = cache.end_list(Version::Number(at), now);
                    changes.extend(more);
                    let is_older = before.seen.as_ref().is_some_and(|seen| Version::Number(at).is_older_than(seen));
                    prop_assert_eq!(matches!(verdict, Verdict::Older(_)), is_older);
                    is_current = !is_older;
                }
                Step::CutOff(at, part) => {
                    let state = &server.states[at.index(server.states.len())];
                    cache.begin_list();
                    for (name, object) in state.iter().take(part.index(state.len() + 1)) {
                        changes.extend(cache.show(key(&name.to_string()), object.clone()));
                    }
                }
                Step::Watch(count, earlier) => {
                    let Some(Version::Number(from)) = cache.version().cloned() else { continue };
                    // A list that was cut off has shown what is newer: the watch tells it again.
                    let first = (from as usize + 1).saturating_sub(earlier);
                    for event in server.events.iter().skip(first).take(count) {
                        changes.extend(cache.handle(event.clone()));
                    }
                }
            }
            for (key, says) in changes {
                match says {
                    Some(says) => _ = told.insert(key, says),
                    None => _ = told.remove(&key),
                }
            }
            let now: BTreeMap<Key, u32> =
                cache.objects().iter().map(|(key, known)| (key.clone(), known.says)).collect();
            prop_assert_eq!(&told, &now, "changes tell all");
            for (key, known) in cache.objects().iter() {
                if let Some(before) = before.objects().get(key).filter(|before| before.uid == known.uid) {
                    prop_assert!(!known.version.is_older_than(&before.version), "{} grew older", key);
                }
            }
            let uids = |cache: &Cache<u32>| -> BTreeSet<String> {
                cache.objects().iter().filter_map(|(_, known)| Some(known.uid.as_ref()?.to_string())).collect()
            };
            for uid in uids(&cache).difference(&uids(&before)) {
                prop_assert!(ever.insert(uid.clone()), "{} came back", uid);
                strays.insert(uid.clone());
            }
            if is_current {
                strays.clear();
            }
            let Some(Version::Number(version)) = cache.version().cloned() else { continue };
            let is_later = |known: &Known<u32>| known.version.is_newer_than(&Version::Number(version));
            for (name, wanted) in &server.states[version as usize] {
                let known = cache.objects().get(&key(&name.to_string()));
                prop_assert!(known.is_some_and(|known| known == wanted || is_later(known)), "{} at {}", name, version);
            }
            for (object, known) in cache.objects().iter() {
                let wanted = &server.states[version as usize];
                let is_wanted = wanted.iter().any(|(name, _)| *object == key(&name.to_string()));
                let is_stray = known.uid.as_ref().is_some_and(|uid| strays.contains(&uid.to_string()));
                prop_assert!(is_wanted || is_later(known) || is_stray, "{} is beside what was at {}", object, version);
            }
        }
    }
}
