use cambric_bgp::Originated;

use super::*;
use crate::host::Host;
use crate::intent::{Intent, intent_with_services};
use crate::source::folder::Folder;
use crate::view::View;

const FABRIC: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
spec: {podCIDRs: [10.244.2.0/24]}
status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}
---
apiVersion: cambric.dev/v1alpha1
kind: BGPClusterConfig
metadata: {name: all}
spec: {mesh: Disabled, podCIDRs: [10.244.0.0/16], serviceCIDRs: [10.96.0.0/16, 198.51.100.0/24, 'fd00:96::/64']}
";

fn service(name: &str, spec: &str, ingress: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec: {spec}\n\
         status: {{loadBalancer: {{ingress: [{ingress}]}}}}\n"
    )
}

fn slice(service: &str, endpoint: &str) -> String {
    slice_of("IPv4", service, endpoint)
}

fn slice_of(address_type: &str, service: &str, endpoint: &str) -> String {
    let name = format!("{service}-{}", address_type.to_lowercase());
    let address = if address_type == "IPv6" { "'fd00:244:1::9'" } else { "10.244.1.9" };
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: {address_type}\n\
         metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {service}}}}}\n\
         endpoints: [{{addresses: [{address}], {endpoint}}}]\n"
    )
}

fn advertisement(entry: &str) -> String {
    format!(
        "---\napiVersion: cambric.dev/v1alpha1\nkind: BGPAdvertisement\nmetadata: {{name: a}}\n\
         spec: {{advertised: [{entry}]}}\n"
    )
}

const ALL: &str = "{what: Services, serviceAddresses: [ClusterIP, ExternalIP, LoadBalancerIP]}";

fn view(more: &[String]) -> View {
    let folder = tempfile::tempdir().expect("temporary folder");
    std::fs::write(folder.path().join("all.yaml"), format!("{FABRIC}{}", more.concat())).expect("own folder");
    Folder::new(folder.path().to_owned(), "n1").view()
}

fn intent_at(node: &str, view: &View) -> Intent {
    let served = Answers::at(node).follow(&view.services.services, &view.services.slices);
    intent_with_services(&view.fabric, &served, node, &Host::default(), None).expect("node is known")
}

fn services(intent: &Intent) -> Vec<String> {
    let is_service = |own: &Originated| own.source == cambric_bgp::Source::Services;
    let own = intent.wanted.originated.iter().filter(|(_, own)| is_service(own));
    own.map(|(prefix, _)| prefix.to_string()).collect()
}

fn words(intent: &Intent) -> Vec<String> {
    intent.problems.iter().map(Problem::to_string).collect()
}

#[test]
fn addresses_of_the_sorts_that_are_named_are_host_routes_and_nothing_is_one_unless_it_is_named() {
    let web = service(
        "web",
        "{clusterIPs: [10.96.0.10, 'fd00:96::10'], externalIPs: [198.51.100.7]}",
        "{ip: 198.51.100.20}",
    );
    let headless = service("headless", "{clusterIP: None, clusterIPs: [None]}", "");
    let of = |entry: &str| {
        let entry = if entry.is_empty() { String::new() } else { advertisement(entry) };
        let intent = intent_at("n1", &view(&[web.clone(), headless.clone(), entry]));
        assert_eq!(words(&intent), [""; 0]);
        services(&intent)
    };
    assert_eq!(of(""), [""; 0]);
    assert_eq!(of(ALL), ["10.96.0.10/32", "198.51.100.7/32", "198.51.100.20/32", "fd00:96::10/128"]);
    assert_eq!(of("{what: Services, serviceAddresses: [LoadBalancerIP]}"), ["198.51.100.20/32"]);
    assert_eq!(of("{what: Services, serviceAddresses: [ExternalIP], serviceLabels: {app: db}}"), [""; 0]);
    assert_eq!(
        of("{what: Services, serviceAddresses: [ExternalIP], serviceLabels: {app: web}}"),
        ["198.51.100.7/32"]
    );
}

