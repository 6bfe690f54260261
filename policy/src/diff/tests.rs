//! A kernel of plain data: what it holds is damaged, what the difference says is done to it, and it is as wanted.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use super::*;
use crate::change::{Change, Endpoint, Key, PolicyObject};
use crate::compile::{Compiler, Options, UnknownPods};
use crate::kernel::{Foreign, HeldArp};
use crate::pod::Pod;

/// Two pods here, one of which a policy isolates.
pub(crate) fn compiler() -> Compiler {
    let options =
        Options { node: "n1".into(), bgp_port: 179, log_group: 1, unknown_pods: UnknownPods::Closed };
    let mut compiler = Compiler::new(options);
    compiler.apply(Change::Namespace("default".into(), Some(Arc::new(Namespace::default()))));
    for (name, number) in [("web", 1), ("db", 2)] {
        compiler.apply(pod(name, json!({"app": name}), number));
        compiler.apply(endpoint(name, number));
    }
    compiler.apply(policy("db", json!({"app": "db"}), json!({"app": "web"})));
    compiler.take_delta();
    compiler
}

pub(crate) fn pod(name: &str, labels: Value, number: u8) -> Change {
    let object = json!({
        "metadata": {"namespace": "default", "name": name, "uid": name, "labels": labels},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"phase": "Running", "podIPs": [{"ip": format!("10.0.0.{number}")}, {"ip": format!("fd00::{number}")}]},
    });
    let object = serde_json::from_value(object).expect("a pod");
    Change::Pod(Key::new("default", name), Some(Arc::new(Pod::read(&object))))
}

pub(crate) fn endpoint(name: &str, number: u8) -> Change {
    let addresses = [format!("10.0.0.{number}"), format!("fd00::{number}")];
    let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
    let endpoint = Endpoint { pod: Some(Key::new("default", name).into()), addresses };
    Change::Endpoint(format!("cam{name}").as_str().into(), Some(endpoint))
}

/// Lets in what `from` selects.
pub(crate) fn policy(name: &str, selects: Value, from: Value) -> Change {
    let object = json!({
        "metadata": {"namespace": "default", "name": name},
        "spec": {"podSelector": {"matchLabels": selects},
                 "ingress": [{"from": [{"podSelector": {"matchLabels": from}}]}]},
    });
    let object = serde_json::from_value::<NetworkPolicy>(object).expect("a policy");
    Change::Policy(Key::new("default", name), Some(Arc::new(PolicyObject { object, faults: Vec::new() })))
}

/// What a kernel holds that holds all of a program.
pub(crate) fn holding(program: &Program) -> Held {
    let table = |family| {
        let wanted = program.table(family);
        let rules = |rules: &[Rule]| {
            let rules = rules.iter().zip(1..);
            rules.map(|(rule, handle)| HeldRule { handle, rule: Ok(rule.clone()) }).collect::<Vec<_>>()
        };
        let base = wanted.base_chains.iter().map(|base| {
            let place = HeldBase { hook: Some(base.hook), priority: base.priority, accepts: true };
            (base.name.clone(), HeldChain { base: Some(place), rules: rules(&base.rules) })
        });
        let others = wanted.chains.iter();
        let others =
            others.map(|(name, chain)| (name.clone(), HeldChain { base: None, rules: rules(chain) }));
        let led = |map| {
            let veths = program.dispatch.iter();
            veths.map(move |(veth, to)| (veth.clone(), Verdict::Goto(chain_of(to, map).clone()))).collect()
        };
        Some(HeldTable {
            state: TableState::default(),
            chains: base.chain(others).collect(),
            maps: MAPS.into_iter().map(|map| (map, led(map))).collect(),
            foreign: Vec::new(),
        })
    };
    let owners = owners(program, Family::Ipv4).filter_map(own).collect();
    let arp = Some(HeldArp { state: TableState::default(), whole: true, owners });
    Held { generation: 1, ipv4: table(Family::Ipv4), ipv6: table(Family::Ipv6), arp }
}

/// Does to the tables what the kernel would do; what it would refuse fails the test.
pub(crate) fn play(held: &mut Held, operations: &[Operation]) {
    for operation in operations {
        step(held, operation).unwrap_or_else(|| panic!("refused: {operation:?}"));
    }
}

