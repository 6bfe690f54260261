//! The policy gate: what ADD waits for, how long, and what it leaves behind.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use cambric_cni::config::NodeAddresses;
use cambric_cni::endpoints::{self, PodName};
use cambric_cni::gate::ready::{self, Policy};
use cambric_cni::host_routes;
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use serde_json::{Value, json};

use crate::host::{Answer, Call, Host, NODE_IPV4, NODE_IPV6, Place, Pod, ip, on_a_host, run, tcp, udp};

/// What the plugin may take for its question.
const LIMIT: Duration = Duration::from_millis(1100);
/// A loaded machine is given more; one that hangs would take for ever.
const PATIENCE: Duration = Duration::from_secs(20);

const GATES: [&str; 3] = ["off", "prefer", "require"];
/// Names of the address families in nf_tables.
const FAMILIES: [&str; 2] = ["ip", "ip6"];

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("boot ID").trim().to_owned()
}

fn write_mark(host: &Host, text: &str) {
    fs::create_dir_all(host.run_dir()).expect("folder");
    fs::write(host.run_dir().join("ready"), text).expect("mark");
}

/// As the daemon leaves it: the mark, the sets and the rules.
fn enforce(host: &Host) {
    fs::create_dir_all(host.run_dir()).expect("folder");
    ready::write(&host.run_dir(), Policy::On).expect("mark");
    run("ipset create cam4self hash:net,iface");
    run("ipset create cam6self hash:net,iface family inet6");
    FAMILIES.into_iter().for_each(make_rules);
}

fn make_rules(family: &str) {
    run(&format!("nft add table {family} cambric"));
    run(&format!("nft add chain {family} cambric forward {{ type filter hook forward priority -10 ; }}"));
    run(&format!("nft add rule {family} cambric forward counter"));
}

/// Members of both sets, as `address,link`.
fn members() -> BTreeSet<String> {
    let listed = run("ipset list cam4self") + &run("ipset list cam6self");
    listed.lines().filter(|line| line.contains(",cam")).map(str::to_owned).collect()
}

/// What should be in the sets of a dual-stack pod.
fn members_of(pod: &Pod, added: &Answer) -> BTreeSet<String> {
    let link_local = IpAddr::from(pod.attachment().pod_mac().link_local());
    let all = added.addresses().into_iter().chain([link_local]);
    all.map(|address| format!("{address},{}", pod.host_ifname())).collect()
}

fn add(host: &Host, pod: &Pod, gate: &str) -> Call {
    host.call("ADD", pod).config("policyGate", json!(gate))
}

fn timed(call: Call) -> (Answer, Duration) {
    let start = Instant::now();
    (call.run(), start.elapsed())
}

/// Answers every question with the same bytes; tells the questions.
fn daemon(host: &Host, answer: &'static [u8]) -> Receiver<Value> {
    let listener = UnixListener::bind(host.run_dir().join("cambricd.sock")).expect("socket");
    let (told, questions) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("connection");
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).expect("question");
            if told.send(serde_json::from_str(&line).expect("JSON")).is_err() {
                return;
            }
            let _ = stream.write_all(answer); // nobody may wait for it any more
        }
    });
    questions
}

const PLACED: &[u8] = b"{\"code\":24,\"placed\":{\"chains\":[]}}\n";

