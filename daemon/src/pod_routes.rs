//! Keeps the host routes of the node's pods.
//!
//! The plugin makes them when a pod comes and is then gone; what the kernel or somebody takes away later comes back
//! from here ([`cambric_cni::host_routes`], which says what is lost when). Looked at when links or addresses change,
//! when one of the routes is deleted or replaced, when the node gets other addresses, and every minute; every second
//! while something cannot be mended. And a second after links have changed: a plugin that is chained behind ours may
//! give a pod another MAC, which tells nobody here.
//!
//! It needs no source and no peer: pods that are there keep their routes whatever else is wrong.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cambric_cni::config::NodeAddresses;
use cambric_cni::host_routes::{self, Failing, RestoreError, Restored};
use cambric_routes::LinkTable;
use tokio::sync::watch;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use crate::conflist::NETWORK;
use crate::intent::Intent;
use crate::objects::Problem;
use crate::state::State;

mod deletions;

use deletions::Deletions;

/// How often everything is compared without being told anything.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// The same while something is wrong: whoever mends it need not tell us.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long the plugins behind ours may take with a pod. A test has to do something before it is over.
const CHAIN_PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 5 } else { 1 });
/// Between two looks: pods that come and go change links many times a second.
const PAUSE: Duration = Duration::from_millis(50);

/// A look takes milliseconds; one that takes longer most probably waits for somebody who holds the leases.
const LATEST: Duration = Duration::from_secs(10);

/// Addresses that are cut off and named; the others are counted.
const MOST_NAMED: usize = 20;

/// Where most problems are.
const PLACE: &str = "host routes of pods";

/// What was done so far, and what cannot be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodRoutes {
    /// Routes put back since the start.
    pub put_back: u64,
    /// Routes given the node's address as their source again, since the start.
    pub sourced: u64,
    /// What the operator should mend.
    pub problems: Vec<Problem>,
}

/// Starts to keep them. The task ends with the links' or the state's sender.
///
/// # Errors
/// When the kernel lets nobody watch its routes.
pub fn start(
    run_dir: PathBuf,
    links: watch::Receiver<Arc<LinkTable>>,
    state: watch::Receiver<State>,
) -> io::Result<watch::Receiver<PodRoutes>> {
    let (told, published) = watch::channel(PodRoutes::default());
    let keeper = Keeper { run_dir, links, state, deletions: Some(Deletions::watch()?), told };
    tokio::spawn(keeper.run());
    Ok(published)
}

struct Keeper {
    run_dir: PathBuf,
    links: watch::Receiver<Arc<LinkTable>>,
    state: watch::Receiver<State>,
    /// None when the kernel lets them be watched no more.
    deletions: Option<Deletions>,
    told: watch::Sender<PodRoutes>,
}

impl Keeper {
    async fn run(mut self) {
        let mut check = interval(CHECK_INTERVAL);
        let mut retry = interval(RETRY_INTERVAL);
        for timer in [&mut check, &mut retry] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut sources = NodeAddresses::default();
        // When links that have changed are looked at again.
        let mut again: Option<Instant> = None;
        let mut changed_at = Instant::now();
        loop {
            let wrong = !self.told.borrow().problems.is_empty();
            // All branches are cancel-safe.
            tokio::select! {
                changed = self.links.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    changed_at = Instant::now();
                    again.get_or_insert(changed_at + CHAIN_PATIENCE);
                }
                () = at(again) => {
                    // For those that have changed since it was due: pods may come without end.
                    again = Some(changed_at + CHAIN_PATIENCE).filter(|due| *due > Instant::now());
                }
                deleted = next_deletion(&mut self.deletions) => if let Err(error) = deleted {
                    tracing::warn!(error = %error, "deleted routes of pods are seen every minute only");
                    self.deletions = None;
                },
                changed = self.state.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = sources_of(&self.state.borrow_and_update());
                    if now == sources {
                        continue;
                    }
                    sources = now;
                }
                _ = check.tick() => {}
                _ = retry.tick(), if wrong => {}
            }
            self.links.mark_unchanged();
            self.look(sources).await;
            sleep(PAUSE).await;
        }
    }

    async fn look(&self, sources: NodeAddresses) {
        let run_dir = self.run_dir.clone();
        let mut looking = spawn_blocking(move || host_routes::restore(&run_dir, NETWORK, sources));
        let looked = match timeout(LATEST, &mut looking).await {
            Ok(looked) => looked,
            Err(_) => {
                self.told.send_modify(|told| told.problems = vec![stuck(&self.run_dir)]);
                looking.await
            }
        };
        let restored = match looked {
            Ok(restored) => restored,
            Err(error) if error.is_panic() => {
                self.told.send_modify(|told| told.problems = vec![broken_off(&error)]);
                return;
            }
            // The runtime is being shut down.
            Err(_) => return,
        };
        if let Ok(Restored { put_back, sourced, .. }) = restored
            && put_back + sourced > 0
        {
            tracing::info!(put_back, sourced, "host routes of pods are as they should be again");
        }
        self.told.send_if_modified(|told| {
            let before = told.clone();
            told.take(&self.run_dir, restored);
            *told != before
        });
    }
}