fn step(held: &mut Held, operation: &Operation) -> Option<()> {
    match operation {
        Operation::AddTable(family, _) => {
            let table = slot(held, *family).get_or_insert_with(HeldTable::default);
            table.state.dormant = false;
        }
        Operation::DropTable(family) => drop(slot(held, *family).take()?),
        Operation::AddBaseChain { family, chain, hook, priority } => {
            let place = HeldBase { hook: Some(*hook), priority: *priority, accepts: true };
            let made = HeldChain { base: Some(place), rules: Vec::new() };
            is_new(slot(held, *family).as_mut()?.chains.insert(chain.clone(), made))?;
        }
        Operation::AddChain { family, chain } => {
            is_new(slot(held, *family).as_mut()?.chains.insert(chain.clone(), HeldChain::default()))?;
        }
        Operation::AddRule { family, chain, rule } => {
            let chain = slot(held, *family).as_mut()?.chains.get_mut(chain)?;
            chain.rules.push(HeldRule { handle: 0, rule: Ok(rule.clone()) });
        }
        Operation::DropRule { family, chain, handle } => {
            let rules = &mut slot(held, *family).as_mut()?.chains.get_mut(chain)?.rules;
            let at = rules.iter().position(|rule| rule.handle == *handle)?;
            rules.remove(at);
        }
        Operation::FlushChain { family, chain } => {
            slot(held, *family).as_mut()?.chains.get_mut(chain)?.rules.clear()
        }
        Operation::DropChain { family, chain } => {
            let table = slot(held, *family).as_mut()?;
            let leads =
                |verdict: &Verdict| matches!(verdict, Verdict::Goto(to) | Verdict::Jump(to) if to == chain);
            let by_map = table.maps.values().flat_map(|map| map.values()).any(leads);
            let statements = table.chains.iter().filter(|(name, _)| *name != chain);
            let statements = statements.flat_map(|(_, chain)| &chain.rules).flat_map(|rule| rule.rule.iter());
            let by_rule = statements.flat_map(|rule| &rule.statements).any(|statement| {
                matches!(statement, crate::program::Statement::Verdict(verdict) if leads(verdict))
            });
            (!by_map && !by_rule).then_some(())?;
            table.chains.remove(chain)?;
        }
        Operation::AddMap { family, map } => {
            is_new(slot(held, *family).as_mut()?.maps.insert(*map, BTreeMap::new()))?;
        }
        Operation::AddElement { family, map, veth, chain } => {
            let table = slot(held, *family).as_mut()?;
            table.chains.get(chain)?;
            is_new(table.maps.get_mut(map)?.insert(veth.clone(), Verdict::Goto(chain.clone())))?;
        }
        Operation::DropElement { family, map, veth } => {
            slot(held, *family).as_mut()?.maps.get_mut(map)?.remove(veth)?;
        }
        Operation::AddArpTable(_) => {
            let made = HeldArp { whole: true, ..HeldArp::default() };
            is_new(held.arp.replace(made))?;
        }
        Operation::DropArpTable => drop(held.arp.take()?),
        Operation::AddArpOwner(veth, address) => {
            held.arp.as_mut()?.owners.insert((veth.clone(), *address)).then_some(())?;
        }
        Operation::DropArpOwner(veth, address) => {
            held.arp.as_mut()?.owners.remove(&(veth.clone(), *address)).then_some(())?;
        }
    }
    Some(())
}

fn slot(held: &mut Held, family: Family) -> &mut Option<HeldTable> {
    match family {
        Family::Ipv4 => &mut held.ipv4,
        Family::Ipv6 => &mut held.ipv6,
    }
}

fn is_new<T>(before: Option<T>) -> Option<()> {
    before.is_none().then_some(())
}

/// Without what differs from making to making.
pub(crate) fn plain(mut held: Held) -> Held {
    held.generation = 0;
    for table in [&mut held.ipv4, &mut held.ipv6].into_iter().flatten() {
        table.chains.values_mut().flat_map(|chain| &mut chain.rules).for_each(|rule| rule.handle = 0);
    }
    held
}

const WISH: Wish = Wish { guard: Guard::Anyone, port: 1, effort: Effort::Mend };

fn mend(program: &Program, held: &Held, wish: Wish) -> Difference {
    let mut difference = Difference::default();
    tables(program, held, wish, &Lingering::default(), &mut difference);
    difference
}

/// Does all of a difference, drops what lingers, and compares.
fn check(program: &Program, mut held: Held, wish: Wish) -> BTreeSet<Cause> {
    let Difference { plan, causes } = mend(program, &held, wish);
    let Plan { made, first, last, lingering, .. } = plan;
    for operations in [made, first, last] {
        play(&mut held, &operations);
    }
    let chains = lingering.chains.iter().cloned();
    let rules_first = chains.clone().map(|(family, chain)| Operation::FlushChain { family, chain });
    let chains = chains.map(|(family, chain)| Operation::DropChain { family, chain });
    play(&mut held, &rules_first.chain(chains).collect::<Vec<_>>());
    assert_eq!(plain(held), plain(holding(program)));
    causes
}

