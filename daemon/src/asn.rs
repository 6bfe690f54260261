//! Which AS a node has: its BGPNodeOverride says it, or the label that its BGPClusterConfig names, or that configuration,
//! or nobody. Pure, and the same on each node.
//!
//! A label is a word that anybody may garble, on a node that has sessions. While it says no AS, the one that the node had
//! counts on: here as elsewhere, what works keeps working.

use cambric_bgp::Asn;

use crate::objects::Objects;

/// AS of a mesh for which nobody chose one.
pub const DEFAULT: u32 = 64512;

/// The AS of `node`: as it is said, or else as it was.
///
/// # Errors
/// What is wrong with the label that should say it.
pub(crate) fn of(objects: &Objects, node: &str) -> Result<Asn, String> {
    said(objects, node).or_else(|what| objects.kept_asns.get(node).copied().ok_or(what))
}

/// The AS that is said now.
///
/// # Errors
/// What is wrong with the label that should say it.
pub(crate) fn said(objects: &Objects, node: &str) -> Result<Asn, String> {
    let overrides = objects.node_overrides.get(node);
    if let Some(asn) = overrides.and_then(|overrides| overrides.says.asn) {
        return Ok(asn);
    }
    let config = objects.config_of.get(node).and_then(|name| objects.cluster_configs.get(name));
    if let Some(label) = config.and_then(|config| config.says.asn_label.as_ref()) {
        let value = objects.nodes.get(node).and_then(|node| node.says.labels.get(label));
        let value = value.ok_or_else(|| format!("metadata.labels: {label}: absent"))?;
        let number = value.parse().ok().filter(|number: &u32| number.to_string() == value);
        return number.and_then(Asn::new).ok_or_else(|| {
            format!("metadata.labels: {label}: {value:?}: not a number from 1 to 4294967295")
        });
    }
    let common = config.and_then(|config| config.says.asn);
    Ok(common.or(Asn::new(DEFAULT)).unwrap_or(Asn::TRANS))
}
