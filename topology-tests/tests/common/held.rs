//! What a speaker that is not ours has of a prefix that the node told it.

use anyhow::Result;
use cambric_lab::Node;
use serde_json::Value;

/// What it has of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    Fresh,
    /// Kept without a session.
    Stale,
    Nothing,
}

impl Held {
    /// By these words its shell is started.
    pub(crate) fn by_frr(node: &Node, vtysh: &[&str], prefix: &str) -> Result<Held> {
        let command = format!("show bgp {} unicast {prefix} json", family(prefix));
        let text = node.run_ok(&[vtysh, &["-c", &command]].concat())?;
        let route: Value = serde_json::from_str(&text)?;
        Ok(Held::of(route["paths"].is_array(), route["paths"][0]["stale"] == true))
    }

    /// In a session of that name. A route is not marked; its session is.
    pub(crate) fn by_bird(node: &Node, socket: &str, session: &str, prefix: &str) -> Result<Held> {
        let all = node.run_ok(&["birdc", "-s", socket, "show", "protocols", "all", session])?;
        let is_fresh = all.contains("BGP state:          Established")
            && !all.contains("Neighbor graceful restart active");
        // It fails without the prefix.
        let output = node.run(&["birdc", "-s", socket, "show", "route", prefix])?;
        let is_there = String::from_utf8_lossy(&output.stdout).contains(&format!("[{session} "));
        Ok(Held::of(is_there, !is_fresh))
    }

    pub(crate) fn by_gobgp(node: &Node, prefix: &str) -> Result<Held> {
        // It fails without the prefix.
        let output = node.run(&["gobgp", "global", "rib", prefix, "-a", family(prefix), "-j"])?;
        let rib: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        Ok(Held::of(rib[prefix].is_array(), rib[prefix][0]["stale"] == true))
    }

    fn of(is_there: bool, is_stale: bool) -> Held {
        match (is_there, is_stale) {
            (false, _) => Held::Nothing,
            (true, true) => Held::Stale,
            (true, false) => Held::Fresh,
        }
    }
}

fn family(prefix: &str) -> &'static str {
    if prefix.contains(':') { "ipv6" } else { "ipv4" }
}
