//! The task that owns all that is known: it takes in what the followers tell, publishes pictures, and writes the
//! journals.
//!
//! A picture is published at once when it is quiet, and at most every [`PICTURE_INTERVAL`] when it is busy; none is
//! published of what changes nothing that counts. Journals are written elsewhere, one batch at a time: what changes
//! meanwhile is a set of names, whose latest state goes with the next batch.
//!
//! **What a picture shows is in the journals before.** A pod whose ADD has ended because a picture showed its object
//! would else be unknown, and closed, when the process ends right then and the next one finds no server. A picture does
//! not wait for a journal that was never written, as nothing is enforced of what is not complete, for one that cannot
//! be written, nor longer than [`JOURNAL_PATIENCE`] for a disk that hangs: policy comes first.

use std::collections::{BTreeMap, HashSet};
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cambric_policy::change::Key;
use cambric_policy::pod::Uid;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use crate::cache::{Cache, Change, Verdict};
use crate::journal::{self, About, Journal, Update};
use crate::kinds::Kind;
use crate::list_watch::{Crowd, Paged};
use crate::picture::{DocumentId, KindHealth, KindState, Picture, Trouble};
use crate::version::Version;
use crate::wire::{Found, Line, Says};

/// Pictures follow each other no faster.
pub(crate) const PICTURE_INTERVAL: Duration = Duration::from_millis(50);
/// How long a picture waits for the journals. A large one that is written anew takes about a second.
const JOURNAL_PATIENCE: Duration = Duration::from_secs(2);
/// How long changes that no picture waits for wait for others before they are written.
const JOURNAL_INTERVAL: Duration = Duration::from_millis(200);
/// The same, of a version that moved while nothing changed.
const VERSION_INTERVAL: Duration = Duration::from_secs(10);
/// After a journal could not be written.
const JOURNAL_RETRY: Duration = Duration::from_secs(30);
/// A kind that is gone takes its objects with it when it has been gone so long: a server that starts may say that it
/// knows none of ours.
const MISSING_CONFIRMED: Duration = Duration::from_secs(300);
/// Messages that are taken in before others have their turn.
const BURST: usize = 64;
/// Unreadable objects of a kind that are named.
const MOST_UNREADABLE: usize = 20;

/// What it is told.
pub(crate) enum Message {
    /// Which server is spoken with.
    Server(Option<String>),
    /// What is wrong with the connection.
    Trouble(Option<String>),
    /// What is wrong with a configuration that was to take the place of the one in use.
    Configuration(Option<String>),
    /// The uid of kube-system of the cluster that counts.
    Identity(String),
    /// It is another: what was seen counts no longer against what is shown next.
    AnotherCluster,
    /// A list begins.
    Listing(Kind),
    /// A part of it.
    Page(Kind, Vec<Found>),
    /// Since it began an object has gone, with the version of that.
    Gone(Kind, Key, Option<Uid>, Version),
    /// It has ended.
    Listed(Kind, Version, oneshot::Sender<Verdict>),
    /// What a watch told.
    Events(Kind, Vec<Line>),
    /// How it goes.
    State(Kind, KindState),
    /// There is no such kind, for so long.
    Missing(Kind, Duration, String),
}

/// See above.
pub(crate) struct Keeper {
    inbox: mpsc::Receiver<Message>,
    pictures: watch::Sender<Arc<Picture>>,
    paged: Paged,
    crowd: Crowd,
    /// Whether kinds are asked for that nobody needs as a rule; once they are, they stay.
    demand: watch::Sender<bool>,
    identity: Option<String>,
    kinds: Vec<Kept>,
    picture: Picture,
    is_dirty: bool,
    published: Instant,
    journals: Writer,
}

/// What is kept of one kind.
struct Kept {
    kind: Kind,
    cache: Cache<Says>,
    state: KindState,
    since: SystemTime,
    unreadable: BTreeMap<Key, String>,
    /// Those of a list under way.
    unreadable_listed: Option<BTreeMap<Key, String>>,
    /// Changed, and not written yet.
    unwritten: HashSet<Key>,
    /// What was written last, or is being written.
    written: Option<Version>,
    /// How far it was known when the server had no such kind any more: of that there is none, also for the next run.
    emptied: Option<Version>,
    /// Must be written whatever else changed.
    is_unwritten: bool,
}

