//! A NetworkPolicy, read strictly: what it says that nobody knows, and every wrong value, is a fault, and a policy with
//! a fault fails closed. It is never left out: what it selects would be open.

use cambric_policy::change::{Fault as PolicyFault, PolicyObject};
use cambric_policy::policy::{self, Policy};
use serde_yaml_ng::Value;

use super::manifest::null_in;
use crate::objects::Reason;
use crate::values::{Costs, Fault};

/// Its group and version.
pub(super) const API_VERSION: &str = "networking.k8s.io/v1";

/// The group of policies for whole clusters.
pub(super) const GROUP_TO_COME: &str = "policy.networking.k8s.io";

/// What it says, with what is wrong with it.
///
/// # Errors
/// What no JSON can say, and what has no name.
pub(super) fn decode(value: &Value) -> Result<(PolicyObject, Vec<Fault>), String> {
    let json = serde_json::to_value(value).map_err(|error| error.to_string())?;
    let (key, mut object) = policy::decode(&json).map_err(|fault| fault.to_string())?;
    // To the API server a null is a field that is left out. Nobody writes one on purpose: `from:` without a line below
    // it would let everybody in.
    if let Some(field) = value.get("spec").and_then(|spec| null_in("spec".to_owned(), spec))
        && !object.faults.iter().any(|fault| fault.field == field)
    {
        object.faults.push(PolicyFault { field, what: "null: give it a value or leave it out".to_owned() });
    }
    let faults = Policy::read(&key.namespace, &object).faults.into_iter();
    let faults =
        faults.map(|fault| Fault { what: fault.to_string(), reason: Reason::Invalid, costs: Costs::Closed });
    Ok((object, faults.collect()))
}
