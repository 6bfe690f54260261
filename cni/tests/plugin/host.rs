//! A node and its pods in namespaces, calls of the plugin, and packets between them.

use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cambric_cni::attachment::{Attachment, Holder};
use cambric_cni::lease::{Lease, Leases};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::geteuid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take that the kernel does behind our back.
const LIMIT: Duration = Duration::from_secs(10);

pub(crate) const NODE_IPV4: &str = "10.255.0.11";
pub(crate) const NODE_IPV6: &str = "fd00:10:255::11";

/// A node: network and mount namespaces of the test's thread. It has no default route.
pub(crate) struct Host {
    folder: TempDir,
}

/// Runs a test on a fresh host, or says why not.
pub(crate) fn on_a_host(test: impl FnOnce(&Host) + Send + 'static) {
    if !geteuid().is_root() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "must be root in CI");
        println!("not run: needs root");
        return;
    }
    let outcome = thread::spawn(move || test(&Host::new())).join();
    if let Err(panic) = outcome {
        panic::resume_unwind(panic);
    }
}

impl Host {
    fn new() -> Host {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("new namespaces");
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).expect("private mounts");
        ip("link set lo up");
        ip(&format!("addr add {NODE_IPV4}/32 dev lo"));
        ip(&format!("addr add {NODE_IPV6}/128 dev lo nodad"));
        // The daemon's part; IPv4 is forwarded by the settings the plugin makes.
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").expect("IPv6 forwarding");
        Host { folder: tempfile::tempdir().expect("folder") }
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// The folder of the lease tables.
    pub(crate) fn lease_dir(&self) -> PathBuf {
        self.run_dir().join("ipam/cambric")
    }

    /// As the daemon writes it: dual stack, and here without policy.
    pub(crate) fn config(&self) -> Value {
        json!({
            "cniVersion": "1.0.0", "name": "cambric", "type": "cambric-cni",
            "ranges": [{"ipv4": "10.244.1.0/24", "ipv6": "fd00:10:244:1::/64"}],
            "nodeAddresses": [NODE_IPV4, NODE_IPV6],
            "mtu": 1400, "policyGate": "off", "runDir": self.run_dir(),
        })
    }

    /// A new pod sandbox, not attached to anything.
    pub(crate) fn pod(&self, id: &str) -> Pod {
        let netns = self.folder.path().join(format!("netns-{id}"));
        File::create(&netns).expect("mount point");
        let target = netns.clone();
        let made = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("new namespace");
            let own = Path::new("/proc/thread-self/ns/net");
            mount(Some(own), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("bind");
            ip("link set lo up");
        });
        made.join().expect("pod namespace");
        Pod { id: id.to_owned(), netns }
    }

    /// A pod that is attached, dual stack.
    pub(crate) fn attached_pod(&self, id: &str) -> (Pod, Answer) {
        let pod = self.pod(id);
        let answer = self.call("ADD", &pod).run();
        answer.expect_success();
        (pod, answer)
    }

    pub(crate) fn call(&self, command: &str, pod: &Pod) -> Call {
        let environment = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", &pod.id),
            ("CNI_NETNS", &pod.netns.to_string_lossy()),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/cni/bin"),
            ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let binary = env!("CARGO_BIN_EXE_cambric-cni").into();
        Call { binary, environment, stdin: self.config().to_string() }
    }

    pub(crate) fn leases(&self) -> Vec<Lease> {
        let leases = Leases::open_existing(&self.run_dir(), "cambric").expect("lease tables");
        leases.map(|leases| leases.iter().collect()).unwrap_or_default()
    }

    /// Names of all links but `lo`.
    pub(crate) fn links(&self) -> Vec<String> {
        let lines = ip("-o link show");
        let name = |line: &str| line.split([':', '@']).nth(1).map(|name| name.trim().to_owned());
        lines.lines().filter_map(name).filter(|name| name != "lo").collect()
    }

    /// Host routes of pods, both families.
    pub(crate) fn pod_routes(&self) -> Vec<String> {
        let lines = ip("-4 route show proto 204") + &ip("-6 route show proto 204");
        lines.lines().map(str::to_owned).collect()
    }

    /// Nothing of ours is left: no link, no route, no lease.
    pub(crate) fn assert_clean(&self) {
        // A vanished namespace is taken down behind our back.
        until("links to be gone", || self.links().is_empty());
        assert_eq!(self.pod_routes(), [""; 0]);
        assert_eq!(self.leases(), []);
    }
}

impl Drop for Host {
    /// The folder cannot be removed while namespaces are mounted in it.
    fn drop(&mut self) {
        for entry in fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
            let _ = umount2(&entry.path(), MntFlags::MNT_DETACH); // what is no mount stays as it is
        }
    }
}

/// A pod's network namespace.
#[derive(Clone)]
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) netns: PathBuf,
}

impl Pod {
    /// The same pod under another name.
    pub(crate) fn with_id(&self, id: &str) -> Pod {
        Pod { id: id.to_owned(), netns: self.netns.clone() }
    }

    /// The node's end of the pod's link.
    pub(crate) fn host_ifname(&self) -> String {
        self.attachment().host_ifname()
    }

    pub(crate) fn attachment(&self) -> Attachment {
        let holder = Holder { container_id: self.id.clone(), ifname: "eth0".to_owned() };
        Attachment { holder, network: "cambric".to_owned(), pod: Some("default/web".to_owned()), uid: None }
    }

