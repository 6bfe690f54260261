//! What is to be written to the kernel, in the order in which it is, so that no packet is judged by a mixture of old and new.
//!
//! ```text
//! sets_made     new sets with all members: no rule names them yet
//! foreign       members of others in sets of ours: one can hide a member of ours from being added
//! left_first    members whose address another pod has now
//! made          one nf_tables batch: new chains, to which nothing leads yet
//! first         a second: the maps lead to them
//! joined, left  members of sets that stay: what becomes allowed, then what ends
//! last          a third, if veths went through transitional chains
//! lingering     at leisure: chains and sets that nobody uses any more
//! ```
//!
//! Chains are made in a batch before the one that leads to them, for a packet that is on its way while a batch is committed
//! meets new elements of maps, but chains as they were before: a new one would be empty.
//!
//! Maps and sets cannot change in one step. Where one change alters both the chain of a pod that was placed and members of
//! sets, a packet could meet the new chain of one pod and the old set in the chain of another, and be allowed though it is
//! neither before nor after. Nor is one packet judged in one moment: it may look into one set before a step and into
//! another after it. So between steps of which a packet must not meet only one, all packets under way are waited for
//! ([`Plan::waits`]). And the veth first goes to a *transitional* chain, by which only that passes which both the old
//! and the new chain let pass.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use crate::compile::OPEN;
use crate::kernel::{ForeignMember, Operation};
use crate::program::{
    ChainName, Delta, Family, IfName, Interface, Member, Placement, Rule, Set, SetName, Statement, Verdict,
};

/// What transitional chains are called begins so; no class chain's name does.
pub(crate) const TRANSITIONAL: &str = "t-";
/// Transitional chains lead from one to another where changes fail half-way. Deeper than so no more is built: the kernel
/// follows 16 jumps (NFT_JUMP_STACK_SIZE).
const DEEPEST: u32 = 4;

/// Members by set.
pub(crate) type Members = BTreeMap<(Family, SetName), Vec<Member>>;

/// What is to be written; see above.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Sets of ours by name but not by kind.
    pub(crate) wrong_sets: BTreeSet<(Family, SetName)>,
    pub(crate) sets_made: Vec<(Family, SetName, Set)>,
    pub(crate) foreign: BTreeMap<(Family, SetName), BTreeSet<ForeignMember>>,
    pub(crate) left_first: Members,
    pub(crate) made: Vec<Operation>,
    pub(crate) first: Vec<Operation>,
    pub(crate) joined: Members,
    pub(crate) left: Members,
    pub(crate) last: Vec<Operation>,
    pub(crate) lingering: Lingering,
    /// A veth that was led to one chain is led to another.
    pub(crate) switches: bool,
    /// Dispatch changes by stages, whatever the members.
    pub(crate) is_staged: bool,
    /// Some veths take a detour.
    pub(crate) has_detours: bool,
    /// Veths that are led elsewhere afterwards; what the maps of the kernel held before, does not change otherwise.
    pub(crate) dispatch: Vec<(IfName, Option<Placement>)>,
    /// What lingered and is used again.
    pub(crate) used: Lingering,
}

/// What is in the kernel and leads nowhere any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lingering {
    pub(crate) chains: BTreeSet<(Family, ChainName)>,
    pub(crate) sets: BTreeSet<(Family, SetName)>,
}

/// What the kernel holds of ours, as far as the next change has to know it.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    /// The maps of both families.
    pub(crate) dispatch: BTreeMap<IfName, Placement>,
    pub(crate) lingering: Lingering,
}

impl Plan {
    /// The plan for what one change altered. What lingers and is wanted again is used as it is.
    pub(crate) fn of_delta(delta: Delta, held: &Mirror) -> Plan {
        let mut plan = Plan::default();
        let own = own_changes(&delta);
        for (family, name, rules) in delta.chains_made {
            let lingers = (family, name.clone());
            if held.lingering.chains.contains(&lingers) {
                plan.used.chains.insert(lingers);
            } else {
                plan.made.push(Operation::AddChain { family, chain: name.clone() });
                let rule = |rule| Operation::AddRule { family, chain: name.clone(), rule };
                plan.made.extend(rules.into_iter().map(rule));
            }
        }
        let lingers = |(family, name, _): &(Family, SetName, Set)| (*family, name.clone());
        plan.used.sets = delta.sets_made.iter().map(lingers).collect();
        plan.sets_made = delta.sets_made;
        plan.left_first = by_set(delta.left_first);
        plan.joined = by_set(delta.joined);
        plan.left = by_set(delta.left);
        plan.is_staged = crosses(&delta.dispatch, held);
        let mut switch = Switch::new(plan.manner(), held.lingering.chains.clone());
        for (veth, to) in &delta.dispatch {
            let from = held.dispatch.get(veth);
            for family in Family::ALL {
                for map in [Interface::Input, Interface::Output] {
                    let [from, to] = [from, to.as_ref()].map(|placement| Some(chain_of(placement?, map)));
                    switch.lead(family, map, veth, from, to, from.is_some());
                }
            }
        }
        switch.give(&mut plan);
        plan.first.extend(own);
        plan.lingering.chains = delta.chains_dropped.into_iter().collect();
        plan.lingering.sets = delta.sets_dropped.into_iter().collect();
        plan.dispatch = delta.dispatch;
        plan
    }

