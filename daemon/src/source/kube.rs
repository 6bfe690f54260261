//! The API server: a view whenever what it shows has changed, by the same rules as those of a folder.
//!
//! What is followed, and kept over outages, is `cambric-kube`'s matter: from here it is a picture after another one. The
//! documents of a picture, Nodes and our kinds, are settled when one of them has changed; pods, namespaces and policies go
//! through as they are. There is no view before each kind was shown once, by the server or by the snapshot.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cambric_kube::{DocumentId, Health, KindState, Picture, Shared};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use super::Views;
use super::documents::{Document, Documents, Look, Set};
use super::record::Record;
use crate::objects::{Kind, ObjectRef, Problem, Reason};
use crate::view::{View, Workloads};

/// What the record says it is about.
const ABOUT: &str = "kubernetes";
/// Name of the file in the folder of the last known state: who has what. The objects are in the snapshot.
pub(crate) const FILE_NAME: &str = "claims.json";
/// How long a server may be away, as for its own upgrade, before somebody should know.
const PATIENCE: Duration = Duration::from_secs(10);

/// Follows the pictures, and keeps in `record` what counts of them for the daemon that comes after this one. The task
/// ends when nobody looks at the views any more.
pub fn start(mut pictures: watch::Receiver<Arc<Picture>>, mut record: Record) -> (Views, JoinHandle<()>) {
    let (views, latest) = watch::channel(None);
    let task = tokio::spawn(async move {
        let mut documents = Documents::of_objects(record.node());
        if let Some(counts) = record.read(Path::new(ABOUT)) {
            documents.go_on_from(counts);
        }
        let mut settled = Settled { documents, set: Set::new(), from: None, view: View::default(), record };
        while !views.is_closed() {
            let picture = Arc::clone(&pictures.borrow_and_update());
            if picture.is_complete {
                // A panic in there is a bug of ours: the task ends, and the daemon with it.
                let Ok(now) = settled.settle(&picture.documents).await else { return };
                settled = now;
                views.send_if_modified(|latest| settled.show(latest, &picture));
            }
            if pictures.changed().await.is_err() {
                return;
            }
        }
    });
    (latest, task)
}

/// What the documents of the last picture come to.
struct Settled {
    documents: Documents,
    set: Set,
    /// What they were made from; `None`: nothing yet.
    from: Option<Shared<DocumentId, Arc<Value>>>,
    view: View,
    record: Record,
}

impl Settled {
    /// With thousands of Nodes it takes its time, and so does the disk: nobody waits for it on a thread of the others.
    async fn settle(
        mut self,
        now: &Shared<DocumentId, Arc<Value>>,
    ) -> Result<Settled, tokio::task::JoinError> {
        let differences = match &self.from {
            Some(from) => from.differences(now),
            None => now.iter().map(|(id, value)| (id.clone(), Some(Arc::clone(value)))).collect(),
        };
        if differences.is_empty() && self.from.is_some() {
            return Ok(self);
        }
        self.from = Some(now.clone());
        spawn_blocking(move || {
            for (id, object) in differences {
                let Some(kind) = Kind::named(&id.kind) else { continue };
                let of = ObjectRef { kind, name: id.name.to_string() };
                let place: Arc<str> = of.to_string().into();
                match object {
                    Some(object) => _ = self.set.insert(place, Arc::new(Document::object(of, object))),
                    None => _ = self.set.remove(&place),
                }
            }
            let view = self.documents.view(&Look::All(self.set.clone()));
            if !Arc::ptr_eq(&view.fabric, &self.view.fabric)
                && let Some(counts) = self.documents.counts(Some(&self.set))
                && let Err(error) = self.record.keep(Path::new(ABOUT), counts)
            {
                // With the next change it is tried again. The snapshot, on the same disk, tells the operator.
                tracing::warn!(path = %self.record.path().display(), %error, "who has what cannot be written");
            }
            self.view = view;
            self
        })
        .await
    }

    /// Makes the view of the picture; whether it is another one.
    fn show(&self, latest: &mut Option<View>, picture: &Picture) -> bool {
        let Picture { pods, namespaces, policies, documents, .. } = picture;
        let (pods, namespaces, policies) = (pods.clone(), namespaces.clone(), policies.clone());
        let workloads = Workloads { pods, namespaces, policies, unknown: Vec::new() };
        let fabric = Arc::clone(&self.view.fabric);
        let now = View { fabric, workloads, documents: documents.clone() };
        let is_modified = latest.as_ref() != Some(&now);
        *latest = Some(now);
        is_modified
    }
}

/// What is wrong with the source itself, in words that name what the operator can look at.
pub fn problems(health: &Health, now: SystemTime) -> Vec<Problem> {
    let lasts = |since: SystemTime| now.duration_since(since).is_ok_and(|since| since >= PATIENCE);
    let server = health.server.as_deref().unwrap_or("of unknown address");
    let place = format!("API server {server}");
    let mut problems = Vec::new();
    if let Some(trouble) =
        health.trouble.as_ref().filter(|trouble| health.server.is_none() || lasts(trouble.since))
    {
        problems.push(Problem::new(place.clone(), trouble.what.clone()).and("what is known stays in force"));
    }
    for (kind, health) in &health.kinds {
        let what = match &health.state {
            // Of what concerns all kinds one line is enough.
            KindState::Away(what) if problems.is_empty() && lasts(health.since) => what,
            KindState::Refused(what) | KindState::Older(what) => what,
            KindState::NotInstalled(what) => {
                let what = format!("{what}; there is none of it until then");
                problems.push(Problem::new(format!("{place}: {kind}"), what).because(Reason::Missing));
                continue;
            }
            _ => continue,
        };
        problems
            .push(Problem::new(format!("{place}: {kind}"), what.clone()).and("what is known stays in force"));
    }
    for (kind, health) in &health.kinds {
        for (name, what) in &health.unreadable {
            let problem =
                Problem::new(format!("{kind} {name}"), what.clone()).and("it counts as it was before");
            let problem = problem.because(Reason::Unreadable);
            problems.push(match Kind::named(kind) {
                Some(kind) => problem.about(kind, name),
                None => problem,
            });
        }
    }
    let of_journal = health.journal.iter().map(|what| {
        Problem::new("snapshot", what.clone()).and("a daemon that is started anew goes on from what is in it")
    });
    problems.extend(of_journal);
    problems
}