#[test]
fn a_local_service_is_announced_by_nodes_with_an_endpoint_that_is_ready_and_serves() {
    let local = "{clusterIPs: [10.96.0.10], externalIPs: [198.51.100.7], externalTrafficPolicy: Local}";
    let both = "{clusterIPs: [10.96.0.10], internalTrafficPolicy: Local}";
    let table = [
        (local, "nodeName: n1", vec!["10.96.0.10/32", "198.51.100.7/32"], vec!["10.96.0.10/32"]),
        (local, "nodeName: n1, conditions: {ready: false}", vec!["10.96.0.10/32"], vec!["10.96.0.10/32"]),
        (
            local,
            "nodeName: n1, conditions: {ready: true, serving: false}",
            vec!["10.96.0.10/32"],
            vec!["10.96.0.10/32"],
        ),
        (both, "nodeName: n2", vec![], vec!["10.96.0.10/32"]),
    ];
    for (spec, endpoint, at_n1, at_n2) in table {
        let view = view(&[service("web", spec, ""), slice("web", endpoint), advertisement(ALL)]);
        assert_eq!(services(&intent_at("n1", &view)), at_n1, "{endpoint}");
        assert_eq!(services(&intent_at("n2", &view)), at_n2, "{endpoint}");
    }
}

/// kube-proxy drops what comes for an address of a family that nobody at the node answers in.
#[test]
fn a_local_service_is_announced_in_the_families_that_it_is_answered_in() {
    let web = service(
        "web",
        "{clusterIPs: [10.96.0.10, 'fd00:96::10'], internalTrafficPolicy: Local, externalTrafficPolicy: Local}",
        "{ip: 198.51.100.20}, {ip: 'fd00:96::20'}",
    );
    let (v4, v6) = (["10.96.0.10/32", "198.51.100.20/32"], ["fd00:96::10/128", "fd00:96::20/128"]);
    let (here, away) = ("nodeName: n1", "nodeName: n1, conditions: {ready: false}");
    for (of_v4, of_v6, announced) in [
        (here, away, v4.to_vec()),
        (away, here, v6.to_vec()),
        (here, here, [v4, v6].concat()),
        (away, away, Vec::new()),
    ] {
        let slices = [slice_of("IPv4", "web", of_v4), slice_of("IPv6", "web", of_v6)];
        let view = view(&[&[web.clone(), advertisement(ALL)], &slices[..]].concat());
        assert_eq!(services(&intent_at("n1", &view)), announced, "{of_v4}, {of_v6}");
    }
    let names = view(&[web, advertisement(ALL), slice_of("FQDN", "web", here)]);
    assert_eq!(services(&intent_at("n1", &names)), [""; 0]);
}

#[test]
fn answers_follow_the_slices_and_are_the_same_while_others_change() {
    let mut answers = Answers::at("n1");
    let mut slices = Shared::default();
    let services = Shared::default();
    let key = |name: &str| Key::new("default", name);
    let at = |nodes: &[&str]| {
        let nodes = nodes.iter().map(|node| (*node).into()).collect();
        Arc::new(EndpointSlice { service: "web".into(), address_type: AddressType::Ipv4, nodes })
    };
    let web = || [(key("web"), Family::Ipv4)].into();
    slices.insert(key("web-1"), at(&["n1"]));
    slices.insert(key("web-2"), at(&["n1", "n2"]));
    let both = answers.follow(&services, &slices);
    assert_eq!(*both.answered, web());
    slices.remove(&key("web-1"));
    slices.insert(key("web-3"), at(&["n2"]));
    assert!(Arc::ptr_eq(&both.answered, &answers.follow(&services, &slices).answered));
    slices.insert(key("web-2"), at(&["n2"]));
    assert!(answers.follow(&services, &slices).answered.is_empty());
    slices.insert(key("web-3"), at(&["n1", "n2"]));
    assert_eq!(*answers.follow(&services, &slices).answered, web());
    assert!(answers.follow(&services, &Shared::default()).answered.is_empty());
    let unsaid = EndpointSlice { address_type: AddressType::Unsaid, ..EndpointSlice::clone(&at(&["n1"])) };
    slices.insert(key("web-1"), Arc::new(unsaid));
    assert_eq!(answers.follow(&services, &slices).answered.len(), 2, "either, for want of knowledge");
}

/// Who may write a Service must not be able to take what is another's.
#[test]
fn addresses_that_are_no_services_are_refused_with_service_and_address() {
    let table = [
        ("192.0.2.2", "Conflicted: an address of Node n2"),
        ("10.244.2.9", "in the range 10.244.0.0/16 of pods"),
        ("10.244.77.1", "in the range 10.244.0.0/16 of pods"),
        ("127.0.0.1", "such addresses are never routed"),
        ("169.254.1.1", "such addresses are never routed"),
        ("224.0.0.1", "such addresses are never routed"),
        ("010.0.0.1", "not an IP address"),
    ];
    for (address, why) in table {
        let web = service("web", &format!("{{externalIPs: ['{address}', 198.51.100.1]}}"), "");
        let intent = intent_at("n1", &view(&[web, advertisement(ALL)]));
        let says = format!("Service default/web: spec.externalIPs[0]: {address}: {why}; it is not announced");
        assert_eq!((words(&intent), services(&intent)), (vec![says], vec!["198.51.100.1/32".to_owned()]));
    }
}

