//! The loop of the enforcer's thread: what is told goes to the compiler, what that alters goes to the kernel, and what the
//! kernel tells of others' doings is put right.

mod repair;
mod tell;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nix::net::if_::{if_indextoname, if_nametoindex};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, error, info, warn};

use super::budget::Budget;
use super::denials::Denials;
use super::ledger::{Ledger, direction_of};
use super::ready::Ready;
use super::refusals::{self, Refusals};
use super::status::{Applied, Cause, Counts, Denial, Direction, Repairs, Status, Waiting};
use super::waiters::Waiters;
use super::writer::{Depth, Sought, Trouble, Writer, jitter};
use super::{Command, Config, Error};
use crate::change::{Change, Endpoint, Key, PolicyObject};
use crate::compile::Compiler;
use crate::detour;
use crate::error::NotPlaced;
use crate::kernel::{Denied, LogReader};
use crate::plan::Plan;
use crate::program::{Delta, Family, IfName, VETH_PREFIX};

/// Up to so many changes that wait are written one by one: then each is without a window of its own.
const ONE_BY_ONE: usize = 128;
/// So long in one turn; then the rest is written together, for others wait, too.
const ONE_BY_ONE_FOR: Duration = Duration::from_millis(50);
/// More are written together, at most so many.
const TOGETHER: usize = 1024;
/// Commands that are taken in one turn, before others are looked after.
const TAKEN_A_TURN: usize = 256;
/// Between two looks at what nobody uses any more: it may be wanted again meanwhile.
const LINGERS: Duration = Duration::from_secs(1);
/// Then so much of it is dropped in a turn.
const DROPPED_A_TURN: usize = 256;
const BETWEEN_DROPS: Duration = Duration::from_millis(50);
/// Beyond so much it is dropped at once.
const MOST_LINGERING: usize = 4096;
/// The status is made anew at most so often.
const STATUS_PAUSE: Duration = Duration::from_millis(100);
const TICK: Duration = Duration::from_secs(1);

/// All that the thread owns.
pub(super) struct Task {
    config: Config,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<Status>,
    compiler: Compiler,
    writer: Writer,
    log: Option<LogReader>,
    /// Why denied packets are not heard of.
    log_problem: Option<String>,
    endpoints: BTreeMap<IfName, Endpoint>,
    policies: BTreeMap<Key, Arc<PolicyObject>>,
    waiters: Waiters,
    ledger: Ledger,
    denials: Denials,
    refusals: Refusals,
    view: View,
    /// What the kernel holds is not known to be the program: it is to be compared.
    resync: Option<Resync>,
    repair_budget: Budget,
    retry_budget: Budget,
    timers: Timers,
    told: Told,
    is_stale: bool,
}

/// How much of the cluster has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// Not all: nothing is written.
    Gathering,
    /// All: it may be written.
    Complete,
    /// It has been written, and deltas follow.
    Written,
}

/// A comparison that is due.
#[derive(Debug)]
struct Resync {
    depth: Depth,
    /// When the need for it was seen.
    since: Instant,
    at: Instant,
    why: Why,
}

#[derive(Debug, PartialEq, Eq)]
enum Why {
    /// The first complete view.
    First,
    /// Somebody changed what is ours, or may have.
    Touched,
    /// The kernel did not take what was written, for this reason.
    Refused {
        words: String,
        /// A batch: what cannot be mended may be made anew. With sets that helps nothing.
        is_of_batch: bool,
    },
}

/// When what is due that is not due by an event.
#[derive(Debug)]
struct Timers {
    tick: Instant,
    check: Instant,
    drop: Option<Instant>,
    status: Instant,
    /// The set that was compared last.
    compared: Option<crate::program::SetName>,
}

/// What the status says beside what is counted when it is made.
#[derive(Debug, Default)]
struct Told {
    repairs: BTreeMap<Cause, Repairs>,
    changes: u64,
    last_change: Option<Duration>,
    applied: Applied,
}

/// A change, and who waits for it to be in the kernel.
struct Taken {
    change: Change,
    reply: Option<oneshot::Sender<Result<(), NotPlaced>>>,
}

/// What woke the loop.
enum Wake {
    Command(Option<Command>),
    Event,
    Denial,
    Timer,
}

