//! What the kernel refuses is found out to the policy it is of: that one fails closed, all others go on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::writer::{RefusedBatch, RefusedSet, Trouble};
use crate::change::{Fault, Key};
use crate::compile::Compiler;
use crate::kernel::Operation;
use crate::program::{ChainName, Family, Rule};

/// A chain that is made to try rules, and removed.
const TRIED: &str = "x-tried";
/// After members have left refused policies are tried again sooner: in such a part of the pause, which grows where that
/// is of no use. A trial compares all there is.
const SOONER: u32 = 12;
/// They are tried again after this time in any case, then after twice as long, up to the longest.
const USUAL: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(960);

/// What became of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    Taken,
    /// For what was asked.
    Refused,
    /// For what has nothing to do with it.
    Unclear,
}

/// Whether an errno can be of what was asked. The others are of the state of the system: it has no memory or no
/// descriptors, somebody else owns the tables, or what was named is not there, or is there already.
pub(super) fn is_content(errno: i32) -> bool {
    use Errno::*;
    let of_the_system = [
        ENOMEM, EPERM, EACCES, EINTR, EAGAIN, ENOBUFS, EMFILE, ENFILE, EBUSY, EIO, ETIMEDOUT, EOVERFLOW,
        ENOENT, EEXIST,
    ];
    !of_the_system.contains(&Errno::from_raw(errno))
}

/// Policies that the kernel refused.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    refused: BTreeMap<Key, Refused>,
    has_shrunk: bool,
}

#[derive(Debug)]
struct Refused {
    at: Instant,
    pause: Duration,
    /// It is being tried; if it is refused again the pause grows.
    is_tried: bool,
}

impl Refused {
    fn due(&self, has_shrunk: bool) -> Instant {
        self.at + if has_shrunk { self.pause / SOONER } else { self.pause }
    }
}

impl Refusals {
    pub(super) fn count(&self) -> usize {
        self.refused.len()
    }

    /// A policy is refused; whether that is new, or was tried again.
    pub(super) fn add(&mut self, policy: Key, now: Instant) -> bool {
        if self.refused.get(&policy).is_some_and(|refused| !refused.is_tried) {
            return false;
        }
        let refused =
            self.refused.entry(policy).or_insert(Refused { at: now, pause: USUAL, is_tried: false });
        if refused.is_tried {
            refused.pause = LONGEST.min(refused.pause * 2);
        }
        refused.at = now;
        refused.is_tried = false;
        true
    }

    /// A policy is another one now, or gone.
    pub(super) fn policy_changed(&mut self, policy: &Key) {
        self.refused.remove(policy);
    }

    /// Some set may have fewer members now.
    pub(super) fn members_left(&mut self) {
        self.has_shrunk = !self.refused.is_empty();
    }

    /// What was tried is in the kernel.
    pub(super) fn written(&mut self) {
        self.refused.retain(|_, refused| !refused.is_tried);
    }

    /// When some are to be tried again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.refused.values().map(|refused| refused.due(self.has_shrunk)).min()
    }

    /// Those that are to be tried now.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Key> {
        let mut due = Vec::new();
        for (policy, refused) in &mut self.refused {
            if refused.due(self.has_shrunk) <= now {
                refused.is_tried = true;
                due.push(policy.clone());
            }
        }
        if !due.is_empty() {
            self.has_shrunk = false;
        }
        due
    }
}

/// The policies that a trouble is of, and what is to be said of them; none: it is nobody's.
pub(super) fn blame(
    trouble: &Trouble,
    compiler: &Compiler,
    try_out: impl FnMut(&[Operation]) -> Tried,
) -> Vec<(Key, Fault)> {
    match trouble {
        Trouble::Sets(refused) => {
            let of_set = |RefusedSet { set, words, .. }: &RefusedSet| {
                let fault = Fault { field: "spec".to_owned(), what: words.clone() };
                compiler
                    .policies_with(set)
                    .into_iter()
                    .map(move |policy| (policy, fault.clone()))
                    .collect::<Vec<_>>()
            };
            refused.iter().filter(|refused| refused.is_at_fault).flat_map(of_set).collect()
        }
        Trouble::Batch(refused) if is_content(refused.errno) => blame_batch(refused, compiler, try_out),
        Trouble::Batch(_) | Trouble::Kernel(_) => Vec::new(),
    }
}

fn blame_batch(
    refused: &RefusedBatch,
    compiler: &Compiler,
    try_out: impl FnMut(&[Operation]) -> Tried,
) -> Vec<(Key, Fault)> {
    let RefusedBatch { operations, operation, words, .. } = refused;
    let told = operation.and_then(|nth| operations.get(nth));
    let fault =
        |field: &str| Fault { field: field.to_owned(), what: format!("the kernel refused it: {words}") };
    if let Some(Operation::AddRule { rule, .. }) = told
        && let Some(policy) = compiler.policy_of_tag(&rule.tag)
    {
        let place = rule.tag.rsplit(' ').next().unwrap_or_default();
        return vec![(policy, fault(&format!("spec.{place}")))];
    }
    if let Some(Operation::AddChain { chain, .. }) = told
        && let Some([policy]) = compiler.policies_of(chain).as_deref()
    {
        return vec![(policy.clone(), fault("spec"))];
    }
    let mut rules = BTreeMap::<Key, Vec<(Family, Rule)>>::new();
    for operation in operations {
        if let Operation::AddRule { family, rule, .. } = operation
            && let Some(policy) = compiler.policy_of_tag(&rule.tag)
        {
            rules.entry(policy).or_default().push((*family, rule.clone()));
        }
    }
    let guilty = culprits(&rules.into_iter().collect::<Vec<_>>(), try_out);
    guilty.into_iter().map(|policy| (policy, fault("spec"))).collect()
}