/// Each of those would be a line in the log of every node, and an Event.
#[test]
fn of_many_refused_addresses_some_are_named_and_how_many_there_are_is_no_other_problem() {
    let web =
        |number: u8| service(&format!("web{number}"), &format!("{{externalIPs: [127.0.0.{number}]}}"), "");
    let of = |numbers: std::ops::RangeInclusive<u8>| {
        let many: Vec<String> = numbers.map(web).chain([advertisement(ALL)]).collect();
        words(&intent_at("n1", &view(&many)))
    };
    assert_eq!(of(11..=20).len(), MOST_NAMED);
    let words = of(11..=40);
    assert_eq!(words.len(), MOST_NAMED + 1);
    let says = "Services: more than 10 addresses are refused; not all of them are named";
    assert!(words.iter().any(|word| word == says), "{words:?}");
    assert_eq!(words, of(11..=41));
}

#[test]
fn an_address_outside_of_all_declared_ranges_is_announced_and_told_once() {
    let web =
        |number: u8| service(&format!("web{number}"), &format!("{{externalIPs: [203.0.113.{number}]}}"), "");
    let intent = intent_at("n1", &view(&[web(1), web(2), advertisement(ALL)]));
    assert_eq!(services(&intent), ["203.0.113.1/32", "203.0.113.2/32"]);
    let says = "all.yaml, document 6: BGPAdvertisement a: spec.advertised[0]: addresses of services in none of the ranges of \
                serviceCIDRs: other nodes take no route to them, such as 203.0.113.1 of Service default/web1";
    assert_eq!(words(&intent), [says]);
}

/// The place of the advertisement is the same in all of these.
#[test]
fn services_and_endpoints_that_come_and_go_are_no_new_problem() {
    let web = |number: u8| {
        let spec = format!("{{externalIPs: [203.0.113.{number}], externalTrafficPolicy: Local}}");
        service(&format!("web{number}"), &spec, "")
    };
    let mut problems = crate::problems::Problems::default();
    let mut new = |more: &[String]| {
        let intent = intent_at("n1", &view(&[&[advertisement(ALL)], more].concat()));
        problems.set(crate::problems::Origin::Objects, intent.problems).len()
    };
    assert_eq!(new(&[web(2)]), 1);
    for more in [
        vec![web(2), slice("web2", "nodeName: n1")],
        vec![web(2), web(3)],
        vec![web(1), web(2), web(3), slice("web1", "nodeName: n1")],
        vec![web(3)],
    ] {
        assert_eq!(new(&more), 0, "{more:?}");
    }
}

/// As MetalLB shares one (`metallb.io/allow-shared-ip`).
#[test]
fn one_address_of_two_services_is_announced_while_either_is() {
    let shared = |name: &str| service(name, "{externalTrafficPolicy: Local}", "{ip: 198.51.100.20}");
    let of = |more: &[String]| {
        services(&intent_at(
            "n1",
            &view(&[&[shared("tcp"), shared("udp"), advertisement(ALL)], more].concat()),
        ))
    };
    assert_eq!(of(&[slice("tcp", "nodeName: n1"), slice("udp", "nodeName: n2")]), ["198.51.100.20/32"]);
    assert_eq!(of(&[slice("tcp", "nodeName: n2"), slice("udp", "nodeName: n2")]), [""; 0]);
}

#[test]
fn a_service_that_cannot_be_read_costs_itself_alone() {
    let bad =
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {externalIPs: 7}\n".to_owned();
    let odd = service("odd", "{externalIPs: [198.51.100.9], externalTrafficPolicy: local}", "");
    let typo =
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: typo}\nspec: {externalIps: []}\n".to_owned();
    let good = service("good", "{externalIPs: [198.51.100.8]}", "");
    let view = view(&[bad, odd, typo, good, advertisement(ALL)]);
    assert_eq!(view.fabric.unknown, [], "nobody waits for it");
    assert!(services(&intent_at("n1", &view)).contains(&"198.51.100.8/32".to_owned()));
    let words = words(&intent_at("n1", &view));
    assert_eq!(words.len(), 3, "{words:?}");
    assert!(
        words.iter().any(|word| word.contains("externalTrafficPolicy: \"local\": Cluster or Local")),
        "{words:?}"
    );
    assert!(words.iter().any(|word| word.contains("spec.externalIps: unknown field")), "{words:?}");
}
