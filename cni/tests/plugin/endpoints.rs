//! The daemon is told which pods are wired.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Command;

use cambric_cni::endpoints;
use serde_json::json;

use crate::host::{Place, ip, on_a_host, until};

#[test]
fn pods_are_told_with_their_names_and_addresses_and_nothing_else_is() {
    on_a_host(|host| {
        assert_eq!(endpoints(&host.run_dir()).expect("told"), []);
        ip("link add cam0123456789ab type veth peer name other");
        let alias = ["link", "set", "cam0123456789ab", "alias", "default/forged eth0 a1 cambric"];
        assert!(Command::new("ip").args(alias).status().expect("ip runs").success());
        let (pod, added) = host.attached_pod("a1");
        let nameless = host.pod("b1");
        let only_ipv4 = json!([{"ipv4": "10.244.9.0/24"}]);
        let call = host.call("ADD", &nameless).set("CNI_ARGS", "").config("ranges", only_ipv4);
        let nameless_added = call.run().expect_success().addresses();

        let told = endpoints(&host.run_dir()).expect("told");
        assert_eq!(told.len(), 2, "{told:?}");
        let of = |name: String| told.iter().find(|told| told.interface == name).expect("told");
        let web = of(pod.host_ifname());
        assert_eq!(web.pod, Some(("default".to_owned(), "web".to_owned())));
        assert_eq!(web.addresses, added.addresses().into_iter().collect::<BTreeSet<IpAddr>>());
        assert_eq!(
            ip(&format!("-o link show {}", web.interface)).split(':').next(),
            Some(&*web.index.to_string())
        );
        let link_local = web.link_local;
        let has = move || ip("-6 -o addr show dev eth0 scope link").contains(&link_local.to_string());
        until("the pod's kernel to make its link-local address", || pod.run(has));
        let other = of(nameless.host_ifname());
        assert_eq!((&other.pod, other.addresses.len()), (&None, 1));
        assert!(nameless_added.iter().all(|address| other.addresses.contains(address)));

        host.call("DEL", &pod).run().expect_success();
        assert_eq!(endpoints(&host.run_dir()).expect("told").len(), 1);
    });
}

#[test]
fn a_pod_whose_name_is_longer_than_an_alias_is_told_by_its_whole_name() {
    on_a_host(|host| {
        let (namespace, name) = ("n".repeat(63), "p".repeat(253));
        let pod = host.pod(&"c".repeat(64));
        let words = format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}");
        host.call("ADD", &pod).set("CNI_ARGS", &words).run().expect_success();
        let told = || endpoints(&host.run_dir()).expect("told");
        assert_eq!(told()[0].pod, Some((namespace, name)));
        let kept = host.run_dir().join("names").join(pod.host_ifname());
        assert!(kept.exists());
        host.call("DEL", &pod).run().expect_success();
        assert!(told().is_empty() && !kept.exists());
        host.attached_pod("a1");
        assert_eq!(
            host.run_dir().join("names").read_dir().expect("folder").count(),
            0,
            "short names need none"
        );
    });
}
