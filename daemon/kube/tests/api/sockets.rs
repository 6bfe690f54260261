//! Real connections and real configurations: what is wrong is said with file and field, and what was mended is taken.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use cambric_apiserver_double::{ApiServer, Certificates, Fault, Listener, User};
use cambric_kube::{Kube, Settings};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::*;

fn local() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port")
}

/// A server over TLS, and a client's configuration in a file that is not there yet.
struct Rig {
    server: ApiServer,
    listener: Listener,
    certificates: Certificates,
    state: TempDir,
}

impl Rig {
    fn new() -> Rig {
        let server = server();
        let certificates = Certificates::make(&["127.0.0.1", "localhost"]).expect("names");
        let listener = server.listen_tls(local(), &certificates).expect("a socket");
        Rig { server, listener, certificates, state: state_dir() }
    }

    fn path(&self) -> PathBuf {
        self.state.path().join("kubeconfig")
    }

    fn good(&self) -> Value {
        serde_json::from_str(&self.listener.kubeconfig("cambric")).expect("JSON is YAML")
    }

    /// Whole or not at all.
    fn write(&self, text: &str) {
        let aside = self.path().with_extension("new");
        fs::write(&aside, text).expect("own folder");
        fs::rename(aside, self.path()).expect("own folder");
    }

    fn start(&self) -> Follows {
        follow_by(Kube::start(Settings { kubeconfig: Some(self.path()), ..settings(&self.state) }))
            .in_real_time()
    }
}

/// Waits for what no picture shows.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let so = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), so).await.expect(what);
}

async fn trouble(follows: &mut Follows, wanted: &str) -> String {
    let what = |picture: &cambric_kube::Picture| {
        picture.health.trouble.as_ref().map_or(String::new(), |trouble| trouble.what.clone())
    };
    let picture = follows.until(wanted, |picture| what(picture).contains(wanted)).await;
    what(&picture)
}

#[tokio::test]
async fn what_is_wrong_with_a_kubeconfig_is_said_with_file_and_field_and_mended_without_a_restart() {
    let rig = Rig::new();
    let mut follows = rig.start();
    let with = |change: fn(&mut Value)| {
        let mut config = rig.good();
        change(&mut config);
        config.to_string()
    };
    let other = Certificates::make(&["127.0.0.1"]).expect("names");
    let closed = local().local_addr().expect("a port");
    let other_authority = {
        let listener = rig.server.listen_tls(local(), &other).expect("a socket");
        let config: Value = serde_json::from_str(&listener.kubeconfig("cambric")).expect("JSON is YAML");
        let mut good = rig.good();
        good["clusters"][0]["cluster"]["certificate-authority-data"] =
            config["clusters"][0]["cluster"]["certificate-authority-data"].clone();
        good.to_string()
    };
    let refused = {
        let mut config = rig.good();
        config["clusters"][0]["cluster"]["server"] = format!("https://{closed}").into();
        config.to_string()
    };
    let file = rig.path().display().to_string();
    for (text, wanted) in [
        (None, format!("{file}: cannot be read: No such file or directory")),
        (Some("{".to_owned()), format!("{file}: is no kubeconfig: ")),
        (Some("{}".to_owned()), format!("{file}: current-context: not set")),
        (
            Some(with(|config| config["current-context"] = "prod".into())),
            format!("{file}: current-context: \"prod\" is none of contexts"),
        ),
        (
            Some(with(|config| config["contexts"][0]["context"]["cluster"] = "prod".into())),
            format!("{file}: contexts[double].context.cluster: \"prod\" is none of clusters"),
        ),
        (
            Some(with(|config| config["contexts"][0]["context"]["user"] = "prod".into())),
            format!("{file}: contexts[double].context.user: \"prod\" is none of users"),
        ),
        (
            Some(with(|config| config["clusters"][0]["cluster"]["server"] = Value::Null)),
            format!("{file}: clusters[double].cluster.server: not set"),
        ),
        (
            Some(with(|config| {
                config["clusters"][0]["cluster"]["proxy-url"] = "http://a:secret@192.0.2.9:3128".into()
            })),
            format!("{file}: clusters[double].cluster.proxy-url: a proxy is not supported"),
        ),
        (
            Some(with(|config| config["clusters"][0]["cluster"]["server"] = "not a URL".into())),
            format!("{file}: clusters[double].cluster.server: "),
        ),
        (
            Some(with(|config| {
                config["clusters"][0]["cluster"] =
                    json!({"server": "https://127.0.0.1:1", "certificate-authority": "/does/not/exist"});
            })),
            format!(
                "{file}: clusters[double].cluster.certificate-authority: /does/not/exist: cannot be read"
            ),
        ),
        (
            Some(with(|config| {
                config["clusters"][0]["cluster"]["certificate-authority-data"] = "bm90aGluZw==".into();
            })),
            format!("{file}: clusters[double].cluster.certificate-authority: there is no certificate in it"),
        ),
        (
            Some(with(|config| config["users"][0]["user"] = json!({"tokenFile": "/does/not/exist"}))),
            format!("{file}: users[client].user: "),
        ),
        (
            Some(with(|config| {
                config["users"][0]["user"] =
                    json!({"client-certificate": "/no/cert", "client-key": "/no/key"});
            })),
            format!("{file}: users[client].user.client-certificate: /no/cert: cannot be read"),
        ),
        (
            Some(other_authority),
            format!("is not of the authority in {file}: clusters[double].cluster.certificate-authority"),
        ),
        (Some(refused), format!("https://{closed} ({file}: clusters[double].cluster.server): ")),
        (
            Some(with(|config| {
                config["clusters"][0]["cluster"]["server"] = "https://no-such-host.invalid:6443".into()
            })),
            "https://no-such-host.invalid:6443".to_owned(),
        ),
    ] {
        if let Some(text) = text {
            rig.write(&text);
        }
        let what = trouble(&mut follows, &wanted).await;
        assert!(!what.contains('\n') && what.len() < 500 && !what.contains("secret"), "{what}");
    }
    rig.write(&rig.good().to_string());
    let picture = follows.until_watching().await;
    assert_eq!((pods(&picture).len(), &picture.health.trouble), (2, &None));
    assert_eq!(picture.health.server, Some(rig.listener.url()));
    assert!(follows.kube.clients().borrow().is_some());
}

