//! Comparing with the kernel, and putting right what differs: at the start, after trouble, and where others had their hands in it.

use std::collections::BTreeSet;

use super::*;
use crate::compile::self_set;
use crate::diff::{Difference, Effort};
use crate::program::SetName;

/// In a second sets with so many members are compared, or more if the settings ask for it: a few milliseconds' work.
const MEMBERS_A_SECOND: usize = 4096;
/// And so many are asked how many members they have.
const SETS_A_SECOND: usize = 4096;

impl Task {
    // -- When.

    /// What nf_tables told.
    pub(super) fn handle_events(&mut self, now: Instant) {
        if self.writer.take_touched() && self.view == View::Written {
            if let Some(by) = self.writer.last_touch() {
                info!(by = %by, "our tables were touched");
            }
            self.look(Depth::Tables, now, self.repair_budget.next(now));
        }
    }

    pub(super) fn handle_timeouts(&mut self, now: Instant) {
        if self.timers.tick <= now {
            self.timers.tick = now + TICK * self.pace();
            self.handle_tick(now);
        }
        // What the tick finds due is done before the next command, whose changes would be taken for somebody else's.
        if self.resync.as_ref().is_some_and(|resync| resync.at <= now) {
            self.resync(now);
            self.answer();
        }
        if self.timers.drop.is_some_and(|drop| drop <= now) {
            self.drop_lingering(now);
        }
    }

    fn handle_tick(&mut self, now: Instant) {
        self.waiters.prune();
        self.open_log();
        if self.view != View::Written || self.resync.is_some() {
            return;
        }
        self.compare_some(now);
        self.try_refused(now);
        if self.timers.check <= now {
            self.timers.check = now + self.config.check_interval;
            self.look(Depth::Tables, now, now);
        }
    }

    /// A comparison, for somebody may have changed what is ours. One that is due later comes forward.
    fn look(&mut self, depth: Depth, since: Instant, at: Instant) {
        self.is_stale = true;
        match &mut self.resync {
            Some(resync) => {
                resync.depth = resync.depth.max(depth);
                if at < resync.at {
                    resync.at = at;
                    self.repair_budget.spend(since, jitter());
                }
            }
            None => self.resync = Some(Resync { depth, since, at, why: Why::Touched }),
        }
    }

    // -- Comparing all.

    /// Makes the kernel hold the program, whatever it holds now.
    pub(super) fn resync(&mut self, now: Instant) {
        let Some(Resync { mut depth, since, why, .. }) = self.resync.take() else { return };
        self.is_stale = true;
        // What was refused a few times cannot be mended.
        let is_of_batch = matches!(why, Why::Refused { is_of_batch: true, .. });
        let effort =
            if is_of_batch && self.retry_budget.is_strained() { Effort::Rebuild } else { Effort::Mend };
        let (mut own, mut sought) = (BTreeSet::new(), Sought::Repairs);
        loop {
            // What was told meanwhile is written with the difference, which has to see the members, too.
            let delta = self.compiler.take_delta();
            if delta != Delta::default() {
                (depth, sought) = (Depth::Members, Sought::Changes);
                own.append(&mut traces(&delta));
            }
            debug!(
                chains = delta.chains_made.len(),
                sets = delta.sets_made.len(),
                "compiled for a comparison"
            );
            match self.write_difference(depth, effort, sought) {
                Ok(mut causes) => {
                    causes.retain(|cause| !own.contains(cause));
                    return self.in_step(why, since, &causes);
                }
                Err(trouble) => {
                    depth = Depth::Members;
                    if !self.refuse(&trouble) {
                        return self.retry(&trouble, since, now);
                    }
                }
            }
        }
    }

    fn write_difference(
        &mut self,
        depth: Depth,
        effort: Effort,
        sought: Sought,
    ) -> Result<BTreeSet<Cause>, Trouble> {
        let program = self.compiler.program();
        for (chain, _) in program.ipv4.chains.iter().chain(&program.ipv6.chains) {
            if let Some(policies) = self.compiler.policies_of(chain) {
                self.ledger.add_class(chain.clone(), policies);
            }
        }
        let Difference { plan, causes } = self.writer.difference(program, depth, effort, sought, is_there)?;
        let done = self.writer.carry_out(plan, program);
        if done.as_ref().err().is_none_or(Trouble::is_of_members) {
            self.writer.remember_all(program);
        }
        done.map(|()| causes)
    }

