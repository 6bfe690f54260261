//! What the kernel tells about routes and next hops of a node, message by message.

use std::cell::Cell;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cambric_lab::{Node, Spawned, poll};

const LIMIT: Duration = Duration::from_secs(10);

/// A route that nobody uses, in tables that nobody looks at; it comes and goes, so that one sees that all before it has
/// been told.
const MARK: &str = "192.0.2.255";
const FIRST_TABLE: u32 = 4000;

/// `ip monitor` in a node.
pub(crate) struct Monitor {
    node: Node,
    _process: Spawned,
    heard: Arc<Mutex<Vec<Message>>>,
    /// The table of the next mark.
    marks: Cell<u32>,
}

/// One message of the kernel, as `ip monitor` prints it.
#[derive(Clone)]
pub(crate) struct Message {
    /// When it was read.
    pub(crate) at: Instant,
    /// Its first line.
    pub(crate) text: String,
}

impl Message {
    pub(crate) fn is_delete(&self) -> bool {
        self.text.starts_with("Deleted ")
    }

    /// About a next-hop object or group; else about a route.
    pub(crate) fn is_of_nexthop(&self) -> bool {
        self.text.trim_start_matches("Deleted ").starts_with("id ")
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Monitor {
    /// Listens from now on.
    pub(crate) fn start(node: &Node) -> Result<Self> {
        let mut process = node.spawn(&["ip", "monitor", "nexthop", "route"], Stdio::piped())?;
        let says = process.stdout.take().context("ip monitor has an output")?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        // Ends with the process, which ends with the monitor.
        std::thread::Builder::new().name("monitor".into()).spawn(move || {
            for text in BufReader::new(says).lines().map_while(Result::ok) {
                // The next hops of a multipath route follow on lines of their own.
                if !text.starts_with([' ', '\t']) {
                    let message = Message { at: Instant::now(), text: text.trim_end().to_owned() };
                    hears.lock().unwrap_or_else(PoisonError::into_inner).push(message);
                }
            }
        })?;
        let monitor = Self { node: node.clone(), _process: process, heard, marks: Cell::new(FIRST_TABLE) };
        poll::until_some("ip monitor to listen", LIMIT, || {
            let mark = monitor.mark()?;
            Ok(monitor.has_heard(&mark).then_some(()))
        })?;
        monitor.messages()?;
        Ok(monitor)
    }

    /// All that the kernel has told by now, since the start or the last call.
    pub(crate) fn messages(&self) -> Result<Vec<Message>> {
        let mark = self.mark()?;
        poll::until("ip monitor to catch up", LIMIT, || self.has_heard(&mark))?;
        let mut messages = std::mem::take(&mut *self.heard());
        messages.retain(|message| !message.text.contains(MARK));
        Ok(messages)
    }

    /// Makes a message that comes after all before it; returns its text.
    fn mark(&self) -> Result<String> {
        let table = self.marks.replace(self.marks.get() + 1).to_string();
        for verb in ["add", "del"] {
            self.node.run_ok(&["ip", "route", verb, "blackhole", MARK, "table", &table])?;
        }
        Ok(format!("Deleted blackhole {MARK} table {table}"))
    }

    fn has_heard(&self, text: &str) -> bool {
        self.heard().iter().any(|message| message.text.starts_with(text))
    }

    fn heard(&self) -> MutexGuard<'_, Vec<Message>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
