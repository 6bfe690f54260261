//! Objects as tables, which is how kubectl shows them: cells are made by the server
//! (`k8s.io/kubernetes/pkg/printers/internalversion`, and `additionalPrinterColumns` of CustomResourceDefinitions).

mod cells;

use serde_json::{Value, json};

use crate::jsonpath::JsonPath;
use crate::kind::Kind;
use crate::{store, time};

/// `columnDefinitions`, and one row an object.
pub(crate) fn render(kind: &Kind, version: &str, objects: &[Value]) -> (Value, Vec<Value>) {
    let now = time::seconds(&store::now()).unwrap_or(0);
    render_at(kind, version, objects, now)
}

fn render_at(kind: &Kind, version: &str, objects: &[Value], now: i64) -> (Value, Vec<Value>) {
    let mut definitions = vec![definition("Name", "string", "name", 0)];
    let custom;
    let cells: &dyn Fn(&Value) -> Vec<Value> = if kind.is_custom {
        let columns = version_columns(kind, version);
        for column in &columns {
            definitions.push(json!({"name": column.name, "type": column.of_type, "format": column.format,
                "description": column.description, "priority": column.priority}));
        }
        custom = move |object: &Value| columns.iter().map(|column| column.cell(object, now)).collect();
        &custom
    } else {
        let (columns, cells) = cells::of(kind);
        definitions
            .extend(columns.iter().map(|&(name, of_type, priority)| definition(name, of_type, "", priority)));
        custom_none(&mut definitions, kind);
        &move |object: &Value| cells(object, now)
    };
    let rows = objects.iter().map(|object| {
        let metadata = object.get("metadata").cloned().unwrap_or_default();
        let mut row = cells(object);
        // The columns of Events do not begin with the name.
        if !is_event(kind) {
            row.insert(0, metadata["name"].clone());
        }
        json!({"cells": row, "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}})
    });
    let rows = rows.collect();
    (Value::Array(definitions), rows)
}

fn is_event(kind: &Kind) -> bool {
    !kind.is_custom && kind.kind == "Event"
}

fn custom_none(definitions: &mut Vec<Value>, kind: &Kind) {
    if is_event(kind) {
        definitions.remove(0);
    }
}

fn definition(name: &str, of_type: &str, format: &str, priority: i64) -> Value {
    json!({"name": name, "type": of_type, "format": format, "description": "", "priority": priority})
}

/// One of `additionalPrinterColumns`.
struct Column {
    name: String,
    of_type: String,
    format: String,
    description: String,
    priority: i64,
    path: Option<JsonPath>,
}

fn version_columns(kind: &Kind, version: &str) -> Vec<Column> {
    let columns = kind.served(version).map(|version| version.columns.as_slice()).unwrap_or_default();
    let text = |column: &Value, field: &str| column[field].as_str().unwrap_or_default().to_owned();
    let mut columns: Vec<Column> = columns
        .iter()
        .map(|column| Column {
            name: text(column, "name"),
            of_type: text(column, "type"),
            format: text(column, "format"),
            description: text(column, "description"),
            priority: column["priority"].as_i64().unwrap_or(0),
            path: JsonPath::parse(&text(column, "jsonPath")).ok(),
        })
        .collect();
    if columns.is_empty() {
        columns.push(Column {
            name: "Age".to_owned(),
            of_type: "date".to_owned(),
            format: String::new(),
            description: String::new(),
            priority: 0,
            path: JsonPath::parse(".metadata.creationTimestamp").ok(),
        });
    }
    columns
}

impl Column {
    /// The first value found, if it is of the column's type.
    fn cell(&self, object: &Value, now: i64) -> Value {
        let Some(value) = self.path.as_ref().and_then(|path| path.find(object).into_iter().next()) else {
            return Value::Null;
        };
        match (self.of_type.as_str(), value) {
            (_, Value::Null) => Value::Null,
            ("string", Value::String(_)) => value.clone(),
            ("string", other) => json!(other.to_string()),
            ("integer", Value::Number(number)) => number.as_i64().map_or_else(
                || number.as_f64().map_or(Value::Null, |number| json!(number.trunc() as i64)),
                Value::from,
            ),
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
            ("date", Value::String(text)) => match time::seconds(text) {
                Some(then) => json!(time::human_duration(now - then)),
                None => json!("<invalid>"),
            },
            _ => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built_in(kind: &str, object: Value) -> (Vec<String>, Value) {
        let kinds = Kind::built_in();
        let kind = kinds.iter().find(|candidate| candidate.kind == kind).expect("it is built in");
        let now = time::seconds("2026-11-21T23:00:00Z").expect("it is a time");
        let (columns, mut rows) = render_at(kind, "v1", &[object], now);
        let names = columns
            .as_array()
            .into_iter()
            .flatten()
            .map(|column| column["name"].as_str().unwrap_or_default().to_owned());
        (names.collect(), rows.swap_remove(0)["cells"].take())
    }

    #[test]
    fn a_node_shows_readiness_roles_age_and_with_wide_its_addresses() {
        let node = json!({"metadata": {"name": "n1", "creationTimestamp": "2026-11-21T22:00:00Z",
                "labels": {"node-role.kubernetes.io/control-plane": ""}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
                "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian", "kernelVersion": "6.18", "containerRuntimeVersion": "containerd://2"}}});
        let (names, cells) = built_in("Node", node);
        assert_eq!(names[..5], ["Name", "Status", "Roles", "Age", "Version"]);
        let expected = json!([
            "n1",
            "Ready,SchedulingDisabled",
            "control-plane",
            "60m",
            "v1.36.0",
            "192.0.2.1",
            "<none>",
            "Debian",
            "6.18",
            "containerd://2"
        ]);
        assert_eq!(cells, expected);
    }

    #[test]
    fn a_pod_that_leaves_is_terminating_and_one_that_waits_says_why() {
        let mut pod = json!({"metadata": {"name": "p", "creationTimestamp": "2026-11-21T22:59:30Z"},
            "spec": {"nodeName": "n1", "containers": [{"name": "a"}, {"name": "b"}]},
            "status": {"phase": "Running", "podIP": "10.0.0.2", "containerStatuses": [
                {"name": "a", "ready": true, "restartCount": 2, "state": {"running": {}}},
                {"name": "b", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}]}});
        let (_, cells) = built_in("Pod", pod.clone());
        assert_eq!(
            cells,
            json!(["p", "1/2", "ContainerCreating", "2", "30s", "10.0.0.2", "n1", "<none>", "<none>"])
        );
        pod["metadata"]["deletionTimestamp"] = json!("2026-11-21T23:00:00Z");
        assert_eq!(built_in("Pod", pod).1[2], "Terminating");
    }

    #[test]
    fn an_event_does_not_begin_with_its_name() {
        let event = json!({"metadata": {"name": "e.1", "namespace": "default"}, "involvedObject": {"kind": "Node", "name": "n1"},
            "type": "Warning", "reason": "SessionDown", "message": "gone", "lastTimestamp": "2026-11-21T22:58:00Z", "count": 3});
        let (names, cells) = built_in("Event", event);
        assert_eq!(names[..4], ["Last Seen", "Type", "Reason", "Object"]);
        assert_eq!((&cells[0], &cells[3], &cells[6]), (&json!("2m"), &json!("node/n1"), &json!("gone")));
    }

    #[test]
    fn columns_of_a_definition_are_followed_by_type_and_priority() {
        let definition = json!({"spec": {"group": "a.b", "scope": "Cluster", "names": {"kind": "Thing", "plural": "things"},
            "versions": [{"name": "v1", "served": true, "storage": true, "additionalPrinterColumns": [
                {"name": "Ranges", "type": "string", "jsonPath": ".spec.ranges"},
                {"name": "AS", "type": "integer", "jsonPath": ".spec.asn"},
                {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status", "priority": 1},
                {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]}]}});
        let kind = Kind::defined_by(&definition).expect("it is whole");
        let now = time::seconds("2026-11-21T23:00:00Z").expect("it is a time");
        let object = json!({"metadata": {"name": "t", "creationTimestamp": "2026-11-20T22:00:00Z"}, "spec": {"ranges": ["10.0.0.0/8"], "asn": "five"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let (columns, rows) = render_at(&kind, "v1", &[object], now);
        assert_eq!(columns[3]["priority"], 1);
        assert_eq!(rows[0]["cells"], json!(["t", "[\"10.0.0.0/8\"]", null, "True", "25h"]));
    }
}
