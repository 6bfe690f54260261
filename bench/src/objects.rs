//! Kubernetes objects in few words.

use std::net::IpAddr;
use std::sync::Arc;

use cambric_policy::change::{Change, Key, PolicyObject};
use cambric_policy::pod::Pod as PodObject;
use serde_json::{Map, Value, from_value, json};

/// What a benchmark says of a pod.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pod<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) labels: &'a [(&'a str, &'a str)],
    pub(crate) node: &'a str,
    pub(crate) addresses: &'a [IpAddr],
}

impl Pod<'_> {
    pub(crate) fn key(&self) -> Key {
        Key::new(self.namespace, self.name)
    }

    /// It is there, and runs.
    pub(crate) fn change(&self) -> Change {
        Change::Pod(self.key(), Some(Arc::new(self.object())))
    }

    fn object(&self) -> PodObject {
        let addresses: Vec<Value> = self.addresses.iter().map(|address| json!({"ip": address})).collect();
        let pod = json!({
            "metadata": {
                "namespace": self.namespace, "name": self.name, "uid": format!("{}-{}", self.namespace, self.name),
                "creationTimestamp": "2026-01-01T00:00:00Z", "labels": map(self.labels),
            },
            "spec": {"nodeName": self.node, "containers": [{
                "name": "main", "ports": [{"name": "web", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}],
            }]},
            "status": {"phase": "Running", "podIP": self.addresses.first(), "podIPs": addresses},
        });
        PodObject::read(&from_value(pod).expect("a pod as its type says"))
    }
}

/// A namespace with these labels and the one that all have.
pub(crate) fn namespace(name: &str, labels: &[(&str, &str)]) -> Change {
    let mut labels = map(labels);
    labels.insert("kubernetes.io/metadata.name".into(), name.into());
    let object = from_value(json!({"metadata": {"name": name, "labels": labels}}))
        .expect("a namespace as its type says");
    Change::Namespace(name.into(), Some(Arc::new(object)))
}

/// A policy with this `spec`.
pub(crate) fn policy(namespace: &str, name: &str, spec: Value) -> Change {
    let object = from_value(json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec}));
    let object = PolicyObject { object: object.expect("a policy as its type says"), faults: Vec::new() };
    Change::Policy(Key::new(namespace, name), Some(Arc::new(object)))
}

fn map(labels: &[(&str, &str)]) -> Map<String, Value> {
    labels.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect()
}