impl PodRoutes {
    fn take(&mut self, run_dir: &Path, restored: Result<Restored, RestoreError>) {
        let restored = match restored {
            Ok(restored) => restored,
            Err(error) => {
                let place = format!("{PLACE}, {}", run_dir.display());
                self.problems = vec![Problem::new(place, format!("cannot be compared: {error}"))];
                return;
            }
        };
        self.put_back += restored.put_back as u64;
        self.sourced += restored.sourced as u64;
        let missing = restored.missing_sources.iter().map(missing_source);
        self.problems = missing.chain(cut_off(&restored.failing)).collect();
    }
}

/// Never, if there is no such time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The next one; never, when there is nobody to tell.
async fn next_deletion(deletions: &mut Option<Deletions>) -> io::Result<()> {
    match deletions {
        Some(deletions) => deletions.next().await,
        None => std::future::pending().await,
    }
}

/// The first ones by name: an address that is gone may cut off hundreds at once.
fn cut_off(failing: &[Failing]) -> Vec<Problem> {
    let named = failing.iter().take(MOST_NAMED).map(ToString::to_string);
    let more = failing.len().saturating_sub(MOST_NAMED);
    let rest = (more > 0).then(|| format!("and {more} more"));
    named.chain(rest).map(|words| Problem::new(PLACE, words)).collect()
}

fn stuck(run_dir: &Path) -> Problem {
    let lock = run_dir.join("ipam").join(NETWORK).join("lock");
    let what = format!(
        "a look at them does not come to an end, lost ones stay lost; is {} held? Then no pod can be added either",
        lock.display()
    );
    Problem::new(PLACE, what)
}

/// A bug of ours; the panic itself is on stderr. Where panics abort there is nobody left to tell it.
fn broken_off(error: &JoinError) -> Problem {
    Problem::new(PLACE, format!("cannot be compared: {error}"))
}

fn missing_source(address: &IpAddr) -> Problem {
    Problem::new(
        format!("node address {address}"),
        "is on no interface: this node speaks to its pods from another address",
    )
}