#[tokio::test]
async fn a_connection_that_is_refused_says_so() {
    let rig = Rig::new();
    rig.write(&rig.good().to_string());
    rig.server.away();
    let mut follows = rig.start();
    trouble(&mut follows, "Connection refused").await;
    rig.server.back();
    follows.until_watching().await;
}

#[tokio::test]
async fn another_configuration_is_taken_while_all_goes_well() {
    let rig = Rig::new();
    rig.write(&rig.good().to_string());
    let mut follows = rig.start();
    follows.until_watching().await;
    let mut clients = follows.kube.clients();
    clients.borrow_and_update();
    let second = rig.server.listen_tls(local(), &rig.certificates).expect("a socket");
    rig.server.forget_requests();
    rig.write(&second.kubeconfig_with_certificate(rig.certificates.client()));
    follows.until("it is another", |picture| picture.health.server == Some(second.url())).await;
    clients.changed().await.expect("it runs");
    assert!(clients.borrow().is_some());
    // Watches by the former one are ended, though they would go on.
    let is_watched = || counts(&rig.server.requests()).contains_key("watch pods");
    until("they are begun anew", is_watched).await;
    assert_eq!(lists(&rig.server), Default::default(), "from where they were");
    // The first one may go now.
    let Rig { server, listener, .. } = rig;
    drop(listener);
    server.put(pod("three", "10.244.1.3"));
    follows.until_pods(&["one", "three", "two"]).await;
    follows.until_watching().await;
}

#[tokio::test]
async fn a_kubeconfig_that_breaks_is_told_and_takes_no_connection_away() {
    let rig = Rig::new();
    rig.write(&rig.good().to_string());
    let mut follows = rig.start();
    follows.until_watching().await;
    rig.server.forget_requests();
    rig.write("{");
    let told = |picture: &cambric_kube::Picture| picture.health.configuration.is_some();
    let picture = follows.until("it is told", told).await;
    let what = picture.health.configuration.as_deref().unwrap_or_default();
    assert!(what.contains("kubeconfig: is no kubeconfig"), "{what}");
    assert_eq!(picture.health.trouble, None, "the server answers");
    assert!(follows.kube.clients().borrow().is_some());
    rig.server.put(pod("three", "10.244.1.3"));
    let picture = follows.until_pods(&["one", "three", "two"]).await;
    assert_eq!(picture.health.server, Some(rig.listener.url()));
    assert_eq!(counts(&rig.server.requests()), Default::default(), "the watches of before go on");
    rig.write(&rig.good().to_string());
    follows.until("it is mended", |picture| !told(picture)).await;
    follows.until_watching().await;
}

