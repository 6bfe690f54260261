//! Against an API server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant as StdInstant;

use cambric_apiserver_double::{ApiServer, Fault};
use cambric_bgp::peer::PeerState;
use cambric_bgp::router::{PeerStatus, Restarted};
use cambric_bgp::{Asn, RouterConfig, RouterId, Wanted};
use cambric_speaker::{Event, SpeakerConfig};
use serde_json::json;
use tokio::sync::mpsc;

use super::super::tests::not_busy;
use super::plan::tests::{peers, set};
use super::*;
use crate::view::View;

/// A cluster with our kinds and one node, in which daemons have no more rights than they need; the node's uid.
fn server() -> (ApiServer, String) {
    let server = ApiServer::new();
    for text in crate::crds::files().expect("schemas").values() {
        server.install(text);
    }
    server.authorize(include_str!("../../../../deploy/base/rbac.yaml"));
    let node = server.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}));
    (server, node["metadata"]["uid"].as_str().expect("a uid").to_owned())
}

fn look(plan: &mut Plan, owner: &str, peers: &[PeerStatus]) {
    let clocks = (Instant::now(), StdInstant::now(), SystemTime::now());
    plan.look(Some(owner.to_owned()), peers, &BTreeMap::new(), 1, clocks);
}

/// Nobody sends another client while both are there.
fn steady() -> (watch::Sender<Option<Client>>, watch::Receiver<Option<Client>>) {
    watch::channel(None)
}

fn sessions(server: &ApiServer) -> Vec<String> {
    let word = |object: Value| {
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or("-").to_owned();
        format!("{} {} {}", text("/metadata/name"), text("/status/state"), text("/status/reason"))
    };
    server.list(API_VERSION, "BGPSessionState").into_iter().map(word).collect()
}

#[tokio::test(start_paused = true)]
async fn sessions_are_made_written_and_gone_with_few_requests() {
    let (server, owner) = server();
    let client = server.client();
    let mut plan = Plan::new("n1", Instant::now());
    let mut peers = peers(&["spine:1", "tor"]);
    set(&mut peers[1], PeerState::Established, None);
    set(&mut peers[0], PeerState::Active, Some("peer announced AS 65011, configured 65010"));
    look(&mut plan, &owner, &peers);
    server.forget_requests();
    carry_out(&client, &steady().1, &mut plan, "n1")
        .await
        .map_err(|(what, why)| format!("{what}: {why}"))
        .expect("served");
    let spine = name::object("n1", "spine:1");
    assert_eq!(
        sessions(&server),
        [
            format!("{spine} Active peer announced AS 65011, configured 65010"),
            "n1.tor Established -".to_owned()
        ]
    );
    let verbs: Vec<String> = server.requests().iter().map(|request| request.verb.clone()).collect();
    assert_eq!(verbs, ["list", "create", "patch", "create", "patch"]);
    assert!(server.requests()[0].query.contains("resourceVersion=0"), "no quorum read of all nodes' objects");

    look(&mut plan, &owner, &peers);
    carry_out(&client, &steady().1, &mut plan, "n1").await.expect("nothing to do");
    assert_eq!(server.requests().len(), 5, "nothing is written twice");

    look(&mut plan, &owner, &peers[1..]);
    carry_out(&client, &steady().1, &mut plan, "n1").await.expect("served");
    assert_eq!(sessions(&server), ["n1.tor Established -"]);
    server.delete("v1", "Node", "", "n1");
    assert_eq!(sessions(&server), [""; 0], "they go with their Node");
}

