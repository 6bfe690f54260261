//! The loop that joins state, kernel and caller. One task owns it all; others send it messages.
//!
//! Each turn takes in whatever there is (kernel events, changes, a piece of a running listing, a timer) and
//! then writes at most one batch, so that a lost next hop never waits behind more than one batch of routes.

#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, error, info, warn};

use crate::{
    config::Config,
    diff::Op,
    error::Error,
    event::{Counts, Event, Snapshot},
    fib::Fib,
    handle::Routes,
    kernel::{self, Dump, DumpStep, Kernel, KernelEvent},
    links::LinkTable,
    pending::Mark,
    record::Record,
    wanted::{Change, Family, NextHop, PerFamily},
};

/// Events that wait for the caller; beyond that, new ones are dropped.
const EVENT_QUEUE: usize = 1024;
/// With nothing to do: longer than any timer that could be set meanwhile without waking the loop, which is
/// none.
const IDLE: Duration = Duration::from_secs(3600);

/// What a [`Routes`] handle asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Set(Vec<Change>),
    NextHopLost(NextHop),
    AllowSweep(Family),
    Snapshot(oneshot::Sender<Snapshot>),
    Counts(oneshot::Sender<Counts>),
    Flushed(oneshot::Sender<()>),
}

/// Looks after the routes for as long as it is run. Ends when all handles are gone, and leaves everything in
/// place.
#[must_use = "nothing happens unless it is run"]
pub struct Task {
    batch: usize,
    fib: Fib,
    kernel: Kernel,
    dump: Option<Dump>,
    record: Record,
    commands: mpsc::Receiver<Command>,
    flushes: Vec<(Mark, oneshot::Sender<()>)>,
    events: mpsc::Sender<Event>,
    links: watch::Sender<Arc<LinkTable>>,
    gateways: watch::Sender<PerFamily<Option<IpAddr>>>,
}

/// What woke the loop.
enum Wake {
    Kernel(Vec<KernelEvent>),
    Command(Option<Command>),
    Listing(Result<DumpStep, Error>),
    Timer,
    Work,
}

impl Task {
    /// Watches first, then lists: nothing falls between the two.
    pub(crate) async fn start(config: Config) -> Result<(Routes, mpsc::Receiver<Event>, Self), Error> {
        let record = Record::open(&config.run_dir)?;
        let kernel = Kernel::open(config.receive_buffer_bytes)?;
        let links = kernel::list_links().await?;
        let (commands, command_queue) = mpsc::channel(config.queue);
        let (events, event_queue) = mpsc::channel(EVENT_QUEUE);
        let (links_out, links_in) = watch::channel(Arc::new(links.clone()));
        let (gateways_out, gateways_in) = watch::channel(PerFamily::default());
        let mut task = Self {
            batch: config.batch,
            fib: Fib::new(config, links),
            kernel,
            dump: None,
            record,
            commands: command_queue,
            flushes: Vec::new(),
            events,
            links: links_out,
            gateways: gateways_out,
        };
        task.list_all().await?;
        task.tell_gateways();
        let installed = task.fib.installed();
        let kept = task.record.kept(installed);
        info!(
            ipv4 = installed.ipv4,
            ipv6 = installed.ipv6,
            restarted = kept.restarted,
            "found routes of ours"
        );
        Ok((Routes::new(commands, links_in, gateways_in, kept), event_queue, task))
    }

    /// Runs until all handles are gone.
    ///
    /// # Errors
    /// When a socket breaks; refused writes are no errors but stay pending.
    pub async fn run(mut self) -> Result<(), Error> {
        loop {
            match self.wake().await? {
                Wake::Kernel(events) => self.handle_events(events),
                Wake::Command(None) => return Ok(()),
                Wake::Command(Some(command)) => self.handle_commands(command)?,
                Wake::Listing(Ok(step)) => self.handle_listing(step)?,
                Wake::Listing(Err(error)) => self.listing_failed(&error),
                Wake::Timer | Wake::Work => {}
            }
            self.handle_timers().await?;
            if self.fib.has_work() {
                self.write_batch()?;
            }
            self.tell();
        }
    }

