//! Rules of ours against packets.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cambric_policy::kernel::{Denied, Event, Guard, Kernel, LogReader, Operation};
use cambric_policy::program::{
    ChainName, End, Family, Hook, Interface, Member, Ports, Protocol, Rule, SetKind, SetName, Statement,
    Verdict,
};

use crate::common::{has, in_namespace, run, until};
use crate::pod::Pod;

const LOG_GROUP: u16 = 4242;

fn rule(tag: &str, statements: impl IntoIterator<Item = Statement>) -> Rule {
    Rule { statements: statements.into_iter().collect(), tag: tag.to_owned() }
}

fn set_name(family: Family, rest: &str) -> SetName {
    match family {
        Family::Ipv4 => format!("cam4{rest}").into(),
        Family::Ipv6 => format!("cam6{rest}").into(),
    }
}

/// The frame with one class: what comes in on UDP port 53 from the peers' set.
fn enforce(kernel: &mut Kernel, family: Family) {
    use Statement as S;
    let [owners, peers] = ["self", "p"].map(|rest| set_name(family, rest));
    kernel.create_set(family, &owners, SetKind::Owners, 10, 1000).expect("a set");
    kernel.create_set(family, &peers, SetKind::Addresses, 10, 1000).expect("a set");
    let jump = |chain: &str| S::Verdict(Verdict::Jump(chain.into()));
    let drop = || S::Verdict(Verdict::Drop);
    let chain = |name: &str, rules: Vec<Rule>| {
        let chain: ChainName = name.into();
        let add = Operation::AddChain { family, chain: chain.clone() };
        let rules =
            rules.into_iter().map(move |rule| Operation::AddRule { family, chain: chain.clone(), rule });
        std::iter::once(add).chain(rules).collect::<Vec<_>>()
    };
    let base = |name: &str, hook, priority, rules: Vec<Rule>| {
        let mut operations = chain(name, rules);
        operations[0] = Operation::AddBaseChain { family, chain: name.into(), hook, priority };
        operations
    };
    let mut operations = vec![
        Operation::AddTable(family, Guard::Anyone),
        Operation::AddMap { family, map: Interface::Input },
        Operation::AddMap { family, map: Interface::Output },
    ];
    operations.extend(chain("open", vec![rule("", [S::Verdict(Verdict::Return)])]));
    operations.extend(chain(
        "i-class",
        vec![
            rule(
                "allowed",
                [
                    S::Protocol(Protocol::Udp),
                    S::DestinationPort(Ports { first: 50, last: 53 }),
                    S::InSet { set: peers, ends: vec![End::Source], inverted: false },
                    S::Counter,
                    S::Verdict(Verdict::Return),
                ],
            ),
            rule(
                "denied",
                [S::AtMostPerSecond(1000), S::Log { group: LOG_GROUP, prefix: "i-class".to_owned() }],
            ),
            rule("denied", [S::Counter, drop()]),
        ],
    ));
    for (name, map) in [("egress", Interface::Input), ("ingress", Interface::Output)] {
        operations.extend(chain(
            name,
            vec![rule("", [S::Dispatch(map)]), rule(&format!("{name} closed"), [S::Counter, drop()])],
        ));
    }
    operations.extend(base(
        "spoof",
        Hook::Prerouting,
        -300,
        vec![rule(
            "spoofed",
            [
                S::IsVeth(Interface::Input),
                S::InSet { set: owners, ends: vec![End::Source, End::Source], inverted: true },
                S::Counter,
                drop(),
            ],
        )],
    ));
    operations.extend(base(
        "forward",
        Hook::Forward,
        -10,
        vec![
            rule("established", [S::Established, S::Counter, S::Verdict(Verdict::Accept)]),
            rule("", [S::IsVeth(Interface::Input), jump("egress")]),
            rule("", [S::IsVeth(Interface::Output), jump("ingress")]),
            rule("end", [S::Counter]),
        ],
    ));
    kernel.commit(&operations, None).expect("taken");
}

