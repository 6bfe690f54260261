//! `cambric cleanup`: everything of Cambric's goes from this node, and nothing else.
//!
//! The crates that made it know it again and remove it, each its own ([`cambric_cni::cleanup`],
//! [`cambric_policy::cleanup`], [`cambric_routes::cleanup`]); here they are put in order, and files ([`files`]) and
//! sysctls ([`sysctls`]) are seen to:
//!
//! 1. what lets new pods start: the CNI configuration, the plugin, the mark `ready`;
//! 2. the links of pods, if they may be cut off. Before the rules: a pod that is wired is judged to its end;
//! 3. tables, then the sets that their rules name. Then links once more: an ADD that was past its gate may end late;
//! 4. routes, then the next hops that they stand on;
//! 5. files, sysctls, and last what this itself goes by: the record of sysctls and the lock.
//!
//! A step that fails is told and the others are done; what is left a second run finds, and tells again. Nothing is
//! touched while a daemon runs, which would make it all anew, nor while pods are wired that nobody said may be cut off.

mod files;
mod report;
mod sysctls;
mod turn;

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Display;
use std::path::PathBuf;

use cambric_api::node;
use cambric_cni::cleanup as cni;
use cambric_policy::cleanup::{self as policy, Leftover};
use cambric_routes::cleanup as routes;
use clap::Args;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};

use crate::install;
use crate::session::{self, Outcome, Output};
use report::{Report, Verb};
use turn::Turn;

/// Names of pods that a refusal tells.
const MOST_NAMES: usize = 10;
/// Times that is looked for what came meanwhile.
const MOST_LOOKS: usize = 5;

/// What the operator wants. The folders are those of cambricd.
#[derive(Debug, Args)]
pub(crate) struct Cleanup {
    /// Print what would be done, a line each, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Cut off pods that are still wired.
    #[arg(long)]
    with_pods: bool,
    /// Leave forwarding on for others, and what goes with it: no sysctl is put back.
    #[arg(long)]
    keep_forwarding: bool,
    /// When all is done wait until SIGTERM or SIGINT, so that a DaemonSet can run this on all nodes.
    #[arg(long)]
    stay: bool,
    /// Run-time files.
    #[arg(long, default_value = "/run/cambric", value_name = "DIR")]
    run_dir: PathBuf,
    /// The last known state of the cluster.
    #[arg(long, default_value = "/var/lib/cambric", value_name = "DIR")]
    state_dir: PathBuf,
    /// Where the container runtime looks for plugins.
    #[arg(long, default_value = "/opt/cni/bin", value_name = "DIR")]
    cni_bin_dir: PathBuf,
    /// Where the container runtime looks for CNI configuration.
    #[arg(long, default_value = "/etc/cni/net.d", value_name = "DIR")]
    cni_conf_dir: PathBuf,
    /// The node's own /proc/sys/net; in a container it is mounted at a path of its own.
    #[arg(long, default_value = "/proc/sys/net", value_name = "DIR")]
    sysctl_dir: PathBuf,
}

/// Does it and tells it. Failed: something of ours is still there, or nothing was touched.
pub(crate) fn cleanup(wish: &Cleanup, output: Output) -> Outcome {
    let end = match wish.stay.then(End::hold).transpose() {
        Ok(end) => end,
        Err(errno) => {
            return session::complain(format_args!("cannot wait for a signal: {errno}"), Outcome::Failed);
        }
    };
    let mut report = Report::new(output, wish.dry_run);
    clean(wish, &mut report);
    match (report.finish(), end) {
        (Outcome::Done, Some(end)) => end.wait(),
        (outcome, _) => outcome,
    }
}

