//! A node that is told to go without NetworkPolicy: nothing of an earlier run may stay in force.
//!
//! Tables that nobody keeps close every new pod for ever, so the mark for the CNI plugin says `off` only once they are
//! gone.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use cambric_cni::gate::ready::{self, Policy as Judged};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::{PLACE, leftovers};
use crate::objects::Problem;

/// How soon it is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Why tables or sets of an earlier run are still there; `None`: they are not.
pub(super) type Leaving = watch::Receiver<Option<Problem>>;

/// Takes away what is left, and sets the mark. What cannot be done at once is tried until it can.
///
/// # Errors
/// The run-time folder's.
pub(super) async fn start(run_dir: PathBuf) -> anyhow::Result<Leaving> {
    let Some(problem) = leave().await else {
        ready::write(&run_dir, Judged::Off).context("setting the mark for the CNI plugin")?;
        return Ok(watch::channel(None).1);
    };
    ready::remove(&run_dir).context("taking the mark away")?;
    let (told, leaving) = watch::channel(Some(problem));
    tokio::spawn(async move {
        while !told.is_closed() {
            sleep(RETRY_INTERVAL).await;
            let now = match leave().await {
                None => ready::write(&run_dir, Judged::Off).err().map(|error| unwritten(&run_dir, &error)),
                problem => problem,
            };
            told.send_if_modified(|told| std::mem::replace(told, now.clone()) != now);
            if now.is_none() {
                return;
            }
        }
    });
    Ok(leaving)
}

fn unwritten(run_dir: &Path, error: &io::Error) -> Problem {
    let place = run_dir.join(ready::FILE).display().to_string();
    Problem::new(place, format!("cannot be written: {error}; no pod is started"))
}

/// Why it could not be done.
async fn leave() -> Option<Problem> {
    let what = match spawn_blocking(leftovers::remove).await {
        Ok(Ok(0)) => return None,
        Ok(Ok(count)) => {
            tracing::info!(count, "tables and sets of an earlier run are gone: pods talk as they like");
            return None;
        }
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    let what = format!("what an earlier run has left in the kernel cannot be taken away: {what}");
    Some(Problem::new(PLACE, what).and("it is in force, and no pod is started; tried again every second"))
}
