//! The API server: a view whenever what it shows has changed, by the same rules as those of a folder.
//!
//! What is followed, and kept over outages, is the matter of [`cambric_kube`]: from here it is a picture after another.
//! Nodes and our kinds are settled when one of them has changed; pods, namespaces and policies go through as they are.
//! A kind that nobody has shown yet, neither the server nor the snapshot, is unknown: BGP waits for Nodes and our kinds,
//! policies for theirs.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cambric_kube::{DocumentId, Health, Json, KindHealth, KindState, Picture, Shared};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::Views;
use super::documents::{Document, Documents, Look, Set};
use super::record::Record;
use crate::objects::{Kind, ObjectRef, Problem, Reason};
use crate::view::{Services, View, Workloads};

/// What the record says it is about.
const ABOUT: &str = "kubernetes";
/// Name of the file in the folder of the last known state. The objects of others are in the snapshot.
pub(crate) const FILE_NAME: &str = "claims.json";
/// How long a server may be away, as for its own upgrade, before somebody should know.
const PATIENCE: Duration = Duration::from_secs(10);
/// How soon it is tried again to write a record that could not be written.
const RETRY: Duration = Duration::from_secs(30);
/// The kinds that say who the peers are, and how to speak with them.
const ROUTING: [&str; 5] = ["Node", "BGPClusterConfig", "BGPNodeOverride", "BGPPeerConfig", "BGPFilter"];
/// What becomes of what is known.
const STAYS: &str = "what is known stays in force";

/// Follows the pictures, and keeps in `record` what counts of them, for the daemon that comes after this one. The task
/// ends when nobody looks at the views any more, or with the pictures.
pub fn start(mut pictures: watch::Receiver<Arc<Picture>>, record: Record) -> (Views, JoinHandle<()>) {
    let (views, latest) = watch::channel(None);
    let task = tokio::spawn(async move {
        // A panic in there is a bug of ours: the task ends, and the daemon with it.
        let Ok(mut settler) = spawn_blocking(|| Settler::new(record)).await else { return };
        while !views.is_closed() {
            let picture = Arc::clone(&pictures.borrow_and_update());
            if settler.is_to_settle(&picture) {
                let of = Arc::clone(&picture);
                let settle = move || {
                    settler.settle(&of);
                    settler
                };
                match spawn_blocking(settle).await {
                    Ok(settled) => settler = settled,
                    Err(_) => return,
                }
            }
            let view = settler.view(&picture);
            views.send_if_modified(|latest: &mut Option<View>| {
                let is_modified = latest.as_ref().is_none_or(|latest| !latest.shares_all_with(&view));
                *latest = Some(view);
                is_modified
            });
            // After the view: the disk may take its time.
            if !settler.is_recorded {
                let keep = move || {
                    settler.keep_record();
                    settler
                };
                match spawn_blocking(keep).await {
                    Ok(kept) => settler = kept,
                    Err(_) => return,
                }
            }
            let changed = match settler.is_recorded {
                true => pictures.changed().await,
                false => timeout(RETRY, pictures.changed()).await.unwrap_or(Ok(())),
            };
            if changed.is_err() {
                return;
            }
        }
    });
    (latest, task)
}

/// What Nodes and our kinds come to.
struct Settler {
    documents: Documents,
    set: Set,
    /// What was settled last, and what nobody had shown then.
    from: Option<(Shared<DocumentId, Json>, Vec<String>)>,
    settled: View,
    record: Record,
    is_recorded: bool,
}

impl Settler {
    fn new(mut record: Record) -> Settler {
        let mut documents = Documents::of_objects(record.node());
        if let Some(counts) = record.read(Path::new(ABOUT))
            && !documents.go_on_from(counts)
        {
            tracing::warn!("another version has taken these objects: starting from nothing");
        }
        let settled = View::default();
        Settler { documents, set: Set::new(), from: None, settled, record, is_recorded: true }
    }

    fn is_to_settle(&self, picture: &Picture) -> bool {
        match &self.from {
            None => true,
            Some((from, unseen)) => *unseen != unseen_of_fabric(picture) || *from != picture.documents,
        }
    }

    /// With thousands of Nodes it takes some time.
    fn settle(&mut self, picture: &Picture) {
        let (now, unseen) = (picture.documents.clone(), unseen_of_fabric(picture));
        let differences = match &self.from {
            Some((from, _)) => from.differences(&now),
            None => now.iter().map(|(id, object)| (id.clone(), Some(object.clone()))).collect(),
        };
        for (id, object) in differences {
            let Some(kind) = Kind::named(&id.kind) else { continue };
            let of = ObjectRef { kind, name: id.name.to_string() };
            let place: Arc<str> = of.to_string().into();
            match object {
                Some(object) => _ = self.set.insert(place, Arc::new(Document::object(of, object))),
                None => _ = self.set.remove(&place),
            }
        }
        let look = match unseen.is_empty() {
            true => Look::All(self.set.clone()),
            false => Look::Lost(unseen_problem(&picture.health, &unseen)),
        };
        let before = Arc::clone(&self.settled.fabric);
        self.settled = self.documents.view(&look);
        self.is_recorded &= Arc::ptr_eq(&before, &self.settled.fabric);
        self.from = Some((now, unseen));
    }

