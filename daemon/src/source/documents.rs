//! Which of the documents that a source shows count, and as what: the same for the files of a folder and the objects
//! of an API server.
//!
//! A typing error must not cost sessions: a document with a fault, or one that contradicts another, is a [`Problem`]
//! and counts as it was before. So does one that is emptied, as by a writer who is not done, and one that is removed
//! while others refer to what is in it, or while a document with a fault may be where its objects are meant to be now.
//! If the Node object of this node goes, the node has lost sight of itself and goes on as before.
//!
//! A document that had a fault from the start has nothing it could count as. If nobody can tell what is in it, the view
//! says so, and nobody acts on it; a wrong value costs what it is in, and the rest is served (see
//! [`values`](crate::values)). If it can only be a Pod, a Namespace or a NetworkPolicy, policies alone wait for it. A
//! daemon that is started anew goes on where the last one was (see [`record`](super::record)): neither an upgrade nor a
//! reboot is a reason to let go of what works.
//!
//! An object of an API server is known by kind and name, whatever is wrong with it. So a fault in it hides nothing but
//! itself, and nobody waits for it who does without it. Its Nodes are facts and not edits: none counts as before as long
//! as it can be read; a wrong value in it, or one that another node has, costs that value alone.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use cambric_kube::Json;
use serde_json::{Value, json};

use super::manifest::Manifest;
use super::record::Counts;
use crate::advertisements;
use crate::contradictions::{self, Age, Claimant, Claims, Entry, Refusal, Settled};
use crate::intent::NoIntent;
use crate::objects::{Kind, Node, Object, ObjectRef, Problem, Reason};
use crate::values::Costs;
use crate::view::View;

/// What becomes of a document that cannot be taken.
const AS_BEFORE: &str = "it counts as it was before";
/// What becomes of a policy with a fault.
const FAILS_CLOSED: &str = "it isolates the pods it selects and allows nothing";
/// What it means for policies that nobody knows what is there.
const POLICY_WAITS: &str = "no pod is judged anew before it is mended";
/// What becomes of all of them.
const ALL_AS_BEFORE: &str = "all counts as it was before";
/// What becomes of a node that an API server does not know any more.
const GOES_ON: &str = "this node goes on as it was, until it is back";
/// One document that counts as before may leave another without what it needs, and so on. After so many steps, all
/// that has changed counts as before.
pub(super) const MOST_ROUNDS: usize = 32;
/// What is given up in one look can be taken by others in the next.
const MOST_LOOKS: usize = 8;

/// Documents by id: the name of a file, or an object as `BGPPeerConfig tor`.
pub type Set = BTreeMap<Arc<str>, Arc<Document>>;

/// A version of a document.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    /// What it says. Two versions that say the same are the same, whatever their comments.
    pub(super) manifest: Manifest,
    /// The object that it is, if that is known whatever it says.
    of: Option<ObjectRef>,
    /// When the object was made, as an API server writes it: in UTC, so that texts are in the order of time.
    created: String,
    text: Text,
}

/// What it was read from.
#[derive(Debug, Clone, Default, PartialEq)]
enum Text {
    /// It could not be read.
    #[default]
    None,
    Yaml(String),
    Json(Json),
}

/// What a source finds when it looks.
#[derive(Debug)]
pub enum Look {
    /// All there is.
    All(Set),
    /// Nobody can tell what is there.
    Lost(Problem),
}

/// What documents are, and what each said when it could last be taken.
#[derive(Debug)]
pub struct Documents {
    form: Form,
    /// This node.
    own: String,
    /// What counted in the last view.
    pub(super) taken: Set,
    /// What was granted in the last view.
    pub(super) claims: Claims,
    /// There was a view with nothing unknown in it but what policies are made of.
    seen_whole: bool,
    /// And one with nothing unknown at all.
    seen_by_policy: bool,
    /// All there is was shown in this run, or the record has all of it.
    knows_all: bool,
    /// The last view.
    shown: View,
}

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A file that somebody writes, with objects in it.
    File,
    /// One object of an API server.
    Object,
}

