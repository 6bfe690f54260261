//! The part of a Pod that a kubelet acts on (Kubernetes API, core/v1).
//!
//! A field that is not here is an error: a stand-in that leaves something out would prove less than it says. Fields that
//! others have acted on before (the scheduler, the admission of the API server) are known and left alone.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PodSpec {
    #[serde(default)]
    pub(super) host_network: bool,
    #[serde(default)]
    pub(super) init_containers: Vec<Container>,
    pub(super) containers: Vec<Container>,
    #[serde(default)]
    pub(super) volumes: Vec<Volume>,
    #[serde(default)]
    pub(super) security_context: PodSecurityContext,
    /// Unless it is false, containers find a token.
    pub(super) automount_service_account_token: Option<bool>,
    #[serde(default = "thirty")]
    pub(super) termination_grace_period_seconds: u64,

    #[serde(rename = "affinity")]
    _affinity: Option<IgnoredAny>,
    #[serde(rename = "dnsPolicy")]
    _dns_policy: Option<IgnoredAny>,
    #[serde(rename = "enableServiceLinks")]
    _enable_service_links: Option<IgnoredAny>,
    #[serde(rename = "nodeName")]
    _node_name: Option<IgnoredAny>,
    #[serde(rename = "nodeSelector")]
    _node_selector: Option<IgnoredAny>,
    #[serde(rename = "priorityClassName")]
    _priority_class_name: Option<IgnoredAny>,
    #[serde(rename = "restartPolicy")]
    _restart_policy: Option<IgnoredAny>,
    #[serde(rename = "serviceAccountName")]
    _service_account_name: Option<IgnoredAny>,
    #[serde(rename = "tolerations")]
    _tolerations: Option<IgnoredAny>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) image: String,
    #[serde(default)]
    pub(super) command: Vec<String>,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<Env>,
    #[serde(default)]
    pub(super) resources: Resources,
    #[serde(default)]
    pub(super) security_context: SecurityContext,
    #[serde(default)]
    pub(super) volume_mounts: Vec<VolumeMount>,
    pub(super) startup_probe: Option<Probe>,
    pub(super) readiness_probe: Option<Probe>,
    pub(super) liveness_probe: Option<Probe>,

    /// Images are there before.
    #[serde(rename = "imagePullPolicy")]
    _image_pull_policy: Option<IgnoredAny>,
    /// For people; with the network of the host they say what it uses.
    #[serde(rename = "ports")]
    _ports: Option<IgnoredAny>,
    #[serde(rename = "terminationMessagePolicy")]
    _termination_message_policy: Option<IgnoredAny>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Env {
    name: String,
    value: Option<String>,
    value_from: Option<EnvSource>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EnvSource {
    field_ref: FieldRef,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FieldRef {
    field_path: String,
    #[serde(rename = "apiVersion")]
    _api_version: Option<IgnoredAny>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Resources {
    pub(super) requests: Amounts,
    pub(super) limits: Amounts,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Amounts {
    cpu: Option<Value>,
    memory: Option<Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct PodSecurityContext {
    pub(super) seccomp_profile: Option<SeccompProfile>,
    pub(super) run_as_user: Option<i64>,
    pub(super) run_as_group: Option<i64>,
    pub(super) run_as_non_root: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct SecurityContext {
    pub(super) capabilities: Capabilities,
    pub(super) privileged: bool,
    pub(super) allow_privilege_escalation: Option<bool>,
    pub(super) read_only_root_filesystem: bool,
    pub(super) run_as_user: Option<i64>,
    pub(super) run_as_non_root: Option<bool>,
    pub(super) seccomp_profile: Option<SeccompProfile>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Capabilities {
    pub(super) add: Vec<String>,
    pub(super) drop: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SeccompProfile {
    /// `RuntimeDefault` or `Unconfined`.
    #[serde(rename = "type")]
    pub(super) kind: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct VolumeMount {
    pub(super) name: String,
    pub(super) mount_path: String,
    #[serde(default)]
    pub(super) read_only: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Volume {
    pub(super) name: String,
    pub(super) host_path: HostPath,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostPath {
    pub(super) path: PathBuf,
    #[serde(rename = "type", default)]
    pub(super) kind: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Probe {
    pub(super) http_get: HttpGet,
    #[serde(default = "three")]
    pub(super) failure_threshold: u32,

    /// A stand-in asks when its caller looks, one second at most.
    #[serde(rename = "initialDelaySeconds")]
    _initial_delay_seconds: Option<IgnoredAny>,
    #[serde(rename = "periodSeconds")]
    _period_seconds: Option<IgnoredAny>,
    #[serde(rename = "timeoutSeconds")]
    _timeout_seconds: Option<IgnoredAny>,
    #[serde(rename = "successThreshold")]
    _success_threshold: Option<IgnoredAny>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpGet {
    /// The pod's address unless given.
    pub(super) host: Option<String>,
    pub(super) path: String,
    pub(super) port: u16,
}

fn thirty() -> u64 {
    30
}

fn three() -> u32 {
    3
}

impl PodSpec {
    /// Reads the `spec` of a Pod.
    pub(super) fn read(pod: &Value) -> Result<Self> {
        serde_json::from_value(pod["spec"].clone()).context("spec of a Pod that this stand-in can start")
    }
}

impl Env {
    /// Its value in a pod, by the downward API if it says so.
    pub(super) fn of(&self, pod: &Value) -> Result<(String, String)> {
        let value = match (&self.value, &self.value_from) {
            (value, None) => value.clone().unwrap_or_default(),
            (None, Some(source)) => source.field_ref.of(pod)?,
            (Some(_), Some(_)) => bail!("env {}: both value and valueFrom", self.name),
        };
        Ok((self.name.clone(), value))
    }
}

impl FieldRef {
    fn of(&self, pod: &Value) -> Result<String> {
        let pointer = format!("/{}", self.field_path.replace('.', "/"));
        let found = pod.pointer(&pointer).and_then(Value::as_str);
        found.map(str::to_owned).with_context(|| format!("the pod has no {}", self.field_path))
    }
}

impl Amounts {
    /// Shares of the CPU, 1024 for one; at least 2, as kubelet asks for none less.
    pub(super) fn cpu_shares(&self) -> Result<i64> {
        let Some(cpu) = &self.cpu else { return Ok(2) };
        let text = text_of(cpu);
        let milli: i64 = match text.strip_suffix('m') {
            Some(milli) => milli.parse().with_context(|| format!("cpu {text}"))?,
            None => text.parse::<i64>().with_context(|| format!("cpu {text}"))? * 1000,
        };
        Ok((milli * 1024 / 1000).max(2))
    }

    /// In bytes; 0: as much as there is.
    pub(super) fn memory_bytes(&self) -> Result<i64> {
        let Some(memory) = &self.memory else { return Ok(0) };
        let text = text_of(memory);
        let (digits, shift) =
            match (text.strip_suffix("Ki"), text.strip_suffix("Mi"), text.strip_suffix("Gi")) {
                (Some(digits), ..) => (digits, 10),
                (_, Some(digits), _) => (digits, 20),
                (.., Some(digits)) => (digits, 30),
                _ => (text.as_str(), 0),
            };
        Ok(digits.parse::<i64>().with_context(|| format!("memory {text}"))? << shift)
    }
}

fn text_of(quantity: &Value) -> String {
    quantity.as_str().map_or_else(|| quantity.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_are_read_as_kubelet_reads_them() {
        let amounts = |cpu: Value, memory: Value| -> Amounts {
            serde_json::from_value(json!({ "cpu": cpu, "memory": memory })).expect("quantities")
        };
        let of =
            |amounts: Amounts| (amounts.cpu_shares().expect("cpu"), amounts.memory_bytes().expect("memory"));
        assert_eq!(of(amounts(json!("100m"), json!("64Mi"))), (102, 64 << 20));
        assert_eq!(of(amounts(json!(2), json!("1Gi"))), (2048, 1 << 30));
        assert_eq!(of(Amounts::default()), (2, 0));
        assert!(amounts(json!("much"), json!("64MB")).memory_bytes().is_err());
    }

    #[test]
    fn a_field_that_would_be_left_out_is_an_error() {
        let error =
            PodSpec::read(&json!({ "spec": { "containers": [], "hostPID": true } })).expect_err("unknown");
        assert!(format!("{error:#}").contains("hostPID"), "{error:#}");
    }

    #[test]
    fn the_downward_api_tells_of_the_pod() {
        let env: Env = serde_json::from_value(
            json!({ "name": "NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } }),
        )
        .expect("an env");
        let pod = json!({ "spec": { "nodeName": "n11" } });
        assert_eq!(env.of(&pod).expect("known"), ("NODE".to_owned(), "n11".to_owned()));
        assert!(env.of(&json!({})).is_err());
    }
}
