//! The daemon is told which pods are wired.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::process::Command;

use cambric_cni::endpoints::{PodName, endpoints};
use serde_json::json;

use crate::host::{Place, ip, on_a_host, until};

fn known(namespace: &str, name: &str) -> PodName {
    PodName::Known { namespace: namespace.to_owned(), name: name.to_owned(), uid: None }
}

fn is_unknown(pod: &PodName, why: &str) -> bool {
    matches!(pod, PodName::Unknown(told) if told.contains(why))
}

#[test]
fn pods_are_told_with_their_names_and_addresses_and_nothing_else_is() {
    on_a_host(|host| {
        assert_eq!(endpoints(&host.run_dir()).expect("told"), []);
        ip("link add camera0 type veth peer name other");
        let (pod, added) = host.attached_pod("a1");
        let nameless = host.pod("b1");
        let only_ipv4 = json!([{"ipv4": "10.244.9.0/24"}]);
        let call = host.call("ADD", &nameless).set("CNI_ARGS", "").config("ranges", only_ipv4);
        let nameless_added = call.run().expect_success().addresses();

        let told = endpoints(&host.run_dir()).expect("told");
        assert_eq!(told.len(), 2, "{told:?}");
        let of = |name: String| told.iter().find(|told| told.interface == name).expect("told");
        let web = of(pod.host_ifname());
        assert_eq!(web.pod, known("default", "web"));
        assert_eq!(web.addresses, added.addresses().into_iter().collect::<BTreeSet<IpAddr>>());
        assert_eq!(
            ip(&format!("-o link show {}", web.interface)).split(':').next(),
            Some(&*web.index.to_string())
        );
        let link_local = web.link_local.expect("known");
        let has = move || ip("-6 -o addr show dev eth0 scope link").contains(&link_local.to_string());
        until("the pod's kernel to make its link-local address", || pod.run(has));
        let other = of(nameless.host_ifname());
        assert_eq!((&other.pod, other.addresses.len()), (&PodName::Nameless, 1));
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
        assert_eq!(told()[0].pod, known(&namespace, &name));
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

#[test]
fn a_pod_is_told_with_its_uid_which_goes_with_it() {
    on_a_host(|host| {
        let pod = host.pod("a1");
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=0fe1-22";
        let add = || host.call("ADD", &pod).set("CNI_ARGS", args).run();
        add().expect_success();
        let told = || endpoints(&host.run_dir()).expect("told").remove(0).pod;
        let with = |uid: Option<&str>| {
            let (namespace, name) = ("default".to_owned(), "web".to_owned());
            PodName::Known { namespace, name, uid: uid.map(str::to_owned) }
        };
        assert_eq!(told(), with(Some("0fe1-22")));
        let kept = host.run_dir().join("uids").join(pod.host_ifname());
        assert_eq!(fs::read_link(&kept).expect("kept"), std::path::Path::new("0fe1-22"));
        add().expect_error(100, "exists already");
        assert_eq!(told(), with(Some("0fe1-22")), "the same ADD again leaves it");

        fs::remove_file(&kept).expect("removed");
        assert_eq!(told(), with(None), "as earlier versions left it");
        fs::write(&kept, "0fe1-22").expect("written");
        assert!(is_unknown(&told(), "cannot be read"), "{:?}", told());
        host.call("DEL", &pod).run().expect_success();
        assert_eq!(kept.parent().expect("a folder").read_dir().expect("folder").count(), 0);
    });
}

#[test]
fn a_link_that_does_not_tell_whose_it_is_is_told_as_unknown() {
    on_a_host(|host| {
        let name = "cam0123456789ab";
        ip(&format!("link add {name} type veth peer name other"));
        let told = |why| {
            let told = endpoints(&host.run_dir()).expect("told");
            assert!(matches!(&told[..], [only] if only.interface == name), "{told:?}");
            assert!(is_unknown(&told[0].pod, why) && told[0].link_local.is_none(), "{told:?}");
        };
        told("no alias");
        for alias in ["default/forged eth0 a1 cambric", "uplink", "- eth0 a1 cambric"] {
            let set = ["link", "set", name, "alias", alias];
            assert!(Command::new("ip").args(set).status().expect("ip runs").success());
            told(alias);
        }
    });
}

#[test]
fn a_long_name_that_is_lost_is_not_taken_for_another_one() {
    on_a_host(|host| {
        // Cut behind the slash, cut before it, and what an alias cannot have.
        let names =
            [("n".repeat(63), "p".repeat(253)), ("n".repeat(200), "p".into()), ("é".into(), "p".into())];
        for (nth, (namespace, name)) in names.into_iter().enumerate() {
            let pod = host.pod(&format!("{}{nth}", "c".repeat(64)));
            let words = format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}");
            host.call("ADD", &pod).set("CNI_ARGS", &words).run().expect_success();
            let told = || endpoints(&host.run_dir()).expect("told").remove(0);
            assert_eq!(told().pod, known(&namespace, &name));
            let kept = host.run_dir().join("names").join(pod.host_ifname());
            let whole = fs::read_to_string(&kept).expect("kept");
            for (text, why) in [("", "another name"), ("default/web", "another name")] {
                fs::write(&kept, text).expect("written");
                assert!(is_unknown(&told().pod, why), "{text:?}: {:?}", told());
            }
            fs::remove_file(&kept).expect("removed");
            assert!(is_unknown(&told().pod, "No such file"), "{:?}", told());
            assert!(told().link_local.is_some() && told().addresses.len() == 2);
            fs::write(&kept, &whole).expect("written");
            assert_eq!(told().pod, known(&namespace, &name));
            host.call("DEL", &pod).run().expect_success();
        }
    });
}