#[test]
fn a_placed_pod_is_in_the_sets_until_it_goes() {
    on_a_host(|host| {
        enforce(host);
        let questions = daemon(host, PLACED);
        for gate in ["prefer", "require"] {
            let pod = host.pod(gate);
            let answer = add(host, &pod, gate).run();
            assert_eq!(answer.expect_success().stderr, "");
            let asked = questions.recv().expect("asked");
            let addresses: Vec<String> = answer.addresses().iter().map(IpAddr::to_string).collect();
            let wanted = json!({
                "verb": "place", "version": env!("CARGO_PKG_VERSION"), "interface": pod.host_ifname(),
                "namespace": "default", "name": "web", "addresses": addresses,
            });
            assert_eq!(asked, wanted);
            assert_eq!(members(), members_of(&pod, &answer));
            host.call("DEL", &pod).run().expect_success();
            assert_eq!(members(), BTreeSet::new());
        }
        let known = host.pod("known");
        let args = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=0fe1-22";
        add(host, &known, "require").set("CNI_ARGS", args).run().expect_success();
        assert_eq!(questions.recv().expect("asked")["uid"], "0fe1-22");
        host.call("DEL", &known).run().expect_success();
        let nameless = host.pod("nameless");
        add(host, &nameless, "require").set("CNI_ARGS", "").run().expect_success();
        let asked = questions.recv().expect("asked");
        assert_eq!((asked.get("namespace"), asked.get("name")), (None, None));
        host.call("DEL", &nameless).run().expect_success();
        host.assert_clean();
    });
}

#[test]
fn without_a_mark_of_this_boot_nothing_is_made() {
    on_a_host(|host| {
        let pod = host.pod("a1");
        let other_boot =
            json!({"boot_id": "6f1c9a31-0000-4000-8000-000000000000", "policy": "on"}).to_string();
        let half = json!({"boot_id": boot_id(), "policy": "half"}).to_string();
        let marks = [
            (None, "No such file"),
            (Some(other_boot.as_str()), "not been ready since the boot"),
            (Some("{\"boot_id\":"), "EOF"),
            (Some(""), "EOF"),
            (Some(half.as_str()), "expected `on` or `off`"),
        ];
        for (mark, words) in marks {
            if let Some(mark) = mark {
                write_mark(host, mark);
            }
            for gate in ["prefer", "require"] {
                add(host, &pod, gate).run().expect_error(11, words);
                host.assert_clean();
                assert!(!host.lease_dir().exists(), "not even a lease was asked for");
            }
            let not_told = host.call("ADD", &pod).config("policyGate", Value::Null).run();
            not_told.expect_error(11, "ready");
            assert_eq!(add(host, &pod, "off").run().expect_success().stderr, "");
            host.call("DEL", &pod).run().expect_success();
            fs::remove_dir_all(host.run_dir()).expect("removed");
        }
    });
}

#[test]
fn where_the_mark_says_off_nobody_is_asked() {
    on_a_host(|host| {
        write_mark(host, &json!({"boot_id": boot_id(), "policy": "off"}).to_string());
        for gate in GATES {
            let pod = host.pod(gate);
            let answer = add(host, &pod, gate).run();
            assert_eq!(answer.expect_success().stderr, "");
            assert_eq!(tcp(&pod, host, NODE_IPV4.parse().expect("address")), answer.addresses()[0]);
        }
    });
}

/// Makes a pod under every gate; `off` never asks, `prefer` tells why on stderr, `require` undoes all. Gives how long
/// the last two took.
fn try_all_gates(host: &Host, why: &str) -> Vec<Duration> {
    let pod = host.pod(&format!("try-{}", fs::read_dir(host.lease_dir()).map_or(0, Iterator::count)));
    let take_away = |answer: &Answer| {
        assert_eq!(members(), members_of(&pod, answer));
        host.call("DEL", &pod).run().expect_success();
    };
    let off = add(host, &pod, "off").run();
    assert_eq!(off.expect_success().stderr, "");
    take_away(&off);
    let (prefer, prefer_took) = timed(add(host, &pod, "prefer"));
    let told = &prefer.expect_success().stderr;
    assert!(told.contains(why) && told.contains("default/web") && told.lines().count() == 1, "{told}");
    take_away(&prefer);
    let (require, require_took) = timed(add(host, &pod, "require"));
    require.expect_error(11, why);
    assert_eq!(members(), BTreeSet::new(), "undone");
    host.assert_clean();
    vec![prefer_took, require_took]
}