/// The journals, and what is being written.
enum Writer {
    /// `next`: not before, unless a picture waits.
    Idle { journals: Vec<Journal>, next: Instant, last: Last },
    /// `picture`: what is published when it is written.
    Busy { written: JoinHandle<Written>, begun: Instant, picture: Option<Arc<Picture>> },
    /// It failed by a bug of ours: what is written is what was.
    Broken,
}

/// How the last writing went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Kept,
    Failed,
}

/// What is to be done with what changed.
enum Turn {
    Publish,
    Write,
}

/// The journals again, and of which kinds one could not be written, in words.
type Written = (Vec<Journal>, Vec<(Kind, String)>);

impl Keeper {
    /// Reads the journals: what they say is known at once. Blocks on the disk.
    pub(crate) fn new(
        folder: &Path,
        node: &str,
        inbox: mpsc::Receiver<Message>,
    ) -> (Keeper, watch::Receiver<Arc<Picture>>) {
        let mut keeper = Keeper {
            inbox,
            pictures: watch::channel(Arc::default()).0,
            paged: Paged::default(),
            crowd: Crowd::default(),
            demand: watch::channel(false).0,
            identity: None,
            kinds: Vec::new(),
            picture: Picture::default(),
            is_dirty: false,
            published: Instant::now(),
            journals: Writer::idle(Vec::new()),
        };
        let mut journals = Vec::new();
        let mut paged_until = None;
        for kind in Kind::ALL {
            let (journal, found) = Journal::read(folder, node, kind);
            let mut kept = Kept::new(kind);
            match found {
                journal::Found::Nothing => {}
                journal::Found::State(state) if keeper.is_of_another_cluster(&state.about) => {
                    let path = journal.path().display();
                    keeper
                        .picture
                        .health
                        .journal
                        .push(format!("{path}: is of another cluster than the rest; it is not used"));
                }
                journal::Found::State(state) => {
                    keeper.identity = state.about.server.or(keeper.identity.take());
                    paged_until = paged_until.max(state.about.paged_until);
                    kept.written = Some(state.version.clone());
                    kept.state = KindState::FromSnapshot;
                    for (key, known) in state.objects.iter() {
                        keeper.note_demand(kind, &known.says);
                        keeper.picture.put(kind, key, Some(&known.says));
                    }
                    // It is written anew with what is known next.
                    if let Some(what) = state.torn {
                        tracing::warn!(error = what, "a snapshot is used in part");
                    }
                    kept.cache = Cache::restored(state.objects, state.version, state.seen);
                }
                journal::Found::Unusable(what) => keeper.picture.health.journal.push(what),
            }
            journals.push(journal);
            keeper.kinds.push(kept);
        }
        for what in &keeper.picture.health.journal {
            tracing::warn!(error = what, "a snapshot is not used");
        }
        keeper.paged = Paged::until(paged_until);
        keeper.crowd.is_of(keeper.kinds[Kind::Node.index()].cache.objects().len());
        keeper.journals = Writer::idle(journals);
        keeper.publish();
        let seen = keeper.pictures.subscribe();
        (keeper, seen)
    }

    pub(crate) fn identity(&self) -> Option<String> {
        self.identity.clone()
    }

    pub(crate) fn paged(&self) -> Paged {
        self.paged.clone()
    }

    pub(crate) fn crowd(&self) -> Crowd {
        self.crowd.clone()
    }

    /// Whether kinds are asked for that are followed on demand.
    pub(crate) fn demand(&self) -> watch::Receiver<bool> {
        self.demand.subscribe()
    }

    /// Those who announce services need to know them.
    fn note_demand(&self, kind: Kind, says: &Says) {
        let Says::Document(json) = says else { return };
        if kind == Kind::BGPAdvertisement && !*self.demand.borrow() {
            let advertised = json.value().pointer("/spec/advertised").and_then(Value::as_array).cloned();
            if advertised.into_iter().flatten().any(|entry| entry["what"] == "Services") {
                self.demand.send_replace(true);
            }
        }
    }

