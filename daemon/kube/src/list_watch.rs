//! Follows one kind: one list, then watches from the last version that was told.
//!
//! A list is a *streaming* one where the server can (KEP-3157: a watch that begins with what is there), or else one in
//! pages. Servers say in two ways that they cannot: by 400 or 422, and by an ERROR event inside a 200. That is remembered,
//! here and over a restart. Silence and 5xx are no such word, as a server with too much to do says that, too: lists of
//! that kind are then in pages for [`PAGED_HERE`]. So are they after two streams in a row that were cut off. All lists
//! are consistent reads (resourceVersion unset), which the rule for older ones rests on (see
//! [`cache`](crate::cache)).
//!
//! Nodes lose their watches at one moment when a server starts anew, and all list when it is restored. What is known
//! stays in force meanwhile, so all lists but the first wait for a part of a time that grows with the cluster
//! ([`Crowd`]).
//!
//! | what happens | what is done |
//! | --- | --- |
//! | the watch ends after its time | watch from the last version |
//! | reset, end in the middle, torn JSON | the same; the server is asked first whether it is the same |
//! | silence for longer than [`SILENCE`] | the same; the third in a row is answered by a list |
//! | the server is older than the last version | a list, which says by how much |
//! | it may not be asked how old it is, and watches say nothing new | the third in a row is followed by a list |
//! | 410, as an answer or an event | the server is asked first whether it is the same; a list, within the [`Allowance`] |
//! | 429, 503 with a pause | the same again after that pause, or after the back-off if that is longer |
//! | 401, 403 | what is known stays; again after 10 s to 60 s, and with another token |
//! | 404 of a kind of ours | the same; there is none of it if that lasts; again after half a minute to one |
//! | 504, too large resource version | again with back-off; the third is answered by a list |
//! | 5xx | again with back-off, at most 30 s |
//! | no connection | waits for [`connection`](crate::connection) |
//!
//! "Again" is always jittered. A list in pages goes on with the page that failed, but after a 410.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use crate::backoff::{Allowance, Backoff, Jitter};
use crate::cache::{Event, Verdict, raise};
use crate::connection::{LONGEST, Link, Place, Reach, Up};
use crate::keeper::Message;
use crate::kinds::Kind;
use crate::picture::KindState;
use crate::request::{self, Failure, Lines};
use crate::version::Version;
use crate::wire::{Found, Line, Page};

/// Bookmarks come about every minute (kubernetes, `defaultBookmarkFrequency`): a watch that says nothing for longer
/// hangs, or its connection is open on our side alone. But none comes before the version has moved since the watch
/// began, which it may not do for long where nothing changes and etcd tells no progress: a watch that never had a
/// bookmark has until its end.
const SILENCE: Duration = Duration::from_secs(150);
/// A server that streams lists has begun by then; the oldest ones never end them.
const STREAM_SILENCE: Duration = Duration::from_secs(15);
/// How long a watch is asked to last, a quarter more or less.
const WATCH: Duration = Duration::from_secs(300);
/// A watch that ends so much before its time was cut off, and one that does not so much after it hangs.
const EARLY: Duration = Duration::from_secs(15);
/// In the long run a kind is listed no more often.
const LIST_INTERVAL: Duration = Duration::from_secs(30);
/// But a few times at once.
const MOST_LISTS: u32 = 3;
/// Objects of a page.
const LIMIT: usize = 500;
/// Objects that are handed on at once.
const BATCH: usize = 256;
const FIRST: Duration = Duration::from_millis(250);
/// So often a page is asked for that others came before.
const PAGE_ATTEMPTS: u32 = 6;
/// Between two attempts at what is refused.
const REFUSED: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
/// Before it is believed that there is no such kind: a server that has just started may not know all.
const MISSING_AGAIN: Duration = Duration::from_secs(2);
/// And how often it is asked whether there is one now.
const MISSING: Duration = Duration::from_secs(45);
/// So many failures in a row are answered by a list.
const ENOUGH: u32 = 3;
/// How long it is remembered that the server does not stream lists.
const PAGED: Duration = Duration::from_secs(24 * 3600);

/// The same, of one kind, by a server that did not say so.
const PAGED_HERE: Duration = Duration::from_secs(600);
/// Lists a second of a kind that all nodes together ask for when they list for one reason.
const LISTS_A_SECOND: f64 = 100.0;
/// They wait at least for a part of that, and at most for one of this.
const CROWD: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(60));

/// How many nodes are known: so many list at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Crowd(Arc<AtomicUsize>);