    /// Waits for the next thing to do. The branches are tried in random order, so none starves; all are
    /// cancel-safe.
    async fn wake(&mut self) -> Result<Wake, Error> {
        let due = self.fib.poll_timeout().unwrap_or_else(|| Instant::now() + IDLE);
        let has_work = self.fib.has_work();
        tokio::select! {
            events = self.kernel.events() => Ok(Wake::Kernel(events?)),
            command = self.commands.recv() => Ok(Wake::Command(command)),
            step = next_step(&mut self.dump) => Ok(Wake::Listing(step)),
            () = tokio::time::sleep_until(due.into()) => Ok(Wake::Timer),
            // Lets other tasks of the runtime in between two batches.
            () = tokio::task::yield_now(), if has_work => Ok(Wake::Work),
        }
    }

    /// This command and those that wait behind it: together they are written in fewer batches.
    fn handle_commands(&mut self, first: Command) -> Result<(), Error> {
        self.handle_command(first)?;
        for _ in 0..self.commands.len() {
            let Ok(command) = self.commands.try_recv() else { break };
            self.handle_command(command)?;
        }
        Ok(())
    }

    fn handle_command(&mut self, command: Command) -> Result<(), Error> {
        let now = Instant::now();
        match command {
            Command::Set(changes) => changes.into_iter().for_each(|change| self.fib.set(change)),
            Command::NextHopLost(next_hop) => {
                let ops = self.fib.next_hop_lost(&next_hop, now);
                self.write(ops)?;
                let elapsed_us = now.elapsed().as_micros();
                info!(next_hop = %next_hop, elapsed_us, "next hop taken out of use");
            }
            Command::AllowSweep(family) => self.fib.allow_sweep(family, now),
            // Whoever asked may have gone away; that is their affair.
            Command::Snapshot(reply) => {
                reply.send(self.fib.snapshot(now)).ok();
            }
            Command::Counts(reply) => {
                reply.send(self.fib.counts()).ok();
            }
            Command::Flushed(reply) => self.flushes.push((self.fib.mark(), reply)),
        }
        Ok(())
    }

    fn handle_events(&mut self, events: Vec<KernelEvent>) {
        let now = Instant::now();
        for event in events {
            self.fib.handle_event(event, now);
        }
    }

    async fn handle_timers(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if self.fib.poll_timeout().is_some_and(|due| due <= now) {
            // What is to be deleted may have come into use just now.
            let events = self.kernel.events_so_far()?;
            self.handle_events(events);
            let ops = self.fib.handle_timeout(now);
            self.record(self.fib.installed_during(&ops), Record::lower_to);
            self.write(ops)?;
            if self.fib.listing_due().is_some_and(|due| due <= now)
                && let Err(error) = self.begin_listing().await
            {
                self.listing_failed(&error);
            }
        }
        Ok(())
    }

    /// Objects, then groups of them, then routes over them: each step knows what the one before achieved.
    fn write_batch(&mut self) -> Result<(), Error> {
        // Plans are made on the latest state, so that little can come between.
        let events = self.kernel.events_so_far()?;
        self.handle_events(events);
        let prefixes = self.fib.take();
        let objects = self.fib.object_ops(&prefixes);
        self.write(objects)?;
        let groups = self.fib.group_ops(&prefixes);
        self.write(groups)?;
        let routes = self.fib.route_ops(&prefixes, Instant::now());
        self.record(self.fib.installed_during(&routes), Record::lower_to);
        self.write(routes)
    }

    fn write(&mut self, mut ops: Vec<Op>) -> Result<(), Error> {
        while !ops.is_empty() {
            let rest = ops.split_off(ops.len().min(self.batch));
            let written = self.kernel.write(&ops)?;
            debug!(messages = ops.len(), refused = written.refused.len(), "wrote to the kernel");
            let now = Instant::now();
            self.fib.applied(ops, &written.refused, now);
            self.fib.handle_events_beside_writes(written.events, now);
            ops = rest;
        }
        Ok(())
    }

    // -- Listings.

