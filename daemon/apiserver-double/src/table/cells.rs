//! Columns of built-in kinds and how their cells come about.

use serde_json::{Value, json};

use crate::kind::Kind;
use crate::time::{human_duration, seconds};

/// Name, type, priority.
type Columns = &'static [(&'static str, &'static str, i64)];
type Cells = fn(&Value, i64) -> Vec<Value>;

const AGE: Columns = &[("Age", "string", 0)];
const CREATED: Columns = &[("Created At", "date", 0)];

/// The columns after the name (of Events: all), and what fills them.
pub(super) fn of(kind: &Kind) -> (Columns, Cells) {
    match kind.kind.as_str() {
        "Node" => (OF_NODES, node),
        "Pod" => (OF_PODS, pod),
        "Event" => (OF_EVENTS, event),
        "Namespace" => (&[("Status", "string", 0), ("Age", "string", 0)], |object, now| {
            vec![text(object, "/status/phase"), age(object, now)]
        }),
        "NetworkPolicy" => (&[("Pod-Selector", "string", 0), ("Age", "string", 0)], |object, now| {
            vec![json!(selector(&object["spec"]["podSelector"])), age(object, now)]
        }),
        "CustomResourceDefinition" | "ClusterRole" | "Role" => {
            (CREATED, |object, _| vec![text(object, "/metadata/creationTimestamp")])
        }
        "ClusterRoleBinding" | "RoleBinding" => {
            (&[("Role", "string", 0), ("Age", "string", 0)], |object, now| {
                let role = &object["roleRef"];
                vec![json!(format!("{}/{}", plain(&role["kind"]), plain(&role["name"]))), age(object, now)]
            })
        }
        _ => (AGE, |object, now| vec![age(object, now)]),
    }
}

const OF_NODES: Columns = &[
    ("Status", "string", 0),
    ("Roles", "string", 0),
    ("Age", "string", 0),
    ("Version", "string", 0),
    ("Internal-IP", "string", 1),
    ("External-IP", "string", 1),
    ("OS-Image", "string", 1),
    ("Kernel-Version", "string", 1),
    ("Container-Runtime", "string", 1),
];

const OF_PODS: Columns = &[
    ("Ready", "string", 0),
    ("Status", "string", 0),
    ("Restarts", "string", 0),
    ("Age", "string", 0),
    ("IP", "string", 1),
    ("Node", "string", 1),
    ("Nominated Node", "string", 1),
    ("Readiness Gates", "string", 1),
];

const OF_EVENTS: Columns = &[
    ("Last Seen", "string", 0),
    ("Type", "string", 0),
    ("Reason", "string", 0),
    ("Object", "string", 0),
    ("Subobject", "string", 1),
    ("Source", "string", 1),
    ("Message", "string", 0),
    ("First Seen", "string", 1),
    ("Count", "string", 1),
    ("Name", "string", 1),
];

