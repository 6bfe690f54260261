use super::*;

fn decode(text: &str) -> (Manifest, Vec<String>) {
    let manifest = Manifest::decode("a.yaml", text);
    let faults = manifest.faults.iter().map(|(fault, _)| fault.to_string()).collect();
    (manifest, faults)
}

fn ours(kind: &str, spec: &str) -> String {
    format!("apiVersion: cambric.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n")
}

#[test]
fn documents_of_one_file_are_told_apart_and_foreign_kinds_passed_over() {
    let (manifest, faults) = decode(
        "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nspec: {podCIDRs: [10.1.0.0/24]}\n---\n---\n\
             apiVersion: apps/v1\nkind: Deployment\nspec: {replicas: many}\n---\n\
             apiVersion: v1\nkind: List\nitems: []\n---\n\
             apiVersion: cambric.dev/v1alpha1\nkind: BGPPeerConfig\nmetadata: {name: tor}\nspec: {holdTimeSeconds: 9}\n",
    );
    assert_eq!(faults, Vec::<String>::new());
    let places: Vec<&str> = manifest.entries.iter().map(|entry| entry.place.as_str()).collect();
    assert_eq!(places, ["a.yaml, document 1: Node n1", "a.yaml, document 5: BGPPeerConfig tor"]);
}

#[test]
fn faults_name_place_and_field_and_the_rest_counts() {
    let (manifest, faults) = decode(&format!(
        "{}---\n{}---\nkind: Node\nmetadata: {{name: n1}}\n---\nhello\n---\n{}",
        ours("BGPPeerConfig", "{bdf: true}"),
        ours("BGPClusterConfg", "{}"),
        ours("BGPNodeOverride", "{asn: 65001}")
    ));
    assert_eq!(
        faults,
        [
            "a.yaml, document 1: BGPPeerConfig x: spec.bdf: unknown field `bdf`, expected one of \
                 `holdTimeSeconds`, `keepaliveSeconds`, `families`, `connect`, `import`, `export`, `maxPrefixes`, \
                 `maxPrefixesWarnPercent`, `filters`, `secret`, `ttlSecurity`, `multihop`, `bfd`, `gracefulRestart`, `localAS`, \
                 `asOverride`, `allowOwnAS`, `reflectorClient`, `addPath`, `localRole`, `strictRole`",
            "a.yaml, document 2: BGPClusterConfg x: cambric.dev/v1alpha1 has no such kind",
            "a.yaml, document 3: missing field `apiVersion`",
            "a.yaml, document 4: invalid type: string \"hello\", expected an object with apiVersion and kind",
        ]
    );
    assert_eq!(manifest.entries.len(), 1);
}

#[test]
fn decoding_errors_begin_with_the_path_of_the_field() {
    let peer =
        |fields: &str| ours("BGPNodeOverride", &format!("{{peers: [{{name: a}}, {{name: b, {fields}}}]}}"));
    for (text, says) in [
        (peer("asn: x").replace("name: a", "port: 1"), "spec.peers[0]: missing field `name`"),
        (
            peer("asn: x").replace("{name: a}, ", ""),
            "spec.peers[0].asn: invalid type: string \"x\", expected u32",
        ),
        (
            ours("BGPPeerConfig", "{import: Some}"),
            "spec.import: unknown variant `Some`, expected `Declared` or `All`",
        ),
        (
            ours("BGPPeerConfig", "{holdTimeSeconds: 70000}"),
            "spec.holdTimeSeconds: invalid value: integer `70000`",
        ),
        (
            ours("BGPPeerConfig", "{holdTimeSeconds: }"),
            "spec.holdTimeSeconds: null: give it a value or leave it out",
        ),
        (ours("BGPPeerConfig", ""), "spec: null: give it a value or leave it out"),
        (ours("BGPPeerConfig", "{}").replace("spec", "spek"), "spek: unknown field `spek`"),
        (ours("BGPPeerConfig", "{}").replace("spec: {}\n", ""), "missing field `spec`"),
    ] {
        let (_, faults) = decode(&text);
        let start = format!("x: {says}");
        assert!(faults.len() == 1 && faults[0].contains(&start), "{faults:?} should say {says}");
    }
}