impl Crowd {
    pub(crate) fn is_of(&self, nodes: usize) {
        self.0.store(nodes, Ordering::Relaxed);
    }

    /// Over how long their lists are spread.
    fn window(&self) -> Duration {
        let nodes = u32::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        Duration::from_secs_f64(f64::from(nodes) / LISTS_A_SECOND).clamp(CROWD.0, CROWD.1)
    }
}

/// Until when lists are asked for in pages, in seconds since 1970; all kinds share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Paged(Arc<AtomicU64>);

impl Paged {
    pub(crate) fn until(seconds: Option<u64>) -> Paged {
        Paged(Arc::new(AtomicU64::new(seconds.unwrap_or_default())))
    }

    /// For the next run.
    pub(crate) fn known(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|until| *until > 0)
    }

    fn is_now(&self) -> bool {
        let now = seconds_now();
        // A clock that jumped back is no reason to do without for years.
        (now..=now + PAGED.as_secs()).contains(&self.0.load(Ordering::Relaxed))
    }

    fn remember(&self) {
        self.0.store(seconds_now() + PAGED.as_secs(), Ordering::Relaxed);
    }

    fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The task of one kind.
pub(crate) struct Follower {
    kind: Kind,
    link: Link,
    keeper: mpsc::Sender<Message>,
    paged: Paged,
    /// Lists of this kind are in pages until then, whatever others do.
    paged_here: Option<Instant>,
    crowd: Crowd,
    /// A list came to its end since this began.
    has_listed: bool,
    jitter: Jitter,
    /// All that changed up to here was handed on; `None`: it has to be listed.
    from: Option<Version>,
    /// When that was told.
    told: Instant,
    /// Of which cluster that is.
    cluster: u64,
    allowance: Allowance,
    backoff: Backoff,
    refused: Backoff,
    /// Failures in a row that a list may mend: silence, or a server that is behind.
    stuck: u32,
    /// Streams in a row that broke off before they told anything.
    torn: u32,
    /// Watches in a row that told nothing, or what was known.
    quiet: u32,
    /// Since when there is no such kind, and how often that was said with nothing else between.
    missing: Option<(Instant, u32)>,
}

/// The keeper has ended, and so does the task.
struct Ended;

/// Why it does not go on.
enum Stop {
    Ended,
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

impl From<Ended> for Stop {
    fn from(_: Ended) -> Stop {
        Stop::Ended
    }
}

impl Follower {
    pub(crate) fn new(
        kind: Kind,
        link: Link,
        keeper: mpsc::Sender<Message>,
        paged: Paged,
        crowd: Crowd,
        jitter: Jitter,
    ) -> Follower {
        Follower {
            kind,
            link,
            keeper,
            paged,
            paged_here: None,
            crowd,
            has_listed: false,
            jitter,
            from: None,
            told: Instant::now(),
            cluster: 0,
            allowance: Allowance::new(MOST_LISTS, LIST_INTERVAL),
            backoff: Backoff::new(FIRST, LONGEST),
            refused: Backoff::new(REFUSED.0, REFUSED.1),
            stuck: 0,
            torn: 0,
            quiet: 0,
            missing: None,
        }
    }

