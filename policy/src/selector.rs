//! What selects by labels (metav1 LabelSelector), checked as the API server checks it.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::change::Fault;
use crate::labels::Labels;

/// Most bytes of a label's value and of the name in its key.
const MOST_NAME_BYTES: usize = 63;
/// Most bytes of the prefix in a label's key: a DNS subdomain.
const MOST_PREFIX_BYTES: usize = 253;

/// All requirements must hold; none: everything is selected. Two that say the same are equal.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector(BTreeSet<Requirement>);

/// What one label must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: Arc<str>,
    /// What is asked of its value.
    pub test: Test,
}

/// What is asked of a label's value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Test {
    /// It is there and is one of these.
    In(BTreeSet<Arc<str>>),
    /// It is not there, or is none of these.
    NotIn(BTreeSet<Arc<str>>),
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl Selector {
    /// Reads one; what is wrong with it is added to the faults, under the name of its field.
    pub fn read(selector: &LabelSelector, field: &str, faults: &mut Vec<Fault>) -> Selector {
        let mut requirements = BTreeSet::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            let field = format!("{field}.matchLabels");
            fault_if(bad_key(key), &field, key, faults);
            fault_if(bad_value(value), &field, value, faults);
            let test = Test::In([value.as_str().into()].into());
            requirements.insert(Requirement { key: key.as_str().into(), test });
        }
        for (at, expression) in selector.match_expressions.iter().flatten().enumerate() {
            let field = format!("{field}.matchExpressions[{at}]");
            requirements.extend(Requirement::read(expression, &field, faults));
        }
        Selector(requirements)
    }

    /// Whether it selects what has these labels.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels))
    }

    /// In a settled order.
    pub fn requirements(&self) -> impl ExactSizeIterator<Item = &Requirement> {
        self.0.iter()
    }

    /// A key that whatever is selected has, and the values that it may have; the fewest there are.
    pub fn narrowest(&self) -> Option<(&Arc<str>, &BTreeSet<Arc<str>>)> {
        let wanted = self.0.iter().filter_map(|requirement| match &requirement.test {
            Test::In(values) => Some((&requirement.key, values)),
            Test::NotIn(_) | Test::Exists | Test::DoesNotExist => None,
        });
        wanted.min_by_key(|(_, values)| values.len())
    }
}

impl Requirement {
    fn read(read: &LabelSelectorRequirement, field: &str, faults: &mut Vec<Fault>) -> Option<Requirement> {
        fault_if(bad_key(&read.key), &format!("{field}.key"), &read.key, faults);
        let values: BTreeSet<Arc<str>> =
            read.values.iter().flatten().map(|value| value.as_str().into()).collect();
        for value in &values {
            fault_if(bad_value(value), &format!("{field}.values"), value, faults);
        }
        let (test, wants_values) = match read.operator.as_str() {
            "In" => (Test::In(values.clone()), true),
            "NotIn" => (Test::NotIn(values.clone()), true),
            "Exists" => (Test::Exists, false),
            "DoesNotExist" => (Test::DoesNotExist, false),
            _ => {
                let why = "expected In, NotIn, Exists or DoesNotExist";
                fault_if(Some(why), &format!("{field}.operator"), &read.operator, faults);
                return None;
            }
        };
        if values.is_empty() == wants_values {
            let why = if wants_values { "needs values" } else { "takes no values" };
            fault_if(Some(why), &format!("{field}.values"), &read.operator, faults);
            return None;
        }
        Some(Requirement { key: read.key.as_str().into(), test })
    }

    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
        }
    }
}

fn fault_if(why: Option<&str>, field: &str, value: &str, faults: &mut Vec<Fault>) {
    faults.extend(why.map(|why| Fault { field: field.into(), what: format!("{value:?}: {why}") }));
}

/// k8s.io/apimachinery/pkg/util/validation, `IsQualifiedName`
fn bad_key(key: &str) -> Option<&'static str> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_some_and(|prefix| !is_subdomain(prefix)) {
        return Some("the part before `/` is not a DNS name");
    }
    (!is_label_text(name)).then_some("not a label's key")
}