/// Unknown until there is an intent: then sources stay as they are.
fn sources_of(state: &State) -> NodeAddresses {
    let addresses = state.intent.as_deref().map(|Intent { node_addresses, .. }| node_addresses.values());
    let mut sources = NodeAddresses::default();
    for address in addresses.into_iter().flatten() {
        match address {
            IpAddr::V4(address) => sources.ipv4 = Some(*address),
            IpAddr::V6(address) => sources.ipv6 = Some(*address),
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use cambric_cni::attachment::{Attachment, Holder};
    use cambric_cni::lease::{self, Leases};
    use cambric_cni::range::Range;

    use super::*;
    use crate::own_node::{ip, on_a_node};

    #[test]
    fn repairs_add_up_and_problems_are_those_of_the_last_look() {
        let mut told = PodRoutes::default();
        let address: IpAddr = "10.244.1.5".parse().expect("address");
        let failing = Failing { address, pod: "default/web".into(), why: "camx is down".into() };
        let bad = Restored {
            put_back: 2,
            missing_sources: ["10.255.1.1".parse().expect("address")].into(),
            failing: vec![failing],
            ..Restored::default()
        };
        told.take(Path::new("/run/cambric"), Ok(bad));
        let words: Vec<String> = told.problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            words,
            [
                "node address 10.255.1.1: is on no interface: this node speaks to its pods from another address",
                "host routes of pods: no route to 10.244.1.5 of default/web: camx is down",
            ]
        );
        told.take(Path::new("/run/cambric"), Ok(Restored { put_back: 1, sourced: 3, ..Restored::default() }));
        assert_eq!(told, PodRoutes { put_back: 3, sourced: 3, problems: Vec::new() });
    }

    #[test]
    fn of_many_pods_that_are_cut_off_some_are_named_and_all_counted() {
        let failing = |nth| Failing { address: [10, 244, 1, nth].into(), pod: "p".into(), why: "w".into() };
        let words = |count| cut_off(&(0..count).map(failing).collect::<Vec<_>>());
        assert_eq!(words(20).len(), 20);
        let many = words(110);
        assert_eq!(many.len(), 21);
        assert_eq!(many[19].to_string(), "host routes of pods: no route to 10.244.1.19 of p: w");
        assert_eq!(many[20].to_string(), "host routes of pods: and 90 more");
    }

    fn is_gateway(link: &str) -> bool {
        let shown = Command::new("ip").args(["-6", "-oneline", "address", "show", "dev", link]).output();
        String::from_utf8_lossy(&shown.expect("iproute2 is installed").stdout).contains(" fe80::1/")
    }

    async fn becomes_gateway(link: &str) {
        let until = Instant::now() + Duration::from_secs(20);
        while !is_gateway(link) {
            assert!(Instant::now() < until, "it is looked at every minute anyway");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// The gateway's address stands for all that tells no event here, as the MAC that a chained plugin gives a pod.
    #[test]
    fn links_that_have_changed_are_looked_at_again_after_a_second() {
        on_a_node(async || {
            let folder = tempfile::tempdir().expect("temporary folder");
            let run_dir = folder.path();
            let holder = Holder { container_id: "a1b2".into(), ifname: "eth0".into() };
            let range = Range::new(None, Some("fd00:1::/64".parse().expect("a network"))).expect("a range");
            let mut leases = Leases::open(run_dir, NETWORK, &[range], || Ok(Vec::new())).expect("own folder");
            leases.grant(&holder, lease::now()).expect("room");
            drop(leases);
            let attachment = Attachment { holder, network: NETWORK.to_owned(), pod: None, uid: None };
            let link = attachment.host_ifname();
            ip([
                format!("link add {link} type veth peer name other"),
                "link set other up".to_owned(),
                format!("link set {link} up alias \"{}\"", attachment.alias()),
            ]);
            let (changed, links) = watch::channel(Arc::default());
            let (_state, state) = watch::channel(State::default());
            let _told = start(run_dir.to_owned(), links, state).expect("the kernel tells");
            becomes_gateway(&link).await;
            // The first is seen at once, the other one after a second.
            ip([format!("address flush dev {link} to fe80::1")]);
            changed.send(Arc::default()).expect("it listens");
            becomes_gateway(&link).await;
            ip([format!("address flush dev {link} to fe80::1")]);
            becomes_gateway(&link).await;
        });
    }

    #[tokio::test]
    async fn a_look_that_panics_is_a_problem() {
        let error = spawn_blocking::<_, ()>(|| panic!("on purpose")).await.expect_err("it panics");
        let words = broken_off(&error).to_string();
        assert!(
            words.starts_with("host routes of pods: cannot be compared: task ")
                && words.contains("on purpose"),
            "{words}"
        );
    }
}