    fn view(&self, picture: &Picture) -> View {
        let Picture { pods, namespaces, policies, services, slices, documents, health, .. } = picture;
        let unseen = health.kinds.iter().filter(|(name, kind)| is_of_policies(name) && !kind.is_shown);
        let unknown = unseen.map(|(name, _)| unseen_problem(health, std::slice::from_ref(name))).collect();
        let (pods, namespaces, policies) = (pods.clone(), namespaces.clone(), policies.clone());
        let workloads = Workloads { pods, namespaces, policies, unknown };
        let services = Services { services: services.clone(), slices: slices.clone() };
        View { fabric: Arc::clone(&self.settled.fabric), workloads, services, documents: documents.clone() }
    }

    /// Tried again until it can be written. The snapshot, on the same disk, tells the operator.
    fn keep_record(&mut self) {
        let Some(counts) = self.documents.counts(Some(&self.set)) else {
            self.is_recorded = true;
            return;
        };
        let kept = self.record.keep(Path::new(ABOUT), counts);
        if let Err(error) = &kept {
            tracing::warn!(path = %self.record.path().display(), error = %error, "who has what cannot be written");
        }
        self.is_recorded = kept.is_ok();
    }
}

fn is_of_policies(name: &str) -> bool {
    Kind::named(name).is_some_and(Kind::is_of_policies)
}

/// Kinds that BGP is made from and that nobody has shown. Of those whose engine is to come nothing is made: a right
/// that is missing to one of them is told, and that is all. Secrets are waited for only if some peers have keys, for
/// then a start without them would let go of what these peers told the last run; and not where nobody may read them:
/// then only peers with keys have no session.
fn unseen_of_fabric(picture: &Picture) -> Vec<String> {
    let unseen = picture.health.kinds.iter().filter(|(_, kind)| !kind.is_shown);
    let counts = |(name, kind): &(&String, &KindHealth)| match Kind::named(name) {
        Some(Kind::Secret) => !matches!(kind.state, KindState::Refused(_)) && asks_for_keys(picture),
        // Nobody is a peer of a service.
        Some(kind) if kind.is_of_services() => false,
        _ => !is_of_policies(name),
    };
    unseen.filter(counts).map(|(name, _)| name.clone()).collect()
}

fn asks_for_keys(picture: &Picture) -> bool {
    let mut configs =
        picture.documents.iter().filter(|(id, _)| Kind::named(&id.kind) == Some(Kind::BGPPeerConfig));
    configs.any(|(_, config)| config.value().pointer("/spec/secret").is_some())
}

fn unseen_problem(health: &Health, kinds: &[String]) -> Problem {
    let why = kinds.iter().filter_map(|kind| why(health.kinds.get(kind)?)).next();
    let why = why.or_else(|| health.trouble.as_ref().map(|trouble| trouble.what.as_str()));
    let what =
        format!("{}: not seen yet: {}", kinds.join(", "), why.unwrap_or("the server has not answered"));
    Problem::new(place(health), what).because(Reason::Unreadable)
}

fn why(kind: &KindHealth) -> Option<&str> {
    match &kind.state {
        KindState::Away(what)
        | KindState::Refused(what)
        | KindState::Older(what)
        | KindState::NotInstalled(what) => Some(what),
        KindState::Unknown | KindState::FromSnapshot | KindState::Watching => None,
    }
}

fn place(health: &Health) -> String {
    format!("API server {}", health.server.as_deref().unwrap_or("of unknown address"))
}

