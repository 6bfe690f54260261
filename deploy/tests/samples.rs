//! What a daemon makes of the samples: no problem, and what the sample says it does.

use std::fs;

use anyhow::{Context, Result};
use cambric_deploy::folder;
use cambricd::check::check;

/// A node as its kubelet registers it.
fn node(name: &str, number: u8) -> String {
    format!(
        "apiVersion: v1
kind: Node
metadata: {{name: {name}, labels: {{rack: '1', cambric.dev/asn: '651{number}'}}}}
spec: {{podCIDR: 10.244.{number}.0/24, podCIDRs: [10.244.{number}.0/24]}}
status: {{addresses: [{{type: InternalIP, address: 192.0.2.{number}}}]}}
"
    )
}

/// What the daemon of node-1 would do, beside node-2.
fn told(sample: &str) -> Result<Vec<String>> {
    let manifests = tempfile::tempdir()?;
    let sample = folder().join("samples").join(sample);
    fs::copy(&sample, manifests.path().join("sample.yaml")).with_context(|| sample.display().to_string())?;
    for (number, name) in [(11, "node-1"), (12, "node-2")] {
        fs::write(manifests.path().join(format!("{name}.yaml")), node(name, number))?;
    }
    let report = check(manifests.path(), "node-1", &[], None, None);
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
    for change in &report.changes {
        println!("{change}");
    }
    Ok(report.changes)
}

#[test]
fn the_mesh_peers_with_the_other_node() -> Result<()> {
    let changes = told("mesh.yaml")?;
    assert!(changes.iter().any(|change| change == "peer node-2 (192.0.2.12) is new"), "{changes:#?}");
    assert!(changes.iter().any(|change| change == "prefix 10.244.11.0/24 is announced"), "{changes:#?}");
    Ok(())
}

#[test]
fn the_nodes_of_a_rack_peer_with_its_switch_alone() -> Result<()> {
    let changes = told("tor.yaml")?;
    let peers: Vec<&String> = changes.iter().filter(|change| change.starts_with("peer ")).collect();
    assert_eq!(peers, ["peer tor (192.0.2.1) is new"]);
    for expected in [
        "prefix 10.244.11.0/24 is announced",
        "pod range 10.244.0.0/16 is accepted",
        "service range 10.96.0.0/12 is accepted",
    ] {
        assert!(changes.iter().any(|change| change == expected), "{expected}: {changes:#?}");
    }
    Ok(())
}

#[test]
fn denying_by_default_changes_nothing_of_routing() -> Result<()> {
    let changes = told("default-deny.yaml")?;
    assert!(changes.iter().any(|change| change == "peer node-2 (192.0.2.12) is new"), "{changes:#?}");
    Ok(())
}
