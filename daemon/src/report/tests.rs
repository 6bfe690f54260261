//! Against a server: first start, restart, reboot, other writers, refusals, outages; the clock jumps.

use std::time::{Duration, SystemTime};

use cambric_apiserver_double::{ApiServer, Fault};
use cambric_kube::{KindHealth, KindState};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::events::{About, Severity};
use super::sessions::plan::tests::peers;
use super::write::{Content, request};
use super::*;
use crate::objects::{Kind, ObjectRef};

/// Long enough for any back-off, on a clock that jumps.
const PATIENCE: u32 = 10_000;
const TICK: Duration = Duration::from_millis(100);

/// One node and its server.
struct Rig {
    server: ApiServer,
    clients: watch::Sender<Option<Client>>,
    pictures: watch::Sender<Arc<Picture>>,
    state: watch::Sender<State>,
    report: Report,
}

impl Rig {
    fn start(server: &ApiServer, life: Life, node_taint: Switch) -> Rig {
        Rig::of_node("n1", server, life, node_taint)
    }

    fn of_node(name: &str, server: &ApiServer, life: Life, node_taint: Switch) -> Rig {
        Rig::that_sees(Arc::new(picture(server)), name, server, life, node_taint)
    }

    fn that_sees(
        picture: Arc<Picture>,
        name: &str,
        server: &ApiServer,
        life: Life,
        node_taint: Switch,
    ) -> Rig {
        let (clients, client) = watch::channel(Some(server.client()));
        let (pictures, shown) = watch::channel(picture);
        let (state, published) = watch::channel(State::default());
        let inputs = Inputs {
            node: name.to_owned(),
            node_taint,
            life,
            clients: client,
            pictures: shown,
            views: watch::channel(None).1,
            state: published,
        };
        Rig { server: server.clone(), clients, pictures, state, report: Report::start(inputs) }
    }

    /// The picture becomes what the server has.
    fn see(&self) {
        self.pictures.send_replace(Arc::new(picture(&self.server)));
    }

    fn become_ready(&self) {
        self.state.send_modify(|state| state.ready = true);
    }

    fn tell(&self, happening: events::Happening) {
        self.report.on.as_ref().expect("it is on").teller.tell(happening);
    }

    fn events(&self) -> Vec<Value> {
        self.server.list("events.k8s.io/v1", "Event")
    }

