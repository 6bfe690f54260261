//! Carries plans out, step by step, and knows what the kernel holds by now.

mod compare;
mod lingering;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use tracing::{debug, warn};

use super::barrier::packets_pass;
use super::refusals::{Tried, is_content, trial_end};
use crate::detour;
use crate::diff::{self, Difference, Wish};
use crate::kernel::{
    self, CommitError, Error, Event, ForeignMember, HeldSet, Kernel, Operation, Reason, Watch,
};
use crate::plan::{Lingering, Manner, Members, Mirror, Plan};
use crate::program::{Family, Member, Program, Set, SetName};

/// Conflicts in a row of one batch, before it is given up for now.
const MOST_CONFLICTS: u32 = 12;

/// The kernel, and what it holds.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) kernel: Kernel,
    watch: Watch,
    wish: Wish,
    most_members: u32,
    generation: u32,
    pub(super) mirror: Mirror,
    /// Somebody else changed our tables, as far as heard.
    touched: bool,
    /// Members of the owners' sets that only the plugin knows: link-local addresses.
    strays: BTreeMap<(Family, SetName), BTreeSet<Member>>,
}

/// How far the kernel is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Depth {
    /// Tables, and which sets there are.
    Tables,
    /// All members, too.
    Members,
}

/// What a comparison finds: only what others did, which cannot be undone without a window; or what was told meanwhile,
/// too, which is to open none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sought {
    Repairs,
    Changes,
}

/// Why a plan was not carried out to its end.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Sets that were refused, or members of them. If all the sets are there, all the rest of the plan was carried out.
    Sets(Vec<RefusedSet>),
    /// A batch was refused.
    Batch(RefusedBatch),
    /// Anything else: it is tried again.
    Kernel(String),
}

/// A set that the kernel refused, or some members of.
#[derive(Debug)]
pub(super) struct RefusedSet {
    pub(super) set: SetName,
    pub(super) words: String,
    /// It is there, only not with all its members.
    pub(super) is_there: bool,
    /// By its content, not by the state of the system.
    pub(super) is_at_fault: bool,
}

/// A batch that the kernel refused.
#[derive(Debug)]
pub(super) struct RefusedBatch {
    pub(super) operations: Vec<Operation>,
    /// Which of them, if the kernel told.
    pub(super) operation: Option<usize>,
    /// The kernel's number.
    pub(super) errno: i32,
    pub(super) words: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Sets(refused) => {
                let words = refused.iter().map(|refused| refused.words.as_str()).collect::<Vec<_>>();
                f.write_str(&words.join("; "))
            }
            Trouble::Batch(refused) => {
                let told = refused.operation.and_then(|nth| refused.operations.get(nth));
                match told {
                    Some(operation) => write!(f, "{operation:?} was refused: {}", refused.words),
                    None => write!(f, "a batch was refused: {}", refused.words),
                }
            }
            Trouble::Kernel(words) => f.write_str(words),
        }
    }
}

impl Trouble {
    /// Whether only members were refused: all the rest is in the kernel.
    pub(super) fn is_of_members(&self) -> bool {
        matches!(self, Trouble::Sets(refused) if refused.iter().all(|refused| refused.is_there))
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Kernel(error.to_string())
    }
}

impl Writer {
    pub(super) fn new(kernel: Kernel, watch: Watch, wish: Wish, most_members: u32) -> Writer {
        Writer {
            kernel,
            watch,
            wish,
            most_members,
            generation: 0,
            mirror: Mirror::default(),
            touched: false,
            strays: BTreeMap::new(),
        }
    }

    /// Takes in what was heard of nf_tables. Whether somebody else changed our tables since this was last asked.
    pub(super) fn take_touched(&mut self) -> bool {
        self.listen();
        std::mem::take(&mut self.touched)
    }

    /// Who last touched our tables, and how.
    pub(super) fn last_touch(&self) -> Option<&str> {
        self.watch.last_touch()
    }

    /// A second name of the socket that tells of nf_tables, to wait for.
    pub(super) fn watch_fd(&self) -> std::io::Result<OwnedFd> {
        self.watch.as_fd().try_clone_to_owned()
    }

    fn listen(&mut self) {
        match self.watch.take() {
            Ok(events) => {
                for event in events {
                    match event {
                        Event::Generation(generation) => self.generation = newer(self.generation, generation),
                        Event::Touched => self.touched = true,
                        Event::Overrun => self.touched = true,
                    }
                }
            }
            Err(error) => {
                debug!(error = %error, "events of nf_tables are lost");
                self.touched = true;
            }
        }
    }

    // -- Writing.

