//! Tables, chains, rules and maps.

use std::sync::Arc;

use cambric_policy::kernel::{CommitError, Guard, Kernel, Operation, next_generation};
use cambric_policy::program::{
    End, Family, Hook, Interface, Member, Ports, Protocol, Rule, SetKind, SetName, Statement, Verdict,
};

use crate::common::{has, in_namespace, run, try_run};

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
    let chain: Arc<str> = "all".into();
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
        if has("nft") {
            println!("{}", run("nft list ruleset"));
        }
        let held = kernel.read().expect("read");
        assert_eq!(held.generation, next_generation(generation));
        for family in Family::ALL {
            let table = held.table(family).expect("a table");
            let rules: Vec<_> =
                table.chains["all"].rules.iter().map(|held| held.rule.clone().expect("ours")).collect();
            assert_eq!(rules, every_rule(family));
            println!("{:?} {:?} {:?}", table.maps, table.foreign, table.state);
        }
    });
}
