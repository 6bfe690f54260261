//! Tables, chains, rules and maps.

use std::collections::BTreeMap;
use std::sync::Arc;

use cambric_policy::kernel::{
    CommitError, Event, Guard, HeldBase, HeldTable, Kernel, Operation, TableState, next_generation,
};
use cambric_policy::program::{
    End, Family, Hook, Interface, Ports, Protocol, Rule, SetKind, SetName, Statement, Verdict,
};

use crate::common::{has, in_namespace, run, try_run, until};

/// The name of a family's set.
fn set_name(family: Family, rest: &str) -> SetName {
    match family {
        Family::Ipv4 => format!("cam4{rest}").into(),
        Family::Ipv6 => format!("cam6{rest}").into(),
    }
}

fn rule(tag: &str, statements: impl IntoIterator<Item = Statement>) -> Rule {
    Rule { statements: statements.into_iter().collect(), tag: tag.to_owned() }
}

/// A rule of every statement there is.
fn every_rule(family: Family) -> Vec<Rule> {
    use Statement as S;
    let in_set = |rest: &str, ends: &[End], inverted| S::InSet {
        set: set_name(family, rest),
        ends: ends.to_vec(),
        inverted,
    };
    let port = |first, last| S::DestinationPort(Ports { first, last });
    vec![
        rule(
            "spoofed",
            [
                S::IsVeth(Interface::Input),
                in_set("self", &[End::Source, End::Source], true),
                S::Counter,
                S::Verdict(Verdict::Drop),
            ],
        ),
        rule("established", [S::Established, S::Counter, S::Verdict(Verdict::Accept)]),
        rule(
            "itself",
            [
                in_set("self", &[End::Destination, End::Source], false),
                S::Counter,
                S::Verdict(Verdict::Accept),
            ],
        ),
        rule("", [S::IsVeth(Interface::Output), S::Verdict(Verdict::Jump("x".into()))]),
        rule(
            "a",
            [
                S::Protocol(Protocol::Tcp),
                port(80, 80),
                in_set("p", &[End::Source], false),
                S::Counter,
                S::Verdict(Verdict::Return),
            ],
        ),
        rule(
            "b",
            [
                S::Protocol(Protocol::Udp),
                port(1, 65535),
                in_set("n", &[End::Destination], true),
                S::Verdict(Verdict::Goto("x".into())),
            ],
        ),
        rule("c", [S::Protocol(Protocol::Sctp), in_set("e", &[End::Destination, End::Destination], false)]),
        rule(
            "d",
            [S::AtMostPerSecond(10), S::Log { group: 77, prefix: "i-abcdefghijklmnopqrst".to_owned() }],
        ),
        rule(&"t".repeat(120), [S::Counter]),
        rule("dispatch", [S::Dispatch(Interface::Input)]),
        rule("dispatch", [S::Dispatch(Interface::Output)]),
    ]
}

fn sets(kernel: &mut Kernel, family: Family) {
    for (rest, kind) in [
        ("self", SetKind::Owners),
        ("p", SetKind::Addresses),
        ("n", SetKind::Networks),
        ("e", SetKind::AddressPorts),
    ] {
        kernel.create_set(family, &set_name(family, rest), kind, 10, 1000).expect("a set");
    }
}

fn table(family: Family, guard: Guard) -> Vec<Operation> {
    let chain: Arc<str> = "every".into();
    let mut operations = vec![
        Operation::AddTable(family, guard),
        Operation::AddMap { family, map: Interface::Input },
        Operation::AddMap { family, map: Interface::Output },
        Operation::AddChain { family, chain: "x".into() },
        Operation::AddBaseChain { family, chain: chain.clone(), hook: Hook::Forward, priority: -10 },
    ];
    operations.extend(every_rule(family).into_iter().map(|rule| Operation::AddRule {
        family,
        chain: chain.clone(),
        rule,
    }));
    operations.push(Operation::AddElement {
        family,
        map: Interface::Input,
        veth: "cam1".into(),
        chain: "x".into(),
    });
    operations.push(Operation::AddElement {
        family,
        map: Interface::Output,
        veth: "cam2345678abcde".into(),
        chain: "x".into(),
    });
    operations
}