    /// Carries a plan out; afterwards the kernel holds the program.
    ///
    /// # Errors
    /// Where only members were refused, all the rest is in the kernel.
    pub(super) fn carry_out(&mut self, mut plan: Plan, program: &Program) -> Result<(), Trouble> {
        let sets = (std::mem::take(&mut plan.wrong_sets), std::mem::take(&mut plan.sets_made));
        let mut refused = self.make_sets(sets.0, sets.1)?;
        if refused.iter().any(|refused| !refused.is_there) {
            return Err(Trouble::Sets(refused));
        }
        for ((_, name), members) in &plan.foreign {
            self.remove_foreign(name, members);
        }
        self.remove(&plan.left_first)?;
        // A conflict may move members to where they leave first: what is left of them would tell another manner.
        plan.is_staged |= plan.manner() == Manner::Staged;
        self.commit_tables(&mut plan, program)?;
        let waits = plan.waits();
        wait(waits.before_joined);
        for ((family, name), members) in &plan.joined {
            if let Err(error) = self.kernel.add_members(*family, name, members) {
                refused.push(of_members(error)?);
            }
        }
        wait(waits.before_left);
        self.remove(&plan.left)?;
        wait(waits.before_last);
        if let Err(refusal) = self.commit(&plan.last) {
            // What is left to do is in the tables alone.
            self.ignore_conflict(refusal)?;
            let mut rest = Plan::default();
            self.plan_anew(&mut rest, program)?;
            self.commit_tables(&mut rest, program)?;
            plan.lingering.chains.append(&mut rest.lingering.chains);
        }
        self.remember(plan);
        if refused.is_empty() { Ok(()) } else { Err(Trouble::Sets(refused)) }
    }

    /// Afterwards all veths are led as the program says.
    pub(super) fn remember_all(&mut self, program: &Program) {
        self.mirror.dispatch.clone_from(&program.dispatch);
        let Lingering { chains, sets } = &mut self.mirror.lingering;
        chains.retain(|(family, name)| !program.table(*family).chains.contains_key(name));
        sets.retain(|(family, name)| !program.table(*family).sets.contains_key(name));
    }

    fn remember(&mut self, plan: Plan) {
        let Mirror { dispatch, lingering } = &mut self.mirror;
        for (veth, placement) in plan.dispatch {
            match placement {
                Some(placement) => dispatch.insert(veth, placement),
                None => dispatch.remove(&veth),
            };
        }
        for used in &plan.used.chains {
            lingering.chains.remove(used);
        }
        for used in &plan.used.sets {
            lingering.sets.remove(used);
        }
        lingering.chains.extend(plan.lingering.chains);
        lingering.sets.extend(plan.lingering.sets);
    }

    /// All that are refused are told together.
    fn make_sets(
        &mut self,
        wrong: BTreeSet<(Family, SetName)>,
        made: Vec<(Family, SetName, Set)>,
    ) -> Result<Vec<RefusedSet>, Trouble> {
        let mut refused = Vec::new();
        for (_, name) in wrong {
            if let Err(error) = self.kernel.destroy_set(&name) {
                refused.push(of_set(error)?);
            }
        }
        for (family, name, set) in made {
            if let Err(error) = self.make_set(family, &name, &set) {
                refused.push(of_set(error)?);
            }
        }
        Ok(refused)
    }

    /// One that lingers is used again: no rule that any packet comes to names it, so its members may change in any order.
    fn make_set(&mut self, family: Family, name: &SetName, set: &Set) -> Result<(), Error> {
        let mut missing = set.members.iter().cloned().collect::<Vec<_>>();
        if self.mirror.lingering.sets.contains(&(family, name.clone())) {
            match self.kernel.held_set(name)? {
                Some(HeldSet { family: held_family, set: held, foreign })
                    if held_family == family && held.kind == set.kind =>
                {
                    self.remove_foreign(name, &foreign);
                    let left = held.members.difference(&set.members).cloned().collect::<Vec<_>>();
                    self.kernel.del_members(family, name, &left)?;
                    missing.retain(|member| !held.members.contains(member));
                }
                _ => self.kernel.destroy_set(name)?,
            }
        }
        self.kernel.create_set(family, name, set.kind, set.members.len(), self.most_members)?;
        self.kernel.add_members(family, name, &missing)
    }

    /// One that the kernel does not let go of is no reason to write nothing; the next comparison finds it again.
    fn remove_foreign(&mut self, set: &SetName, members: &BTreeSet<ForeignMember>) {
        if let Err(error) = self.kernel.del_foreign(set, members) {
            warn!(set = %set, error = %error, "a member of others stays in a set of ours");
        }
    }

    fn remove(&mut self, members: &Members) -> Result<(), Trouble> {
        for ((family, name), members) in members {
            self.kernel.del_members(*family, name, members)?;
        }
        Ok(())
    }

    /// The batches that make chains and lead to them. Where somebody else changed our tables meanwhile, what is to be
    /// done is found out anew, from the tables alone, and done in the same manner.
    fn commit_tables(&mut self, plan: &mut Plan, program: &Program) -> Result<(), Trouble> {
        for conflicts in 0..MOST_CONFLICTS {
            let Err(refusal) = self.commit(&plan.made).and_then(|()| self.commit(&plan.first)) else {
                return Ok(());
            };
            self.ignore_conflict(refusal)?;
            thread::sleep(pause(conflicts));
            self.plan_anew(plan, program)?;
            self.remove(&plan.left_first)?;
        }
        Err(Trouble::Kernel("others change our tables all the time".to_owned()))
    }

