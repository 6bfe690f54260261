//! Several nodes against one API server.

use cambric_apiserver_double::{ApiServer, Fault};
use cambric_kube::Picture;
use serde_json::json;
use tokio::task::JoinSet;

use super::super::recorder::Recorder;
use super::super::tests::not_busy;
use super::*;
use crate::objects::{Objects, Reason};

/// A cluster with our kinds and so many nodes, in which daemons have no more rights than they need.
fn server(nodes: usize) -> ApiServer {
    let server = ApiServer::new();
    for text in crate::crds::files().expect("schemas").values() {
        server.install(text);
    }
    server.authorize(include_str!("../../../../deploy/base/rbac.yaml"));
    for at in 0..nodes {
        let (metadata, ranges) = (json!({"name": format!("n{at}")}), json!(["10.1.0.0/24"]));
        server.put(
            json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"podCIDRs": ranges}}),
        );
    }
    server
}

fn filter(server: &ApiServer, name: &str, otherwise: &str) {
    let metadata = json!({"name": name});
    let spec = json!({"otherwise": otherwise});
    server.put(json!({"apiVersion": API_VERSION, "kind": "BGPFilter", "metadata": metadata, "spec": spec}));
}

/// What a daemon sees now, with these problems.
fn view(server: &ApiServer, problems: Vec<Problem>) -> View {
    let kinds = KINDS.iter().map(|(kind, _)| (API_VERSION, *kind)).chain([("v1", "Node")]);
    let documents = kinds.flat_map(|(version, kind)| {
        server.list(version, kind).into_iter().map(move |object| {
            let name = object["metadata"]["name"].as_str().expect("a name").into();
            (DocumentId { kind: kind.into(), name }, Json::new(&object))
        })
    });
    let shown = |node: Value| {
        let name = node["metadata"]["name"].as_str().expect("a name").to_owned();
        let place = format!("Node {name}");
        let range = |range: &Value| {
            ("spec.podCIDRs".to_owned(), range.as_str().expect("text").parse().expect("prefix"))
        };
        let ranges = node["spec"]["podCIDRs"].as_array().into_iter().flatten();
        (name, Shown { place, says: Node { pod_ranges: ranges.map(range).collect(), ..Node::default() } })
    };
    let nodes = server.list("v1", "Node").into_iter().map(shown).collect();
    let fabric = Arc::new(Objects { problems, nodes, ..Objects::default() });
    View { documents: documents.collect(), fabric, ..View::default() }
}

fn problem(of: &str, what: &str, reason: Reason) -> Problem {
    Problem::new(format!("BGPFilter {of}"), what).about(Kind::BGPFilter, of).because(reason)
}

fn conditions(server: &ApiServer, name: &str) -> Vec<String> {
    let object = server.get(API_VERSION, "BGPFilter", "", name).expect("it is there");
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array).cloned();
    let word = |condition: Value| {
        let text = |name: &str| condition[name].as_str().unwrap_or("-").to_owned();
        format!("{}={} {}: {}", text("type"), text("status"), text("reason"), text("message"))
    };
    conditions.unwrap_or_default().into_iter().map(word).collect()
}

fn writes(server: &ApiServer) -> usize {
    server.requests().iter().filter(|request| request.verb == "patch").count()
}

/// Daemons that see what a watch would show them.
struct Cluster {
    server: ApiServer,
    views: Vec<watch::Sender<Option<View>>>,
    troubles: Vec<watch::Receiver<BTreeMap<&'static str, Problem>>>,
    _clients: watch::Sender<Option<Client>>,
    _tasks: JoinSet<()>,
}

impl Cluster {
    fn start(server: ApiServer, nodes: usize) -> Cluster {
        let (clients, client) = watch::channel(Some(server.client()));
        let mut picture = Picture::default();
        server.list("v1", "Node").iter().for_each(|node| picture.show(node).expect("a Node"));
        let (_, pictures) = watch::channel(Arc::new(picture));
        let (mut views, mut all_troubles, mut tasks) = (Vec::new(), Vec::new(), JoinSet::new());
        for at in 0..nodes {
            let (sender, receiver) = watch::channel(None);
            let (troubles, told) = Troubles::new();
            let node = format!("n{at}");
            let teller = Teller::new(node.clone(), pictures.clone());
            let recorder =
                Recorder { teller: teller.clone(), clients: client.clone(), troubles: troubles.clone() };
            tasks.spawn(recorder.run());
            tasks.spawn(Judge { node, clients: client.clone(), views: receiver, teller, troubles }.run());
            views.push(sender);
            all_troubles.push(told);
        }
        Cluster { server, views, troubles: all_troubles, _clients: clients, _tasks: tasks }
    }

