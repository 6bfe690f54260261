//! Makes the kernel hold the program, and keeps it so.
//!
//! One thread owns compiler and kernel. It takes changes by a bounded channel, compiles each, and writes what differs in
//! an order that opens no window. Before the first complete view it writes nothing. When all handles are gone
//! the thread ends and leaves everything in force: stopping is not leaving.

mod barrier;
mod budget;
mod denials;
mod ledger;
mod ready;
mod refusals;
mod status;
mod task;
mod waiters;
mod writer;

use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tracing::error;

pub use crate::enforcer::status::{
    Applied, Cause, Count, Counts, Denial, DenialCounts, Denied, Direction, Filter, PodState, PolicyState,
    Repairs, Report, Status, Waiting,
};
pub use crate::error::{Error, NotPlaced};

use crate::change::{Change, Endpoint};
use crate::compile;
use crate::diff::{Effort, Wish};
use crate::kernel::{self, Guard, Held, Kernel, LogReader};
use crate::program::IfName;
use task::Task;
use writer::Writer;

/// Settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Of the compiler.
    pub options: compile::Options,
    /// Members that a set may have at most.
    pub most_members: u32,
    /// Commands that wait; beyond that, who sends waits.
    pub queue: usize,
    /// Between two full checks of the tables. Changes are seen at once, by event: this is for events that were lost.
    pub check_interval: Duration,
    /// In this time the members of every set are compared once. How many members each has is compared each second.
    pub compare_interval: Duration,
    /// Who may change our tables while the thread lives, if the kernel knows the difference.
    pub guard: Guard,
}

impl Config {
    /// The usual ones.
    pub fn new(options: compile::Options) -> Config {
        Config {
            options,
            most_members: 1_048_576,
            queue: 1024,
            check_interval: Duration::from_secs(60),
            compare_interval: Duration::from_secs(30),
            guard: Guard::Owned,
        }
    }
}

/// Handle to the enforcer's thread. Clones speak to the same one.
#[derive(Debug, Clone)]
pub struct Enforcer {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
}

/// What a handle asks for.
#[derive(Debug)]
enum Command {
    Apply(Vec<Change>),
    Complete(oneshot::Sender<()>),
    Place(IfName, Endpoint, oneshot::Sender<Result<(), NotPlaced>>),
    Flushed(oneshot::Sender<()>),
    Report(Option<Filter>, oneshot::Sender<Report>),
}

impl Enforcer {
    /// Opens the sockets in the network namespace of the calling thread, asks what the kernel can do, and starts the
    /// thread. Blocks for some milliseconds. Nothing is written yet.
    ///
    /// # Errors
    /// When the kernel lacks something, which is named, or does not answer.
    pub fn start(config: Config) -> Result<Enforcer, Error> {
        let mut kernel = Kernel::open().map_err(of_kernel)?;
        let guard = find_guard(&mut kernel, config.guard)?;
        let wish = Wish { guard, port: kernel.port(), effort: Effort::Mend };
        let events = kernel.watch().map_err(of_kernel)?;
        let log = LogReader::open(config.options.log_group)
            .map_err(|error| format!("denied packets are not heard of: {error}"));
        let writer = Writer::new(kernel, events, wish, config.most_members);
        let (commands, queue) = mpsc::channel(config.queue.max(1));
        let (tell, status) = watch::channel(Status::default());
        let task = Task::new(config, queue, tell, writer, log);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
        let run = move || {
            if let Err(error) = runtime.block_on(task.run()) {
                error!(error = %error, "policy is enforced as it stands, but follows no change any more");
            }
        };
        thread::Builder::new().name("policy".to_owned()).spawn(run).map_err(Error::Thread)?;
        Ok(Enforcer { commands, status })
    }

    /// Tells what is from now on. Waits while the queue is full; returns before the kernel holds it.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn apply(&self, changes: Vec<Change>) -> Result<(), Error> {
        self.send(Command::Apply(changes)).await
    }

    /// The first complete view has been told: from now on the kernel is written, first what differs from what it
    /// holds. Returns when tables and sets stand. Waits as long as the kernel refuses; [`Status::problems`] tells why.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn complete(&self) -> Result<(), Error> {
        self.ask(Command::Complete).await
    }

    /// Tells an endpoint, and returns when its chains, its dispatch and its addresses are in the kernel, in both
    /// families. Waits for its Pod object as long as the caller lets it: to drop the future gives up waiting, the endpoint
    /// stays.
    ///
    /// # Errors
    /// When the endpoint is told to be gone meanwhile, or the thread has ended.
    pub async fn place(&self, interface: IfName, endpoint: Endpoint) -> Result<(), NotPlaced> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Place(interface, endpoint, reply);
        self.commands.send(command).await.map_err(|_| NotPlaced::Ended)?;
        answer.await.unwrap_or(Err(NotPlaced::Ended))
    }

    /// Returns when all that was told before is in the kernel, or is refused and fails closed: at the end of the last
    /// step, only what nobody uses any more may still be there. Before [`Enforcer::complete`] it waits for that.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn flushed(&self) -> Result<(), Error> {
        self.ask(Command::Flushed).await
    }

    /// Lets go of this handle and returns when the thread has ended, which it does when all other handles are gone, too.
    pub async fn stop(self) {
        let Enforcer { commands, mut status } = self;
        drop(commands);
        while status.changed().await.is_ok() {}
    }

    /// The status, always the latest. Its sender goes when the thread has ended.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// All policies and pods with their counters, or those of the filter.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn report(&self, filter: Option<Filter>) -> Result<Report, Error> {
        self.ask(|reply| Command::Report(filter, reply)).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await?;
        answer.await.map_err(|_| Error::Ended)
    }

    async fn send(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).await.map_err(|_| Error::Ended)
    }
}

/// The guard of our tables. Where they are there already the kernel can do all that they need, and they stay as they are: nothing
/// is tried then, for each trial waits for all processors (`nf_tables_abort`), which takes seconds on a busy node.
fn find_guard(kernel: &mut Kernel, wanted: Guard) -> Result<Guard, Error> {
    let held = kernel.read().ok();
    if let Some(Held { ipv4: Some(table), ipv6: Some(_), arp: Some(_), .. }) = held {
        return Ok(table.state.guard);
    }
    let missing = kernel.requirements().map_err(of_kernel)?;
    if !missing.is_empty() {
        return Err(Error::Missing(missing));
    }
    match wanted {
        Guard::Owned => kernel.guard().map_err(of_kernel),
        Guard::Anyone => Ok(Guard::Anyone),
    }
}

fn of_kernel(error: kernel::Error) -> Error {
    Error::Kernel(Box::new(error))
}
