use std::time::Instant as StdInstant;

use cambric_bgp::peer::LastError;
use cambric_bgp::router::Restarted;
use cambric_bgp::{Asn, Family, PeerConfig, Router, RouterConfig, RouterId, Wanted};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Peers that were just configured.
pub(in crate::report) fn peers(names: &[&str]) -> Vec<PeerStatus> {
    let asn = |number| Asn::new(number).expect("AS");
    let id = RouterId::new(1).expect("identifier");
    let mut wanted = Wanted::new(RouterConfig::new(asn(64512), id));
    for (at, name) in names.iter().enumerate() {
        let address: std::net::IpAddr =
            format!("192.0.{}.{}", at / 250, at % 250 + 1).parse().expect("address");
        wanted.peers.insert(address.into(), PeerConfig::new(*name, address, asn(65101)));
    }
    let now = StdInstant::now();
    Router::new(now, wanted, Restarted::No, BTreeSet::new(), 1).peers()
}

pub(in super::super) fn set(peer: &mut PeerStatus, state: PeerState, error: Option<&str>) {
    (peer.state, peer.since) = (state, StdInstant::now());
    let now = StdInstant::now();
    peer.last_error = error.map(|what| LastError { at: now, what: what.to_owned() });
}

fn look(plan: &mut Plan, peers: &[PeerStatus], now: Instant) {
    let clocks = (now, StdInstant::now(), SystemTime::now());
    plan.look(Some("uid-1".to_owned()), peers, &BTreeMap::new(), 3, clocks);
}

/// What a server answers.
fn answer(request: &Request, there: &mut BTreeMap<String, Value>) -> Value {
    let merged = |object: &mut Value, patch: &Value, part: &str| {
        for (name, value) in patch[part].as_object().expect("fields") {
            object[part][name] = value.clone();
        }
        if let Some(fields) = object[part].as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        object.clone()
    };
    match request {
        Request::List => json!({"items": there.values().collect::<Vec<_>>()}),
        Request::Read(name) => json!({"items": [there[name]]}),
        Request::Create(object) => {
            let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
            there.insert(name, object.clone());
            object.clone()
        }
        Request::Patch(name, patch) => merged(there.get_mut(name).expect("it is there"), patch, "spec"),
        Request::Status(name, patch) => merged(there.get_mut(name).expect("it is there"), patch, "status"),
        Request::Delete(name) => there.remove(name).expect("it is there"),
    }
}

fn word(request: &Request) -> String {
    match request {
        Request::List => "list".to_owned(),
        Request::Read(name) => format!("read {name}"),
        Request::Create(object) => format!("create {}", object["metadata"]["name"].as_str().expect("a name")),
        Request::Patch(name, _) => format!("patch {name}"),
        Request::Status(name, patch) => {
            format!("status {name} {}", patch["status"]["state"].as_str().expect("a state"))
        }
        Request::Delete(name) => format!("delete {name}"),
    }
}

/// Does what there is to do at `now`.
fn all(plan: &mut Plan, there: &mut BTreeMap<String, Value>, now: Instant) -> (Vec<String>, Option<Instant>) {
    let mut done = Vec::new();
    loop {
        match plan.next(now) {
            Next::Do(request) => {
                done.push(word(&request));
                let answer = answer(&request, there);
                plan.done(&request, &answer, now);
            }
            Next::Wait(until) => return (done, until),
        }
    }
}

#[tokio::test]
async fn after_one_list_each_session_is_made_and_written_once() {
    let now = Instant::now();
    let (mut plan, mut there) = (Plan::new("n1", now), BTreeMap::new());
    assert_eq!(plan.next(now), Next::Wait(None), "nobody knows which sessions there are");
    let mut peers = peers(&["tor1a", "TOR 2"]);
    set(&mut peers[0], PeerState::Established, Some("an error of an earlier session"));
    set(&mut peers[1], PeerState::Active, None);
    look(&mut plan, &peers, now);
    let (done, until) = all(&mut plan, &mut there, now);
    let tor2 = name::object("n1", "TOR 2");
    let mut wanted = vec!["list".to_owned()];
    for (name, state) in [("n1.tor1a", "Established"), (tor2.as_str(), "Active")] {
        wanted.extend([format!("create {name}"), format!("status {name} {state}")]);
    }
    let (mut sorted, mut wanted_sorted) = (done.clone(), wanted.clone());
    sorted.sort();
    wanted_sorted.sort();
    assert_eq!((sorted, until), (wanted_sorted, plan.list_again), "{done:?}");
    let object = &there["n1.tor1a"];
    assert_eq!(object["spec"], json!({"node": "n1", "peer": "tor1a", "address": "192.0.0.1", "asn": 65101}));
    assert_eq!(object["metadata"]["labels"], json!({"cambric.dev/node": "n1", "cambric.dev/peer": "tor1a"}));
    assert_eq!(
        object["metadata"]["ownerReferences"],
        json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "uid-1"}])
    );
    assert_eq!(
        object["status"]["reason"],
        Value::Null,
        "what ended an earlier session says nothing: {object}"
    );
    look(&mut plan, &peers, now + SECOND);
    assert_eq!(all(&mut plan, &mut there, now + SECOND), (vec![], plan.list_again), "it says the same");
}

