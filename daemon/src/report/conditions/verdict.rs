//! What is to be said of one object. Pure: the same problems make the same conditions.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::ConditionStatus;
use crate::objects::{FoundBy, Kind, ObjectRef, Objects, Problem, Reason};

/// The longest message, in octets: more than one problem is seldom read to its end.
const MOST_MESSAGE_OCTETS: usize = 1024;

/// The conditions of one object, without times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// `metadata.generation` of what it is about.
    pub(crate) generation: i64,
    /// `Accepted`, `Conflicted`, `Ready`.
    pub(crate) conditions: [Judgement; 3],
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) type_: &'static str,
    pub(crate) status: ConditionStatus,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// The problems of each object, in their order. Not what is wrong at one node only: see the module above.
pub(crate) fn by_object(objects: &Objects) -> BTreeMap<ObjectRef, Vec<&Problem>> {
    let mut problems: BTreeMap<ObjectRef, Vec<&Problem>> = BTreeMap::new();
    let all = objects.problems.iter().chain(&objects.notices);
    for problem in all.filter(|problem| problem.found_by == FoundBy::EveryNode) {
        if let Some(of) = &problem.of {
            problems.entry((**of).clone()).or_default().push(problem);
        }
    }
    problems.values_mut().for_each(|problems| problems.sort());
    problems
}

/// The object of that kind and name, if it is of a kind that is judged.
pub(crate) fn object_of(kind: &str, name: &str) -> Option<ObjectRef> {
    let kinds = [
        Kind::BGPClusterConfig,
        Kind::BGPPeerConfig,
        Kind::BGPFilter,
        Kind::BGPAdvertisement,
        Kind::BGPNodeOverride,
    ];
    let kind = kinds.into_iter().find(|known| known.to_string() == kind)?;
    Some(ObjectRef { kind, name: name.to_owned() })
}

impl Verdict {
    /// Of what has these problems.
    pub(crate) fn of(generation: i64, problems: &[&Problem]) -> Verdict {
        let not_accepted = [
            |reason: &Reason| *reason == Reason::Invalid,
            |reason: &Reason| *reason == Reason::Unreadable,
            |reason: &Reason| *reason == Reason::NotImplemented,
            |reason: &Reason| *reason == Reason::CountsAsBefore,
        ];
        let refused = not_accepted.into_iter().flat_map(|is| problems_with(problems, is)).collect::<Vec<_>>();
        let conflicts: Vec<&Problem> =
            problems_with(problems, |reason| matches!(reason, Reason::Conflicted { .. })).collect();
        let missing: Vec<&Problem> = problems_with(problems, |reason| *reason == Reason::Missing).collect();
        let accepted = match refused.first() {
            None => {
                judgement("Accepted", ConditionStatus::True, "Accepted", "all of it can be served".into())
            }
            Some(first) => {
                judgement("Accepted", ConditionStatus::False, first.reason.as_str(), in_words(&refused))
            }
        };
        let conflicted = match conflicts.first() {
            None => {
                let what = "nothing that it claims is another's";
                judgement("Conflicted", ConditionStatus::False, "NoConflict", what.into())
            }
            Some(Problem { reason, .. }) => {
                let words = in_words(&conflicts);
                let message = match reason {
                    Reason::Conflicted { winner } if !words.contains(&winner.to_string()) => {
                        format!("{winner} wins: {words}")
                    }
                    _ => words,
                };
                judgement("Conflicted", ConditionStatus::True, reason.as_str(), message)
            }
        };
        let in_the_way = [&refused, &conflicts, &missing].into_iter().flatten().copied().collect::<Vec<_>>();
        let ready = match in_the_way.first() {
            None => judgement("Ready", ConditionStatus::True, "InForce", "what it says is in force".into()),
            Some(first) => {
                judgement("Ready", ConditionStatus::False, first.reason.as_str(), in_words(&in_the_way))
            }
        };
        Verdict { generation, conditions: [accepted, conflicted, ready] }
    }

    /// The JSON merge patch (RFC 7386) of the status that makes `found` say it, if `found` has not become another.
    /// Conditions of others stay. A merge patch replaces lists as a whole.
    pub(crate) fn patch(&self, found: &Value, now: Timestamp) -> Value {
        let present = found.pointer("/status/conditions").and_then(Value::as_array);
        let present = || present.into_iter().flatten();
        let is_ours = |condition: &Value| self.conditions.iter().any(|own| condition["type"] == own.type_);
        let mut conditions: Vec<Value> = present().filter(|condition| !is_ours(condition)).cloned().collect();
        let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        for own in &self.conditions {
            let before = present().find(|condition| condition["type"] == own.type_);
            let before = before.filter(|before| before["status"] == own.status_text());
            let since = before.and_then(|before| before["lastTransitionTime"].as_str()).unwrap_or(&now);
            conditions.push(json!({
                "type": own.type_, "status": own.status_text(), "reason": own.reason, "message": own.message,
                "observedGeneration": self.generation, "lastTransitionTime": since,
            }));
        }
        json!({
            "metadata": {"resourceVersion": found.pointer("/metadata/resourceVersion")},
            "status": {"observedGeneration": self.generation, "conditions": conditions},
        })
    }
}

impl Judgement {
    pub(crate) fn status_text(&self) -> &'static str {
        match self.status {
            ConditionStatus::True => "True",
            ConditionStatus::False => "False",
            ConditionStatus::Unknown => "Unknown",
        }
    }
}