#[test]
fn what_is_written_is_read_back_equal_and_shown_by_nft() {
    in_namespace(|| {
        let mut kernel = Kernel::open().expect("a kernel");
        let mut operations = Vec::new();
        for family in Family::ALL {
            sets(&mut kernel, family);
            operations.extend(table(family, Guard::Anyone));
        }
        let generation = kernel.generation().expect("a generation");
        kernel.commit(&operations, Some(generation)).expect("taken");
        let held = kernel.read().expect("read");
        assert_eq!(held.generation, next_generation(generation));
        assert_eq!(held.arp, None);
        for family in Family::ALL {
            let table = held.table(family).expect("a table");
            assert_eq!(rules(table, "every"), every_rule(family));
            let base = HeldBase { hook: Some(Hook::Forward), priority: -10, accepts: true };
            assert_eq!(table.chains["every"].base, Some(base));
            assert_eq!(table.chains["x"].base, None);
            let goto = |veth: &str| BTreeMap::from([(veth.into(), Verdict::Goto("x".into()))]);
            let maps = [(Interface::Input, goto("cam1")), (Interface::Output, goto("cam2345678abcde"))];
            assert_eq!(table.maps, BTreeMap::from(maps));
            assert_eq!((&table.state, &table.foreign), (&TableState::default(), &Vec::new()));
        }
        if has("nft") {
            let shown = run("nft list ruleset");
            for line in [
                r#"iifname "cam*" xt match set counter packets 0 bytes 0 drop comment "spoofed""#,
                r#"ct state established,related counter packets 0 bytes 0 accept comment "established""#,
                r#"oifname "cam*" jump x"#,
                r#"tcp dport 80 xt match set counter packets 0 bytes 0 return comment "a""#,
                r#"udp dport 1-65535 xt match set goto x comment "b""#,
                r#"limit rate 10/second burst 10 packets log prefix "i-abcdefghijklmnopqrst" group 77 comment "d""#,
                r#"iifname vmap @egress comment "dispatch""#,
                r#"oifname vmap @ingress comment "dispatch""#,
                r#"elements = { "cam2345678abcde" : goto x }"#,
                "type filter hook forward priority filter - 10; policy accept;",
            ] {
                let times = shown.lines().filter(|shown| shown.trim().replace("  ", " ") == line).count();
                assert_eq!(times, 2, "{line}\n{shown}");
            }
        }
    });
}

#[test]
fn a_refused_operation_is_named_and_nothing_of_its_batch_is_there() {
    in_namespace(|| {
        let mut kernel = Kernel::open().expect("a kernel");
        sets(&mut kernel, Family::Ipv4);
        let good = table(Family::Ipv4, Guard::Anyone);
        let family = Family::Ipv4;
        let no_set = Statement::InSet { set: "cam4pnone".into(), ends: vec![End::Source], inverted: false };
        let bad = [
            Operation::DropChain { family, chain: "none".into() },
            Operation::AddElement {
                family,
                map: Interface::Input,
                veth: "cam9".into(),
                chain: "none".into(),
            },
            Operation::DropElement { family, map: Interface::Input, veth: "cam9".into() },
            Operation::AddElement {
                family,
                map: Interface::Input,
                veth: "cam1".into(),
                chain: "every".into(),
            },
            Operation::AddElement {
                family,
                map: Interface::Input,
                veth: "cam4567890123456".into(),
                chain: "x".into(),
            },
            Operation::AddChain { family, chain: "x".into() },
            add_rule("x", rule("", [no_set])),
            add_rule("x", rule(&"t".repeat(128), [Statement::Counter])),
            add_rule("x", rule("", (0..2000).map(|_| Statement::Established))),
            add_rule("x", rule("", [Statement::Verdict(Verdict::Jump("x".into()))])),
        ];
        for (nth, operation) in bad.into_iter().enumerate() {
            let mut operations = good.clone();
            operations.push(operation.clone());
            operations.push(Operation::AddChain { family, chain: "y".into() });
            match kernel.commit(&operations, None) {
                // A loop of chains is seen at the end only.
                Err(CommitError::Batch(_)) if nth == 9 => {}
                Err(CommitError::Refused { operation: named, words, .. }) => {
                    assert_eq!(named, good.len(), "{operation:?}: {words}");
                }
                other => panic!("{operation:?}: {other:?}"),
            }
            assert_eq!(kernel.read().expect("read").ipv4, None);
        }
        kernel.commit(&good, None).expect("taken");
    });
}

