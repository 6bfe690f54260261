//! Label and field selectors of lists and watches.
//!
//! Kubernetes documentation, "Labels and Selectors" and "Field Selectors".

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use crate::kind::Kind;
use crate::status::Status;
use crate::store::Object;

/// What a request wants to see of a collection. Empty: everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    of: String,
    wants: Wants,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wants {
    In(Vec<String>),
    /// Holds for what is not there, too.
    NotIn(Vec<String>),
    Exists,
    Absent,
    Above(i64),
    Below(i64),
}

impl Wants {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match self {
            Wants::In(values) => value.is_some_and(|value| values.iter().any(|wanted| wanted == value)),
            Wants::NotIn(values) => !value.is_some_and(|value| values.iter().any(|wanted| wanted == value)),
            Wants::Exists => value.is_some(),
            Wants::Absent => value.is_none(),
            Wants::Above(bound) => number().is_some_and(|number| number > *bound),
            Wants::Below(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

/// The part of an object that selectors look at. Everything else is skipped while it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Seen<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    spec: Spec<'a>,
    #[serde(borrow)]
    status: ObjectStatus<'a>,
    #[serde(borrow, rename = "involvedObject")]
    involved: Involved<'a>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    event_type: Option<Cow<'a, str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata<'a> {
    #[serde(borrow)]
    labels: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec<'a> {
    #[serde(borrow, rename = "nodeName")]
    node: Option<Cow<'a, str>>,
    unschedulable: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ObjectStatus<'a> {
    #[serde(borrow)]
    phase: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "podIP")]
    pod_ip: Option<Cow<'a, str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Involved<'a> {
    #[serde(borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    uid: Option<Cow<'a, str>>,
}

impl Seen<'_> {
    /// A field that is not set counts as empty.
    fn field(&self, path: &str) -> &str {
        let field = match path {
            "spec.nodeName" => &self.spec.node,
            "spec.unschedulable" => {
                return if self.spec.unschedulable == Some(true) { "true" } else { "false" };
            }
            "status.phase" => &self.status.phase,
            "status.podIP" => &self.status.pod_ip,
            "involvedObject.kind" => &self.involved.kind,
            "involvedObject.namespace" => &self.involved.namespace,
            "involvedObject.name" => &self.involved.name,
            "involvedObject.uid" => &self.involved.uid,
            "reason" => &self.reason,
            "type" => &self.event_type,
            _ => &None,
        };
        field.as_deref().unwrap_or_default()
    }
}

/// Fields by which every kind can be selected: they are in the key.
const OF_ALL: [&str; 2] = ["metadata.name", "metadata.namespace"];

/// Fields by which a kind can be selected besides.
fn fields_of(kind: &Kind) -> &'static [&'static str] {
    match (&*kind.resource.group, &*kind.resource.plural) {
        ("", "pods") => &["spec.nodeName", "status.phase", "status.podIP"],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "namespaces") => &["status.phase"],
        ("" | "events.k8s.io", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "reason",
            "type",
        ],
        _ => &[],
    }
}

impl Selector {
    /// Reads the parameters `labelSelector` and `fieldSelector`.
    ///
    /// # Errors
    /// 400: it cannot be read, or selects by a field that the kind does not offer.
    pub(crate) fn read(kind: &Kind, version: &str, labels: &str, fields: &str) -> Result<Selector, Status> {
        let labels_read = read_labels(labels).ok_or_else(|| {
            Status::bad_request(format!(
                "unable to parse requirement: found {labels:?}, expected: a selector"
            ))
        })?;
        let fields_read = read_fields(fields).ok_or_else(|| {
            Status::bad_request(format!("invalid selector: {fields:?}; can't understand a part of it"))
        })?;
        for Requirement { of, .. } in &fields_read {
            if !OF_ALL.contains(&of.as_str()) && !fields_of(kind).contains(&of.as_str()) {
                let resource = &kind.resource;
                let group_version = if resource.group.is_empty() {
                    format!("/{version}")
                } else {
                    format!("{}/{version}", resource.group)
                };
                return Err(Status::bad_request(format!(
                    "Unable to find \"{group_version}, Resource={}\" that match label selector {labels:?}, field \
                     selector {fields:?}: field label not supported: {of}",
                    resource.plural
                )));
            }
        }
        Ok(Selector { labels: labels_read, fields: fields_read })
    }

    /// Whether it selects everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether the object is selected.
    pub(crate) fn matches(&self, object: &Object) -> bool {
        let of_key = |requirement: &Requirement| match requirement.of.as_str() {
            "metadata.name" => Some(requirement.wants.holds(Some(&object.key.name))),
            "metadata.namespace" => Some(requirement.wants.holds(Some(&object.key.namespace))),
            _ => None,
        };
        if self.fields.iter().any(|requirement| of_key(requirement) == Some(false)) {
            return false;
        }
        if self.labels.is_empty() && self.fields.iter().all(|requirement| of_key(requirement).is_some()) {
            return true;
        }
        let bytes = object.bytes();
        let seen: Seen<'_> = serde_json::from_slice(&bytes).unwrap_or_default();
        let label = |name: &str| seen.metadata.labels.as_ref()?.get(name).map(|value| &**value);
        let fits = |requirement: &Requirement| {
            of_key(requirement).is_some() || requirement.wants.holds(Some(seen.field(&requirement.of)))
        };
        self.labels.iter().all(|requirement| requirement.wants.holds(label(&requirement.of)))
            && self.fields.iter().all(fits)
    }
}

