//! The plugin called by the name `loopback`, beside Debian's where that is installed.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use cambric_cni::requests;
use serde_json::{Value, json};

use crate::host::{Call, Host, Place, Pod, ip, on_a_host};

/// Where Debian's containernetworking-plugins has the reference plugin.
const REFERENCE: &str = "/usr/lib/cni/loopback";

/// A link to our binary, as `cambric install` makes it.
fn ours(host: &Host) -> PathBuf {
    let link = host.run_dir().with_file_name("loopback");
    if !link.is_symlink() {
        symlink(env!("CARGO_BIN_EXE_cambric-cni"), &link).expect("link");
    }
    link
}

/// As containerd calls it.
fn call(host: &Host, command: &str, pod: &Pod) -> Call {
    let config = json!({"cniVersion": "0.3.1", "name": "cni-loopback", "type": "loopback"});
    host.call(command, pod).binary(&ours(host)).set("CNI_IFNAME", "lo").stdin(config)
}

/// A sandbox as runtimes make it: with `lo` down.
fn fresh_pod(host: &Host, id: &str) -> Pod {
    let pod = host.pod(id);
    pod.run(|| ip("link set lo down"));
    pod
}

fn is_up(pod: &Pod) -> bool {
    pod.run(|| ip("link show lo")).contains("LOOPBACK,UP")
}

fn told(pod: &Pod, version: &str) -> Value {
    json!({
        "cniVersion": version,
        "interfaces": [{"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": pod.netns}],
        "ips": [{"address": "127.0.0.1/8", "interface": 0}, {"address": "::1/128", "interface": 0}],
        "dns": {},
    })
}

#[test]
fn lo_goes_up_with_add_and_down_with_del_whatever_the_interface_is_called() {
    on_a_host(|host| {
        let pod = fresh_pod(host, "a1");
        let config = json!({"cniVersion": "1.0.0", "name": "cni-loopback", "type": "loopback"});
        let call = |command| call(host, command, &pod).set("CNI_IFNAME", "eth7").stdin(&config);
        for _ in 0..2 {
            assert_eq!(call("ADD").run().expect_success().json, told(&pod, "1.0.0"));
            assert!(is_up(&pod));
            assert_eq!(call("CHECK").run().expect_success().stdout, "");
        }
        for _ in 0..2 {
            assert_eq!(call("DEL").run().expect_success().stdout, "");
            assert!(!is_up(&pod));
        }
        call("CHECK").run().expect_error(105, "lo is down");
        assert!(!host.run_dir().exists(), "nothing is leased, named or counted");
    });
}

#[test]
fn a_previous_result_passes_as_it_is() {
    on_a_host(|host| {
        let pod = fresh_pod(host, "a1");
        let previous = json!({"cniVersion": "0.3.1", "interfaces": [{"name": "x"}], "dns": {"domain": "y"}});
        let answer = call(host, "ADD", &pod).config("prevResult", previous.clone()).run();
        assert_eq!(answer.expect_success().json, previous);
        assert!(is_up(&pod));
        call(host, "ADD", &pod).config("prevResult", json!([])).run().expect_error(7, "prevResult");
    });
}

#[test]
fn del_of_a_namespace_that_is_gone_is_no_error_and_the_nodes_own_lo_is_never_touched() {
    on_a_host(|host| {
        let pod = fresh_pod(host, "a1");
        pod.vanish();
        let no_namespace = host.pod("a2").netns;
        let plain = no_namespace.with_file_name("plain");
        File::create(&plain).expect("file");
        for netns in ["", &pod.netns.to_string_lossy(), &plain.to_string_lossy()] {
            call(host, "DEL", &pod).set("CNI_NETNS", netns).run().expect_success();
        }
        for command in ["ADD", "DEL"] {
            let own = call(host, command, &pod).set("CNI_NETNS", "/proc/self/ns/net").run();
            own.expect_error(8, "the plugin's own");
            let other = call(host, command, &pod).set("CNI_NETNS", "/proc/self/ns/mnt").run();
            other.expect_error(8, "not a network namespace");
        }
        call(host, "ADD", &pod).run().expect_error(8, "No such file");
        assert!(ip("link show lo").contains("LOOPBACK,UP"));
    });
}

#[test]
fn a_lo_with_a_strange_address_is_refused() {
    on_a_host(|host| {
        let pod = fresh_pod(host, "a1");
        pod.run(|| ip("addr add 192.0.2.1/32 dev lo"));
        call(host, "ADD", &pod).run().expect_error(105, "lo has the address 192.0.2.1");
    });
}

/// The family of an address, which the specification demands before 1.0.0 and the reference plugin does not tell.
fn without_families(mut answer: Value) -> Value {
    for ip in answer.get_mut("ips").and_then(Value::as_array_mut).into_iter().flatten() {
        ip.as_object_mut().expect("an object").remove("version");
    }
    answer
}

#[test]
fn what_the_reference_plugin_answers_is_what_ours_answers() {
    on_a_host(|host| {
        if !Path::new(REFERENCE).exists() {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{REFERENCE} must be there in CI");
            println!("not run: needs {REFERENCE}");
            return;
        }
        let pod = fresh_pod(host, "a1");
        let both = |call: Call| {
            let run = |binary| call.clone().binary(binary).run();
            let (ours, theirs) = (run(ours(host).as_path()), run(Path::new(REFERENCE)));
            assert_eq!((ours.success, without_families(ours.json)), (true, theirs.json));
        };
        let previous = json!({
            "cniVersion": "1.0.0", "dns": {}, "interfaces": [{"name": "x"}],
            "ips": [{"address": "192.0.2.1/24", "interface": 0}],
        });
        for version in ["0.3.1", "0.4.0", "1.0.0"] {
            let call = |command| call(host, command, &pod).config("cniVersion", json!(version));
            both(call("ADD"));
            if version == "1.0.0" {
                both(call("ADD").config("prevResult", previous.clone()));
                both(call("CHECK").config("prevResult", previous.clone()));
            }
            both(call("DEL"));
            assert!(!is_up(&pod));
        }
        // With IPv6 off there is one address, and nobody minds.
        pod.run(|| fs::write("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "1").expect("sysctl"));
        both(call(host, "ADD", &pod));
        pod.vanish();
        both(call(host, "DEL", &pod));
    });
}

#[test]
fn calls_of_loopback_are_not_counted_among_those_of_pods() {
    on_a_host(|host| {
        host.attached_pod("a1");
        let pod = fresh_pod(host, "a2");
        call(host, "ADD", &pod).config("runDir", json!(host.run_dir())).run().expect_success();
        assert_eq!(requests::read(&host.run_dir()).expect("read").len(), 1);
    });
}