#[tokio::test]
async fn a_session_that_flaps_is_written_every_ten_seconds_and_counts_every_minute() {
    let start = Instant::now();
    let (mut plan, mut there) = (Plan::new("n1", start), BTreeMap::new());
    let mut peers = peers(&["tor"]);
    set(&mut peers[0], PeerState::Established, None);
    look(&mut plan, &peers, start);
    assert_eq!(all(&mut plan, &mut there, start).0.len(), 3);
    let mut written = Vec::new();
    for second in 1..=60 {
        let state = if second % 2 == 1 { PeerState::Active } else { PeerState::Established };
        set(&mut peers[0], state, Some("hold timer expired"));
        let now = start + SECOND * second;
        look(&mut plan, &peers, now);
        let (done, _) = all(&mut plan, &mut there, now);
        written.extend(done.into_iter().map(|_| second));
    }
    // What it says at second 10 is what it said before.
    assert!(written.len() <= 6 && written.windows(2).all(|pair| pair[1] - pair[0] >= 10), "{written:?}");

    let quiet = start + SECOND * 120;
    set(&mut peers[0], PeerState::Established, None);
    look(&mut plan, &peers, quiet);
    all(&mut plan, &mut there, quiet);
    let mut written = Vec::new();
    for second in 1..=180 {
        let counts = cambric_bgp::rib::Counts { received: second as usize, ..Default::default() };
        peers[0].counts.insert(Family::Ipv4, counts);
        let now = quiet + SECOND * second;
        look(&mut plan, &peers, now);
        let (done, until) = all(&mut plan, &mut there, now);
        assert!(!done.is_empty() || until.is_some(), "it knows when to go on");
        written.extend(done.into_iter().map(|_| second));
    }
    assert_eq!(written, [60, 120, 180]);
    assert_eq!(there["n1.tor"]["status"]["received"], 180);
}

#[tokio::test]
async fn an_as_is_absent_until_the_peer_announces_it_and_again_when_another_one_is_waited_for() {
    let start = Instant::now();
    let (mut plan, mut there) = (Plan::new("n1", start), BTreeMap::new());
    let mut peers = peers(&["tor"]);
    let spec = |asn: Option<u32>| {
        let mut spec = json!({"node": "n1", "peer": "tor", "address": "192.0.0.1"});
        if let Some(asn) = asn {
            spec["asn"] = json!(asn);
        }
        spec
    };
    peers[0].asn = None;
    look(&mut plan, &peers, start);
    assert_eq!(all(&mut plan, &mut there, start).0[..2], ["list", "create n1.tor"]);
    assert_eq!(there["n1.tor"]["spec"], spec(None));

    peers[0].asn = Asn::new(65101);
    look(&mut plan, &peers, start + SECOND);
    let (done, until) = all(&mut plan, &mut there, start + SECOND);
    assert_eq!((done, until), (vec![], Some(start + BETWEEN_STATES)));
    assert_eq!(all(&mut plan, &mut there, start + BETWEEN_STATES).0, ["patch n1.tor"]);
    assert_eq!(there["n1.tor"]["spec"], spec(Some(65101)));

    peers[0].asn = None;
    look(&mut plan, &peers, start + SECOND * 60);
    assert_eq!(all(&mut plan, &mut there, start + SECOND * 60).0, ["patch n1.tor"]);
    assert_eq!(there["n1.tor"]["spec"], spec(None));
    assert_eq!(all(&mut plan, &mut there, start + SECOND * 240).0, [""; 0], "it says the same");
}

