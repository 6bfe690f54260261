//! What the runtime gives us may be wrong in every way: codes, messages, and nothing touched.

use cambric_cni::requests;
use serde_json::{Value, json};

use crate::host::{Host, Pod, on_a_host};

/// Every test here ends on a host where nothing happened.
fn nothing_happens(test: impl FnOnce(&Host, &Pod) + Send + 'static) {
    on_a_host(|host| {
        let pod = host.pod("a1");
        test(host, &pod);
        host.assert_clean();
    });
}

#[test]
fn version_needs_nothing_and_tells_the_truth() {
    nothing_happens(|host, pod| {
        let answer = host.call("VERSION", pod).set("CNI_CONTAINERID", "").stdin("").run();
        let versions = &answer.expect_success().json["supportedVersions"];
        assert_eq!(*versions, json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
        assert_eq!(answer.stderr, "");
    });
}

#[test]
fn without_a_command_it_introduces_itself_on_stderr() {
    nothing_happens(|host, pod| {
        let answer = host.call("", pod).run();
        assert_eq!(answer.expect_success().stdout, "");
        assert!(answer.stderr.contains("0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{}", answer.stderr);
    });
}

#[test]
fn commands_not_served_never_claim_success() {
    nothing_happens(|host, pod| {
        for command in ["STATUS", "GC"] {
            host.call(command, pod).run().expect_error(4, "not implemented yet");
        }
        host.call("SING", pod).run().expect_error(4, "SING");
    });
}

#[test]
fn all_missing_variables_are_listed_at_once() {
    nothing_happens(|host, pod| {
        let unset = |command| {
            let call = host.call(command, pod).set("CNI_CONTAINERID", "").set("CNI_NETNS", "");
            call.set("CNI_IFNAME", "").run()
        };
        unset("ADD").expect_error(4, "missing: CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME");
        unset("CHECK").expect_error(4, "missing: CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME");
        unset("DEL").expect_error(4, "missing: CNI_CONTAINERID, CNI_IFNAME");
    });
}

#[test]
fn bad_variables_are_code_4() {
    nothing_happens(|host, pod| {
        for (name, value) in [
            ("CNI_CONTAINERID", "../a1"),
            ("CNI_IFNAME", "eth/0"),
            ("CNI_IFNAME", "a-very-long-name"),
            ("CNI_ARGS", "K8S_POD_NAME"),
        ] {
            host.call("ADD", pod).set(name, value).run().expect_error(4, name);
        }
    });
}

#[test]
fn bad_documents_are_named_by_code() {
    nothing_happens(|host, pod| {
        let call = || host.call("ADD", pod);
        for stdin in ["", "{", "[]", "nonsense"] {
            call().stdin(stdin).run().expect_error(6, "cannot decode");
        }
        let with = |key: &str, value: Value| call().config(key, value).run();
        with("cniVersion", json!("0.2.0")).expect_error(1, "0.3.1");
        with("cniVersion", json!("9.0.0")).expect_error(1, "9.0.0");
        with("cniVersion", Value::Null).expect_error(1, "0.1.0");
        with("cniVersion", json!("new")).expect_error(6, "not a version");
        with("name", json!("")).expect_error(7, "name");
        with("ranges", json!([])).expect_error(7, "at least one range");
        with("ranges", json!([{"ipv4": "10.244.1.0/31"}])).expect_error(7, "too small");
        with("ranges", json!([{"ipv4": "10.244.1.7/24"}])).expect_error(7, "10.244.1.0/24 is meant?");
        with("ranges", json!([{"ipv4": "10.244.1.0/24", "gw": "x"}])).expect_error(2, "gw");
        with("runtimeConfig", json!({"ips": ["10.244.1.9/24"]})).expect_error(2, "runtimeConfig.ips");
        with("mtu", json!(1279)).expect_error(7, "must be 1280 to 65535");
        with("runDir", json!("relative")).expect_error(7, "absolute");
        with("policyGate", json!("ajar")).expect_error(7, "policyGate \\\"ajar\\\"");
    });
}

#[test]
fn errors_come_in_the_runtimes_version() {
    nothing_happens(|host, pod| {
        let answer = host.call("ADD", pod).config("cniVersion", json!("0.4.0")).config("mtu", json!(1)).run();
        assert_eq!(answer.expect_error(7, "mtu").json["cniVersion"], "0.4.0");
    });
}

#[test]
fn what_is_no_other_network_namespace_is_code_8() {
    nothing_happens(|host, pod| {
        let file = host.run_dir().with_file_name("file");
        std::fs::write(&file, "").expect("file");
        for (netns, words) in [
            ("/nonexistent", "No such file"),
            ("/dev/null", "not a network namespace"),
            (file.to_str().expect("path"), "not a network namespace"),
            ("/proc/self/ns/mnt", "not a network namespace"),
            ("/proc/self/ns/net", "the plugin's own"),
        ] {
            host.call("ADD", pod).set("CNI_NETNS", netns).run().expect_error(8, words);
        }
    });
}

#[test]
fn every_call_is_counted_by_what_became_of_it() {
    on_a_host(|host| {
        let (pod, _) = host.attached_pod("a1");
        host.call("ADD", &pod).run().expect_error(100, "exists already");
        host.call("DEL", &pod).run().expect_success();
        host.call("DEL", &pod).run().expect_success();
        host.call("VERSION", &pod).run().expect_success();
        let counted = requests::read(&host.run_dir()).expect("read");
        let counted: Vec<_> =
            counted.iter().map(|calls| (calls.command.name(), calls.outcome.name(), calls.count())).collect();
        assert_eq!(counted, [("ADD", "success", 1), ("ADD", "refused", 1), ("DEL", "success", 2)]);
    });
}