#[tokio::test]
async fn a_server_that_is_cut_off_and_comes_back_is_followed_on() {
    let rig = Rig::new();
    rig.write(&rig.good().to_string());
    let mut follows = rig.start();
    follows.until_watching().await;
    for round in 0..3 {
        rig.server.away();
        trouble(&mut follows, "127.0.0.1").await;
        let name = format!("p{round}");
        rig.server.put(pod(&name, "10.244.1.9"));
        rig.server.back();
        let known = |picture: &cambric_kube::Picture| pods(picture).contains(&name);
        follows.until("it is followed on", known).await;
    }
    follows.until_watching().await;
    assert!(lists(&rig.server).values().all(|count| *count == 1), "{:?}", lists(&rig.server));
}

#[tokio::test]
async fn a_token_that_is_nobodys_is_refused_and_a_new_one_is_taken() {
    let rig = Rig::new();
    let token = rig.state.path().join("token");
    fs::write(&token, "nobody").expect("own folder");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("own folder");
    let mut config = rig.good();
    config["users"][0]["user"] = json!({"tokenFile": token});
    rig.write(&config.to_string());
    let mut follows = rig.start();
    let refused = |picture: &cambric_kube::Picture| matches!(&picture.health.kinds["Pod"].state, cambric_kube::KindState::Refused(what) if what.contains("401"));
    follows.until("it is refused", refused).await;
    // By our own clock, and not once a minute of the day has passed.
    fs::write(&token, "cambric").expect("own folder");
    let watching = tokio::time::timeout(Duration::from_secs(30), follows.until_watching());
    watching.await.expect("it is another client");
    // One that is renewed while all goes well costs no list.
    rig.server.add_token("renewed", User::new("cambric"));
    rig.server.forget_requests();
    fs::write(&token, "renewed").expect("own folder");
    rig.server.remove_token("cambric");
    let is_watched = || counts(&rig.server.requests()).contains_key("watch pods");
    until("they are begun anew", is_watched).await;
    follows.until_watching().await;
    assert_eq!(lists(&rig.server), Default::default());
}

#[tokio::test]
async fn a_token_that_is_renewed_while_a_list_is_under_way_costs_no_other() {
    let rig = Rig::new();
    rig.server.add_token("renewed", User::new("cambric"));
    rig.write(&rig.listener.kubeconfig("cambric"));
    // Longer than it takes to see that there is another.
    rig.server.faults().set(Fault::Latency(Duration::from_secs(6)));
    let mut follows = rig.start();
    let mut clients = follows.kube.clients();
    clients.changed().await.expect("it runs");
    // All kinds are being listed.
    rig.write(&rig.listener.kubeconfig("renewed"));
    clients.changed().await.expect("it runs");
    rig.server.faults().clear();
    follows.until_watching().await;
    assert!(lists(&rig.server).values().all(|count| *count == 1), "{:?}", lists(&rig.server));
}

#[tokio::test]
async fn another_cluster_stays_another_with_a_token_by_which_it_refuses_to_say_so() {
    let rig = Rig::new();
    rig.server.add_token("renewed", User::new("renewed"));
    rig.write(&rig.listener.kubeconfig("cambric"));
    let mut follows = rig.start();
    follows.until_watching().await;
    rig.server.replace();
    trouble(&mut follows, "is another cluster").await;
    rig.server.faults().set(Fault::Refuse { verb: "*", resource: "namespaces" });
    rig.server.forget_requests();
    rig.write(&rig.listener.kubeconfig("renewed"));
    let is_asked = || rig.server.requests().iter().filter(|request| request.user == "renewed").count() > 1;
    until("it is asked twice", is_asked).await;
    assert!(follows.kube.clients().borrow().is_none(), "nobody writes to it");
    let what = follows.now().health.trouble.as_ref().map(|trouble| trouble.what.clone());
    assert!(what.as_ref().is_some_and(|what| what.contains("403")), "{what:?}");
}