/// A view in the making.
#[derive(Debug, Default)]
struct Draft {
    /// What counts of each document.
    documents: Set,
    problems: Vec<Problem>,
    unknown: Vec<Problem>,
    unknown_to_policy: Vec<Problem>,
}

impl Document {
    /// The text of a file.
    pub fn file(name: &str, text: String) -> Document {
        Document { manifest: Manifest::decode(name, &text), text: Text::Yaml(text), ..Document::default() }
    }

    /// A file that could not even be opened.
    pub fn unreadable(name: &str, error: &io::Error) -> Document {
        Document { manifest: Manifest::unreadable(name, error), ..Document::default() }
    }

    /// An object as an API server shows it, with `apiVersion` and `kind`.
    pub fn object(of: ObjectRef, json: Json) -> Document {
        let object = json.value();
        let created = object.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
        let created = created.unwrap_or_default().to_owned();
        let manifest = Manifest::of_object(&of, &object);
        Document { manifest, of: Some(of), created, text: Text::Json(json) }
    }

    /// Whether it is what an API server says of a node: its addresses and ranges are facts, and not what somebody wishes.
    fn is_node(&self) -> bool {
        self.of.as_ref().is_some_and(|of| of.kind == Kind::Node)
    }

    /// The Node that it shows, if it is one and can be read.
    fn shown_node(&self) -> Option<&Node> {
        match &self.manifest.entries.first()?.object {
            Object::Node(node) => Some(node),
            _ => None,
        }
    }

    /// Whether it was read from this text.
    pub(super) fn is_of(&self, text: &str) -> bool {
        matches!(&self.text, Text::Yaml(own) if own == text)
    }

    pub(super) fn text(&self) -> Option<String> {
        match &self.text {
            Text::None => None,
            Text::Yaml(text) => Some(text.clone()),
            Text::Json(json) => Some(json.text().to_owned()),
        }
    }
}

impl Draft {
    fn settle(&self, held: &Claims, own: &str, form: Form) -> Settled {
        let mut documents: Vec<&Arc<Document>> = self.documents.values().collect();
        documents.sort_by(|one, other| one.created.cmp(&other.created));
        let entries: Vec<&Entry> =
            documents.into_iter().flat_map(|document| &document.manifest.entries).collect();
        let age = match form {
            Form::File => Age::SinceSeen,
            Form::Object => Age::ByOrder,
        };
        contradictions::settle(&entries, held, own, age)
    }
}

impl Documents {
    /// Files for node `own`, of which nothing is known yet.
    pub fn of_files(own: impl Into<String>) -> Documents {
        Documents::new(Form::File, own.into())
    }

    /// Objects of an API server for node `own`, of which nothing is known yet. Of two that contradict each other, and
    /// of which neither was granted what both claim, the older counts.
    pub fn of_objects(own: impl Into<String>) -> Documents {
        Documents::new(Form::Object, own.into())
    }

    fn new(form: Form, own: String) -> Documents {
        let (taken, claims) = (Set::new(), Claims::default());
        let (seen_whole, seen_by_policy, knows_all) = (false, false, false);
        Documents { form, own, taken, claims, seen_whole, seen_by_policy, knows_all, shown: View::default() }
    }