    /// Whether a delta or a difference left nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        let Plan { wrong_sets, sets_made, foreign, left_first, made, first, joined, left, last, .. } = self;
        let sets = wrong_sets.is_empty() && sets_made.is_empty();
        let members = foreign.is_empty() && left_first.is_empty() && joined.is_empty() && left.is_empty();
        sets && members && made.is_empty() && first.is_empty() && last.is_empty()
    }

    /// Between which steps packets under way are waited for: before what joins, before what leaves, before the end. A pod that
    /// was not let in before, members that only join or only leave, need none: a packet that meets half of that is
    /// judged as before or as after.
    pub(crate) fn waits(&self) -> Waits {
        let (joins, leaves) = (concerns_pods(&self.joined), concerns_pods(&self.left));
        Waits {
            before_joined: self.switches && (joins || leaves),
            before_left: joins && leaves,
            before_last: !self.last.is_empty(),
        }
    }

    /// How dispatch is to change beside these members. Those of anti-spoof sets matter to no other pod.
    pub(crate) fn manner(&self) -> Manner {
        let members = [&self.joined, &self.left];
        if self.is_staged || members.into_iter().any(concerns_pods) { Manner::Staged } else { Manner::AtOnce }
    }
}

/// See [`Plan::waits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waits {
    pub(crate) before_joined: bool,
    pub(crate) before_left: bool,
    pub(crate) before_last: bool,
}

/// Whether any of the members says what other pods may do. Those of owners' sets do not.
fn concerns_pods(members: &Members) -> bool {
    members.values().flatten().any(|member| !matches!(member, Member::Owner(..)))
}

/// Whether what one pod may send changes and what another may be sent, so that a packet from the one to the other could meet
/// the old chain and then the new one.
pub(crate) fn crosses(dispatch: &[(IfName, Option<Placement>)], held: &Mirror) -> bool {
    let changing = |map: Interface| {
        let changes = move |(veth, to): &&(IfName, Option<Placement>)| {
            let from = held.dispatch.get(veth).map(|placement| chain_of(placement, map));
            from.is_some_and(|from| to.as_ref().is_some_and(|to| chain_of(to, map) != from))
        };
        dispatch.iter().filter(changes).map(|(veth, _)| veth)
    };
    // Two of each are enough to know: they may be many.
    let some = |map| changing(map).take(2).collect::<Vec<_>>();
    let (sends, is_sent) = (some(Interface::Input), some(Interface::Output));
    sends.iter().any(|sends| is_sent.iter().any(|is_sent| is_sent != sends))
}

/// How a veth goes from one chain to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// In the first batch.
    AtOnce,
    /// By a transitional chain in the first, to its end in the last.
    Staged,
}

/// Leads veths from chain to chain.
#[derive(Debug)]
pub(crate) struct Switch {
    manner: Manner,
    /// Names that chains have which are there.
    taken: BTreeSet<(Family, ChainName)>,
    /// Numbers that names were made of.
    named: u64,
    /// By the chains they lead from and to.
    transitional: BTreeMap<(Family, ChainName, ChainName), ChainName>,
    any: bool,
    made: Vec<Operation>,
    first: Vec<Operation>,
    last: Vec<Operation>,
    dropped: Vec<Operation>,
}

impl Switch {
    pub(crate) fn new(manner: Manner, taken: BTreeSet<(Family, ChainName)>) -> Switch {
        let (made, first, last, dropped) = Default::default();
        Switch {
            manner,
            taken,
            named: 0,
            transitional: BTreeMap::new(),
            any: false,
            made,
            first,
            last,
            dropped,
        }
    }

