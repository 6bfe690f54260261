//! Our kinds as an API server takes them, and as kubectl shows them. Without kubectl the tests say so; with `CI=true` they
//! fail.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use cambric_apiserver_double::{ApiServer, Certificates, Listener};
use serde_json::{Value, json};
use tempfile::TempDir;

const API_VERSION: &str = "cambric.dev/v1alpha1";

fn server() -> ApiServer {
    let server = ApiServer::new();
    for (_, text) in cambricd::crds::files().expect("schemas") {
        server.install(&text);
    }
    server
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

#[test]
fn objects_are_taken_and_refused_by_schema_and_rules() {
    let Some(kubectl) = Kubectl::new(&server()) else { return };
    let good = [
        (
            "BGPClusterConfig",
            json!({"asnLabel": "cambric.dev/asn", "nodeAddress": {"from": "Interface", "interface": "bond0"}}),
        ),
        ("BGPPeerConfig", json!({"bfd": {"multiplier": 3}, "secret": {"name": "tor"}})),
        (
            "BGPFilter",
            json!({"rules": [{"match": {"prefixes": [{"cidr": "10.0.0.0/8", "le": 24}]}, "action": "Accept"}]}),
        ),
        (
            "BGPAdvertisement",
            json!({"advertised": [{"what": "Services", "serviceAddresses": ["ClusterIP"]}]}),
        ),
        (
            "BGPNodeOverride",
            json!({"addresses": ["192.0.2.1", "fd00::1"], "peers": [{"name": "a", "interface": "eth1", "peerAS": "External"}]}),
        ),
        ("BGPSessionState", json!({"node": "n1", "peer": "tor", "address": "192.0.2.1"})),
    ];
    for (kind, spec) in good {
        let text = object(kind, "good", spec).to_string();
        kubectl.run(&["create", "-f", "-"], &text).unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
    let peers = |peers: Value| json!({"peers": peers});
    let bad = [
        ("BGPClusterConfig", json!({"asn": 1, "asnLabel": "a"}), "asn and asnLabel exclude each other"),
        ("BGPClusterConfig", json!({"nodeAddress": {"from": "CIDR"}}), "cidrs go with from: CIDR"),
        ("BGPClusterConfig", json!({"podCIDRs": ["10.0.0.1/8"]}), "without host bits"),
        ("BGPClusterConfig", peers(json!([{"name": "a", "asn": 1}])), "exactly one of address, interface"),
        (
            "BGPClusterConfig",
            peers(json!([{"name": "a", "address": "fe80::1", "asn": 1}])),
            "must be the IP address of a router",
        ),
        (
            "BGPNodeOverride",
            peers(
                json!([{"name": "a", "address": "192.0.2.1", "asn": 1}, {"name": "b", "address": "192.0.2.1", "asn": 1}]),
            ),
            "no two peers may have one address",
        ),
        ("BGPNodeOverride", json!({"addresses": ["192.0.2.1", "192.0.2.2"]}), "one address of each family"),
        ("BGPPeerConfig", json!({"holdTimeSeconds": 2}), "holdTimeSeconds must be 0 or at least 3"),
        ("BGPPeerConfig", json!({"connect": "Sometimes"}), "Unsupported value"),
        (
            "BGPFilter",
            json!({"rules": [{"action": "Reject", "set": {"med": 1}}]}),
            "set goes with action: Accept",
        ),
        ("BGPAdvertisement", json!({"advertised": []}), "advertised"),
    ];
    for (kind, spec, says) in bad {
        let text = object(kind, "bad", spec).to_string();
        let error = kubectl.run(&["create", "-f", "-"], &text).expect_err(&text);
        assert!(error.contains(says), "{text}: {error}");
    }
}

/// An administrator with kubectl.
struct Kubectl {
    folder: TempDir,
    _listener: Listener,
}

impl Kubectl {
    fn new(server: &ApiServer) -> Option<Kubectl> {
        if !Path::new("/usr/bin/kubectl").exists() {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "kubectl is missing: deploy/tools.sh test installs it"
            );
            eprintln!("skipped: there is no kubectl (deploy/tools.sh test installs it)");
            return None;
        }
        let certificates = Certificates::make(&["127.0.0.1"]).expect("an authority");
        let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let listener = server.listen_tls(socket, &certificates).expect("it listens");
        let folder = TempDir::new().expect("a folder");
        std::fs::write(folder.path().join("kubeconfig"), listener.kubeconfig("admin")).expect("a file");
        Some(Kubectl { folder, _listener: listener })
    }

    /// What it prints; or what it says when it is refused.
    fn run(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut child = Command::new("/usr/bin/kubectl")
            .args(arguments)
            .env("KUBECONFIG", self.folder.path().join("kubeconfig"))
            .env("HOME", self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

#[test]
fn kubectl_shows_every_kind_by_its_short_name() {
    let server = server();
    let Some(kubectl) = Kubectl::new(&server) else { return };
    let conditions = json!({"observedGeneration": 1, "conditions": [
        {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "all of it can be served", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        {"type": "Ready", "status": "True", "reason": "InForce", "message": "what it says is in force", "lastTransitionTime": "2026-01-01T00:00:00Z"},
    ]});
    let with_status = |mut object: Value, status: &Value| {
        object["status"] = status.clone();
        server.put(object);
    };
    with_status(
        object("BGPClusterConfig", "all", json!({"asn": 64512, "podCIDRs": ["10.244.0.0/16"]})),
        &conditions,
    );
    with_status(
        object("BGPPeerConfig", "tor", json!({"holdTimeSeconds": 9, "families": ["ipv4"]})),
        &conditions,
    );
    with_status(object("BGPNodeOverride", "n1", json!({"asn": 65111, "routerID": "192.0.2.1"})), &conditions);
    with_status(object("BGPFilter", "f", json!({})), &conditions);
    with_status(object("BGPAdvertisement", "pods", json!({"advertised": [{"what": "Pods"}]})), &conditions);
    let session = json!({"node": "n1", "peer": "tor1a", "address": "192.0.2.1", "asn": 65101});
    let state = json!({
        "state": "Active", "since": "2026-01-01T00:00:00Z", "reason": "peer announced AS 65011, configured 65101",
        "received": 7, "accepted": 5, "refused": 2, "advertised": 3,
    });
    with_status(object("BGPSessionState", "n1.tor1a", session), &state);

    let rows: [(&str, &[&str], &[&str]); 6] = [
        (
            "bgpcc",
            &["NAME", "AS", "MESH", "PODS", "ACCEPTED", "READY", "REASON", "AGE"],
            &["all", "64512", "Enabled", "[\"10.244.0.0/16\"]", "True", "True", "InForce"],
        ),
        (
            "bgppc",
            &["NAME", "HOLD", "FAMILIES", "IMPORT", "EXPORT", "ACCEPTED", "READY", "REASON", "AGE"],
            &["tor", "9", "[\"ipv4\"]", "Declared", "Own", "True", "True", "InForce"],
        ),
        (
            "bgpno",
            &["NAME", "AS", "ROUTER ID", "ACCEPTED", "READY", "REASON", "AGE"],
            &["n1", "65111", "192.0.2.1", "True", "True", "InForce"],
        ),
        (
            "bgpf",
            &["NAME", "OTHERWISE", "ACCEPTED", "READY", "REASON", "AGE"],
            &["f", "Reject", "True", "True", "InForce"],
        ),
        ("bgpadv", &["NAME", "ACCEPTED", "READY", "REASON", "AGE"], &["pods", "True", "True", "InForce"]),
        (
            "bgpss",
            &["NAME", "NODE", "PEER", "AS", "STATE", "SINCE", "RX", "ACC", "REFUSED", "TX", "REASON"],
            &["n1.tor1a", "n1", "tor1a", "65101", "Active"],
        ),
    ];
    for (short, header, row) in rows {
        let shown = kubectl.run(&["get", short], "").expect("shown");
        println!("$ kubectl get {short}\n{shown}");
        let mut lines = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        assert_eq!(lines.next(), Some(header.join(" ")), "{shown}");
        assert!(lines.next().is_some_and(|line| line.starts_with(&row.join(" "))), "{shown}");
    }
    let shown = kubectl.run(&["get", "bgpss"], "").expect("shown");
    let line = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(line.ends_with("7 5 2 3 peer announced AS 65011, configured 65101"), "{shown}");
    let all = kubectl.run(&["get", "cambric", "-o", "name"], "").expect("shown");
    assert_eq!(all.lines().count(), 6, "the category shows all kinds: {all}");
}