fn clean(wish: &Cleanup, report: &mut Report) {
    // Who only asks holds it no longer than it takes to see: a daemon that finds it held ends.
    let turn = if wish.dry_run {
        Turn::look(&wish.run_dir).map(|()| None)
    } else {
        Turn::take(&wish.run_dir).map(Some)
    };
    let in_the_way = match &turn {
        Ok(_) => owner(),
        Err(refusal) => Some(refusal.clone()),
    };
    let refusals: Vec<String> = in_the_way.into_iter().chain(pods_in_the_way(wish)).collect();
    for refusal in &refusals {
        report.refuse(refusal);
    }
    if !refusals.is_empty() && !wish.dry_run {
        return;
    }
    nothing_new(wish, report);
    let are_pods_gone = pods(wish, report);
    if wish.dry_run {
        sweep_policy(report);
    } else if are_pods_gone {
        sweep_policy(report);
        pods(wish, report);
    } else {
        report.fail(Verb::Remove, "tables and sets", "a pod that is still wired would be judged by nobody");
    }
    sweep_pod_routes(report);
    sweep_routes(report);
    files(wish, report, turn.ok().flatten());
}

/// A daemon that has another folder of run-time files is known by what it owns.
fn owner() -> Option<String> {
    let is_owned = |leftover: &Leftover| matches!(leftover, Leftover::Table { owned: true, .. });
    match policy::Cleanup::open().and_then(|mut kernel| kernel.find()) {
        Ok(found) => found
            .into_iter()
            .find(is_owned)
            .map(|table| format!("a process that is alive owns {table}: a cambricd with another --run-dir?")),
        Err(error) => Some(format!("cannot look for tables and sets: {error}")),
    }
}

fn pods_in_the_way(wish: &Cleanup) -> Option<String> {
    match pods_wired() {
        Ok(pods) if wish.with_pods || pods.is_empty() => None,
        Ok(pods) => Some(still_wired(&pods)),
        Err(error) => Some(format!("cannot look for pods: {error}")),
    }
}

fn pods_wired() -> Result<Vec<cni::PodLink>, String> {
    let mut kernel = cni::Cleanup::open().map_err(|error| error.to_string())?;
    kernel.pods().map_err(|error| error.to_string())
}

fn still_wired(pods: &[cni::PodLink]) -> String {
    let names: BTreeSet<&str> = pods.iter().map(|pod| &*pod.pod).collect();
    let (count, are, them) = match names.len() {
        1 => ("1 pod".to_owned(), "is", "it"),
        count => (format!("{count} pods"), "are", "them"),
    };
    let told = names.iter().take(MOST_NAMES).copied().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(MOST_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(
        "{count} {are} still wired: {told}{more}; drain the node or say --with-pods, which cuts {them} off"
    )
}

/// From here on no pod can start: without a configuration the runtime calls no plugin, a plugin that it has called
/// already finds no mark.
fn nothing_new(wish: &Cleanup, report: &mut Report) {
    for name in [node::CONFLIST, node::CONFLIST_TEMPORARY] {
        files::remove(report, &wish.cni_conf_dir.join(name));
    }
    for path in install::of_ours(&wish.cni_bin_dir) {
        files::remove(report, &path);
    }
    for path in files::with_stems(report, &wish.run_dir, &[cni::MARK_STEM]) {
        files::remove(report, &path);
    }
}

/// Cuts them off, if that was said: again, if some came by a call that was under way. Whether none is left.
fn pods(wish: &Cleanup, report: &mut Report) -> bool {
    let mut kernel = match cni::Cleanup::open() {
        Ok(kernel) => kernel,
        Err(error) => {
            report.fail(Verb::Remove, "links of pods", error);
            return false;
        }
    };
    let mut are_gone = false;
    for _ in 0..MOST_LOOKS {
        let pods = match kernel.pods() {
            Ok(pods) => pods,
            Err(error) => {
                report.fail(Verb::Remove, "links of pods", error);
                break;
            }
        };
        if pods.is_empty() {
            are_gone = true;
            break;
        }
        if !wish.with_pods && !wish.dry_run {
            report.fail(Verb::Remove, "links of pods", format!("wired meanwhile: {}", still_wired(&pods)));
            break;
        }
        if !sweep(report, "links of pods", Ok::<_, String>(pods), |pod| kernel.cut_off(pod)) || wish.dry_run {
            break;
        }
    }
    are_gone
}

fn sweep_policy(report: &mut Report) {
    match policy::Cleanup::open() {
        Ok(mut kernel) => {
            let found = kernel.find();
            sweep(report, "tables and sets", found, |leftover| kernel.remove(leftover));
        }
        Err(error) => report.fail(Verb::Remove, "tables and sets", error),
    }
}

/// Those that went with no link.
fn sweep_pod_routes(report: &mut Report) {
    match cni::Cleanup::open() {
        Ok(mut kernel) => {
            let found = kernel.strays();
            sweep(report, "routes of pods", found, |stray| kernel.remove_stray(stray));
        }
        Err(error) => report.fail(Verb::Remove, "routes of pods", error),
    }
}

fn sweep_routes(report: &mut Report) {
    let mut kernel = match routes::Cleanup::open() {
        Ok(kernel) => kernel,
        Err(error) => return report.fail(Verb::Remove, "routes", with_causes(&error)),
    };
    for _ in 0..MOST_LOOKS {
        let found = kernel.find().map_err(|error| with_causes(&error));
        let is_all = found.as_ref().is_ok_and(Vec::is_empty);
        if is_all || !sweep(report, "routes", found, |leftover| kernel.remove(leftover)) || report.is_dry() {
            break;
        }
    }
}

/// Removes all that was found. False if something of it is still there.
fn sweep<T: Display, E: Display, R: Display>(
    report: &mut Report,
    what: &str,
    found: Result<Vec<T>, E>,
    mut remove: impl FnMut(&T) -> Result<(), R>,
) -> bool {
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            report.fail(Verb::Remove, what, error);
            return false;
        }
    };
    let mut all = true;
    for thing in &found {
        all &= report.act(Verb::Remove, thing, || remove(thing));
    }
    all
}

