//! `cambric cleanup` on a node made of folders and a network namespace: what it removes, what it leaves, when it refuses.
//!
//! The whole of it, with a daemon and pods before, is in topology-tests/tests/cleanup.rs.

use std::fs;
use std::io::{PipeReader, Read, pipe};
use std::os::unix::fs::symlink;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Its namespace goes with the test's thread.
struct Node {
    root: TempDir,
}

fn on_a_node(test: impl FnOnce(&Node) + Send + 'static) {
    if !Uid::effective().is_root() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "needs root");
        println!("not run: needs root");
        return;
    }
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
        let root = tempfile::tempdir().expect("folder");
        test(&Node { root });
    });
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

const FOLDERS: [&str; 5] = ["run-dir", "state-dir", "cni-bin-dir", "cni-conf-dir", "sysctl-dir"];

impl Node {
    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("in a folder")).expect("own folder");
        fs::write(path, text).expect("own folder");
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cambric"));
        command.args(words);
        for folder in FOLDERS {
            command.arg(format!("--{folder}")).arg(self.path(folder));
        }
        command
    }

    /// Exit code, standard output, standard error; the root of all folders is not among it.
    fn cleanup(&self, words: &[&str]) -> (i32, String, String) {
        let output = self.command(&[&["cleanup"], words].concat()).output().expect("cambric runs");
        let root = format!("{}/", self.root.path().display());
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8").replace(&root, "");
        (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
    }

    /// All names below the root, with what files have in them.
    fn all(&self) -> Vec<String> {
        let mut all = Vec::new();
        list(self.root.path(), self.root.path(), &mut all);
        all.sort();
        all
    }

    /// What an installation leaves, and things of others beside it.
    fn install(&self) {
        for name in ["10-cambric.conflist", ".10-cambric.conflist.tmp", "05-other.conflist"] {
            self.file(&format!("cni-conf-dir/{name}"), "{}");
        }
        for name in ["cambric-cni", "loopback", ".cambric-cni.new"] {
            self.file(&format!("cni-bin-dir/{name}"), "a program");
        }
        self.file("cni-bin-dir/.cambric-cni.lock", "");
        self.file("cni-bin-dir/bridge", "another program");
        for name in
            ["cambricd.lock", "cambricd.sock", "fib.json", "fib.json.new", "ready", "requests", "disabled"]
        {
            self.file(&format!("run-dir/{name}"), "");
        }
        self.file("run-dir/ipam/cambric/lock", "");
        self.file("run-dir/uids/camce119f8daff5", "");
        self.file("state-dir/manifests.json", "{}");
        self.file("state-dir/claims.version-2.json", "{}");
        self.file("state-dir/cluster/pods.jsonl", "");
    }

    /// What the daemon wrote down, and the values that are there now.
    fn sysctls(&self, sysctls: &[(&str, &str, &str, &str)]) {
        let mut found = serde_json::Map::new();
        for (name, before, ours, now) in sysctls {
            found.insert((*name).to_owned(), json!({ "before": before, "ours": ours }));
            self.file(&format!("sysctl-dir/{name}"), &format!("{now}\n"));
        }
        self.file("run-dir/sysctls.json", &json!({ "version": 1, "found": found }).to_string());
    }

    fn sysctl(&self, name: &str) -> String {
        fs::read_to_string(self.path("sysctl-dir").join(name)).expect("there").trim().to_owned()
    }
}

/// A cleanup that waits at each line until it is read: at most two of its steps are ahead of the line that was read last.
struct Steps {
    child: Child,
    lines: PipeReader,
}

impl Steps {
    /// One write is one packet of such a pipe, and this one has room for one.
    fn of(node: &Node, words: &[&str]) -> Steps {
        let (lines, told) = pipe().expect("a pipe");
        fcntl(&told, FcntlArg::F_SETPIPE_SZ(4096)).expect("one packet");
        fcntl(&told, FcntlArg::F_SETFL(OFlag::O_DIRECT)).expect("packets");
        let mut command = node.command(&[&["cleanup"], words].concat());
        let child = command.stdout(told).stderr(Stdio::piped()).spawn().expect("cambric runs");
        Steps { child, lines }
    }

    /// The next line, or nothing at its end.
    fn line(&mut self) -> String {
        let mut packet = [0; 4096];
        let bytes = self.lines.read(&mut packet).expect("a line");
        String::from_utf8_lossy(&packet[..bytes]).into_owned()
    }