/// Puts a pod into the maps and says which addresses it has.
fn place(kernel: &mut Kernel, family: Family, pod: &Pod, egress: &str, ingress: &str) {
    let veth: ChainName = pod.veth().into();
    let owner = Member::Owner(pod.address(family), veth.clone());
    kernel.add_members(family, &set_name(family, "self"), &[owner]).expect("added");
    let [egress, ingress] = [egress, ingress].map(ChainName::from);
    let operations = [
        Operation::AddElement { family, map: Interface::Input, veth: veth.clone(), chain: egress },
        Operation::AddElement { family, map: Interface::Output, veth, chain: ingress },
    ];
    kernel.commit(&operations, None).expect("taken");
}

/// Packets that all rules with this tag counted.
fn counted(kernel: &mut Kernel, family: Family, tag: &str) -> u64 {
    let counters = kernel.counters().expect("counters");
    counters
        .iter()
        .filter(|counted| counted.family == family && counted.tag == tag)
        .map(|counted| counted.packets)
        .sum()
}

/// Sends a packet and says that the rule with this tag counted one more, and that it did not arrive.
fn is_stopped(kernel: &mut Kernel, from: &UdpSocket, to: &UdpSocket, tag: &str) {
    let to_address = to.local_addr().expect("bound");
    let family = Family::of(to_address.ip());
    let before = counted(kernel, family, tag);
    from.send_to(b"no", to_address).expect("sent");
    until(tag, || counted(kernel, family, tag) > before);
    to.set_nonblocking(true).expect("set");
    assert!(to.recv_from(&mut [0; 9]).is_err(), "{tag}");
    to.set_nonblocking(false).expect("set");
}

/// Sends a packet, which arrives.
fn arrives(from: &UdpSocket, to: &UdpSocket) -> SocketAddr {
    from.send_to(b"yes", to.local_addr().expect("bound")).expect("sent");
    to.recv_from(&mut [0; 9]).expect("it arrives").1
}

#[test]
fn members_pass_and_others_do_not() {
    for family in Family::ALL {
        in_namespace(move || {
            let mut kernel = Kernel::open().expect("a kernel");
            let (client, server) = (Pod::new(1), Pod::new(2));
            enforce(&mut kernel, family);
            let peers = set_name(family, "p");
            let peer = [Member::Address(client.address(family))];
            let [from, other] = [0, 0].map(|_| client.socket(family, 0));
            let [to, wrong_port] = [53, 54].map(|port| server.socket(family, port));

            // Nobody owns anything, and then nobody is in a map.
            is_stopped(&mut kernel, &from, &to, "spoofed");
            let owner = Member::Owner(client.address(family), client.veth().into());
            kernel.add_members(family, &set_name(family, "self"), &[owner]).expect("added");
            is_stopped(&mut kernel, &from, &to, "egress closed");
            place(&mut kernel, family, &client, "open", "open");
            is_stopped(&mut kernel, &from, &to, "ingress closed");
            place(&mut kernel, family, &server, "open", "i-class");
            is_stopped(&mut kernel, &from, &to, "denied");

            // A `return` out of a chain that was gone to with `goto` goes on in the base chain: egress first, then
            // ingress.
            kernel.add_members(family, &peers, &peer).expect("added");
            let ends = counted(&mut kernel, family, "end");
            let back_to = arrives(&from, &to);
            assert_eq!(counted(&mut kernel, family, "allowed"), 1);
            assert_eq!(counted(&mut kernel, family, "end"), ends + 1);
            is_stopped(&mut kernel, &from, &wrong_port, "denied");
            // Answers pass, whatever the classes say, and so does what follows them.
            to.send_to(b"back", back_to).expect("sent");
            assert_eq!(from.recv(&mut [0; 9]).expect("it arrives"), 4);
            arrives(&from, &to);
            assert_eq!(counted(&mut kernel, family, "established"), 2);

            // Who leaves the set has no new connections.
            kernel.del_members(family, &peers, &peer).expect("removed");
            is_stopped(&mut kernel, &other, &to, "denied");
            // Another's address does not leave the veth it comes from.
            let forged = server.address(family);
            kernel.add_members(family, &peers, &[Member::Address(forged)]).expect("added");
            let (mask, how) = if family == Family::Ipv4 { (32, "") } else { (128, "nodad") };
            client.inside(move || run(&format!("ip addr add {forged}/{mask} dev lo {how}")));
            let forger = client.inside(move || UdpSocket::bind((forged, 0)).expect("bound"));
            is_stopped(&mut kernel, &forger, &UdpSocket::bind((node(family), 53)).expect("bound"), "spoofed");
        });
    }
}

