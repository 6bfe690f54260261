//! `cambric cleanup` on a node with much of others on it: `labs/two-switches`, where `c1` is a plain host at first.
//!
//! Proves:
//! - a node that had Cambric on it, with pods, policies, routes over two switches, and has it no more, is as it was
//!   before in everything that [`Dump`] looks at, after `cambric cleanup`;
//! - the same after a daemon that was killed and with pods that are still wired, if `--with-pods` says so;
//! - while a daemon runs, and while pods are wired and nobody said so, it refuses and nothing has changed; nor has it
//!   after `--dry-run`;
//! - what others have, however alike it is named, stays;
//! - CAP_NET_ADMIN is enough for all of it.

#[path = "../common/mod.rs"]
mod common;
mod dump;
mod others;

use std::fs::{self, File};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cambric_lab::{Lab, Node, Spawned, fabric, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use common::{LabFolder, Need, in_lab, machine_has};
use dump::Dump;

const LIMIT: Duration = Duration::from_secs(60);

/// Folders of ours that a lab's node has from its making.
const MADE_BY_THE_LAB: [&str; 3] = ["/run/cambric", "/var/lib/cambric", "/opt/cni/bin/cambric-cni"];

const POLICY: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: from-the-other-node
  namespace: default
spec:
  podSelector: {}
  policyTypes: [Ingress]
  ingress:
  - from:
    - ipBlock: { cidr: 198.51.100.64/26, except: [198.51.100.65/32] }
    - ipBlock: { cidr: '2001:db8:102::/64' }
    ports:
    - { protocol: TCP, port: 7007 }
";

#[test]
fn a_node_is_as_it_was_before_cambric() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Netfilter, Need::Cambric]) {
        return;
    }
    let folder = LabFolder::copy_of("labs/two-switches");
    c1_is_a_plain_host(&folder);
    folder.write("manifests/policy.yaml", POLICY);
    in_lab(&folder, |lab| {
        let host = Host::prepare(lab)?;
        pods_are_gone_before(&host)?;
        daemon_is_killed_and_pods_are_there(&host)
    });
}

/// It forwards nothing and nobody starts a daemon on it.
fn c1_is_a_plain_host(folder: &LabFolder) {
    let file = fs::read_dir(folder.path())
        .expect("the lab's folder")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().ends_with(".clab.yml"))
        .expect("the lab's file");
    let text = fs::read_to_string(&file).expect("the lab's file");
    let node = "    c1:\n      kind: linux\n      group: node\n";
    assert!(text.contains(node), "{text}");
    let host = "    c1:\n      kind: linux\n      image: debian:bookworm-slim\n      binds:\n        \
                - manifests:/etc/cambric/manifests:ro\n      sysctls:\n        net.ipv4.ip_forward: 0\n        \
                net.ipv6.conf.all.forwarding: 0\n";
    fs::write(file, text.replace(node, host)).expect("writing the lab's file");
}

/// `c1`, and what it was before Cambric.
struct Host<'a> {
    lab: &'a Lab,
    node: Node,
    before: Dump,
}

impl<'a> Host<'a> {
    fn prepare(lab: &'a Lab) -> Result<Host<'a>> {
        let node = lab.node("c1")?;
        for path in MADE_BY_THE_LAB {
            node.run_ok(&["rm", "-r", path])?;
        }
        others::settle(&node)?;
        let before = Dump::of(&node)?;
        println!("before Cambric: {before}");
        Ok(Host { lab, node, before })
    }

    /// Cambric with all it can have: routes over two switches, the plugin, pods, policies.
    fn use_cambric(&self, pods: &[&str]) -> Result<Daemon<'a>> {
        let node = &self.node;
        println!("{}", node.run_ok(&["cambric", "install", "--cni-bin-dir", "/opt/cni/bin"])?.trim_end());
        let log = File::create(node.log("cambricd.log"))?;
        let words = ["cambricd", "--node", "c1", "--source", "dir:/etc/cambric/manifests"];
        let daemon = Daemon { process: node.spawn(&words, log.into())?, lab: self.lab };
        poll::until("the node to be ready", LIMIT, || fabric::is_whole(node))?;
        poll::until("routes over both switches", LIMIT, || fabric::is_spread(node, 2))?;
        for pod in pods {
            self.lab.add_pod("c1", pod)?;
        }
        let now = Dump::of(node)?;
        println!("with Cambric:   {now}");
        let new = self.before.new_in(&now);
        for thing in [
            "proto 203",
            "group 203",
            "proto 204",
            "table ip cambric",
            "table ip6 cambric",
            "table arp cambric",
            "create cam4self",
            "create cam4n",
            "unreachable 198.51.100.0/26",
            "10-cambric.conflist",
            "/opt/cni/bin/cambric-cni",
            "/run/cambric/fib.json",
            "/run/cambric/sysctls.json",
            "/run/cambric/ipam",
            "/var/lib/cambric/manifests.json",
            "net.ipv4.ip_forward = 1",
            "net.ipv6.conf.all.forwarding = 1",
            "net.ipv4.conf.all.accept_redirects = 0",
        ] {
            ensure!(new.iter().any(|line| line.contains(thing)), "no {thing} in\n{}", new.join("\n"));
        }
        Ok(daemon)
    }

