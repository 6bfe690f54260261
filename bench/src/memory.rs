//! Case `memory`: what the daemon holds resident beside an API server, and how soon after its caches are complete its
//! routes and policies are in the kernel.
//!
//! The daemon is the released one, in a process and a network namespace of its own; the server is in this process, the
//! routes come from BIRD. Local pods are wired by the real plugin.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cambric_apiserver_double::ApiServer;
use clap::Args;
use serde_json::Value;

use crate::namespace::Namespace;
use crate::site_objects::{NODE, Site};
use crate::table::Table;

/// What may be chosen. Without a choice both clusters of the table are measured.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// `small`: 100 nodes; `large`: 5 000 nodes and 100 000 pods that change.
    #[arg(long, value_name = "small|large")]
    cluster: Option<String>,
    /// How long pods change.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    changing: u64,
    /// Folder of `cambricd` and `cambric-cni`; that of this program unless given.
    #[arg(long)]
    bin_dir: Option<PathBuf>,
}

/// A cluster, and what it may cost.
#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    site: Site,
    routes: usize,
    changes_per_second: u32,
    resident_mb: f64,
}

const CASES: [Case; 2] = [
    Case {
        name: "small",
        site: Site { nodes: 100, pods: 3000, local: 110, namespaces: 30, policies: 60 },
        routes: 5000,
        changes_per_second: 0,
        resident_mb: 24.0,
    },
    Case {
        name: "large",
        site: Site { nodes: 5000, pods: 100_000, local: 110, namespaces: 300, policies: 600 },
        routes: 5000,
        changes_per_second: 100,
        resident_mb: 160.0,
    },
];

/// After the caches are complete.
const IN_PLACE: Duration = Duration::from_secs(2);
/// How long a start may take at all.
const LIMIT: Duration = Duration::from_secs(120);
/// Between two looks at the daemon.
const LOOK: Duration = Duration::from_millis(20);
/// Until memory that is given back is given back.
const SETTLE: Duration = Duration::from_secs(5);

/// Where the daemon finds the server.
const SERVER: &str = "127.0.0.1:6443";
const BIRD: &str = "/usr/sbin/bird";
/// Of the node's own pods, one a family: unreachable but for those that are there.
const OWN_RANGES: u64 = 2;
/// The link to BIRD.
const OWN: &str = "192.0.2.1";
const PEER: &str = "192.0.2.2";
/// Where its routes are.
const LEARNED: &str = "10.96.0.0/11";

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    let own = std::env::current_exe().context("own path")?;
    let bin_dir = options
        .bin_dir
        .clone()
        .or_else(|| own.parent().map(Path::to_owned))
        .context("a folder of programs")?;
    println!(
        "memory: the daemon beside an API server: resident memory, CPU, and from complete caches to the kernel\n"
    );
    let chosen = |case: &&Case| options.cluster.as_deref().is_none_or(|name| name == case.name);
    let mut table = Table::new([
        "cluster",
        "nodes",
        "pods",
        "local",
        "routes",
        "complete",
        "+ in place",
        "RSS start",
        "RSS peak",
        "changes/s",
        "heard in",
        "RSS",
        "CPU",
    ]);
    let mut verdicts = Vec::new();
    let cases: Vec<&Case> = CASES.iter().filter(chosen).collect();
    ensure!(!cases.is_empty(), "no cluster is called so: small, large");
    for case in cases {
        let measured = measure(case, &bin_dir, Duration::from_secs(options.changing))?;
        let Measured { complete, in_place, at_start, peak, changes_per_second, heard, at_end, cpu } =
            &measured;
        table.line([
            case.name.to_owned(),
            case.site.nodes.to_string(),
            case.site.pods.to_string(),
            case.site.local.to_string(),
            case.routes.to_string(),
            format!("{:.2} s", complete.as_secs_f64()),
            format!("{:.2} s", in_place.as_secs_f64()),
            format!("{at_start:.1} MB"),
            format!("{peak:.1} MB"),
            format!("{changes_per_second:.0}"),
            format!("{:.0} ms", heard.as_secs_f64() * 1000.0),
            format!("{at_end:.1} MB"),
            format!("{:.1} %", cpu * 100.0),
        ]);
        let word = |is_met: bool| if is_met { "met" } else { "MISSED" };
        verdicts.push(format!(
            "  target: {}: at most {} MB resident: {at_end:.1} MB, {}",
            case.name,
            case.resident_mb,
            word(*at_end <= case.resident_mb)
        ));
        verdicts.push(format!(
            "  target: {}: in place at most {IN_PLACE:?} after complete caches: {in_place:.2?}, {}",
            case.name,
            word(*in_place <= IN_PLACE)
        ));
    }
    table.print();
    println!();
    verdicts.iter().for_each(|verdict| println!("{verdict}"));
    Ok(())
}

