//! Makes the kernel hold the program, and keeps it so.
//!
//! One thread owns compiler and kernel. It takes changes by a bounded channel, compiles each, and writes what differs in
//! an order that opens no window. Before the first complete view it writes nothing. When all handles are gone
//! the thread ends and leaves everything in force: stopping is not leaving.

mod status;

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

pub use crate::enforcer::status::{
    Cause, Count, Counts, Denial, DenialCounts, Denied, Direction, Filter, PodState, PolicyState, Repairs,
    Report, Status, Waiting,
};
pub use crate::error::{Error, NotPlaced};

use crate::change::{Change, Endpoint};
use crate::compile;
use crate::program::IfName;

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
    Settled(oneshot::Sender<()>),
    Report(Option<Filter>, oneshot::Sender<Report>),
}

impl Enforcer {
    /// Opens the sockets in the network namespace of the calling thread, asks what the kernel can do, and starts the
    /// thread. Blocks for some milliseconds. Nothing is written yet.
    ///
    /// # Errors
    /// When the kernel lacks something, which is named, or does not answer.
    pub fn start(config: Config) -> Result<Enforcer, Error> {
        let (commands, _queue) = mpsc::channel(config.queue);
        let (_tell, status) = watch::channel(Status::default());
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

    /// Returns when all that was told before is in the kernel, or is refused and fails closed.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn settled(&self) -> Result<(), Error> {
        self.ask(Command::Settled).await
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