    fn is_asked_for(&self, kind: Kind) -> bool {
        !kind.is_on_demand() || *self.demand.borrow()
    }

    fn is_of_another_cluster(&self, about: &About) -> bool {
        self.identity.is_some() && about.server.is_some() && self.identity != about.server
    }

    /// Ends when nobody tells it anything any more.
    pub(crate) async fn run(mut self) {
        loop {
            let turn = self.turn();
            let at = turn.as_ref().map_or(self.published, |(at, _)| *at);
            // All branches are cancel-safe: a channel loses nothing, and the handle is kept.
            tokio::select! {
                message = self.inbox.recv() => {
                    let Some(message) = message else { return };
                    self.handle(message);
                    for _ in 0..BURST {
                        let Ok(message) = self.inbox.try_recv() else { break };
                        self.handle(message);
                    }
                }
                () = sleep_until(at), if turn.is_some() => match turn {
                    Some((_, Turn::Write)) => self.write(),
                    _ => self.publish(),
                },
                done = self.journals.done() => self.note_written(done),
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Server(server) => {
                self.is_dirty |= self.picture.health.server != server;
                self.picture.health.server = server;
            }
            Message::Trouble(what) => self.note_trouble(what),
            Message::Configuration(what) => self.note_configuration(what),
            Message::Identity(uid) => self.note_identity(uid),
            Message::AnotherCluster => {
                for kept in &mut self.kinds {
                    kept.cache.give_history_up();
                    kept.emptied = None;
                }
            }
            Message::Listing(kind) => {
                let kept = &mut self.kinds[kind.index()];
                kept.cache.begin_list();
                kept.unreadable_listed = Some(BTreeMap::new());
            }
            Message::Page(kind, page) => {
                let kept = &mut self.kinds[kind.index()];
                let changes = page.into_iter().filter_map(|found| kept.show(found)).collect();
                self.take(kind, changes);
            }
            Message::Gone(kind, key, uid, version) => {
                let kept = &mut self.kinds[kind.index()];
                if let Some(listed) = &mut kept.unreadable_listed {
                    listed.remove(&key);
                }
                let change = kept.cache.show_gone(key, uid, version);
                self.take(kind, change.into_iter().collect());
            }
            Message::Listed(kind, version, answer) => {
                let kept = &mut self.kinds[kind.index()];
                let (changes, verdict) = kept.cache.end_list(version, Instant::now().into_std());
                let unreadable = kept.unreadable_listed.take().unwrap_or_default();
                if matches!(verdict, Verdict::Current(_)) {
                    kept.emptied = None;
                }
                let is_first = matches!(verdict, Verdict::Current(_)) && kept.written.is_none();
                kept.is_unwritten |= is_first;
                let is_other = kept.unreadable != unreadable;
                kept.unreadable = unreadable;
                self.take(kind, changes);
                self.is_dirty |= is_first || is_other;
                // Nobody waits for it: the follower has ended.
                _ = answer.send(verdict);
            }
            Message::Events(kind, lines) => {
                let kept = &mut self.kinds[kind.index()];
                let before = kept.unreadable.len();
                let changes = lines.into_iter().filter_map(|line| kept.handle(line)).collect();
                self.is_dirty |= kept.unreadable.len() != before;
                self.take(kind, changes);
            }
            Message::State(kind, state) => self.note_state(kind, state),
            Message::Missing(kind, since, what) => self.note_missing(kind, since, &what),
        }
    }

    /// Takes changes of one kind over. Before all of it was shown once, nobody is told of a part.
    fn take(&mut self, kind: Kind, changes: Vec<Change<Says>>) {
        let kept = &mut self.kinds[kind.index()];
        self.is_dirty |= kept.cache.is_shown() && !changes.is_empty();
        if kind == Kind::Node {
            self.crowd.is_of(kept.cache.objects().len());
        }
        for (key, says) in changes {
            self.picture.put(kind, &key, says.as_ref());
            self.kinds[kind.index()].unwritten.insert(key);
            if let Some(says) = &says {
                self.note_demand(kind, says);
            }
        }
    }

    fn note_identity(&mut self, uid: String) {
        if self.identity.as_ref() == Some(&uid) {
            return;
        }
        // Each journal says of which cluster it is, also one in which nothing has changed.
        for kept in &mut self.kinds {
            kept.is_unwritten = true;
        }
        self.identity = Some(uid);
    }

    fn note_trouble(&mut self, what: Option<String>) {
        let trouble = &mut self.picture.health.trouble;
        match (&what, trouble.as_ref()) {
            (None, None) => return,
            (Some(what), Some(known)) if *what == known.what => return,
            (Some(what), None) => tracing::warn!(error = what, "the API server is away: what is known stays"),
            (Some(what), Some(_)) => tracing::debug!(error = what, "the API server is away"),
            (None, Some(_)) => tracing::info!("the API server answers"),
        }
        let since = trouble.as_ref().map_or_else(SystemTime::now, |known| known.since);
        *trouble = what.map(|what| Trouble { what, since });
        self.is_dirty = true;
    }

    fn note_configuration(&mut self, what: Option<String>) {
        let known = &mut self.picture.health.configuration;
        if *known == what {
            return;
        }
        match &what {
            Some(what) => {
                tracing::warn!(error = what, "a configuration cannot be used: the one before it stays in use")
            }
            None => tracing::info!("the configuration can be used again"),
        }
        *known = what;
        self.is_dirty = true;
    }

    fn note_state(&mut self, kind: Kind, state: KindState) {
        let kept = &mut self.kinds[kind.index()];
        if kept.state == state {
            return;
        }
        if mem::discriminant(&kept.state) != mem::discriminant(&state) {
            match &state {
                KindState::Refused(what) | KindState::Older(what) => {
                    tracing::warn!(%kind, error = what, "what is known of a kind stays as it is");
                }
                state => tracing::info!(%kind, state = ?state, "a kind is followed otherwise"),
            }
            kept.since = SystemTime::now();
        }
        kept.state = state;
        self.is_dirty = true;
    }

    fn note_missing(&mut self, kind: Kind, since: Duration, what: &str) {
        let kept = &mut self.kinds[kind.index()];
        let count = kept.cache.objects().len();
        if count == 0 || since >= MISSING_CONFIRMED {
            let was_shown = kept.cache.is_shown();
            let reached = kept.cache.version().cloned().or(kept.emptied.take());
            // Of one that was never there the next run is to know that, too: it waits for what it does not know.
            kept.emptied = Some(reached.unwrap_or(Version::FIRST));
            kept.is_unwritten |= kept.written.is_none();
            let changes = kept.cache.empty();
            kept.unreadable.clear();
            self.is_dirty |= !was_shown;
            self.take(kind, changes);
            self.note_state(kind, KindState::NotInstalled(format!("{what}; there is none of it")));
        } else {
            let what = format!("{what}; {count} objects stay until it has been so for 5 minutes");
            self.note_state(kind, KindState::NotInstalled(what));
        }
    }

    /// What is to be done next if nothing is told, and when.
    fn turn(&self) -> Option<(Instant, Turn)> {
        let soon = self.published + PICTURE_INTERVAL;
        match &self.journals {
            Writer::Busy { begun, picture, .. } => {
                let waits = self.is_dirty || picture.is_some();
                waits.then(|| (soon.max(*begun + JOURNAL_PATIENCE), Turn::Publish))
            }
            Writer::Idle { last: Last::Kept, .. } if self.is_dirty && self.shows_unwritten() => {
                Some((soon, Turn::Write))
            }
            Writer::Idle { next, .. } if !self.is_dirty => Some((*next + self.write_after()?, Turn::Write)),
            _ => self.is_dirty.then_some((soon, Turn::Publish)),
        }
    }

    /// Whether a picture shows now what is to be in a journal first.
    fn shows_unwritten(&self) -> bool {
        let mut waiting =
            self.kinds.iter().filter(|kept| kept.written.is_some() && !kept.unwritten.is_empty());
        waiting.any(Kept::is_writable)
    }

    /// Publishes all that is known, be it in the journals or not.
    fn publish(&mut self) {
        let picture = self.shown();
        if let Writer::Busy { picture: older, .. } = &mut self.journals {
            *older = None;
        }
        self.send(picture);
    }

    /// What is known now, as it is to be published.
    fn shown(&mut self) -> Arc<Picture> {
        let asked_for = || self.kinds.iter().filter(|kept| self.is_asked_for(kept.kind));
        let is_complete = asked_for().all(|kept| kept.cache.is_shown());
        let health = asked_for().map(|kept| (kept.kind.name().to_owned(), kept.health())).collect();
        (self.picture.is_complete, self.picture.health.kinds) = (is_complete, health);
        self.is_dirty = false;
        Arc::new(self.picture.clone())
    }

    fn send(&mut self, picture: Arc<Picture>) {
        self.pictures.send_replace(picture);
        self.published = Instant::now();
    }

    /// How long to wait for other changes, if there is something to write.
    fn write_after(&self) -> Option<Duration> {
        let writable = self.kinds.iter().filter(|kept| kept.is_writable());
        let wait = writable.filter_map(|kept| match kept.is_unwritten || !kept.unwritten.is_empty() {
            true => Some(Duration::ZERO),
            false => (kept.written.as_ref() != kept.version()).then_some(VERSION_INTERVAL),
        });
        wait.min()
    }

    fn write(&mut self) {
        let Writer::Idle { journals, .. } = &mut self.journals else { return };
        let mut journals = mem::take(journals);
        let about = About { server: self.identity.clone(), paged_until: self.paged.known() };
        let mut updates = Vec::new();
        for kept in &mut self.kinds {
            let Some(version) = kept.version().filter(|_| kept.is_writable()).cloned() else {
                continue;
            };
            if !kept.is_unwritten && kept.unwritten.is_empty() && kept.written.as_ref() == Some(&version) {
                continue;
            }
            kept.is_unwritten = false;
            kept.written = Some(version.clone());
            let changed = mem::take(&mut kept.unwritten).into_iter().collect();
            let objects = kept.cache.objects().clone();
            updates.push((kept.kind, Update { about: about.clone(), version, changed, objects }));
        }
        let picture = self.is_dirty.then(|| self.shown());
        let written = spawn_blocking(move || {
            let mut failed = Vec::new();
            for (kind, update) in updates {
                let journal = &mut journals[kind.index()];
                if let Err(error) = journal.keep(&update) {
                    let path = journal.path().display();
                    failed.push((kind, format!(
                        "{path}: cannot be written: {error}; a daemon that is started while the API server is away works \
                         from what is in it"
                    )));
                }
            }
            (journals, failed)
        });
        self.journals = Writer::Busy { written, begun: Instant::now(), picture };
    }

    fn note_written(&mut self, done: Result<Written, JoinError>) {
        if let Writer::Busy { picture, .. } = &mut self.journals
            && let Some(picture) = picture.take()
        {
            self.send(picture);
        }
        let (journals, failed) = match done {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(error = %error, "the snapshot is not written any more");
                self.journals = Writer::Broken;
                return;
            }
        };
        let (last, wait) = match failed.is_empty() {
            true => (Last::Kept, JOURNAL_INTERVAL),
            false => (Last::Failed, JOURNAL_RETRY),
        };
        for (kind, _) in &failed {
            self.kinds[kind.index()].is_unwritten = true;
        }
        let words: Vec<String> = failed.into_iter().map(|(_, what)| what).collect();
        if self.picture.health.journal != words {
            for what in &words {
                tracing::warn!(error = what, "the snapshot is not kept");
            }
            self.picture.health.journal = words;
            self.is_dirty = true;
        }
        self.journals = Writer::Idle { journals, next: Instant::now() + wait, last };
    }
}