#[derive(Debug)]
struct Measured {
    /// From the start to the last answer that completed the caches.
    complete: Duration,
    /// From there until all routes and policies are in the kernel.
    in_place: Duration,
    /// MB (1 000 000 octets), as all here.
    at_start: f64,
    peak: f64,
    changes_per_second: f64,
    /// From the last change until the kernel has what it alters: all before it have come, too.
    heard: Duration,
    at_end: f64,
    /// Share of one CPU while pods change.
    cpu: f64,
}

fn measure(case: &Case, bin_dir: &Path, changing: Duration) -> Result<Measured> {
    let folder = tempfile::tempdir().context("a temporary folder")?;
    let server = ApiServer::new();
    case.site.fill(&server, PEER)?;
    let node = Namespace::new()?;
    let listener = node.enter(|| TcpListener::bind(SERVER).context("binding the server"))?;
    let _listening = server.listen(listener)?;
    let peer = Peer::start(&node, folder.path(), case.routes)?;
    let daemon = Daemon::start(&node, bin_dir, folder.path())?;
    let begin = Instant::now();
    let complete = daemon.until("caches to be complete", |status| is_complete(status, case))?;
    let complete_at = complete.duration_since(begin);
    daemon.until("routes and policies to be in the kernel", |status| is_in_place(status, case))?;
    let in_place = complete.elapsed();
    let found = node.run("ip", &format!("route show root {LEARNED}"), "")?.lines().count();
    ensure!(found == case.routes, "{found} routes of {} are in the kernel", case.routes);
    daemon.until("pods to be taken", |status| status["ready"] == true)?;
    let pods = case.site.wire(&node, &server, bin_dir, folder.path())?;
    daemon.until("local pods to be judged", |status| {
        let count = |of: &str| status["policy"][of].as_u64();
        count("pods") == Some(pods as u64) && count("closed") == Some(0)
    })?;
    sleep(SETTLE); // the allocator gives back late
    let (at_start, _) = daemon.resident()?;
    let cpu_before = daemon.cpu()?;
    let churn = Instant::now();
    let mut changes = 0;
    if case.changes_per_second > 0 {
        changes = case.site.change(&server, case.changes_per_second, changing);
    } else {
        sleep(SETTLE); // a quiet cluster is watched, too
    }
    let lasted = churn.elapsed().as_secs_f64();
    let cpu = (daemon.cpu()? - cpu_before).as_secs_f64() / lasted;
    let (at_end, peak) = daemon.resident()?;
    let members = |status: &Value| status["policy"]["members"].as_u64();
    let before = members(&daemon.status()?);
    let last = Instant::now();
    case.site.add(&server);
    let heard = daemon.until("one more pod to be in the sets", |status| members(status) > before)?;
    drop(peer);
    Ok(Measured {
        complete: complete_at,
        in_place,
        at_start,
        peak,
        changes_per_second: changes as f64 / lasted,
        heard: heard.duration_since(last),
        at_end,
        cpu,
    })
}

fn is_complete(status: &Value, case: &Case) -> bool {
    let kinds = status["cluster"]["kinds"].as_array().map(Vec::as_slice).unwrap_or_default();
    let objects = |kind: &str| {
        kinds.iter().find(|entry| entry["kind"] == kind).and_then(|entry| entry["objects"].as_u64())
    };
    kinds.iter().all(|kind| kind["state"] == "watching")
        && objects("Pod") == Some(case.site.pods as u64)
        && objects("Node") == Some(case.site.nodes as u64)
}