#[tokio::test]
async fn each_that_called_from_a_range_has_an_object_unless_they_are_many() {
    let now = Instant::now();
    for (callers, objects) in [(2, 3), (50, 51), (51, 1)] {
        let mut peers = peers(&vec!["rack"; callers + 1]);
        for peer in &mut peers[1..] {
            peer.origin = PeerOrigin::Range("192.0.0.0/16".parse().expect("prefix"));
        }
        let mut plan = Plan::new("n1", now);
        look(&mut plan, &peers, now);
        let names: Vec<&String> = plan.wanted.as_ref().expect("a look").keys().collect();
        assert_eq!(names.len(), objects, "{names:?}");
        assert!(names.contains(&&"n1.rack".to_owned()), "the one that is configured: {names:?}");
    }
}

#[tokio::test]
async fn the_steps_of_attempts_of_a_session_that_is_down_are_not_written() {
    let start = Instant::now();
    let (mut plan, mut there) = (Plan::new("n1", start), BTreeMap::new());
    let mut peers = peers(&["tor"]);
    set(&mut peers[0], PeerState::Active, Some("connection refused"));
    look(&mut plan, &peers, start);
    all(&mut plan, &mut there, start);
    let mut done = Vec::new();
    for second in 1..=1800 {
        let state = if second % 2 == 1 { PeerState::Connect } else { PeerState::Active };
        set(&mut peers[0], state, Some("connection refused"));
        let now = start + SECOND * second;
        look(&mut plan, &peers, now);
        done.extend(all(&mut plan, &mut there, now).0);
    }
    assert_eq!(done, ["list"], "once more, for what the first list did not show");
}

