//! A real kubectl against the double: what it shows and what it says when it is refused.
//!
//! Debian's is 1.20, others are younger: both are served. Without kubectl the tests say so; with `CI=true` they fail.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use cambric_apiserver_double::{ApiServer, Certificates, Listener};
use serde_json::json;
use tempfile::TempDir;

struct Kubectl {
    server: ApiServer,
    _listener: Listener,
    folder: TempDir,
    program: String,
}

/// A server with the definitions of this project, and a kubectl for it.
fn kubectl() -> Option<Kubectl> {
    let program = std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
    if Command::new(&program).args(["version", "--client"]).output().is_err() {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "kubectl is missing: deploy/tools.sh test installs it"
        );
        eprintln!("skipped: there is no kubectl (deploy/tools.sh test installs it)");
        return None;
    }
    let server = ApiServer::new();
    for entry in
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/crds")).expect("definitions")
    {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a definition");
        server.install(&text);
    }
    // kubectl keeps its token to itself without TLS.
    let certificates = Certificates::make(&["127.0.0.1"]).expect("an authority");
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listener = server.listen_tls(socket, &certificates).expect("it listens");
    let folder = TempDir::new().expect("a folder");
    std::fs::write(folder.path().join("kubeconfig"), listener.kubeconfig("admin")).expect("a file");
    std::fs::write(folder.path().join("limited"), listener.kubeconfig("cambric")).expect("a file");
    Some(Kubectl { server, _listener: listener, folder, program })
}

impl Kubectl {
    fn command(&self, config: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("KUBECONFIG", self.folder.path().join(config))
            .env("HOME", self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, config: &str, arguments: &[&str], input: &str) -> Output {
        let mut child = self.command(config, arguments).spawn().expect("kubectl starts");
        child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it reads");
        child.wait_with_output().expect("it ends")
    }

    /// What it prints when all goes well.
    fn ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run("kubeconfig", arguments, input);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What it says when it is refused.
    fn refused(&self, config: &str, arguments: &[&str], input: &str) -> String {
        let output = self.run(config, arguments, input);
        assert!(!output.status.success(), "kubectl {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn put_node(&self) {
        self.server.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": {"podCIDR": "10.244.1.0/24"},
            "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ok",
                "lastHeartbeatTime": "2026-11-21T22:00:00Z", "lastTransitionTime": "2026-11-21T22:00:00Z"}],
                "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
                "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian", "kernelVersion": "6.18", "containerRuntimeVersion": "containerd://2.0",
                    "machineID": "", "systemUUID": "", "bootID": "", "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64"}}}));
    }
}

/// The words of a line of a table.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

const CONFIG: &str = r"
apiVersion: cambric.dev/v1alpha1
kind: BGPClusterConfig
metadata: {name: all}
spec: {asn: 64512}
";

#[test]
fn nodes_are_shown_described_labelled_patched_and_deleted() {
    let Some(kubectl) = kubectl() else { return };
    kubectl.put_node();
    let wide = kubectl.ok(&["get", "nodes", "-o", "wide"], "");
    let lines: Vec<&str> = wide.lines().collect();
    assert!(lines[0].starts_with("NAME") && lines[0].contains("INTERNAL-IP"), "{wide}");
    let row = words(lines[1]);
    assert_eq!([row[0], row[1], row[4], row[5]], ["n1", "Ready", "v1.36.0", "192.0.2.1"], "{wide}");
    let told = kubectl.ok(&["describe", "node", "n1"], "");
    assert!(
        told.contains("PodCIDR:") && told.contains("10.244.1.0/24") && told.contains("KubeletReady"),
        "{told}"
    );
    kubectl.ok(&["label", "no", "n1", "rack=r1"], "");
    kubectl.ok(
        &[
            "patch",
            "node",
            "n1",
            "-p",
            r#"{"spec":{"taints":[{"key":"cambric.dev/not-ready","effect":"NoSchedule"}]}}"#,
        ],
        "",
    );
    let node = kubectl.server.get("v1", "Node", "", "n1").expect("it is there");
    assert_eq!(
        (&node["metadata"]["labels"]["rack"], &node["spec"]["taints"][0]["key"]),
        (&json!("r1"), &json!("cambric.dev/not-ready"))
    );
    kubectl.ok(&["taint", "node", "n1", "cambric.dev/not-ready-"], "");
    kubectl.ok(&["delete", "node", "n1"], "");
    assert_eq!(kubectl.server.get("v1", "Node", "", "n1"), None);
    let gone = kubectl.refused("kubeconfig", &["get", "node", "n1"], "");
    assert!(gone.contains("Error from server (NotFound): nodes \"n1\" not found"), "{gone}");
}

#[test]
fn pods_are_shown_where_they_are_and_events_as_told() {
    let Some(kubectl) = kubectl() else { return };
    let pod = kubectl.server.put(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Running", "podIP": "10.244.1.7", "containerStatuses": [{"name": "c", "ready": true, "restartCount": 0, "image": "i", "imageID": "", "state": {"running": {}}}]}}));
    kubectl.server.put(json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "web.1", "namespace": "default"}, "type": "Warning", "reason": "SessionDown",
        "message": "hold timer expired", "involvedObject": {"kind": "Pod", "name": "web", "namespace": "default", "uid": pod["metadata"]["uid"]}, "lastTimestamp": "2026-01-01T00:00:00Z"}));
    let wide = kubectl.ok(&["get", "po", "-o", "wide"], "");
    let row = words(wide.lines().nth(1).expect("a row"));
    assert_eq!(
        [row[0], row[1], row[2], row[5], row[6]],
        ["web", "1/1", "Running", "10.244.1.7", "n1"],
        "{wide}"
    );
    let events = kubectl.ok(&["get", "events"], "");
    assert!(
        events.starts_with("LAST SEEN")
            && events.contains("pod/web")
            && events.contains("hold timer expired"),
        "{events}"
    );
    let told = kubectl.ok(&["describe", "pod", "web"], "");
    assert!(told.contains("SessionDown"), "{told}");
}