#[test]
fn names_are_those_that_kubernetes_takes() {
    for bad in ["N1", "a_b", "-a", "a.", "''", "'a b'", "\"a\\e[2J\""] {
        let (_, faults) = decode(&ours("BGPNodeOverride", "{}").replace("name: x", &format!("name: {bad}")));
        assert!(faults.len() == 1 && faults[0].contains("metadata.name: "), "{bad}: {faults:?}");
        assert!(!faults[0].contains('\x1b'), "nothing of it steers a terminal");
    }
    assert_eq!(
        decode(&ours("BGPNodeOverride", "{}").replace("name: x", "name: rack-1.n1")).1,
        Vec::<String>::new()
    );
}

#[test]
fn another_version_of_our_group_is_a_fault() {
    for version in ["cambric.dev/v1", "cambric.dev/"] {
        let (_, faults) = decode(&ours("BGPPeerConfig", "{}").replace("cambric.dev/v1alpha1", version));
        let says = format!("apiVersion: \"{version}\": this version serves cambric.dev/v1alpha1");
        assert!(faults.len() == 1 && faults[0].ends_with(&says), "{faults:?}");
    }
}

#[test]
fn what_seems_to_be_meant_for_us_is_not_passed_over_for_a_typing_error() {
    let (node, peers) = (
        "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nspec: {podCIDRs: [10.1.0.0/24]}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.1}]}\n",
        ours("BGPNodeOverride", "{}"),
    );
    assert_eq!(decode(node).1, [""; 0]);
    for (good, old, new, says) in [
        (
            peers.as_str(),
            "cambric.dev/v1alpha1",
            "cambric.io/v1alpha1",
            "apiVersion: \"cambric.io/v1alpha1\": BGPNodeOverride is of cambric.dev/v1alpha1",
        ),
        (
            &peers,
            "cambric.dev/v1alpha1",
            "v1alpha1",
            "apiVersion: \"v1alpha1\": BGPNodeOverride is of cambric.dev/v1alpha1",
        ),
        (
            &peers,
            "cambric.dev/v1alpha1\nkind: BGPNodeOverride",
            "cambric.io/v1\nkind: BGPFilter",
            "apiVersion: \"cambric.io/v1\": BGPFilter is of",
        ),
        (&peers, "BGPNodeOverride", "bgpNodeOverride", "cambric.dev/v1alpha1 has no such kind"),
        (
            &peers,
            "metadata: {name: x}",
            "metadata: {name: x, lables: {}}",
            "metadata.lables: unknown field `lables`",
        ),
        (&peers, "spec: {}", "base: &a {asn: 1}\nspec: {<<: *a}", "spec.<<: merge keys are not served"),
        (node, "kind: Node", "kind: node", "apiVersion: \"v1\", kind: \"node\": a node is a Node of v1"),
        (
            node,
            "apiVersion: v1",
            "apiVersion: v1beta1",
            "apiVersion: \"v1beta1\", kind: \"Node\": a node is a Node of v1",
        ),
        (
            node,
            "podCIDRs",
            "podCIDRS",
            "spec.podCIDRS: unknown field `podCIDRS`, expected one of configSource,",
        ),
        (node, "podCIDRs", "podCidrs", "spec.podCidrs: unknown field `podCidrs`"),
        (node, "spec: {", "spek: {", "spek: unknown field `spek`, expected one of apiVersion, kind,"),
        (
            node,
            "type: InternalIP",
            "type: InternalIp",
            "status.addresses[0].type: \"InternalIp\": expected one of ExternalDNS,",
        ),
        (node, "address: 192", "adress: 192", "status.addresses[0].adress: unknown field `adress`"),
        (
            node,
            "spec: {podCIDRs: [10.1.0.0/24]}",
            "spec: {<<: {podCIDRs: [10.1.0.0/24]}}",
            "spec.<<: merge keys are not served",
        ),
        (POD, "kind: Pod", "kind: pod", "apiVersion: \"v1\", kind: \"pod\": a pod is a Pod of v1"),
        (POD, "apiVersion: v1", "apiVersion: core/v1", "kind: \"Pod\": a pod is a Pod of v1"),
        (POD, "status:", "stati:", "stati: unknown field `stati`, expected one of apiVersion, kind,"),
        (POD, "labels: {app: web}", "lables: {app: web}", "metadata.lables: unknown field `lables`"),
        (POD, "app: web", "app: 1", "metadata.labels.app: invalid type: integer `1`, expected a string"),
        (POD, "spec: {", "<<: {a: 1}\nspec: {", "<<: merge keys are not served"),
        (POD, "namespace: prod", "namespace: a.b", "Pod web: metadata.namespace: \"a.b\": small letters"),
        (NAMESPACE, "kind: Namespace", "kind: NameSpace", "a namespace is a Namespace of v1"),
        (NAMESPACE, "name: prod", "name: prod.eu", "metadata.name: \"prod.eu\": small letters, digits and"),
        (NAMESPACE, "team: a", "team: [a]", "metadata.labels.team: invalid type: sequence"),
        (
            POLICY,
            "networking.k8s.io/v1",
            "extensions/v1beta1",
            "apiVersion: \"extensions/v1beta1\", kind: \"NetworkPolicy\": a policy is a NetworkPolicy of networking.k8s.io/v1",
        ),
        (POLICY, "networking.k8s.io/v1", "v1", "a policy is a NetworkPolicy of networking.k8s.io/v1"),
        (POLICY, "networking.k8s.io/v1", "networking.k8s.io", "a policy is a NetworkPolicy of"),
        (POLICY, "NetworkPolicy", "networkPolicy", "a policy is a NetworkPolicy of networking.k8s.io/v1"),
        (POLICY, "{name: deny}", "{name: deny, namspace: prod}", "metadata.namspace: unknown field"),
        (POLICY, "{name: deny}", "{<<: {namespace: prod}, name: deny}", "metadata.<<: unknown field"),
        (POLICY, "name: deny", "nam: deny", "NetworkPolicy: metadata.name is missing"),
    ] {
        assert!(good.contains(old), "{old}");
        let (manifest, faults) = decode(&good.replace(old, new));
        assert!(faults.len() == 1 && faults[0].contains(says), "{faults:?} should say {says}");
        assert!(manifest.hides_something() && manifest.entries.is_empty(), "{new}");
    }
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: prod, labels: {app: web}}\n\
        spec: {containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}\n\
        status: {phase: Running, podIP: 10.1.0.7, podIPs: [{ip: 10.1.0.7}, {ip: 'fd00::7'}]}\n";
