//! Between the version in which objects are kept and those in which they are served.

use serde_json::{Value, json};

use crate::kind::Kind;

/// What `events.k8s.io/v1` calls the fields of a core Event.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// An object as it is kept, from one of this served version.
pub(crate) fn stored(kind: &Kind, value: Value) -> Value {
    match kind.shows {
        Some(_) => renamed(value, "v1", |(core, other)| (other, core)),
        None => with_version(value, &kind.stored_api_version()),
    }
}

/// An object in this served version, from one as it is kept. Definitions convert with the strategy `None`: nothing but
/// the version changes.
pub(crate) fn served(kind: &Kind, version: &str, value: Value) -> Value {
    match kind.shows {
        Some(_) => renamed(value, &kind.api_version(version), |names| names),
        None => with_version(value, &kind.api_version(version)),
    }
}

fn with_version(mut value: Value, api_version: &str) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.insert("apiVersion".to_owned(), json!(api_version));
    }
    value
}

fn renamed<'a>(
    value: Value,
    api_version: &str,
    names: impl Fn((&'a str, &'a str)) -> (&'a str, &'a str),
) -> Value {
    let Value::Object(fields) = value else { return value };
    let renamed = fields.into_iter().map(|(name, field)| {
        let other = EVENT_FIELDS.into_iter().map(&names).find(|(from, _)| *from == name);
        (other.map_or(name, |(_, to)| to.to_owned()), field)
    });
    with_version(Value::Object(renamed.collect()), api_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_other_names_in_its_other_group_and_comes_back_whole() {
        let of_events = |kind: &Kind| &*kind.resource.group == "events.k8s.io";
        let kind = Kind::built_in().into_iter().find(of_events).expect("events are built in");
        let core = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "message": "text",
            "involvedObject": {"kind": "Node"}, "reason": "R", "count": 2});
        let other = served(&kind, "v1", core.clone());
        assert_eq!(other["note"], "text");
        assert_eq!(other["regarding"]["kind"], "Node");
        assert_eq!(
            (&other["apiVersion"], &other["deprecatedCount"]),
            (&json!("events.k8s.io/v1"), &json!(2))
        );
        assert_eq!(stored(&kind, other), core);
    }
}