impl Task {
    pub(super) fn new(
        config: Config,
        commands: mpsc::Receiver<Command>,
        status: watch::Sender<Status>,
        writer: Writer,
        log: Result<LogReader, String>,
    ) -> Task {
        let (log, log_problem) = match log {
            Ok(log) => (Some(log), None),
            Err(problem) => (None, Some(problem)),
        };
        let now = Instant::now();
        let ms = Duration::from_millis;
        Task {
            compiler: Compiler::new(config.options.clone()),
            commands,
            status,
            writer,
            log,
            log_problem,
            endpoints: BTreeMap::new(),
            policies: BTreeMap::new(),
            waiters: Waiters::default(),
            ledger: Ledger::default(),
            denials: Denials::new(now),
            refusals: Refusals::default(),
            view: View::Gathering,
            resync: None,
            repair_budget: Budget::new(10, ms(20), ms(1000)),
            retry_budget: Budget::new(2, ms(50), ms(5000)),
            timers: Timers {
                tick: now + TICK,
                check: now + config.check_interval,
                drop: None,
                status: now,
                compared: None,
            },
            told: Told::default(),
            is_stale: false,
            config,
        }
    }

    /// Until all handles are gone.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let events = Ready::new(self.writer.watch_fd())?;
        let mut packets = None;
        loop {
            if let (None, Some(log)) = (&packets, &self.log) {
                packets = Some(Ready::new(log.as_fd().try_clone_to_owned())?);
            }
            match self.wake(&events, packets.as_ref()).await? {
                Wake::Command(None) => return Ok(()),
                Wake::Command(Some(command)) => self.handle_commands(command),
                Wake::Denial => self.handle_denials(),
                Wake::Event | Wake::Timer => {}
            }
            let now = Instant::now();
            self.handle_events(now);
            self.handle_timeouts(now);
            self.tell(Instant::now());
        }
    }

    /// Waits for the next thing to do. All branches are cancel-safe.
    async fn wake(&mut self, events: &Ready, packets: Option<&Ready>) -> Result<Wake, Error> {
        let due = self.poll_timeout();
        tokio::select! {
            command = self.commands.recv() => Ok(Wake::Command(command)),
            ready = events.readable() => ready.map(|()| Wake::Event),
            ready = readable(packets) => ready.map(|()| Wake::Denial),
            () = tokio::time::sleep_until(due.into()) => Ok(Wake::Timer),
        }
    }

    fn poll_timeout(&self) -> Instant {
        let Timers { tick, drop, status, .. } = self.timers;
        let status = self.is_stale.then_some(status);
        let resync = self.resync.as_ref().map(|resync| resync.at);
        [drop, status, resync].into_iter().flatten().fold(tick, Instant::min)
    }

    // -- What is told.

    /// This command and those that wait behind it.
    fn handle_commands(&mut self, first: Command) {
        let mut changes = VecDeque::new();
        let mut next = Some(first);
        for _ in 0..TAKEN_A_TURN {
            match next.or_else(|| self.commands.try_recv().ok()) {
                Some(command) => self.handle_command(command, &mut changes),
                None => break,
            }
            next = None;
        }
        self.take_in(&mut changes);
    }

    /// What is asked is answered by what was told before.
    fn handle_command(&mut self, command: Command, changes: &mut VecDeque<Taken>) {
        match command {
            Command::Apply(told) => {
                changes.extend(told.into_iter().map(|change| Taken { change, reply: None }));
                return;
            }
            Command::Place(interface, endpoint, reply) => {
                let change = Change::Endpoint(interface, Some(endpoint));
                return changes.push_back(Taken { change, reply: Some(reply) });
            }
            _ => self.take_in(changes),
        }
        match command {
            Command::Apply(_) | Command::Place(..) => {}
            Command::Complete(reply) => self.handle_complete(reply),
            Command::Flushed(reply) => {
                self.waiters.wait_written(reply);
                self.answer();
            }
            // Whoever asked may have gone away; that is their affair.
            Command::Report(filter, reply) => drop(reply.send(self.report(filter.as_ref()))),
        }
    }

    fn handle_complete(&mut self, reply: oneshot::Sender<()>) {
        self.waiters.wait_written(reply);
        if self.view == View::Gathering {
            self.view = View::Complete;
            let now = Instant::now();
            self.resync = Some(Resync { depth: Depth::Members, since: now, at: now, why: Why::First });
            self.resync(now);
        }
        self.answer();
    }

    /// Few changes are written one by one, each without a window of its own; many together.
    fn take_in(&mut self, changes: &mut VecDeque<Taken>) {
        let begun = Instant::now();
        while !changes.is_empty() {
            let started = Instant::now();
            let many = together(changes.len(), started.duration_since(begun));
            for Taken { change, reply } in changes.drain(..many) {
                self.note(&change);
                if let (Change::Endpoint(interface, _), Some(reply)) = (&change, reply) {
                    self.waiters.wait_placed(interface.clone(), reply);
                }
                self.compiler.apply(change);
            }
            self.write_delta(started);
            self.answer();
            self.is_stale = true;
        }
    }

    /// What is remembered of a change beside what the compiler does.
    fn note(&mut self, change: &Change) {
        match change {
            Change::Endpoint(interface, Some(endpoint)) => {
                let before = self.endpoints.insert(interface.clone(), endpoint.clone());
                if before.is_some_and(|before| before.pod != endpoint.pod) {
                    self.waiters.gone(interface);
                }
            }
            Change::Endpoint(interface, None) => {
                self.endpoints.remove(interface);
                self.waiters.gone(interface);
            }
            Change::Policy(key, object) => {
                if self.policies.get(key) != object.as_ref() {
                    self.refusals.policy_changed(key);
                }
                match object {
                    Some(object) => self.policies.insert(key.clone(), object.clone()),
                    None => self.policies.remove(key),
                };
            }
            Change::Pod(..) | Change::Namespace(..) => self.refusals.members_left(),
            Change::BgpPeers(_) => {}
        }
    }

    /// What the changes so far altered, if the kernel holds all that came before; else the comparison that is due sees to it.
    fn write_delta(&mut self, started: Instant) {
        if self.view != View::Written || self.resync.is_some() {
            return;
        }
        let delta = self.compiler.take_delta();
        if delta == Delta::default() {
            return;
        }
        for (_, chain, _) in &delta.chains_made {
            if let Some(policies) = self.compiler.policies_of(chain) {
                self.ledger.add_class(chain.clone(), policies);
            }
        }
        let mut plan = Plan::of_delta(delta, &self.writer.mirror);
        detour::add(&mut plan, self.compiler.program(), &self.writer.mirror);
        match self.writer.carry_out(plan, self.compiler.program()) {
            Ok(()) => self.written(started),
            Err(trouble) => self.handle_trouble(&trouble, started),
        }
    }

    /// The kernel holds the program.
    fn written(&mut self, started: Instant) {
        let elapsed = started.elapsed();
        self.refusals.written();
        self.told.changes += 1;
        self.told.last_change = Some(elapsed);
        self.told.applied.add(elapsed);
        debug!(elapsed_us = elapsed.as_micros(), "policy written");
        self.plan_drops();
    }

    /// Those who wait for what the kernel holds now.
    fn answer(&mut self) {
        if self.view == View::Written && self.resync.is_none() {
            let placed = &self.writer.mirror.dispatch;
            self.waiters.answer(|interface| placed.contains_key(interface));
        }
    }
}

/// How many of the changes that wait are written in one.
fn together(waiting: usize, spent: Duration) -> usize {
    if waiting > ONE_BY_ONE || spent >= ONE_BY_ONE_FOR { TOGETHER.min(waiting) } else { 1 }
}

/// Never, if there is no socket.
async fn readable(socket: Option<&Ready>) -> Result<(), Error> {
    match socket {
        Some(socket) => socket.readable().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many writes so many changes take that come together, each write taking so long.
    fn writes(mut waiting: usize, each: Duration) -> u32 {
        let mut writes = 0;
        while waiting > 0 {
            waiting -= together(waiting, each * writes);
            writes += 1;
        }
        writes
    }

    #[test]
    fn few_changes_are_written_one_by_one_and_the_rest_of_a_slow_turn_together() {
        assert_eq!(writes(100, Duration::from_micros(100)), 100);
        assert_eq!(writes(100, Duration::from_millis(10)), 6);
        assert_eq!(writes(2, Duration::from_secs(1)), 2);
        assert_eq!(writes(3000, Duration::from_millis(1)), 3);
    }
}
