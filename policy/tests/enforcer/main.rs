//! The enforcer on a real kernel: a network namespace for each test. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails says where")]

#[path = "../kernel/common.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod common;
mod meter;
mod node;
#[path = "../kernel/pod.rs"]
mod wire;

mod drift;
mod judged;
mod meanwhile;
mod measured;
mod refused;
mod start;

/// Runs a test in a network namespace of its own, on a runtime of its own.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    common::in_namespace(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test());
    });
}
