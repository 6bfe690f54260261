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
    /// Says what is wrong at `origin` now; gives what was not before. With another example a problem is the same. What is
    /// wrong with the source itself is the same for as long as place and reason are: its words carry versions, times and
    /// the server's own.
    pub fn set(&mut self, origin: Origin, now: impl IntoIterator<Item = Problem>) -> Vec<Problem> {
        let now: BTreeSet<Problem> = now.into_iter().collect();
        let before = self.0.insert(origin, now.clone()).unwrap_or_default();
        let is_known = |problem: &Problem| {
            let same = |known: &Problem| {
                known.of.is_none() && known.place == problem.place && known.reason == problem.reason
            };
            let is_sources = origin == Origin::Source && problem.of.is_none();
            let has_example = problem.example_octets > 0;
            (is_sources && before.iter().any(same))
                || (has_example && before.iter().any(|known| known.is_same_as(problem)))
        };
        now.difference(&before).filter(|problem| !is_known(problem)).cloned().collect()
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
    fn other_words_of_the_source_are_no_new_problem() {
        let older = |kind: &str, version: u32| {
            Problem::new(format!("API server x: {kind}"), format!("a list of version {version}"))
        };
        let mut problems = Problems::default();
        assert_eq!(problems.set(Origin::Source, [older("Pod", 1)]), [older("Pod", 1)]);
        let both = [older("Pod", 2), older("Node", 2)];
        assert_eq!(problems.set(Origin::Source, both), [older("Node", 2)]);
        assert_eq!(problems.in_words().len(), 2, "the latest words are shown");
        assert!(problems.in_words().iter().all(|words| words.ends_with("version 2")));
        assert_eq!(problems.set(Origin::Source, None), []);
        assert_eq!(problems.set(Origin::Source, [older("Pod", 2)]), [older("Pod", 2)]);
        problems.set(Origin::Objects, [older("Pod", 1)]);
        assert_eq!(problems.set(Origin::Objects, [older("Pod", 2)]), [older("Pod", 2)], "others are");
    }

    #[test]
    fn another_example_is_no_new_problem() {
        let such_as = |example: &str| Problem::new("a.yaml", "bad addresses").such_as(example);
        let mut problems = Problems::default();
        assert_eq!(problems.set(Origin::Objects, [such_as("one")]), [such_as("one")]);
        assert_eq!(problems.set(Origin::Objects, [such_as("two")]), []);
        assert_eq!(problems.in_words(), ["a.yaml: bad addresses, such as two"], "the latest is shown");
        assert_eq!(problems.set(Origin::Objects, None), []);
        assert_eq!(problems.set(Origin::Objects, [such_as("two")]), [such_as("two")]);
    }

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
