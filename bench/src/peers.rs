//! Case `peers`: hundreds of peers at once, as a node of a large mesh has them when it starts: how long until all sessions
//! are up and all peers have the node's own prefix, beside FRR, BIRD and GoBGP.
//!
//! The peers are a process of its own with one thread (`cambric_lab::crowd`), in a network namespace behind a veth. All
//! sessions are internal, and each peer announces one prefix. Each daemon is started anew for each round, with the kernel's
//! table behind it (GoBGP: without), and rounds go round all daemons, so that the machine's moods hit all alike.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cambric_lab::crowd::{Crowd, Opener, Plan};
use clap::Args;

use crate::namespace::{Namespace, run as run_tool};
use crate::statistics::{Micros, Samples, micros};
use crate::table::{Table, target};

/// What may be chosen.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// How many peers.
    #[arg(long, default_value_t = 500)]
    peers: u16,
    /// How often each daemon is started for each way.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Which daemons, as `cambric,frr,bird,gobgp`.
    #[arg(long, value_delimiter = ',', default_value = "cambric,frr,bird,gobgp")]
    daemons: Vec<String>,
    /// How long one start may take; what is not there then is given as a number of peers.
    #[arg(long, default_value_t = 40, value_name = "SECONDS")]
    limit: u64,
    /// Folder of `cambricd`; that of this program unless given.
    #[arg(long)]
    bin_dir: Option<PathBuf>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dut {
    Cambric,
    Frr,
    Bird,
    Gobgp,
}

const ALL: [Dut; 4] = [Dut::Cambric, Dut::Frr, Dut::Bird, Dut::Gobgp];
const WAYS: [(Opener, &str); 2] =
    [(Opener::Members, "peers connect, all at once"), (Opener::Node, "the daemon connects")];

const ASN: u32 = 64512;
const NODE: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);
/// The daemon's own prefix.
const OWN: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 200, 0, 0), 24);
const BGP: u16 = 179;
/// Targets, from the start of the process.
const ALL_ESTABLISHED: Duration = Duration::from_secs(1);
const ALL_TOLD: Duration = Duration::from_millis(500);

/// Measurements of one daemon and way.
#[derive(Debug, Default)]
struct Measured {
    established: Samples,
    told: Samples,
    resident_mb: Samples,
    cpu_ms: Samples,
    /// The fewest that were up and told in a round; all of them unless time ran out.
    fewest: Option<(usize, usize)>,
}

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    let own = std::env::current_exe().context("own path")?;
    let bin_dir = options.bin_dir.clone().or_else(|| own.parent().map(Path::to_owned)).context("a folder")?;
    let wanted = |dut: &Dut| options.daemons.iter().any(|name| name == dut.name());
    let duts: Vec<Dut> = ALL.into_iter().filter(wanted).collect();
    ensure!(!duts.is_empty(), "no daemon is called so: {:?}", options.daemons);
    println!(
        "peers: {} internal peers, from the start of the daemon's process; {} rounds",
        options.peers, options.rounds
    );
    for (opener, name) in WAYS {
        let mut all: Vec<Measured> = duts.iter().map(|_| Measured::default()).collect();
        for _ in 0..options.rounds {
            for (dut, measured) in duts.iter().zip(&mut all) {
                one_start(*dut, opener, options, &bin_dir, measured).with_context(|| dut.name())?;
            }
        }
        println!("\n{name}\n");
        print(&duts, &all, usize::from(options.peers));
    }
    Ok(())
}

fn print(duts: &[Dut], all: &[Measured], peers: usize) {
    let ours = all.first().filter(|_| duts.first() == Some(&Dut::Cambric));
    let ratio = |samples: &Samples, of: fn(&Measured) -> &Samples| {
        ours.map_or("-".to_owned(), |ours| format!("{:.1}", samples.median() / of(ours).median()))
    };
    let mut table = Table::new([
        "daemon",
        "all up",
        "x ours",
        "own prefix at all",
        "x ours",
        "RSS",
        "CPU",
        "within the limit",
    ]);
    for (dut, measured) in duts.iter().zip(all) {
        let complete = match measured.fewest {
            Some((up, told)) if up < peers || told < peers => format!("{up} up, {told} told"),
            _ => "all".to_owned(),
        };
        table.line([
            dut.name().to_owned(),
            Micros(measured.established.median()).to_string(),
            ratio(&measured.established, |measured| &measured.established),
            Micros(measured.told.median()).to_string(),
            ratio(&measured.told, |measured| &measured.told),
            format!("{:.1} MB", measured.resident_mb.median()),
            format!("{:.0} ms", measured.cpu_ms.median()),
            complete,
        ]);
    }
    table.print();
    println!();
    if let Some(ours) = ours {
        target("all sessions up", ours.established.median(), micros(ALL_ESTABLISHED));
        target("own prefix at all peers", ours.told.median(), micros(ALL_TOLD));
    }
}