/// The first list may be behind.
#[tokio::test(start_paused = true)]
async fn an_object_that_is_there_when_it_is_to_be_made_is_kept() {
    let (server, owner) = server();
    let client = server.client();
    let peers = peers(&["tor"]);
    let mut plan = Plan::new("n1", Instant::now());
    look(&mut plan, &owner, &peers);
    carry_out(&client, &steady().1, &mut plan, "n1").await.expect("served");
    let before = server.list(API_VERSION, "BGPSessionState");

    let mut another = Plan::new("n1", Instant::now());
    look(&mut another, &owner, &peers);
    another.done(&Request::List, &json!({"items": []}), Instant::now());
    server.forget_requests();
    carry_out(&client, &steady().1, &mut another, "n1").await.expect("served");
    let verbs: Vec<String> = server.requests().iter().map(|request| request.verb.clone()).collect();
    assert_eq!(verbs, ["create", "list"]);
    assert_eq!(server.list(API_VERSION, "BGPSessionState"), before);
}

#[tokio::test(start_paused = true)]
async fn what_is_forbidden_is_told_with_verb_and_resource_and_done_later() {
    let (server, owner) = server();
    let client = server.client();
    let mut plan = Plan::new("n1", Instant::now());
    let mut peers = peers(&["tor"]);
    look(&mut plan, &owner, &peers);
    server.faults().set(Fault::Refuse { verb: "create", resource: "bgpsessionstates" });
    let (what, why) = carry_out(&client, &steady().1, &mut plan, "n1").await.expect_err("it is refused");
    let words = in_words(what, &why).expect("the operator must mend it");
    assert!(words.starts_with("create bgpsessionstates.cambric.dev: the API server forbids it: "), "{words}");
    server.faults().clear();

    server.away();
    assert!(carry_out(&client, &steady().1, &mut plan, "n1").await.is_err());
    // Much happens meanwhile, and only the last of it is written.
    for second in 0..100 {
        let state = if second % 2 == 0 { PeerState::Established } else { PeerState::Active };
        set(&mut peers[0], state, Some("hold timer expired"));
        look(&mut plan, &owner, &peers);
    }
    server.back();
    server.forget_requests();
    carry_out(&client, &steady().1, &mut plan, "n1")
        .await
        .map_err(|(what, why)| format!("{what}: {why}"))
        .expect("served");
    assert_eq!(sessions(&server), ["n1.tor Active hold timer expired"]);
    assert_eq!(server.requests().len(), 2, "{:?}", server.requests());
}

#[tokio::test(start_paused = true)]
async fn without_the_definition_the_operator_is_told_what_to_install() {
    let server = ApiServer::new();
    let mut plan = Plan::new("n1", Instant::now());
    look(&mut plan, "uid", &peers(&["tor"]));
    let (what, why) =
        carry_out(&server.client(), &steady().1, &mut plan, "n1").await.expect_err("nobody knows the kind");
    let words = in_words(what, &why).expect("the operator must mend it");
    assert!(words.contains("does not know the kind: install its definition"), "{words}");
}

/// Two changes within a second are looked at in one look, and nothing is busy until then.
#[tokio::test(start_paused = true)]
async fn an_intent_that_changes_soon_after_a_look_is_waited_for_and_not_asked_about_all_the_time() {
    let mut objects = crate::objects::Objects::default();
    let node = crate::objects::Shown { place: "Node n1".to_owned(), says: crate::objects::Node::default() };
    objects.nodes.insert("n1".to_owned(), node);
    let of_n1 = || crate::intent::intent(&objects, "n1", &[]).expect("node is known");
    let intent = || Some(Arc::new(of_n1()));
    let (_clients, clients) = watch::channel(None);
    let (_views, views) = watch::channel(None);
    let (_own, own) = watch::channel(OwnNode::Unknown);
    let (states, state) = watch::channel(State::default());
    let (_peer_changed, peer_changed) = watch::channel(());
    let (troubles, _) = Troubles::new();
    let sessions = Sessions { node: "n1".to_owned(), clients, views, own, state, peer_changed, troubles };
    let changes = async {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            states.send_modify(|state| state.intent = intent());
        }
        tokio::time::sleep(Duration::from_secs(600)).await;
    };
    not_busy(sessions.run(), changes).await;
}

type Others =
    (watch::Sender<Option<View>>, watch::Sender<OwnNode>, watch::Sender<State>, mpsc::Receiver<Event>);

