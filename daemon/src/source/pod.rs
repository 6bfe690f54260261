//! A Pod of a manifest. People write all of it but its status: what that says is read as far as it counts, and each
//! version of Kubernetes has more in it.

use k8s_openapi::api::core::v1;
use serde_yaml_ng::{Mapping, Value};

use super::manifest::typed;
use crate::objects::{Problem, Reason};
use crate::values::{self, Costs, Fault};

/// What it says, and which of its addresses are none.
///
/// # Errors
/// What is no Pod.
pub(super) fn decode(place: &str, value: &Value) -> Result<(v1::Pod, Vec<Fault>), Problem> {
    let mut faults = Vec::new();
    let mut pod = value.clone();
    if let Some(status) = pod.get_mut("status") {
        *status = Value::Mapping(what_counts(status, &mut faults));
    }
    let pod = typed::<v1::Pod>(place, &pod)?;
    faults.extend(values::pod(&pod));
    Ok((pod, faults))
}

fn what_counts(status: &Value, faults: &mut Vec<Fault>) -> Mapping {
    let mut text = |field: String, value: &Value| {
        if !value.is_string() && !value.is_null() {
            let (what, reason) = (format!("{field}: not a text"), Reason::Invalid);
            faults.push(Fault { what, reason, costs: Costs::Only("address") });
        }
        Value::from(value.as_str().unwrap_or_default())
    };
    let mut counts = Mapping::new();
    if let Some(phase) = status.get("phase").filter(|phase| phase.is_string()) {
        counts.insert("phase".into(), phase.clone());
    }
    if let Some(address) = status.get("podIP") {
        counts.insert("podIP".into(), text("status.podIP".to_owned(), address));
    }
    if let Some(addresses) = status.get("podIPs").and_then(Value::as_sequence) {
        let entries = addresses.iter().enumerate().map(|(at, entry)| {
            let address = text(format!("status.podIPs[{at}].ip"), entry.get("ip").unwrap_or(&Value::Null));
            Value::Mapping(Mapping::from_iter([("ip".into(), address)]))
        });
        let entries = entries.collect();
        counts.insert("podIPs".into(), Value::Sequence(entries));
    }
    counts
}