fn is_in_place(status: &Value, case: &Case) -> bool {
    let kernel = status["kernel"].as_array().map(Vec::as_slice).unwrap_or_default();
    let installed: u64 = kernel.iter().filter_map(|family| family["installed"].as_u64()).sum();
    let written = kernel.iter().all(|family| family["wanted"] == family["installed"]);
    written && installed == case.routes as u64 + OWN_RANGES && status["policy"]["written"] == true
}

/// The daemon under test; it ends with this value.
struct Daemon {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    fn start(node: &Namespace, bin_dir: &Path, folder: &Path) -> Result<Daemon> {
        let kubeconfig = folder.join("kubeconfig");
        fs::write(&kubeconfig, crate::site_objects::kubeconfig(SERVER))?;
        let log = folder.join("cambricd.log");
        let output = fs::File::create(&log)?;
        let mut command = Command::new(bin_dir.join("cambricd"));
        command.args(["--node", NODE, "--source", "kube"]).arg("--kubeconfig").arg(&kubeconfig);
        for (flag, name) in [("--run-dir", "run"), ("--state-dir", "state"), ("--cni-conf-dir", "cni")] {
            let path = folder.join(name);
            fs::create_dir_all(&path)?;
            command.arg(flag).arg(path);
        }
        command.env_clear().stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = node.enter(|| command.spawn().context("starting cambricd"))?;
        Ok(Daemon { child, socket: folder.join("run/cambricd.sock"), log })
    }

    /// Waits until its status is so; gives the moment.
    fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Instant> {
        let begin = Instant::now();
        let mut last = Value::Null;
        while begin.elapsed() < LIMIT {
            if let Ok(status) = self.status() {
                if is_so(&status) {
                    return Ok(Instant::now());
                }
                last = status;
            }
            sleep(LOOK);
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(20).collect();
        bail!("{what}: not after {LIMIT:?}; last status {last:#}; log {tail:#?}")
    }

    fn status(&self) -> Result<Value> {
        let said = crate::site_objects::ask(&self.socket, "show-status")?;
        Ok(said["status"].clone())
    }

    /// Resident memory now and at most, in MB.
    fn resident(&self) -> Result<(f64, f64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
            let kib: f64 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?;
            anyhow::Ok(kib * 1024.0 / 1e6)
        };
        Ok((of("VmRSS")?, of("VmHWM")?))
    }

    /// CPU time it has had.
    fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
        // proc_pid_stat(5): utime and stime are fields 14 and 15; behind the name the first is field 3. 100 ticks a second.
        Ok(Duration::from_millis((ticks(11) + ticks(12)) * 10))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// BIRD in a namespace of its own, which tells so many routes.
struct Peer {
    bird: Child,
    _namespace: Namespace,
}

impl Peer {
    fn start(node: &Namespace, folder: &Path, routes: usize) -> Result<Peer> {
        let namespace = Namespace::new()?;
        node.run("ip", &format!("link add eth1 type veth peer name eth1 netns {}", namespace.path()), "")?;
        for (side, address) in [(node, OWN), (&namespace, PEER)] {
            side.run("ip", &format!("address add {address}/24 dev eth1"), "")?;
            side.run("ip", "link set eth1 up", "")?;
        }
        let mut config = format!("router id {PEER};\nprotocol device {{}}\nprotocol static {{ ipv4;\n");
        for route in 0..routes {
            config += &format!("route 10.{}.{}.0/24 blackhole;\n", 100 + route / 256, route % 256);
        }
        config += &format!(
            "}}\nprotocol bgp node {{ local {PEER} as 65001; neighbor {OWN} as 64512; connect delay time 1;\n\
             error wait time 1, 5; ipv4 {{ import all; export all; next hop self; }}; }}\n"
        );
        let path = folder.join("bird.conf");
        fs::write(&path, config)?;
        let control = folder.join("bird.ctl");
        let mut command = Command::new(BIRD);
        command
            .arg("-f")
            .arg("-c")
            .arg(path)
            .arg("-s")
            .arg(control)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let bird = namespace.enter(|| command.spawn().context("starting bird"))?;
        Ok(Peer { bird, _namespace: namespace })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.bird.kill();
        let _ = self.bird.wait();
    }
}
