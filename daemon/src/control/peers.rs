//! Which peers an operator means, and what can be done to them.

use std::collections::{BTreeMap, BTreeSet};

use cambric_api::{ALL, Action, Outcome, Reply};
use cambric_bgp::router::{PeerOrigin, PeerStatus};
use cambric_bgp::{Admin, Family, Prefix, Router, ScopedAddress};
use cambric_speaker::{Gone, Handle};

use super::Fault;
use super::client::Operator;
use super::words::{escaped, near};
use crate::state::Shared;

/// The speaker.
///
/// # Errors
/// [`Fault::Answer`] while there is none: what it would be asked for is not known, which is not the same as nothing.
pub(super) fn speaker(shared: &Shared) -> Result<Handle, Fault> {
    let state = shared.state.borrow();
    let not_yet = || Fault::Answer(Box::new(not_yet(&state.waiting_for)));
    state.speaker.clone().ok_or_else(not_yet)
}

fn not_yet(waiting_for: &[String]) -> Reply {
    let why = match waiting_for {
        [] => "it has just been started".to_owned(),
        waiting_for => format!("it waits for {}", waiting_for.join(", ")),
    };
    Reply::unavailable(format!("BGP does not run yet: {why}"))
}

/// The peers.
///
/// # Errors
/// As [`speaker`].
pub(super) async fn all(shared: &Shared) -> Result<Vec<PeerStatus>, Fault> {
    Ok(speaker(shared)?.look(Router::peers).await?)
}

/// The peers, for an answer that is about more than them: none while there is no speaker.
pub(super) async fn all_so_far(shared: &Shared) -> Result<Vec<PeerStatus>, Gone> {
    match speaker(shared) {
        Ok(speaker) => speaker.look(Router::peers).await,
        Err(_) => Ok(Vec::new()),
    }
}

/// Those of that name or address.
///
/// # Errors
/// [`Fault::Answer`]
pub(super) fn named(peers: Vec<PeerStatus>, wanted: &str) -> Result<Vec<PeerStatus>, Fault> {
    let mut found = peers.clone();
    found.retain(|peer| is_meant(wanted, &peer.config.name, &peer.address));
    if found.is_empty() { Err(unknown(peers, wanted)) } else { Ok(found) }
}

fn is_meant(wanted: &str, name: &str, address: &ScopedAddress) -> bool {
    escaped(name) == wanted || wanted.parse().as_ref() == Ok(address)
}

fn unknown(peers: Vec<PeerStatus>, wanted: &str) -> Fault {
    let names = peers.into_iter().map(|peer| escaped(&peer.config.name));
    Fault::Answer(Box::new(Reply::no_such("peer", wanted, &near(wanted, names.collect()))))
}

/// `enable` and `disable`. One that is no peer now can be enabled as well, so that it comes back as one; before
/// there is a speaker one can be disabled by his address, so that it never comes. Whom readiness waits for can be disabled
/// though no manifest names him as it is read here: that ends the waiting.
pub(super) async fn set_admin(
    shared: &Shared,
    wanted: &str,
    admin: Admin,
    operator: &Operator,
) -> Result<Reply, Fault> {
    // Held until the speaker knows: file and speaker must hear of two operators in the same order.
    let mut disabled = shared.disabled.lock().await;
    let speaker = speaker(shared);
    let peers = match &speaker {
        Ok(speaker) => Some(speaker.look(Router::peers).await?),
        Err(_) => None,
    };
    let strangers = shared.state.borrow().latch.not_configured();
    let meant = meant(
        wanted,
        admin,
        &Known { disabled: disabled.names(), strangers, peers: peers.as_deref().map(named_peers) },
    );
    let intent = shared.state.borrow().intent.clone();
    let gateways = intent.as_ref().map(|intent| &intent.gateways);
    let is_meant = |peer: &&PeerStatus| meant.contains_key(&peer.address);
    let place = |peer: &PeerStatus| {
        let place = match peer.origin {
            PeerOrigin::Range(range) => Place::Range(range),
            PeerOrigin::Configured => match peer.address.interface() {
                Some(interface) => Place::Interface(escaped(interface)),
                None => Place::Gateway(*gateways?.get(&peer.address)?),
            },
        };
        Some((escaped(&peer.config.name), place))
    };
    let places = peers.iter().flatten().filter(is_meant).filter_map(place).collect();
    if meant.is_empty() {
        match peers {
            Some(_) if wanted == ALL => {}
            Some(peers) => return Err(unknown(peers, wanted)),
            None => return Err(speaker.err().unwrap_or_else(|| unknown(Vec::new(), wanted))),
        }
    }

    let mut names = disabled.names().clone();
    let mut actions = Vec::new();
    for (address, name) in &meant {
        let (before, outcome) = match admin {
            Admin::Enabled => (names.remove(address), [Outcome::AlreadyEnabled, Outcome::Enabled]),
            Admin::Disabled => {
                (names.insert(address.clone(), name.clone()), [Outcome::Disabled, Outcome::AlreadyDisabled])
            }
        };
        let outcome = outcome[usize::from(before.is_some())];
        actions.push(Action { peer: name.clone(), address: address.to_string(), outcome });
    }
    if let Err(error) = disabled.set(names) {
        let why =
            format!("nothing was done, for it could not be written down in the run-time folder: {error}");
        return Ok(Reply::failed(why));
    }
    for (address, name) in meant {
        tracing::info!(peer = %name, address = %address, to = ?admin, operator = %operator, "an operator has set a peer");
        if let Ok(speaker) = &speaker {
            speaker.set_admin_at(address, admin).await?;
        }
    }
    let note = (admin == Admin::Disabled).then(|| not_of(&places)).flatten();
    Ok(Reply { note, ..Reply::actions(actions) })
}