/// A task with a speaker that has no peers, and what it is told by.
struct Rig {
    clients: watch::Sender<Option<Client>>,
    peer_changed: watch::Sender<()>,
    sessions: Sessions,
    _others: Others,
}

impl Rig {
    fn new(owner: &str) -> Rig {
        let mut objects = crate::objects::Objects::default();
        let says = crate::objects::Node::default();
        objects.nodes.insert("n1".to_owned(), crate::objects::Shown { place: "Node n1".to_owned(), says });
        let intent = crate::intent::intent(&objects, "n1", &[]).expect("node is known");
        let (asn, id) = (Asn::new(65000).expect("AS"), RouterId::new(1).expect("identifier"));
        let wanted = Wanted::new(RouterConfig::new(asn, id));
        let router = Router::new(StdInstant::now(), wanted, Restarted::No, BTreeSet::new(), 1);
        let (speaker, events, _) =
            cambric_speaker::start(&SpeakerConfig { port: 0 }, router).expect("any port");
        let state = State { speaker: Some(speaker), intent: Some(Arc::new(intent)), ..State::default() };
        let present = OwnNode::Present { uid: owner.to_owned(), tainted: false, unavailable: false };
        let ((clients, of_clients), (peer_changed, changed)) = (watch::channel(None), watch::channel(()));
        let ((views, of_views), (own, of_own)) = (watch::channel(None), watch::channel(present));
        let (states, of_states) = watch::channel(state);
        let sessions = Sessions {
            node: "n1".to_owned(),
            clients: of_clients,
            views: of_views,
            own: of_own,
            state: of_states,
            peer_changed: changed,
            troubles: Troubles::new().0,
        };
        Rig { clients, peer_changed, sessions, _others: (views, own, states, events) }
    }
}

/// Whichever of two changes is seen first.
#[tokio::test(start_paused = true)]
async fn sessions_that_could_not_be_written_keep_nobody_busy_while_there_is_no_client() {
    let (server, owner) = server();
    server.faults().set(Fault::Refuse { verb: "list", resource: "bgpsessionstates" });
    let Rig { clients, peer_changed, sessions, _others } = Rig::new(&owner);
    let changes = async {
        for _ in 0..20 {
            clients.send_replace(Some(server.client()));
            tokio::time::sleep(Duration::from_secs(10)).await;
            clients.send_replace(None);
            peer_changed.send_replace(());
            tokio::time::sleep(Duration::from_secs(100)).await;
        }
    };
    not_busy(sessions.run(), changes).await;
    assert!(!server.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn another_client_is_asked_what_is_there_whatever_else_happens_then() {
    let (one, owner) = server();
    let (two, _) = server();
    let Rig { clients, peer_changed, sessions, _others } = Rig::new(&owner);
    let changes = async {
        for server in [&one, &two].into_iter().cycle().take(20) {
            server.forget_requests();
            clients.send_replace(Some(server.client()));
            peer_changed.send_replace(());
            tokio::time::sleep(Duration::from_secs(10)).await;
            let verbs: Vec<String> = server.requests().iter().map(|request| request.verb.clone()).collect();
            assert_eq!(verbs, ["list"]);
        }
    };
    not_busy(sessions.run(), changes).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_with_a_client_that_is_another_or_none_by_now() {
    let (server, owner) = server();
    let mut plan = Plan::new("n1", Instant::now());
    let peers = peers(&["tor1", "tor2"]);
    look(&mut plan, &owner, &peers);
    server.faults().set(Fault::Latency(Duration::from_secs(1)));
    let (sender, clients) = watch::channel(Some(server.client()));
    let client = server.client();
    let (ended, ()) = tokio::join!(carry_out(&client, &clients, &mut plan, "n1"), async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        sender.send_replace(None);
    });
    assert_eq!(ended.map_err(|(what, _)| what), Ok(None));
    let verbs: Vec<String> = server.requests().iter().map(|request| request.verb.clone()).collect();
    assert_eq!(verbs, ["list", "create"], "what was on its way is all");
}
