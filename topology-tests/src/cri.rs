//! What kubelet says to a container runtime: calls of the CRI, as values.
//!
//! The gRPC is Debian's Python's: a helper in the node takes a call a line and answers with a line (`cri/cri.py`), over
//! the messages of `cri/cri.proto`. So nothing of gRPC is among the dependencies for the sake of a test.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::Node;

/// Debian's, whose packages the helper needs; another one may be first on the path.
const PYTHON: &str = "/usr/bin/python3";
const HELPER: &str = include_str!("../cri/cri.py");
const PROTO: &str = include_str!("../cri/cri.proto");

/// Where the helper of a node finds the messages.
const PROTO_PATH: &str = "/run/cri.proto";

/// A connection to the runtime of a node; one call at a time.
#[derive(Debug)]
pub struct Cri {
    node: String,
    helper: Mutex<Helper>,
}

#[derive(Debug)]
struct Helper {
    process: Child,
    calls: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Whether Debian's packages for gRPC in Python are there.
pub fn installed() -> bool {
    let mut command = std::process::Command::new(PYTHON);
    command.args(["-c", "import grpc, grpc_tools"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Cri {
    /// Connects to the socket of a runtime in a node.
    ///
    /// # Errors
    /// When the helper does not start; what it complains of is in the node's `cri.log`.
    pub fn connect(node: &Node, socket: &str) -> Result<Self> {
        fs::write(node.path(PROTO_PATH), PROTO)?;
        let mut command = node.command(&[PYTHON, "-c", HELPER, PROTO_PATH, socket])?;
        let log = fs::File::create(node.log("cri.log"))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut process = node.enter(|| command.spawn())?.context("starting the CRI helper")?;
        let calls = process.stdin.take().context("an input")?;
        let answers = BufReader::new(process.stdout.take().context("an output")?);
        let helper = Mutex::new(Helper { process, calls, answers });
        let cri = Self { node: node.name().to_owned(), helper };
        cri.answer().context("the CRI helper")?;
        Ok(cri)
    }

    /// Calls a method of the `RuntimeService`.
    ///
    /// # Errors
    /// What the runtime answers instead.
    pub fn call(&self, method: &str, request: Value) -> Result<Value> {
        self.call_of("RuntimeService", method, request)
    }

    /// Whether the runtime has an image of this name.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn has_image(&self, image: &str) -> Result<bool> {
        let answer = self.call_of("ImageService", "ImageStatus", json!({ "image": { "image": image } }))?;
        Ok(answer["image"]["id"].is_string())
    }

    fn call_of(&self, service: &str, method: &str, request: Value) -> Result<Value> {
        let call = json!({ "service": service, "method": method, "request": request });
        let mut helper = self.helper.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(helper.calls, "{call}")?;
        read_answer(&mut helper).with_context(|| format!("{method} on {}", self.node))
    }

    fn answer(&self) -> Result<Value> {
        read_answer(&mut self.helper.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read_answer(helper: &mut Helper) -> Result<Value> {
    let mut line = String::new();
    helper.answers.read_line(&mut line)?;
    let mut said: Value = serde_json::from_str(&line).with_context(|| format!("{line:?} is no answer"))?;
    match said["error"].as_str() {
        Some(error) => bail!("{error}"),
        None => Ok(said["answer"].take()),
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it may have ended
        let _ = self.process.wait();
    }
}
