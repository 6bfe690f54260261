//! `down` after an `up` that was killed, at whatever line: no namespace, process, mount, link or file is left.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cambric_lab::poll;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use common::{CAMBRIC_LAB, LabFolder, Need, machine_has, stand_in};

const LIMIT: Duration = Duration::from_secs(30);

/// A lab with something of each kind, and the folder of its binaries and of its state.
struct Crashing {
    lab: LabFolder,
    bin_dir: tempfile::TempDir,
    state_dir: tempfile::TempDir,
}

impl Crashing {
    fn new(name: &str) -> Self {
        let topology = "  defaults: { kind: linux, image: frr }
  nodes:
    r1: { binds: ['conf:/etc/frr/frr.conf'] }
    n1: { image: cambric, labels: { cambric.dev/pods: 1 }, exec: [ip address add 192.0.2.9/32 dev lo] }
    sw: { kind: bridge }
  links:
  - endpoints: ['r1:eth1', 'n1:eth1']
  - endpoints: ['r1:eth2', 'sw:r1']
";
        let lab = LabFolder::new(name, topology);
        lab.write("conf", "router bgp 65001\n bgp router-id 192.0.2.1\n");
        Self { lab, bin_dir: stand_in(), state_dir: tempfile::tempdir().expect("a temporary folder") }
    }

    fn cambric_lab(&self, verb: &str) -> Command {
        let mut command = Command::new(CAMBRIC_LAB);
        command.arg("--bin-dir").arg(self.bin_dir.path()).arg("--state-dir").arg(self.state_dir.path());
        command.arg(verb).arg(self.lab.path());
        command
    }

    fn down(&self) {
        let output = self.cambric_lab("down").output().expect("cambric-lab starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Everything on the host that is of this lab: its name or its folders are in it.
    fn left(&self) -> BTreeSet<String> {
        let mut left = BTreeSet::new();
        let marks = [
            self.lab.name.clone(),
            self.state_dir.path().display().to_string(),
            self.bin_dir.path().display().to_string(),
        ];
        let mut note = |what: &str, text: &str| {
            if marks.iter().any(|mark| text.contains(mark.as_str())) {
                left.insert(format!("{what} {text}"));
            }
        };
        for process in fs::read_dir("/proc").expect("reading /proc").flatten() {
            let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&arguments).replace('\0', " ");
            // A daemon's own words do not name the lab, but its root does.
            let mounts = fs::read_to_string(process.path().join("mountinfo")).unwrap_or_default();
            note("process", &text);
            mounts.lines().for_each(|mount| note("mount", mount));
        }
        for name in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            note("name", &name.path().display().to_string());
        }
        for entry in fs::read_dir(self.state_dir.path()).into_iter().flatten().flatten() {
            note("state", &entry.path().display().to_string());
        }
        left
    }

    fn assert_nothing_left(&self, links_before: &BTreeSet<String>, when: &str) {
        // Commands that the killed `up` had started outside of nodes (`ip -batch`) end by themselves.
        let gone = poll::until("the lab to be gone", LIMIT, || self.left().is_empty());
        assert!(gone.is_ok(), "killed {when}: {:#?}", self.left());
        let links = links();
        assert!(links.is_subset(links_before), "killed {when}: {:?}", links.difference(links_before));
    }
}

/// Links of the host's own namespace, without those that other tests make meanwhile.
fn links() -> BTreeSet<String> {
    let entries = fs::read_dir("/sys/class/net").expect("reading /sys/class/net").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| ["eth1", "eth2", "r1", "sw"].contains(&name.as_str())).collect()
}

fn kill_and_reap(mut up: Child) {
    kill(Pid::from_raw(up.id().cast_signed()), Signal::SIGKILL).expect("it is our child");
    up.wait().expect("it is our child");
}

#[test]
fn nothing_is_left_after_up_is_killed_at_each_step() {
    if !machine_has(&[Need::Root, Need::Frr, Need::CniPlugins]) {
        return;
    }
    let lab = Crashing::new("steps");
    let before = links();
    let mut step = 0;
    loop {
        let mut up = lab.cambric_lab("up").stderr(Stdio::piped()).spawn().expect("cambric-lab starts");
        let says = BufReader::new(up.stderr.take().expect("a pipe"));
        let line = says.lines().nth(step);
        kill_and_reap(up);
        lab.down();
        let Some(line) = line else { break };
        lab.assert_nothing_left(&before, &format!("at {:?}", line.expect("text")));
        step += 1;
    }
    assert!(step >= 6, "up said only {step} lines");
    lab.down();
}

#[test]
fn nothing_is_left_after_up_is_killed_at_any_time() {
    if !machine_has(&[Need::Root, Need::Frr, Need::CniPlugins]) {
        return;
    }
    let lab = Crashing::new("times");
    let before = links();
    let start = Instant::now();
    let whole = lab.cambric_lab("up").stderr(Stdio::null()).status().expect("cambric-lab starts");
    let whole_time = start.elapsed();
    assert!(whole.success());
    lab.down();
    lab.assert_nothing_left(&before, "not at all");
    const TIMES: u32 = 20;
    for number in 0..TIMES {
        // Denser at the beginning, where most is made.
        let delay = whole_time * number * number / (TIMES * TIMES);
        let up = lab.cambric_lab("up").stderr(Stdio::null()).spawn().expect("cambric-lab starts");
        std::thread::sleep(delay); // the time itself is what is tried
        kill_and_reap(up);
        if number % 7 == 6 {
            // A killed one is cleared away by the next `up`, too.
            let again = lab.cambric_lab("up").stderr(Stdio::null()).status().expect("cambric-lab starts");
            assert!(again.success());
        }
        lab.down();
        lab.assert_nothing_left(&before, &format!("after {delay:?}"));
    }
}

#[test]
fn down_needs_no_whole_state_and_no_whole_file() {
    if !machine_has(&[Need::Root, Need::Frr, Need::CniPlugins]) {
        return;
    }
    let lab = Crashing::new("torn");
    let before = links();
    assert!(lab.cambric_lab("up").stderr(Stdio::null()).status().expect("cambric-lab starts").success());
    assert!(lab.left().len() > 10, "the test sees what there is: {:#?}", lab.left());
    let state = lab.state_dir.path().join(&lab.lab.name);
    for name in ["file", "complete", "nodes/n1/spec.json"] {
        fs::write(state.join(name), "{ \"half").expect("it is there");
    }
    lab.lab.write(&format!("{}.clab.yml", lab.lab.name), &format!("name: {}\ntopology: []\n", lab.lab.name));
    lab.down();
    lab.assert_nothing_left(&before, "not at all");
    lab.down();
    assert!(!Path::new(&state).exists());
}