/// What is wrong with the source itself, in words that name what the operator can look at.
pub fn problems(health: &Health, now: SystemTime) -> Vec<Problem> {
    // What began later than now began before the clock was set back.
    let lasts = |since: SystemTime| now.duration_since(since).map_or(true, |since| since >= PATIENCE);
    let place = place(health);
    let trouble = health.trouble.as_ref();
    // A configuration that cannot be used is nothing that passes by itself.
    let trouble = trouble.filter(|trouble| health.server.is_none() || lasts(trouble.since));
    let mut problems: Vec<Problem> = Vec::new();
    problems.extend(trouble.map(|trouble| {
        Problem::new(place.clone(), trouble.what.clone()).and(STAYS).because(Reason::Unreadable)
    }));
    problems.extend(health.configuration.iter().map(|what| {
        let problem = Problem::new("configuration", what.clone()).and("the one before it stays in use");
        problem.because(Reason::Unreadable).found_here()
    }));
    for (name, kind) in &health.kinds {
        let place = || format!("{place}: {name}");
        match &kind.state {
            // Of what concerns all kinds one line is enough.
            KindState::Away(_) if health.trouble.is_some() || !lasts(kind.since) => {}
            KindState::Away(what) | KindState::Refused(what) | KindState::Older(what) => {
                problems.push(Problem::new(place(), what.clone()).and(STAYS).because(Reason::Unreadable));
            }
            KindState::NotInstalled(what) => {
                problems.push(Problem::new(place(), what.clone()).because(Reason::Missing));
            }
            KindState::Unknown | KindState::FromSnapshot | KindState::Watching => {}
        }
        problems.extend(kind.unreadable.iter().map(|(object, what)| {
            let problem = Problem::new(format!("{name} {object}"), what.clone());
            let problem = problem.and("it counts as it was before").because(Reason::CountsAsBefore);
            match Kind::named(name) {
                Some(kind) => problem.about(kind, object),
                None => problem,
            }
        }));
    }
    let of_disk = |what: &String| Problem::new("snapshot of the cluster", what.clone()).found_here();
    problems.extend(health.journal.iter().map(of_disk));
    problems
}

/// Of which kinds what is known is from before, and the server has not said yet that it is still so, or says that there
/// is no such kind. None, while it cannot be reached: then it is what there is.
pub fn unconfirmed(health: &Health) -> Vec<String> {
    let words = |(name, kind): (&String, &KindHealth)| match &kind.state {
        KindState::NotInstalled(what) => Some(format!("the definition of {name}: {what}")),
        KindState::FromSnapshot if health.trouble.is_none() => {
            Some(format!("the API server's word on {name}, known from the snapshot"))
        }
        _ => None,
    };
    let known = |(name, kind): &(&String, &KindHealth)| kind.objects > 0 && ROUTING.contains(&name.as_str());
    health.kinds.iter().filter(known).filter_map(words).collect()
}

#[cfg(test)]
mod tests {
    use cambric_kube::Trouble;
    use serde_json::json;

    use super::*;
    use crate::intent::intent;
    use crate::objects::FoundBy;

