//! What goes to the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};

/// Counts the lines of this thread, while it is there.
pub(crate) struct Lines {
    count: Arc<AtomicUsize>,
    _log: DefaultGuard,
}

impl Lines {
    /// Those of `level`, and graver ones.
    pub(crate) fn of(level: Level) -> Lines {
        let count = Arc::new(AtomicUsize::new(0));
        let log = tracing::subscriber::set_default(Counter { level, count: Arc::clone(&count) });
        Lines { count, _log: log }
    }

    /// How many there were since the last call.
    pub(crate) fn take(&self) -> usize {
        self.count.swap(0, Ordering::Relaxed)
    }
}

struct Counter {
    level: Level,
    count: Arc<AtomicUsize>,
}

impl Subscriber for Counter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