    /// The first listing, before anything is wanted. What cuts it short (a link that goes) makes it begin anew: what
    /// it has not seen is not adopted.
    async fn list_all(&mut self) -> Result<(), Error> {
        while !self.fib.has_listed() {
            self.begin_listing().await?;
            while self.dump.is_some() {
                let step = next_step(&mut self.dump).await?;
                self.handle_listing(step)?;
            }
        }
        self.fib.adopt();
        Ok(())
    }

    /// Links are few and come at once; the rest comes step by step.
    async fn begin_listing(&mut self) -> Result<(), Error> {
        let links = kernel::list_links().await?;
        let now = Instant::now();
        self.fib.handle_links(&links, now);
        self.fib.begin_listing(now);
        self.dump = Some(Dump::begin()?);
        Ok(())
    }

    fn handle_listing(&mut self, step: DumpStep) -> Result<(), Error> {
        // What it shows may have been told, too: then that is how we know.
        let events = self.kernel.events_so_far()?;
        self.handle_events(events);
        let now = Instant::now();
        for found in step.found {
            self.fib.handle_found(found, now);
        }
        if let Some(consistency) = step.end {
            self.fib.end_listing(consistency, now);
        }
        if !self.fib.is_listing() {
            self.dump = None;
        }
        Ok(())
    }

    /// Events go on, and the listing is tried again.
    fn listing_failed(&mut self, error: &Error) {
        warn!(error = %error, "cannot compare with the kernel");
        self.dump = None;
        self.fib.abandon_listing(Instant::now());
    }

    // -- What others are told.

    fn tell(&mut self) {
        let installed = self.fib.installed();
        let may_be_less = self.fib.has_work() || self.fib.is_in_doubt();
        self.record(installed, if may_be_less { Record::lower_to } else { Record::set });
        if let Some(links) = self.fib.take_links() {
            self.links.send_replace(Arc::new(links));
        }
        self.tell_gateways();
        for event in self.fib.take_events() {
            log(&event);
            if self.events.try_send(event).is_err() {
                debug!("nobody takes events: one dropped");
            }
        }
        let fib = &self.fib;
        for (_, reply) in self.flushes.extract_if(.., |(mark, _)| fib.reached(*mark)) {
            reply.send(()).ok();
        }
    }

    fn tell_gateways(&mut self) {
        if let Some(gateways) = self.fib.take_gateways() {
            self.gateways.send_replace(gateways);
        }
    }

    /// A record that cannot be written costs the next start its claim to have kept forwarding, no more.
    fn record(
        &mut self,
        counts: PerFamily<usize>,
        how: impl Fn(&mut Record, PerFamily<usize>) -> Result<(), Error>,
    ) {
        if let Err(error) = how(&mut self.record, counts) {
            error!(error = %error, "the record of installed routes is out of date");
        }
    }
}

/// The next piece of a running listing; waits for ever if there is none.
async fn next_step(dump: &mut Option<Dump>) -> Result<DumpStep, Error> {
    match dump {
        Some(dump) => dump.step().await,
        None => std::future::pending().await,
    }
}

fn log(event: &Event) {
    match event {
        Event::LinkDown { name } => info!(iface = %name, "link down"),
        Event::LinkUp { name } => info!(iface = %name, "link up"),
        Event::AddressesChanged => debug!("addresses changed"),
        Event::ForeignConflict { prefix, protocol } => {
            warn!(prefix = %prefix, protocol, "a route of another program has our place");
        }
        Event::RouteHidden { prefix, by } => {
            let (metric, protocol) = (by.metric, by.protocol);
            warn!(prefix = %prefix, protocol, metric, "a route of another program goes before ours");
        }
        Event::NextHopBorrowed { id } => {
            warn!(next_hop_id = %id, "other programs point to a next hop of ours: it is kept for them");
        }
        Event::Contested { count, example } => {
            warn!(count, prefix = %example, "another program keeps undoing routes of ours: repairs are held back");
        }
        Event::WriteFailed { what, errno } => warn!(what = ?what, errno, "the kernel refused a write"),
        Event::PreferredSourceMissing { address } => {
            warn!(address = %address, "preferred source is not on this node: routes go without it");
        }
        Event::Repaired { cause, count } => info!(cause = %cause, count, "repaired"),
    }
}
