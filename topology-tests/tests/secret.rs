//! A switch that signs its session (TCP MD5, RFC 2385): the key comes from a Secret in the folder of manifests.
//!
//! ```text
//!           f1  FRR 65001 --- eth1 --- c1      f1: IPv4, signed; f1-v6: not signed, and left alone by all of it
//! ```
//!
//! Proves: without the Secret there is no session, not even an attempt at one; with the wrong key there is none, and the
//! reason is told; with the right one it comes; a Secret that goes takes nothing away; another key is taken up by the
//! running daemon, and by one that is started anew; and nobody who looks at all the daemon says and writes where others
//! can read finds a key.

mod common;

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cambric_lab::{Lab, Node, fabric, poll};
use nix::sys::signal::Signal;

use common::operator::{established, peers, problems, sessions, type_in};
use common::{LabFolder, Need, in_lab, machine_has};

const LIMIT: Duration = Duration::from_secs(60);

const PEERS: &str = r#"apiVersion: cambric.dev/v1alpha1
kind: BGPNodeOverride
metadata: { name: c1 }
spec:
  peers:
  - { name: f1, address: 192.0.2.0, asn: 65001, peerConfig: signed }
  - { name: f1-v6, address: "2001:db8:0:1::", asn: 65001, peerConfig: switch }
---
apiVersion: cambric.dev/v1alpha1
kind: BGPPeerConfig
metadata: { name: signed }
spec: { holdTimeSeconds: 9, keepaliveSeconds: 3, secret: { name: tor } }
"#;

const ABSENT: &str =
    "BGPPeerConfig signed: spec.secret: entry \"password\" of Secret \"tor\": there is no such Secret";

const WRONG: &str = "hunter-wrong";
const FIRST: &str = "hunter-first";
const SECOND: &str = "hunter-second";
/// Whoever finds one of them finds a leak.
const KEYS: [&str; 3] = [WRONG, FIRST, SECOND];

struct Signed<'a> {
    folder: &'a LabFolder,
    node: Node,
    switch: Node,
}

#[test]
fn a_session_is_signed_by_the_key_of_a_secret_and_by_no_other() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric]) {
        return;
    }
    let folder = LabFolder::copy_of("labs/one-switch");
    folder.write("manifests/peers.yaml", PEERS);
    let conf = fs::read_to_string(folder.path().join("frr/f1.conf")).expect("the switch's configuration");
    let timers = " neighbor 192.0.2.1 timers 3 9\n";
    assert!(conf.contains(timers), "{conf}");
    folder.write(
        "frr/f1.conf",
        &conf.replace(timers, &format!("{timers} neighbor 192.0.2.1 password {FIRST}\n")),
    );
    in_lab(&folder, |lab: &Lab| {
        let signed = Signed { folder: &folder, node: lab.node("c1")?, switch: lab.node("f1")? };
        signed.has_no_session_without_a_secret()?;
        let undisturbed = signed.unsigned_session()?;
        signed.has_none_with_the_wrong_key()?;
        signed.has_one_with_the_right_key()?;
        signed.keeps_it_when_the_secret_goes()?;
        signed.takes_up_another_key()?;
        let now = signed.unsigned_session()?;
        ensure!(now == undisturbed, "the other session is another one: {undisturbed}, then {now}");
        signed.takes_it_up_again_after_a_crash()?;
        signed.shows_no_key()
    });
}

