//! The wall clock of a node jumps, as when somebody sets it; what is timed is not touched by it (reliability of sessions,
//! watches and back-off rests on the monotonic clock).

use std::cell::OnceCell;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cambric_lab::{fabric, poll};

use crate::cluster::{Cluster, Prepared, status};
use crate::load::{a2_from_a1, nothing_is_lost, start_pods};
use crate::{LIMIT, in_two_rack};

/// Where nodes find the library and what it adds.
const FOLDER: &str = "/etc/cambric/manifests";
const HOUR: i64 = 3600;

#[test]
fn a_wall_clock_that_jumps_costs_nothing() {
    let clock = OnceCell::new();
    in_two_rack(
        |prepared| {
            let path = prepared.folder.path().join("manifests/offset");
            clock.set(path).map_err(|path| anyhow::anyhow!("{} twice", path.display()))?;
            prepared.server.put(a2_from_a1());
            give_a_clock(prepared)
        },
        |cluster| {
            let pods = start_pods(cluster)?;
            cluster.have_policies(1)?;
            let clock = clock.get().context("the lab was prepared")?;
            let runs = runs(cluster)?;
            nothing_is_lost(cluster, &pods, "wall clocks jump by +1 h, -2 h and back", |cluster| {
                for offset in [HOUR, -HOUR, 0] {
                    fs::write(clock, offset.to_string())?;
                    cluster
                        .server
                        .put(crate::cluster::namespace(&format!("at{offset}").replace('-', "minus-")));
                    // Longer than a hold time, so that whoever counts by the wall clock has something to lose.
                    std::thread::sleep(std::time::Duration::from_secs(12)); // the time itself is what is tried
                    for node in fabric::cambric_nodes(cluster.lab)? {
                        poll::until(&format!("{} to be whole", node.name()), LIMIT, || {
                            fabric::is_whole(&node)
                        })?;
                    }
                }
                Ok(())
            })?;
            ensure!(runs == self::runs(cluster)?, "no daemon ended, no session either");
            Ok(())
        },
    );
}

/// Names of the runs of the daemons, and how often their sessions went down.
fn runs(cluster: &Cluster<'_>) -> Result<Vec<(String, Vec<String>)>> {
    let mut runs = Vec::new();
    for node in fabric::cambric_nodes(cluster.lab)? {
        let peers = fabric::ask(&node, &["show", "protocols"])?;
        let peers = peers["protocols"].as_array().cloned().unwrap_or_default();
        let since = peers.iter().map(|peer| peer["flaps"].to_string()).collect();
        runs.push((status(&node)?["run"].to_string(), since));
    }
    Ok(runs)
}

fn give_a_clock(prepared: &Prepared) -> Result<()> {
    let folder = prepared.folder.path();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/clock.c");
    let library = folder.join("manifests/clock.so");
    let mut compiler = Command::new("cc");
    let built = compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]).arg(library).arg(source);
    let output = built.output().context("starting cc")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(folder.join("manifests/offset"), "0")?;
    let lab_file = folder.join("two-rack.clab.yml");
    let environment =
        format!("      env: {{ LD_PRELOAD: {FOLDER}/clock.so, CAMBRIC_TEST_CLOCK: {FOLDER}/offset }}\n");
    let text = fs::read_to_string(&lab_file)?;
    let marked = text.replace(
        "      image: cambric-lab:latest\n",
        &format!("      image: cambric-lab:latest\n{environment}"),
    );
    ensure!(text != marked, "the lab file has a node's image");
    fs::write(&lab_file, marked)?;
    Ok(())
}