impl Writer {
    fn idle(journals: Vec<Journal>) -> Writer {
        Writer::Idle { journals, next: Instant::now(), last: Last::Kept }
    }

    /// Cancel-safe.
    async fn done(&mut self) -> Result<Written, JoinError> {
        match self {
            Writer::Busy { written, .. } => written.await,
            Writer::Idle { .. } | Writer::Broken => std::future::pending().await,
        }
    }
}

impl Kept {
    fn new(kind: Kind) -> Kept {
        Kept {
            kind,
            cache: Cache::new(),
            state: KindState::Unknown,
            since: SystemTime::now(),
            unreadable: BTreeMap::new(),
            unreadable_listed: None,
            unwritten: HashSet::new(),
            written: None,
            emptied: None,
            is_unwritten: false,
        }
    }

    fn show(&mut self, found: Found) -> Option<Change<Says>> {
        match found {
            Found::Object(key, known) => {
                // A stream may show it once more after it was mended.
                if let Some(listed) = &mut self.unreadable_listed {
                    listed.remove(&key);
                }
                self.cache.show(key, known)
            }
            Found::Unreadable(key, what) => {
                self.cache.show_unreadable(key.clone());
                self.unreadable_listed.get_or_insert_default().insert(key, what);
                None
            }
            Found::Nameless(what) => {
                self.unreadable_listed.get_or_insert_default().insert(Key::new("", "?"), what);
                None
            }
        }
    }

