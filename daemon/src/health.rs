//! Does the process live, and does it do its work? An outage of a peer or of the API server changes neither: a pod that
//! is restarted for their sake would not bring them back. But a run that has not got back the sessions that the last one
//! had is not ready yet ([`crate::latch`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::latch;
use crate::policy::Policy;
use crate::state::{Shared, State};

/// The main loop is stuck when it has not come round for so long.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);

/// Shows that the main loop comes round. Clones are of the same.
#[derive(Debug, Clone)]
pub struct Pulse {
    since: Instant,
    /// In milliseconds since then.
    last_ms: Arc<AtomicU64>,
}

impl Pulse {
    /// Between two beats of a loop that has nothing else to do.
    pub const INTERVAL: Duration = Duration::from_secs(1);

    /// With a first beat.
    pub fn new(now: Instant) -> Pulse {
        Pulse { since: now, last_ms: Arc::default() }
    }

    /// It has come round.
    pub fn beat(&self) {
        self.beat_at(Instant::now());
    }

    fn beat_at(&self, now: Instant) {
        let since_ms = now.saturating_duration_since(self.since).as_millis();
        self.last_ms.store(u64::try_from(since_ms).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Why the process should be started anew.
    ///
    /// # Errors
    /// For how long the main loop has not come round.
    pub fn verdict(&self) -> Result<(), String> {
        self.verdict_at(Instant::now())
    }

    fn verdict_at(&self, now: Instant) -> Result<(), String> {
        let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        let silence = now.saturating_duration_since(self.since).saturating_sub(last);
        if silence <= LONGEST_SILENCE {
            Ok(())
        } else {
            Err(format!("the main loop has not come round for {} s", silence.as_secs()))
        }
    }
}

/// What our own machinery lacks, in words; nothing when it works. Each of these is reached once and stays, whatever
/// becomes of peers and of the API server; but a CNI configuration that cannot be written, where it must be another
/// one, is missing again.
pub fn missing(shared: &Shared) -> Vec<String> {
    let state = shared.state.borrow();
    let mut missing = missing_parts(&state, &shared.policy);
    let awaited = state.latch.awaits();
    if missing.is_empty() && awaited.is_empty() && state.latch != latch::Shown::Open {
        // It opens with the next look.
        missing.push("a look at the peers that the last run had".to_owned());
    }
    missing.extend(awaited);
    missing
}

/// The same without the peers of the last run.
pub fn missing_parts(state: &State, policy: &Policy) -> Vec<String> {
    let parts = [
        (state.source_seen, "a first view of the objects"),
        (state.intent.is_some(), "the Node object of this node, or what else it waits for"),
        (state.speaker.is_some(), "the BGP speaker"),
        (state.routes_in_sync, "routes that are in sync with the kernel"),
        (state.conflist_stands, "the CNI configuration"),
    ];
    let mut missing: Vec<String> =
        parts.into_iter().filter(|(is_there, _)| !is_there).map(|(_, what)| what.to_owned()).collect();
    missing.extend(policy.waiting_for().map(|what| format!("NetworkPolicy, which waits for {what}")));
    if !missing.is_empty() {
        missing.extend(state.waiting_for.iter().map(|what| format!("routing waits for {what}")));
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_is_stuck_is_told_of_until_it_comes_round() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let pulse = Pulse::new(began);
        assert_eq!(pulse.verdict_at(at(10)), Ok(()));
        let stuck = Err("the main loop has not come round for 11 s".to_owned());
        assert_eq!(pulse.verdict_at(at(11)), stuck);
        pulse.clone().beat_at(at(12));
        assert_eq!(pulse.verdict_at(at(22)), Ok(()));
        assert_eq!(pulse.verdict_at(at(23)), stuck);
    }
}
