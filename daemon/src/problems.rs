//! What the operator should mend, all of it, so that each problem is logged when it is new and shown until
//! it is gone.

use std::collections::{BTreeMap, BTreeSet};

use crate::objects::Problem;

/// Where problems are found. Each is looked at as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Where the objects come from.
    Source,
    /// The objects of the cluster.
    Objects,
    /// The CNI configuration.
    Conflist,
    /// The host routes of pods.
    PodRoutes,
    /// NetworkPolicy.
    Policy,
    /// Health and metrics.
    Http,
    /// What is written to the API server.
    Report,
}

/// By origin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(BTreeMap<Origin, BTreeSet<Problem>>);

impl Problems {
    /// Says what is wrong at `origin` now; gives what was not before.
    pub fn set(&mut self, origin: Origin, now: impl IntoIterator<Item = Problem>) -> Vec<Problem> {
        let now: BTreeSet<Problem> = now.into_iter().collect();
        let before = self.0.insert(origin, now.clone()).unwrap_or_default();
        now.difference(&before).cloned().collect()
    }

    /// For people, in a steady order.
    pub fn in_words(&self) -> Vec<String> {
        self.0.values().flatten().map(Problem::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_new_once_until_it_is_gone() {
        let (one, other) = (Problem::new("a.yaml", "bad"), Problem::new("b.yaml", "bad"));
        let mut problems = Problems::default();
        assert_eq!(problems.set(Origin::Objects, [one.clone()]), vec![one.clone()]);
        assert_eq!(problems.set(Origin::Objects, [one.clone(), other.clone()]), [other]);
        assert_eq!(problems.set(Origin::Conflist, None), []);
        assert_eq!(problems.in_words(), ["a.yaml: bad", "b.yaml: bad"]);
        assert_eq!(problems.set(Origin::Objects, None), []);
        assert_eq!(problems.in_words(), Vec::<String>::new());
        assert_eq!(problems.set(Origin::Objects, [one.clone()]), [one]);
    }
}