    fn picture(unseen: &str) -> Picture {
        let mut picture = Picture::default();
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": {"podCIDR": "10.1.0.0/24"},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
        });
        let config = json!({
            "apiVersion": "cambric.dev/v1alpha1", "kind": "BGPClusterConfig", "metadata": {"name": "all"},
            "spec": {"asn": 65001},
        });
        for object in [node, config] {
            picture.show(&object).expect("it is watched");
        }
        for kind in ["Node", "BGPClusterConfig", "BGPFilter", "BGPAdvertisement", "Service", "Pod"] {
            let is_shown = kind != unseen;
            let state = match is_shown {
                true => KindState::Watching,
                false => KindState::Refused("list: 403".to_owned()),
            };
            let (objects, version, since, unreadable) = (0, None, SystemTime::now(), Vec::new());
            let health = KindHealth { objects, version, is_shown, state, since, unreadable };
            picture.health.kinds.insert(kind.to_owned(), health);
        }
        picture
    }

    #[test]
    fn all_that_says_who_peers_are_and_what_they_hear_is_waited_for_and_services_are_not() {
        let folder = tempfile::tempdir().expect("temporary folder");
        for (unseen, is_waited_for) in [
            ("Node", true),
            ("BGPClusterConfig", true),
            ("BGPFilter", true),
            ("BGPAdvertisement", true),
            ("Service", false),
        ] {
            let mut settler = Settler::new(Record::new(folder.path().join(unseen), "n1"));
            let picture = picture(unseen);
            settler.settle(&picture);
            let view = settler.view(&picture);
            assert_eq!(intent(&view.fabric, "n1", &[]).is_err(), is_waited_for, "{unseen}");
            assert_eq!(view.workloads.unknown.len(), 0, "{unseen}");
            let told = problems(&picture.health, SystemTime::now());
            assert!(told.iter().any(|problem| problem.to_string().contains(unseen)), "{unseen}: {told:?}");
        }
    }

    /// Without them a start would let go of what their peers told the last run.
    #[test]
    fn secrets_are_waited_for_where_peers_have_keys_and_somebody_may_read_them() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let config = json!({
            "apiVersion": "cambric.dev/v1alpha1", "kind": "BGPPeerConfig", "metadata": {"name": "tor"},
            "spec": {"secret": {"name": "tor"}},
        });
        let refused = || KindState::Refused("list: 403".to_owned());
        for (asks, state, is_waited_for) in
            [(true, KindState::Unknown, true), (false, KindState::Unknown, false), (true, refused(), false)]
        {
            let mut picture = picture("");
            if asks {
                picture.show(&config).expect("it is watched");
            }
            let health = KindHealth { state, is_shown: false, ..picture.health.kinds["Node"].clone() };
            picture.health.kinds.insert("Secret".to_owned(), health);
            let mut settler = Settler::new(Record::new(folder.path().join("none"), "n1"));
            settler.settle(&picture);
            let view = settler.view(&picture);
            assert_eq!(intent(&view.fabric, "n1", &[]).is_err(), is_waited_for, "{asks}");
        }
    }

    #[test]
    fn the_secrets_of_a_server_are_keys_and_are_in_no_record_of_ours() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("claims.json");
        let mut picture = picture("");
        for object in [
            json!({
                "apiVersion": "cambric.dev/v1alpha1", "kind": "BGPPeerConfig", "metadata": {"name": "tor"},
                "spec": {"secret": {"name": "tor"}},
            }),
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tor", "namespace": "cambric-system"},
                "data": {"password": "aHVudGVyMg=="},
            }),
        ] {
            picture.show(&object).expect("it is watched");
        }
        let mut settler = Settler::new(Record::new(path.clone(), "n1"));
        settler.settle(&picture);
        settler.keep_record();
        let fabric = settler.view(&picture).fabric;
        assert_eq!((fabric.problems.len(), fabric.secrets["tor"].says.key("password").is_ok()), (0, true));
        let record = || std::fs::read_to_string(&path).expect("it is written");
        assert!(record().contains("BGPPeerConfig tor") && !record().contains("aHVudGVy"), "{}", record());
        // It is needed, and gone: then nobody else has it.
        let gone = picture.documents.iter().find(|(id, _)| &*id.kind == "Secret").map(|(id, _)| id.clone());
        picture.documents.remove(&gone.expect("it is there"));
        settler.settle(&picture);
        settler.keep_record();
        let fabric = settler.view(&picture).fabric;
        assert!(fabric.secrets.contains_key("tor"), "{:?}", fabric.problems);
        assert!(
            fabric.problems[0].to_string().starts_with("Secret tor: is gone, and is missing"),
            "{:?}",
            fabric.problems
        );
        assert!(record().contains("aHVudGVy"));
    }

    #[test]
    fn a_clock_that_was_set_back_hides_no_trouble() {
        let hour = Duration::from_secs(3600);
        for since in [SystemTime::now() - hour, SystemTime::now() + hour] {
            let trouble = Some(Trouble { what: "it is away".to_owned(), since });
            let health =
                Health { server: Some("https://192.0.2.1".to_owned()), trouble, ..Health::default() };
            assert_eq!(problems(&health, SystemTime::now()).len(), 1);
        }
    }

    #[test]
    fn a_configuration_that_is_not_in_use_is_told_at_once() {
        let configuration = Some("/etc/kubeconfig: is no kubeconfig".to_owned());
        let health = Health { configuration, ..Health::default() };
        let found = problems(&health, SystemTime::now());
        assert!(found.iter().all(|problem| problem.found_by == FoundBy::ThisNode), "{found:?}");
        let told: Vec<String> = found.iter().map(Problem::to_string).collect();
        let wanted = "configuration: /etc/kubeconfig: is no kubeconfig; the one before it stays in use";
        assert_eq!(told, [wanted]);
    }

    #[test]
    fn what_is_from_before_is_unconfirmed_until_the_server_has_said_so_or_is_away() {
        let mut health = picture("").health;
        let set = |health: &mut Health, objects, state| {
            let kind = health.kinds.get_mut("BGPClusterConfig").expect("it is watched");
            (kind.objects, kind.state) = (objects, state);
        };
        assert_eq!(unconfirmed(&health), [""; 0]);
        set(&mut health, 1, KindState::NotInstalled("404".to_owned()));
        assert_eq!(unconfirmed(&health), ["the definition of BGPClusterConfig: 404"]);
        set(&mut health, 0, KindState::NotInstalled("404".to_owned()));
        assert_eq!(unconfirmed(&health), [""; 0], "there is none of it: what that means for peers is seen");
        set(&mut health, 1, KindState::FromSnapshot);
        assert_eq!(
            unconfirmed(&health),
            ["the API server's word on BGPClusterConfig, known from the snapshot"]
        );
        health.trouble = Some(Trouble { what: "refused".to_owned(), since: SystemTime::now() });
        assert_eq!(unconfirmed(&health), [""; 0]);
    }
}
