mod edits;
mod scale;
mod traps;
mod uids;

use std::net::IpAddr;

use serde_json::{Value, json};

use super::*;
use crate::change::PodRef;
use crate::policy::decode;
use crate::program::Table;

/// What a node is told, as short as tests want it.
struct Node {
    compiler: Compiler,
    /// Kept by deltas alone.
    program: Program,
}

fn options(unknown_pods: UnknownPods) -> Options {
    Options { node: "node1".into(), bgp_port: 179, log_group: 100, unknown_pods }
}

impl Node {
    fn new() -> Node {
        Node::with(UnknownPods::Closed)
    }

    fn with(unknown_pods: UnknownPods) -> Node {
        let compiler = Compiler::new(options(unknown_pods));
        Node { program: compiler.program().clone(), compiler }
    }

    /// What changes, which is the whole difference and no more.
    fn settle(&mut self) -> Delta {
        let delta = self.compiler.take_delta();
        apply(&mut self.program, &delta);
        assert_eq!(&self.program, self.compiler.program());
        assert_eq!(self.compiler.take_delta(), Delta::default());
        delta
    }

    fn pod(&mut self, name: &str, labels: Value, address: &str) {
        self.object(name, json!({"metadata": {"labels": labels}, "status": {"podIPs": [{"ip": address}]}}));
    }

    /// A pod of `ns`, unless its name says otherwise.
    fn object(&mut self, name: &str, object: Value) {
        let pod = serde_json::from_value(object).expect("a pod");
        self.compiler.apply(Change::Pod(key(name), Some(Arc::new(Pod::read(&pod)))));
    }

    fn no_pod(&mut self, name: &str) {
        self.compiler.apply(Change::Pod(key(name), None));
    }

    fn namespace(&mut self, name: &str, labels: Value) {
        let object = serde_json::from_value(json!({"metadata": {"labels": labels}})).expect("a namespace");
        self.compiler.apply(Change::Namespace(name.into(), Some(Arc::new(object))));
    }

    fn wire(&mut self, veth: &str, pod: &str, addresses: &[&str]) {
        let addresses = addresses.iter().copied().map(address).collect();
        let endpoint = Endpoint { pod: Some(key(pod).into()), addresses };
        self.compiler.apply(Change::Endpoint(veth.into(), Some(endpoint)));
    }

    fn unwire(&mut self, veth: &str) {
        self.compiler.apply(Change::Endpoint(veth.into(), None));
    }

    fn policy(&mut self, name: &str, spec: Value) {
        self.compiler.apply(policy(name, spec));
    }

    fn no_policy(&mut self, name: &str) {
        self.compiler.apply(Change::Policy(key(name), None));
    }

    /// Sets of policies: the node's own aside.
    fn sets(&self) -> Vec<(&str, Vec<String>)> {
        let tables = Family::ALL.map(|family| (family, self.program.table(family)));
        let sets = tables.into_iter().flat_map(|(family, table)| {
            table
                .sets
                .iter()
                .filter(move |(name, _)| **name != self_set(family) && **name != peers_set(family))
        });
        sets.map(|(name, set)| (&**name, set.members.iter().map(shown).collect())).collect()
    }

    /// Members of the only IPv4 set of policies.
    fn set(&self) -> Vec<String> {
        let mut sets = self.sets();
        sets.retain(|(name, _)| name.starts_with("cam4"));
        let [(_, members)] = &sets[..] else { panic!("{sets:?}") };
        members.clone()
    }

    fn placement(&self, veth: &str) -> Option<&Placement> {
        self.program.dispatch.get(veth)
    }

    /// The rules of a pod's direction, IPv4, as text.
    fn rules(&self, veth: &str, direction: Direction) -> Vec<String> {
        let placement = self.placement(veth).expect("placed");
        let chain = match direction {
            Direction::Ingress => &placement.ingress,
            Direction::Egress => &placement.egress,
        };
        rules(&self.program.ipv4, chain)
    }
}

fn policy(name: &str, spec: Value) -> Change {
    let key = key(name);
    let metadata = json!({"namespace": &*key.namespace, "name": &*key.name});
    let (key, object) = decode(&json!({"metadata": metadata, "spec": spec})).expect("a name");
    Change::Policy(key, Some(Arc::new(object)))
}