    /// Ends with the keeper.
    pub(crate) async fn run(mut self) {
        loop {
            let Ok(mut up) = self.ready().await else { return };
            if self.from.is_none() {
                self.wait_to_list().await;
                // It may be another by now.
                let Ok(now) = self.ready().await else { return };
                up = now;
            }
            let done = match self.from.clone() {
                None => self.list(&up).await,
                Some(from) => self.watch(&up, &from).await,
            };
            match done {
                Ok(()) => {}
                Err(Stop::Ended) => return,
                Err(Stop::Failed(failure)) => {
                    if self.recover(failure, up.place).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Waits until there is a server. One that comes back is not asked by all at once.
    async fn ready(&mut self) -> Result<Up, Ended> {
        let mut was_down = false;
        loop {
            let reach = self.link.reach.borrow_and_update().clone();
            match reach {
                Reach::Up(up) => {
                    if was_down {
                        self.backoff.reset();
                        sleep(self.jitter.up_to(Duration::from_secs(1))).await;
                    }
                    if up.place.cluster != self.cluster {
                        (self.cluster, self.from) = (up.place.cluster, None);
                    }
                    if let (Some(version), Some(from)) = (&up.version, &self.from)
                        && self.told <= up.asked
                        && version.is_older_than(from)
                    {
                        self.from = None;
                    }
                    return Ok(*up);
                }
                Reach::Down(what) => {
                    (was_down, self.missing) = (true, None);
                    self.tell_state(KindState::Away(what.to_string())).await?;
                }
                Reach::Asking => {}
            }
            self.link.reach.changed().await.map_err(|_| Ended)?;
        }
    }

    /// Waits until a list may be asked for.
    async fn wait_to_list(&mut self) {
        let wait = self.allowance.take(Instant::now().into_std());
        // Nothing waits for a kind that may be there again: it is asked for at times of its own.
        let spread = match self.has_listed && self.missing.is_none() {
            true => self.jitter.up_to(self.crowd.window()),
            false => Duration::ZERO,
        };
        sleep(wait + self.jitter.up_to(wait / 2) + spread).await;
    }

    async fn list(&mut self, up: &Up) -> Result<(), Stop> {
        let is_paged_here = self.paged_here.is_some_and(|until| Instant::now() < until);
        if self.paged.is_now() || is_paged_here {
            return self.list_in_pages(up).await;
        }
        let done = self.list_streaming(up).await;
        // Later it is a watch that fails.
        let (Err(Stop::Failed(failure)), None) = (&done, &self.from) else { return done };
        match failure {
            Failure::Invalid(what) => {
                tracing::info!(kind = %self.kind, error = what, "the server does not stream lists");
                self.paged.remember();
                self.list_in_pages(up).await
            }
            Failure::Silent | Failure::Faulty(_) => {
                self.paged_here = Some(Instant::now() + PAGED_HERE);
                done
            }
            // The time of a watch is that of what it begins with, too: there may be more than comes through in it.
            Failure::Torn(_) if self.torn > 0 => {
                self.paged_here = Some(Instant::now() + PAGED_HERE);
                done
            }
            _ => done,
        }
    }

    /// The stream goes on as a watch.
    async fn list_streaming(&mut self, up: &Up) -> Result<(), Stop> {
        let duration = self.jitter.spread(WATCH);
        let query = format!(
            "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds={}",
            duration.as_secs()
        );
        let begun = Instant::now();
        let mut lines = request::watch(&up.configured, self.kind, &query).await?;
        self.tell(Message::Listing(self.kind)).await?;
        loop {
            let told = match lines.next(STREAM_SILENCE).await {
                Ok(Some(told)) => told,
                Ok(None) => {
                    return Err(Failure::Torn(format!("list {}: it ended too early", self.kind)).into());
                }
                Err(failure) => return Err(failure.into()),
            };
            let mut told = told.into_iter();
            let mut page = Vec::new();
            let mut end = None;
            for line in told.by_ref() {
                match line {
                    Line::Event(Event::Shows(key, known)) => page.push(Found::Object(key, known)),
                    Line::Unreadable(key, what) => page.push(Found::Unreadable(key, what)),
                    Line::InitialEnd(version) => {
                        end = Some(version);
                        break;
                    }
                    // It goes on while the list streams.
                    Line::Event(Event::Gone(key, uid, version)) => {
                        if !page.is_empty() {
                            self.tell(Message::Page(self.kind, std::mem::take(&mut page))).await?;
                        }
                        self.tell(Message::Gone(self.kind, key, uid, version)).await?;
                    }
                    Line::Event(Event::Reached(_)) | Line::Error(_) => {
                        let what = format!("list {}: changes came before the end of the list", self.kind);
                        return Err(Failure::Faulty(what).into());
                    }
                }
            }
            if !page.is_empty() {
                self.tell(Message::Page(self.kind, page)).await?;
            }
            if let Some(version) = end {
                self.paged.forget();
                self.judge(version, up.place).await?;
                let rest = told.collect();
                return self.follow(up, lines, rest, begun, duration).await;
            }
        }
    }

    async fn list_in_pages(&mut self, up: &Up) -> Result<(), Stop> {
        self.tell(Message::Listing(self.kind)).await?;
        let mut next: Option<String> = None;
        let mut up = up.clone();
        let version = loop {
            let mut page = self.page(&mut up, next.as_deref()).await?;
            while !page.objects.is_empty() {
                let rest = page.objects.split_off(page.objects.len().min(BATCH));
                let batch = std::mem::replace(&mut page.objects, rest);
                self.tell(Message::Page(self.kind, batch)).await?;
            }
            next = page.next;
            if next.is_none() {
                break page.version;
            }
        };
        self.judge(version, up.place).await
    }

    /// A page after the first is asked for a few times: a list that began anew with each fault would show a large cluster
    /// never, to a server with too much to do. It goes on by the configuration that is in use then.
    async fn page(&mut self, up: &mut Up, next: Option<&str>) -> Result<Page, Stop> {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        let mut attempts = 0;
        loop {
            let failure = match request::page(&up.configured, self.kind, next, LIMIT).await {
                Ok(page) => return Ok(page),
                Err(failure) => failure,
            };
            attempts += 1;
            if next.is_none() || attempts == PAGE_ATTEMPTS {
                return Err(failure.into());
            }
            let (what, pause) = match &failure {
                Failure::Throttled(what, pause) => (what.clone(), *pause),
                Failure::Silent => (format!("list {}: a page stalled", self.kind), Duration::ZERO),
                Failure::Unreachable(what)
                | Failure::Behind(what)
                | Failure::Torn(what)
                | Failure::Faulty(what) => (what.clone(), Duration::ZERO),
                _ => return Err(failure.into()),
            };
            tracing::debug!(kind = %self.kind, error = what, "a page of a list is asked for again");
            self.tell_state(KindState::Away(what)).await?;
            if !matches!(failure, Failure::Throttled(..) | Failure::Behind(_)) {
                self.link.doubt();
            }
            sleep(pause.max(backoff.failed(&mut self.jitter)) + self.jitter.up_to(Duration::from_secs(1)))
                .await;
            let back = self.ready().await?;
            if back.place.cluster != up.place.cluster {
                return Err(failure.into());
            }
            *up = back;
        }
    }

    /// Whether what was listed is what is known now. A watch goes on from it. While the server is away that waits: a
    /// list of the same cluster counts by whichever configuration it is spoken with then.
    async fn judge(&mut self, version: Version, place: Place) -> Result<(), Stop> {
        let told = Instant::now();
        if self.ready().await?.place.cluster != place.cluster {
            return Err(Failure::Torn(format!("list {}: the cluster is another by now", self.kind)).into());
        }
        let (answer, verdict) = oneshot::channel();
        self.tell(Message::Listed(self.kind, version, answer)).await?;
        let verdict = verdict.await.map_err(|_| Ended)?;
        self.has_listed = true;
        match verdict {
            Verdict::Current(version) => {
                (self.from, self.told) = (Some(version), told);
                self.works();
                Ok(())
            }
            Verdict::Older(what) => Err(Failure::Older(what).into()),
            // The next list is believed.
            Verdict::Confirmed => Ok(()),
        }
    }

    async fn watch(&mut self, up: &Up, from: &Version) -> Result<(), Stop> {
        let duration = self.jitter.spread(WATCH);
        let begun = Instant::now();
        let query = format!("resourceVersion={from}&timeoutSeconds={}", duration.as_secs());
        let lines = request::watch(&up.configured, self.kind, &query).await?;
        self.follow(up, lines, Vec::new(), begun, duration).await
    }

    /// Hands on what a watch tells, until it ends.
    async fn follow(
        &mut self,
        up: &Up,
        mut lines: Lines,
        told: Vec<Line>,
        begun: Instant,
        duration: Duration,
    ) -> Result<(), Stop> {
        if self.from.is_none() {
            return Ok(());
        }
        self.tell_state(KindState::Watching).await?;
        self.quiet += 1;
        let mut told = Some(told);
        let mut had_bookmark = false;
        while let Some(lines_told) = told {
            had_bookmark |= lines_told.iter().any(|line| matches!(line, Line::Event(Event::Reached(_))));
            if !lines_told.is_empty() {
                self.hand_on(lines_told).await?;
            }
            let rest = (duration + EARLY).saturating_sub(begun.elapsed());
            tokio::select! {
                biased;
                // Go on there.
                () = self.link.moved(up.place) => return Ok(()),
                next = lines.next(if had_bookmark { rest.min(SILENCE) } else { rest }) => told = next?,
            }
        }
        if begun.elapsed() + EARLY < duration {
            let what = format!("watch {}: it ended before its time", self.kind.resource_and_group());
            return Err(Failure::Torn(what).into());
        }
        self.works();
        if !up.is_identified && self.quiet >= ENOUGH {
            (self.quiet, self.from) = (0, None);
        }
        Ok(())
    }

    async fn hand_on(&mut self, told: Vec<Line>) -> Result<(), Stop> {
        self.works();
        self.told = Instant::now();
        for line in &told {
            let version = match line {
                Line::Event(Event::Shows(_, known)) => &known.version,
                Line::Event(Event::Gone(_, _, version) | Event::Reached(version)) => version,
                _ => continue,
            };
            if self.from.as_ref().is_none_or(|from| !version.is_older_than(from)) {
                self.quiet = 0;
            }
            raise(&mut self.from, version);
        }
        Ok(self.tell(Message::Events(self.kind, told)).await?)
    }

    /// What failed before says nothing any more.
    fn works(&mut self) {
        self.backoff.reset();
        self.refused.reset();
        (self.stuck, self.torn, self.missing) = (0, 0, None);
    }

    /// Says what is wrong, and waits as long as it takes until it may go on.
    async fn recover(&mut self, failure: Failure, place: Place) -> Result<(), Ended> {
        tracing::debug!(kind = %self.kind, failure = ?failure, "what the server shows is interrupted");
        if !matches!(failure, Failure::Missing(_)) {
            self.missing = None;
        }
        match failure {
            Failure::Unreachable(what) => {
                self.tell_state(KindState::Away(what)).await?;
                self.link.doubt();
                self.pause().await;
            }
            Failure::Refused(what) => {
                self.tell_state(KindState::Refused(what)).await?;
                tokio::select! {
                    () = sleep(self.refused.failed(&mut self.jitter)) => {}
                    // Who may not by one configuration may by another.
                    () = self.link.moved(place) => self.refused.reset(),
                }
            }
            Failure::Missing(what) if self.kind.is_ours() => self.note_missing(what, place).await?,
            Failure::Gone(_) => {
                self.from = None;
                // It may be another that never knew it.
                _ = self.link.ask_again(place).await;
                self.pause().await;
            }
            Failure::Throttled(what, pause) => {
                self.tell_state(KindState::Away(what)).await?;
                let pause = pause.max(self.backoff.failed(&mut self.jitter));
                sleep(pause + self.jitter.up_to(Duration::from_secs(1))).await;
            }
            Failure::Behind(what) => {
                self.tell_state(KindState::Away(what)).await?;
                self.note_stuck();
                self.pause().await;
            }
            Failure::Silent => {
                self.note_stuck();
                self.link.doubt();
                self.pause().await;
            }
            Failure::Torn(what) => {
                self.torn += 1;
                if self.torn > 1 {
                    self.tell_state(KindState::Away(what)).await?;
                }
                self.link.doubt();
                self.pause().await;
            }
            Failure::Older(what) => {
                self.tell_state(KindState::Older(what)).await?;
                sleep(self.jitter.up_to(Duration::from_secs(5))).await;
            }
            // A version that makes no sense to it: it is another's.
            Failure::Invalid(what) | Failure::Faulty(what) | Failure::Missing(what) => {
                self.tell_state(KindState::Away(what)).await?;
                self.note_stuck();
                self.pause().await;
            }
        }
        Ok(())
    }

    async fn pause(&mut self) {
        sleep(self.backoff.failed(&mut self.jitter)).await;
    }

    fn note_stuck(&mut self) {
        self.stuck += 1;
        if self.stuck.is_multiple_of(ENOUGH) {
            self.from = None;
        }
    }

    /// It counts if the server says after it which cluster it is: a proxy that has none behind it says 404, too.
    async fn note_missing(&mut self, what: String, place: Place) -> Result<(), Ended> {
        let answered = self.link.ask_again(place).await;
        if !answered.as_ref().is_some_and(|up| up.is_identified) {
            self.missing = None;
            if answered.is_some() {
                let what = format!("{what}; and it does not say which cluster it is");
                self.tell_state(KindState::Refused(what)).await?;
                sleep(self.refused.failed(&mut self.jitter)).await;
            }
            return Ok(());
        }
        let (since, times) = self.missing.unwrap_or((Instant::now(), 0));
        self.missing = Some((since, times.saturating_add(1)));
        self.from = None;
        if times == 0 {
            sleep(MISSING_AGAIN).await;
            return Ok(());
        }
        self.tell(Message::Missing(self.kind, since.elapsed(), what)).await?;
        sleep(self.jitter.spread(MISSING)).await;
        Ok(())
    }

    async fn tell_state(&self, state: KindState) -> Result<(), Ended> {
        self.tell(Message::State(self.kind, state)).await
    }

    async fn tell(&self, message: Message) -> Result<(), Ended> {
        self.keeper.send(message).await.map_err(|_| Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_of_many_nodes_are_spread_over_a_longer_time() {
        let crowd = Crowd::default();
        for (nodes, milliseconds) in [(0, 200), (1, 200), (100, 1000), (5000, 50_000), (usize::MAX, 60_000)] {
            crowd.is_of(nodes);
            assert_eq!(crowd.window().as_millis(), milliseconds, "{nodes}");
        }
    }
}
