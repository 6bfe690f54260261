//! The pods that are wired on this node, looked for when links change and every minute.
//!
//! An ADD names the link first and tells no event with the rest, and what is told here may be half of it: so a look
//! that finds something new is followed by another one a second later. Nobody waits for it: the plugin tells by the
//! control socket what it has wired.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cambric_cni::attachment::Attachment;
use cambric_cni::endpoints::{self, PodName};
use cambric_policy::change::{Endpoint, Key, PodRef};
use cambric_policy::pod::Uid;
use cambric_policy::program::{IfName, VETH_PREFIX};
use cambric_routes::LinkTable;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// How often is looked without being told anything.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// The same while it is not the same twice, or could not be looked.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks: pods that come and go change links many times a second.
const PAUSE: Duration = Duration::from_millis(50);

/// All of them, by the host ends of their links.
pub type Endpoints = BTreeMap<IfName, Wire>;

/// A link that is judged as a pod's, for its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wire {
    /// Its number: another one of this name has another.
    pub index: u32,
    /// What is at its other end, or why nobody can tell, as for a moment in each ADD.
    pub endpoint: Result<Endpoint, String>,
}

/// What one look has found.
#[derive(Debug, Clone)]
pub struct Look {
    /// It shows nothing that came later, and may show that.
    pub begun: Instant,
    /// What was there, or why nobody knows.
    pub found: Result<Endpoints, String>,
}

/// Starts to look. Nothing is told before the first look has ended. The task ends with the links' sender.
pub fn start(run_dir: PathBuf, mut links: watch::Receiver<Arc<LinkTable>>) -> watch::Receiver<Option<Look>> {
    let (told, latest) = watch::channel(None);
    tokio::spawn(async move {
        let mut check = interval(CHECK_INTERVAL);
        let mut settle = interval(SETTLE_INTERVAL);
        for timer in [&mut check, &mut settle] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut is_settled = false;
        // When it was first as it is.
        let mut since = Instant::now();
        loop {
            // All branches are cancel-safe.
            tokio::select! {
                changed = links.changed() => if changed.is_err() { return },
                _ = check.tick() => {}
                _ = settle.tick(), if !is_settled => {}
            }
            let strangers = strangers(&links.borrow_and_update());
            // The runtime is being shut down, or it is a bug of ours, which the policies' keeper tells.
            let run_dir = run_dir.clone();
            let Ok(look) = spawn_blocking(move || look(&run_dir, strangers)).await else { return };
            let Look { begun, found } = look.clone();
            let before: Option<Look> = told.send_replace(Some(look));
            if before.is_none_or(|before| before.found != found) {
                since = begun;
            }
            is_settled = found.is_ok() && begun.duration_since(since) >= SETTLE_INTERVAL;
            settle.reset();
            sleep(PAUSE).await;
        }
    });
    latest
}

/// Links that no ADD has made, and whose names begin as those that do.
fn strangers(links: &LinkTable) -> Endpoints {
    let is_stranger = |name: &str| name.starts_with(VETH_PREFIX) && !Attachment::is_host_ifname(name);
    let why = || "no ADD has made it, and it has the name of a pod's link; call it otherwise".to_owned();
    let strangers = links.iter().filter(|link| is_stranger(&link.name));
    strangers
        .map(|link| (link.name.as_str().into(), Wire { index: link.index.0, endpoint: Err(why()) }))
        .collect()
}

/// Blocks for the kernel.
fn look(run_dir: &Path, strangers: Endpoints) -> Look {
    let begun = Instant::now();
    let found = cambric_cni::endpoints(run_dir).map_err(|error| error.to_string());
    Look { begun, found: found.map(|all| all.into_iter().map(wire).chain(strangers).collect()) }
}

fn wire(wired: endpoints::Endpoint) -> (IfName, Wire) {
    let endpoints::Endpoint { interface, index, pod, mut addresses, link_local } = wired;
    // Its neighbour discovery and router solicitations come from it.
    addresses.extend(link_local.map(IpAddr::from));
    let endpoint = match pod {
        PodName::Nameless => Ok(Endpoint { pod: None, addresses }),
        PodName::Known { namespace, name, uid } => {
            let uid = uid.as_deref().and_then(Uid::new);
            Ok(Endpoint { pod: Some(PodRef { key: Key::new(&namespace, &name), uid }), addresses })
        }
        PodName::Unknown(why) => Err(why),
    };
    (interface.into(), Wire { index, endpoint })
}

#[cfg(test)]
mod tests {
    use cambric_cni::attachment::Holder;
    use tokio::time::timeout;

    use super::*;
    use crate::own_node::{ip, on_a_node};

    fn known(found: &Endpoints) -> impl Iterator<Item = &Endpoint> {
        found.values().filter_map(|wire| wire.endpoint.as_ref().ok())
    }

    async fn until(
        looks: &mut watch::Receiver<Option<Look>>,
        fits: impl Fn(&Endpoints) -> bool,
    ) -> Endpoints {
        let found = |look: &Option<Look>| look.as_ref().and_then(|look| look.found.clone().ok());
        let fits = |look: &Option<Look>| found(look).is_some_and(|found| fits(&found));
        let look = timeout(Duration::from_secs(20), looks.wait_for(fits)).await.expect("in time");
        found(&look.expect("it looks")).expect("just seen")
    }

    #[test]
    fn pods_are_found_and_what_is_told_by_no_event_soon_after() {
        on_a_node(async || {
            let holder = Holder { container_id: "a1b2".into(), ifname: "eth0".into() };
            let pod = Some("default/web-0".into());
            let attachment = Attachment { holder, network: "cambric".into(), pod, uid: None };
            let link = attachment.host_ifname();
            let (changed, links) = watch::channel(Arc::default());
            let mut looks = start(PathBuf::from("/nonexistent"), links);
            until(&mut looks, Endpoints::is_empty).await;

            ip([format!("link add {link} type veth peer name other"), format!("link set {link} up")]);
            changed.send(Arc::default()).expect("it listens");
            let found = until(&mut looks, |found| !found.is_empty()).await;
            assert_eq!(found[&*link].endpoint, Err("it has no alias".to_owned()));
            ip([format!("link set {link} alias \"{}\"", attachment.alias())]);
            changed.send(Arc::default()).expect("it listens");
            let found = until(&mut looks, |found| known(found).count() > 0).await;
            let endpoint = found[&*link].endpoint.as_ref().expect("its alias tells it");
            assert_eq!(endpoint.pod, Some(Key::new("default", "web-0").into()));
            let link_local = attachment.pod_mac().link_local().into();
            assert_eq!(endpoint.addresses, [link_local].into(), "its ADD is at work");

            ip([format!("route add 10.244.1.7 dev {link} proto 204")]);
            let has_all = |found: &Endpoints| known(found).all(|endpoint| endpoint.addresses.len() == 2);
            let found = until(&mut looks, has_all).await;
            let addresses = [[10, 244, 1, 7].into(), link_local].into();
            assert_eq!(known(&found).map(|endpoint| &endpoint.addresses).collect::<Vec<_>>(), [&addresses]);

            ip([format!("link del {link}")]);
            changed.send(Arc::default()).expect("it listens");
            until(&mut looks, Endpoints::is_empty).await;
        });
    }
}