fn key(name: &str) -> Key {
    let (namespace, name) = name.split_once('/').unwrap_or(("ns", name));
    Key::new(namespace, name)
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn shown(member: &Member) -> String {
    match member {
        Member::Address(address) => address.to_string(),
        Member::Network(network, length) => format!("{network}/{length}"),
        Member::AddressPort(address, protocol, port) => format!("{address} {protocol} {port}"),
        Member::Owner(address, veth) => format!("{address} {veth}"),
    }
}

fn rules(table: &Table, chain: &str) -> Vec<String> {
    let shown = |statement: &crate::program::Statement| {
        use crate::program::Statement::{
            AtMostPerSecond, Counter, DestinationPort, InSet, Log, Protocol, Verdict,
        };
        match statement {
            Protocol(protocol) => protocol.to_string(),
            DestinationPort(ports) => format!("{}-{}", ports.first, ports.last),
            InSet { set, ends, .. } => format!("{} {ends:?}", &set[..5]),
            Counter | AtMostPerSecond(_) | Log { .. } => String::new(),
            Verdict(verdict) => format!("{verdict:?}"),
            other => format!("{other:?}"),
        }
    };
    let line = |rule: &crate::program::Rule| {
        let words: Vec<String> = rule.statements.iter().map(shown).filter(|word| !word.is_empty()).collect();
        format!("{}: {}", rule.tag, words.join(" "))
    };
    table.chains.get(chain).expect("the chain").iter().map(line).collect()
}

/// Applies a difference, and asserts that each part of it makes one.
fn apply(program: &mut Program, delta: &Delta) {
    for (family, name, set) in &delta.sets_made {
        let before = program.table_mut(*family).sets.insert(name.clone(), set.clone());
        assert_eq!(before, None, "{name} made twice");
    }
    for (family, name, rules) in &delta.chains_made {
        let before = program.table_mut(*family).chains.insert(name.clone(), rules.clone());
        assert_eq!(before, None, "{name} made twice");
    }
    let members = |program: &mut Program, family: Family, name: &str| {
        let set = program.table_mut(family).sets.get_mut(name).expect("a set that stays");
        std::mem::take(&mut set.members)
    };
    for (family, name, member) in delta.left_first.iter().chain(&delta.left) {
        let mut held = members(program, *family, name);
        assert!(held.remove(member), "{member:?} was not in {name}");
        program.table_mut(*family).sets.get_mut(name).expect("the set").members = held;
    }
    for (family, name, member) in &delta.joined {
        let mut held = members(program, *family, name);
        assert!(held.insert(member.clone()), "{member:?} was in {name}");
        program.table_mut(*family).sets.get_mut(name).expect("the set").members = held;
    }
    for (veth, placement) in &delta.dispatch {
        let before = match placement {
            Some(placement) => program.dispatch.insert(veth.clone(), placement.clone()),
            None => program.dispatch.remove(veth),
        };
        assert_ne!(&before, placement, "{veth} stays where it was");
    }
    for (family, name) in &delta.chains_dropped {
        assert!(program.table_mut(*family).chains.remove(name).is_some(), "{name} was not there");
    }
    for (family, name) in &delta.sets_dropped {
        assert!(program.table_mut(*family).sets.remove(name).is_some(), "{name} was not there");
    }
    let made = |made: &(Family, Arc<str>)| {
        delta.sets_made.iter().any(|(family, name, _)| (family, name) == (&made.0, &made.1))
    };
    assert!(!delta.sets_dropped.iter().any(made), "made and dropped");
    assert_whole(program);
}

/// All that is named is there, and all that is there is named.
fn assert_whole(program: &Program) {
    use crate::program::{Statement, Verdict};
    for family in Family::ALL {
        let table = program.table(family);
        let all = || table.base_chains.iter().map(|base| &base.rules).chain(table.chains.values());
        let statements = || all().flatten().flat_map(|rule| &rule.statements);
        let mut sets: BTreeSet<&str> = statements()
            .filter_map(|statement| match statement {
                Statement::InSet { set, .. } => Some(&**set),
                _ => None,
            })
            .collect();
        let mut chains: BTreeSet<&str> = statements()
            .filter_map(|statement| match statement {
                Statement::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => Some(&**chain),
                _ => None,
            })
            .collect();
        chains.extend(program.dispatch.values().flat_map(|placed| [&*placed.ingress, &*placed.egress]));
        chains.insert(OPEN);
        sets.retain(|name| !name.ends_with("self") && !name.ends_with("peers"));
        let own = |name: &&str| **name != *self_set(family) && **name != *peers_set(family);
        assert_eq!(table.sets.keys().map(|name| &**name).filter(own).collect::<BTreeSet<_>>(), sets);
        assert_eq!(table.chains.keys().map(|name| &**name).collect::<BTreeSet<_>>(), chains);
        for (name, set) in &table.sets {
            assert!(name.len() <= crate::program::MOST_SET_NAME_BYTES);
            for member in &set.members {
                let (kind, address) = match member {
                    Member::Address(address) => (crate::program::SetKind::Addresses, address),
                    Member::Network(address, _) => (crate::program::SetKind::Networks, address),
                    Member::AddressPort(address, ..) => (crate::program::SetKind::AddressPorts, address),
                    Member::Owner(address, _) => (crate::program::SetKind::Owners, address),
                };
                assert_eq!((kind, Family::of(*address)), (set.kind, family), "{name}");
                assert!(!matches!(member, Member::Network(_, 0)), "no set takes it");
            }
        }
    }
}