    fn in_step(&mut self, why: Why, since: Instant, causes: &BTreeSet<Cause>) {
        let elapsed = since.elapsed();
        let elapsed_ms = elapsed.as_secs_f64() * 1e3;
        self.retry_budget.reset();
        match why {
            Why::Touched => {
                self.repair_budget.spend(Instant::now(), jitter());
                self.count_repairs(causes, elapsed);
                self.refusals.written();
                self.plan_drops();
            }
            Why::First => {
                let adopted = causes.is_empty();
                info!(elapsed_ms, adopted, "policy is in force");
                self.written(since);
            }
            Why::Refused { .. } => {
                info!(elapsed_ms, "policy is in force again");
                self.written(since);
            }
        }
        self.view = View::Written;
    }

    fn count_repairs(&mut self, causes: &BTreeSet<Cause>, took: Duration) {
        for cause in causes {
            warn!(cause = %cause, elapsed_us = took.as_micros(), "repaired what somebody changed");
            let last = SystemTime::now();
            let repairs = self.told.repairs.entry(*cause).or_insert(Repairs { count: 0, last, took });
            *repairs = Repairs { count: repairs.count + 1, last, took };
        }
        self.is_stale = true;
    }

    // -- Trouble.

    /// A delta was not carried out to its end.
    pub(super) fn handle_trouble(&mut self, trouble: &Trouble, since: Instant) {
        let now = Instant::now();
        if self.refuse(trouble) {
            let why = refused(trouble);
            self.resync = Some(Resync { depth: Depth::Members, since, at: now, why });
            self.resync(now);
        } else {
            self.retry(trouble, since, now);
            if self.resync.as_ref().is_some_and(|resync| resync.at <= now) {
                self.resync(now);
            }
        }
    }

    fn retry(&mut self, trouble: &Trouble, since: Instant, now: Instant) {
        self.retry_budget.spend(now, jitter());
        let at = self.retry_budget.next(now);
        warn!(trouble = %trouble, again_ms = at.duration_since(now).as_millis(), "the kernel did not take a change");
        self.resync = Some(Resync { depth: Depth::Members, since, at, why: refused(trouble) });
    }

    /// Lets the policies fail closed that the trouble is of; whether there are any.
    fn refuse(&mut self, trouble: &Trouble) -> bool {
        let writer = &mut self.writer;
        let blamed = refusals::blame(trouble, &self.compiler, |operations| writer.try_out(operations));
        let now = Instant::now();
        let mut any = false;
        for (policy, fault) in blamed {
            if self.refusals.add(policy.clone(), now) {
                error!(policy = %policy, fault = %fault, "the kernel refused it: it fails closed");
                self.compiler.refuse(&policy, fault);
                any = true;
            }
        }
        any
    }

    /// Refused policies are told anew to the compiler, which takes them as they are.
    fn try_refused(&mut self, now: Instant) {
        if self.refusals.due().is_none_or(|due| due > now) {
            return;
        }
        for policy in self.refusals.take_due(now) {
            if let Some(object) = self.policies.get(&policy) {
                debug!(policy = %policy, "tried again");
                self.compiler.apply(Change::Policy(policy.clone(), None));
                self.compiler.apply(Change::Policy(policy, Some(object.clone())));
            }
        }
        self.write_delta(now);
        self.answer();
        self.is_stale = true;
    }

    // -- Comparing sets.

    /// Some sets each second, so that all are seen at the latest in the time that the settings say. Those of owners each
    /// time, for the plugin writes them, too.
    fn compare_some(&mut self, now: Instant) {
        let names = self.next_to_compare();
        let program = self.compiler.program();
        let compared = self.writer.compare_sets(program, names, is_there);
        let Difference { plan, causes } = match compared {
            Ok(difference) => difference,
            Err(trouble) => return self.handle_trouble(&trouble, now),
        };
        if causes.contains(&Cause::Set) {
            // Rules that named it are gone, too.
            self.look(Depth::Members, now, now);
        } else if !plan.is_empty() {
            match self.writer.carry_out(plan, self.compiler.program()) {
                Ok(()) => self.count_repairs(&causes, now.elapsed()),
                Err(trouble) => self.handle_trouble(&trouble, now),
            }
        }
    }