/// The node's address towards the second pod.
fn node(family: Family) -> std::net::IpAddr {
    let text = if family == Family::Ipv4 { "10.0.2.1" } else { "fd00:2::1" };
    text.parse().expect("an address")
}

/// A packet under way while a batch is committed sees new elements of maps, but chains as they were before it.
#[test]
fn who_is_led_to_a_chain_of_an_earlier_batch_never_finds_it_empty() {
    in_namespace(|| {
        let mut kernel = Kernel::open().expect("a kernel");
        let (client, server) = (Pod::new(1), Pod::new(2));
        let family = Family::Ipv4;
        enforce(&mut kernel, family);
        place(&mut kernel, family, &client, "open", "open");
        place(&mut kernel, family, &server, "open", "i-class");
        let (from, to) = (client.socket(family, 0), server.socket(family, 54).local_addr().expect("bound"));
        let stop = Arc::new(AtomicBool::new(false));
        let flood = thread::spawn({
            let stop = stop.clone();
            move || {
                while !stop.load(Ordering::Relaxed) {
                    from.send_to(b"no", to).expect("sent");
                }
            }
        });
        let (map, veth) = (Interface::Output, ChainName::from(server.veth()));
        for nth in 0..1500 {
            let chain: ChainName = format!("i-{nth}").into();
            let denied = rule("denied", [Statement::Counter, Statement::Verdict(Verdict::Drop)]);
            let made = [
                Operation::AddChain { family, chain: chain.clone() },
                Operation::AddRule { family, chain: chain.clone(), rule: denied },
            ];
            kernel.commit(&made, None).expect("taken");
            let switch = [
                Operation::DropElement { family, map, veth: veth.clone() },
                Operation::AddElement { family, map, veth: veth.clone(), chain },
            ];
            kernel.commit(&switch, None).expect("taken");
        }
        stop.store(true, Ordering::Relaxed);
        flood.join().expect("sent");
        assert!(counted(&mut kernel, family, "denied") > 1000);
        assert_eq!(counted(&mut kernel, family, "end"), 0);
    });
}

#[test]
fn denied_packets_are_told_with_addresses_and_ports() {
    for family in Family::ALL {
        in_namespace(move || {
            let mut kernel = Kernel::open().expect("a kernel");
            let mut log = LogReader::open(LOG_GROUP).expect("a log");
            let second = LogReader::open(LOG_GROUP).expect_err("one reader a group");
            assert!(second.to_string().contains("group 4242 is read by another process"), "{second}");
            let (client, server) = (Pod::new(1), Pod::new(2));
            enforce(&mut kernel, family);
            place(&mut kernel, family, &client, "open", "open");
            place(&mut kernel, family, &server, "open", "i-class");
            let (from, to) = (client.socket(family, 5000), server.socket(family, 54));
            is_stopped(&mut kernel, &from, &to, "denied");
            let mut denied = Vec::new();
            until("told", || {
                denied.extend(log.wait(Duration::from_millis(100)).expect("read"));
                !denied.is_empty()
            });
            let index = |pod: &Pod| nix::net::if_::if_nametoindex(pod.veth().as_str()).expect("an interface");
            let wanted = Denied {
                prefix: "i-class".to_owned(),
                input: Some(index(&client)),
                output: Some(index(&server)),
                source: client.address(family),
                destination: server.address(family),
                protocol: 17,
                ports: Some((5000, 54)),
            };
            assert_eq!(denied, [wanted]);
            assert_eq!(log.lost(), 0);
            drop(log);
            until("the group is free", || LogReader::open(LOG_GROUP).is_ok());
        });
    }
}