#[test]
fn a_foreign_change_between_reading_and_writing_is_a_conflict() {
    in_namespace(|| {
        let mut kernel = Kernel::open().expect("a kernel");
        let generation = kernel.read().expect("read").generation;
        let mut other = Kernel::open().expect("another");
        other.commit(&[Operation::AddTable(Family::Ipv6, Guard::Anyone)], None).expect("taken");
        let operations = [Operation::AddTable(Family::Ipv4, Guard::Anyone)];
        let conflict = kernel.commit(&operations, Some(generation));
        assert!(matches!(conflict, Err(CommitError::Conflict)), "{conflict:?}");
        assert_eq!(kernel.read().expect("read").ipv4, None);
        kernel.commit(&operations, Some(next_generation(generation))).expect("taken");
    });
}

#[test]
fn what_others_put_into_our_tables_is_told_and_can_be_removed() {
    in_namespace(|| {
        if !has("nft") {
            return;
        }
        let mut kernel = Kernel::open().expect("a kernel");
        let family = Family::Ipv4;
        sets(&mut kernel, family);
        kernel.commit(&table(family, Guard::Anyone), None).expect("taken");
        run("nft insert rule ip cambric every ip saddr 10.0.0.1 accept");
        run("nft add rule ip cambric x tcp dport { 80, 443 } accept");
        run("nft add chain ip cambric hers");
        run("nft add set ip cambric hers { type ipv4_addr; }");
        run("nft add element ip cambric egress { cam7 : accept }");
        let held = kernel.read().expect("read").ipv4.expect("a table");
        assert_eq!(held.foreign, ["set hers"]);
        assert!(held.chains.contains_key("hers"));
        assert_eq!(held.maps[&Interface::Input].get("cam7"), Some(&Verdict::Accept));
        let foreign = |held: &HeldTable| {
            let rules =
                held.chains.iter().flat_map(|(name, chain)| chain.rules.iter().map(move |rule| (name, rule)));
            let foreign = rules.filter(|(_, rule)| rule.rule.is_err());
            foreign
                .map(|(chain, rule)| Operation::DropRule {
                    family,
                    chain: chain.clone(),
                    handle: rule.handle,
                })
                .collect::<Vec<_>>()
        };
        let mut operations = foreign(&held);
        assert_eq!(operations.len(), 2);
        operations.push(Operation::DropChain { family, chain: "hers".into() });
        operations.push(Operation::DropElement { family, map: Interface::Input, veth: "cam7".into() });
        kernel.commit(&operations, None).expect("taken");
        let held = kernel.read().expect("read").ipv4.expect("a table");
        assert_eq!(rules(&held, "every"), every_rule(family));
        assert_eq!(foreign(&held), []);

        run("nft add table ip cambric { flags dormant; }");
        assert!(kernel.read().expect("read").ipv4.expect("a table").state.dormant);
        kernel.commit(&[Operation::AddTable(family, Guard::Anyone)], None).expect("taken");
        assert!(!kernel.read().expect("read").ipv4.expect("a table").state.dormant);
    });
}