/// All on the disk that is left but for the mark, which went first, and sysctls before the record that they are put back by.
/// The lock is the last: a daemon that starts from then on finds nothing of an earlier one.
fn files(wish: &Cleanup, report: &mut Report, turn: Option<Turn>) {
    let of_run_dir = [&cni::RUN_STEMS[..], &node::RUN_STEMS, &[routes::RUN_STEM]].concat();
    let last = [node::LOCK, node::SYSCTLS, node::SYSCTLS_TEMPORARY].map(|name| wish.run_dir.join(name));
    let first = files::with_stems(report, &wish.run_dir, &[cni::MARK_STEM]);
    for path in files::with_stems(report, &wish.run_dir, &of_run_dir) {
        if !last.contains(&path) && !first.contains(&path) {
            files::remove(report, &path);
        }
    }
    for path in files::with_stems(report, &wish.state_dir, &node::STATE_STEMS) {
        files::remove(report, &path);
    }
    files::remove_folder(report, &wish.state_dir, &node::STATE_STEMS);

    let [lock, record, temporary] = last;
    let is_done = if wish.keep_forwarding {
        sysctls::keep(report, &record);
        true
    } else {
        sysctls::put_back(report, &wish.sysctl_dir, &record)
    };
    if is_done {
        files::remove(report, &record);
    }
    files::remove(report, &temporary);
    // One that we made is nothing to tell.
    if turn.as_ref().is_some_and(Turn::is_new) {
        drop(turn);
    } else {
        files::remove(report, &lock);
    }
    files::remove_folder(report, &wish.run_dir, &of_run_dir);
}

/// SIGTERM or SIGINT: held back while there is work, then waited for. A DaemonSet would start what has ended again.
struct End(SigSet);

impl End {
    fn hold() -> Result<End, Errno> {
        let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
        signals.thread_block()?;
        Ok(End(signals))
    }

    fn wait(self) -> Outcome {
        match self.0.wait() {
            Ok(_) => Outcome::Done,
            Err(errno) => {
                session::complain(format_args!("cannot wait for a signal: {errno}"), Outcome::Failed)
            }
        }
    }
}

fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
