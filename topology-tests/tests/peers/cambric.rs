//! Our side of a cell: manifests, and what the daemon says.

use anyhow::{Context, Result};
use cambric_lab::{Node, fabric};
use serde_json::Value;

use crate::rig::{LIMIT, OUR_ASN, own_pods};
use cambric_lab::poll;

/// What makes a Cambric node: each string is lines of YAML at the place that the field says.
#[derive(Debug, Clone)]
pub(crate) struct Us {
    pub(crate) asn: u32,
    /// Of `spec.peers` of the BGPNodeOverride; in flow style, one a peer.
    pub(crate) peers: Vec<String>,
    /// Of the spec of the BGPPeerConfig that is called `other`.
    pub(crate) peer_config: Vec<String>,
    /// Of the spec of the BGPNodeOverride.
    pub(crate) node: Vec<String>,
    /// Whole documents.
    pub(crate) more: Vec<String>,
    /// Words behind `cambricd`'s own.
    pub(crate) arguments: Vec<String>,
}

impl Us {
    /// One peer, hold time 9 s.
    pub(crate) fn new() -> Us {
        Us {
            asn: OUR_ASN,
            peers: Vec::new(),
            peer_config: vec!["holdTimeSeconds: 9".into(), "keepaliveSeconds: 3".into()],
            node: Vec::new(),
            more: Vec::new(),
            arguments: Vec::new(),
        }
    }

    pub(crate) fn config(mut self, line: impl Into<String>) -> Us {
        self.peer_config.push(line.into());
        self
    }

    /// The manifests of a node of this name.
    pub(crate) fn manifest(&self, name: &str, number: u8) -> String {
        let [v4, v6] = own_pods(number);
        let lines = |lines: &[String]| lines.iter().map(|line| format!("  {line}\n")).collect::<String>();
        let peers: String = self.peers.iter().map(|peer| format!("  - {{ {peer} }}\n")).collect();
        let mut text = format!(
            "apiVersion: cambric.dev/v1alpha1\nkind: BGPClusterConfig\nmetadata: {{ name: default }}\nspec:\n\
             \x20 podCIDRs: [198.51.100.0/24, \"2001:db8:100::/48\"]\n  mesh: Disabled\n---\n\
             apiVersion: v1\nkind: Node\nmetadata: {{ name: {name} }}\nspec:\n  podCIDR: {v4}\n  podCIDRs: [{v4}, \"{v6}\"]\n\
             status:\n  addresses:\n  - {{ type: InternalIP, address: 203.0.113.{} }}\n---\n\
             apiVersion: cambric.dev/v1alpha1\nkind: BGPPeerConfig\nmetadata: {{ name: other }}\nspec:\n{}---\n\
             apiVersion: cambric.dev/v1alpha1\nkind: BGPNodeOverride\nmetadata: {{ name: {name} }}\nspec:\n  asn: {}\n{}  peers:\n{peers}",
            number + 1,
            lines(&self.peer_config),
            self.asn,
            lines(&self.node),
        );
        for document in &self.more {
            text += "---\n";
            text += document;
        }
        text
    }
}

/// A peer as the daemon shows it.
pub(crate) fn protocol(node: &Node, name: &str) -> Result<Value> {
    let answer = fabric::ask(node, &["show", "protocols", "all"])?;
    let all = answer["protocols"].as_array().context("protocols")?;
    let named = all.iter().find(|peer| peer["name"] == name || peer["address"] == name);
    named.cloned().with_context(|| format!("{} has no peer {name}", node.name()))
}

/// Whether the daemon has a session with that peer.
pub(crate) fn is_established(node: &Node, name: &str) -> bool {
    protocol(node, name).is_ok_and(|peer| peer["state"] == "Established")
}

/// What is shown as the cause of the last end, in words.
pub(crate) fn last_error(node: &Node, name: &str) -> Result<String> {
    Ok(protocol(node, name)?["last_error"]["what"].as_str().unwrap_or_default().to_owned())
}

/// Waits until the daemon gives a cause that has these words.
pub(crate) fn wait_for_words(node: &Node, name: &str, words: &str) -> Result<()> {
    let mut last = String::new();
    poll::until(&format!("{name} to show {words:?}"), LIMIT, || {
        last = last_error(node, name).unwrap_or_default();
        last.contains(words)
    })
    .with_context(|| format!("the last words are {last:?}"))
}

/// The numbers of a family of a peer.
pub(crate) fn counts(node: &Node, name: &str, family: &str) -> Result<Value> {
    let peer = protocol(node, name)?;
    let mut families = peer["families"].as_array().context("families")?.iter();
    families.find(|counts| counts["family"] == family).cloned().with_context(|| format!("{name}: {family}"))
}

/// The path to a prefix that a peer told.
pub(crate) fn path(node: &Node, prefix: &str, peer: &str) -> Result<Option<Value>> {
    Ok(paths(node, prefix, peer)?.into_iter().next())
}

/// All of them.
pub(crate) fn paths(node: &Node, prefix: &str, peer: &str) -> Result<Vec<Value>> {
    let answer = fabric::ask(node, &["show", "route", "all"])?;
    let routes = answer["routes"].as_array().context("routes")?;
    let paths = routes.iter().filter(|route| route["prefix"] == prefix);
    let paths = paths.filter_map(|route| route["paths"].as_array()).flatten();
    Ok(paths.filter(|path| path["peer"] == peer).cloned().collect())
}

/// What the kernel has of a prefix.
pub(crate) fn kernel(node: &Node, prefix: &str) -> Result<String> {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    node.run_ok(&["ip", family, "route", "show", "exact", prefix])
}

/// Waits until the kernel has a route to a prefix that the daemon learned.
pub(crate) fn wait_for_kernel(node: &Node, prefix: &str) -> Result<()> {
    let learned = |text: String| text.contains("proto 203");
    poll::until(&format!("{prefix} in the kernel of {}", node.name()), LIMIT, || {
        kernel(node, prefix).is_ok_and(learned)
    })
}
