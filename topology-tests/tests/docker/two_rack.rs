//! The lab runner's Docker backend, with the file that everybody has.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cambric_lab::clab::Role;
use cambric_lab::{Docker, Lab, fabric, state};

use crate::LIMIT;
use crate::common::{CAMBRIC_LAB, LabFolder, tables};
use crate::engine::with_docker;

#[test]
fn two_rack_comes_up_in_containers_and_goes_without_a_trace() {
    with_docker(|engine| {
        let folder = LabFolder::copy_of("../containerlab/two-rack");
        let lab = folder.load();
        let outcome = cambric_lab(&engine.docker, &["up", "--backend", "docker"], &folder)
            .and_then(|_| all_reach_all(&lab, &engine.docker));
        if outcome.is_err() {
            tables::print(&lab);
        }
        let down = cambric_lab(&engine.docker, &["down"], &folder);
        outcome.unwrap_or_else(|error| panic!("{error:#}"));
        down.unwrap_or_else(|error| panic!("{error:#}"));
        nothing_is_left(&lab, &engine.docker).unwrap_or_else(|error| panic!("{error:#}"));
    });
}

fn all_reach_all(lab: &Lab, docker: &Docker) -> Result<()> {
    for spec in lab.topology().nodes.values() {
        let name = lab.topology().netns_name(&spec.name);
        let runs = docker.run_ok(&[
            "inspect",
            "--format",
            "{{.Config.Image}} {{.HostConfig.NetworkMode}}",
            &name,
        ])?;
        ensure!(
            runs.trim() == format!("{} none", spec.image.as_deref().unwrap_or_default()),
            "{name}: {runs}"
        );
    }
    fabric::whole(lab, LIMIT)?;
    let (questions, wrong) = fabric::reachability(lab)?;
    ensure!(wrong.is_empty(), "{wrong:?}");
    let sessions = fabric::cambric_nodes(lab)?.len() * 4;
    let pods = lab.pods()?;
    ensure!(pods.len() == 8, "{} pods", pods.len());
    pods.iter().try_for_each(cambric_lab::Pod::check)?;
    println!(
        "two-rack in containers: {sessions} sessions Established, {questions} of {questions} questions answered"
    );
    Ok(())
}

fn nothing_is_left(lab: &Lab, docker: &Docker) -> Result<()> {
    let prefix = lab.topology().netns_name("");
    let containers = docker.run_ok(&["ps", "--all", "--quiet", "--filter", &format!("name={prefix}")])?;
    ensure!(containers.trim().is_empty(), "containers are left: {containers}");
    for node in lab.topology().nodes.values().filter(|node| node.role != Role::Bridge) {
        let name = Path::new("/run/netns").join(lab.topology().netns_name(&node.name));
        ensure!(!name.exists(), "{} is left", name.display());
    }
    let folder = Path::new(state::STATE_DIR).join(&lab.topology().name);
    ensure!(!folder.exists(), "{} is left", folder.display());
    Ok(())
}

/// As a person types it.
fn cambric_lab(docker: &Docker, words: &[&str], folder: &LabFolder) -> Result<()> {
    let mut command = Command::new(CAMBRIC_LAB);
    command.args(words).arg(folder.path()).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("DOCKER_HOST", docker.host.as_deref().context("a daemon of our own")?);
    let status = command.status().context("cambric-lab")?;
    ensure!(status.success(), "cambric-lab {words:?}: {status}");
    Ok(())
}
