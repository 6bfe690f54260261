//! What the caller holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    config::Config,
    error::{Ended, Error},
    event::{Counts, Event, Snapshot},
    kernel,
    links::LinkTable,
    neighbors::Neighbor,
    record::Kept,
    task::{Command, Task},
    wanted::{Change, Family, NextHop, PerFamily},
};

/// Handle to the routes task. Clones speak to the same task; when all are gone it ends and leaves the kernel
/// as it is.
#[derive(Debug, Clone)]
pub struct Routes {
    commands: mpsc::Sender<Command>,
    links: watch::Receiver<Arc<LinkTable>>,
    gateways: watch::Receiver<PerFamily<Option<IpAddr>>>,
    kept: Kept,
}

impl Routes {
    /// Opens the sockets in the current network namespace, begins to watch, and lists what the kernel holds.
    ///
    /// The task does its system calls on the thread that runs it, up to a millisecond at a time while many
    /// routes change; a daemon that must answer peers meanwhile gives it a runtime on a thread of its own.
    ///
    /// # Errors
    /// When sockets cannot be opened or the kernel cannot be listed.
    pub async fn start(config: Config) -> Result<(Self, mpsc::Receiver<Event>, Task), Error> {
        Task::start(config).await
    }

    pub(crate) fn new(
        commands: mpsc::Sender<Command>,
        links: watch::Receiver<Arc<LinkTable>>,
        gateways: watch::Receiver<PerFamily<Option<IpAddr>>>,
        kept: Kept,
    ) -> Self {
        Self { commands, links, gateways, kept }
    }

    /// Whether the last run left a record, and whether the kernel held what it says when this run started.
    pub fn kept(&self) -> Kept {
        self.kept
    }

    /// Changes what is wanted. Waits while the queue is full; the last state of a prefix wins.
    ///
    /// # Errors
    /// When the task has ended.
    pub async fn set(&self, changes: Vec<Change>) -> Result<(), Ended> {
        self.send(Command::Set(changes)).await
    }

    /// Takes a next hop out of use before the routes that name it are set anew: one message, whatever their
    /// number. It stays out until a later [`Change::Want`] names it.
    ///
    /// # Errors
    /// When the task has ended.
    pub async fn next_hop_lost(&self, gateway: IpAddr, interface: Option<String>) -> Result<(), Ended> {
        self.send(Command::NextHopLost(NextHop { gateway, interface })).await
    }

    /// Lets go of routes of one family that an earlier run left and nobody wants: after End-of-RIB of all
    /// live peers. Unused next-hop objects go when both families are allowed.
    ///
    /// # Errors
    /// When the task has ended.
    pub async fn allow_sweep(&self, family: Family) -> Result<(), Ended> {
        self.send(Command::AllowSweep(family)).await
    }

    /// The state at this moment.
    ///
    /// # Errors
    /// When the task has ended.
    pub async fn snapshot(&self) -> Result<Snapshot, Ended> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Snapshot(reply)).await?;
        answer.await.map_err(|_| Ended)
    }

    /// How much there is at this moment.
    ///
    /// # Errors
    /// When the task has ended.
    pub async fn counts(&self) -> Result<Counts, Ended> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Counts(reply)).await?;
        answer.await.map_err(|_| Ended)
    }

    /// The neighbour entries (ARP, NDP) of unicast addresses as the kernel has them at this moment, in order of
    /// interface and address. Which of them are gateways in use, [`Snapshot::by_gateway`] says. Lists them on
    /// the caller's thread: the task goes on meanwhile.
    ///
    /// # Errors
    /// When the kernel does not list them.
    pub async fn neighbors(&self) -> Result<Vec<Neighbor>, Error> {
        kernel::list_neighbors().await
    }

    /// The gateway by which the kernel would send to each of these addresses at this moment; none for an address
    /// on a link, or out of reach. Asks on the caller's thread.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub async fn gateways(&self, towards: &BTreeSet<IpAddr>) -> Result<BTreeMap<IpAddr, IpAddr>, Error> {
        kernel::gateways(towards).await
    }

    /// Returns when everything set before has been written, or refused by the kernel at least once, or waits
    /// for a link.
    ///
    /// # Errors
    /// When the task has ended.
    pub async fn flushed(&self) -> Result<(), Ended> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Flushed(reply)).await?;
        answer.await.map_err(|_| Ended)
    }

    /// The interfaces and addresses of the node, always the latest.
    pub fn links(&self) -> watch::Receiver<Arc<LinkTable>> {
        self.links.clone()
    }

    /// The gateways of the node's default routes, always the latest: of those of other programs in the main table the
    /// one with the lowest metric. None, where it has no gateway, or points to a next-hop object.
    pub fn default_gateways(&self) -> watch::Receiver<PerFamily<Option<IpAddr>>> {
        self.gateways.clone()
    }

    async fn send(&self, command: Command) -> Result<(), Ended> {
        self.commands.send(command).await.map_err(|_| Ended)
    }
}