    /// Goes on from what counted for an earlier daemon; whether it can. A text that another version of this daemon has
    /// taken, and this one cannot read, is no state to go back to: then nothing is known. If it is only what policies
    /// are made of, only they know nothing. Of objects only those count for that which this node needs: it waits until
    /// they can be read, rather than do the opposite of what they say. And it waits until all of them are shown: the
    /// record leaves out the Nodes of others, and a cluster without them has no mesh and no ranges but its own.
    pub(super) fn go_on_from(&mut self, Counts { files, broken, claims }: Counts) -> bool {
        let mut taken = Set::new();
        let mut hides_needed = false;
        for (id, text) in files {
            let document = match self.form {
                Form::File => Some(Document::file(&id, text)),
                Form::Object => recorded_object(&text),
            };
            let Some(document) = document else {
                hides_needed |= ObjectRef::named(&id).is_some_and(|of| self.is_needed(&of));
                continue;
            };
            let is_needed = document.of.as_ref().is_none_or(|of| self.is_needed(of));
            hides_needed |= is_needed && document.manifest.hides_all() && !broken.contains(&id);
            taken.insert(Arc::from(id), Arc::new(document));
        }
        let of_another_version =
            taken.iter().filter(|(id, _)| !broken.contains(&***id)).map(|(_, document)| &document.manifest);
        let is_readable_to_policy = !of_another_version.clone().any(Manifest::hides_something);
        if self.form == Form::File && hides_needed {
            return false;
        }
        // Of objects, what can be read is still what counted.
        (self.taken, self.claims) = (taken, claims);
        (self.seen_whole, self.seen_by_policy) = (!hides_needed, !hides_needed && is_readable_to_policy);
        self.knows_all = self.form == Form::File;
        !hides_needed
    }

    /// What a daemon that is started anew should go on from; nothing as long as nobody acts on what is shown.
    ///
    /// An API server shows Nodes again by itself, and there are many of them: only this one is written down, and those
    /// that count as they were before. So it is with Secrets: what they say is in one place on the disk, the snapshot.
    pub(super) fn counts(&self, look: Option<&Set>) -> Option<Counts> {
        if !self.seen_whole || !self.knows_all {
            return None;
        }
        let is_kept = |id: &Arc<str>, document: &Arc<Document>| match &document.of {
            Some(of) if (of.kind == Kind::Node && of.name != self.own) || of.kind == Kind::Secret => {
                look.and_then(|look| look.get(id)).is_none_or(|now| !is_same(now, document))
            }
            _ => true,
        };
        let kept = self.taken.iter().filter(|(id, document)| is_kept(id, document));
        let text = |(id, document): (&Arc<str>, &Arc<Document>)| Some((id.to_string(), document.text()?));
        // What policies still wait for is not to be passed over by the daemon that comes next.
        let is_passed_over =
            |manifest: &Manifest| manifest.hides_all() || (self.seen_by_policy && manifest.hides_something());
        let broken = self.taken.iter().filter(|(_, document)| is_passed_over(&document.manifest));
        Some(Counts {
            files: kept.filter_map(text).collect(),
            broken: broken.map(|(id, _)| id.to_string()).collect(),
            claims: self.claims.clone(),
        })
    }

    /// Whether all that counted has gone from `now`, and nothing that is any business of ours has come.
    pub(super) fn are_all_gone(&self, now: &Set) -> bool {
        let counted = self.taken.values().any(|document| !document.manifest.entries.is_empty());
        counted && now.iter().all(|(id, document)| self.is_foreign(id, document))
    }

    /// There never was anything in it that is our business.
    fn is_foreign(&self, id: &str, document: &Document) -> bool {
        let now = &document.manifest;
        let is_emptied =
            now.is_empty && self.taken.get(id).is_some_and(|before| !before.manifest.entries.is_empty());
        now.entries.is_empty() && now.faults.is_empty() && !is_emptied
    }