    /// With the rights that the DaemonSet of `deploy/cleanup` has, and no more.
    fn cleanup(&self, words: &[&str]) -> Result<Said> {
        let rights = ["setpriv", "--bounding-set", "-all,+net_admin", "--no-new-privs"];
        let Output { status, stdout, stderr } =
            self.node.run(&[&rights[..], &["cambric", "cleanup"], words].concat())?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Ok(Said { code: status.code().context("no signal")?, out: text(&stdout), err: text(&stderr) })
    }

    /// It is refused for this reason and nothing has changed.
    fn is_refused(&self, words: &[&str], reason: &str) -> Result<()> {
        let before = Dump::of(&self.node)?;
        let said = self.cleanup(words)?;
        ensure!(said.code == 1 && said.err.contains(reason), "{said:?}");
        print!("cambric cleanup {}\n{}", words.join(" "), said.err);
        before.is_the_same("before it was refused", &Dump::of(&self.node)?)
    }

    /// Everything goes, and a second time there is nothing.
    fn goes(&self, words: &[&str]) -> Result<()> {
        let dry = self.cleanup(&[words, &["--dry-run"]].concat())?;
        let said = self.cleanup(words)?;
        println!("cambric cleanup {}\n{}{}", words.join(" "), said.out, said.err);
        ensure!(said.code == 0 && said.err.is_empty(), "{said:?}");
        let announced = dry.out.replace("would remove ", "removed ").replace("would put back ", "put back ");
        let done = |text: &str| -> Vec<String> {
            let told =
                text.lines().filter(|line| line.starts_with("removed ") || line.starts_with("put back "));
            let mut told: Vec<String> = told.map(str::to_owned).collect();
            told.sort();
            told
        };
        ensure!(done(&announced) == done(&said.out), "announced was\n{announced}");
        let again = self.cleanup(words)?;
        ensure!(again.out == "nothing of Cambric's is on this node\n", "{again:?}");
        Ok(())
    }

    fn is_as_before(&self) -> Result<()> {
        let now = Dump::of(&self.node)?;
        println!("after cleanup:  {now}");
        self.before.is_the_same("before Cambric", &now)
    }
}

#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

/// A daemon of `c1` that the lab knows nothing of.
struct Daemon<'a> {
    process: Spawned,
    lab: &'a Lab,
}

impl Daemon<'_> {
    fn end(mut self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal)?;
        self.process.wait()?;
        Ok(())
    }
}

fn pods_are_gone_before(host: &Host<'_>) -> Result<()> {
    let daemon = host.use_cambric(&["web-0", "web-1"])?;
    host.is_refused(&["--with-pods"], "a cambricd runs on this node (it holds /run/cambric/cambricd.lock)")?;
    let lab = daemon.lab;
    daemon.end(Signal::SIGTERM)?;
    host.is_refused(
        &[],
        "2 pods are still wired: default/web-0, default/web-1; drain the node or say --with-pods",
    )?;
    for pod in ["web-0", "web-1"] {
        lab.pod("c1", pod)?.del()?;
    }
    let before = Dump::of(&host.node)?;
    ensure!(host.cleanup(&["--dry-run"])?.code == 0, "pods are gone");
    before.is_the_same("before --dry-run", &Dump::of(&host.node)?)?;
    host.goes(&[])?;
    host.is_as_before()
}

fn daemon_is_killed_and_pods_are_there(host: &Host<'_>) -> Result<()> {
    let daemon = host.use_cambric(&["db-0"])?;
    let lab = daemon.lab;
    daemon.end(Signal::SIGKILL)?;
    host.is_refused(&[], "1 pod is still wired: default/db-0")?;
    host.goes(&["--with-pods"])?;
    let pod = lab.pod("c1", "db-0")?;
    ensure!(!pod.run_ok(&["ip", "link", "show"])?.contains("eth0"), "it is cut off");
    // What of the pod is not Cambric's: its network namespace. The plugin is gone, so nobody can call it.
    ensure!(pod.del().is_err(), "there is no plugin");
    host.is_as_before()
}