const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: prod, labels: {team: a}}\n";
const POLICY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny}\n\
        spec: {podSelector: {}, policyTypes: [Ingress]}\n";

#[test]
fn objects_in_a_namespace_are_called_by_it() {
    let (manifest, faults) = decode(&[POD, NAMESPACE, POLICY].join("---\n"));
    assert_eq!(faults, [""; 0]);
    let places: Vec<&str> = manifest.entries.iter().map(|entry| entry.place.as_str()).collect();
    assert_eq!(
        places,
        [
            "a.yaml, document 1: Pod prod/web",
            "a.yaml, document 2: Namespace prod",
            "a.yaml, document 3: NetworkPolicy default/deny",
        ]
    );
}

#[test]
fn an_address_of_a_pod_that_is_none_is_left_out() {
    let (manifest, faults) = decode(&POD.replace("'fd00::7'", "'fd00::g'"));
    let place = "a.yaml, document 1: Pod prod/web";
    assert_eq!(faults, [format!("{place}: status.podIPs[1].ip: \"fd00::g\": not an IP address")]);
    assert_eq!((manifest.entries.len(), manifest.hides_something()), (1, false));
}

#[test]
fn status_of_a_pod_is_not_written_by_people_and_what_is_not_known_of_it_is_passed_over() {
    for (old, new, faults) in [
        ("phase: Running", "phase: Dreaming, colour: red, <<: {a: 1}", 0),
        ("phase: Running", "phase: Running, conditions: 7, startTime: soon", 0),
        ("{ip: 10.1.0.7}", "{ip: 10.1.0.7, family: IPv4}", 0),
        ("podIP: 10.1.0.7", "podIP: 10.1.0.700", 1),
        ("{ip: 10.1.0.7}", "{ip: 7}", 1),
        ("podIP: 10.1.0.7", "podIP: [10.1.0.7]", 1),
    ] {
        assert!(POD.contains(old), "{old}");
        let (manifest, told) = decode(&POD.replace(old, new));
        assert_eq!((manifest.entries.len(), manifest.hides_something()), (1, false), "{new}: {told:?}");
        assert_eq!(told.len(), faults, "{new}: {told:?}");
    }
}