#[test]
fn tables_and_sets_of_others_are_not_touched() {
    in_namespace(|| {
        if !has("nft") || !has("ipset") {
            return;
        }
        run("nft add table ip hers");
        run("nft add chain ip hers c { type filter hook forward priority -10; }");
        run("nft add rule ip hers c counter drop");
        run("nft add table inet cambric");
        run("ipset create hers hash:ip");
        run("ipset add hers 10.0.0.1");
        // Of our name, but of another type.
        run("ipset create cam4list list:set");
        let before = (run("nft list ruleset"), run("ipset save"));
        let mut kernel = Kernel::open().expect("a kernel");
        assert_eq!(kernel.sets().expect("sets").len(), 0);
        for family in Family::ALL {
            sets(&mut kernel, family);
            kernel.commit(&table(family, Guard::Anyone), None).expect("taken");
        }
        kernel.commit(&[Operation::AddArpTable(Guard::Anyone)], None).expect("taken");
        let held = kernel.read().expect("read");
        assert!(held.ipv4.is_some_and(|table| table.chains.len() == 2));
        kernel
            .commit(
                &[
                    Operation::DropTable(Family::Ipv4),
                    Operation::DropTable(Family::Ipv6),
                    Operation::DropArpTable,
                ],
                None,
            )
            .expect("taken");
        for name in kernel.sets().expect("sets").into_keys() {
            // The kernel lets go of rules a moment after they are gone.
            until("destroyed", || kernel.destroy_set(&name).is_ok());
        }
        assert_eq!((run("nft list ruleset"), run("ipset save")), before);
    });
}

#[test]
fn veths_are_led_elsewhere_and_chains_dropped_in_one_batch() {
    in_namespace(|| {
        let mut kernel = Kernel::open().expect("a kernel");
        let family = Family::Ipv4;
        sets(&mut kernel, family);
        kernel.commit(&table(family, Guard::Anyone), None).expect("taken");
        kernel
            .commit(
                &[
                    Operation::AddChain { family, chain: "y".into() },
                    add_rule("y", rule("new", [Statement::Counter])),
                ],
                None,
            )
            .expect("taken");
        let (map, veth) = (Interface::Input, Arc::<str>::from("cam1"));
        let switch = [
            Operation::DropElement { family, map, veth: veth.clone() },
            Operation::AddElement { family, map, veth: veth.clone(), chain: "y".into() },
        ];
        kernel.commit(&switch, None).expect("taken");
        let held = kernel.read().expect("read").ipv4.expect("a table");
        assert_eq!(held.maps[&map][&veth], Verdict::Goto("y".into()));
        // The map leads to it.
        let refused = kernel.commit(&[Operation::DropChain { family, chain: "y".into() }], None);
        assert!(matches!(refused, Err(CommitError::Refused { operation: 0, .. })), "{refused:?}");
        let close = [
            Operation::DropElement { family, map, veth },
            Operation::DropChain { family, chain: "y".into() },
        ];
        kernel.commit(&close, None).expect("taken");
        assert!(!kernel.read().expect("read").ipv4.expect("a table").chains.contains_key("y"));
    });
}

#[test]
fn tens_of_thousands_of_rules_go_in_one_batch_and_a_flood_of_refusals_names_the_first() {
    in_namespace(|| {
        let mut kernel = Kernel::open().expect("a kernel");
        let family = Family::Ipv6;
        sets(&mut kernel, family);
        kernel.commit(&table(family, Guard::Anyone), None).expect("taken");
        let chains: Vec<Arc<str>> = (0..8000).map(|n| format!("i-{n:020}").into()).collect();
        let mut operations = Vec::new();
        for chain in &chains {
            operations.push(Operation::AddChain { family, chain: chain.clone() });
            for rule in &every_rule(family)[..5] {
                operations.push(Operation::AddRule { family, chain: chain.clone(), rule: rule.clone() });
            }
        }
        let mut watch = kernel.watch().expect("a watch");
        kernel.commit(&operations, None).expect("taken");
        // Who does not listen meanwhile is told that he missed something, and hears what comes then.
        assert!(watch.take().expect("heard").contains(&Event::Overrun));
        let generation = next_generation(kernel.generation().expect("a generation"));
        kernel.commit(&[Operation::AddChain { family, chain: "y".into() }], None).expect("taken");
        assert_eq!(watch.take().expect("heard"), [Event::Generation(generation)]);
        let held = kernel.read().expect("read").ipv6.expect("a table");
        assert_eq!(held.chains.len(), 8003);
        assert_eq!(rules(&held, &chains[7999]), every_rule(family)[..5]);
        // All are there already.
        let refused = kernel.commit(&operations, None);
        assert!(matches!(refused, Err(CommitError::Refused { operation: 0, .. })), "{refused:?}");
    });
}

