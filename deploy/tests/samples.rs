//! What a daemon makes of the samples: no problem, and what the sample says it does.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use cambric_deploy::folder;
use cambricd::check::check;
use cambricd::host::Host;

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
    let copy = manifests.path().join("sample.yaml");
    fs::copy(&sample, &copy).with_context(|| sample.display().to_string())?;
    // As whoever puts a Secret into a folder must.
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o600))?;
    for (number, name) in [(11, "node-1"), (12, "node-2")] {
        fs::write(manifests.path().join(format!("{name}.yaml")), node(name, number))?;
    }
    let host = Host::with_gateways([[192, 0, 2, 1].into()]);
    let report = check(manifests.path(), "node-1", &host, None, None);
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

/// The sample is one to be put beside that of the switch.
#[test]
fn pods_and_services_are_advertised_without_a_problem() -> Result<()> {
    let manifests = tempfile::tempdir()?;
    for sample in ["tor.yaml", "advertisements.yaml"] {
        fs::copy(folder().join("samples").join(sample), manifests.path().join(sample))?;
    }
    fs::write(manifests.path().join("node-1.yaml"), node("node-1", 11))?;
    fs::write(manifests.path().join("node-2.yaml"), node("node-2", 12))?;
    let service = "apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec: {clusterIPs: [10.96.0.10], externalIPs: [10.97.0.10]}
";
    fs::write(manifests.path().join("service.yaml"), service)?;
    let report = check(manifests.path(), "node-1", &Host::default(), None, None);
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
    for prefix in ["10.244.11.0/24", "10.96.0.10/32", "10.97.0.10/32"] {
        let expected = format!("prefix {prefix} is announced");
        assert!(report.changes.contains(&expected), "{expected}: {:#?}", report.changes);
    }
    Ok(())
}

#[test]
fn filters_of_a_switch_are_taken_and_told_apart() -> Result<()> {
    let changes = told("filters.yaml")?;
    let peers: Vec<&String> = changes.iter().filter(|change| change.starts_with("peer ")).collect();
    assert_eq!(peers, ["peer tor (192.0.2.1) is new"]);
    let manifests = tempfile::tempdir()?;
    let text = fs::read_to_string(folder().join("samples/filters.yaml"))?;
    let without = text.replacen("name: default-route", "name: another", 1);
    fs::write(manifests.path().join("sample.yaml"), without)?;
    fs::write(manifests.path().join("node-1.yaml"), node("node-1", 11))?;
    let report = check(manifests.path(), "node-1", &Host::default(), None, None);
    let says = "spec.filters[0].import[0]: \"default-route\": no BGPFilter of this name counts";
    assert!(report.problems.iter().any(|problem| problem.what.starts_with(says)), "{:#?}", report.problems);
    Ok(())
}

#[test]
fn denying_by_default_changes_nothing_of_routing() -> Result<()> {
    let changes = told("default-deny.yaml")?;
    assert!(changes.iter().any(|change| change == "peer node-2 (192.0.2.12) is new"), "{changes:#?}");
    Ok(())
}

/// The lines about peers.
fn peers(sample: &str) -> Result<Vec<String>> {
    Ok(told(sample)?.into_iter().filter(|change| change.starts_with("peer")).collect())
}

#[test]
fn the_other_sorts_of_peers_are_had_without_a_problem() -> Result<()> {
    assert_eq!(peers("md5.yaml")?, ["peer tor (192.0.2.1) is new"]);
    assert_eq!(peers("default-gateway.yaml")?, ["peer gateway (192.0.2.1) is new"]);
    assert_eq!(peers("listen-range.yaml")?, ["peers racks from 192.0.2.0/24 may come"]);
    let border = ["peer node-2 (192.0.2.12) is new", "peer border (198.51.100.1) is new"];
    assert_eq!(peers("multihop.yaml")?, border);
    let reflector = ["peer reflector-2 (192.0.2.12) is new", "peers client from 192.0.2.0/24 may come"];
    assert_eq!(peers("reflector.yaml")?, reflector);
    Ok(())
}
