//! Which of our own prefixes stand for others: whoever is told an aggregate is not told what lies in it, and whoever is
//! not told it, be it that a filter of its rejects it, is told that.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Originated, Source, Stage, Stages};
use crate::prefix::Prefix;

/// Our aggregates. There are few.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Aggregates(BTreeMap<Prefix, Aggregate>);

#[derive(Debug, PartialEq, Eq)]
struct Aggregate {
    originated: Originated,
    /// Why there is what lies in it.
    holds: BTreeSet<Source>,
}

impl Aggregates {
    /// Those among what we originate.
    pub(crate) fn among(originated: &BTreeMap<Prefix, Originated>) -> Aggregates {
        let is_aggregate = |own: &Originated| own.source == Source::Aggregate;
        let aggregates = originated.iter().filter(|(_, own)| is_aggregate(own));
        let with_what_it_holds = |(prefix, own): (&Prefix, &Originated)| {
            let parts = originated.iter().filter(|(part, own)| !is_aggregate(own) && prefix.covers(part));
            let holds = parts.map(|(_, part)| part.source).collect();
            (*prefix, Aggregate { originated: own.clone(), holds })
        };
        Aggregates(aggregates.map(with_what_it_holds).collect())
    }

    pub(crate) fn prefixes(&self) -> impl Iterator<Item = &Prefix> {
        self.0.keys()
    }

    /// How far the draining of one is: as far as what lies in it and stays the longest. It would cut that off otherwise.
    pub(crate) fn stage(&self, aggregate: &Prefix, draining: &Stages) -> Stage {
        let holds = self.0.get(aggregate).into_iter().flat_map(|aggregate| &aggregate.holds);
        holds.map(|source| draining.of(*source)).min().unwrap_or_default()
    }
}

/// Those of `aggregates` that stand for `prefix`.
pub(crate) fn around<'a>(
    prefix: &Prefix,
    aggregates: impl IntoIterator<Item = &'a Prefix>,
) -> impl Iterator<Item = &'a Prefix> {
    aggregates.into_iter().filter(move |aggregate| *aggregate != prefix && aggregate.covers(prefix))
}
