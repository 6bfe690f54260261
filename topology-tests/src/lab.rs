//! A lab: up, down, and the way to its nodes and pods.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::IpAddr;
use std::ops::Deref;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::mount::{MntFlags, umount2};
use nix::unistd::{Pid, geteuid};
use serde::Serialize;
use serde_json::Value;

use crate::backend::Backend;
use crate::clab::{self, NodeSpec, Role, Topology};
use crate::init::{Orders, READY};
use crate::links::{self, Carrier};
use crate::node::{Daemon, Node, join, tail};
use crate::pods::{self, Pod};
use crate::processes::{self, INIT_VERB, Init};
use crate::state::{STATE_DIR, State};
use crate::{cambric, cni, frr, namespaces, poll};

/// Where network namespaces have names (`ip netns`).
const NETNS_DIR: &str = "/run/netns";

/// How long `up` tries to start a pod that is to be tried again later.
const POD_LIMIT: Duration = Duration::from_secs(60);

/// How long `up` waits for a daemon that is asked for pods to write its CNI configuration.
const CONFLIST_LIMIT: Duration = Duration::from_secs(120);

/// A lab as its file describes it, up or down.
#[derive(Debug)]
pub struct Lab {
    topology: Topology,
    state: State,
    /// Inits that this process started, to be reaped by it.
    children: Mutex<Vec<Child>>,
}

/// What `up` needs to know beside the file.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `cambric-lab` executable: it is the init of each node.
    pub executable: PathBuf,
    /// Folder of `cambricd`, `cambric` and `cambric-cni`; none: that of the executable.
    pub bin_dir: Option<PathBuf>,
    /// What plays the nodes.
    pub backend: Backend,
    /// Whether a lab that does not come up is left as it is, to be looked at.
    pub keep_failed: bool,
}

/// What `status` says about a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub node: String,
    /// What is to run in it.
    pub role: Role,
    /// PID of its init; none: it is down.
    pub pid: Option<i32>,
    /// Its name under `/run/netns`.
    pub netns: String,
    /// Daemons that run.
    pub daemons: Vec<Daemon>,
    /// Its pods.
    pub pods: Vec<PodStatus>,
}

/// What `status` says about a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PodStatus {
    /// Its name.
    pub pod: String,
    /// Its addresses; none: it is half made.
    pub addresses: Vec<IpAddr>,
}

/// A lab that goes down when this is dropped: for tests.
#[derive(Debug)]
pub struct Guard(Lab);

impl Options {
    /// The given executable, and the binaries beside it.
    pub fn new(executable: impl Into<PathBuf>) -> Self {
        Self { executable: executable.into(), bin_dir: None, backend: Backend::default(), keep_failed: false }
    }

    fn bin_dir(&self) -> Result<PathBuf> {
        let dir = self.bin_dir.as_deref().or(self.executable.parent()).unwrap_or(Path::new("."));
        dir.canonicalize().with_context(|| format!("folder of binaries {}", dir.display()))
    }
}

