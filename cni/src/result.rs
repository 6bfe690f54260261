//! What ADD prints: interfaces, addresses and routes, in the shape of the runtime's version.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::attachment::Mac;
use crate::gateway;
use crate::range::Addresses;
use crate::version::CniVersion;

/// One attached pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The host end's name.
    pub host_ifname: String,
    /// The host end's MAC.
    pub host_mac: Mac,
    /// The pod end's name.
    pub pod_ifname: String,
    /// The pod end's MAC.
    pub pod_mac: Mac,
    /// `CNI_NETNS` as given.
    pub sandbox: String,
    /// MTU of both ends in bytes.
    pub mtu_bytes: u32,
    /// The pod's addresses.
    pub addresses: Addresses,
}

impl Attached {
    /// The result object, appended to `prev_result` if there is one (specification 1.1.0, "prevResult").
    pub fn to_json(&self, version: CniVersion, prev_result: Option<&Value>) -> Value {
        let previous = prev_result.and_then(Value::as_object).cloned().unwrap_or_default();
        let mut result = previous;
        let first = append(&mut result, "interfaces", self.interfaces(version));
        append(&mut result, "ips", self.ips(version, first + 1));
        append(&mut result, "routes", self.routes());
        result.insert("cniVersion".into(), version.as_str().into());
        Value::Object(result)
    }

    /// Host end first, pod end second.
    fn interfaces(&self, version: CniVersion) -> Vec<Value> {
        let mut host = json!({"name": self.host_ifname, "mac": self.host_mac.to_string()});
        let mut pod =
            json!({"name": self.pod_ifname, "mac": self.pod_mac.to_string(), "sandbox": self.sandbox});
        if version >= CniVersion::V1_1_0 {
            host["mtu"] = self.mtu_bytes.into();
            pod["mtu"] = self.mtu_bytes.into();
        }
        vec![host, pod]
    }

    fn ips(&self, version: CniVersion, pod_interface: usize) -> Vec<Value> {
        let ip = |address: IpAddr| {
            let (family, prefix) = if address.is_ipv4() { ("4", 32) } else { ("6", 128) };
            let mut ip = json!({
                "address": format!("{address}/{prefix}"),
                "gateway": gateway::of(address).to_string(),
                "interface": pod_interface,
            });
            if version < CniVersion::V1_0_0 {
                ip["version"] = family.into();
            }
            ip
        };
        self.addresses.iter().map(ip).collect()
    }

    fn routes(&self) -> Vec<Value> {
        let route = |address: IpAddr| {
            let everything = if address.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            json!({"dst": everything, "gw": gateway::of(address).to_string()})
        };
        self.addresses.iter().map(route).collect()
    }
}

/// Appends to a list in the result and tells where the new items start.
fn append(result: &mut Map<String, Value>, key: &str, items: Vec<Value>) -> usize {
    let list = result.entry(key).or_insert(Value::Null);
    if !list.is_array() {
        *list = Value::Array(Vec::new());
    }
    let list = list.as_array_mut().expect("made an array above");
    let start = list.len();
    list.extend(items);
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attached() -> Attached {
        Attached {
            host_ifname: "cam0123456789ab".into(),
            host_mac: Mac([2, 0xca, 0x3b, 0, 0, 1]),
            pod_ifname: "eth0".into(),
            pod_mac: Mac([0x0a, 1, 2, 3, 4, 5]),
            sandbox: "/run/netns/a".into(),
            mtu_bytes: 1500,
            addresses: Addresses { ipv4: "10.244.1.5".parse().ok(), ipv6: "fd00::5".parse().ok() },
        }
    }

    #[test]
    fn newest_version_has_mtu_and_no_family() {
        assert_eq!(
            attached().to_json(CniVersion::V1_1_0, None),
            json!({
                "cniVersion": "1.1.0",
                "interfaces": [
                    {"name": "cam0123456789ab", "mac": "02:ca:3b:00:00:01", "mtu": 1500},
                    {"name": "eth0", "mac": "0a:01:02:03:04:05", "mtu": 1500, "sandbox": "/run/netns/a"},
                ],
                "ips": [
                    {"address": "10.244.1.5/32", "gateway": "169.254.1.1", "interface": 1},
                    {"address": "fd00::5/128", "gateway": "fe80::1", "interface": 1},
                ],
                "routes": [
                    {"dst": "0.0.0.0/0", "gw": "169.254.1.1"},
                    {"dst": "::/0", "gw": "fe80::1"},
                ],
            })
        );
    }

    #[test]
    fn versions_before_1_name_the_family_and_know_no_mtu() {
        for version in [CniVersion::V0_3_1, CniVersion::V0_4_0] {
            let result = attached().to_json(version, None);
            assert_eq!(
                (&result["ips"][0]["version"], &result["ips"][1]["version"]),
                (&json!("4"), &json!("6"))
            );
            assert_eq!(result["interfaces"][1].get("mtu"), None);
        }
        assert_eq!(attached().to_json(CniVersion::V1_0_0, None)["interfaces"][0].get("mtu"), None);
    }

    #[test]
    fn previous_result_is_kept_and_ours_comes_behind_it() {
        let previous = json!({
            "cniVersion": "1.0.0", "interfaces": [{"name": "dummy0"}],
            "ips": [{"address": "192.0.2.1/24", "interface": 0}], "dns": {"domain": "x"},
        });
        let result = attached().to_json(CniVersion::V1_0_0, Some(&previous));
        assert_eq!(result["ips"][0]["interface"], 0, "index 0 survives");
        assert_eq!(result["ips"][1]["interface"], 2, "ours is shifted");
        assert_eq!(result["interfaces"][2]["name"], "eth0");
        assert_eq!(result["dns"]["domain"], "x");
    }
}