    fn ignore_conflict(&self, refusal: Refusal) -> Result<(), Trouble> {
        match refusal {
            Refusal::Conflict => Ok(()),
            Refusal::Trouble(trouble) => Err(trouble),
        }
    }

    fn plan_anew(&mut self, plan: &mut Plan, program: &Program) -> Result<(), Trouble> {
        let tables = self.read_tables()?;
        plan.made.clear();
        plan.first.clear();
        plan.last.clear();
        let known = self.mirror.lingering.clone();
        let mut difference = Difference { plan: std::mem::take(plan), causes: BTreeSet::new() };
        diff::tables(program, &tables, self.wish, &known, &mut difference);
        *plan = difference.plan;
        if plan.has_detours {
            detour::add(plan, program, &self.mirror);
            // The copies are there already.
            plan.sets_made.clear();
        }
        Ok(())
    }

    /// One batch. A change of other tables than ours makes it fail, too: then it is sent again as it is.
    fn commit(&mut self, operations: &[Operation]) -> Result<(), Refusal> {
        if operations.is_empty() {
            return Ok(());
        }
        for conflicts in 0..MOST_CONFLICTS {
            match self.kernel.commit(operations, Some(self.generation)) {
                Ok(()) => {
                    self.generation = kernel::next_generation(self.generation);
                    return Ok(());
                }
                Err(CommitError::Conflict) => {
                    let known = self.generation;
                    self.listen();
                    if self.touched || self.generation == known {
                        return Err(Refusal::Conflict);
                    }
                    if conflicts > 0 {
                        thread::sleep(pause(conflicts));
                        self.listen();
                    }
                }
                // What was written has to be read.
                Err(CommitError::Lost) => return Err(Refusal::Conflict),
                Err(CommitError::Refused { operation, errno, words }) => {
                    return Err(refused(operations, Some(operation), errno, words));
                }
                Err(CommitError::Batch(errno)) => {
                    let words = std::io::Error::from_raw_os_error(errno).to_string();
                    return Err(refused(operations, None, errno, words));
                }
                Err(CommitError::Other(error)) => {
                    return Err(Refusal::Trouble(error.into()));
                }
            }
        }
        Err(Refusal::Conflict)
    }

    /// Whether the kernel takes these operations, which make a chain that nothing leads to.
    pub(super) fn try_out(&mut self, operations: &[Operation]) -> Tried {
        match self.commit(operations) {
            Ok(()) => {
                if self.commit(&trial_end()).is_err() {
                    self.touched = true;
                }
                Tried::Taken
            }
            Err(Refusal::Trouble(Trouble::Batch(refused))) if is_content(refused.errno) => Tried::Refused,
            Err(_) => Tried::Unclear,
        }
    }
}

fn wait(is_needed: bool) {
    if is_needed {
        packets_pass();
    }
}

/// Why a batch was not taken.
enum Refusal {
    /// Somebody else changed our tables, or may have.
    Conflict,
    Trouble(Trouble),
}

fn refused(operations: &[Operation], operation: Option<usize>, errno: i32, words: String) -> Refusal {
    let operations = operations.to_vec();
    Refusal::Trouble(Trouble::Batch(RefusedBatch { operations, operation, errno, words }))
}

/// What was refused when a set was made; other errors end all.
fn of_set(error: Error) -> Result<RefusedSet, Trouble> {
    let words = error.to_string();
    match error {
        Error::Set { set, errno } => {
            Ok(RefusedSet { set, words, is_there: false, is_at_fault: is_content(errno) })
        }
        error => of_members(error),
    }
}

/// What was refused of members. A set that is not there was taken away by somebody: that is no policy's fault.
fn of_members(error: Error) -> Result<RefusedSet, Trouble> {
    let words = error.to_string();
    match error {
        Error::Members { set, refused } => {
            let is_at_fault = refused.iter().all(|(_, reason)| match reason {
                Reason::Errno(errno) => is_content(*errno),
                _ => true,
            });
            Ok(RefusedSet { set, words, is_there: true, is_at_fault })
        }
        error => Err(error.into()),
    }
}

/// The later of two generations, which count on from the highest number at 1.
fn newer(one: u32, other: u32) -> u32 {
    if other.wrapping_sub(one) < u32::MAX / 2 { other } else { one }
}

/// Before the next try: 0.1 ms, twice as long each time, and up to as much again, so that two who fight do not keep step.
fn pause(conflicts: u32) -> Duration {
    let least = Duration::from_micros(100 << conflicts.min(9));
    least.mul_f64(1.0 + jitter())
}

/// 0 to 1, different each time.
pub(super) fn jitter() -> f64 {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    f64::from(nanos % 10_007) / 10_007.0
}