/// Where a peer is that has no address of its own in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Range(Prefix),
    Gateway(Family),
    Interface(String),
}

/// Whom it is not about to disable a peer of these names, though one may think so: it is disabled at the address that it
/// has.
fn not_of(places: &BTreeSet<(String, Place)>) -> Option<String> {
    let words = |(name, place): &(String, Place)| match place {
        Place::Range(range) => {
            format!(
                "whoever else calls from {range} is still let in as {name}: a peer is disabled at the address that it has"
            )
        }
        Place::Gateway(family) => format!(
            "{name} comes back where another default route of {family} leads: a peer is disabled at the address that it has"
        ),
        Place::Interface(interface) => format!(
            "{name} comes back if another router turns up on {interface}: a peer is disabled at the address that it has"
        ),
    };
    let words: Vec<String> = places.iter().map(words).collect();
    (!words.is_empty()).then(|| words.join("\n"))
}

/// Whose names are known.
struct Known<'a> {
    /// Whom the operator has disabled.
    disabled: &'a BTreeMap<ScopedAddress, String>,
    /// Who is no peer, and is waited for.
    strangers: BTreeMap<ScopedAddress, String>,
    /// Absent while there is no speaker.
    peers: Option<BTreeMap<ScopedAddress, String>>,
}

/// Whom an operator means, and their names.
fn meant(wanted: &str, admin: Admin, known: &Known) -> BTreeMap<ScopedAddress, String> {
    let Known { disabled, strangers, peers } = known;
    let mut meant: BTreeMap<ScopedAddress, String> = BTreeMap::new();
    if admin == Admin::Enabled || peers.is_none() {
        meant.extend((*disabled).clone());
    }
    if let (Admin::Disabled, None) = (admin, peers) {
        // There will be other peers than those that are disabled, and nobody knows their names.
        meant.retain(|_, _| wanted != ALL);
        meant.extend(
            wanted
                .parse()
                .ok()
                .filter(|address| !meant.contains_key(address))
                .map(|address| (address, String::new())),
        );
    }
    if admin == Admin::Disabled {
        // Who has moved is meant by its name where it is now, not where it was.
        let has_moved = |name: &String| peers.iter().flatten().any(|(_, of_peer)| of_peer == name);
        let strangers = strangers.iter().map(|(address, name)| (address.clone(), escaped(name)));
        meant.extend(strangers.filter(|(at, name)| !has_moved(name) || wanted.parse().as_ref() == Ok(at)));
    }
    meant.extend(peers.iter().flatten().map(|(address, name)| (address.clone(), name.clone())));
    meant.retain(|address, name| wanted == ALL || is_meant(wanted, name, address));
    meant
}

fn named_peers(peers: &[PeerStatus]) -> BTreeMap<ScopedAddress, String> {
    peers.iter().map(|peer| (peer.address.clone(), escaped(&peer.config.name))).collect()
}

/// `restart`
pub(super) async fn restart(shared: &Shared, wanted: &str, operator: &Operator) -> Result<Reply, Fault> {
    // Nobody is disabled or enabled between the look and the deed.
    let _disabled = shared.disabled.lock().await;
    let speaker = speaker(shared)?;
    let peers = speaker.look(Router::peers).await?;
    let meant = match wanted {
        ALL => peers,
        _ => named(peers, wanted)?,
    };
    let mut actions = Vec::new();
    for peer in meant {
        let (name, address) = (escaped(&peer.config.name), &peer.address);
        let outcome = match peer.admin {
            Admin::Enabled => {
                tracing::info!(peer = %name, address = %address, operator = %operator, "an operator restarts a peer");
                speaker.restart(peer.id).await?;
                Outcome::Restarted
            }
            Admin::Disabled => Outcome::AlreadyDisabled,
        };
        actions.push(Action { peer: name, address: address.to_string(), outcome });
    }
    Ok(Reply::actions(actions))
}

