//! Which peers an operator means, and what can be done to them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cambric_api::{ALL, Action, Outcome, Reply};
use cambric_bgp::router::PeerStatus;
use cambric_bgp::{Admin, Router};
use cambric_speaker::Gone;

use super::Fault;
use super::words::{escaped, near};
use crate::state::Shared;

/// The peers; none while there is no speaker.
pub(super) async fn all(shared: &Shared) -> Result<Vec<PeerStatus>, Gone> {
    let speaker = shared.state.borrow().speaker.clone();
    match speaker {
        Some(speaker) => speaker.look(Router::peers).await,
        None => Ok(Vec::new()),
    }
}

/// Those of that name or address.
///
/// # Errors
/// [`Fault::NoSuch`]
pub(super) fn named(peers: Vec<PeerStatus>, wanted: &str) -> Result<Vec<PeerStatus>, Fault> {
    let mut found = peers.clone();
    found.retain(|peer| is_meant(wanted, &peer.config.name, peer.address));
    if found.is_empty() { Err(unknown(peers, wanted)) } else { Ok(found) }
}

fn is_meant(wanted: &str, name: &str, address: IpAddr) -> bool {
    escaped(name) == wanted || wanted.parse() == Ok(address)
}

fn unknown(peers: Vec<PeerStatus>, wanted: &str) -> Fault {
    let names = peers.into_iter().map(|peer| escaped(&peer.config.name));
    Fault::NoSuch(Box::new(Reply::no_such("peer", wanted, &near(wanted, names.collect()))))
}

/// `enable` and `disable`. One that is no peer now can be enabled as well, so that it comes back as one.
pub(super) async fn set_admin(shared: &Shared, wanted: &str, admin: Admin) -> Result<Reply, Fault> {
    // Held until the speaker knows: file and speaker must hear of two operators in the same order.
    let mut disabled = shared.disabled.lock().await;
    let peers = all(shared).await?;
    let mut meant: BTreeMap<IpAddr, String> = BTreeMap::new();
    if admin == Admin::Enabled {
        meant.extend(disabled.names().clone());
    }
    meant.extend(peers.iter().map(|peer| (peer.address, escaped(&peer.config.name))));
    meant.retain(|address, name| wanted == ALL || is_meant(wanted, name, *address));
    if meant.is_empty() && wanted != ALL {
        return Err(unknown(peers, wanted));
    }

    let mut names = disabled.names().clone();
    let mut actions = Vec::new();
    for (address, peer) in &meant {
        let (before, outcome) = match admin {
            Admin::Enabled => (names.remove(address), [Outcome::AlreadyEnabled, Outcome::Enabled]),
            Admin::Disabled => {
                (names.insert(*address, peer.clone()), [Outcome::Disabled, Outcome::AlreadyDisabled])
            }
        };
        let outcome = outcome[usize::from(before.is_some())];
        actions.push(Action { peer: peer.clone(), address: address.to_string(), outcome });
    }
    if let Err(error) = disabled.set(names) {
        let why =
            format!("nothing was done, for it could not be written down in the run-time folder: {error}");
        return Ok(Reply::failed(why));
    }
    let speaker = shared.state.borrow().speaker.clone();
    for (address, name) in meant {
        tracing::info!(peer = %name, address = %address, to = ?admin, "an operator has set a peer");
        if let Some(speaker) = &speaker {
            speaker.set_admin_at(address, admin).await?;
        }
    }
    Ok(Reply::actions(actions))
}

/// `restart`
pub(super) async fn restart(shared: &Shared, wanted: &str) -> Result<Reply, Fault> {
    let peers = all(shared).await?;
    let meant = match wanted {
        ALL => peers,
        _ => named(peers, wanted)?,
    };
    let speaker = shared.state.borrow().speaker.clone();
    let mut actions = Vec::new();
    for peer in meant {
        let outcome = match (&speaker, peer.admin) {
            (Some(speaker), Admin::Enabled) => {
                tracing::info!(peer = %peer.config.name, address = %peer.address, "an operator restarts a peer");
                speaker.restart(peer.id).await?;
                Outcome::Restarted
            }
            _ => Outcome::AlreadyDisabled,
        };
        let peer_name = escaped(&peer.config.name);
        actions.push(Action { peer: peer_name, address: peer.address.to_string(), outcome });
    }
    Ok(Reply::actions(actions))
}

/// What an operator may have forgotten that he did.
pub(super) async fn notices(shared: &Shared, peers: &[PeerStatus]) -> Vec<String> {
    let disabled = shared.disabled.lock().await;
    let notice = |(address, name): (&IpAddr, &String)| match peers
        .iter()
        .find(|peer| peer.address == *address)
    {
        Some(peer) => {
            let name = escaped(&peer.config.name);
            format!("peer {name} ({address}) is disabled; `enable {name}` brings it back")
        }
        None => format!("{address} ({name}) is disabled and no peer now; `enable {address}` forgets that"),
    };
    disabled.names().iter().map(notice).collect()
}
