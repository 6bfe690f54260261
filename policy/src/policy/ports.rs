//! Ports of rules: a protocol, a number, a range, or a name that the destination's containers give a number.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::NetworkPolicyPort;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::change::Fault;
use crate::program::{Ports, Protocol};

/// Most bytes of a port's name (RFC 6335 section 5.1).
const MOST_NAME_BYTES: usize = 15;

/// Some ports of a protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// All of them.
    All(Protocol),
    /// These numbers.
    Numbers(Protocol, Ports),
    /// The number that the destination pod gives it.
    Named(PortName),
}

/// A port that containers name. The same name may stand for another port in another protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName {
    /// Of the port.
    pub protocol: Protocol,
    /// An IANA service name.
    pub name: Arc<str>,
}

/// A protocol by its name; missing is TCP.
pub(crate) fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name {
        None | Some("TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(_) => None,
    }
}

/// Missing and empty are the same: all.
pub(super) fn read(
    ports: Option<&[NetworkPolicyPort]>,
    rule: &str,
    faults: &mut Vec<Fault>,
) -> Option<BTreeSet<Port>> {
    let ports = ports.filter(|ports| !ports.is_empty())?;
    let mut read = BTreeSet::new();
    for (at, port) in ports.iter().enumerate() {
        match read_one(port) {
            Ok(port) => _ = read.insert(port),
            Err((part, what)) => faults.push(Fault { field: format!("{rule}.ports[{at}].{part}"), what }),
        }
    }
    Some(read)
}

fn read_one(read: &NetworkPolicyPort) -> Result<Port, (&'static str, String)> {
    let protocol = protocol(read.protocol.as_deref()).ok_or_else(|| {
        ("protocol", format!("{:?}: expected TCP, UDP or SCTP", read.protocol.as_deref().unwrap_or("")))
    })?;
    match (&read.port, read.end_port) {
        (None, None) => Ok(Port::All(protocol)),
        (Some(IntOrString::String(name)), None) if is_service_name(name) => {
            Ok(Port::Named(PortName { protocol, name: name.as_str().into() }))
        }
        (Some(IntOrString::String(name)), None) => Err(("port", format!("{name:?}: not the name of a port"))),
        (Some(IntOrString::Int(first)), last) => {
            let number = |field, number: i32| match u16::try_from(number) {
                Ok(number) if number > 0 => Ok(number),
                _ => Err((field, format!("{number}: expected 1 to 65535"))),
            };
            let first = number("port", *first)?;
            let last = last.map_or(Ok(first), |last| number("endPort", last))?;
            if last < first {
                return Err(("endPort", format!("{last}: less than port, {first}")));
            }
            Ok(Port::Numbers(protocol, Ports { first, last }))
        }
        (_, Some(last)) => Err(("endPort", format!("{last}: port is not a number"))),
    }
}

/// k8s.io/apimachinery/pkg/util/validation, `IsValidPortName`; RFC 6335 section 5.1 in lower case
fn is_service_name(name: &str) -> bool {
    name.len() <= MOST_NAME_BYTES
        && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
        && name.bytes().any(|c| c.is_ascii_lowercase())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}