/// `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`.
fn read_labels(text: &str) -> Option<Vec<Requirement>> {
    requirements(text).into_iter().map(|part| read_label(part.trim())).collect()
}

/// At commas that are not in parentheses.
fn requirements(text: &str) -> Vec<&str> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    let mut depth = 0_i32;
    text.split(|character| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        character == ',' && depth == 0
    })
    .collect()
}

fn read_label(part: &str) -> Option<Requirement> {
    let of = |name: &str, wants| {
        let name = name.trim();
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        (!name.is_empty() && name.chars().all(is_name)).then(|| Requirement { of: name.to_owned(), wants })
    };
    let one = |value: &str| vec![value.trim().to_owned()];
    let set = |values: &str| -> Option<Vec<String>> {
        let inside = values.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(inside.split(',').map(|value| value.trim().to_owned()).collect())
    };
    if let Some((name, value)) = part.split_once("!=") {
        return of(name, Wants::NotIn(one(value)));
    }
    if let Some((name, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return of(name, Wants::In(one(value)));
    }
    if let Some((name, bound)) = part.split_once('>') {
        return of(name, Wants::Above(bound.trim().parse().ok()?));
    }
    if let Some((name, bound)) = part.split_once('<') {
        return of(name, Wants::Below(bound.trim().parse().ok()?));
    }
    if let Some(name) = part.strip_prefix('!') {
        return of(name, Wants::Absent);
    }
    match part.split_once(char::is_whitespace) {
        None => of(part, Wants::Exists),
        Some((name, rest)) => {
            let rest = rest.trim_start();
            match rest.strip_prefix("notin") {
                Some(values) => of(name, Wants::NotIn(set(values)?)),
                None => of(name, Wants::In(set(rest.strip_prefix("in")?)?)),
            }
        }
    }
}

/// `a=b,c==d,e!=f`.
fn read_fields(text: &str) -> Option<Vec<Requirement>> {
    let read = |part: &str| {
        let (of, wants): (&str, fn(Vec<String>) -> Wants) = match part.split_once("!=") {
            Some((of, _)) => (of, Wants::NotIn),
            None => (part.split_once('=')?.0, Wants::In),
        };
        let value = part[of.len()..].trim_start_matches(['!', '=']);
        Some(Requirement { of: of.trim().to_owned(), wants: wants(vec![value.to_owned()]) })
    };
    text.split(',').filter(|part| !part.is_empty()).map(read).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kind::{Key, Resource};
    use crate::store::State;

    fn pods() -> Kind {
        let of_pods = |kind: &Kind| *kind.resource.plural == *"pods";
        Kind::built_in().into_iter().find(of_pods).expect("pods are built in")
    }

    fn selects(labels: &str, fields: &str) -> bool {
        let mut state = State::new();
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "labels": {"app": "web", "tier": "a\"b", "n": "5"}},
            "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}});
        let object = state.put(&Resource::new("", "pods"), &Key::new("shop", "web"), pod);
        Selector::read(&pods(), "v1", labels, fields).expect("it can be read").matches(&object)
    }

    #[test]
    fn labels_are_selected_as_documented() {
        let yes =
            ["", "app", "app=web", "app==web", "app in (x, web)", "x!=y", "!x", "x notin (y)", "n>4,n<6"];
        for selector in yes {
            assert!(selects(selector, ""), "{selector}");
        }
        let no =
            ["x", "app!=web", "app=", "app in (x)", "app notin (web,x)", "!app", "n>5", "app,x", "app>1"];
        for selector in no {
            assert!(!selects(selector, ""), "{selector}");
        }
    }

    #[test]
    fn fields_are_selected_as_documented() {
        for selector in
            ["metadata.name=web,metadata.namespace==shop", "spec.nodeName=n1", "status.phase!=Failed"]
        {
            assert!(selects("", selector), "{selector}");
        }
        for selector in
            ["metadata.name!=web", "metadata.namespace=x", "spec.nodeName=", "status.phase=Failed"]
        {
            assert!(!selects("", selector), "{selector}");
        }
        assert!(!selects("x", "metadata.name=web"));
    }

    #[test]
    fn what_cannot_be_read_or_is_not_offered_is_a_bad_request() {
        let refused =
            |labels, fields| Selector::read(&pods(), "v1", labels, fields).err().map(|status| status.code);
        for labels in ["a in", "a in x", "a b", "a=b,", "a>x", "=x", "a in (x"] {
            assert_eq!(refused(labels, ""), Some(400), "{labels}");
        }
        for fields in ["x", "spec.hostname=x", "metadata.uid=x"] {
            assert_eq!(refused("", fields), Some(400), "{fields}");
        }
    }
}