    /// One element of one map. `None`: it is not in the map. A transitional chain may use the old one only if that is sound.
    pub(crate) fn lead(
        &mut self,
        family: Family,
        map: Interface,
        veth: &IfName,
        from: Option<&ChainName>,
        to: Option<&ChainName>,
        is_sound: bool,
    ) {
        if from == to {
            return;
        }
        self.any |= from.is_some() && to.is_some();
        let drop = || Operation::DropElement { family, map, veth: veth.clone() };
        let add = |chain: &ChainName| Operation::AddElement {
            family,
            map,
            veth: veth.clone(),
            chain: chain.clone(),
        };
        match (self.manner, from, to) {
            // The new chain alone lets pass what both do.
            (Manner::Staged, Some(from), Some(to))
                if is_sound && &**from != OPEN && depth(from) < DEEPEST =>
            {
                // The old chain alone does.
                let by = if &**to == OPEN { from.clone() } else { self.transitional(family, from, to) };
                if &by != from {
                    self.first.extend([drop(), add(&by)]);
                }
                self.last.extend([drop(), add(to)]);
            }
            (_, from, to) => {
                self.first.extend(from.map(|_| drop()));
                self.first.extend(to.map(add));
            }
        }
    }

    /// Puts its operations into the plan. Transitional chains live from the first batch to the last.
    pub(crate) fn give(mut self, plan: &mut Plan) {
        plan.switches |= self.any;
        plan.made.append(&mut self.made);
        plan.first.append(&mut self.first);
        plan.last.append(&mut self.last);
        plan.last.append(&mut self.dropped);
    }

    fn transitional(&mut self, family: Family, from: &ChainName, to: &ChainName) -> ChainName {
        let way = (family, from.clone(), to.clone());
        if let Some(chain) = self.transitional.get(&way) {
            return chain.clone();
        }
        let chain = self.free_name(family, depth(from) + 1);
        self.transitional.insert(way, chain.clone());
        self.made.push(Operation::AddChain { family, chain: chain.clone() });
        for verdict in [Verdict::Jump(from.clone()), Verdict::Goto(to.clone())] {
            let rule = Rule { statements: vec![Statement::Verdict(verdict)], tag: "transitional".to_owned() };
            self.made.push(Operation::AddRule { family, chain: chain.clone(), rule });
        }
        self.dropped.push(Operation::DropChain { family, chain: chain.clone() });
        chain
    }

    /// One that no chain has, neither of this change nor left behind by another.
    fn free_name(&mut self, family: Family, depth: u32) -> ChainName {
        loop {
            let name = ChainName::from(format!("{TRANSITIONAL}{depth}-{}", self.named));
            self.named += 1;
            if self.taken.insert((family, name.clone())) {
                return name;
            }
        }
    }
}

/// How many transitional chains a packet goes through from here, as the name tells; those of detours lead to no other.
fn depth(chain: &ChainName) -> u32 {
    let Some(rest) = chain.strip_prefix(TRANSITIONAL) else { return 0 };
    rest.split('-').next().and_then(|depth| depth.parse().ok()).unwrap_or(1)
}

/// The chain that a map leads to.
pub(crate) fn chain_of(placement: &Placement, map: Interface) -> &ChainName {
    match map {
        Interface::Input => &placement.egress,
        Interface::Output => &placement.ingress,
    }
}

/// What the ARP table holds of a member of the IPv4 anti-spoof set.
pub(crate) fn own(member: &Member) -> Option<(IfName, Ipv4Addr)> {
    match member {
        Member::Owner(IpAddr::V4(address), veth) => Some((veth.clone(), *address)),
        _ => None,
    }
}

fn own_changes(delta: &Delta) -> Vec<Operation> {
    let elements = |members: &[(Family, SetName, Member)]| {
        members.iter().filter_map(|(_, _, member)| own(member)).collect::<BTreeSet<_>>()
    };
    let [left_first, joined, left] =
        [&delta.left_first, &delta.joined, &delta.left].map(|members| elements(members));
    let gone = left_first.into_iter().chain(left).collect::<BTreeSet<_>>();
    let drop =
        gone.difference(&joined).map(|(veth, address)| Operation::DropArpOwner(veth.clone(), *address));
    let add = joined.difference(&gone).map(|(veth, address)| Operation::AddArpOwner(veth.clone(), *address));
    drop.chain(add).collect()
}

fn by_set(members: Vec<(Family, SetName, Member)>) -> Members {
    let mut sets = Members::new();
    for (family, name, member) in members {
        sets.entry((family, name)).or_default().push(member);
    }
    sets
}
