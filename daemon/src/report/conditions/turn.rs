//! Whether this node writes the status of an object, and when. Pure: time is an argument.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::super::write::hash;
use super::verdict::Verdict;
use crate::objects::ObjectRef;

/// What the first node waits: several edits at once are one.
pub(super) const FIRST: Duration = Duration::from_secs(1);
/// What each further node waits longer: in this time a write comes back to everybody, as a rule.
const STEP: Duration = Duration::from_secs(2);
/// So many nodes have a turn of their own. Those behind share one, and the more of them the later it is: where few nodes
/// have a daemon, one of them comes soon all the same.
const FIRSTS: u32 = 16;

/// The part of a status that is ours, as it stands in an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// `status.observedGeneration`
    generation: Option<i64>,
    /// Of each condition type, status, reason, message and generation; those of others among them.
    conditions: Vec<(String, String, String, String, Option<i64>)>,
}

impl Said {
    /// What `object` says.
    pub(crate) fn by(object: &Value) -> Said {
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
        let condition = |condition: &Value| {
            let text = |name: &str| condition[name].as_str().unwrap_or_default().to_owned();
            let generation = condition["observedGeneration"].as_i64();
            (text("type"), text("status"), text("reason"), text("message"), generation)
        };
        Said {
            generation: object.pointer("/status/observedGeneration").and_then(Value::as_i64),
            conditions: conditions.into_iter().flatten().map(condition).collect(),
        }
    }

    /// Whether it is that.
    pub(crate) fn is(&self, verdict: &Verdict) -> bool {
        let is_there = |own: &super::verdict::Judgement| {
            self.conditions.iter().any(|(type_, status, reason, message, generation)| {
                (type_.as_str(), status.as_str(), reason.as_str())
                    == (own.type_, own.status_text(), own.reason)
                    && *message == own.message
                    && *generation == Some(verdict.generation)
            })
        };
        self.generation == Some(verdict.generation) && verdict.conditions.iter().all(is_there)
    }

    fn is_of(&self, generation: i64) -> bool {
        self.generation.is_some_and(|seen| seen >= generation)
    }
}

/// How it stands with one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    /// What this node would say of it.
    pub(crate) verdict: Verdict,
    /// What it was last seen to say.
    pub(crate) said: Said,
    /// When this node writes, unless somebody else does before; `None`: it does not.
    pub(crate) due: Option<Instant>,
}

impl Turn {
    /// After a look at the object, when it was seen like `before` the last time. `wait` is how long it takes until it is
    /// this node's turn.
    pub(crate) fn look(
        before: Option<Turn>,
        verdict: Verdict,
        said: Said,
        now: Instant,
        wait: impl Fn() -> Duration,
    ) -> Turn {
        let is_another = before.as_ref().is_none_or(|before| before.verdict != verdict);
        let due = before.as_ref().and_then(|before| before.due);
        let due = if said.is(&verdict) {
            None
        } else if is_another {
            // Several changes in a row do not put it off.
            Some(due.unwrap_or_else(|| now + wait()))
        } else if !said.is_of(verdict.generation) {
            Some(due.unwrap_or_else(|| now + wait()))
        } else if before.is_some_and(|before| before.said != said) {
            // Somebody has written since, and thinks otherwise.
            None
        } else {
            due
        };
        Turn { verdict, said, due }
    }

    /// Whether it is still this node's turn when the object, read again, says this.
    pub(crate) fn may_write(&self, said: &Said) -> bool {
        let is_by_another = *said != self.said && said.is_of(self.verdict.generation);
        !said.is(&self.verdict) && !is_by_another
    }
}

/// In which order nodes write: another one for each object, and the same everywhere.
#[derive(Debug)]
pub(crate) struct Order {
    own: Place,
    all: Vec<Place>,
}

/// A node, as it is ranked: first those that have pods, for others have no daemon that comes this far, as a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// With a hash of its name.
    WithPods(u64),
    /// The same.
    WithoutPods(u64),
}

impl Place {
    /// One that has pods.
    pub(crate) fn with_pods(name: &str) -> Place {
        Place::WithPods(hash([name]))
    }

    /// One of which nobody knows that it has.
    pub(crate) fn without_pods(name: &str) -> Place {
        Place::WithoutPods(hash([name]))
    }

    /// For an object with this hash.
    fn of(self, object: u64) -> Place {
        match self {
            Place::WithPods(name) => Place::WithPods(mixed(name ^ object)),
            Place::WithoutPods(name) => Place::WithoutPods(mixed(name ^ object)),
        }
    }
}

impl Order {
    /// Of one node among all nodes.
    pub(crate) fn new(own: Place, all: impl Iterator<Item = Place>) -> Order {
        Order { own, all: all.collect() }
    }

    /// Whether fewer than `most` nodes come before this one. Of many nodes only the first look at all others.
    pub(crate) fn is_among(&self, most: usize, of: &ObjectRef) -> bool {
        self.before(of).nth(most.saturating_sub(1)).is_none()
    }