    /// What counts now; a document with a fault, or one that contradicts another, says what it said before.
    pub fn view(&mut self, look: &Look) -> View {
        self.knows_all |= matches!(look, Look::All(_));
        let mut looks = 0;
        let (draft, mut objects, mut workloads, services) = loop {
            let mut draft = self.draft(look);
            let mut settled = self.settle(&mut draft, look);
            if let Some(problem) = self.own_node_lost(&settled.claims) {
                draft.documents = self.taken.clone();
                draft.problems.push(problem);
                settled = draft.settle(&self.claims, &self.own, self.form);
            }
            let Settled { objects, workloads, services, claims, .. } = settled;
            looks += 1;
            // An empty folder may be one that is not mounted yet; an API server without objects has none.
            let is_filled = self.form == Form::Object || !draft.documents.is_empty();
            self.seen_whole |= draft.unknown.is_empty() && is_filled;
            self.seen_by_policy |= self.seen_whole && draft.unknown_to_policy.is_empty();
            // Nobody acts on a view that is not whole: nothing in it is a state to go back to.
            let acts = self.seen_whole && self.knows_all;
            let is_steady = !acts || (are_same(&self.taken, &draft.documents) && self.claims == claims);
            if !is_steady {
                (self.taken, self.claims) = (draft.documents.clone(), claims);
            }
            if is_steady || looks == MOST_LOOKS {
                break (draft, objects, workloads, services);
            }
        };
        objects.problems = draft.problems;
        objects.problems.sort();
        objects
            .notices
            .extend(draft.documents.values().flat_map(|document| document.manifest.notices.clone()));
        let of_advertisements = advertisements::notices(&objects);
        objects.notices.extend(of_advertisements);
        if !self.seen_whole || !self.knows_all {
            objects.unknown = draft.unknown;
        }
        if !self.seen_by_policy {
            workloads.unknown = draft.unknown_to_policy;
        }
        self.shown =
            View { fabric: Arc::new(objects), workloads, services, ..View::default() }.after(&self.shown);
        self.shown.clone()
    }

    /// Whoever loses sight of itself goes on as before, and so does a daemon that is started anew.
    fn own_node_lost(&self, now: &Claims) -> Option<Problem> {
        let own = (Kind::Node, self.own.clone());
        let is_lost = self.claims.file_of(&own).is_some() && now.file_of(&own).is_none();
        let problem = || NoIntent::NodeUnknown(self.own.clone()).problem_while_going_on();
        is_lost.then(problem).flatten()
    }

    /// Decides what counts of each document by itself.
    fn draft(&self, look: &Look) -> Draft {
        let mut draft = Draft::default();
        let documents = match look {
            Look::All(documents) => documents,
            Look::Lost(problem) if self.seen_whole && self.knows_all => {
                draft.problems.push(problem.clone().and(ALL_AS_BEFORE));
                &self.taken
            }
            Look::Lost(problem) => {
                draft.unknown.push(problem.clone());
                draft.problems.push(problem.clone());
                &self.taken
            }
        };
        for (id, document) in documents {
            match self.with_what_this_node_had(&mut draft, id, document) {
                Some(document) => self.take(&mut draft, id, &document),
                None => self.take(&mut draft, id, document),
            }
        }
        if self.form == Form::Object {
            self.keep_own_node(&mut draft);
        }
        draft
    }

    /// The API server has taken our object away, by mistake or because somebody takes the node out of the cluster. What
    /// others do meanwhile is followed.
    fn keep_own_node(&self, draft: &mut Draft) {
        let own = ObjectRef { kind: Kind::Node, name: self.own.clone() };
        let id = own.to_string();
        let Some(before) = self.taken.get(&*id).filter(|_| !draft.documents.contains_key(&*id)) else {
            return;
        };
        draft.documents.insert(id.into(), Arc::clone(before));
        let problem = NoIntent::NodeUnknown(own.name).problem();
        draft.problems.extend(problem.map(|problem| problem.and(GOES_ON)));
    }