    /// Requests but for those about Events, as `patch nodes/status`.
    fn asked(&self) -> Vec<String> {
        let requests = self.server.requests().into_iter().filter(|request| request.resource != "events");
        let word = |request: cambric_apiserver_double::Request| match request.subresource.as_str() {
            "" => format!("{} {}", request.verb, request.resource),
            subresource => format!("{} {}/{subresource}", request.verb, request.resource),
        };
        requests.map(word).collect()
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..PATIENCE {
        if is_so() {
            return;
        }
        sleep(TICK).await;
    }
    panic!("it never came to this: {what}");
}

/// Polls a task while something happens, and panics if that is so often that the task must be busy.
pub(super) async fn not_busy(task: impl Future<Output = ()>, while_: impl Future<Output = ()>) {
    const MOST_POLLS: usize = 1000;
    let mut task = std::pin::pin!(task);
    let mut polls = 0;
    let counted = std::future::poll_fn(|context| {
        polls += 1;
        assert!(polls < MOST_POLLS, "it is busy");
        task.as_mut().poll(context)
    });
    tokio::select! {
        () = counted => panic!("it ended"),
        () = while_ => {}
    }
}

/// Time for whatever is going to happen.
async fn a_while() {
    sleep(Duration::from_secs(300)).await;
}

fn picture(server: &ApiServer) -> Picture {
    let mut picture = Picture::default();
    for node in server.list("v1", "Node") {
        picture.show(&node).expect("a Node");
    }
    let nodes = KindHealth {
        objects: picture.documents.len(),
        version: None,
        is_shown: true,
        state: KindState::Watching,
        since: SystemTime::UNIX_EPOCH,
        unreadable: Vec::new(),
    };
    picture.health.kinds.insert("Node".to_owned(), nodes);
    picture
}

fn server_with(taints: Value) -> ApiServer {
    let server = ApiServer::new();
    server.put(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" }, "spec": { "taints": taints } }));
    server
}

fn node(server: &ApiServer) -> Value {
    server.get("v1", "Node", "", "n1").expect("the Node")
}

fn taints(server: &ApiServer) -> Vec<String> {
    let node = node(server);
    let taints = node.pointer("/spec/taints").and_then(Value::as_array).into_iter().flatten();
    taints.map(|taint| taint["key"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Status and reason of NetworkUnavailable.
fn network(server: &ApiServer) -> Option<(String, String)> {
    let node = node(server);
    let conditions = node.pointer("/status/conditions")?.as_array()?;
    let condition = conditions.iter().find(|condition| condition["type"] == "NetworkUnavailable")?;
    Some((condition["status"].as_str()?.to_owned(), condition["reason"].as_str()?.to_owned()))
}

fn says(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.to_owned(), reason.to_owned()))
}

fn happening(subject: &str) -> events::Happening {
    events::Happening {
        about: About::Node,
        severity: Severity::Normal,
        reason: "SessionUp",
        action: "Peering",
        subject: subject.to_owned(),
        note: format!("{subject} is up"),
    }
}

#[tokio::test(start_paused = true)]
async fn first_start_taints_the_node_until_it_is_ready() {
    let server = server_with(json!([{ "key": "other", "effect": "NoExecute" }]));
    let rig = Rig::start(&server, Life::Starting, Switch::On);
    until("tainted", || network(&server) == says("True", "CambricNotReady")).await;
    assert_eq!(taints(&server), ["other", node::TAINT]);
    rig.see();
    a_while().await;
    assert_eq!(rig.asked(), ["get nodes", "patch nodes", "patch nodes/status"]);
    rig.become_ready();
    until("ready", || network(&server) == says("False", "CambricIsReady")).await;
    assert_eq!(taints(&server), ["other"]);
    rig.see();
    a_while().await;
    assert_eq!(rig.asked().len(), 6, "{:?}", rig.asked());
    drop(rig);
    a_while().await;
    assert_eq!(network(&server), says("False", "CambricIsReady"), "left as it is when stopping");
}

#[tokio::test(start_paused = true)]
async fn restart_that_adopted_never_taints_and_asks_once() {
    let server = server_with(json!([]));
    let rig = Rig::start(&server, Life::Adopted, Switch::On);
    a_while().await;
    assert_eq!(rig.asked(), Vec::<String>::new(), "nothing is said before it is ready");
    rig.become_ready();
    until("ready", || network(&server) == says("False", "CambricIsReady")).await;
    assert_eq!(rig.asked(), ["get nodes", "patch nodes/status"]);
    drop(rig);
    server.forget_requests();
    let again = Rig::start(&server, Life::Adopted, Switch::On);
    again.become_ready();
    a_while().await;
    assert_eq!(again.asked(), ["get nodes"], "all is as it should be");
}

#[tokio::test(start_paused = true)]
async fn reboot_taints_again_and_moves_the_time_of_the_condition() {
    let server = server_with(json!([]));
    let first = Rig::start(&server, Life::Starting, Switch::On);
    first.become_ready();
    until("ready", || network(&server) == says("False", "CambricIsReady")).await;
    drop(first);
    let rebooted = Rig::start(&server, Life::Starting, Switch::On);
    until("tainted", || network(&server) == says("True", "CambricNotReady")).await;
    assert_eq!(taints(&server), [node::TAINT]);
    rebooted.become_ready();
    until("ready", || network(&server) == says("False", "CambricIsReady")).await;
    assert_eq!(taints(&server), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn taint_of_a_kubelet_is_lifted_also_if_it_comes_later() {
    let of_kubelet = json!([{ "key": node::TAINT, "effect": "NoSchedule" }]);
    let server = server_with(of_kubelet.clone());
    let rig = Rig::start(&server, Life::Adopted, Switch::On);
    rig.become_ready();
    until("lifted", || taints(&server).is_empty()).await;
    rig.see();
    a_while().await;
    let mut node = node(&server);
    node["spec"]["taints"] = of_kubelet;
    server.put(node);
    rig.see();
    until("lifted", || taints(&server).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_network_that_somebody_else_calls_unavailable_later_is_called_available_again() {
    let server = server_with(json!([]));
    let rig = Rig::start(&server, Life::Adopted, Switch::Off);
    rig.become_ready();
    until("ready", || network(&server) == says("False", "CambricIsReady")).await;
    rig.see();
    a_while().await;
    let of_another = json!([{ "type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated" }]);
    let mut node = node(&server);
    node["status"]["conditions"] = of_another;
    server.put(node);
    server.forget_requests();
    rig.see();
    until("answered", || network(&server) == says("False", "CambricIsReady")).await;
    assert_eq!(rig.asked(), ["get nodes", "patch nodes/status"]);
    // A view that stays behind is looked at now and then, and not each time that anything happens.
    for _ in 0..300 {
        rig.state.send_modify(|_| {});
        sleep(TICK).await;
    }
    assert!(rig.asked().len() < 8, "{:?}", rig.asked());
}

/// Another network that was not removed, or a controller that waits for routes that never come.
#[tokio::test(start_paused = true)]
async fn whoever_never_stops_to_call_the_network_unavailable_is_answered_less_and_less_often_and_named() {
    let server = server_with(json!([]));
    let rig = Rig::start(&server, Life::Adopted, Switch::On);
    rig.become_ready();
    until("ready", || network(&server) == says("False", "CambricIsReady")).await;
    let problems = || rig.report.problems().iter().map(Problem::to_string).collect::<Vec<_>>();
    let say_otherwise = || {
        let condition = json!({ "type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated" });
        let mut node = node(&server);
        node["status"]["conditions"] = json!([condition]);
        server.put(node);
        rig.see();
    };
    server.forget_requests();
    say_otherwise();
    until("answered", || network(&server) == says("False", "CambricIsReady")).await;
    assert_eq!(problems(), [""; 0], "it is said once at many a start");
    for _ in 0..2 * 720 {
        say_otherwise();
        sleep(Duration::from_secs(5)).await;
    }
    let patches = || rig.asked().iter().filter(|asked| *asked == "patch nodes/status").count();
    assert!((12..24).contains(&patches()), "{} times in two hours", patches());
    let told = "API server: patch nodes: somebody else writes the condition NetworkUnavailable=True (reason \
                NoRouteCreated) to Node n1 again and again, though it is ready: it is taken back, every 10 min at most; \
                end whatever writes it";
    assert_eq!(problems(), [told]);
    until("taken back", || network(&server) == says("False", "CambricIsReady")).await;
    rig.see();
    sleep(Duration::from_secs(2 * 3600)).await;
    assert_eq!(problems(), [""; 0], "it has ended");
    server.forget_requests();
    say_otherwise();
    sleep(Duration::from_secs(15)).await;
    assert_eq!(patches(), 1, "and is answered soon again");
}

#[tokio::test(start_paused = true)]
async fn without_node_taint_no_taint_is_touched() {
    let server = server_with(json!([{ "key": node::TAINT, "effect": "NoSchedule" }]));
    let rig = Rig::start(&server, Life::Starting, Switch::Off);
    until("said", || network(&server) == says("True", "CambricNotReady")).await;
    rig.become_ready();
    until("ready", || network(&server) == says("False", "CambricIsReady")).await;
    rig.see();
    a_while().await;
    assert_eq!(taints(&server), [node::TAINT]);
    assert!(!rig.asked().contains(&"patch nodes".to_owned()), "{:?}", rig.asked());
}

#[tokio::test(start_paused = true)]
async fn own_node_that_is_gone_is_an_alarm_and_one_of_its_name_is_served_like_it() {
    let server = server_with(json!([]));
    let rig = Rig::start(&server, Life::Starting, Switch::On);
    rig.become_ready();
    until("ready", || network(&server) == says("False", "CambricIsReady")).await;
    server.delete("v1", "Node", "", "n1");
    server.forget_requests();
    rig.see();
    until("alarm", || rig.events().iter().any(|event| event["reason"] == "OwnNodeGone")).await;
    a_while().await;
    assert_eq!(rig.asked(), Vec::<String>::new(), "nothing is written about what is gone");
    let of_kubelet = json!([{ "key": node::TAINT, "effect": "NoSchedule" }]);
    server.put(json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" }, "spec": { "taints": of_kubelet },
    }));
    rig.see();
    until("ready again", || network(&server) == says("False", "CambricIsReady")).await;
    assert_eq!(taints(&server), Vec::<String>::new());
    until("told", || rig.events().iter().any(|event| event["reason"] == "OwnNodeBack")).await;
}

#[tokio::test(start_paused = true)]
async fn view_that_is_behind_changes_nothing_on_a_node_of_the_same_name() {
    let server = server_with(json!([]));
    let rig = Rig::start(&server, Life::Starting, Switch::On);
    until("tainted", || !taints(&server).is_empty()).await;
    rig.see();
    server.delete("v1", "Node", "", "n1");
    server.put(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" } }));
    rig.become_ready();
    a_while().await;
    assert_eq!(network(&server), None, "another object than the view shows");
    rig.see();
    until("ready", || network(&server) == says("False", "CambricIsReady")).await;
}

/// Reads the taints and writes them with one more or one less, as everybody else does. Gives how often somebody else
/// was faster.
async fn write_taints(client: Client, mine: String, times: usize) -> usize {
    let (mut written, mut refused) = (0, 0);
    while written < times {
        let mut node = request(&client, "/api/v1/nodes/n1", Content::Read).await.expect("the Node");
        let mut taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        let before = taints.len();
        taints.retain(|taint| taint["key"] != mine.as_str());
        if taints.len() == before {
            taints.push(json!({ "key": mine, "effect": "NoSchedule" }));
        }
        let version = node["metadata"]["resourceVersion"].take();
        let patch = json!({ "metadata": { "resourceVersion": version }, "spec": { "taints": taints } });
        match request(&client, "/api/v1/nodes/n1", Content::Merge(patch)).await {
            Ok(_) => written += 1,
            Err(why) => {
                assert_eq!(why, write::Refusal::Conflict);
                refused += 1;
            }
        }
    }
    refused
}

#[tokio::test(start_paused = true)]
async fn writers_of_taints_in_a_loop_lose_nothing_and_neither_do_we() {
    let server = server_with(json!([{ "key": "kept", "effect": "NoExecute" }]));
    server.faults().set(Fault::Latency(Duration::from_millis(7)));
    // An odd number of times: each leaves its taint.
    let others: Vec<_> = (0..3)
        .map(|index| tokio::spawn(write_taints(server.client(), format!("other-{index}"), 41)))
        .collect();
    let rig = Rig::start(&server, Life::Starting, Switch::On);
    until("tainted", || taints(&server).contains(&node::TAINT.to_owned())).await;
    rig.become_ready();
    until("lifted", || !taints(&server).contains(&node::TAINT.to_owned())).await;
    let mut refused = 0;
    for other in others {
        refused += other.await.expect("it went well");
    }
    assert!(refused > 0, "nobody was in the way");
    until("ready", || network(&server) == says("False", "CambricIsReady")).await;
    let mut left = taints(&server);
    left.sort();
    assert_eq!(left, ["kept", "other-0", "other-1", "other-2"]);
}

#[tokio::test(start_paused = true)]
async fn rights_that_lack_are_a_problem_that_names_verb_and_resource() {
    let server = server_with(json!([]));
    server.faults().set(Fault::Refuse { verb: "patch", resource: "nodes" });
    let mut rig = Rig::start(&server, Life::Starting, Switch::On);
    tokio::time::timeout(Duration::from_secs(60), rig.report.changed()).await.expect("a problem");
    let problems: Vec<String> = rig.report.problems().iter().map(Problem::to_string).collect();
    assert!(problems[0].starts_with("API server: patch nodes: "), "{problems:?}");
    a_while().await;
    server.faults().clear();
    until("tainted", || !taints(&server).is_empty()).await;
    tokio::time::timeout(Duration::from_secs(60), rig.report.changed()).await.expect("no problem");
    assert_eq!(rig.report.problems(), Vec::new());
    assert!(server.requests().len() < 60, "{} requests", server.requests().len());
}

#[tokio::test(start_paused = true)]
async fn what_changes_while_the_server_is_away_is_written_when_it_is_back() {
    let server = server_with(json!([]));
    let rig = Rig::start(&server, Life::Starting, Switch::On);
    until("tainted", || network(&server) == says("True", "CambricNotReady")).await;
    server.away();
    rig.become_ready();
    rig.tell(happening("tor1"));
    sleep(Duration::from_secs(600)).await;
    assert_eq!(taints(&server), [node::TAINT]);
    server.back();
    until("ready", || network(&server) == says("False", "CambricIsReady")).await;
    until("told", || rig.events().len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn another_client_is_used_at_once() {
    let server = server_with(json!([]));
    let rig = Rig::start(&server, Life::Starting, Switch::On);
    rig.clients.send_replace(None);
    rig.become_ready();
    a_while().await;
    rig.clients.send_replace(Some(server.client()));
    until("ready", || network(&server) == says("False", "CambricIsReady")).await;
}

/// Whichever of two changes is seen first, the client that is gone is not waited for.
#[tokio::test(start_paused = true)]
async fn a_node_that_could_not_be_written_keeps_nobody_busy_while_there_is_no_client() {
    let server = server_with(json!([]));
    server.away();
    let (clients, client) = watch::channel(None);
    let (_own, own) = watch::channel(OwnNode::of(&picture(&server), "n1"));
    let (states, state) = watch::channel(State::default());
    let (troubles, _) = Troubles::new();
    let (node, node_taint, life) = ("n1".to_owned(), Switch::On, Life::Starting);
    let keeper = Keeper { node, node_taint, life, clients: client, own, state, troubles };
    let changes = async {
        for _ in 0..20 {
            clients.send_replace(Some(server.client()));
            sleep(Duration::from_millis(10)).await;
            clients.send_replace(None);
            states.send_modify(|_| {});
            sleep(Duration::from_secs(100)).await;
        }
    };
    not_busy(keeper.run(), changes).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_is_as_the_server_wants_it_and_its_series_moves() {
    let server = server_with(json!([]));
    let rig = Rig::start(&server, Life::Adopted, Switch::On);
    for _ in 0..3 {
        rig.tell(happening("tor1"));
        sleep(Duration::from_secs(5)).await;
    }
    until("series", || rig.events().iter().any(|event| event["series"]["count"] == 3)).await;
    let events = rig.events();
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!(
        (&event["reason"], &event["type"], &event["note"]),
        (&json!("SessionUp"), &json!("Normal"), &json!("tor1 is up"))
    );
    assert_eq!(event["regarding"]["kind"], "Node");
    assert_eq!(event["regarding"]["uid"], node(&server)["metadata"]["uid"]);
    assert_eq!(event["reportingController"], "cambric.dev/cambricd");
    assert_eq!(event["reportingInstance"], "n1");
    assert_eq!(event["metadata"]["namespace"], "default");
    a_while().await;
    let writes = server.requests().iter().filter(|request| request.resource == "events").count();
    assert_eq!(writes, 2, "one Event, and its count once");
    assert_eq!(rig.report.problems(), Vec::new());
}

#[tokio::test(start_paused = true)]
async fn a_mesh_of_5000_coming_up_costs_the_server_eleven_events() {
    let server = server_with(json!([]));
    let rig = Rig::start(&server, Life::Adopted, Switch::On);
    for peer in 0..5000 {
        rig.tell(happening(&format!("n{peer}")));
        if peer % 100 == 0 {
            sleep(TICK).await;
        }
    }
    sleep(Duration::from_secs(3600)).await;
    let writes = server.requests().iter().filter(|request| request.resource == "events").count();
    assert_eq!((writes, rig.events().len()), (11, 11));
    let closing = rig
        .events()
        .into_iter()
        .find(|event| event["note"].as_str().is_some_and(|note| note.starts_with("and ")));
    assert_eq!(closing.expect("a number")["note"], "and 4990 more: n10, n11, n12, ...");
}

#[tokio::test(start_paused = true)]
async fn what_all_nodes_see_is_one_event() {
    let server = server_with(json!([]));
    for name in 2..=9 {
        server.put(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": format!("n{name}") } }));
    }
    let of = ObjectRef { kind: Kind::BGPClusterConfig, name: "c".to_owned() };
    let names = (1..=9).map(|index| format!("n{index}"));
    let rigs: Vec<Rig> = names.map(|name| Rig::of_node(&name, &server, Life::Adopted, Switch::On)).collect();
    for rig in &rigs {
        let (about, reason) = (About::Object(of.clone()), "Conflicted");
        rig.tell(events::Happening { about, reason, severity: Severity::Warning, ..happening("c") });
    }
    a_while().await;
    let events = server.list("events.k8s.io/v1", "Event");
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["regarding"]["apiVersion"], "cambric.dev/v1alpha1");
    let asked = server.requests().iter().filter(|request| request.resource == "events").count();
    assert_eq!(asked, 3, "three nodes speak of it");
}

/// Who is a node of the mesh.
#[derive(PartialEq)]
enum Mesh {
    OfNone,
    OfAll,
}

/// To have these peers.
fn intent(peers: &[PeerStatus], mesh: Mesh) -> Option<Arc<Intent>> {
    let mut objects = crate::objects::Objects::default();
    let says = crate::objects::Node::default();
    objects.nodes.insert("n1".to_owned(), crate::objects::Shown { place: "Node n1".to_owned(), says });
    let mut intent = crate::intent::intent(&objects, "n1", &[]).expect("node is known");
    let nodes = peers.iter().filter(|_| mesh == Mesh::OfAll);
    intent.mesh = nodes.map(|peer| (peer.address.clone(), peer.config.name.clone())).collect();
    intent.wanted.peers = peers.iter().map(|peer| (peer.address.clone(), peer.config.clone())).collect();
    Some(Arc::new(intent))
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_configured_anew_and_never_comes_up_does_not_go_down() {
    let server = server_with(json!([]));
    let mut rig = Rig::start(&server, Life::Adopted, Switch::On);
    let tor = peers(&["tor"]);
    rig.state.send_modify(|state| state.intent = intent(&tor, Mesh::OfNone));
    rig.report.session(&tor[0], PeerState::Established);
    for peers in [&[], &tor[..]] {
        rig.state.send_modify(|state| state.intent = intent(peers, Mesh::OfNone));
        tokio::time::timeout(Duration::from_secs(60), rig.report.changed()).await.expect_err("no problem");
    }
    rig.report.session(&tor[0], PeerState::Active);
    a_while().await;
    let reasons: Vec<Value> = rig.events().into_iter().map(|mut event| event["reason"].take()).collect();
    assert_eq!(reasons, ["SessionUp"]);
}

/// Their sessions are gone with them, and nobody says that any of these came up.
#[tokio::test(start_paused = true)]
async fn a_large_mesh_is_well_again_when_the_nodes_that_were_down_are_deleted() {
    let server = server_with(json!([]));
    let mut rig = Rig::start(&server, Life::Adopted, Switch::On);
    let names: Vec<String> = (0..200).map(|at| format!("m{at}")).collect();
    let peers = peers(&names.iter().map(String::as_str).collect::<Vec<_>>());
    rig.state.send_modify(|state| state.intent = intent(&peers, Mesh::OfAll));
    peers.iter().for_each(|peer| rig.report.session(peer, PeerState::Established));
    peers[..30].iter().for_each(|peer| rig.report.session(peer, PeerState::Active));
    a_while().await;
    rig.state.send_modify(|state| state.intent = intent(&peers[30..], Mesh::OfAll));
    tokio::time::timeout(Duration::from_secs(60), rig.report.changed()).await.expect_err("no problem");
    a_while().await;
    let notes: Vec<Value> = rig.events().into_iter().map(|mut event| event["note"].take()).collect();
    let says = |note: &str| notes.iter().any(|told| told == note);
    assert!(says("20 of 200 BGP sessions of the mesh are down: m0, m1, m2, ..."), "{notes:?}");
    assert!(says("BGP sessions of the mesh are up again: 0 of 170 are down"), "{notes:?}");
}

/// Others have another configuration, and another disk.
#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_the_source_of_this_node_alone_is_told_at_once_and_in_its_own_words() {
    let server = server_with(json!([]));
    for name in 2..=2000 {
        server.put(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": format!("n{name}") } }));
    }
    let rig = Rig::start(&server, Life::Adopted, Switch::On);
    let health = cambric_kube::Health {
        configuration: Some("/etc/kubeconfig: is no kubeconfig".to_owned()),
        journal: vec!["/run/cambric/snapshot: no space left on device".to_owned()],
        ..cambric_kube::Health::default()
    };
    let problems = crate::source::kube::problems(&health, SystemTime::now());
    rig.report.found(Origin::Source, &problems);
    sleep(Duration::from_secs(5)).await;
    let mut notes: Vec<Value> = rig.events().into_iter().map(|mut event| event["note"].take()).collect();
    notes.sort_by_key(Value::to_string);
    assert_eq!(
        notes,
        [
            "configuration: /etc/kubeconfig: is no kubeconfig; the one before it stays in use",
            "snapshot of the cluster: /run/cambric/snapshot: no space left on device",
        ]
    );
}

/// What all nodes see at once, and want to tell when the server is back.
#[tokio::test(start_paused = true)]
async fn after_an_outage_the_nodes_of_a_large_cluster_tell_one_after_the_other() {
    const TELLING: usize = 20;
    let server = server_with(json!([]));
    for name in 2..=2000 {
        server.put(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": format!("n{name}") } }));
    }
    let picture = Arc::new(picture(&server));
    let rig = |index| {
        Rig::that_sees(Arc::clone(&picture), &format!("n{index}"), &server, Life::Adopted, Switch::On)
    };
    let rigs: Vec<Rig> = (1..=TELLING).map(rig).collect();
    server.away();
    for rig in &rigs {
        rig.report.found(
            Origin::Source,
            &[Problem::new("API server x: Node", "no answer").because(crate::objects::Reason::Unreadable)],
        );
    }
    sleep(Duration::from_secs(600)).await;
    server.back();
    let (mut told, mut most, mut before) = (Vec::new(), 0, 0);
    while before < TELLING {
        sleep(Duration::from_secs(10)).await;
        let now = server.list("events.k8s.io/v1", "Event").len();
        most = most.max(now - before);
        before = now;
        told.push(now);
        assert!(told.len() < 30, "all of them within minutes: {told:?}");
    }
    assert!(most <= TELLING / 3, "{told:?}");
}
