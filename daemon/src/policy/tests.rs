use cambric_policy::change::{Fault, Key, PolicyObject};

use super::*;
use crate::endpoints::Wire;
use crate::objects::Objects;
use crate::own_node::on_a_node;

fn settings() -> Settings {
    Settings {
        node: "n1".to_owned(),
        source_tells_faults: true,
        run_dir: "/run/cambric".into(),
        bgp_port: 179,
        unknown_pods: UnknownPods::Unlabelled,
    }
}

#[test]
fn pods_are_placed_and_the_mark_is_set_once_all_is_known_and_off_leaves_nothing() {
    on_a_node(async || {
        let folder = tempfile::tempdir().expect("temporary folder");
        let run_dir = folder.path().to_owned();
        ready::write(&run_dir, Judged::Off).expect("own folder");
        let (look, looks) = watch::channel(None);
        let settings = Settings { run_dir: run_dir.clone(), ..settings() };
        let mut policy = start(PolicyArg::On, settings, looks).await.expect("started");
        assert_eq!(ready::read(&run_dir).ok(), None, "of an earlier run that was told not to");

        let pod = Some(Key::new("default", "web").into());
        let endpoint = Endpoint { pod, addresses: [[10, 244, 1, 7].into()].into() };
        let place = || policy.place("cam0123456789ab".into(), endpoint.clone());
        assert!(place().await.is_err(), "nothing is known");
        let unknown = vec![Problem::new("a.yaml", "cannot be read")];
        let fabric = Arc::new(Objects { unknown, ..Objects::default() });
        policy.tell(&View { fabric, ..View::default() }, Arc::default());
        assert_eq!(policy.cluster(), None, "it hides something");
        let wire = Wire { index: 7, endpoint: Ok(endpoint.clone()) };
        let found = Ok([("cam0123456789ab".into(), wire)].into());
        look.send(Some(Look { begun: Instant::now(), found })).expect("it listens");
        assert!(place().await.is_err() && ready::read(&run_dir).ok().is_none());

        let peers: BTreeSet<IpAddr> = [[192, 0, 2, 1].into()].into();
        policy.tell(&View::default(), Arc::new(peers));
        while !policy.state().is_some_and(|state| state.written) {
            timeout(Duration::from_secs(20), policy.changed()).await.expect("in time").expect("kept");
        }
        assert_eq!(ready::read(&run_dir).ok(), Some(Judged::On));
        assert_eq!(policy.waiting_for(), None);
        policy.place("cam0123456789ab".into(), endpoint).await.expect("placed");
        let report = policy.report(None).await.expect("told");
        assert_eq!(report.pods[0].pod.pod, Some(Key::new("default", "web")));
        assert_eq!(report.pods[0].waiting, None);

        // What the enforcer has made stays, and is its own until its thread has ended.
        drop(policy);
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            match leftovers::remove() {
                Ok(count) => break assert!(count >= 3 + 4, "{count} tables and sets"),
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(leftovers::remove().expect("nothing to do"), 0);
    });
}

async fn written(policy: &mut Policy) {
    while !policy.state().is_some_and(|state| state.written) {
        timeout(Duration::from_secs(20), policy.changed()).await.expect("in time").expect("kept");
    }
}

fn nothing_is_wired() -> Look {
    Look { begun: Instant::now(), found: Ok(Default::default()) }
}

#[test]
fn mark_of_an_earlier_run_stays_only_with_tables_that_judge() {
    on_a_node(async || {
        let folder = tempfile::tempdir().expect("temporary folder");
        let run_dir = folder.path();
        let settings = || Settings { run_dir: run_dir.to_owned(), ..settings() };
        ready::write(run_dir, Judged::On).expect("own folder");
        let (look, looks) = watch::channel(None);
        let mut policy = start(PolicyArg::On, settings(), looks.clone()).await.expect("started");
        assert_eq!(ready::read(run_dir).ok(), None, "its tables are gone");
        look.send(Some(nothing_is_wired())).expect("it listens");
        policy.tell(&View::default(), Arc::default());
        written(&mut policy).await;
        assert_eq!(ready::read(run_dir).ok(), Some(Judged::On));
        drop(policy);
        let _policy = start(PolicyArg::On, settings(), looks).await.expect("started");
        assert_eq!(ready::read(run_dir).ok(), Some(Judged::On), "they are in force");
    });
}

#[test]
fn a_node_without_policy_waits_until_nothing_of_an_earlier_run_is_in_force() {
    on_a_node(async || {
        let folder = tempfile::tempdir().expect("temporary folder");
        let run_dir = folder.path();
        let settings = || Settings { run_dir: run_dir.to_owned(), ..settings() };
        let (look, looks) = watch::channel(Some(nothing_is_wired()));
        let mut owner = start(PolicyArg::On, settings(), looks.clone()).await.expect("started");
        look.send(Some(nothing_is_wired())).expect("it listens");
        owner.tell(&View::default(), Arc::default());
        written(&mut owner).await;

        let mut off = start(PolicyArg::Off, settings(), looks).await.expect("started");
        assert_eq!(ready::read(run_dir).ok(), None, "the tables are another's, and close new pods");
        assert_eq!((off.problems().len(), off.waiting_for()), (1, Some(LEAVING)));
        let endpoint = Endpoint { pod: None, addresses: BTreeSet::new() };
        assert!(off.place("cam0123456789ab".into(), endpoint).await.is_err());
        drop((owner, look));
        while !off.problems().is_empty() {
            timeout(Duration::from_secs(20), off.changed()).await.expect("in time").expect("kept");
        }
        assert_eq!((ready::read(run_dir).ok(), off.waiting_for()), (Some(Judged::Off), None));
        assert_eq!(leftovers::remove().expect("nothing to do"), 0);
    });
}

#[test]
fn thousands_of_faulty_policies_are_told_at_once() {
    const MANY: usize = 20_000;
    let keys = (0..MANY).map(|n| format!("default/bad-{n}"));
    let progress = Progress { faulty: keys.collect(), ..Progress::default() };
    let problems = progress.faulty.iter().map(|key| format!("policy {key} fails closed: why")).collect();
    let enforcer = Status { problems, ..Status::default() };
    let begun = Instant::now();
    assert_eq!(progress.state(enforcer, &settings()).problems, []);
    assert!(begun.elapsed() < Duration::from_secs(10), "it took minutes when each was compared with each");
}

#[test]
fn what_it_waits_for_is_said_until_it_is_written() {
    let mut progress = Progress::default();
    let waits = |progress: &Progress| progress.state(Status::default(), &settings()).waiting_for;
    assert_eq!(waits(&progress), Some("the objects of the cluster"));
    progress.view_told = true;
    assert_eq!(waits(&progress), Some("the list of pods on this node"));
    progress.look_told = true;
    assert_eq!(waits(&progress), Some("the kernel to take it"));
    progress.written = true;
    assert_eq!(waits(&progress), None);
}

#[test]
fn a_fault_that_the_source_has_told_is_no_second_problem() {
    let fault = Fault { field: "spec.x".to_owned(), what: "unknown field".to_owned() };
    let policy = |faults| Some(Arc::new(PolicyObject { object: Default::default(), faults }));
    let (bad, refused) = (Key::new("default", "bad"), Key::new("default", "refused"));
    let mut progress = Progress::default();
    progress.note_faults(&[
        Change::Policy(bad.clone(), policy(vec![fault])),
        Change::Policy(refused, policy(Vec::new())),
    ]);
    let problems = ["bad", "refused"].map(|name| format!("policy default/{name} fails closed: why"));
    let enforcer = Status { problems: problems.into(), ..Status::default() };
    let words = |progress: &Progress| {
        let state = progress.state(enforcer.clone(), &settings());
        state.problems.iter().map(Problem::to_string).collect::<Vec<_>>()
    };
    assert_eq!(words(&progress), ["NetworkPolicy: policy default/refused fails closed: why"]);
    progress.note_faults(&[Change::Policy(bad, None)]);
    progress.mark_failed = Some("Read-only file system".to_owned());
    assert_eq!(words(&progress).len(), 3);
    assert_eq!(
        words(&progress)[2],
        "/run/cambric/ready: cannot be written: Read-only file system; no pod is started"
    );
}
