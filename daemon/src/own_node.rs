//! For tests: a node of one's own.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::Uid;

/// Runs a test in a network namespace of its own, which has `lo`, or says why not.
pub(crate) fn on_a_node<T: Future<Output = ()>>(test: impl FnOnce() -> T + Send + 'static) {
    if !Uid::effective().is_root() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "needs root");
        println!("not run: needs root");
        return;
    }
    let node = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
        ip(["link set lo up".to_owned()]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("runtime").block_on(test());
    });
    node.join().expect("it went well");
}

/// Runs commands of `ip`, one by one; all are done when this returns.
pub(crate) fn ip(commands: impl IntoIterator<Item = String>) {
    let lines: Vec<String> = commands.into_iter().collect();
    let started = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn();
    let mut batch = started.expect("iproute2 is installed");
    batch.stdin.take().expect("stdin").write_all(lines.join("\n").as_bytes()).expect("written");
    assert!(batch.wait().expect("ended").success(), "{lines:?}");
}
