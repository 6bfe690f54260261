//! What every program has, whatever the policies: the base chains, the chains they jump to, and the sets of the node.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Options;
use crate::program::{
    BaseChain, End, Family, Hook, Interface, Ports, Program, Protocol, Rule, Set, SetKind, SetName,
    Statement, Table, Verdict,
};

/// The chain of a direction in which no policy isolates a pod.
pub const OPEN: &str = "open";
/// Denied packets of one chain that are told a second: enough to see what is denied, too few to keep anybody busy.
pub(super) const MOST_LOGGED_PER_SECOND: u32 = 10;

/// Anti-spoofing, before connection tracking (NF_IP_PRI_RAW).
const BEFORE_TRACKING: i32 = -300;
/// Before other programs' filter chains (NF_IP_PRI_FILTER is 0), after translation of destinations.
const BEFORE_FILTERS: i32 = -10;

/// The set of addresses and the veths that may send from them.
pub fn self_set(family: Family) -> SetName {
    Arc::from(format!("{}self", prefix(family)))
}

/// The set of BGP peers' addresses.
pub fn peers_set(family: Family) -> SetName {
    Arc::from(format!("{}peers", prefix(family)))
}

/// What names of sets begin with.
pub fn prefix(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "cam4",
        Family::Ipv6 => "cam6",
    }
}

/// The program of a node without pods.
pub fn frame(options: &Options) -> Program {
    Program {
        ipv4: table(Family::Ipv4, options),
        ipv6: table(Family::Ipv6, options),
        dispatch: BTreeMap::new(),
    }
}

/// The last rules of a chain that denies what came so far: one that tells it, one that does it.
pub(super) fn deny(options: &Options, prefix: &str, tag: &str) -> [Rule; 2] {
    let log = Statement::Log { group: options.log_group, prefix: prefix.into() };
    [
        rule(tag, vec![Statement::AtMostPerSecond(MOST_LOGGED_PER_SECOND), log]),
        rule(tag, vec![Statement::Counter, Statement::Verdict(Verdict::Drop)]),
    ]
}

fn table(family: Family, options: &Options) -> Table {
    let own = self_set(family);
    let bgp = Ports { first: options.bgp_port, last: options.bgp_port };
    let to_bgp = [Statement::Protocol(Protocol::Tcp), Statement::DestinationPort(bgp)];
    let drop = [Statement::Counter, Statement::Verdict(Verdict::Drop)];
    let accept = [Statement::Counter, Statement::Verdict(Verdict::Accept)];
    let from_pod = Statement::IsVeth(Interface::Input);
    let to_pod = Statement::IsVeth(Interface::Output);
    let jump = |chain: &str| Statement::Verdict(Verdict::Jump(chain.into()));
    let in_set = |set: SetName, ends: &[End], inverted| Statement::InSet { set, ends: ends.into(), inverted };

    let is_not_its_own = in_set(own.clone(), &[End::Source, End::Source], true);
    let spoof = vec![rule("spoofed", [vec![from_pod.clone(), is_not_its_own], drop.to_vec()].concat())];
    // A pod is never cut off from itself, also by way of a service. The interfaces are asked first: most packets pass one
    // veth, and are spared the lookup.
    let is_to_itself = in_set(own.clone(), &[End::Destination, End::Source], false);
    let forward = vec![
        rule("established", [vec![Statement::Established], accept.to_vec()].concat()),
        rule("itself", [vec![from_pod.clone(), to_pod.clone(), is_to_itself], accept.to_vec()].concat()),
        rule("egress", vec![from_pod.clone(), jump("egress")]),
        rule("ingress", vec![to_pod, jump("ingress")]),
    ];
    let input = vec![rule("bgp-port", [vec![from_pod], to_bgp.to_vec(), drop.to_vec()].concat())];

    let is_peer = in_set(peers_set(family), &[End::Destination], false);
    let no_bgp = rule("bgp-port", [to_bgp.to_vec(), vec![is_peer], drop.to_vec()].concat());
    let egress = [no_bgp, rule("dispatch", vec![Statement::Dispatch(Interface::Input)])];
    let ingress = [rule("dispatch", vec![Statement::Dispatch(Interface::Output)])];
    let closed = deny(options, "closed", "closed");
    let open = vec![rule(OPEN, vec![Statement::Verdict(Verdict::Return)])];

    let base = |name: &str, hook, priority, rules| BaseChain { name: name.into(), hook, priority, rules };
    let set = |kind| Set { kind, members: [].into() };
    Table {
        base_chains: vec![
            base("spoof", Hook::Prerouting, BEFORE_TRACKING, spoof),
            base("forward", Hook::Forward, BEFORE_FILTERS, forward),
            base("input", Hook::Input, BEFORE_FILTERS, input),
        ],
        chains: BTreeMap::from([
            ("egress".into(), egress.into_iter().chain(closed.clone()).collect()),
            ("ingress".into(), ingress.into_iter().chain(closed).collect()),
            (OPEN.into(), open),
        ]),
        sets: BTreeMap::from([(own, set(SetKind::Owners)), (peers_set(family), set(SetKind::Addresses))]),
    }
}

fn rule(tag: &str, statements: Vec<Statement>) -> Rule {
    Rule { statements, tag: tag.into() }
}