impl Lab {
    /// Reads the file of a lab, or the one `*.clab.yml` of a folder.
    ///
    /// # Errors
    /// When anything in it is unknown or wrong.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_in(Path::new(STATE_DIR), path.as_ref())
    }

    /// As [`Self::load`], with another folder for what labs leave outside their namespaces.
    ///
    /// # Errors
    /// When anything in the file is unknown or wrong.
    pub fn load_in(state_dir: &Path, path: &Path) -> Result<Self> {
        let topology = Topology::load(path)?;
        let state = State::new(state_dir, &topology.name);
        Ok(Self { topology, state, children: Mutex::new(Vec::new()) })
    }

    /// The lab as its file describes it.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Brings the lab up: nodes, links, daemons, commands, pods. `progress` hears what is being done.
    ///
    /// # Errors
    /// When something does not work; the lab is then taken down again, unless the options say otherwise.
    pub fn up(&self, options: &Options, progress: &(dyn Fn(&str) + Sync)) -> Result<()> {
        self.check_host(options)?;
        let _lock = self.state.lock()?;
        if self.state.is_complete() {
            let file = self.state.file().unwrap_or_default();
            bail!("lab {} is up already, from {}; take it down first", self.topology.name, file.display());
        }
        if !self.state.recorded_nodes().is_empty() {
            progress("clearing what an interrupted up left");
            clear(&self.state)?;
        }
        let built = self.build(options, progress);
        match &built {
            Err(_) if !options.keep_failed => {
                progress("taking it down again");
                clear(&self.state).and_then(|()| self.reap()).and_then(|()| self.state.remove())?;
            }
            _ => {}
        }
        built
    }

    /// As [`Self::up`]; the lab goes down when the returned value is dropped.
    ///
    /// # Errors
    /// As [`Self::up`].
    pub fn up_guarded(self, options: &Options, progress: &(dyn Fn(&str) + Sync)) -> Result<Guard> {
        // Not before: a lab that is up already belongs to somebody, and is not to go down.
        self.up(options, progress)?;
        Ok(Guard(self))
    }

    /// Takes the lab down: nothing is left of it, also after a killed `up`. A lab that is down stays down.
    ///
    /// # Errors
    /// When something cannot be removed; all else is.
    pub fn down(&self) -> Result<()> {
        take_down(&self.state)?;
        self.reap()
    }

    /// Takes down the lab of a file of which only the name must be readable; returns the name.
    ///
    /// # Errors
    /// As [`Self::down`], and when the name cannot be read.
    pub fn down_by_name(state_dir: &Path, path: &Path) -> Result<String> {
        let (_, name) = clab::name_of(path)?;
        take_down(&State::new(state_dir, &name))?;
        Ok(name)
    }

    /// A running node.
    ///
    /// # Errors
    /// When the file has none of this name, or it does not run.
    pub fn node(&self, name: &str) -> Result<Node> {
        let spec = self.spec(name)?;
        let container = self.state.backend().container(&self.topology, spec);
        let init = match &container {
            Some(container) => container.pid().ok().flatten(),
            None => self.init_of(name),
        };
        match init {
            Some(init) => Ok(Node::new(spec.clone(), self.state.node(name), init, container)),
            None => bail!("node {name} of lab {} is down", self.topology.name),
        }
    }

    /// A pod of a running node.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn pod(&self, node: &str, pod: &str) -> Result<Pod> {
        Pod::of(self.node(node)?, pod)
    }

    /// Makes a pod and returns it with what the CNI plugins answered.
    ///
    /// # Errors
    /// When a plugin refuses; nothing of the pod is left then.
    pub fn add_pod(&self, node: &str, pod: &str) -> Result<(Pod, Value)> {
        self.add_pod_in(node, pods::DEFAULT_NAMESPACE, pod)
    }

    /// As [`Self::add_pod`], in a namespace as Kubernetes has the word. A node has one pod of a name all the same.
    ///
    /// # Errors
    /// When a plugin refuses, with [`cni::Refused`]; nothing of the pod is left then.
    pub fn add_pod_in(&self, node: &str, namespace: &str, pod: &str) -> Result<(Pod, Value)> {
        pods::add(&self.node(node)?, namespace, pod, None)
    }

    /// As [`Self::add_pod_in`], for a pod that an API server knows: the plugins are told the `uid` of its object.
    ///
    /// # Errors
    /// As [`Self::add_pod_in`].
    pub fn add_pod_of(&self, node: &str, namespace: &str, pod: &str, uid: &str) -> Result<(Pod, Value)> {
        pods::add(&self.node(node)?, namespace, pod, Some(uid))
    }

    /// All pods of all running nodes.
    ///
    /// # Errors
    /// When one goes away meanwhile.
    pub fn pods(&self) -> Result<Vec<Pod>> {
        let mut all = Vec::new();
        for name in self.topology.nodes.keys() {
            let Ok(node) = self.node(name) else { continue };
            for pod in pods::list(&node) {
                all.push(Pod::of(node.clone(), &pod)?);
            }
        }
        Ok(all)
    }

    /// Sets all links of a node in one go; down is what a power cut does.
    ///
    /// # Errors
    /// When that fails.
    pub fn set_links(&self, node: &str, carrier: Carrier) -> Result<()> {
        self.spec(node)?;
        links::set_all(&self.topology, node, carrier)
    }

    /// [`Self::set_links`] down.
    ///
    /// # Errors
    /// When that fails.
    pub fn links_down(&self, node: &str) -> Result<()> {
        self.set_links(node, Carrier::Down)
    }

    /// [`Self::set_links`] up.
    ///
    /// # Errors
    /// When that fails.
    pub fn links_up(&self, node: &str) -> Result<()> {
        self.set_links(node, Carrier::Up)
    }

    /// Sets one interface of a node up or down.
    ///
    /// # Errors
    /// When that fails.
    pub fn set_link(&self, node: &str, interface: &str, carrier: Carrier) -> Result<()> {
        self.spec(node)?;
        links::set_one(&self.topology.netns_name(node), interface, carrier)
            .with_context(|| format!("setting {node}:{interface} {carrier:?}"))
    }

    /// What runs where.
    pub fn status(&self) -> Vec<NodeStatus> {
        let status = |spec: &NodeSpec| {
            let node = self.node(&spec.name).ok();
            NodeStatus {
                node: spec.name.clone(),
                role: spec.role,
                pid: node.as_ref().map(|node| node.pid().as_raw()),
                netns: self.topology.netns_name(&spec.name),
                daemons: node.as_ref().map(Node::daemons).unwrap_or_default(),
                pods: node.as_ref().map(pod_status).unwrap_or_default(),
            }
        };
        self.topology.nodes.values().map(status).collect()
    }

    fn spec(&self, name: &str) -> Result<&NodeSpec> {
        self.topology.nodes.get(name).with_context(|| {
            let known: Vec<&str> = self.topology.nodes.keys().map(String::as_str).collect();
            format!("lab {} has no node {name:?}, but {}", self.topology.name, known.join(", "))
        })
    }

    fn init_of(&self, node: &str) -> Option<Pid> {
        let folder = self.state.node(node);
        processes::inits(&self.state.nodes())
            .into_iter()
            .find(|init| init.folder == folder)
            .map(|init| init.pid)
    }

    /// What must be there before anything is made.
    fn check_host(&self, options: &Options) -> Result<()> {
        if !geteuid().is_root() {
            bail!("namespaces need root");
        }
        for node in self.topology.nodes.values() {
            match (&options.backend, node.role) {
                (_, Role::Bridge) => Ok(()),
                (Backend::Docker(docker), _) => docker.check(node),
                (Backend::Namespaces, Role::Frr) => frr::installed(),
                (Backend::Namespaces, Role::Cambric) => cambric::built(&options.bin_dir()?),
                (Backend::Namespaces, Role::Linux) => Ok(()),
            }
            .with_context(|| format!("node {}", node.name))?;
        }
        Ok(())
    }

    fn build(&self, options: &Options, progress: &(dyn Fn(&str) + Sync)) -> Result<()> {
        let names: Vec<&str> = self.topology.nodes.keys().map(String::as_str).collect();
        progress(&format!("nodes: {}", names.join(", ")));
        self.record(options)?;
        let firsts = [self.start_inits(options)?, self.start_containers(options)?].concat();

        progress(&format!("links: {}", self.topology.links.len()));
        let named: Vec<_> = firsts.iter().map(|(name, pid)| (self.topology.netns_name(name), *pid)).collect();
        links::attach(&named)?;
        links::create(&self.topology)?;
        names.iter().try_for_each(|name| links::configure(&self.topology, name))?;

        progress("daemons");
        self.each_node(|node| node.start())?;

        progress("commands");
        self.each_node(|node| {
            for words in &node.spec().exec {
                node.run_ok(words).with_context(|| format!("exec of {}: {}", node.name(), join(words)))?;
            }
            Ok(())
        })?;
        self.start_pods(progress)?;
        self.state.set_complete()
    }

    /// Writes down what is about to be made.
    fn record(&self, options: &Options) -> Result<()> {
        self.state.set_file(&self.topology.file)?;
        self.state.set_backend(&options.backend)?;
        for node in self.topology.nodes.values() {
            let name = Path::new(NETNS_DIR).join(self.topology.netns_name(&node.name));
            if name.exists() {
                bail!("{} is there already, and not ours; does containerlab run this lab?", name.display());
            }
            let folder = self.state.node(&node.name);
            for part in ["root", "log", "pods"] {
                fs::create_dir_all(folder.join(part))?;
            }
            symlink(name, folder.join("netns"))?;
            Orders { node: node.clone(), bin_dir: options.bin_dir()? }.write(&folder)?;
        }
        Ok(())
    }

    /// Starts all inits, then waits for each: they build their roots side by side.
    fn start_inits(&self, options: &Options) -> Result<Vec<(String, Pid)>> {
        let mut started = Vec::new();
        let is_init = |node: &&NodeSpec| options.backend.container(&self.topology, node).is_none();
        for NodeSpec { name, .. } in self.topology.nodes.values().filter(is_init) {
            let mut child =
                self.start_init(options, name).with_context(|| format!("starting node {name}"))?;
            let says = child.stdout.take().context("an init has an output")?;
            started.push((name.clone(), Pid::from_raw(child.id().cast_signed()), says));
            self.children().push(child);
        }
        let mut inits = Vec::new();
        for (name, pid, says) in started {
            let mut line = String::new();
            BufReader::new(says).read_line(&mut line)?;
            if line.trim_end() != READY {
                bail!("node {name} cannot be built; {}", tail(&self.state.node(&name).join("log/init.log")));
            }
            inits.push((name, pid));
        }
        Ok(inits)
    }

    /// Starts all containers side by side.
    fn start_containers(&self, options: &Options) -> Result<Vec<(String, Pid)>> {
        let started = side_by_side(self.topology.nodes.values(), |node| {
            let Some(container) = options.backend.container(&self.topology, node) else { return Ok(None) };
            let pid = container.start(node, &self.state.node(&node.name));
            let pid = pid.with_context(|| format!("starting the container of node {}", node.name))?;
            Ok(Some((node.name.clone(), pid)))
        });
        Ok(started?.into_iter().flatten().collect())
    }

    fn start_init(&self, options: &Options, name: &str) -> Result<Child> {
        let folder = self.state.node(name);
        let log = File::create(folder.join("log/init.log"))?;
        let mut command = Command::new(&options.executable);
        command.arg(INIT_VERB).arg(folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        Ok(namespaces::in_new_namespaces(|| command.spawn())?)
    }

    /// Does the same on all nodes side by side; the first error counts.
    fn each_node(&self, work: impl Fn(&Node) -> Result<()> + Sync) -> Result<()> {
        let nodes: Vec<Node> =
            self.topology.nodes.keys().map(|name| self.node(name)).collect::<Result<_>>()?;
        side_by_side(nodes.iter(), work).map(drop)
    }

    fn start_pods(&self, progress: &(dyn Fn(&str) + Sync)) -> Result<()> {
        if self.topology.nodes.values().all(|node| node.pods == 0) {
            return Ok(());
        }
        progress("pods: waiting for the CNI configuration");
        self.each_node(|node| match node.spec().pods {
            0 => Ok(()),
            _ => cambric::wait_for_conflist(node, CONFLIST_LIMIT),
        })?;
        self.each_node(|node| {
            for number in 1..=node.spec().pods {
                let pod = start_pod(node, &format!("{}-{number}", node.name()))?;
                let addresses: Vec<String> = pod.addresses()?.iter().map(ToString::to_string).collect();
                progress(&format!("pod {} of {}: {}", pod.name(), node.name(), addresses.join(" ")));
            }
            Ok(())
        })
    }

    fn children(&self) -> std::sync::MutexGuard<'_, Vec<Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reap(&self) -> Result<()> {
        for mut child in self.children().drain(..) {
            child.wait().context("waiting for an init")?;
        }
        Ok(())
    }
}