    /// How long the node waits before it writes the status of this object: less than a minute among 100 000 nodes.
    pub(crate) fn wait(&self, of: &ObjectRef) -> Duration {
        let before = u32::try_from(self.before(of).count()).unwrap_or(u32::MAX);
        let turn = match (before / FIRSTS).checked_ilog2() {
            None => before,
            // 16 nodes, then 32, 64 and so on.
            Some(doublings) => FIRSTS + doublings,
        };
        FIRST + STEP * turn
    }

    fn before(&self, of: &ObjectRef) -> impl Iterator<Item = Place> {
        let of = hash([of.to_string().as_str()]);
        let own = self.own.of(of);
        self.all.iter().map(move |node| node.of(of)).filter(move |node| *node < own)
    }
}

/// The finaliser of SplitMix64: a change of any bit changes half of them.
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::objects::{Kind, Problem, Reason};

    const WAIT: Duration = Duration::from_secs(3);

    fn verdict(generation: i64, what: &str) -> Verdict {
        let problem = Problem::new("x", what).because(Reason::Invalid);
        let problems: &[&Problem] = if what.is_empty() { &[] } else { &[&problem] };
        Verdict::of(generation, problems)
    }

    /// What an object says after `verdict` was written.
    fn written(verdict: &Verdict) -> Said {
        Said::by(&verdict.patch(&json!({}), Timestamp::UNIX_EPOCH))
    }

    fn look(before: Option<Turn>, verdict: Verdict, said: Said, now: Instant) -> Turn {
        Turn::look(before, verdict, said, now, || WAIT)
    }

    #[tokio::test]
    async fn what_nobody_has_judged_yet_is_written_when_it_is_the_nodes_turn() {
        let now = Instant::now();
        let turn = look(None, verdict(1, ""), Said::default(), now);
        assert_eq!(turn.due, Some(now + WAIT));
        let later = look(Some(turn), verdict(1, "bad"), Said::default(), now + WAIT / 2);
        assert_eq!(later.due, Some(now + WAIT), "a change does not put it off");
        assert!(later.may_write(&Said::default()));
    }

    #[tokio::test]
    async fn what_another_node_has_written_meanwhile_stands_even_if_this_one_thinks_otherwise() {
        let now = Instant::now();
        for theirs in ["", "bad", "worse"] {
            let turn = look(None, verdict(1, "bad"), Said::default(), now);
            assert!(turn.due.is_some());
            let theirs = written(&verdict(1, theirs));
            assert!(!turn.may_write(&theirs), "it is seen at the last moment");
            let turn = look(Some(turn), verdict(1, "bad"), theirs.clone(), now);
            assert_eq!(turn.due, None, "it is seen before that");
            assert_eq!(look(Some(turn), verdict(1, "bad"), theirs, now).due, None, "and later");
        }
    }

    #[tokio::test]
    async fn an_edit_and_an_own_change_of_mind_are_written_and_nothing_else_is() {
        let now = Instant::now();
        let (one, other) = (verdict(1, ""), verdict(1, "conflict"));
        let turn = look(None, one.clone(), written(&one), now);
        assert_eq!(turn.due, None);
        let changed = look(Some(turn.clone()), other.clone(), written(&one), now);
        assert!(changed.due.is_some(), "it thinks otherwise now");
        let back = look(Some(changed), one.clone(), written(&one), now);
        assert_eq!(back.due, None, "and does not any more");
        let answered = look(Some(turn.clone()), one.clone(), written(&other), now);
        assert_eq!(answered.due, None, "what another one thinks is not answered");
        let edited = look(Some(turn), verdict(2, ""), written(&one), now);
        assert!(edited.due.is_some() && edited.may_write(&written(&one)));
        let by_an_older = look(Some(edited), verdict(2, ""), written(&other), now);
        assert!(by_an_older.due.is_some(), "of an older generation is nothing");
    }

    #[tokio::test]
    async fn a_daemon_that_is_started_anew_says_once_what_it_thinks() {
        let now = Instant::now();
        let theirs = written(&verdict(1, "of a version that could less"));
        let turn = look(None, verdict(1, ""), theirs.clone(), now);
        assert!(turn.due.is_some() && turn.may_write(&theirs));
    }

    #[test]
    fn of_a_thousand_nodes_one_is_the_first_and_each_object_has_another() {
        let names: Vec<String> = (0..1000).map(|at| format!("node-{at}")).collect();
        let orders: Vec<Order> = {
            let all = || names.iter().map(|name| Place::with_pods(name));
            all().map(|own| Order::new(own, all())).collect()
        };
        let mut firsts = std::collections::BTreeSet::new();
        for at in 0..5 {
            let of = ObjectRef { kind: Kind::BGPPeerConfig, name: format!("tor-{at}") };
            let mut waits: Vec<(Duration, usize)> =
                orders.iter().enumerate().map(|(node, order)| (order.wait(&of), node)).collect();
            waits.sort();
            firsts.insert(waits[0].1);
            assert_eq!(waits[0].0, FIRST);
            let firsts = &waits[..FIRSTS as usize];
            assert!(firsts.windows(2).all(|pair| pair[1].0 - pair[0].0 == STEP));
            assert!(waits[1].0 > waits[0].0 && waits[999].0 < Duration::from_secs(60), "{:?}", waits[999]);
        }
        assert!(firsts.len() > 3, "{firsts:?}");
    }
}
