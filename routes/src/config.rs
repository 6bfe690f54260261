//! What can be set.

use std::{path::PathBuf, time::Duration};

/// Settings of the routes task. [`Config::new`] gives the ones meant for use; tests change the rest.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the record of installed routes lives; on tmpfs, so that it does not outlive the kernel's routes.
    pub run_dir: PathBuf,
    /// How often everything is compared with the kernel, besides following its events.
    pub check_interval: Duration,
    /// How long after a change the work that nobody waits for begins: unused groups, routes of lost next
    /// hops, a look at what the kernel may have done silently.
    pub settle_delay: Duration,
    /// How long a route stays on a group that shrank to one member before it is written plainly. Long,
    /// because the lost member usually returns, and then one message restores all routes.
    pub merge_delay: Duration,
    /// Messages in one send.
    pub batch: usize,
    /// Changes that may wait between the caller and the task: [`crate::Routes::set`] waits when it is full.
    pub queue: usize,
    /// Room for the kernel's events while the task is busy.
    pub receive_buffer_bytes: usize,
}

impl Config {
    /// The usual settings.
    pub fn new(run_dir: impl Into<PathBuf>) -> Self {
        Self {
            run_dir: run_dir.into(),
            check_interval: Duration::from_secs(60),
            settle_delay: Duration::from_secs(1),
            merge_delay: Duration::from_secs(60),
            batch: 256,
            queue: 64,
            receive_buffer_bytes: 4 << 20,
        }
    }
}
