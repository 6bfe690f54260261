//! What the daemon may do, as the kernel has it, and that this is enough.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use cambric_lab::{fabric, http, poll};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::machine::Machine;
use crate::{LIMIT, UPLINKS};

/// CAP_NET_BIND_SERVICE (10), CAP_NET_ADMIN (12) and CAP_NET_RAW (13): linux/capability.h.
const CAPABILITIES: u64 = 1 << 10 | 1 << 12 | 1 << 13;

const METRICS: u16 = 9179;

/// The daemon's process has the three capabilities and can get no other; it writes to what is mounted for it alone.
pub(crate) fn are_those_of_the_daemon_set(machine: &Machine) -> Result<()> {
    let pid = machine.kubelet.process(machine.daemon()?)?;
    let read = |name: &str| {
        let path = machine.node.path(&format!("/proc/{pid}/{name}"));
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let text = read("status")?;
    let status: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key, value.trim()))
        .collect();
    let of = |key: &str| status.get(key).copied().with_context(|| format!("no {key} in {text}"));
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        ensure!(u64::from_str_radix(of(set)?, 16)? == CAPABILITIES, "{set} is {}", of(set)?);
    }
    // Neither by a file's capabilities nor by its set-uid bit (prctl(2), PR_SET_NO_NEW_PRIVS); 2: a filter is in force.
    ensure!(of("NoNewPrivs")? == "1" && of("Seccomp")? == "2", "{text}");
    ensure!(of("Uid")?.split_whitespace().all(|id| id == "0"), "uid {}", of("Uid")?);

    let mounts = read("mountinfo")?;
    let mut writable: Vec<&str> = mounts.lines().filter_map(writable_mount).collect();
    writable.sort();
    let expected = [
        "/dev",
        "/dev/mqueue",
        "/dev/pts",
        "/dev/shm",
        "/etc/cni/net.d",
        "/etc/hostname",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/host/proc/sys/net",
        "/proc",
        "/run/cambric",
        // A tmpfs of its own; the hierarchies in it are read-only.
        "/sys/fs/cgroup",
        "/var/lib/cambric",
    ];
    let unexpected: Vec<&&str> = writable.iter().filter(|at| !expected.contains(at)).collect();
    ensure!(unexpected.is_empty(), "{}: the daemon may write to {unexpected:?}: {mounts}", machine.name());
    println!(
        "{}: the daemon's process {pid}: CapEff {}, NoNewPrivs 1, Seccomp 2, uid 0; may write to {}",
        machine.name(),
        of("CapEff")?,
        writable.join(" ")
    );
    Ok(())
}

/// Where a mount is, if it can be written to (proc_pid_mountinfo(5)); devices apart, which are files of the runtime.
fn writable_mount(line: &str) -> Option<&str> {
    let fields: Vec<&str> = line.split(' ').collect();
    let (at, options) = (*fields.get(4)?, *fields.get(5)?);
    let is_device_or_masked =
        at.starts_with("/dev/") && line.contains(" - devtmpfs ") || at.starts_with("/proc/");
    (options.split(',').any(|option| option == "rw") && !is_device_or_masked).then_some(at)
}

/// Routes, next-hop groups, sets, tables, sysctls, socket, BGP's port, probes, metrics, the record and the snapshot.
pub(crate) fn do_for_all_functions(machine: &Machine) -> Result<()> {
    let (node, name) = (&machine.node, machine.name());
    poll::until(&format!("{name} to be whole"), LIMIT, || fabric::is_whole(node))?;
    poll::until(&format!("{name}: every route over {UPLINKS} uplinks"), LIMIT, || {
        fabric::is_spread(node, UPLINKS)
    })?;
    let routes = |family: &str| -> Result<usize> {
        let text = node.run_ok(&["ip", family, "-json", "route", "show", "proto", "203"])?;
        let routes: Value = serde_json::from_str(&text)?;
        routes.as_array().map(Vec::len).with_context(|| format!("{name}: {text}"))
    };
    let (routes, six) = (routes("-4")?, routes("-6")?);
    // To the ranges and the addresses of three other nodes, and the own range.
    ensure!((routes, six) == (7, 7), "{name}: {routes} and {six} routes");

    // By the kernel, from outside of the container.
    let listens = node.run_ok(&["ss", "-Hltn", "sport", "=", "179"])?;
    ensure!(listens.lines().count() >= 2, "{name}: port 179 of both families: {listens}");
    // Asked inside: what is in /proc/sys/net is that of who asks.
    for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        let value = node.run_ok(&["sysctl", "-n", key])?;
        ensure!(value.trim() == "1", "{name}: {key} is {value}");
    }
    let tables = node.run_ok(&["nft", "list", "tables"])?;
    for family in ["ip", "ip6", "arp"] {
        ensure!(tables.contains(&format!("table {family} cambric")), "{name}: {tables}");
    }
    let sets = node.run_ok(&["ipset", "list", "-n"])?;
    ensure!(sets.lines().count() > 1, "{name}: sets: {sets}");

    let status = fabric::ask(node, &["show", "status"])?["status"].take();
    ensure!(status["ready"] == true && status["policy"]["written"] == true, "{name}: {status:#}");
    ensure!(status["problems"].as_array().is_none_or(Vec::is_empty), "{name}: {:#}", status["problems"]);
    ensure!(
        status["cluster"]["server"] == "https://127.0.0.1:6443",
        "{name}: {}",
        status["cluster"]["server"]
    );
    let metrics = http::metrics(node, METRICS)?;
    ensure!(metrics.value("cambric_ready", &[]) == Some(1.0), "{name}: cambric_ready");
    for file in ["/run/cambric/fib.json", "/run/cambric/ready"] {
        ensure!(node.path(file).exists(), "{name}: no {file}");
    }
    let kept = fs::read_dir(node.path("/var/lib/cambric"))?.count();
    ensure!(kept > 0, "{name}: nothing is kept in /var/lib/cambric");
    println!(
        "{name}: {routes} routes of IPv4 and {six} of IPv6 over {UPLINKS} uplinks, {} sets, three tables, port 179, \
         sysctls, socket, metrics, record and snapshot: all with these rights",
        sets.lines().count()
    );
    Ok(())
}

/// The API server has let the daemons do all they wanted with the rights of `deploy/base`: they wrote what is their
/// node's, and the policies of admission were asked.
pub(crate) fn were_enough_for_the_api_server(cluster: &Cluster<'_>) -> Result<()> {
    let requests = cluster.server.requests();
    let refused: Vec<_> =
        requests.iter().filter(|request| [401, 403, 422].contains(&request.status)).collect();
    let writes =
        requests.iter().filter(|request| ["create", "patch", "delete"].contains(&request.verb.as_str()));
    println!("API server: {} requests, {} writes, {} refused", requests.len(), writes.count(), refused.len());
    ensure!(refused.is_empty(), "{refused:#?}");
    Ok(())
}