    /// The Node object of this node, if it shows no range or no address, with those that it had. A kubelet that registers
    /// the node anew shows neither at first: pods that run keep their addresses meanwhile, and sessions theirs. Another
    /// range or address is another matter.
    fn with_what_this_node_had(
        &self,
        draft: &mut Draft,
        id: &Arc<str>,
        document: &Arc<Document>,
    ) -> Option<Arc<Document>> {
        let of = document.of.as_ref().filter(|of| of.kind == Kind::Node && of.name == self.own)?;
        let before = self.taken.get(id)?;
        let (now, had) = (document.shown_node()?, before.shown_node()?);
        let (Text::Json(object), Text::Json(object_before)) = (&document.text, &before.text) else {
            return None;
        };
        let (object, object_before) = (object.value(), object_before.value());
        let mut merged = object.clone();
        let mut tell = |field: &str, what: &str, had: Vec<String>| {
            let what = format!("{field}: {what}; this node goes on with {}", had.join(" and "));
            let problem = Problem::new(of.to_string(), what).about(of.kind, &of.name);
            draft.problems.push(problem.because(Reason::Missing));
        };
        if now.pod_ranges.is_empty() && !had.pod_ranges.is_empty() {
            let ranges = had.pod_ranges.iter().map(|(_, range)| range.to_string());
            tell("spec.podCIDRs", "none can be used", ranges.collect());
            for field in ["podCIDR", "podCIDRs"] {
                set(&mut merged, ["spec", field], &object_before);
            }
        }
        if now.internal_addresses.is_empty() && !had.internal_addresses.is_empty() {
            let addresses = had.internal_addresses.iter().map(|(_, address)| address.to_string());
            tell("status.addresses", "no InternalIP can be used", addresses.collect());
            set(&mut merged, ["status", "addresses"], &object_before);
        }
        if merged == object {
            return None;
        }
        let faults = document.manifest.faults.iter().map(|(fault, _)| fault);
        draft.problems.extend(faults.map(|fault| fault.clone().and("it is left out")));
        Some(Arc::new(Document::object(of.clone(), Json::new(&merged))))
    }

    /// Decides what counts of one document by itself.
    fn take(&self, draft: &mut Draft, id: &Arc<str>, document: &Arc<Document>) {
        let now = &document.manifest;
        let is_state =
            |before: &Manifest| before != now && !before.entries.is_empty() && !now.is_no_worse_than(before);
        let before = self.taken.get(id).filter(|before| !Arc::ptr_eq(before, document));
        let before = before.filter(|_| !document.is_node() || now.hides_all());
        if let Some(before) = before.filter(|before| is_state(&before.manifest)) {
            if now.is_empty && !before.manifest.is_empty {
                let what = "there is nothing in it; remove the file to remove its objects";
                draft.problems.push(self.changed(id, what).and(AS_BEFORE));
                draft.documents.insert(Arc::clone(id), Arc::clone(before));
                return;
            }
            if !now.faults.is_empty() {
                draft.problems.extend(now.faults.iter().map(|(fault, _)| fault.clone().and(AS_BEFORE)));
                draft.documents.insert(Arc::clone(id), Arc::clone(before));
                return;
            }
        }
        let is_needed = document.of.as_ref().is_none_or(|of| self.is_needed(of));
        if let Some(fault) = self.half_a_configuration(id, document) {
            let and = if self.seen_whole { "it is left out" } else { "this node waits until it is mended" };
            draft.problems.extend(now.faults.iter().map(|(fault, _)| fault.clone().and(and)));
            draft.unknown.push(fault);
            return;
        }
        for (fault, costs) in &now.faults {
            draft.problems.push(match costs {
                Costs::Only(what) => fault.clone().and(&format!("this {what} is left out")),
                Costs::Closed => fault.clone().and(FAILS_CLOSED),
                Costs::Policies if !self.seen_by_policy => fault.clone().and(POLICY_WAITS),
                _ if !self.seen_whole && is_needed => fault.clone(),
                Costs::All | Costs::Policies => fault.clone().and("it is left out"),
                Costs::Rest => fault.clone().and("it and all that follows in the file is left out"),
            });
            if costs.hides_all() && is_needed {
                draft.unknown.push(fault.clone());
            } else if costs.hides_something() && !costs.hides_all() {
                draft.unknown_to_policy.push(fault.clone());
            }
        }
        draft.documents.insert(Arc::clone(id), Arc::clone(document));
    }