    /// For so many seconds all of them see what is there; `problems` says what each finds wrong.
    async fn go_on(&self, seconds: u64, problems: impl Fn(usize) -> Vec<Problem>) {
        let mut shown = None;
        for _ in 0..seconds * 2 {
            let version = self.server.version();
            if shown != Some(version) {
                shown = Some(version);
                for (at, sender) in self.views.iter().enumerate() {
                    sender.send_replace(Some(view(&self.server, problems(at))));
                }
            }
            sleep(Duration::from_millis(500)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_nodes_one_writes_each_status() {
    let server = server(40);
    filter(&server, "a", "Reject");
    filter(&server, "b", "Accept");
    server.forget_requests();
    let cluster = Cluster::start(server, 40);
    let to_come = || {
        vec![problem("b", "NotImplemented: this version does not serve this kind", Reason::NotImplemented)]
    };
    cluster.go_on(120, |_| to_come()).await;
    let server = &cluster.server;
    assert_eq!(conditions(server, "a")[2], "Ready=True InForce: what it says is in force");
    let says = "Accepted=False NotImplemented: NotImplemented: this version does not serve this kind";
    assert_eq!(conditions(server, "b")[0], says);
    assert_eq!(writes(server), 2, "one for each object");
    assert_eq!(server.requests().len(), 4, "and each was read once before");

    filter(server, "a", "Accept");
    cluster.go_on(120, |_| to_come()).await;
    assert_eq!(writes(server), 3, "an edit is judged anew");
    let object = server.get(API_VERSION, "BGPFilter", "", "a").expect("it is there");
    assert_eq!(object["status"]["observedGeneration"], object["metadata"]["generation"]);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_differ_do_not_write_in_turns() {
    let server = server(10);
    filter(&server, "a", "Reject");
    server.forget_requests();
    let cluster = Cluster::start(server, 10);
    // Half of them knew the object as it was before.
    let memory = |at: usize| {
        let what =
            if at.is_multiple_of(2) { "bad; it counts as it was before" } else { "bad; it is left out" };
        vec![problem("a", what, Reason::Invalid)]
    };
    cluster.go_on(600, memory).await;
    assert_eq!(writes(&cluster.server), 1, "{:?}", conditions(&cluster.server, "a"));
    // It is mended for all, each way by one of them.
    cluster.go_on(600, |_| Vec::new()).await;
    assert_eq!(conditions(&cluster.server, "a")[0], "Accepted=True Accepted: all of it can be served");
    cluster.go_on(600, memory).await;
    assert_eq!(writes(&cluster.server), 3);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_gone_is_not_waited_for_long() {
    let server = server(20);
    filter(&server, "a", "Reject");
    server.forget_requests();
    // Of the twenty that are known, two run.
    let cluster = Cluster::start(server, 2);
    cluster.go_on(60, |_| Vec::new()).await;
    assert_eq!(writes(&cluster.server), 1);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_read_again_and_a_refusal_is_told() {
    let server = server(1);
    filter(&server, "a", "Reject");
    let cluster = Cluster::start(server, 1);
    cluster.server.faults().set(Fault::Refuse { verb: "patch", resource: "bgpfilters/status" });
    cluster.go_on(20, |_| Vec::new()).await;
    let told = cluster.troubles[0].borrow().get("conditions").map(Problem::to_string).unwrap_or_default();
    let says = "API server: patch bgpfilters.cambric.dev/status: the API server forbids it: ";
    assert!(told.starts_with(says), "{told}");
    cluster.server.faults().clear();
    cluster.go_on(120, |_| Vec::new()).await;
    assert!(cluster.troubles[0].borrow().is_empty());
    assert_eq!(conditions(&cluster.server, "a").len(), 3);

    // Somebody writes between our read and our write.
    let server = &cluster.server;
    filter(server, "a", "Accept");
    let found = server.get(API_VERSION, "BGPFilter", "", "a").expect("it is there");
    let verdict = Verdict::of(generation(&found), &[]);
    let stale = verdict.patch(&found, Timestamp::now());
    let mut labelled = found.clone();
    labelled["metadata"]["labels"] = json!({"by": "somebody"});
    server.put(labelled);
    let path = format!("/apis/{API_VERSION}/bgpfilters/a/status");
    let refused = request(&server.client(), &path, Content::Merge(stale)).await.expect_err("it is behind");
    assert_eq!(refused, Refusal::Conflict);
    let turn = Turn { verdict, said: Said::by(&found), due: None };
    let (uid_of_another, backoff) = (Some("of another cluster".to_owned()), Backoff::new(1));
    let mut judged = Judged { uid: uid_of_another, turn, problems: Vec::new(), refused: None, backoff };
    let other = write(&server.client(), "bgpfilters", "a", &judged).await;
    assert!(matches!(other, Err(Failed { why: Refusal::Conflict, .. })), "another object of that name");
    assert_eq!(
        server.get(API_VERSION, "BGPFilter", "", "a").map(|now| Said::by(&now)),
        Some(Said::by(&found))
    );
    judged.uid = uid(&found).map(str::to_owned);
    let Ok(said) = write(&server.client(), "bgpfilters", "a", &judged).await else { panic!("it is written") };
    assert!(!judged.turn.may_write(&said));
}

/// An admission webhook forbids one object as the server forbids a whole kind.
#[tokio::test(start_paused = true)]
async fn what_is_forbidden_of_one_object_keeps_no_other_waiting() {
    let server = server(1);
    let metadata = json!({"name": "c"});
    server.put(
        json!({"apiVersion": API_VERSION, "kind": "BGPClusterConfig", "metadata": metadata, "spec": {}}),
    );
    filter(&server, "a", "Reject");
    server.forget_requests();
    server.faults().set(Fault::Refuse { verb: "patch", resource: "bgpclusterconfigs/status" });
    let cluster = Cluster::start(server, 1);
    cluster.go_on(20, |_| Vec::new()).await;
    assert_eq!(conditions(&cluster.server, "a").len(), 3);
    let told = || cluster.troubles[0].borrow().get("conditions").map(Problem::to_string).unwrap_or_default();
    let says = "API server: patch bgpclusterconfigs.cambric.dev/status: the API server forbids it: ";
    assert!(told().starts_with(says), "{}", told());
    filter(&cluster.server, "b", "Reject");
    cluster.go_on(600, |_| Vec::new()).await;
    assert_eq!(conditions(&cluster.server, "b").len(), 3);
    assert!(told().starts_with(says), "it is told for as long as it is so: {}", told());
    assert!(writes(&cluster.server) < 16, "{} in ten minutes", writes(&cluster.server));
    cluster.server.faults().clear();
    cluster.go_on(120, |_| Vec::new()).await;
    assert!(cluster.troubles[0].borrow().is_empty());
}

/// All nodes of a large cluster are refused for each object.
#[tokio::test(start_paused = true)]
async fn where_a_right_is_missing_all_nodes_together_ask_about_once_a_second() {
    const HOURS: usize = 4;
    let server = server(1000);
    filter(&server, "a", "Reject");
    server.forget_requests();
    server.faults().set(Fault::Refuse { verb: "patch", resource: "bgpfilters/status" });
    let cluster = Cluster::start(server, 3);
    cluster.go_on(HOURS as u64 * 3600, |_| Vec::new()).await;
    let most = 3 * (HOURS * 3600 / 500 + 5);
    assert!((3..most).contains(&writes(&cluster.server)), "{} in four hours", writes(&cluster.server));
    // An edit may mend it, and is not waited for so long.
    cluster.server.faults().clear();
    filter(&cluster.server, "a", "Accept");
    cluster.go_on(75, |_| Vec::new()).await;
    assert_eq!(conditions(&cluster.server, "a").len(), 3);
    assert_eq!(cluster.troubles.iter().filter(|told| !told.borrow().is_empty()).count(), 0);
}

/// A node that cannot know what is wrong with the peers of another never says that nothing is.
#[tokio::test(start_paused = true)]
async fn a_node_override_is_judged_by_its_own_node_alone() {
    let server = server(10);
    for name in ["n7", "elsewhere"] {
        let (metadata, spec) = (json!({"name": name}), json!({}));
        server.put(json!({
            "apiVersion": API_VERSION, "kind": "BGPNodeOverride", "metadata": metadata, "spec": spec,
        }));
    }
    server.forget_requests();
    let cluster = Cluster::start(server, 10);
    let winner = ObjectRef { kind: Kind::BGPClusterConfig, name: "c".to_owned() };
    let conflict = |at: usize| {
        let found = Problem::new("BGPNodeOverride n7", "spec.peers[0].address: has the same");
        let found = found.about(Kind::BGPNodeOverride, "n7");
        let found = found.because(Reason::Conflicted { winner: winner.clone() });
        if at == 7 { vec![found] } else { Vec::new() }
    };
    cluster.go_on(300, conflict).await;
    let conflicted = |name: &str| {
        let object = cluster.server.get(API_VERSION, "BGPNodeOverride", "", name).expect("it is there");
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let condition = conditions.into_iter().find(|condition| condition["type"] == "Conflicted");
        condition.map(|mut condition| condition["status"].take())
    };
    assert_eq!(conflicted("n7"), Some(json!("True")));
    assert_eq!(
        conflicted("elsewhere"),
        Some(json!("False")),
        "without such a Node it is as with other kinds"
    );
    assert_eq!(writes(&cluster.server), 2, "one for each, and no other node thinks otherwise aloud");
}

#[tokio::test(start_paused = true)]
async fn what_one_node_finds_wrong_with_an_object_of_all_nodes_is_no_condition() {
    let server = server(10);
    filter(&server, "a", "Reject");
    server.forget_requests();
    let cluster = Cluster::start(server, 10);
    let at_some = |at: usize| {
        let found = problem("a", "at this node", Reason::Invalid).found_here();
        if at.is_multiple_of(2) { vec![found] } else { Vec::new() }
    };
    cluster.go_on(300, at_some).await;
    assert_eq!(conditions(&cluster.server, "a")[0], "Accepted=True Accepted: all of it can be served");
    assert_eq!(writes(&cluster.server), 1);
}

/// Whichever of two changes is seen first.
#[tokio::test(start_paused = true)]
async fn a_status_that_could_not_be_written_keeps_nobody_busy_while_there_is_no_client() {
    let server = server(1);
    filter(&server, "a", "Reject");
    let shown = view(&server, Vec::new());
    server.away();
    let (clients, client) = watch::channel(None);
    let (views, of_views) = watch::channel(None);
    let (_pictures, pictures) = watch::channel(Arc::new(Picture::default()));
    let (teller, troubles) = (Teller::new("n0".to_owned(), pictures), Troubles::new().0);
    let judge = Judge { node: "n0".to_owned(), clients: client, views: of_views, teller, troubles };
    let changes = async {
        for _ in 0..20 {
            clients.send_replace(Some(server.client()));
            sleep(Duration::from_secs(10)).await;
            clients.send_replace(None);
            views.send_replace(Some(shown.clone()));
            sleep(Duration::from_secs(100)).await;
        }
    };
    not_busy(judge.run(), changes).await;
}

/// As where a DaemonSet has a node selector.
#[tokio::test(start_paused = true)]
async fn two_daemons_of_a_thousand_nodes_judge_and_tell_within_a_minute() {
    let server = server(1000);
    filter(&server, "a", "Reject");
    server.forget_requests();
    let cluster = Cluster::start(server, 2);
    cluster.go_on(75, |_| vec![problem("a", "bad", Reason::Invalid)]).await;
    let server = &cluster.server;
    assert_eq!(conditions(server, "a")[0], "Accepted=False Invalid: bad");
    let events = server.list("events.k8s.io/v1", "Event");
    let notes: Vec<&str> = events.iter().filter_map(|event| event["note"].as_str()).collect();
    assert_eq!(notes, ["BGPFilter a: bad"]);
    assert_eq!(events[0]["regarding"]["kind"], "BGPFilter");
}

#[tokio::test(start_paused = true)]
async fn where_no_node_has_a_pod_range_one_writes_all_the_same() {
    let server = server(40);
    for at in 0..40 {
        server.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{at}")}}));
    }
    filter(&server, "a", "Reject");
    server.forget_requests();
    let cluster = Cluster::start(server, 40);
    cluster.go_on(120, |_| Vec::new()).await;
    assert_eq!(writes(&cluster.server), 1);
    assert_eq!(cluster.server.requests().len(), 2, "and nobody else had a look");
}