    /// The namespace goes, as after a crash of the runtime.
    pub(crate) fn vanish(&self) {
        umount2(&self.netns, MntFlags::MNT_DETACH).expect("unmount");
        fs::remove_file(&self.netns).expect("remove");
    }
}

/// Somewhere code can run.
pub(crate) trait Place {
    fn run<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T;
}

impl Place for Host {
    fn run<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        act()
    }
}

impl Place for Pod {
    fn run<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let netns = File::open(&self.netns).expect("namespace");
        let entered = thread::spawn(move || {
            setns(netns, CloneFlags::CLONE_NEWNET).expect("enter");
            act()
        });
        entered.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    }
}

/// One call of the plugin, to be changed before it runs.
#[derive(Clone)]
pub(crate) struct Call {
    binary: PathBuf,
    environment: Vec<(String, String)>,
    stdin: String,
}

impl Call {
    pub(crate) fn set(mut self, name: &str, value: &str) -> Call {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another path to execute.
    pub(crate) fn binary(self, binary: &Path) -> Call {
        Call { binary: binary.to_owned(), ..self }
    }

    pub(crate) fn stdin(self, stdin: impl ToString) -> Call {
        Call { stdin: stdin.to_string(), ..self }
    }

    /// Changes one key of the configuration.
    pub(crate) fn config(self, key: &str, value: Value) -> Call {
        let mut config: Value = serde_json::from_str(&self.stdin).expect("configuration");
        config[key] = value;
        self.stdin(config)
    }

    pub(crate) fn run(self) -> Answer {
        let output = self.start().wait_with_output().expect("plugin ends");
        Answer {
            success: output.status.success(),
            json: serde_json::from_slice(&output.stdout).unwrap_or_default(),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// Kills the plugin when its time is over; true if it was done before.
    pub(crate) fn run_and_kill_after(self, time: Duration) -> bool {
        let mut child = self.start();
        thread::sleep(time);
        child.kill().expect("kill");
        child.wait().expect("plugin ends").success()
    }

    fn start(self) -> Child {
        let mut child = Command::new(self.binary)
            .env_clear()
            .envs(self.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("plugin starts");
        // A plugin that never reads is allowed to close the pipe first.
        let _ = child.stdin.take().expect("stdin").write_all(self.stdin.as_bytes());
        child
    }
}

/// What the plugin answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) success: bool,
    pub(crate) json: Value,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn expect_success(&self) -> &Answer {
        assert!(self.success, "{self:?}");
        self
    }

    /// An error with this code that mentions these words somewhere.
    #[track_caller]
    pub(crate) fn expect_error(&self, code: u32, words: &str) -> &Answer {
        assert!(!self.success, "{self:?}");
        assert_eq!(self.json["code"], code, "{}", self.stdout);
        assert!(self.stdout.contains(words), "no {words:?} in {}", self.stdout);
        self
    }

    /// The pod's addresses, in the order of the result.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let ips = self.json["ips"].as_array().expect("ips");
        let address = |ip: &Value| ip["address"].as_str()?.split('/').next()?.parse().ok();
        ips.iter().map(|ip| address(ip).expect("address")).collect()
    }
}

/// A TCP connection; returns the client's address as the server sees it.
#[track_caller]
pub(crate) fn tcp(client: &impl Place, server: &impl Place, address: IpAddr) -> IpAddr {
    let listener = server.run(move || TcpListener::bind((address, 0))).expect("listen");
    let target = listener.local_addr().expect("bound");
    let connected = client.run(move || TcpStream::connect_timeout(&target, LIMIT));
    let _open = connected.unwrap_or_else(|error| panic!("TCP to {target}: {error}"));
    listener.accept().expect("accept").1.ip()
}

/// A datagram there and back; returns the client's address as the server sees it.
#[track_caller]
pub(crate) fn udp(client: &impl Place, server: &impl Place, address: IpAddr) -> IpAddr {
    let bind = |address: IpAddr| {
        move || {
            let socket = UdpSocket::bind((address, 0)).expect("bind");
            socket.set_read_timeout(Some(LIMIT)).expect("timeout");
            socket
        }
    };
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let (server, client) = (server.run(bind(address)), client.run(bind(any)));
    let mut buffer = [0; 16];
    let target: SocketAddr = server.local_addr().expect("bound");
    client.send_to(b"there", target).expect("send");
    let (_, source) =
        server.recv_from(&mut buffer).unwrap_or_else(|error| panic!("UDP to {target}: {error}"));
    server.send_to(b"back", source).expect("send");
    let (_, answerer) = client.recv_from(&mut buffer).expect("answer");
    assert_eq!(answerer, target);
    source.ip()
}

/// Runs `ip` here and returns what it prints.
#[track_caller]
pub(crate) fn ip(arguments: &str) -> String {
    run(&format!("ip {arguments}"))
}

/// Runs a tool here, words parted by spaces, and returns what it prints.
#[track_caller]
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split(' ');
    let tool = words.next().unwrap_or_default();
    let output = Command::new(tool).args(words).output().unwrap_or_else(|error| panic!("{tool}: {error}"));
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Waits for something that the kernel does in its own time.
#[track_caller]
pub(crate) fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < LIMIT, "waited too long for {what}");
        thread::yield_now();
    }
}