/// Which policies' rules are refused, found by halves. None if the kernel takes nothing at all, and none of those about
/// which it says nothing clear.
fn culprits(
    policies: &[(Key, Vec<(Family, Rule)>)],
    mut try_out: impl FnMut(&[Operation]) -> Tried,
) -> Vec<Key> {
    if try_out(&trial(&[])) != Tried::Taken {
        return Vec::new();
    }
    let mut suspected = vec![policies];
    let mut guilty = Vec::new();
    while let Some(policies) = suspected.pop() {
        if policies.is_empty() {
            continue;
        }
        match (try_out(&trial(policies)), policies) {
            (Tried::Taken, _) => {}
            (Tried::Unclear, _) => return Vec::new(),
            (Tried::Refused, [(policy, _)]) => guilty.push(policy.clone()),
            (Tried::Refused, _) => {
                let (one, other) = policies.split_at(policies.len() / 2);
                suspected.extend([other, one]);
            }
        }
    }
    guilty
}

/// Rules in a chain that nothing leads to.
fn trial(policies: &[(Key, Vec<(Family, Rule)>)]) -> Vec<Operation> {
    let chain = || ChainName::from(TRIED);
    let made = Family::ALL.into_iter().map(|family| Operation::AddChain { family, chain: chain() });
    let rules = policies.iter().flat_map(|(_, rules)| rules);
    let rules = rules.map(|(family, rule)| Operation::AddRule {
        family: *family,
        chain: chain(),
        rule: rule.clone(),
    });
    made.chain(rules).collect()
}

/// Removes what [`trial`] made.
pub(super) fn trial_end() -> Vec<Operation> {
    Family::ALL.into_iter().map(|family| Operation::DropChain { family, chain: TRIED.into() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str) -> (Key, Vec<(Family, Rule)>) {
        let rule = Rule { statements: Vec::new(), tag: format!("default/{name} ingress[0]") };
        (Key::new("default", name), vec![(Family::Ipv4, rule)])
    }

    #[test]
    fn the_policies_that_are_refused_are_found_among_many() {
        let policies = (0..100).map(|n| policy(&n.to_string())).collect::<Vec<_>>();
        let mut trials = 0;
        let guilty = culprits(&policies, |operations| {
            trials += 1;
            let is_bad = |operation: &Operation| match operation {
                Operation::AddRule { rule, .. } => {
                    ["default/7 ingress[0]", "default/63 ingress[0]"].contains(&&*rule.tag)
                }
                _ => false,
            };
            if operations.iter().any(is_bad) { Tried::Refused } else { Tried::Taken }
        });
        assert_eq!(guilty, [Key::new("default", "7"), Key::new("default", "63")]);
        assert!(trials < 40, "{trials}");
    }

    #[test]
    fn nobody_is_to_blame_where_the_kernel_takes_nothing_or_says_nothing_clear() {
        let policies = (0..8).map(|n| policy(&n.to_string())).collect::<Vec<_>>();
        assert_eq!(culprits(&policies, |_| Tried::Refused), []);
        assert_eq!(culprits(&policies, |_| Tried::Unclear), []);
        let has_rules = |operation: &Operation| matches!(operation, Operation::AddRule { .. });
        let unclear =
            |tried: &[Operation]| if tried.iter().any(has_rules) { Tried::Unclear } else { Tried::Taken };
        assert_eq!(culprits(&policies, unclear), []);
    }

    #[test]
    fn what_the_system_lacks_is_no_policy_s_fault() {
        for errno in [Errno::ENOMEM, Errno::EPERM, Errno::EINTR, Errno::EBUSY, Errno::EMFILE, Errno::ENOENT] {
            assert!(!is_content(errno as i32), "{errno}");
        }
        for errno in [Errno::EINVAL as i32, Errno::ERANGE as i32, 4103] {
            assert!(is_content(errno), "{errno}");
        }
    }

    #[test]
    fn refused_policies_are_tried_again_later_and_sooner_when_members_leave() {
        let mut refusals = Refusals::default();
        let start = Instant::now();
        let web = Key::new("default", "web");
        refusals.add(web.clone(), start);
        assert_eq!(refusals.due(), Some(start + USUAL));
        refusals.members_left();
        let later = start + USUAL / SOONER;
        assert_eq!(refusals.due(), Some(later));
        assert_eq!(refusals.take_due(later), std::slice::from_ref(&web));
        refusals.add(web.clone(), later);
        assert_eq!(refusals.due(), Some(later + 2 * USUAL));
        refusals.members_left();
        assert_eq!(refusals.due(), Some(later + 2 * USUAL / SOONER), "in vain: later the next time");
        refusals.has_shrunk = false;
        assert_eq!(refusals.take_due(later + 2 * USUAL), [web]);
        refusals.written();
        assert_eq!((refusals.count(), refusals.due()), (0, None));
    }
}