#[test]
fn what_is_right_is_left_alone() {
    let compiler = compiler();
    let difference = mend(compiler.program(), &holding(compiler.program()), WISH);
    assert!(difference.plan.is_empty(), "{difference:?}");
    assert_eq!(difference.causes, BTreeSet::new());
    assert_eq!(difference.plan.lingering, Lingering::default());
}

#[test]
fn an_empty_kernel_gets_all_in_one_batch() {
    let compiler = compiler();
    let difference = mend(compiler.program(), &Held::default(), WISH);
    let led = |operation: &Operation| matches!(operation, Operation::AddElement { .. });
    assert!(difference.plan.made.iter().any(led) && !difference.plan.first.iter().any(led));
    check(compiler.program(), Held::default(), WISH);
}

#[test]
fn every_damage_is_mended_and_told_by_its_cause() {
    let compiler = compiler();
    let program = compiler.program();
    let class = program.ipv4.chains.keys().find(|name| name.starts_with("i-")).expect("a class").clone();
    let foreign = || HeldRule { handle: 99, rule: Err(Foreign("a rule of somebody".into())) };
    type Damage<'a> = Box<dyn Fn(&mut HeldTable) + 'a>;
    let damages: Vec<(Cause, Damage<'_>)> = vec![
        (Cause::Table, Box::new(|table| table.foreign.push("set other".into()))),
        (Cause::Table, Box::new(|table| table.state.dormant = true)),
        (Cause::Rule, Box::new(|table| table.chains.values_mut().for_each(|chain| chain.rules.clear()))),
        (
            Cause::Rule,
            Box::new(|table| table.chains.get_mut("forward").expect("there").rules.insert(0, foreign())),
        ),
        (Cause::Rule, Box::new(|table| table.chains.get_mut("forward").expect("there").rules.reverse())),
        (Cause::Rule, Box::new(|table| drop(table.chains.get_mut(&class).expect("there").rules.remove(0)))),
        (Cause::Chain, Box::new(|table| drop(table.chains.remove("spoof")))),
        (Cause::Chain, Box::new(|table| table.chains.get_mut("input").expect("there").base = None)),
        (
            Cause::Chain,
            Box::new(|table| {
                let place = table.chains["forward"].base;
                table.chains.insert("other".into(), HeldChain { base: place, rules: vec![foreign()] });
            }),
        ),
        (Cause::Chain, Box::new(|table| drop(table.chains.insert("other".into(), HeldChain::default())))),
        (
            Cause::Chain,
            Box::new(|table| {
                table.chains.get_mut("forward").expect("there").base.as_mut().expect("a place").accepts =
                    false;
            }),
        ),
        (Cause::Map, Box::new(|table| table.maps.clear())),
        (
            Cause::Map,
            Box::new(|table| drop(table.maps.get_mut(&Interface::Output).expect("there").remove("camdb"))),
        ),
        (
            Cause::Map,
            Box::new(|table| {
                for map in table.maps.values_mut() {
                    map.insert("camdb".into(), Verdict::Accept);
                    map.insert("camother".into(), Verdict::Goto("open".into()));
                    map.insert("camother2".into(), Verdict::Accept);
                }
            }),
        ),
    ];
    for (nth, (cause, damage)) in damages.iter().enumerate() {
        let mut held = holding(program);
        damage(held.ipv4.as_mut().expect("a table"));
        let causes = check(program, held.clone(), WISH);
        assert!(causes.contains(cause), "{nth}: {causes:?}");
        damage(held.ipv6.as_mut().expect("a table"));
        held.arp = None;
        check(program, held.clone(), WISH);
        check(program, held, Wish { effort: Effort::Rebuild, ..WISH });
    }
}

#[test]
fn rules_that_are_too_much_go_alone_so_that_counters_go_on() {
    let compiler = compiler();
    let mut held = holding(compiler.program());
    let rules = &mut held.ipv4.as_mut().expect("a table").chains.get_mut("forward").expect("a chain").rules;
    rules.insert(1, HeldRule { handle: 99, rule: Err(Foreign("a rule of somebody".into())) });
    let made = mend(compiler.program(), &held, WISH).plan.made;
    assert_eq!(made, [Operation::DropRule { family: Family::Ipv4, chain: "forward".into(), handle: 99 }]);
}

