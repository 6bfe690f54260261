//! `prevResult`: what a plugin answered before, as CHECK gets it back from the runtime.
//!
//! It is the answer of the *last* plugin of the list, so others may have added to what ours said and changed it. Only
//! what CHECK compares is read; lists that are absent or null are empty (runtimes written in Go tell both).

use std::net::IpAddr;
use std::path::Path;

use ipnetwork::IpNetwork;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::attachment::Mac;
use crate::error::{CniError, Code};

/// An answer to ADD.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Previous {
    interfaces: Option<Vec<Interface>>,
    ips: Option<Vec<Ip>>,
    routes: Option<Vec<Route>>,
}

/// One of its interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC as text; absent or empty: it is not told.
    pub mac: Option<String>,
    mtu: Option<u32>,
    /// `CNI_NETNS` of the pod it is in; absent or empty: it is on the node.
    pub sandbox: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Ip {
    #[serde(deserialize_with = "network")]
    address: IpNetwork,
    interface: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Route {
    #[serde(deserialize_with = "network")]
    dst: IpNetwork,
    gw: Option<String>,
}

impl Previous {
    /// Reads it.
    ///
    /// # Errors
    /// Code 7 when it is missing or has another shape.
    pub fn parse(given: Option<&Value>) -> Result<Previous, CniError> {
        let given = given
            .ok_or_else(|| CniError::new(Code::InvalidConfig, "CHECK needs prevResult, the answer to ADD"))?;
        Previous::deserialize(given).map_err(|error| {
            CniError::new(Code::InvalidConfig, "invalid prevResult in the network configuration")
                .with_details(error)
        })
    }

    /// The interface of that name in the pod.
    pub fn in_pod(&self, ifname: &str) -> Option<&Interface> {
        self.interfaces().iter().find(|interface| interface.name == ifname && interface.in_a_pod())
    }

    /// The interface of that name on the node.
    pub fn on_node(&self, ifname: &str) -> Option<&Interface> {
        self.interfaces().iter().find(|interface| interface.name == ifname && !interface.in_a_pod())
    }

    /// The addresses that the pod's interface has, and those of which it is not told whose they are.
    pub fn addresses_of(&self, ifname: &str) -> impl Iterator<Item = IpNetwork> {
        let may_have = move |ip: &&Ip| match ip.interface {
            Some(nth) => self
                .interfaces()
                .get(nth)
                .is_some_and(|interface| interface.name == ifname && interface.in_a_pod()),
            None => true,
        };
        self.ips.iter().flatten().filter(may_have).map(|ip| ip.address)
    }

    /// Whether a default route by this gateway is told.
    pub fn has_default_route(&self, gateway: IpAddr) -> bool {
        self.routes.iter().flatten().any(|route| {
            let by = route.gw.as_deref().and_then(|text| text.parse().ok());
            route.dst.prefix() == 0 && by == Some(gateway)
        })
    }

    fn interfaces(&self) -> &[Interface] {
        self.interfaces.as_deref().unwrap_or_default()
    }
}

impl Interface {
    /// Whether it is told to be in the pod at this path.
    pub fn is_in(&self, netns: &Path) -> bool {
        self.sandbox.as_deref().is_some_and(|sandbox| Path::new(sandbox) == netns)
    }

    /// Whether its MAC is told, and is not this one. However it is written: runtimes in Go read dashes and dots, too.
    pub fn has_other_mac_than(&self, mac: Option<Mac>) -> bool {
        let digits = |text: &str| text.replace([':', '-', '.'], "").to_ascii_lowercase();
        let told = self.mac.as_deref().filter(|told| !told.is_empty());
        told.is_some_and(|told| mac.map(|mac| digits(&mac.to_string())) != Some(digits(told)))
    }

    /// Its MTU in bytes, if it is told: since 1.1.0, and 0 tells nothing.
    pub fn mtu_bytes(&self) -> Option<u32> {
        self.mtu.filter(|mtu| *mtu != 0)
    }

    fn in_a_pod(&self) -> bool {
        self.sandbox.as_deref().is_some_and(|sandbox| !sandbox.is_empty())
    }
}

/// `ADDRESS/LENGTH`.
fn network<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpNetwork, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|error| D::Error::custom(format!("{text:?}: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_and_routes_are_told_of_the_pods_interface_alone() {
        let result = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "eth0"}, {"name": "eth0", "sandbox": "/run/netns/a", "mtu": 1400}],
            "ips": [
                {"address": "10.0.0.1/32", "interface": 1}, {"address": "10.0.0.2/32", "interface": 0},
                {"address": "10.0.0.3/32", "interface": 9}, {"address": "fd00::1/128"},
            ],
            "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "::/0"}],
            "dns": {},
        });
        let previous = Previous::parse(Some(&result)).expect("understood");
        let pod = previous.in_pod("eth0").expect("told");
        assert_eq!((pod.mtu_bytes(), pod.is_in(Path::new("/run/netns/a"))), (Some(1400), true));
        assert!(previous.on_node("eth0").is_some_and(|node| node.mtu_bytes().is_none()));
        let addresses: Vec<String> = previous.addresses_of("eth0").map(|ip| ip.to_string()).collect();
        assert_eq!(addresses, ["10.0.0.1/32", "fd00::1/128"]);
        assert!(previous.has_default_route("169.254.1.1".parse().expect("address")));
        assert!(!previous.has_default_route("fe80::1".parse().expect("address")));
    }

    #[test]
    fn empty_macs_and_mtus_of_0_are_not_told_and_macs_are_written_in_many_ways() {
        let told = |mac: Value, mtu: Value| {
            let result = json!({"interfaces": [{"name": "eth0", "mac": mac, "mtu": mtu}]});
            Previous::parse(Some(&result)).expect("understood").on_node("eth0").expect("told").clone()
        };
        let (own, other) = (Some(Mac([10, 0, 0, 0, 0, 0x9a])), Some(Mac([10, 0, 0, 0, 0, 0x9b])));
        for nothing in [json!(""), Value::Null] {
            let told = told(nothing, json!(0));
            assert_eq!((told.has_other_mac_than(own), told.has_other_mac_than(None)), (false, false));
            assert_eq!(told.mtu_bytes(), None);
        }
        for text in ["0a:00:00:00:00:9a", "0A-00-00-00-00-9A", "0a00.0000.009a"] {
            let told = told(json!(text), json!(1400));
            assert_eq!((told.has_other_mac_than(own), told.has_other_mac_than(other)), (false, true));
            assert_eq!((told.has_other_mac_than(None), told.mtu_bytes()), (true, Some(1400)));
        }
        assert!(told(json!("none"), Value::Null).has_other_mac_than(own));
    }

    #[test]
    fn absent_and_null_lists_are_empty_and_strange_ones_refused() {
        for empty in [json!({}), json!({"interfaces": null, "ips": null, "routes": null})] {
            let previous = Previous::parse(Some(&empty)).expect("understood");
            assert_eq!((previous.in_pod("eth0"), previous.addresses_of("eth0").count()), (None, 0));
        }
        for (strange, words) in [
            (json!({"ips": [{"address": "everywhere"}]}), "everywhere"),
            (json!({"ips": [{"address": "10.0.0.1/32", "interface": -1}]}), "-1"),
            (json!({"interfaces": {}}), "sequence"),
            (json!({"interfaces": [{}]}), "name"),
            (json!({"routes": [{"dst": 7}]}), "7"),
        ] {
            let error = Previous::parse(Some(&strange)).expect_err("refused");
            assert_eq!(error.code, Code::InvalidConfig);
            assert!(error.details.contains(words), "{error}");
        }
        assert_eq!(Previous::parse(None).expect_err("refused").code, Code::InvalidConfig);
    }
}