    fn until(&mut self, what: &str) {
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "it never told {what:?}");
            if line.contains(what) {
                return;
            }
        }
    }

    /// Exit code, all lines that were not read yet, standard error.
    fn end(mut self) -> (i32, String, String) {
        let mut rest = String::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            rest += &line;
        }
        let mut errors = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut errors).expect("UTF-8");
        (self.child.wait().expect("waited").code().expect("no signal"), rest, errors)
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn list(root: &Path, folder: &Path, all: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.strip_prefix(root).expect("below it").display().to_string();
        if path.is_symlink() {
            all.push(format!("{name} -> {}", fs::read_link(&path).expect("a link").display()));
        } else if path.is_dir() {
            all.push(format!("{name}/"));
            list(root, &path, all);
        } else {
            all.push(format!("{name}: {}", fs::read_to_string(&path).unwrap_or_default().trim()));
        }
    }
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("ip");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A pod's link as the plugin names and labels it.
fn wire(ifname: &str, pod: &str, container: &str) {
    ip(&format!("link add {ifname} type veth peer name p-{container}"));
    let alias = format!("{pod} eth0 {container} cambric");
    let output = Command::new("ip").args(["link", "set", ifname, "alias", &alias]).output().expect("ip");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn files_of_ours_go_in_their_order_and_those_of_others_stay() {
    on_a_node(|node| {
        node.install();
        let (code, out, err) = node.cleanup(&[]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        let expected = "\
removed cni-conf-dir/10-cambric.conflist
removed cni-conf-dir/.10-cambric.conflist.tmp
removed cni-bin-dir/loopback
removed cni-bin-dir/.cambric-cni.new
removed cni-bin-dir/cambric-cni
removed cni-bin-dir/.cambric-cni.lock
removed run-dir/ready
removed run-dir/cambricd.sock
removed run-dir/disabled
removed run-dir/fib.json
removed run-dir/fib.json.new
removed run-dir/ipam
removed run-dir/requests
removed run-dir/uids
removed state-dir/claims.version-2.json
removed state-dir/cluster
removed state-dir/manifests.json
removed state-dir
removed run-dir/cambricd.lock
removed run-dir
20 removed
";
        assert_eq!(out, expected);
        assert_eq!(
            node.all(),
            [
                "cni-bin-dir/",
                "cni-bin-dir/bridge: another program",
                "cni-conf-dir/",
                "cni-conf-dir/05-other.conflist: {}"
            ]
        );
        assert_eq!(
            node.cleanup(&[]),
            (0, "nothing of Cambric's is on this node\n".to_owned(), String::new())
        );
    });
}

#[test]
fn dry_run_tells_the_same_things_and_changes_nothing() {
    on_a_node(|node| {
        node.install();
        node.sysctls(&[("ipv4/ip_forward", "0", "1", "1")]);
        ip("link set lo up");
        ip("route add unreachable 10.244.1.0/24 metric 203 proto 203");
        let before = (node.all(), ip("route show table all"));
        let (code, out, err) = node.cleanup(&["--dry-run"]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert_eq!((node.all(), ip("route show table all")), before);
        let told: Vec<&str> = out.lines().collect();
        assert_eq!(told.last(), Some(&"22 to remove, 1 to put back; nothing was changed"));

        let (code, done, _) = node.cleanup(&[]);
        assert_eq!(code, 0);
        assert_eq!(done.lines().last(), Some("22 removed, 1 put back"));
        let things = |text: &str, verb: &str| -> Vec<String> {
            text.lines().filter_map(|line| Some(line.strip_prefix(verb)?.trim().to_owned())).collect()
        };
        assert_eq!(things(&out, "would remove"), things(&done, "removed"));
        assert_eq!(things(&out, "would put back"), things(&done, "put back"));
    });
}

#[test]
fn foreign_loopback_and_foreign_files_in_our_folders_stay() {
    on_a_node(|node| {
        node.install();
        node.file("cni-bin-dir/loopback", "theirs");
        node.file("run-dir/notes.txt", "theirs");
        node.file("run-dir/fibre", "theirs");
        let (code, out, err) = node.cleanup(&[]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.contains("left run-dir: others have files in it: fibre, notes.txt\n"), "{out}");
        let left: Vec<String> = node.all().into_iter().filter(|name| name.ends_with("theirs")).collect();
        assert_eq!(
            left,
            ["cni-bin-dir/loopback: theirs", "run-dir/fibre: theirs", "run-dir/notes.txt: theirs"]
        );
        let (code, out, _) = node.cleanup(&[]);
        assert_eq!(code, 0);
        assert!(out.ends_with("nothing of Cambric's is on this node\n"), "{out}");
    });
}

#[test]
fn loopback_that_is_a_link_of_an_earlier_version_goes() {
    on_a_node(|node| {
        node.install();
        fs::remove_file(node.path("cni-bin-dir/loopback")).expect("own file");
        symlink("cambric-cni", node.path("cni-bin-dir/loopback")).expect("a link");
        assert_eq!(node.cleanup(&[]).0, 0);
        assert!(!node.path("cni-bin-dir/loopback").is_symlink());
    });
}

#[test]
fn running_daemon_is_a_reason_to_touch_nothing() {
    on_a_node(|node| {
        node.install();
        let lock = fs::File::open(node.path("run-dir/cambricd.lock")).expect("own file");
        let held =
            Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno).expect("free");
        let before = node.all();
        let words = "cambric: a cambricd runs on this node (it holds run-dir/cambricd.lock); stop it first\n";
        assert_eq!(node.cleanup(&[]), (1, "nothing was touched\n".to_owned(), words.to_owned()));
        let (code, out, err) = node.cleanup(&["--dry-run"]);
        assert_eq!((code, err.as_str()), (1, words));
        assert!(out.contains("would remove run-dir/fib.json\n"), "{out}");
        assert_eq!(node.all(), before);
        drop(held);
        assert_eq!(node.cleanup(&[]).0, 0);
    });
}

/// Whether a daemon could take the lock now.
fn can_start(node: &Node) -> bool {
    let path = node.path("run-dir/cambricd.lock");
    let file =
        fs::OpenOptions::new().create(true).truncate(false).write(true).open(path).expect("own folder");
    Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok()
}

#[test]
fn no_daemon_can_start_under_it_though_there_was_no_lock_before() {
    on_a_node(|node| {
        node.install();
        fs::remove_file(node.path("run-dir/cambricd.lock")).expect("own file");
        let mut steps = Steps::of(node, &[]);
        steps.until("cni-conf-dir/10-cambric.conflist");
        assert!(!can_start(node));
        let (code, out, err) = steps.end();
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert!(out.ends_with("/run-dir\n19 removed\n") && !out.contains("cambricd.lock"), "{out}");
        assert!(!node.path("run-dir").exists());

        // Where nothing is, nothing stays and nothing is told.
        let words = "nothing of Cambric's is on this node\n";
        let nobody = node.all();
        assert_eq!(node.cleanup(&[]), (0, words.to_owned(), String::new()));
        wire("camce119f8daff5", "default/web-0", "a1b2");
        assert_eq!(node.cleanup(&[]).0, 1, "refused");
        assert_eq!(node.all(), nobody);
    });
}

#[test]
fn daemon_can_start_while_it_only_tells_what_it_would_do() {
    on_a_node(|node| {
        node.install();
        let mut steps = Steps::of(node, &["--dry-run"]);
        steps.until("cni-conf-dir/10-cambric.conflist");
        assert!(can_start(node));
        assert_eq!(steps.end().0, 0);
    });
}

/// Its ADD was past the gate when the mark went.
#[test]
fn pod_that_is_wired_while_the_rules_go_is_cut_off_or_told() {
    for (words, expected) in [(&["--with-pods"][..], 0), (&[], 1)] {
        on_a_node(move |node| {
            node.install();
            for family in ["ip", "ip6", "arp"] {
                let made = Command::new("nft").args(["add", "table", family, "cambric"]).status();
                assert!(made.expect("nft").success());
            }
            let mut steps = Steps::of(node, words);
            steps.until("table ");
            wire("camce119f8daff5", "default/web-0", "a1b2");
            let (code, out, err) = steps.end();
            assert_eq!(code, expected, "{out}{err}");
            let is_cut_off = !ip("link show").contains("camce119f8daff5");
            assert_eq!(is_cut_off, code == 0, "{out}{err}");
            if code != 0 {
                assert!(err.contains("wired meanwhile: 1 pod is still wired: default/web-0"), "{err}");
            }
        });
    }
}

#[test]
fn wired_pods_are_named_and_cut_off_only_if_that_was_said() {
    on_a_node(|node| {
        node.install();
        // Names as they follow from container and interface.
        wire("camce119f8daff5", "default/web-0", "a1b2");
        ip("link add camera0 type veth peer name lens0");
        let before = node.all();
        let (code, out, err) = node.cleanup(&[]);
        let words = "cambric: 1 pod is still wired: default/web-0; drain the node or say --with-pods, which cuts it off\n";
        assert_eq!((code, out.as_str(), err.as_str()), (1, "nothing was touched\n", words));
        assert_eq!(node.all(), before);
        assert!(ip("link show").contains("camce119f8daff5"));

        let (code, out, err) = node.cleanup(&["--with-pods"]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.contains("removed link camce119f8daff5 of default/web-0\n"), "{out}");
        let links = ip("link show");
        assert!(!links.contains("camce119f8daff5") && links.contains("camera0"), "{links}");
    });
}

#[test]
fn sysctls_go_back_where_they_are_ours_still() {
    on_a_node(|node| {
        node.sysctls(&[
            ("ipv4/ip_forward", "0", "1", "1"),
            ("ipv4/conf/eth0/forwarding", "1", "1", "1"),
            ("ipv4/conf/all/accept_redirects", "1", "0", "0"),
            ("ipv6/conf/all/forwarding", "0", "1", "0"),
            ("ipv6/conf/eth0/accept_ra", "1", "2", "0"),
        ]);
        let (code, out, err) = node.cleanup(&[]);
        assert_eq!((code, err.as_str()), (0, ""));
        let expected = "\
put back sysctl net/ipv4/ip_forward: 0, was 1
put back sysctl net/ipv4/conf/all/accept_redirects: 1, was 0
left sysctl net/ipv6/conf/eth0/accept_ra: it is 0, Cambric made it 2 and found it 1
removed run-dir/sysctls.json
removed run-dir
2 removed, 2 put back, 1 left
";
        assert_eq!(out, expected);
        assert_eq!(
            (node.sysctl("ipv4/ip_forward"), node.sysctl("ipv6/conf/eth0/accept_ra")),
            ("0".into(), "0".into())
        );
    });
}

#[test]
fn forwarding_stays_for_others_if_that_was_said() {
    on_a_node(|node| {
        let sysctls = [("ipv4/ip_forward", "0", "1", "1"), ("ipv6/conf/eth0/accept_ra", "1", "2", "2")];
        node.sysctls(&sysctls);
        let (code, out, err) = node.cleanup(&["--keep-forwarding"]);
        assert_eq!((code, err.as_str()), (0, ""));
        let expected = "\
left sysctls: forwarding stays as it is, as --keep-forwarding says
removed run-dir/sysctls.json
removed run-dir
2 removed, 1 left
";
        assert_eq!(out, expected);
        let now = sysctls.map(|(name, ..)| node.sysctl(name));
        assert_eq!(now, ["1", "2"]);
    });
}

/// The kernel sets the interfaces with the switch: those that forwarded before do so again.
#[test]
fn interface_that_forwarded_before_the_daemon_does_so_after_it() {
    on_a_node(|node| {
        ip("link add eth9 type bridge");
        symlink("/proc/sys/net", node.path("sysctl-dir")).expect("a link");
        let real = |name: &str| format!("/proc/sys/net/{name}");
        let read = |name: &str| fs::read_to_string(real(name)).expect(name).trim().to_owned();
        fs::write(real("ipv4/conf/eth9/forwarding"), "1").expect("sysctl");
        fs::write(real("ipv4/ip_forward"), "1").expect("sysctl");
        let found = json!({
            "ipv4/ip_forward": { "before": "0", "ours": "1" },
            "ipv4/conf/eth9/forwarding": { "before": "1", "ours": "1" },
            "ipv4/conf/lo/forwarding": { "before": "0", "ours": "1" },
            "ipv4/conf/gone0/forwarding": { "before": "0", "ours": "1" },
        });
        node.file("run-dir/sysctls.json", &json!({ "version": 1, "found": found }).to_string());
        let (code, out, err) = node.cleanup(&[]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        let now = ["ipv4/ip_forward", "ipv4/conf/eth9/forwarding", "ipv4/conf/lo/forwarding"].map(read);
        assert_eq!(now, ["0", "1", "0"], "{out}");
    });
}

#[test]
fn step_that_fails_is_told_and_all_others_are_done() {
    on_a_node(|node| {
        node.install();
        node.file("run-dir/sysctls.json", "{\"version\":7}");
        ip("link set lo up");
        ip("link add eth0 type veth peer name tor0");
        ip("addr add 10.1.0.2/24 dev eth0");
        ip("link set tor0 up");
        ip("link set eth0 up");
        ip("nexthop add id 203000001 via 10.1.0.1 dev eth0 proto 203");
        ip("route add 30.0.0.0/24 nhid 203000001 proto 99");
        ip("route add unreachable 10.244.1.0/24 metric 203 proto 203");
        let (code, out, err) = node.cleanup(&["-o", "json"]);
        assert_eq!(code, 1);
        let expected = "\
cambric: cannot remove next hop 203000001: route 30.0.0.0/24 of protocol 99 stands on it
cambric: cannot put back sysctls: run-dir/sysctls.json: it is of version 7, this one knows 1
";
        assert_eq!(err, expected);
        let report: Value = serde_json::from_str(&out).expect("a document");
        let outcome = |what: &str| {
            let steps = report["steps"].as_array().into_iter().flatten();
            steps.filter(|step| step["what"] == what).map(|step| step["outcome"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(outcome("unreachable route 10.244.1.0/24"), ["removed"]);
        assert_eq!(outcome("next hop 203000001"), ["failed"]);
        assert_eq!(outcome("sysctls"), ["failed"]);
        assert_eq!(outcome("state-dir"), ["removed"]);
        assert_eq!((&report["refused"], &report["dry_run"]), (&json!([]), &json!(false)));
        assert_eq!(
            node.all().iter().filter(|name| name.starts_with("run-dir")).count(),
            2,
            "record and folder stay"
        );
    });
}

#[test]
fn daemon_set_waits_when_all_is_done_and_ends_at_a_signal() {
    struct Running(Child);
    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    on_a_node(|node| {
        node.install();
        let mut command = node.command(&["cleanup", "--stay"]);
        let mut running = Running(command.stdout(Stdio::null()).spawn().expect("cambric runs"));
        let until = Instant::now() + Duration::from_secs(20);
        while node.path("run-dir").exists() {
            assert!(Instant::now() < until, "it is not done");
            sleep(Duration::from_millis(5));
        }
        assert_eq!(running.0.try_wait().expect("waited"), None);
        kill(Pid::from_raw(running.0.id() as i32), Signal::SIGTERM).expect("it is there");
        assert_eq!(running.0.wait().expect("waited").code(), Some(0));
    });
    on_a_node(|node| {
        node.file("run-dir/sysctls.json", "{\"version\":7}");
        assert_eq!(node.cleanup(&["--stay"]).0, 1, "it does not wait when it failed");
    });
}

/// As a container has them: the folders themselves are mounts, which nobody can remove.
#[test]
fn folders_that_are_mounted_are_left_empty_and_that_is_no_failure() {
    on_a_node(|node| {
        unshare(CloneFlags::CLONE_NEWNS).expect("new mounts");
        let mount_at = |source: Option<&Path>, target: &Path, flags: MsFlags| {
            mount(source, target, None::<&str>, flags, None::<&str>).expect("a mount");
        };
        mount_at(None, Path::new("/"), MsFlags::MS_REC | MsFlags::MS_PRIVATE);
        node.install();
        for folder in ["run-dir", "state-dir"] {
            let folder = node.path(folder);
            mount_at(Some(&folder), &folder, MsFlags::MS_BIND);
        }
        let (code, out, err) = node.cleanup(&[]);
        assert_eq!((code, err.as_str(), out.lines().last()), (0, "", Some("18 removed")), "{out}");
        for folder in ["run-dir", "state-dir"] {
            assert_eq!(fs::read_dir(node.path(folder)).expect("it is there").count(), 0, "{folder}");
            umount2(&node.path(folder), MntFlags::MNT_DETACH).expect("a mount");
        }
        assert_eq!(node.cleanup(&[]).1, "removed state-dir\nremoved run-dir\n2 removed\n");
    });
}

#[test]
fn words_before_and_behind_are_understood() {
    on_a_node(|node| {
        let before = node.command(&["-o", "json", "cleanup"]).output().expect("cambric runs");
        let behind = node.command(&["cleanup", "-o", "json"]).output().expect("cambric runs");
        assert_eq!(before.stdout, behind.stdout);
        let expected = "{\"dry_run\":false,\"refused\":[],\"steps\":[]}\n";
        assert_eq!(String::from_utf8_lossy(&before.stdout), expected);
        // Behind another word it is a name.
        let mut named = Command::new(env!("CARGO_BIN_EXE_cambric"));
        let asked = named.args(["-s", "/nonexistent", "enable", "cleanup"]).output().expect("cambric runs");
        assert_eq!(asked.status.code(), Some(3));
        let wrong = node.command(&["cleanup", "now"]).output().expect("cambric runs");
        assert_eq!(wrong.status.code(), Some(2));
    });
}