    /// Seconds between two looks at all sets: a look at thousands of them takes milliseconds.
    fn pace(&self) -> u32 {
        let program = self.compiler.program();
        let sets = program.ipv4.sets.len() + program.ipv6.sets.len();
        1 + u32::try_from(sets / SETS_A_SECOND).unwrap_or(u32::MAX - 1)
    }

    fn next_to_compare(&mut self) -> BTreeSet<SetName> {
        let program = self.compiler.program();
        let all = || program.ipv4.sets.iter().chain(&program.ipv6.sets);
        let seconds = usize::try_from(self.config.compare_interval.as_secs()).unwrap_or(usize::MAX).max(1);
        let pace = usize::try_from(self.pace()).unwrap_or(usize::MAX);
        let least = all().count().saturating_mul(pace).div_ceil(seconds);
        let last = self.timers.compared.take();
        let mut names = Vec::new();
        let mut members = 0;
        for (name, set) in all().filter(|(name, _)| last.as_ref().is_none_or(|last| *name > last)) {
            if names.len() >= least && members > MEMBERS_A_SECOND {
                self.timers.compared = names.last().cloned();
                break;
            }
            members += set.members.len() + 1;
            names.push(name.clone());
        }
        names.into_iter().chain(Family::ALL.into_iter().map(self_set)).collect()
    }

    // -- Dropping.

    /// What nobody uses any more goes, but not at once.
    pub(super) fn plan_drops(&mut self) {
        let crate::plan::Lingering { chains, sets } = &self.writer.mirror.lingering;
        let many = chains.len() + sets.len();
        if many == 0 {
            self.timers.drop = None;
        } else if self.timers.drop.is_none() || many > MOST_LINGERING {
            let wait = if many > MOST_LINGERING { Duration::ZERO } else { LINGERS };
            self.timers.drop = Some(Instant::now() + wait);
        }
    }

    fn drop_lingering(&mut self, now: Instant) {
        self.timers.drop = None;
        if self.view != View::Written || self.resync.is_some() {
            self.timers.drop = Some(now + LINGERS);
            return;
        }
        let begun = Instant::now();
        let ledger = &mut self.ledger;
        let dropped = self.writer.drop_lingering(DROPPED_A_TURN, |counted| ledger.keep(counted));
        let compiler = &self.compiler;
        self.ledger.forget_policies(
            |tag| compiler.policy_of_tag(tag).is_some(),
            |key| self.policies.contains_key(key),
        );
        for chain in &dropped.chains {
            self.ledger.forget(chain);
        }
        let left = &self.writer.mirror.lingering;
        if !(left.chains.is_empty() && left.sets.is_empty()) {
            // However much there is, it takes a twentieth of the time at most.
            let pause = if dropped.any { BETWEEN_DROPS.max(begun.elapsed() * 20) } else { LINGERS };
            self.timers.drop = Some(now + pause);
        }
        self.is_stale = true;
    }
}

fn refused(trouble: &Trouble) -> Why {
    Why::Refused { words: trouble.to_string(), is_of_batch: matches!(trouble, Trouble::Batch(_)) }
}

/// What a delta that is not written yet looks like in a comparison: as if somebody had taken it away.
fn traces(delta: &Delta) -> BTreeSet<Cause> {
    let Delta { sets_made, left_first, chains_made, dispatch, joined, left, .. } = delta;
    let members = [left_first, joined, left].into_iter().any(|members| !members.is_empty());
    let traces = [
        (!sets_made.is_empty(), Cause::Set),
        (!chains_made.is_empty(), Cause::Chain),
        (!chains_made.is_empty(), Cause::Rule),
        (!dispatch.is_empty() || members, Cause::Map),
        (members, Cause::Members),
    ];
    traces.into_iter().filter_map(|(is_there, cause)| is_there.then_some(cause)).collect()
}

/// Whether an interface of this name is there.
fn is_there(veth: &str) -> bool {
    if_nametoindex(veth).is_ok()
}