fn plain(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn text(object: &Value, pointer: &str) -> Value {
    object.pointer(pointer).cloned().unwrap_or_else(|| json!(""))
}

/// `<none>` for what is absent or empty.
fn or_none(value: Option<&str>) -> Value {
    json!(value.filter(|text| !text.is_empty()).unwrap_or("<none>"))
}

fn since(time: &Value, now: i64) -> Value {
    json!(
        time.as_str()
            .and_then(seconds)
            .map_or_else(|| "<unknown>".to_owned(), |then| human_duration(now - then))
    )
}

fn age(object: &Value, now: i64) -> Value {
    since(&object["metadata"]["creationTimestamp"], now)
}

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// As `metav1.FormatLabelSelector` writes it.
fn selector(selector: &Value) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (name, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        parts.push(format!("{name}={}", plain(value)));
    }
    for expression in items(selector, "/matchExpressions") {
        let key = plain(&expression["key"]);
        let values: Vec<&str> = items(expression, "/values").map(plain).collect();
        let values = values.join(",");
        parts.push(match plain(&expression["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    if parts.is_empty() { "<none>".to_owned() } else { parts.join(",") }
}

fn node(object: &Value, now: i64) -> Vec<Value> {
    let ready = items(object, "/status/conditions").find(|condition| condition["type"] == "Ready");
    let mut status = match ready.map(|condition| plain(&condition["status"])) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if object["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    let labels = object["metadata"]["labels"].as_object();
    let roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(name, _)| name.strip_prefix("node-role.kubernetes.io/"))
        .filter(|role| !role.is_empty())
        .collect();
    let address = |of_type: &str| {
        or_none(
            items(object, "/status/addresses")
                .find(|address| address["type"] == of_type)
                .map(|address| plain(&address["address"])),
        )
    };
    let info = |field: &str| {
        let value = plain(&object["status"]["nodeInfo"][field]);
        json!(if value.is_empty() { "<unknown>" } else { value })
    };
    vec![
        json!(status),
        or_none(Some(&roles.join(","))),
        age(object, now),
        text(object, "/status/nodeInfo/kubeletVersion"),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn pod(object: &Value, now: i64) -> Vec<Value> {
    let mut reason = plain(&object["status"]["phase"]).to_owned();
    if let Some(why) = object["status"]["reason"].as_str().filter(|why| !why.is_empty()) {
        why.clone_into(&mut reason);
    }
    let (mut ready, mut restarts) = (0, 0);
    for status in items(object, "/status/containerStatuses") {
        ready += usize::from(status["ready"] == true);
        restarts += status["restartCount"].as_i64().unwrap_or(0);
        for state in ["waiting", "terminated"] {
            if let Some(why) = status["state"][state]["reason"].as_str().filter(|why| !why.is_empty()) {
                why.clone_into(&mut reason);
            }
        }
    }
    if object["metadata"]["deletionTimestamp"].is_string() {
        let is_lost = object["status"]["reason"] == "NodeLost";
        reason = if is_lost { "Unknown" } else { "Terminating" }.to_owned();
    }
    let count = items(object, "/spec/containers").count();
    vec![
        json!(format!("{ready}/{count}")),
        json!(reason),
        json!(restarts.to_string()),
        age(object, now),
        or_none(object["status"]["podIP"].as_str()),
        or_none(object["spec"]["nodeName"].as_str()),
        or_none(object["status"]["nominatedNodeName"].as_str()),
        json!("<none>"),
    ]
}

fn event(object: &Value, now: i64) -> Vec<Value> {
    // Both groups' names.
    let either =
        |core: &str, other: &str| object.get(core).or_else(|| object.get(other)).cloned().unwrap_or_default();
    let about = either("involvedObject", "regarding");
    let source = either("source", "deprecatedSource");
    let first = either("firstTimestamp", "deprecatedFirstTimestamp");
    let series = &object["series"];
    let last = [
        &series["lastObservedTime"],
        &either("lastTimestamp", "deprecatedLastTimestamp"),
        &object["eventTime"],
        &first,
    ]
    .into_iter()
    .find(|time| time.is_string())
    .cloned()
    .unwrap_or_default();
    let first = if first.is_string() { first } else { object["eventTime"].clone() };
    let count = series["count"].as_i64().or(either("count", "deprecatedCount").as_i64()).unwrap_or(1);
    let kind = plain(&about["kind"]).to_lowercase();
    let source = match (plain(&source["component"]), plain(&object["reportingComponent"])) {
        ("", other) => other.to_owned(),
        (component, _) => [component, plain(&source["host"])]
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join(", "),
    };
    vec![
        since(&last, now),
        text(object, "/type"),
        text(object, "/reason"),
        json!(format!("{kind}/{}", plain(&about["name"]))),
        about["fieldPath"].as_str().map_or_else(|| json!(""), |path| json!(path)),
        json!(source),
        json!(plain(&either("message", "note")).trim()),
        since(&first, now),
        json!(count.to_string()),
        text(object, "/metadata/name"),
    ]
}