#[test]
fn a_table_whose_owner_is_gone_is_claimed_and_nothing_else() {
    let compiler = compiler();
    let mut held = holding(compiler.program());
    for table in [&mut held.ipv4, &mut held.ipv6].into_iter().flatten() {
        table.state = TableState { owner: None, guard: Guard::Owned, dormant: false };
    }
    let difference = mend(compiler.program(), &held, Wish { guard: Guard::Owned, ..WISH });
    let claims = Family::ALL.map(|family| Operation::AddTable(family, Guard::Owned));
    assert_eq!((&difference.plan.made[..], difference.causes.len()), (&claims[..], 0));
}

// -- Sets.

fn held_sets(program: &Program) -> BTreeMap<SetName, (Family, Set)> {
    let of = |family| {
        program.table(family).sets.iter().map(move |(name, set)| (name.clone(), (family, set.clone())))
    };
    Family::ALL.into_iter().flat_map(of).collect()
}

#[test]
fn members_are_put_right_and_strange_sets_made_anew() {
    let compiler = compiler();
    let program = compiler.program();
    let mut held = held_sets(program);
    let (name, _) =
        held.iter().find(|(name, _)| name.starts_with("cam4p") && &***name != "cam4peers").expect("a set");
    let name = name.clone();
    let stranger = Member::Address("192.0.2.1".parse().expect("an address"));
    let members = std::mem::replace(
        &mut held.get_mut(&name).expect("there").1.members,
        BTreeSet::from([stranger.clone()]),
    );
    let mut difference = Difference::default();
    sets(program, &held, |_| true, &mut difference);
    let key = (Family::Ipv4, name.clone());
    assert_eq!(difference.plan.left, Members::from([(key.clone(), vec![stranger])]));
    assert_eq!(difference.plan.joined, Members::from([(key.clone(), members.into_iter().collect())]));
    held.get_mut(&name).expect("there").1.kind = SetKind::Networks;
    let mut difference = Difference::default();
    sets(program, &held, |_| true, &mut difference);
    assert_eq!(difference.plan.wrong_sets, BTreeSet::from([key]));
    assert_eq!(difference.causes, BTreeSet::from([Cause::Set]));
}

#[test]
fn of_owners_only_false_ones_go() {
    let compiler = compiler();
    let program = compiler.program();
    let mut held = held_sets(program);
    let owner = |address: &str, veth: &str| Member::Owner(address.parse().expect("an address"), veth.into());
    let of = |held: &mut BTreeMap<SetName, (Family, Set)>, set: &str, member: Member| {
        held.get_mut(set).expect("there").1.members.insert(member);
    };
    of(&mut held, "cam6self", owner("fe80::1", "camweb"));
    of(&mut held, "cam4self", owner("10.0.0.9", "camnew"));
    of(&mut held, "cam4self", owner("10.0.0.9", "camweb"));
    of(&mut held, "cam4self", owner("10.0.0.8", "camgone"));
    let mut difference = Difference::default();
    sets(program, &held, |veth| veth != "camgone", &mut difference);
    let left = difference.plan.left.into_values().flatten().collect::<Vec<_>>();
    assert_eq!(left, [owner("10.0.0.8", "camgone"), owner("10.0.0.9", "camweb")]);
    assert!(difference.plan.joined.is_empty());
}

#[test]
fn only_names_that_we_make_are_ours() {
    for name in
        ["cam4self", "cam6peers", "cam4paaaaaaaaaaaaaaaaaaaaaaaaaa", "cam6e22222222222222222222222222"]
    {
        assert!(is_ours(name), "{name}");
    }
    for name in [
        "cam4",
        "camera",
        "cam4selfie",
        "cam4paaaa",
        "cam5self",
        "cam4paaaaaaaaaaaaaaaaaaaaaaaaa1",
        "xcam4self",
    ] {
        assert!(!is_ours(name), "{name}");
    }
}

#[test]
fn a_member_goes_first_whose_address_a_new_pod_has() {
    let compiler = compiler();
    let program = compiler.program();
    let mut held = holding(program);
    for table in [&mut held.ipv4, &mut held.ipv6].into_iter().flatten() {
        table.maps.values_mut().for_each(|map| drop(map.remove("camdb")));
    }
    let key = (Family::Ipv4, SetName::from("cam4paaaaaaaaaaaaaaaaaaaaaaaaaa"));
    let [reused, other] = ["10.0.0.2", "10.0.0.1"].map(|ip| Member::Address(ip.parse().expect("an address")));
    let mut difference = Difference::default();
    difference.plan.left = Members::from([(key.clone(), vec![reused.clone(), other.clone()])]);
    tables(program, &held, WISH, &Lingering::default(), &mut difference);
    assert_eq!(difference.plan.left_first, Members::from([(key.clone(), vec![reused])]));
    assert_eq!(difference.plan.left, Members::from([(key, vec![other])]));
}