/// What an operator may have forgotten that he did.
pub(super) async fn notices(shared: &Shared, peers: &[PeerStatus]) -> Vec<String> {
    let disabled = shared.disabled.lock().await;
    let notice = |(address, name): (&ScopedAddress, &String)| match peers
        .iter()
        .find(|peer| peer.address == *address)
    {
        Some(peer) => {
            let name = escaped(&peer.config.name);
            format!("peer {name} ({address}) is disabled; `enable {name}` brings it back")
        }
        None if name.is_empty() => {
            format!("{address} is disabled and no peer now; `enable {address}` forgets that")
        }
        None => format!("{address} ({name}) is disabled and no peer now; `enable {address}` forgets that"),
    };
    disabled.names().iter().map(notice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(entries: &[(&str, &str)]) -> BTreeMap<ScopedAddress, String> {
        let entry = |(address, name): &(&str, &str)| (address.parse().expect("address"), (*name).to_owned());
        entries.iter().map(entry).collect()
    }

    #[test]
    fn before_there_are_peers_one_can_be_disabled_by_address_only() {
        let known = names(&[("10.0.1.1", "tor1a")]);
        let of = Known { disabled: &known, strangers: names(&[]), peers: None };
        let disable = |wanted| meant(wanted, Admin::Disabled, &of);
        assert_eq!(disable("10.0.1.2"), names(&[("10.0.1.2", "")]));
        assert_eq!(disable("10.0.1.1"), known);
        assert_eq!(disable("tor1a"), known);
        assert_eq!(disable("tor1b"), names(&[]));
        assert_eq!(disable(ALL), names(&[]), "nobody knows who all will be");
    }

    #[test]
    fn before_there_are_peers_those_that_are_disabled_can_be_enabled() {
        let known = names(&[("10.0.1.1", "tor1a"), ("10.0.1.2", "")]);
        let of = Known { disabled: &known, strangers: names(&[]), peers: None };
        let enable = |wanted| meant(wanted, Admin::Enabled, &of);
        assert_eq!(enable("tor1a"), names(&[("10.0.1.1", "tor1a")]));
        assert_eq!(enable("10.0.1.2"), names(&[("10.0.1.2", "")]));
        assert_eq!(enable(ALL), known);
        assert_eq!(enable("10.0.1.3"), names(&[]));
    }

    #[test]
    fn who_is_waited_for_can_be_disabled_though_it_is_no_peer() {
        let (disabled, strangers) = (names(&[]), names(&[("10.0.1.1", "tor1a"), ("10.0.1.2", "tor1b")]));
        let of = Known { disabled: &disabled, strangers: strangers.clone(), peers: Some(names(&[])) };
        assert_eq!(meant("tor1a", Admin::Disabled, &of), names(&[("10.0.1.1", "tor1a")]));
        assert_eq!(meant("10.0.1.2", Admin::Disabled, &of), names(&[("10.0.1.2", "tor1b")]));
        assert_eq!(meant(ALL, Admin::Disabled, &of), strangers);
        assert_eq!(meant("tor1a", Admin::Enabled, &of), names(&[]));
        let moved = Known { peers: Some(names(&[("10.0.2.1", "tor1a")])), ..of };
        assert_eq!(
            meant("tor1a", Admin::Disabled, &moved),
            names(&[("10.0.2.1", "tor1a")]),
            "where it is now"
        );
        assert_eq!(
            meant("10.0.1.1", Admin::Disabled, &moved),
            names(&[("10.0.1.1", "tor1a")]),
            "where it was"
        );
    }

    #[test]
    fn who_has_no_address_of_its_own_is_not_disabled_for_good_and_that_is_said() {
        let range: Prefix = "10.1.0.0/16".parse().expect("prefix");
        let places = [
            ("racks".to_owned(), Place::Range(range)),
            ("racks".to_owned(), Place::Range(range)),
            ("gateway".to_owned(), Place::Gateway(Family::Ipv4)),
            ("tor1a".to_owned(), Place::Interface("eth1".to_owned())),
        ];
        let says = "gateway comes back where another default route of ipv4 leads: a peer is disabled at the address that it \
                    has\nwhoever else calls from 10.1.0.0/16 is still let in as racks: a peer is disabled at the address \
                    that it has\ntor1a comes back if another router turns up on eth1: a peer is disabled at the address that \
                    it has";
        assert_eq!(not_of(&places.into()).as_deref(), Some(says));
        assert_eq!(not_of(&BTreeSet::new()), None);
    }

    #[test]
    fn without_a_speaker_the_answer_says_what_is_waited_for() {
        let reply = not_yet(&["the Node object \"c1\"".to_owned()]);
        let why = "BGP does not run yet: it waits for the Node object \"c1\"";
        assert_eq!(reply, Reply::unavailable(why));
        assert!(not_yet(&[]).is_error());
    }
}