impl Guard {
    /// Takes the lab down and says how it went, which a drop cannot.
    ///
    /// # Errors
    /// As [`Lab::down`].
    pub fn down(self) -> Result<()> {
        self.0.down()
    }

    /// Leaves the lab up.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Deref for Guard {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.0
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(error) = self.0.down() {
            eprintln!("taking lab {} down: {error:#}", self.0.topology.name);
        }
    }
}

/// Does the same with all, each on a thread of its own; the first error counts, once all are through.
fn side_by_side<'a, T: Sync + 'a, R: Send>(
    all: impl Iterator<Item = &'a T>,
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = all.map(|one| scope.spawn(move || work(one))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<R>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect::<Vec<_>>().into_iter().collect()
    })
}

/// As a kubelet: a pod whose network is not ready yet is tried again.
fn start_pod(node: &Node, name: &str) -> Result<Pod> {
    let mut last = String::new();
    let added = poll::until_some(&format!("pod {name} to start"), POD_LIMIT, || {
        match pods::add(node, pods::DEFAULT_NAMESPACE, name, None) {
            Ok((pod, _)) => Ok(Some(pod)),
            Err(error) if cni::code_of(&error) == Some(cni::TRY_AGAIN_LATER) => {
                last = format!("{error:#}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    });
    added.with_context(|| last)
}

fn pod_status(node: &Node) -> Vec<PodStatus> {
    let status = |pod: String| {
        let addresses = Pod::of(node.clone(), &pod).and_then(|pod| pod.addresses());
        PodStatus { pod, addresses: addresses.unwrap_or_default() }
    };
    pods::list(node).into_iter().map(status).collect()
}

fn take_down(state: &State) -> Result<()> {
    if !state.exists() {
        // Inits name the folder in their command line, so they are found without it.
        return end_inits(state);
    }
    let _lock = state.lock()?;
    clear(state)?;
    state.remove()
}

/// Removes all that a lab has made, but for its folder. The order matters: once the inits are gone nothing that a
/// killed `up` left running can give a namespace a name again.
fn clear(state: &State) -> Result<()> {
    if let Backend::Docker(docker) = state.backend() {
        docker.remove_all(&state.nodes())?;
    }
    end_inits(state)?;
    let mut errors = Vec::new();
    for node in state.recorded_nodes() {
        let folder = state.nodes().join(node);
        // None: `up` was killed before it could name the namespace.
        if let Ok(name) = fs::read_link(folder.join("netns")) {
            errors.extend(remove_netns_name(&name).err());
        }
    }
    if !errors.is_empty() {
        return Err(anyhow!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")));
    }
    match fs::remove_dir_all(state.nodes()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context("removing the nodes' folders")
        }
        _ => Ok(()),
    }
}

/// Kills the inits and waits until nothing of their namespaces lives.
fn end_inits(state: &State) -> Result<()> {
    let mut namespaces = Vec::new();
    let gone = || {
        // Again and again: a thread of a killed `up` may have been about to start one more.
        for Init { pid, .. } in processes::inits(&state.nodes()) {
            namespaces.extend(processes::pid_namespace(pid).filter(|found| !namespaces.contains(found)));
            processes::kill_now(pid);
        }
        processes::inits(&state.nodes()).is_empty()
            && namespaces.iter().all(|namespace| processes::in_namespace(namespace).is_empty())
    };
    poll::until("the nodes' processes to end", Duration::from_secs(30), gone)
}

fn remove_netns_name(name: &Path) -> Result<()> {
    while umount2(name, MntFlags::MNT_DETACH).is_ok() {}
    match fs::remove_file(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", name.display()))
        }
        _ => Ok(()),
    }
}