fn problems_with<'a>(
    problems: &[&'a Problem],
    is: impl Fn(&Reason) -> bool,
) -> impl Iterator<Item = &'a Problem> {
    problems.iter().copied().filter(move |problem| is(&problem.reason))
}

fn judgement(
    type_: &'static str,
    status: ConditionStatus,
    reason: &'static str,
    message: String,
) -> Judgement {
    Judgement { type_, status, reason, message }
}

/// As many as there is room for, and how many more there are.
fn in_words(problems: &[&Problem]) -> String {
    let mut words = String::new();
    for (at, problem) in problems.iter().enumerate() {
        let more = problems.len() - at;
        if at > 0 && words.len() + problem.what.len() > MOST_MESSAGE_OCTETS {
            return format!("{words}; and {more} more");
        }
        let separator = if at == 0 { "" } else { "; " };
        words = format!("{words}{separator}{}", shortened(&problem.what, MOST_MESSAGE_OCTETS));
    }
    words
}

/// At most so many octets, and no half of a letter.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most.saturating_sub(3)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    format!("{}...", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(what: &str, reason: Reason) -> Problem {
        Problem::new("BGPPeerConfig tor", what).about(Kind::BGPPeerConfig, "tor").because(reason)
    }

    fn words(problems: &[&Problem]) -> Vec<String> {
        let word =
            |own: &Judgement| format!("{}={} {}: {}", own.type_, own.status_text(), own.reason, own.message);
        Verdict::of(1, problems).conditions.iter().map(word).collect()
    }

    #[test]
    fn what_has_no_problem_is_accepted_and_in_force() {
        let advice = problem("a mesh of 300 nodes", Reason::Other);
        for problems in [&[][..], &[&advice]] {
            assert_eq!(
                words(problems),
                [
                    "Accepted=True Accepted: all of it can be served",
                    "Conflicted=False NoConflict: nothing that it claims is another's",
                    "Ready=True InForce: what it says is in force",
                ]
            );
        }
    }

    #[test]
    fn wrong_values_go_before_fields_to_come_and_all_are_named() {
        let invalid = problem("spec.maxPrefixes: 0: at least 1", Reason::Invalid);
        let to_come = problem("spec.bfd: NotImplemented", Reason::NotImplemented);
        assert_eq!(
            words(&[&to_come, &invalid]),
            [
                "Accepted=False Invalid: spec.maxPrefixes: 0: at least 1; spec.bfd: NotImplemented",
                "Conflicted=False NoConflict: nothing that it claims is another's",
                "Ready=False Invalid: spec.maxPrefixes: 0: at least 1; spec.bfd: NotImplemented",
            ]
        );
    }

    #[test]
    fn a_conflict_names_the_winner_and_is_no_fault_of_the_object() {
        let winner = ObjectRef { kind: Kind::BGPClusterConfig, name: "older".to_owned() };
        let named = problem(
            "Conflicted: BGPClusterConfig older selects n1, too",
            Reason::Conflicted { winner: winner.clone() },
        );
        let unnamed = problem("has the same", Reason::Conflicted { winner });
        assert_eq!(
            words(&[&named]),
            [
                "Accepted=True Accepted: all of it can be served",
                "Conflicted=True Conflicted: Conflicted: BGPClusterConfig older selects n1, too",
                "Ready=False Conflicted: Conflicted: BGPClusterConfig older selects n1, too",
            ]
        );
        assert!(words(&[&unnamed])[1].ends_with("BGPClusterConfig older wins: has the same"));
    }

    #[test]
    fn a_message_has_an_end() {
        let problems: Vec<Problem> =
            (0..100).map(|at| problem(&format!("{at}{}", "ä".repeat(40)), Reason::Invalid)).collect();
        let message = &Verdict::of(1, &problems.iter().collect::<Vec<_>>()).conditions[0].message;
        assert!(message.len() < 1100 && message.ends_with("; and 88 more"), "{} {message}", message.len());
        assert_eq!(shortened("aää", 4), "a...");
    }

    #[test]
    fn a_patch_keeps_conditions_of_others_and_times_of_what_stays() {
        let found = json!({
            "metadata": {"resourceVersion": "7"},
            "status": {"conditions": [
                {"type": "Foreign", "status": "True"},
                {"type": "Accepted", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ]},
        });
        let missing = problem("spec.peers[0].peerConfig: \"x\"", Reason::Missing);
        let now: Timestamp = "2026-02-03T04:05:06.789Z".parse().expect("a time");
        let patch = Verdict::of(3, &[&missing]).patch(&found, now);
        let times = patch["status"]["conditions"].as_array().expect("a list").iter().map(|condition| {
            let text = |name: &str| condition[name].as_str().unwrap_or("-").to_owned();
            format!("{}={} {}", text("type"), text("status"), text("lastTransitionTime"))
        });
        assert_eq!(
            times.collect::<Vec<_>>(),
            [
                "Foreign=True -",
                "Accepted=True 2026-01-01T00:00:00Z",
                "Conflicted=False 2026-02-03T04:05:06Z",
                "Ready=False 2026-02-03T04:05:06Z",
            ]
        );
        assert_eq!(patch["metadata"], json!({"resourceVersion": "7"}));
        assert_eq!(patch["status"]["observedGeneration"], 3);
    }
}