fn one_start(
    dut: Dut,
    opener: Opener,
    options: &Options,
    bin_dir: &Path,
    measured: &mut Measured,
) -> Result<()> {
    let (node, beyond) = (Namespace::new()?, Namespace::new()?);
    links(&node, &beyond, options.peers)?;
    let folder = tempfile::tempdir().context("a temporary folder")?;
    let plan =
        Plan { members: options.peers, asn: ASN, node: SocketAddr::from((NODE, BGP)), opener, awaited: OWN };
    let crowd = beyond.enter(|| Crowd::start(plan))?;
    dut.configure(folder.path(), options.peers, opener)?;
    let start = Instant::now();
    let daemon = dut.start(&node, folder.path(), bin_dir)?;
    let (limit, peers) = (Duration::from_secs(options.limit), usize::from(options.peers));
    let progress = loop {
        let progress = crowd.progress();
        let done = progress.established.len() == peers && progress.told.len() == peers;
        if done || start.elapsed() > limit {
            break progress;
        }
        sleep(Duration::from_millis(5));
    };
    let last = |times: &[Instant]| {
        let all = times.len() == peers;
        times.iter().max().filter(|_| all).map_or(f64::INFINITY, |last| micros(last.duration_since(start)))
    };
    measured.established.push(last(&progress.established));
    measured.told.push(last(&progress.told));
    let (resident, cpu) = daemon.cost()?;
    measured.resident_mb.push(resident);
    measured.cpu_ms.push(cpu);
    let (up, told) = measured.fewest.unwrap_or((peers, peers));
    measured.fewest = Some((up.min(progress.established.len()), told.min(progress.told.len())));
    Ok(())
}

/// A veth; all addresses of the members are local behind it, none has to be written down.
fn links(node: &Namespace, beyond: &Namespace, peers: u16) -> Result<()> {
    node.run("ip", &format!("link add eth1 type veth peer name eth1 netns {}", beyond.path()), "")?;
    node.run("ip", "-batch -", &format!("address add {NODE}/16 dev eth1\nlink set eth1 up\n"))?;
    let mut lines = String::from("address add 10.10.255.254/16 dev eth1\nlink set eth1 up\n");
    for part in 1..=peers.div_ceil(200) {
        lines += &format!("route add local 10.10.{part}.0/24 dev lo\n");
    }
    beyond.run("ip", "-batch -", &lines)?;
    Ok(())
}

/// Processes of a daemon; they end with this value.
struct Daemon(Vec<Child>);