#[test]
fn what_policies_are_made_of_is_not_worth_the_sessions() {
    let lists = ["PodList", "NamespaceList", "NetworkPolicyList"].map(|kind| {
        let version = if kind == "NetworkPolicyList" { "networking.k8s.io/v1" } else { "v1" };
        format!("apiVersion: {version}\nkind: {kind}\nitems: [{{}}]\n")
    });
    let list = |items: &str| format!("apiVersion: v1\nkind: List\nitems: [{items}]\n");
    for text in lists.into_iter().chain([
        list("{kind: Pod}, {kind: NetworkPolicy}"),
        POD.replace("name: web", "name: [web]"),
        POD.replace("kind: Pod", "kind: pod"),
        POLICY.replace("networking.k8s.io/v1", "extensions/v1beta1"),
        NAMESPACE.replace("team: a", "team: [a]"),
    ]) {
        let (manifest, faults) = decode(&text);
        assert_eq!(faults.len(), 1, "{text}: {faults:?}");
        let hides = [Kind::Pod, Kind::NetworkPolicy, Kind::Node, Kind::BGPNodeOverride]
            .map(|kind| manifest.hides(kind));
        assert_eq!((hides, manifest.hides_all()), ([true, true, false, false], false), "{text}");
    }
    for text in [list("{kind: Pod}, {kind: Node}"), ours("Pod", "{}"), "kind: 7\n".to_owned()] {
        assert!(decode(&text).0.hides_all(), "{text}");
    }
}

#[test]
fn kinds_of_others_are_no_business_of_ours() {
    for head in [
        "apiVersion: crd.projectcalico.org/v1\nkind: BGPFilter",
        "apiVersion: metallb.io/v1beta1\nkind: BGPAdvertisement",
        "apiVersion: config.openshift.io/v1\nkind: Node",
        "apiVersion: cilium.io/v2\nkind: CiliumBGPPeerConfig",
        "apiVersion: crd.projectcalico.org/v1\nkind: NetworkPolicy",
        "apiVersion: apps.openshift.io/v1\nkind: Pod",
    ] {
        assert_eq!(decode(&format!("{head}\nspec: {{<<: {{a: 1}}}}\n")).1, [""; 0], "{head}");
    }
}

/// 4 MiB of brackets would keep the parser busy for hours.
#[test]
fn brackets_are_not_nested_without_end() {
    let (manifest, faults) = decode(&"[".repeat(1 << 20));
    assert_eq!(faults, ["a.yaml: more than 1000 brackets are open at once"]);
    assert!(manifest.hides_something());
    let balanced = format!("{}---\n# {}\n", ours("BGPPeerConfig", "{}"), "[] {}".repeat(10_000));
    assert_eq!(decode(&balanced).1, [""; 0]);
}

#[test]
fn a_kind_to_come_is_refused_and_is_no_fault() {
    let admin =
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: x}\n";
    let (manifest, faults) = decode(admin);
    assert_eq!((faults, manifest.hides_something()), (Vec::new(), false));
    let says = "a.yaml, document 1: ClusterNetworkPolicy x: NotImplemented: this version enforces no policies of this kind";
    assert_eq!(manifest.notices[0].to_string(), says);
}

#[test]
fn a_list_with_items_is_not_passed_over_in_silence() {
    let (_, faults) = decode("apiVersion: v1\nkind: List\nitems: [{kind: Node}]\n");
    assert_eq!(faults, ["a.yaml, document 1: List: its items must be documents of their own"]);
    for (version, kind) in
        [("v1", "PodList"), ("v1", "NamespaceList"), ("networking.k8s.io/v1", "NetworkPolicyList")]
    {
        let (_, faults) = decode(&format!("apiVersion: {version}\nkind: {kind}\nitems: [{{}}]\n"));
        let says = format!("a.yaml, document 1: {kind}: its items must be documents of their own");
        assert_eq!(faults, [says]);
    }
}

#[test]
fn a_file_without_documents_is_told_apart_from_one_with_foreign_ones() {
    assert!(decode("").0.is_empty && decode("# nothing\n---\n").0.is_empty);
    assert!(!decode("apiVersion: v1\nkind: Pod\n").0.is_empty);
}

#[test]
fn faults_name_object_and_reason_for_conditions() {
    let text = [ours("BGPPeerConfig", "{holdTimeSeconds: 2}"), "kind: [".to_owned()];
    let manifest = decode(&text.join("---\n")).0;
    let of = |kind| Some(ObjectRef { kind, name: "x".to_owned() });
    let told = manifest.faults.iter().map(|(fault, _)| fault).chain(&manifest.notices);
    let told: Vec<_> =
        told.map(|problem| (problem.of.as_deref().cloned(), problem.reason.as_str())).collect();
    assert_eq!(told, [(of(Kind::BGPPeerConfig), "Invalid"), (None, "Unreadable")]);
}