#[test]
fn an_answer_that_is_no_yes_is_a_no() {
    let answers: [(&[u8], &str); 7] = [
        (
            b"{\"code\":8010,\"error\":\"no Pod object default/web yet\"}\n",
            "no Pod object default/web yet (8010)",
        ),
        (b"{\"code\":9001,\"error\":\"unknown verb\"}\n", "unknown verb (9001)"),
        (b"{\"code\":1000,\"status\":{}}\n", "code 1000"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not understood"),
        (b"\xff\xfe\x00\n", "not understood"),
        (b"{\"code\":24", "closed the connection"),
        (b"", "closed the connection"),
    ];
    for (answer, why) in answers {
        on_a_host(move |host| {
            enforce(host);
            let _questions = daemon(host, answer);
            try_all_gates(host, why);
        });
    }
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    on_a_host(|host| {
        enforce(host);
        let listener = UnixListener::bind(host.run_dir().join("cambricd.sock")).expect("socket");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("connection");
                while stream.write_all(&[b' '; 4096]).is_ok() {}
            }
        });
        try_all_gates(host, "too long");
    });
}

#[test]
fn a_daemon_that_is_away_is_noticed_at_once() {
    on_a_host(|host| {
        enforce(host);
        // What is told shows that nobody was waited for: then it would be that there was no answer.
        try_all_gates(host, "No such file");
        // As a killed daemon leaves it.
        drop(UnixListener::bind(host.run_dir().join("cambricd.sock")).expect("socket"));
        try_all_gates(host, "Connection refused");
    });
}

#[test]
fn a_daemon_that_hangs_costs_little_more_than_a_second() {
    on_a_host(|host| {
        enforce(host);
        // Stopped: the kernel takes connections and questions for it.
        let _listener = UnixListener::bind(host.run_dir().join("cambricd.sock")).expect("socket");
        for took in try_all_gates(host, "did not answer within 1.1s") {
            println!("hung: {took:?}");
            assert!(took >= LIMIT && took < PATIENCE, "{took:?}");
        }
    });
}

#[test]
fn a_daemon_that_trickles_costs_no_more() {
    on_a_host(|host| {
        enforce(host);
        let listener = UnixListener::bind(host.run_dir().join("cambricd.sock")).expect("socket");
        thread::spawn(move || {
            let trickle = |mut stream: UnixStream| {
                while stream.write_all(b" ").is_ok() {
                    thread::sleep(Duration::from_millis(20));
                }
            };
            for stream in listener.incoming() {
                let stream = stream.expect("connection");
                thread::spawn(move || trickle(stream));
            }
        });
        for took in try_all_gates(host, "did not answer within 1.1s") {
            println!("trickling: {took:?}");
            assert!(took < PATIENCE, "{took:?}");
        }
    });
}

#[test]
fn a_full_backlog_costs_no_more() {
    on_a_host(|host| {
        enforce(host);
        let path = host.run_dir().join("cambricd.sock");
        let listener = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
        let listener = listener.expect("socket");
        socket::bind(std::os::fd::AsRawFd::as_raw_fd(&listener), &UnixAddr::new(&path).expect("path"))
            .expect("bound");
        socket::listen(&listener, Backlog::new(1).expect("backlog")).expect("listening");
        let _waiting = [UnixStream::connect(&path), UnixStream::connect(&path)];
        for took in try_all_gates(host, "did not answer within 1.1s") {
            println!("full backlog: {took:?}");
            assert!(took >= LIMIT && took < PATIENCE, "{took:?}");
        }
    });
}