#[test]
fn a_pod_says_of_no_address_but_its_own_that_it_has_it() {
    in_namespace(|| {
        if !has("nft") {
            return;
        }
        let mut kernel = Kernel::open().expect("a kernel");
        let pod = Pod::new(1);
        let veth: ChainName = pod.veth().into();
        let owner = (veth.clone(), "10.0.1.2".parse().expect("an address"));
        let operations =
            [Operation::AddArpTable(Guard::Anyone), Operation::AddArpOwner(owner.0.clone(), owner.1)];
        kernel.commit(&operations, None).expect("taken");
        let held = kernel.read().expect("read").arp.expect("a table");
        assert!(held.whole);
        assert_eq!(held.owners, [owner.clone()].into());
        let shown = run("nft list table arp cambric");
        println!("{shown}");
        assert!(
            shown.contains(r#"iifname "cam*" iifname . arp saddr ip != @own counter packets 0 bytes 0 drop"#),
            "{shown}"
        );
        assert!(shown.contains("elements = { \"camtest1\" . 10.0.1.2 }"), "{shown}");

        let knock = |source: &'static str| {
            pod.inside(move || {
                let socket = UdpSocket::bind((source, 0)).expect("bound");
                socket.send_to(b"knock", ("10.0.1.1", 9)).expect("sent");
            });
        };
        let heard =
            |address: &str| run("ip neigh show dev camtest1").lines().any(|line| line.starts_with(address));
        knock("10.0.1.2");
        until("its own address is known", || heard("10.0.1.2 "));
        pod.inside(|| {
            run("ip neigh flush dev eth0");
            run("ip addr add 10.0.1.99/24 dev eth0");
        });
        knock("10.0.1.99");
        until("stopped", || !run("nft list table arp cambric").contains("counter packets 0 "));
        assert!(!heard("10.0.1.99 "));
        // Without the rule it is believed.
        kernel
            .commit(&[Operation::DropArpOwner(owner.0, owner.1), Operation::DropArpTable], None)
            .expect("taken");
        assert_eq!(kernel.read().expect("read").arp, None);
        pod.inside(|| run("ip neigh flush dev eth0"));
        knock("10.0.1.99");
        until("believed", || heard("10.0.1.99 "));
    });
}

#[test]
fn what_others_do_to_our_tables_is_heard_and_what_we_do_is_not() {
    in_namespace(|| {
        if !has("nft") {
            return;
        }
        let mut kernel = Kernel::open().expect("a kernel");
        let mut watch = kernel.watch().expect("a watch");
        enforce(&mut kernel, Family::Ipv4);
        run("nft add table ip hers");
        run("nft add table inet cambric");
        let generation = kernel.generation().expect("a generation");
        let heard = watch.take().expect("heard");
        assert!(!heard.contains(&Event::Touched) && !heard.contains(&Event::Overrun), "{heard:?}");
        assert_eq!(heard.last(), Some(&Event::Generation(generation)));
        assert_eq!(watch.last_touch(), None);
        for (deed, what) in [
            ("add rule ip cambric open accept", "table ip cambric, rule added"),
            ("add element ip cambric egress { cam9 : accept }", "table ip cambric, element added"),
            ("flush chain ip cambric open", "table ip cambric, rule removed"),
            ("delete table ip cambric", "table ip cambric"),
            ("add table arp cambric", "table arp cambric added or changed"),
            ("flush ruleset", "table"),
        ] {
            run(&format!("nft {deed}"));
            assert!(watch.take().expect("heard").contains(&Event::Touched), "{deed}");
            let told = watch.last_touch().expect("somebody");
            assert!(told.starts_with("nft (") && told.contains(what), "{told}");
        }
        assert_eq!(watch.take().expect("heard"), []);
        assert!(!watch.wait(Duration::ZERO).expect("waited"));
    });
}