    fn handle(&mut self, line: Line) -> Option<Change<Says>> {
        match line {
            Line::Event(event) => {
                if let crate::cache::Event::Shows(key, _) | crate::cache::Event::Gone(key, ..) = &event {
                    self.unreadable.remove(key);
                }
                self.cache.handle(event)
            }
            Line::Unreadable(key, what) => {
                self.unreadable.insert(key, what);
                None
            }
            Line::InitialEnd(version) => self.cache.handle(crate::cache::Event::Reached(version)),
            Line::Error(_) => None,
        }
    }

    /// Up to where all of it is known.
    fn version(&self) -> Option<&Version> {
        self.cache.version().or(self.emptied.as_ref())
    }

    /// All of it is known, up to a version.
    fn is_writable(&self) -> bool {
        self.cache.is_shown() && self.version().is_some()
    }

    fn health(&self) -> KindHealth {
        let unreadable = self.unreadable.iter().take(MOST_UNREADABLE);
        let name = |key: &Key| if key.namespace.is_empty() { key.name.to_string() } else { key.to_string() };
        KindHealth {
            objects: self.cache.objects().len(),
            version: self.cache.version().map(Version::to_string),
            is_shown: self.cache.is_shown(),
            state: self.state.clone(),
            since: self.since,
            unreadable: unreadable.map(|(key, what)| (name(key), what.clone())).collect(),
        }
    }
}