#[test]
fn sets_that_are_missing_or_full_fail_the_add_if_there_should_be_some() {
    on_a_host(|host| {
        write_mark(host, &json!({"boot_id": boot_id(), "policy": "on"}).to_string());
        let pod = host.pod("a1");
        let _questions = daemon(host, PLACED);
        for gate in ["prefer", "require"] {
            add(host, &pod, gate).run().expect_error(11, "to the set cam4self");
            run("ipset create cam4self hash:net,iface");
            add(host, &pod, gate).run().expect_error(11, "to the set cam6self");
            host.assert_clean();
            assert!(!run("ipset list cam4self").contains(",cam"), "what was added is undone");
            run("ipset destroy cam4self");
        }
        add(host, &pod, "off").run().expect_success();
        host.call("DEL", &pod).run().expect_success();

        run("ipset create cam4self hash:net,iface maxelem 1");
        run("ipset create cam6self hash:net,iface family inet6");
        run("ipset add cam4self 192.0.2.1,other");
        for gate in ["prefer", "require"] {
            add(host, &pod, gate).run().expect_error(11, "to the set cam4self: ");
            host.assert_clean();
        }
        let off = add(host, &pod, "off").run();
        let told = &off.expect_success().stderr;
        assert!(told.contains("default/web") && told.contains("to the set cam4self: "), "{told}");
    });
}

#[test]
fn rules_that_somebody_took_away_fail_the_add() {
    let harms = [
        ("flush ruleset", "ip cambric"),
        ("delete table ip cambric", "ip cambric"),
        ("delete table ip6 cambric", "ip6 cambric"),
        ("flush table ip cambric", "ip cambric has no rules"),
        ("flush chain ip6 cambric forward", "ip6 cambric has no rules"),
    ];
    for (harm, words) in harms {
        on_a_host(move |host| {
            enforce(host);
            run(&format!("nft {harm}"));
            let questions = daemon(host, PLACED);
            let pod = host.pod("a1");
            for gate in ["prefer", "require"] {
                add(host, &pod, gate).run().expect_error(11, words);
                assert_eq!(members(), BTreeSet::new(), "undone");
                host.assert_clean();
            }
            assert_eq!(questions.try_iter().count(), 0);
            let off = add(host, &pod, "off").run();
            assert_eq!(off.expect_success().stderr, "");
            assert_eq!(members(), members_of(&pod, &off));
        });
    }
}

#[test]
fn rules_are_asked_for_in_the_families_of_the_pod() {
    on_a_host(|host| {
        enforce(host);
        run("nft delete table ip6 cambric");
        let _questions = daemon(host, PLACED);
        let pod = host.pod("a1");
        let only_ipv4 = json!([{"ipv4": "10.244.9.0/24"}]);
        add(host, &pod, "require").config("ranges", only_ipv4).run().expect_success();
        host.call("DEL", &pod).run().expect_success();
        make_rules("ip6");
        add(host, &pod, "require").run().expect_success();
    });
}

#[test]
fn half_a_name_is_refused_where_pods_are_judged_by_it() {
    on_a_host(|host| {
        enforce(host);
        let _questions = daemon(host, PLACED);
        for (args, words) in [
            ("IgnoreUnknown=1;K8S_POD_NAME=web", "K8S_POD_NAMESPACE is missing"),
            ("K8S_POD_NAMESPACE=default;K8S_POD_NAME=", "K8S_POD_NAME is missing"),
            ("K8S_POD_NAMESPACE=default;K8S_POD_NAME=a/b", "no namespace/name"),
        ] {
            let pod = host.pod(&format!("half-{}", args.len()));
            let add = |gate| add(host, &pod, gate).set("CNI_ARGS", args);
            let del = || host.call("DEL", &pod).set("CNI_ARGS", args).run();
            for gate in ["prefer", "require"] {
                ready::write(&host.run_dir(), Policy::On).expect("mark");
                add(gate).run().expect_error(4, words);
                host.assert_clean();
                del().expect_success();
                // As containers of some runtimes have it that know nothing of Kubernetes.
                ready::write(&host.run_dir(), Policy::Off).expect("mark");
                add(gate).run().expect_success();
                del().expect_success();
            }
            add("off").run().expect_success();
            let told = endpoints::endpoints(&host.run_dir()).expect("told");
            assert!(matches!(&told[..], [only] if matches!(only.pod, PodName::Unknown(_))), "{told:?}");
            del().expect_success();
        }
    });
}

