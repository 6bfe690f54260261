//! A network namespace for each test, and the tools that show what is in it.

use std::panic::resume_unwind;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::Uid;

/// Runs a test in a network namespace of its own, which goes away with the test's thread. Its `lo` is up.
pub(crate) fn in_namespace(test: impl FnOnce() + Send + 'static) {
    if !Uid::effective().is_root() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "needs root");
        println!("not run: needs root");
        return;
    }
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
        run("ip link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

/// Runs a tool and returns what it prints.
pub(crate) fn run(command: &str) -> String {
    try_run(command).unwrap_or_else(|error| panic!("{command}: {error}"))
}

/// Runs a tool that may fail: what it prints, or its errors.
pub(crate) fn try_run(command: &str) -> Result<String, String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().expect("the tool is there");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Whether a tool is there. With CI=true a missing one fails.
pub(crate) fn has(tool: &str) -> bool {
    let there = Command::new(tool).arg("--version").output().is_ok();
    if !there {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{tool} is not there");
        println!("not looked at: {tool} is not there");
    }
    there
}

/// Waits for a condition; 10 s is far beyond what any of them takes.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "not reached: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