/// The same, `IsValidLabelValue`
fn bad_value(value: &str) -> Option<&'static str> {
    (!value.is_empty() && !is_label_text(value)).then_some("not a label's value")
}

fn is_label_text(text: &str) -> bool {
    let is_inner = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    text.len() <= MOST_NAME_BYTES
        && text.bytes().all(is_inner)
        && text.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric())
        && text.bytes().next_back().is_some_and(|c| c.is_ascii_alphanumeric())
}

/// The same, `IsDNS1123Subdomain`
fn is_subdomain(text: &str) -> bool {
    let is_end = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= MOST_PREFIX_BYTES
        && text.split('.').all(|part| {
            part.bytes().all(|c| is_end(c) || c == b'-')
                && part.bytes().next().is_some_and(is_end)
                && part.bytes().next_back().is_some_and(is_end)
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(selector: serde_json::Value) -> (Selector, Vec<Fault>) {
        let mut faults = Vec::new();
        let selector = serde_json::from_value(selector).expect("a selector");
        (Selector::read(&selector, "s", &mut faults), faults)
    }

    fn selects(selector: serde_json::Value, labels: &[(&str, &str)]) -> bool {
        let (selector, faults) = read(selector);
        assert_eq!(faults, []);
        selector
            .matches(&labels.iter().fold(Labels::default(), |labels, (key, value)| labels.with(key, value)))
    }

    fn expression(operator: &str, values: &[&str]) -> serde_json::Value {
        json!({"matchExpressions": [{"key": "a", "operator": operator, "values": values}]})
    }

    #[test]
    fn an_empty_selector_selects_all() {
        assert!(selects(json!({}), &[]));
        assert!(selects(json!({}), &[("a", "1")]));
    }

    #[test]
    fn an_absent_key_is_not_in_and_does_not_exist() {
        for (operator, values) in [("NotIn", vec!["1"]), ("DoesNotExist", vec![])] {
            assert!(selects(expression(operator, &values), &[("b", "1")]), "{operator}");
            assert!(!selects(expression(operator, &values), &[("a", "1")]), "{operator}");
        }
        assert!(selects(expression("NotIn", &["1"]), &[("a", "2")]));
    }

    #[test]
    fn an_empty_value_needs_the_key() {
        assert!(!selects(json!({"matchLabels": {"a": ""}}), &[]));
        assert!(selects(json!({"matchLabels": {"a": ""}}), &[("a", "")]));
        assert!(!selects(expression("In", &[""]), &[]));
        assert!(selects(expression("NotIn", &[""]), &[]));
    }

    #[test]
    fn labels_and_expressions_must_all_hold() {
        let both =
            json!({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]});
        assert!(selects(both.clone(), &[("a", "1"), ("b", "")]));
        assert!(!selects(both.clone(), &[("a", "1")]));
        assert!(!selects(both, &[("b", "")]));
    }

    #[test]
    fn two_ways_to_say_the_same_are_equal() {
        assert_eq!(read(json!({"matchLabels": {"a": "1"}})), read(expression("In", &["1", "1"])));
    }

    #[test]
    fn what_the_api_server_refuses_is_a_fault_that_names_field_and_value() {
        let long = "x".repeat(64);
        for (selector, field, value) in [
            (expression("in", &["1"]), "s.matchExpressions[0].operator", "\"in\""),
            (expression("In", &[]), "s.matchExpressions[0].values", "\"In\""),
            (expression("Exists", &["1"]), "s.matchExpressions[0].values", "\"Exists\""),
            (expression("In", &["-"]), "s.matchExpressions[0].values", "\"-\""),
            (json!({"matchLabels": {"": "1"}}), "s.matchLabels", "\"\""),
            (json!({"matchLabels": {"A/b": "1"}}), "s.matchLabels", "\"A/b\""),
            (json!({"matchLabels": {"a/b/c": "1"}}), "s.matchLabels", "\"a/b/c\""),
            (json!({"matchLabels": {"a": long}}), "s.matchLabels", "\"xxx"),
        ] {
            let (_, faults) = read(selector);
            let [fault] = &faults[..] else { panic!("{faults:?}") };
            assert_eq!(fault.field, field);
            assert!(fault.what.starts_with(value), "{fault}");
        }
    }
}