#[test]
fn our_kinds_have_short_names_categories_and_columns() {
    let Some(kubectl) = kubectl() else { return };
    let applied = kubectl.ok(&["apply", "-f", "-"], CONFIG);
    assert!(applied.contains("bgpclusterconfig.cambric.dev/all created"), "{applied}");
    let unchanged = kubectl.ok(&["apply", "-f", "-"], CONFIG);
    assert!(unchanged.contains("unchanged"), "{unchanged}");
    let short = kubectl.ok(&["get", "bgpcc"], "");
    let lines: Vec<&str> = short.lines().collect();
    assert_eq!(words(lines[0])[..2], ["NAME", "AS"], "{short}");
    assert_eq!(words(lines[1])[..2], ["all", "64512"], "{short}");
    let category = kubectl.ok(&["get", "cambric"], "");
    assert!(category.contains("all"), "{category}");
    let changed = kubectl.ok(&["apply", "-f", "-"], &CONFIG.replace("64512", "64513"));
    assert!(changed.contains("configured"), "{changed}");
    let stored =
        kubectl.server.get("cambric.dev/v1alpha1", "BGPClusterConfig", "", "all").expect("it is there");
    assert_eq!((&stored["spec"]["asn"], &stored["metadata"]["generation"]), (&json!(64513), &json!(2)));
    let names = kubectl.ok(&["api-resources", "--api-group", "cambric.dev", "-o", "name"], "");
    assert!(names.contains("bgpclusterconfigs.cambric.dev"), "{names}");
}

#[test]
fn a_change_is_seen_by_a_watch() {
    let Some(kubectl) = kubectl() else { return };
    kubectl.put_node();
    let mut watch = kubectl.command("kubeconfig", &["get", "nodes", "-w"]).spawn().expect("kubectl starts");
    let mut lines =
        BufReader::new(watch.stdout.take().expect("its output")).lines().map(|line| line.expect("a line"));
    assert!(lines.next().expect("headings").starts_with("NAME"));
    assert!(words(&lines.next().expect("a row")).contains(&"Ready"));
    let mut node = kubectl.server.get("v1", "Node", "", "n1").expect("it is there");
    node["status"]["conditions"][0]["status"] = json!("False");
    kubectl.server.put(node);
    let changed = lines.next().expect("another row");
    watch.kill().expect("it runs");
    watch.wait().expect("it ends");
    assert!(words(&changed).contains(&"NotReady"), "{changed}");
}

#[test]
fn refusals_are_told_in_the_words_of_the_server() {
    let Some(kubectl) = kubectl() else { return };
    let invalid = kubectl.refused("kubeconfig", &["apply", "-f", "-"], &CONFIG.replace("64512", "0"));
    assert!(invalid.contains("\"all\" is invalid: spec.asn: Invalid value: 0: spec.asn in body should be greater than or equal to 1"), "{invalid}");
    let rule = CONFIG.replace("{asn: 64512}", "{asn: 64512, podCIDRs: [10.0.0.1/8]}");
    let refused = kubectl.refused("kubeconfig", &["apply", "-f", "-"], &rule);
    assert!(refused.contains("spec.podCIDRs[0]: Invalid value: \"string\": "), "{refused}");

    let server_side = ["apply", "--server-side", "--field-manager=one", "-f", "-"];
    kubectl.ok(&server_side, CONFIG);
    let other = ["apply", "--server-side", "--field-manager=two", "-f", "-"];
    let conflict = kubectl.refused("kubeconfig", &other, &CONFIG.replace("64512", "64513"));
    assert!(
        conflict.contains("Apply failed with 1 conflict: conflict with \"one\": .spec.asn"),
        "{conflict}"
    );

    kubectl.server.authorize(
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: r}, rules: [{apiGroups: [\"\"], resources: [pods], verbs: [list]}]}",
    );
    let forbidden = kubectl.refused("limited", &["get", "nodes"], "");
    assert!(
        forbidden.contains("Error from server (Forbidden): nodes is forbidden: User \"")
            && forbidden.contains("cannot list resource \"nodes\" in API group \"\" at the cluster scope"),
        "{forbidden}"
    );

    let definition = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.org}
spec:
  group: example.org
  scope: Cluster
  names: {kind: Thing, plural: things, singular: thing, listKind: ThingList}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties: {spec: {type: object, properties: {a: {type: integer}}, x-kubernetes-validations: [{rule: "self.a > 0", message: must be positive}]}}
"#;
    let wrong =
        kubectl.refused("kubeconfig", &["apply", "-f", "-"], &definition.replace("self.a > 0", "self.b >"));
    assert!(
        wrong.contains("x-kubernetes-validations[0].rule") && wrong.contains("compilation failed"),
        "{wrong}"
    );
    kubectl.ok(&["apply", "-f", "-"], definition);
    let thing = "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: t}\nspec: {a: 0}";
    let refused = kubectl.refused("kubeconfig", &["create", "-f", "-"], thing);
    assert!(refused.contains("spec: Invalid value: \"object\": must be positive"), "{refused}");
    kubectl.ok(&["create", "-f", "-"], &thing.replace("a: 0", "a: 1"));
}
