//! The containerlab file as written. Every struct refuses unknown keys, so that a slip of the pen is named and not
//! passed over.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFile {
    pub(super) name: String,
    pub(super) prefix: Option<String>,
    pub(super) topology: RawTopology,
    /// The management network, certificates and the log level of containerlab: none of them exists here.
    #[serde(rename = "mgmt")]
    _mgmt: Option<IgnoredAny>,
    #[serde(rename = "settings")]
    _settings: Option<IgnoredAny>,
    #[serde(rename = "debug")]
    _debug: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTopology {
    pub(super) defaults: Option<RawNode>,
    #[serde(default)]
    pub(super) kinds: BTreeMap<String, RawNode>,
    #[serde(default)]
    pub(super) groups: BTreeMap<String, RawNode>,
    pub(super) nodes: BTreeMap<String, Option<RawNode>>,
    pub(super) links: Option<Vec<RawLink>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawNode {
    pub(super) kind: Option<String>,
    pub(super) image: Option<String>,
    pub(super) group: Option<String>,
    pub(super) cmd: Option<String>,
    pub(super) binds: Vec<String>,
    pub(super) exec: Vec<String>,
    pub(super) sysctls: BTreeMap<String, Scalar>,
    pub(super) env: BTreeMap<String, Scalar>,
    pub(super) labels: BTreeMap<String, Scalar>,

    // Known to containerlab and without meaning in namespaces on one machine. How an image is fetched and a container
    // kept alive: there are none.
    #[serde(rename = "image-pull-policy")]
    _image_pull_policy: Option<IgnoredAny>,
    #[serde(rename = "restart-policy")]
    _restart_policy: Option<IgnoredAny>,
    #[serde(rename = "auto-remove")]
    _auto_remove: Option<IgnoredAny>,
    #[serde(rename = "runtime")]
    _runtime: Option<IgnoredAny>,
    // The management network: there is none, so `network-mode: none` is what every node has.
    #[serde(rename = "network-mode")]
    _network_mode: Option<IgnoredAny>,
    #[serde(rename = "mgmt-ipv4")]
    _mgmt_ipv4: Option<IgnoredAny>,
    #[serde(rename = "mgmt-ipv6")]
    _mgmt_ipv6: Option<IgnoredAny>,
    #[serde(rename = "ports")]
    _ports: Option<IgnoredAny>,
    // Rights and limits of a container: a node here has those of the runner.
    #[serde(rename = "cap-add")]
    _cap_add: Option<IgnoredAny>,
    #[serde(rename = "privileged")]
    _privileged: Option<IgnoredAny>,
    #[serde(rename = "cpu")]
    _cpu: Option<IgnoredAny>,
    #[serde(rename = "memory")]
    _memory: Option<IgnoredAny>,
    // Nodes start in order of their conditions, never after a fixed delay.
    #[serde(rename = "startup-delay")]
    _startup_delay: Option<IgnoredAny>,
}

impl RawNode {
    /// This level under a nearer one: single values are replaced, maps merged, lists appended.
    pub(super) fn under(mut self, nearer: Self) -> Self {
        self.binds.extend(nearer.binds);
        self.exec.extend(nearer.exec);
        self.sysctls.extend(nearer.sysctls);
        self.env.extend(nearer.env);
        self.labels.extend(nearer.labels);
        Self {
            kind: nearer.kind.or(self.kind),
            image: nearer.image.or(self.image),
            group: nearer.group.or(self.group),
            cmd: nearer.cmd.or(self.cmd),
            ..self
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLink {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) endpoints: Vec<RawEndpoint>,
    pub(super) mtu: Option<u32>,
    #[serde(default)]
    pub(super) ipv4: Vec<String>,
    #[serde(default)]
    pub(super) ipv6: Vec<String>,
    /// Variables for containerlab's configuration engine, and labels that nothing here reads.
    #[serde(rename = "vars")]
    _vars: Option<IgnoredAny>,
    #[serde(rename = "labels")]
    _labels: Option<IgnoredAny>,
    /// Keys of link types that are refused by their type, with a better message than "unknown".
    #[serde(rename = "endpoint")]
    _endpoint: Option<IgnoredAny>,
    #[serde(rename = "host-interface")]
    _host_interface: Option<IgnoredAny>,
}

/// `node:interface`, or the long form.
#[derive(Debug)]
pub(super) enum RawEndpoint {
    Brief(String),
    Full(RawFullEndpoint),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFullEndpoint {
    pub(super) node: String,
    pub(super) interface: String,
    pub(super) mac: Option<String>,
    pub(super) ipv4: Option<String>,
    pub(super) ipv6: Option<String>,
    #[serde(rename = "vars")]
    _vars: Option<IgnoredAny>,
}

/// A string, number or truth value: YAML writers rarely quote `1`.
#[derive(Debug, Clone)]
pub(super) struct Scalar(pub(super) String);

impl RawFile {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // serde lets the second of two equal keys win in a map; a `Value` refuses them.
        serde_yaml_ng::from_str::<serde_yaml_ng::Value>(text).map_err(|error| error.to_string())?;
        serde_yaml_ng::from_str(text).map_err(|error| error.to_string())
    }
}

// Not `#[serde(untagged)]`, whose errors say neither which key is wrong nor where.
impl<'de> Deserialize<'de> for RawEndpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RawEndpoint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"node:interface\" or a map with node and interface")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RawEndpoint, E> {
                Ok(RawEndpoint::Brief(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawEndpoint, A::Error> {
                RawFullEndpoint::deserialize(MapAccessDeserializer::new(map)).map(RawEndpoint::Full)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number or a truth value")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar(value.to_owned()))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
