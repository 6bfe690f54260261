//! The network configuration on stdin, as the daemon writes it into `10-cambric.conflist`.
//!
//! Every command needs to know the [`Network`]; only ADD and CHECK need the [`PodConfig`], so that a DEL works even
//! under a configuration that could grant nothing. Unknown keys at the top belong to somebody else and are ignored, as
//! the specification demands; unknown keys inside our own objects are mistakes and named, and so are wishes for fixed
//! addresses by CNI's conventions: a pod that needs a certain address must not get another one in silence.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::attachment::MAX_NETWORK_NAME;
use crate::error::{CniError, Code};
use crate::range::Range;
use crate::version::CniVersion;

/// Wishes for addresses (CNI's CONVENTIONS.md, "capabilities" and "args"); none is served.
const ADDRESS_WISHES: [&str; 4] =
    ["runtimeConfig.ips", "runtimeConfig.mac", "runtimeConfig.ipRanges", "args.cni.ips"];

pub(crate) const DEFAULT_RUN_DIR: &str = "/run/cambric";
/// IPv6 does not exist on links with less (RFC 8200 section 5).
const MIN_MTU_IPV6: u32 = 1280;
/// Every IPv4 host must take this much (RFC 791 section 3.2).
const MIN_MTU_IPV4: u32 = 68;
const MAX_MTU: u32 = 65535;

/// What every command must know.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// The version to answer in.
    pub version: CniVersion,
    /// `name`: leases of other names are not ours.
    pub name: String,
    /// Folder of run-time files; lease tables are under its `ipam`.
    pub run_dir: PathBuf,
    /// What plugins before us in the list made of the pod; for CHECK what all of them did.
    pub prev_result: Option<Value>,
    document: Map<String, Value>,
}

/// What ADD and CHECK must know beside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodConfig {
    /// Where addresses come from, in order of preference; they do not overlap.
    pub ranges: Vec<Range>,
    /// The node's own addresses: sources of what it sends to its pods. Each must be on an interface of the node, not
    /// tentative, when a pod comes; else the kernel refuses the pod's route and ADD answers 104 with the address.
    pub node_addresses: NodeAddresses,
    /// MTU of both ends in bytes; the kernel's default if absent.
    pub mtu_bytes: Option<u32>,
    /// What a pod waits for.
    pub policy_gate: PolicyGate,
}

/// `policyGate`: what a pod waits for before its ADD is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PolicyGate {
    /// Nothing.
    Off,
    /// The node's rules must stand; whether its own are in place is asked for, but not insisted on: until they are the
    /// pod is closed.
    #[default]
    Prefer,
    /// As `Prefer`, and its own rules must be in place.
    Require,
}

impl PolicyGate {
    fn parse(given: &Value) -> Result<PolicyGate, CniError> {
        match given.as_str() {
            Some("off") => Ok(PolicyGate::Off),
            Some("prefer") => Ok(PolicyGate::Prefer),
            Some("require") => Ok(PolicyGate::Require),
            text => {
                let value = text.map_or_else(|| given.to_string(), str::to_owned);
                Err(invalid("policyGate", value, "must be off, prefer or require"))
            }
        }
    }
}

/// At most one address of each family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeAddresses {
    /// Source towards IPv4 addresses of pods.
    pub ipv4: Option<Ipv4Addr>,
    /// Source towards IPv6 addresses of pods.
    pub ipv6: Option<Ipv6Addr>,
}

impl NodeAddresses {
    /// The node's address of the same family.
    pub fn towards(&self, pod: IpAddr) -> Option<IpAddr> {
        match pod {
            IpAddr::V4(_) => self.ipv4.map(IpAddr::V4),
            IpAddr::V6(_) => self.ipv6.map(IpAddr::V6),
        }
    }
}

impl Network {
    /// Reads the document.
    ///
    /// # Errors
    /// Code 6 for what is no JSON object or has no sane version, 1 for a version not spoken, 7 for a bad name or path.
    pub fn parse(document: &[u8]) -> Result<Network, CniError> {
        let document: Map<String, Value> = serde_json::from_slice(document).map_err(|error| {
            CniError::new(Code::Decode, "cannot decode the network configuration").with_details(error)
        })?;
        let version = parse_version(&document)?;
        Network::from_document(version, document).map_err(|error| error.in_version(version))
    }