#[tokio::test]
async fn a_mesh_of_more_than_fifty_nodes_has_no_objects_and_configured_peers_have() {
    let now = Instant::now();
    for (nodes, objects) in [(50, 50), (51, 1)] {
        let names: Vec<String> = (1..nodes).map(|at| format!("n{at}")).chain(["tor".to_owned()]).collect();
        let peers = peers(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let is_node = |peer: &&PeerStatus| peer.config.name != "tor";
        let mesh = peers
            .iter()
            .filter(is_node)
            .map(|peer| (peer.address.clone(), peer.config.name.clone()))
            .collect();
        let mut plan = Plan::new("n0", now);
        plan.look(
            Some("uid-1".to_owned()),
            &peers,
            &mesh,
            nodes,
            (now, StdInstant::now(), SystemTime::now()),
        );
        assert_eq!(plan.wanted.as_ref().map(BTreeMap::len), Some(objects), "{nodes} nodes");
    }
}

#[tokio::test]
async fn what_an_earlier_daemon_left_goes_or_is_kept_as_it_is() {
    let now = Instant::now();
    let (mut plan, mut there) = (Plan::new("n1", now), BTreeMap::new());
    let mut peers = peers(&["gone", "tor"]);
    set(&mut peers[1], PeerState::Established, None);
    look(&mut plan, &peers, now);
    all(&mut plan, &mut there, now);
    let mut another = Plan::new("n1", now);
    look(&mut another, &peers[1..], now);
    assert_eq!(all(&mut another, &mut there, now).0, ["list", "delete n1.gone"]);
    assert_eq!(there.len(), 1);

    // The Node was made anew, and what the old one owned is about to be collected.
    another.look(
        Some("uid-2".to_owned()),
        &peers[1..],
        &BTreeMap::new(),
        3,
        (now, StdInstant::now(), SystemTime::now()),
    );
    let made_anew = ["list", "delete n1.tor", "create n1.tor", "status n1.tor Established"];
    assert_eq!(all(&mut another, &mut there, now).0, made_anew);
    another.look(None, &peers, &BTreeMap::new(), 3, (now, StdInstant::now(), SystemTime::now()));
    assert_eq!(another.next(now), Next::Wait(None), "nobody would own them");
}

#[tokio::test]
async fn the_budget_holds_for_all_sessions_together() {
    let start = Instant::now();
    let (mut plan, mut there) = (Plan::new("n1", start), BTreeMap::new());
    let names: Vec<String> = (0..100).map(|at| format!("p{at}")).collect();
    let peers = peers(&names.iter().map(String::as_str).collect::<Vec<_>>());
    look(&mut plan, &peers, start);
    let (done, until) = all(&mut plan, &mut there, start);
    assert_eq!((done.len(), until), (40, Some(start + SECOND)));
    assert_eq!(all(&mut plan, &mut there, start + SECOND).0.len(), 1);
    let seconds = (2..300).find(|second| {
        all(&mut plan, &mut there, start + SECOND * *second);
        there.len() == 100 && there.values().all(|object| object.get("status").is_some())
    });
    assert_eq!(seconds, Some(201 - 40), "each has been made and written");
}

#[tokio::test]
async fn refusals_of_what_is_not_there_any_more_are_mended() {
    let now = Instant::now();
    let (mut plan, mut there) = (Plan::new("n1", now), BTreeMap::new());
    let mut peers = peers(&["tor"]);
    set(&mut peers[0], PeerState::Established, None);
    look(&mut plan, &peers, now);
    all(&mut plan, &mut there, now);
    there.clear();
    set(&mut peers[0], PeerState::Idle, Some("gone"));
    let later = now + SECOND * 60;
    look(&mut plan, &peers, later);
    let Next::Do(request) = plan.next(later) else { panic!("a write is due") };
    plan.failed(&request, &Refusal::NotFound);
    assert_eq!(all(&mut plan, &mut there, later).0, ["create n1.tor", "status n1.tor Idle"]);

    let mut blind = Plan::new("n1", now);
    look(&mut blind, &peers, now);
    blind.done(&Request::List, &json!({"items": []}), now);
    let Next::Do(request) = blind.next(now) else { panic!("it is to be made") };
    blind.failed(&request, &Refusal::Conflict);
    there.get_mut("n1.tor").expect("it is there")["metadata"]["labels"] = Value::Null;
    let made_anew = ["read n1.tor", "delete n1.tor", "create n1.tor", "status n1.tor Idle"];
    assert_eq!(all(&mut blind, &mut there, now).0, made_anew, "the name is ours, and it is to be found");
}

/// It comes from a cache that may be behind.
#[tokio::test]
async fn what_the_first_list_does_not_show_is_kept_if_it_is_ours_and_goes_later_if_it_is_left_over() {
    let start = Instant::now();
    let (mut plan, mut there) = (Plan::new("n1", start), BTreeMap::new());
    let mut peers = peers(&["gone", "tor"]);
    set(&mut peers[1], PeerState::Established, None);
    look(&mut plan, &peers, start);
    all(&mut plan, &mut there, start);

    let mut another = Plan::new("n1", start);
    set(&mut peers[1], PeerState::Active, Some("hold timer expired"));
    look(&mut another, &peers[1..], start);
    another.done(&Request::List, &json!({"items": []}), start);
    let Next::Do(request) = another.next(start) else { panic!("it is to be made") };
    assert_eq!(word(&request), "create n1.tor");
    another.failed(&request, &Refusal::Conflict);
    let (done, until) = all(&mut another, &mut there, start);
    assert_eq!(done, ["read n1.tor", "status n1.tor Active"], "it is neither gone nor made anew");
    let until = until.expect("a later list");
    assert!((BETWEEN_LISTS..2 * BETWEEN_LISTS).contains(&(until - start)));
    assert_eq!(all(&mut another, &mut there, until).0, ["list", "delete n1.gone"]);
    assert_eq!(all(&mut another, &mut there, until + SECOND * 3600), (vec![], None));
}

#[test]
fn in_large_clusters_counts_are_written_less_often() {
    assert_eq!(between_counts(0), Duration::from_secs(60));
    assert_eq!(between_counts(1000), Duration::from_secs(60));
    assert_eq!(between_counts(5000), Duration::from_secs(300));
}

/// The definition that is installed may be of another version.
#[tokio::test]
async fn a_field_that_the_server_leaves_out_is_written_once_a_minute_and_no_state_waits_for_it() {
    let start = Instant::now();
    let (mut plan, mut there) = (Plan::new("n1", start), BTreeMap::new());
    let mut peers = peers(&["tor"]);
    set(&mut peers[0], PeerState::Established, None);
    let mut pruned = |plan: &mut Plan, now: Instant| {
        let mut done = Vec::new();
        while let Next::Do(request) = plan.next(now) {
            done.push(word(&request));
            let mut answer = answer(&request, &mut there);
            if let Some(spec) = answer["spec"].as_object_mut() {
                spec.remove("asn");
            }
            plan.done(&request, &answer, now);
        }
        done
    };
    look(&mut plan, &peers, start);
    assert_eq!(pruned(&mut plan, start), ["list", "create n1.tor", "status n1.tor Established"]);
    set(&mut peers[0], PeerState::Active, Some("hold timer expired"));
    look(&mut plan, &peers, start + SECOND * 20);
    assert_eq!(pruned(&mut plan, start + SECOND * 20), ["status n1.tor Active"]);
    assert!(matches!(plan.next(start + SECOND * 21), Next::Wait(Some(at)) if at == start + BETWEEN_COUNTS));
    assert_eq!(pruned(&mut plan, start + BETWEEN_COUNTS), ["patch n1.tor"]);
    assert_eq!(pruned(&mut plan, start + BETWEEN_COUNTS + SECOND * 59), [""; 0]);
}