    /// The first fault of a new BGPClusterConfig of an API server. It speaks to many nodes, and those that know it from
    /// before go on with all of it as it was. One that took the half of it that has no fault could have another AS than
    /// they; so none does.
    fn half_a_configuration(&self, id: &Arc<str>, document: &Document) -> Option<Problem> {
        let is_config = document.of.as_ref().is_some_and(|of| of.kind == Kind::BGPClusterConfig);
        let stands = || self.taken.get(id).is_some_and(|before| before.manifest == document.manifest);
        let (fault, _) = document.manifest.faults.first().filter(|_| is_config && !stands())?;
        Some(fault.clone())
    }

    /// Whether this node could do the opposite of what is meant, if it did without this document. Of another node's
    /// Node or BGPNodeOverride it only does without a session; so it does where a BGPPeerConfig is missing, which the
    /// peers name that refer to it.
    fn is_needed(&self, of: &ObjectRef) -> bool {
        match of.kind {
            Kind::Node | Kind::BGPNodeOverride => of.name == self.own,
            Kind::BGPClusterConfig => true,
            _ => false,
        }
    }

    /// Lets documents that contradict others count as they were before, until nothing is left that could.
    fn settle(&self, draft: &mut Draft, look: &Look) -> Settled {
        let mut rounds = 0;
        loop {
            let settled = draft.settle(&self.claims, &self.own, self.form);
            let mut culprits: BTreeMap<Arc<str>, Problem> = BTreeMap::new();
            for refusal in settled.refused.iter().filter(|refusal| refusal.is_new) {
                if let Some(id) = self.culprit(draft, refusal) {
                    culprits.entry(Arc::from(id)).or_insert_with(|| refusal.problem.clone());
                }
            }
            if let Look::All(found) = look
                && self.form == Form::File
                && culprits.is_empty()
            {
                culprits = self.lost(draft, found, &settled.claims);
            }
            if culprits.is_empty() {
                let refused = settled.refused.iter().map(|refusal| refusal.problem.clone());
                draft.problems.extend(refused.map(|problem| problem.and("it is left out")));
                return settled;
            }
            if rounds == MOST_ROUNDS {
                for id in self.taken.keys().filter(|id| self.may_go_back(draft, id)) {
                    let what = "changed at once with others that contradict each other";
                    culprits.entry(Arc::clone(id)).or_insert_with(|| self.changed(id, what));
                }
            }
            for (id, problem) in culprits {
                self.put_back(draft, id, problem);
            }
            rounds += 1;
        }
    }

    /// A document that has changed, so it was there before.
    fn put_back(&self, draft: &mut Draft, id: Arc<str>, problem: Problem) {
        let before = self.taken.get(&id).cloned().unwrap_or_default();
        let is_gone = draft.documents.insert(Arc::clone(&id), before).is_none();
        draft.problems.push(if problem.place == *id || problem.place.starts_with(&format!("{id}, ")) {
            problem.and(AS_BEFORE)
        } else if is_gone {
            self.changed(&id, format!("is gone, and is missing: {problem}")).and(AS_BEFORE)
        } else {
            self.changed(&id, format!("has changed, and now {problem}")).and(AS_BEFORE)
        });
    }

    /// What a document does to others.
    fn changed(&self, id: &str, what: impl Into<String>) -> Problem {
        let of = self.taken.get(id).and_then(|document| document.of.clone());
        Problem { of: of.map(Box::new), ..Problem::new(id, what).because(Reason::CountsAsBefore) }
    }