    fn from_document(version: CniVersion, mut document: Map<String, Value>) -> Result<Network, CniError> {
        let prev_result = document.remove("prevResult").filter(|value| !value.is_null());
        if let Some(strange) = prev_result.as_ref().filter(|value| !value.is_object()) {
            return Err(invalid("prevResult", strange, "must be an object"));
        }
        let Head { name, run_dir } = typed(&document)?;
        let name = name.unwrap_or_default();
        if !is_network_name(&name) {
            return Err(invalid(
                "name",
                &name,
                "must be 1 to 64 of A-Z a-z 0-9 _ . - and start with a letter or digit",
            ));
        }
        let run_dir = run_dir.unwrap_or_else(|| DEFAULT_RUN_DIR.into());
        if !run_dir.is_absolute() {
            return Err(invalid("runDir", run_dir.display(), "must be an absolute path"));
        }
        Ok(Network { version, name, run_dir, prev_result, document })
    }

    /// Reads what ADD and CHECK need beside.
    ///
    /// # Errors
    /// Code 2 for unknown keys in our own objects and wishes for fixed addresses, 7 for values that cannot be.
    pub fn pod_config(&self) -> Result<PodConfig, CniError> {
        refuse_address_wishes(&self.document)?;
        let body: Body = typed(&self.document)?;
        let ranges = body.ranges.into_iter().map(RawRange::parse).collect::<Result<Vec<_>, _>>()?;
        if ranges.is_empty() {
            return Err(invalid("ranges", "[]", "at least one range is needed"));
        }
        for (nth, range) in ranges.iter().enumerate() {
            if let Some(earlier) = ranges[..nth].iter().find(|earlier| earlier.overlaps(range)) {
                return Err(invalid("ranges", range, &format!("overlaps with {earlier}")));
            }
        }
        let node_addresses = parse_node_addresses(&body.node_addresses)?;
        check_mtu(body.mtu, &ranges)?;
        let policy_gate = body.policy_gate.as_ref().map(PolicyGate::parse).transpose()?.unwrap_or_default();
        Ok(PodConfig { ranges, node_addresses, mtu_bytes: body.mtu, policy_gate })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    name: Option<String>,
    run_dir: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    #[serde(default)]
    ranges: Vec<RawRange>,
    #[serde(default)]
    node_addresses: Vec<String>,
    mtu: Option<u32>,
    policy_gate: Option<Value>,
}

#[derive(Deserialize)]
struct RawRange {
    ipv4: Option<String>,
    ipv6: Option<String>,
    #[serde(flatten)]
    unknown: BTreeMap<String, Value>,
}

impl RawRange {
    fn parse(self) -> Result<Range, CniError> {
        if let Some((key, value)) = self.unknown.first_key_value() {
            let msg = format!("unsupported field in ranges: {key:?} with value {value}");
            return Err(CniError::new(Code::UnsupportedField, msg));
        }
        let ipv4 = self.ipv4.map(|text| {
            text.parse::<Ipv4Network>().map_err(|error| invalid("ranges.ipv4", text, &error.to_string()))
        });
        let ipv6 = self.ipv6.map(|text| {
            text.parse::<Ipv6Network>().map_err(|error| invalid("ranges.ipv6", text, &error.to_string()))
        });
        Range::new(ipv4.transpose()?, ipv6.transpose()?)
            .map_err(|error| CniError::new(Code::InvalidConfig, "invalid ranges").with_details(error))
    }
}

fn parse_version(document: &Map<String, Value>) -> Result<CniVersion, CniError> {
    match document.get("cniVersion") {
        None | Some(Value::Null) => CniVersion::parse(None),
        Some(Value::String(given)) => CniVersion::parse(Some(given)),
        Some(other) => CniVersion::parse(Some(&other.to_string())),
    }
}

/// An empty value wishes nothing.
fn refuse_address_wishes(document: &Map<String, Value>) -> Result<(), CniError> {
    let value_at = |path: &str| {
        let mut words = path.split('.');
        let top = document.get(words.next()?)?;
        words.try_fold(top, |value, word| value.get(word))
    };
    let is_wish = |value: &&Value| ![json!(null), json!(""), json!([])].contains(value);
    let wish = ADDRESS_WISHES.iter().find_map(|path| Some((path, value_at(path).filter(is_wish)?)));
    wish.map_or(Ok(()), |(path, value)| {
        let msg = format!("unsupported field {path:?} with value {value}");
        Err(CniError::new(Code::UnsupportedField, msg)
            .with_details("fixed addresses are not implemented yet"))
    })
}

fn parse_node_addresses(given: &[String]) -> Result<NodeAddresses, CniError> {
    let mut addresses = NodeAddresses::default();
    for text in given {
        let second = match text.parse() {
            Ok(IpAddr::V4(address)) => addresses.ipv4.replace(address).is_some(),
            Ok(IpAddr::V6(address)) => addresses.ipv6.replace(address).is_some(),
            Err(_) => return Err(invalid("nodeAddresses", text, "not an IP address")),
        };
        if second {
            return Err(invalid("nodeAddresses", text, "second address of its family"));
        }
    }
    Ok(addresses)
}

fn check_mtu(mtu_bytes: Option<u32>, ranges: &[Range]) -> Result<(), CniError> {
    let ipv6 = ranges.iter().any(|range| range.ipv6().is_some());
    let least = if ipv6 { MIN_MTU_IPV6 } else { MIN_MTU_IPV4 };
    match mtu_bytes {
        Some(mtu) if !(least..=MAX_MTU).contains(&mtu) => {
            Err(invalid("mtu", mtu, &format!("must be {least} to {MAX_MTU}")))
        }
        _ => Ok(()),
    }
}

fn is_network_name(name: &str) -> bool {
    name.len() <= MAX_NETWORK_NAME && is_identifier(name)
}

/// Names and container IDs: a letter or digit, then those and `_ . -` (specification 1.1.0, "name").
pub(crate) fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn typed<T: serde::de::DeserializeOwned>(document: &Map<String, Value>) -> Result<T, CniError> {
    serde_json::from_value(Value::Object(document.clone())).map_err(|error| {
        CniError::new(Code::InvalidConfig, "invalid network configuration").with_details(error)
    })
}

fn invalid(key: &str, value: impl ToString, why: &str) -> CniError {
    let msg = format!("invalid {key} {:?} in the network configuration", value.to_string());
    CniError::new(Code::InvalidConfig, msg).with_details(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(extra: Value) -> Result<Network, CniError> {
        let mut document = json!({"cniVersion": "1.0.0", "name": "cambric", "type": "cambric-cni"});
        document.as_object_mut().expect("object").extend(extra.as_object().expect("object").clone());
        Network::parse(document.to_string().as_bytes())
    }

    fn pod_config(extra: Value) -> Result<PodConfig, CniError> {
        network(extra).and_then(|network| network.pod_config())
    }

    #[test]
    fn the_daemons_configuration_is_understood() {
        let network = network(json!({
            "ranges": [{"ipv4": "10.244.1.0/24", "ipv6": "fd00:10:244:1::/64"}],
            "nodeAddresses": ["10.255.0.11", "fd00:10:255::11"],
            "mtu": 9000, "policyGate": "require", "runDir": "/run/other", "somebodyElses": {"key": 1},
        }))
        .expect("network");
        assert_eq!((network.name.as_str(), network.run_dir.to_str()), ("cambric", Some("/run/other")));
        let config = network.pod_config().expect("config");
        assert_eq!(config.ranges[0].to_string(), "10.244.1.0/24 and fd00:10:244:1::/64");
        assert_eq!(config.node_addresses.towards(Ipv4Addr::LOCALHOST.into()), "10.255.0.11".parse().ok());
        assert_eq!((config.mtu_bytes, config.policy_gate), (Some(9000), PolicyGate::Require));
    }

    #[test]
    fn mistakes_are_named_with_their_code() {
        let good = json!([{"ipv4": "10.244.1.0/24"}]);
        for (extra, code, words) in [
            (json!({"ranges": []}), 7, "at least one range"),
            (json!({"ranges": {}}), 7, "expected a sequence"),
            (json!({"ranges": [{}]}), 7, "needs ipv4 or ipv6"),
            (json!({"ranges": [{"ipv4": "ten"}]}), 7, "ten"),
            (json!({"ranges": [{"ipv4": "10.244.1.0"}]}), 7, "too small"),
            (json!({"ranges": [{"ipv4": "10.244.1.0/33"}]}), 7, "10.244.1.0/33"),
            (json!({"ranges": [{"ipv4": "10.244.1.0/32"}]}), 7, "too small"),
            (json!({"ranges": [{"ipv4": "10.0.0.0/24"}, {"ipv4": "10.0.0.0/25"}]}), 7, "overlaps"),
            (
                json!({"ranges": [{"ipv4": "10.0.0.0/24", "gateway": "10.0.0.1"}]}),
                2,
                "\"gateway\" with value \"10.0.0.1\"",
            ),
            (json!({"ranges": good, "nodeAddresses": ["node1"]}), 7, "not an IP address"),
            (json!({"ranges": good, "nodeAddresses": ["10.0.0.1", "10.0.0.2"]}), 7, "second address"),
            (json!({"ranges": good, "mtu": "big"}), 7, "invalid type"),
            (json!({"ranges": good, "mtu": 67}), 7, "must be 68 to 65535"),
            (json!({"ranges": [{"ipv6": "fd00::/64"}], "mtu": 1279}), 7, "must be 1280 to 65535"),
            (json!({"ranges": good, "policyGate": "open"}), 7, "invalid policyGate \"open\""),
            (json!({"ranges": good, "policyGate": true}), 7, "must be off, prefer or require"),
            (json!({"ranges": good, "name": "-x"}), 7, "invalid name"),
            (json!({"ranges": good, "name": "../x"}), 7, "invalid name"),
            (json!({"ranges": good, "runDir": "run"}), 7, "absolute"),
            (json!({"ranges": good, "prevResult": []}), 7, "must be an object"),
            (json!({"ranges": good, "cniVersion": 1}), 6, "not a version"),
            (json!({"ranges": good, "cniVersion": "0.2.0"}), 1, "incompatible"),
        ] {
            let error = pod_config(extra.clone()).expect_err("refused");
            assert_eq!(error.code as u32, code, "{extra}: {error}");
            assert!(error.to_string().contains(words), "{extra}: {error}");
        }
    }

    #[test]
    fn wishes_for_addresses_are_refused_and_other_wishes_are_not_ours() {
        let config =
            |key: &str, value: Value| pod_config(json!({"ranges": [{"ipv4": "10.244.1.0/24"}], key: value}));
        for (key, value, words) in [
            (
                "runtimeConfig",
                json!({"ips": ["10.1.0.9/24"]}),
                r#""runtimeConfig.ips" with value ["10.1.0.9/24"]"#,
            ),
            (
                "runtimeConfig",
                json!({"mac": "0a:00:00:00:00:01"}),
                r#""runtimeConfig.mac" with value "0a:00"#,
            ),
            (
                "runtimeConfig",
                json!({"ipRanges": [[{"subnet": "10.1.0.0/24"}]]}),
                r#""runtimeConfig.ipRanges" with value [[{"subnet""#,
            ),
            ("args", json!({"cni": {"ips": ["10.1.0.9"]}}), r#""args.cni.ips" with value ["10.1.0.9"]"#),
        ] {
            let error = config(key, value).expect_err("refused");
            assert_eq!(error.code, Code::UnsupportedField);
            assert!(error.to_string().contains(words), "{error}");
        }
        for (key, value) in [
            ("runtimeConfig", json!({"ips": [], "mac": "", "ipRanges": null, "portMappings": [{}]})),
            ("runtimeConfig", Value::Null),
            ("args", json!({"cni": {"labels": []}, "ips": ["10.1.0.9"]})),
        ] {
            assert!(config(key, value).is_ok());
        }
    }

    #[test]
    fn a_gate_that_is_not_told_is_prefer() {
        let gate = |extra: Value| pod_config(extra).expect("config").policy_gate;
        let ranges = json!([{"ipv4": "10.244.1.0/24"}]);
        assert_eq!(gate(json!({"ranges": ranges})), PolicyGate::Prefer);
        assert_eq!(gate(json!({"ranges": ranges, "policyGate": null})), PolicyGate::Prefer);
        assert_eq!(gate(json!({"ranges": ranges, "policyGate": "off"})), PolicyGate::Off);
    }

    #[test]
    fn what_is_no_json_object_is_a_decode_error() {
        for document in ["", "{", "[]", "null", "\u{0}"] {
            assert_eq!(
                Network::parse(document.as_bytes()).expect_err("refused").code,
                Code::Decode,
                "{document:?}"
            );
        }
    }

    #[test]
    fn a_network_without_ranges_still_serves_del() {
        assert!(network(json!({})).is_ok());
        assert_eq!(pod_config(json!({})).expect_err("refused").code, Code::InvalidConfig);
    }
}
