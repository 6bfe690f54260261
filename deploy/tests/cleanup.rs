//! The DaemonSet that removes Cambric from all nodes: of the API's types, with the least rights, over the folders that
//! the daemon has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};
use cambric_deploy::{daemon_set, find, folder, read_base};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde_json::Value;

fn cleanup() -> Value {
    let objects = read_base(&folder().join("cleanup")).expect("deploy/cleanup can be read");
    find(&objects, "DaemonSet", "cambric-cleanup").expect("there is one").clone()
}

/// # Panics
/// There is none.
fn pod(daemon_set: &Value) -> PodSpec {
    let typed: DaemonSet = serde_json::from_value(daemon_set.clone()).expect("a DaemonSet");
    typed.spec.and_then(|spec| spec.template.spec).expect("a pod")
}

fn containers(pod: &PodSpec) -> impl Iterator<Item = &Container> {
    pod.init_containers.iter().flatten().chain(&pod.containers)
}

/// What is mounted where, by the folder of the node.
fn mounts(pod: &PodSpec, container: &Container) -> BTreeMap<String, String> {
    let path = |name: &str| {
        let volume = pod.volumes.iter().flatten().find(|volume| volume.name == name);
        volume.and_then(|volume| volume.host_path.as_ref()).map(|host| host.path.clone())
    };
    let mounts = container.volume_mounts.iter().flatten();
    mounts.map(|mount| (path(&mount.name).unwrap_or_default(), mount.mount_path.clone())).collect()
}

#[test]
fn every_field_is_one_of_the_api() -> Result<()> {
    let read = cleanup();
    let typed: DaemonSet = serde_json::from_value(read.clone())?;
    assert_eq!(serde_json::to_value(typed)?, read);
    Ok(())
}

#[test]
fn it_may_change_the_network_and_nothing_else() {
    let pod = pod(&cleanup());
    assert_eq!((pod.host_network, pod.automount_service_account_token), (Some(true), Some(false)));
    assert_eq!((pod.host_pid, pod.host_ipc), (None, None));
    for container in containers(&pod) {
        let rights = container.security_context.as_ref().expect("it says so");
        assert_eq!((rights.privileged, rights.allow_privilege_escalation), (Some(false), Some(false)));
        assert_eq!(rights.read_only_root_filesystem, Some(true));
        let capabilities = rights.capabilities.as_ref().expect("it says so");
        assert_eq!(capabilities.drop.as_deref(), Some(&["ALL".to_owned()][..]));
        assert_eq!(capabilities.add.as_deref(), Some(&["NET_ADMIN".to_owned()][..]));
    }
    let tolerates_all = |toleration: &k8s_openapi::api::core::v1::Toleration| {
        toleration.operator.as_deref() == Some("Exists") && toleration.key.is_none()
    };
    assert!(pod.tolerations.iter().flatten().any(tolerates_all), "a node without a network has taints");
}

#[test]
fn pod_is_ready_when_its_node_is_clean() {
    let pod = pod(&cleanup());
    let words = |container: &Container| container.command.clone().unwrap_or_default().join(" ");
    let all: Vec<String> = containers(&pod).map(words).collect();
    let expected = [
        "/bin/cambric cleanup --with-pods --sysctl-dir /host/proc/sys/net",
        "/bin/cambric cleanup --with-pods --stay --sysctl-dir /host/proc/sys/net",
    ];
    assert_eq!(all, expected, "the first ends before the second begins");
}

#[test]
fn it_has_the_image_and_the_folders_of_the_daemon() {
    let (ours, base) = (pod(&cleanup()), pod(&daemon_set()));
    let image = |pod: &PodSpec| containers(pod).filter_map(|c| c.image.clone()).collect::<BTreeSet<_>>();
    assert_eq!(image(&ours), image(&base));
    let mut of_base: BTreeMap<String, String> =
        containers(&base).flat_map(|container| mounts(&base, container)).collect();
    // Its own default is where the runtime has it.
    of_base.insert("/opt/cni/bin".to_owned(), "/opt/cni/bin".to_owned());
    for container in containers(&ours) {
        assert_eq!(mounts(&ours, container), of_base, "{}", container.name);
    }
}

#[test]
fn namespace_is_that_of_the_base() -> Result<()> {
    let read = |path: &str| fs::read_to_string(folder().join(path)).with_context(|| path.to_owned());
    assert_eq!(read("cleanup/namespace.yaml")?, read("base/namespace.yaml")?);
    Ok(())
}