impl Signed<'_> {
    fn write_secret(&self, key: &str) {
        let secret = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: tor}}\nstringData: {{password: {key}}}\n"
        );
        // Whoever writes a key into a file says first who may read that.
        let path = self.folder.path().join("manifests/secret.yaml");
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        file.expect("the folder of the lab");
        self.folder.write("manifests/secret.yaml", &secret);
    }

    fn until_established(&self, names: &[&str]) -> Result<()> {
        let what = format!("{names:?} to be Established");
        poll::until(&what, LIMIT, || established(&self.node) == names)
            .with_context(|| format!("there are {:?}", peers(&self.node)))
    }

    fn until_problem(&self, says: &str) -> Result<()> {
        poll::until(&format!("the problem {says}"), LIMIT, || {
            problems(&self.node).is_ok_and(|problems| problems.iter().any(|problem| problem.contains(says)))
        })
        .with_context(|| format!("there are {:?}", problems(&self.node)))
    }

    /// The ends of the session that nobody signs.
    fn unsigned_session(&self) -> Result<String> {
        let sessions = sessions(&self.node)?;
        let own = sessions.into_iter().find(|session| session.contains("2001:db8:0:1::"));
        own.context("the IPv6 session is not there")
    }

    fn has_no_session_without_a_secret(&self) -> Result<()> {
        self.until_established(&["f1-v6"])?;
        self.until_problem(ABSENT)?;
        let names: Vec<String> = peers(&self.node)?.iter().map(|peer| peer["name"].to_string()).collect();
        ensure!(names == ["\"f1-v6\""], "nobody is called without a key: {names:?}");
        Ok(())
    }

    fn has_none_with_the_wrong_key(&self) -> Result<()> {
        self.write_secret(WRONG);
        let told =
            || peers(&self.node)?.into_iter().find(|peer| peer["name"] == "f1").context("f1 is no peer");
        let says = "connect: no answer; the peer may have no key or another one (TCP MD5)";
        let is_told = || told().is_ok_and(|peer| peer["last_error"]["what"] == says);
        poll::until(&format!("f1: {says}"), LIMIT, is_told).with_context(|| format!("{:?}", told()))?;
        let peer = told()?;
        ensure!(peer["state"] != "Established" && peer["settings"]["md5"] == true, "{peer}");
        println!("with the wrong key: {} {}", peer["state"], peer["last_error"]["what"]);
        let problems = problems(&self.node)?;
        ensure!(problems.is_empty(), "a wrong key is none that could be known here: {problems:?}");
        Ok(())
    }

    fn has_one_with_the_right_key(&self) -> Result<()> {
        self.write_secret(FIRST);
        self.until_established(&["f1", "f1-v6"])?;
        let text = type_in(&self.node, "cambric show protocols all f1")?;
        ensure!(text.contains("TCP MD5:") && text.contains(" on\n"), "{text}");
        Ok(())
    }

    fn keeps_it_when_the_secret_goes(&self) -> Result<()> {
        let before = sessions(&self.node)?;
        fs::remove_file(self.folder.path().join("manifests/secret.yaml"))
            .context("the file of the Secret")?;
        self.until_problem("secret.yaml: is gone, and is missing: ")?;
        ensure!(sessions(&self.node)? == before, "the sessions are others: {before:?}");
        self.write_secret(FIRST);
        poll::until("nothing to be wrong", LIMIT, || problems(&self.node).is_ok_and(|none| none.is_empty()))?;
        ensure!(sessions(&self.node)? == before, "the sessions are others: {before:?}");
        Ok(())
    }

    /// Each side in its own time.
    fn takes_up_another_key(&self) -> Result<()> {
        self.write_secret(SECOND);
        self.until_established(&["f1-v6"])?;
        let change = format!("neighbor 192.0.2.1 password {SECOND}");
        self.switch.run_ok(&["vtysh", "-c", "conf t", "-c", "router bgp 65001", "-c", &change])?;
        self.until_established(&["f1", "f1-v6"])
    }

    fn takes_it_up_again_after_a_crash(&self) -> Result<()> {
        self.node.kill("cambricd", Signal::SIGKILL)?;
        self.node.start()?;
        self.until_established(&["f1", "f1-v6"])
    }

    fn shows_no_key(&self) -> Result<()> {
        let mut shown = vec![
            fabric::ask(&self.node, &["show", "protocols", "all"])?.to_string(),
            fabric::ask(&self.node, &["show", "status"])?.to_string(),
            type_in(&self.node, "cambric show protocols all")?,
            fs::read_to_string(self.node.log("cambricd.log")).context("the log")?,
        ];
        shown.push(self.node.run_ok(&["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"])?);
        for text in shown {
            for key in KEYS {
                ensure!(!text.contains(key), "a key is in\n{text}");
            }
        }
        let with_key = |mode: &str| {
            let find = format!(
                "find /var/lib/cambric /run/cambric /var/log -type f -perm {mode} -exec grep -l hunter- {{}} + || true"
            );
            self.node.run_ok(&["sh", "-c", &find])
        };
        let of_root = with_key("0600")?;
        ensure!(of_root.contains("manifests.json"), "the next run has the key from there: {of_root:?}");
        let of_all = with_key("/077")?;
        ensure!(of_all.trim().is_empty(), "files that others can read have a key: {of_all}");
        Ok(())
    }
}