#[test]
fn members_of_a_pod_whose_link_is_gone_go_with_its_lease() {
    on_a_host(|host| {
        enforce(host);
        run("ipset add cam4self 192.0.2.1,camffffffffffff");
        let pod = host.pod("a1");
        let added = add(host, &pod, "off").run();
        assert_eq!(members().len(), members_of(&pod, &added).len() + 1);
        ip(&format!("link delete {}", pod.host_ifname()));
        for _ in 0..2 {
            host.call("DEL", &pod).run().expect_success();
            assert_eq!(members(), BTreeSet::from(["192.0.2.1,camffffffffffff".to_owned()]), "others' stay");
        }
        // An ADD that is told again finds what a killed one left, and DEL what is not there.
        run(&format!("ipset add cam4self {},{}", added.addresses()[0], pod.host_ifname()));
        add(host, &pod, "off").run().expect_success();
        run("ipset flush cam6self");
        host.call("DEL", &pod).run().expect_success();
        host.assert_clean();
    });
}

#[test]
fn eight_pods_at_once_are_let_in_with_all_their_members() {
    on_a_host(|host| {
        enforce(host);
        let questions = daemon(host, PLACED);
        let pods: Vec<Pod> = (0..8).map(|nth| host.pod(&format!("pod{nth}"))).collect();
        let added: Vec<Answer> = thread::scope(|scope| {
            let calls: Vec<_> = pods.iter().map(|pod| add(host, pod, "require")).collect();
            let running: Vec<_> = calls.into_iter().map(|call| scope.spawn(|| call.run())).collect();
            running.into_iter().map(|call| call.join().expect("answer")).collect()
        });
        let wanted: BTreeSet<String> = pods
            .iter()
            .zip(&added)
            .flat_map(|(pod, added)| members_of(pod, added.expect_success()))
            .collect();
        assert_eq!((members(), wanted.len()), (wanted.clone(), 24));
        assert_eq!(questions.try_iter().count(), 8);
    });
}

#[test]
fn a_pod_under_policy_is_reached_where_no_arp_passes() {
    on_a_host(|host| {
        enforce(host);
        run("nft add table arp guard");
        run("nft add chain arp guard input { type filter hook input priority 0 ; policy drop ; }");
        let pod = host.pod("a1");
        let added = add(host, &pod, "prefer").run();
        let node = [NODE_IPV4, NODE_IPV6].map(|text| text.parse::<IpAddr>().expect("address"));
        for (address, node) in added.expect_success().addresses().into_iter().zip(node) {
            assert_eq!(tcp(host, &pod, address), node);
            assert_eq!(udp(&pod, host, node), address);
        }
    });
}

#[test]
fn lost_neighbours_come_back_with_the_mac_that_the_pod_has_by_now() {
    on_a_host(|host| {
        let restore = || {
            let node = NodeAddresses { ipv4: NODE_IPV4.parse().ok(), ipv6: NODE_IPV6.parse().ok() };
            host_routes::restore(&host.run_dir(), "cambric", node).expect("restored").neighbours
        };
        let neighbours = || run("ip neigh show nud permanent");
        let (pod, _) = host.attached_pod("a1");
        let name = pod.host_ifname();
        assert_eq!((restore(), neighbours().as_str()), (0, ""), "no policy, no need");
        enforce(host);
        assert_eq!((restore(), restore()), (2, 0));
        let made = neighbours();
        let mac = pod.attachment().pod_mac().to_string();
        assert_eq!((made.lines().count(), made.matches(&mac).count()), (2, 2), "{made}");
        ip(&format!("neigh flush dev {name} nud permanent"));
        assert_eq!(restore(), 2);
        assert_eq!(neighbours(), made);
        pod.run(|| ip("link set eth0 address 0a:00:00:00:00:99"));
        assert_eq!((restore(), restore()), (2, 0));
        assert_eq!(neighbours(), made.replace(&mac, "0a:00:00:00:00:99"));
    });
}