#[test]
fn an_owned_table_is_closed_to_others_outlives_its_owner_and_is_taken_over() {
    in_namespace(|| {
        let mut kernel = Kernel::open().expect("a kernel");
        if kernel.guard().expect("asked") != Guard::Owned {
            println!("not run: the kernel has no persist (Linux 6.9)");
            return;
        }
        let family = Family::Ipv4;
        sets(&mut kernel, family);
        kernel.commit(&table(family, Guard::Owned), None).expect("taken");
        kernel.commit(&[Operation::AddArpTable(Guard::Owned)], None).expect("taken");
        let state = |kernel: &mut Kernel| kernel.read().expect("read").ipv4.map(|table| table.state);
        let owned_by = |owner| Some(TableState { owner, guard: Guard::Owned, dormant: false });
        assert_eq!(state(&mut kernel), owned_by(Some(kernel.port())));
        // Said again it stays so.
        kernel.commit(&[Operation::AddTable(family, Guard::Owned)], None).expect("taken");

        let mut other = Kernel::open().expect("another");
        let refused = other.commit(&[Operation::AddTable(family, Guard::Owned)], None);
        assert!(matches!(refused, Err(CommitError::Refused { operation: 0, errno: 1, .. })), "{refused:?}");
        if has("nft") {
            run("nft flush ruleset");
            assert!(try_run("nft delete table ip cambric").is_err());
            assert!(try_run("nft add rule ip cambric x accept").is_err());
        }
        let before = other.read().expect("read");
        assert_eq!(rules(before.ipv4.as_ref().expect("a table"), "every"), every_rule(family));

        drop(kernel);
        until("nobody owns it", || state(&mut other) == owned_by(None));
        let orphaned = other.read().expect("read");
        assert_eq!(orphaned.ipv4.expect("a table").chains, before.ipv4.expect("a table").chains);
        assert!(orphaned.arp.is_some_and(|arp| arp.whole));
        // Anybody may change it now, until somebody takes it over.
        let chain = Operation::AddChain { family, chain: "y".into() };
        other.commit(&[Operation::AddTable(family, Guard::Owned), chain], None).expect("taken over");
        assert_eq!(state(&mut other), owned_by(Some(other.port())));
    });
}

#[test]
fn a_table_made_without_a_guard_is_made_anew_to_be_owned() {
    in_namespace(|| {
        let mut kernel = Kernel::open().expect("a kernel");
        let guard = kernel.guard().expect("asked");
        kernel.commit(&[Operation::AddTable(Family::Ipv4, Guard::Anyone)], None).expect("taken");
        if guard == Guard::Owned {
            assert!(kernel.commit(&[Operation::AddTable(Family::Ipv4, guard)], None).is_err());
        }
        let anew = [Operation::DropTable(Family::Ipv4), Operation::AddTable(Family::Ipv4, guard)];
        kernel.commit(&anew, None).expect("taken");
        assert_eq!(kernel.read().expect("read").ipv4.expect("a table").state.guard, guard);
    });
}

#[test]
fn this_kernel_lacks_nothing_and_asking_leaves_nothing_behind() {
    in_namespace(|| {
        let mut kernel = Kernel::open().expect("a kernel");
        let generation = kernel.generation().expect("a generation");
        assert_eq!(kernel.requirements().expect("asked"), Vec::<String>::new());
        kernel.guard().expect("asked");
        assert_eq!(kernel.generation().expect("a generation"), generation);
        if has("nft") && has("ipset") {
            assert_eq!((run("nft list ruleset"), run("ipset save")), (String::new(), String::new()));
        }
    });
}

fn add_rule(chain: &str, rule: Rule) -> Operation {
    Operation::AddRule { family: Family::Ipv4, chain: chain.into(), rule }
}

/// The rules of a chain, all of which are ours.
fn rules(table: &HeldTable, chain: &str) -> Vec<Rule> {
    table.chains[chain].rules.iter().map(|held| held.rule.clone().expect("ours")).collect()
}
