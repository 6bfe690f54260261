//! Sends flows on one thread while another changes what is told, and counts what is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cambric_policy::enforcer::Enforcer;
use cambric_policy::kernel::Kernel;
use tokio::runtime::{Builder, Runtime};

use crate::rig::{Flood, World};
use crate::scene::{Kind, end, kinds};
use crate::support::changes::{Order, changes};
use crate::support::cluster::Cluster;
use crate::support::evaluator::{Answer, Connection, may_receive, may_send};

/// Packets of each kind that are on their way at a time.
const EACH: usize = 16;

/// What came out.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) turns: usize,
    pub(crate) allowed: usize,
    pub(crate) denied: usize,
    pub(crate) seconds: f64,
    /// Allowed flows that did not arrive, by kind.
    pub(crate) lost: BTreeMap<String, usize>,
    /// Denied flows that arrived, by kind.
    pub(crate) leaked: BTreeMap<String, usize>,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measured { allowed, denied, seconds, .. } = self;
        let (lost, leaked): (usize, usize) = (self.lost.values().sum(), self.leaked.values().sum());
        write!(
            f,
            "{seconds:.0} s; allowed {allowed} sent, {lost} lost; denied {denied} sent, {leaked} leaked"
        )
    }
}

/// When to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// When time is over.
    Over,
    /// The same, or when something is wrong.
    FirstWrong,
}

/// Tells enforcers of changes and waits for the kernel.
pub(crate) struct Tell {
    enforcers: BTreeMap<String, Enforcer>,
    /// To go behind their backs.
    kernels: BTreeMap<String, Kernel>,
    state: Cluster,
    runtime: Runtime,
}

impl Tell {
    /// Of a node.
    pub(crate) fn kernel(&mut self, node: &str) -> &mut Kernel {
        self.kernels.get_mut(node).expect("a node of the scene")
    }

    /// Tells of a state that allows of the flows what the one before did.
    pub(crate) fn tell(&mut self, to: &Cluster, order: Order) {
        assert_as_ever(to);
        self.tell_anything(to, order);
    }

    /// Tells of any state.
    pub(crate) fn tell_anything(&mut self, to: &Cluster, order: Order) {
        let told = changes(&self.state, to, order);
        for (node, enforcer) in &self.enforcers {
            let concerns = |of: &Option<String>| of.as_ref().is_none_or(|of| of == node);
            let changes =
                told.iter().filter(|told| concerns(&told.node)).map(|told| told.change.clone()).collect();
            self.runtime.block_on(enforcer.apply(changes)).expect("it runs");
        }
        self.state.clone_from(to);
    }

    /// Returns when the kernels hold what was told.
    pub(crate) fn flushed(&self) {
        for enforcer in self.enforcers.values() {
            self.runtime.block_on(enforcer.flushed()).expect("it runs");
        }
    }
}

/// Sends all kinds of flows for so long, while `turn` changes what is told, again and again.
pub(crate) fn measure(
    how_long: Duration,
    first: Cluster,
    until: Until,
    mut turn: impl FnMut(&mut Tell) + Send,
) -> Measured {
    assert_as_ever(&first);
    let world = World::of(&first);
    let kinds = kinds();
    let probes: Vec<_> = kinds.iter().map(|kind| kind.probe.clone()).collect();
    let mut flood = Flood::new(&world.rig, &probes);
    let mut measured = Measured::default();
    // Without changes all is as it should be.
    count(&kinds, &flood.round(&world.rig, EACH), &mut measured);
    assert!(measured.lost.is_empty() && measured.leaked.is_empty(), "before any change: {measured:#?}");

    let enforcers = world.enforcers.clone();
    let open = |node: &String| world.rig.node(node).enter(Kernel::open).expect("netlink sockets");
    let kernels = enforcers.keys().map(|node| (node.clone(), open(node))).collect();
    let (is_over, start) = (AtomicBool::new(false), Instant::now());
    measured.turns = std::thread::scope(|scope| {
        let changing = world.rig.on_all_processors(|| {
            scope.spawn(|| {
                let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
                let mut tell = Tell { enforcers, kernels, state: first, runtime };
                let mut turns = 0;
                while !is_over.load(Ordering::Relaxed) {
                    turn(&mut tell);
                    turns += 1;
                }
                turns
            })
        });
        let over = Over(&is_over);
        while start.elapsed() < how_long && !changing.is_finished() {
            count(&kinds, &flood.round(&world.rig, EACH), &mut measured);
            if until == Until::FirstWrong && !(measured.lost.is_empty() && measured.leaked.is_empty()) {
                break;
            }
        }
        drop(over);
        changing.join().expect("the thread that changes")
    });
    measured.seconds = start.elapsed().as_secs_f64();
    measured
}

/// Ends the changes, however the sending ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn count(kinds: &[Kind], arrived: &[usize], measured: &mut Measured) {
    for (kind, arrived) in kinds.iter().zip(arrived) {
        let (sent, wrong, by_kind) = match kind.is_allowed {
            true => (&mut measured.allowed, EACH - arrived, &mut measured.lost),
            false => (&mut measured.denied, *arrived, &mut measured.leaked),
        };
        *sent += EACH;
        if wrong > 0 {
            *by_kind.entry(kind.name.clone()).or_default() += wrong;
        }
    }
}

/// Asks the evaluator, so that no turn changes by mistake what it must not.
fn assert_as_ever(state: &Cluster) {
    for kind in &kinds() {
        let connection = Connection {
            source: end(state, &kind.probe.from),
            source_address: kind.probe.source,
            destination: end(state, &kind.probe.to),
            destination_address: kind.probe.destination,
            protocol: kind.probe.protocol.name(),
            port: kind.probe.port,
        };
        let answer = may_send(state, &connection).and(may_receive(state, &connection));
        assert_eq!(answer == Answer::Allowed, kind.is_allowed, "{}: {answer:?}", kind.name);
    }
}