impl Picture {
    /// What an object says from now on; `None`: it is gone.
    pub(crate) fn put(&mut self, kind: Kind, key: &Key, says: Option<&Says>) {
        match says {
            Some(Says::Pod(pod)) => _ = self.pods.insert(key.clone(), pod.clone()),
            Some(Says::Policy(policy)) => _ = self.policies.insert(key.clone(), policy.clone()),
            Some(Says::Namespace(namespace)) => {
                _ = self.namespaces.insert(key.name.clone(), namespace.clone())
            }
            Some(Says::Service(service)) => _ = self.services.insert(key.clone(), service.clone()),
            Some(Says::Slice(slice)) => _ = self.slices.insert(key.clone(), slice.clone()),
            Some(Says::Document(value)) => {
                _ = self.documents.insert(DocumentId::of(kind, key), value.clone())
            }
            None => match kind {
                Kind::Pod => _ = self.pods.remove(key),
                Kind::NetworkPolicy => _ = self.policies.remove(key),
                Kind::Namespace => _ = self.namespaces.remove(&key.name),
                Kind::Service => _ = self.services.remove(key),
                Kind::EndpointSlice => _ = self.slices.remove(key),
                _ => _ = self.documents.remove(&DocumentId::of(kind, key)),
            },
        }
    }
}

impl DocumentId {
    fn of(kind: Kind, key: &Key) -> DocumentId {
        DocumentId { kind: cambric_policy::atoms::text(kind.name()), name: key.name.clone() }
    }
}