impl Drop for Daemon {
    fn drop(&mut self) {
        for child in self.0.iter_mut().rev() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Daemon {
    /// Resident memory at most, in MB (1 000 000 octets), and CPU time in milliseconds, of all processes.
    fn cost(&self) -> Result<(f64, f64)> {
        let (mut megabytes, mut cpu_ms) = (0.0, 0.0);
        for child in &self.0 {
            let status =
                fs::read_to_string(format!("/proc/{}/status", child.id())).context("the daemon has ended")?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let line = line.context("the daemon has ended")?;
            let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
            megabytes += kib * 1024.0 / 1e6;
            for task in fs::read_dir(format!("/proc/{}/task", child.id()))?.flatten() {
                let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                let ns: f64 = text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or_default();
                cpu_ms += ns / 1e6;
            }
        }
        Ok((megabytes, cpu_ms))
    }
}

impl Dut {
    fn name(self) -> &'static str {
        match self {
            Dut::Cambric => "cambric",
            Dut::Frr => "frr",
            Dut::Bird => "bird",
            Dut::Gobgp => "gobgp",
        }
    }

    /// Writes its configuration. Where members connect, the daemon only listens, as far as it can.
    fn configure(self, folder: &Path, peers: u16, opener: Opener) -> Result<()> {
        let members = (0..peers).map(|member| (member, Plan::address(member)));
        let passive = opener == Opener::Members;
        let (own, length) = OWN;
        let text = match self {
            // Node objects alone: the mesh of a cluster.
            Dut::Cambric => {
                let object = |name: &str, address: Ipv4Addr, (pods, length): (Ipv4Addr, u8)| {
                    format!(
                        "apiVersion: v1\nkind: Node\nmetadata: {{ name: {name} }}\n\
                         spec: {{ podCIDR: {pods}/{length}, podCIDRs: [{pods}/{length}] }}\n\
                         status: {{ addresses: [{{ type: InternalIP, address: {address} }}] }}\n---\n"
                    )
                };
                let others = members
                    .map(|(member, address)| object(&format!("m{member}"), address, Plan::prefix(member)));
                object("node", NODE, OWN) + &others.collect::<String>()
            }
            Dut::Frr => {
                let mut text = format!(
                    "hostname node\nrouter bgp {ASN}\n bgp router-id {NODE}\n no bgp default ipv4-unicast\n \
                     no bgp network import-check\n timers bgp 60 240\n"
                );
                for (_, address) in members {
                    text += &format!(
                        " neighbor {address} remote-as {ASN}\n neighbor {address} timers connect 1\n \
                         neighbor {address} advertisement-interval 0\n"
                    );
                    if passive {
                        text += &format!(" neighbor {address} passive\n");
                    }
                    text += &format!(
                        " address-family ipv4 unicast\n  neighbor {address} activate\n exit-address-family\n"
                    );
                }
                text + &format!(
                    " address-family ipv4 unicast\n  network {own}/{length}\n exit-address-family\n"
                )
            }
            Dut::Bird => {
                let mut text = format!(
                    "router id {NODE};\nprotocol device {{ }}\nprotocol kernel {{ ipv4 {{ export where source = RTS_BGP; }}; }}\n\
                     protocol static {{ ipv4; route {own}/{length} blackhole; }}\n\
                     template bgp of_mesh {{ local {NODE} as {ASN}; hold time 240; connect retry time 1; connect delay time 1;\n\
                     error wait time 1, 5; {} ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }}; }}\n",
                    if passive { "passive on;" } else { "" }
                );
                for (member, address) in members {
                    text +=
                        &format!("protocol bgp m{member} from of_mesh {{ neighbor {address} as {ASN}; }}\n");
                }
                text
            }
            Dut::Gobgp => {
                let mut text = format!("[global.config]\n  as = {ASN}\n  router-id = \"{NODE}\"\n");
                for (_, address) in members {
                    text += &format!(
                        "[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{address}\"\n    peer-as = {ASN}\n  \
                         [neighbors.timers.config]\n    connect-retry = 1\n    hold-time = 240\n  \
                         [neighbors.transport.config]\n    passive-mode = {passive}\n"
                    );
                }
                text
            }
        };
        let path = match self {
            Dut::Cambric => {
                fs::create_dir(folder.join("manifests"))?;
                folder.join("manifests/all.yaml")
            }
            _ => folder.join("configuration"),
        };
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        if self == Dut::Frr {
            // It gives its rights up before it opens anything.
            run_tool("chown", &format!("-R frr:frrvty {}", folder.display()), "")?;
        }
        Ok(())
    }

    fn start(self, node: &Namespace, folder: &Path, bin_dir: &Path) -> Result<Daemon> {
        let spawn = |program: &Path, words: &[&str]| {
            let log = fs::File::create(folder.join(format!("{}.log", self.name())))?;
            let mut command = Command::new(program);
            command.args(words).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            node.enter(|| command.spawn().with_context(|| format!("starting {}", program.display())))
        };
        let at = |name: &str| folder.join(name).display().to_string();
        let configuration = at("configuration");
        match self {
            Dut::Cambric => {
                let folders = ["run", "state", "cni"].map(at);
                folders.iter().try_for_each(fs::create_dir)?;
                let [run, state, cni] = &folders;
                let source = format!("dir:{}", at("manifests"));
                let words = [
                    "--node",
                    "node",
                    "--source",
                    &source,
                    "--run-dir",
                    run,
                    "--state-dir",
                    state,
                    "--cni-conf-dir",
                    cni,
                ];
                Ok(Daemon(vec![spawn(&bin_dir.join("cambricd"), &words)?]))
            }
            Dut::Frr => {
                let (api, pid_z, pid_b) = (at("zserv.api"), at("zebra.pid"), at("bgpd.pid"));
                let vty = folder.display().to_string();
                let common = ["-u", "frr", "-g", "frr", "-A", "127.0.0.1", "--vty_socket", &vty, "-z", &api]
                    .map(str::to_owned);
                let common: Vec<&str> = common.iter().map(String::as_str).collect();
                let of_zebra = [&common[..], &["-f", "/dev/null", "-i", &pid_z]].concat();
                let zebra = spawn(Path::new("/usr/lib/frr/zebra"), &of_zebra)?;
                let of_bgpd = [&common[..], &["-f", &configuration, "-i", &pid_b]].concat();
                let mut daemon = Daemon(vec![zebra]);
                daemon.0.push(spawn(Path::new("/usr/lib/frr/bgpd"), &of_bgpd)?);
                Ok(daemon)
            }
            Dut::Bird => {
                let words = ["-f", "-c", &configuration, "-s", &at("bird.ctl")];
                Ok(Daemon(vec![spawn(Path::new("/usr/sbin/bird"), &words)?]))
            }
            Dut::Gobgp => {
                let words =
                    ["-t", "toml", "-f", &configuration, "--api-hosts", "127.0.0.1:50051", "--pprof-disable"];
                let daemon = Daemon(vec![spawn(Path::new("/usr/bin/gobgpd"), &words)?]);
                let (own, length) = OWN;
                let add = format!("global rib add {own}/{length} -a ipv4");
                let start = Instant::now();
                // Its file holds no prefixes, and it must run first.
                while node.enter(|| run_tool("gobgp", &add, "")).is_err() {
                    ensure!(start.elapsed() < Duration::from_secs(20), "gobgpd does not answer");
                    sleep(Duration::from_millis(20));
                }
                Ok(daemon)
            }
        }
    }
}
