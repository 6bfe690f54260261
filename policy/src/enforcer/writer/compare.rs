//! What the kernel lacks, found by reading it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Depth, Sought, Trouble, Writer};
use crate::detour;
use crate::diff::{self, Difference, Effort, Wish, is_ours};
use crate::enforcer::status::Cause;
use crate::kernel::{Held, HeldSet};
use crate::plan::crosses;
use crate::program::{Family, IfName, Member, Placement, Program, Set, SetKind, SetName};

impl Writer {
    /// What the kernel lacks of a program.
    pub(in crate::enforcer) fn difference(
        &mut self,
        program: &Program,
        depth: Depth,
        effort: Effort,
        sought: Sought,
        is_there: impl Fn(&str) -> bool,
    ) -> Result<Difference, Trouble> {
        let mut difference = Difference::default();
        let there = self.our_sets()?;
        diff::missing_sets(program, &there, &mut difference);
        let is_wanted =
            |name: &SetName| Family::ALL.iter().any(|family| program.table(*family).sets.contains_key(name));
        let (wanted, unwanted): (Vec<_>, Vec<_>) = there.into_iter().partition(is_wanted);
        let unwanted = unwanted.into_iter().map(|name| (diff::family_of(&name), name));
        difference.plan.lingering.sets.extend(unwanted);
        if depth == Depth::Members {
            self.compare(program, wanted, is_there, &mut difference)?;
        }
        let tables = self.read_tables()?;
        let wish = Wish { effort, ..self.wish };
        if sought == Sought::Changes {
            difference.plan.is_staged = crosses(&self.switched(program), &self.mirror);
        }
        diff::tables(program, &tables, wish, &self.mirror.lingering, &mut difference);
        if sought == Sought::Changes {
            detour::add(&mut difference.plan, program, &self.mirror);
        }
        Ok(difference)
    }

    /// Veths that a program leads elsewhere than the kernel does, as far as known.
    fn switched(&self, program: &Program) -> Vec<(IfName, Option<Placement>)> {
        let differs = |(veth, to): &(&IfName, &Placement)| self.mirror.dispatch.get(*veth) != Some(*to);
        program.dispatch.iter().filter(differs).map(|(veth, to)| (veth.clone(), Some(to.clone()))).collect()
    }

    /// What these sets lack, and those that have another number of members than they should. Sets that are not there are
    /// told as such.
    pub(in crate::enforcer) fn compare_sets(
        &mut self,
        program: &Program,
        mut names: BTreeSet<SetName>,
        is_there: impl Fn(&str) -> bool,
    ) -> Result<Difference, Trouble> {
        let mut difference = Difference::default();
        let sizes = self.kernel.set_sizes()?;
        diff::missing_sets(program, &sizes.keys().cloned().collect(), &mut difference);
        for family in Family::ALL {
            let sets = program.table(family).sets.iter();
            let differs =
                sets.filter(|(name, set)| sizes.get(*name).is_some_and(|size| *size != set.members.len()));
            names.extend(differs.map(|(name, _)| name.clone()));
        }
        self.compare(program, names.into_iter().collect(), is_there, &mut difference)?;
        Ok(difference)
    }

    fn compare(
        &mut self,
        program: &Program,
        names: Vec<SetName>,
        is_there: impl Fn(&str) -> bool,
        difference: &mut Difference,
    ) -> Result<(), Trouble> {
        let mut held = BTreeMap::new();
        let mut foreign = BTreeMap::new();
        for name in names {
            match self.kernel.held_set(&name)? {
                Some(HeldSet { family, set, foreign: of_others }) => {
                    if !of_others.is_empty() {
                        foreign.insert((family, name.clone()), of_others);
                    }
                    held.insert(name, (family, set));
                }
                None => diff::strange_set(program, &name, difference),
            }
        }
        diff::sets(program, &held, &is_there, difference);
        let Difference { plan, causes } = difference;
        // Of sets that are made anew, and of those that nobody wants, nothing stays anyway.
        foreign.retain(|set, _| {
            program.table(set.0).sets.contains_key(&set.1) && !plan.wrong_sets.contains(set)
        });
        if !foreign.is_empty() {
            causes.insert(Cause::Members);
        }
        plan.foreign = foreign;
        for (name, (family, held)) in held {
            self.put_back_strays(program, (family, name), &held, &is_there, difference);
        }
        Ok(())
    }

    /// Members of the owners' sets that the plugin alone knows are remembered, and put back if they are lost while their
    /// veth is there.
    fn put_back_strays(
        &mut self,
        program: &Program,
        name: (Family, SetName),
        held: &Set,
        is_there: impl Fn(&str) -> bool,
        difference: &mut Difference,
    ) {
        let Some(wanted) = program.table(name.0).sets.get(&name.1).filter(|set| set.kind == SetKind::Owners)
        else {
            return;
        };
        let Difference { plan, causes } = difference;
        let strays = self.strays.entry(name.clone()).or_default();
        let is_veth_there = |member: &Member| matches!(member, Member::Owner(_, veth) if is_there(veth));
        strays.retain(|member| is_veth_there(member) && !wanted.members.contains(member));
        let lost = strays.difference(&held.members).cloned().collect::<Vec<_>>();
        let left = plan.left.get(&name).map_or(&[][..], |left| left);
        let stray = |member: &&Member| !wanted.members.contains(*member) && !left.contains(member);
        strays.extend(held.members.iter().filter(stray).cloned());
        if !lost.is_empty() {
            plan.joined.entry(name).or_default().extend(lost);
            causes.insert(Cause::Members);
        }
    }

    fn our_sets(&mut self) -> Result<BTreeSet<SetName>, Trouble> {
        Ok(self.kernel.set_names()?.into_iter().filter(|name| is_ours(name)).collect())
    }

    /// What was heard before is in what is read.
    pub(super) fn read_tables(&mut self) -> Result<Held, Trouble> {
        self.listen();
        self.touched = false;
        let held = self.kernel.read()?;
        self.generation = held.generation;
        Ok(held)
    }
}