    /// The document whose change is the reason, if one is and if there is a state to go back to: the one that has
    /// taken something away, or else the one that contradicts.
    fn culprit<'a>(&self, draft: &Draft, refusal: &'a Refusal) -> Option<&'a str> {
        let ids = refusal.because_of.iter().chain([&refusal.file]);
        ids.map(String::as_str).find(|id| self.may_go_back(draft, id))
    }

    /// The documents that have shown what does not count now, or from one with a fault, while such a one may be where
    /// it is meant to be.
    fn lost(&self, draft: &Draft, found: &Set, now: &Claims) -> BTreeMap<Arc<str>, Problem> {
        let mut lost = BTreeMap::new();
        for (claimant, file) in self.claims.objects() {
            let shows = now.file_of(claimant).and_then(|shows| draft.documents.get(&**shows));
            let is_whole = shows.is_some_and(|shows| shows.manifest.faults.is_empty());
            let stays = || now.file_of(claimant) == Some(file) && self.was_never_good(draft, file);
            if is_whole || !self.is_changed(draft, file) || stays() {
                continue;
            }
            let may_show = |(id, now): &(&Arc<str>, &Arc<Document>)| self.may_show(draft, id, now, claimant);
            if let Some((faulty, _)) = found.iter().find(may_show) {
                let (kind, name) = claimant;
                let is_gone = !draft.documents.contains_key(&**file);
                let what = if is_gone { "is gone" } else { "has changed" };
                let what = format!("{what} while {faulty} has a fault: {kind} {name} may be meant there");
                lost.entry(Arc::from(&**file)).or_insert_with(|| self.changed(file, what));
            }
        }
        lost
    }

    /// Whether `claimant` may be meant in a document that does not count as it is.
    fn may_show(&self, draft: &Draft, id: &str, now: &Document, claimant: &Claimant) -> bool {
        let counts = draft.documents.get(id).is_some_and(|document| document.manifest == now.manifest);
        let is_emptied = now.manifest.is_empty && !counts;
        let is_whole = counts && now.manifest.faults.is_empty();
        let shows = || now.manifest.claimants().any(|shown| shown == *claimant);
        now.manifest.hides(claimant.0) || is_emptied || (!is_whole && shows())
    }

    /// Whether a document that counts as it is now shows policies that fail closed, as it did before.
    fn was_never_good(&self, draft: &Draft, id: &str) -> bool {
        let (now, before) = (draft.documents.get(id), self.taken.get(id));
        now.zip(before).is_some_and(|(now, before)| now.manifest.is_no_worse_than(&before.manifest))
    }

    fn is_changed(&self, draft: &Draft, id: &str) -> bool {
        let says_the_same = |before: &Arc<Document>, now: &Arc<Document>| {
            Arc::ptr_eq(before, now) || before.manifest == now.manifest
        };
        let Some(before) = self.taken.get(id) else { return false };
        !draft.documents.get(id).is_some_and(|now| says_the_same(before, now))
    }

    /// Whether it has changed, and may count as it was before. What an API server says of nodes is so.
    fn may_go_back(&self, draft: &Draft, id: &str) -> bool {
        self.is_changed(draft, id) && !self.taken.get(id).is_some_and(|before| before.is_node())
    }
}

fn are_same(one: &Set, other: &Set) -> bool {
    let is_pair = |((id, one), (other_id, other))| id == other_id && is_same(one, other);
    one.len() == other.len() && one.iter().zip(other).all(is_pair)
}

fn is_same(one: &Arc<Document>, other: &Arc<Document>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

/// Has a field say what it says in `before`. What is no object has none: it may be from a disk.
fn set(object: &mut Value, [part, field]: [&str; 2], before: &Value) {
    let Some(fields) = object.as_object_mut() else { return };
    if let Some(fields) = fields.entry(part).or_insert_with(|| json!({})).as_object_mut() {
        fields.insert(field.to_owned(), before[part][field].clone());
    }
}

/// An object as [`Documents::counts`] writes it.
fn recorded_object(text: &str) -> Option<Document> {
    let object: Value = serde_json::from_str(text).ok()?;
    let kind = serde_json::from_value(object.get("kind")?.clone()).ok()?;
    let name = object.pointer("/metadata/name")?.as_str()?.to_owned();
    Some(Document::object(ObjectRef { kind, name }, Json::new(&object)))
}

#[cfg(test)]
mod tests;
