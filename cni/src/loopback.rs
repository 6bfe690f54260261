//! The plugin in its other role, called by the name `loopback`: brings a pod's `lo` up.
//!
//! containerd before 2.0 asks for a plugin of that name before any other, with the version 0.3.1 and a configuration of
//! its own. This one does what the reference plugin does (`containernetworking/plugins`, `plugins/main/loopback`), so
//! that a node needs no plugins but ours: ADD and DEL set `lo` up and down whatever `CNI_IFNAME` says, CHECK looks
//! whether it is up. There is nothing to lease, to gate or to count, so nothing else of this crate takes part.
//!
//! Deviation: a DEL whose namespace is a file that is none any more succeeds like one whose file is gone. The runtime
//! unmounts before it unlinks, and a DEL in between has nothing left to do.

use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

use nix::libc;
use serde_json::{Map, Value, json};

use crate::Answer;
use crate::add::Added;
use crate::config::Network;
use crate::error::{CniError, Code};
use crate::kernel::{self, Address, Link};
use crate::netlink::{Message, NetlinkError, Socket};
use crate::netns::{self, Netns};
use crate::request::{self, Variable};
use crate::version::{self, CniVersion};
use crate::wire::{LinkState, ifinfo};

const LO: &str = "lo";

/// Reads one call and does it.
///
/// # Errors
/// Codes 1 and 4 to 8, and 105 when the kernel refuses or `lo` is not as it should be; see [`Code`].
pub(crate) fn serve(variable: Variable<'_>, stdin: impl Read) -> Result<Answer, CniError> {
    let get = |name: &str| variable(name).filter(|value| !value.is_empty());
    let (served, required): (fn(&Call) -> _, &[&str]) = match get("CNI_COMMAND").as_deref() {
        None => return Ok(Answer::About),
        Some("VERSION") => return Ok(Answer::Json(version::answer())),
        Some("ADD") => (add, &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
        Some("CHECK") => (check, &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
        Some("DEL") => (del, &["CNI_CONTAINERID", "CNI_IFNAME"]),
        // Nothing is kept that could be collected, nothing needed that could be absent.
        Some("GC" | "STATUS") => (|_| Ok(Answer::Silence), &[]),
        Some(command) => return Err(request::unknown_command(command)),
    };
    request::refuse_missing(&get, required)?;
    let network = request::read_network(stdin)?;
    let version = network.version;
    let served = || {
        if !required.is_empty() {
            request::read_holder(&get)?;
        }
        since(&get("CNI_COMMAND").unwrap_or_default(), version)?;
        let own_netns = request::read_own_netns(&get);
        served(&Call { network, netns: get("CNI_NETNS").unwrap_or_default(), own_netns })
    };
    served().map_err(|error: CniError| error.in_version(version))
}

/// What a command needs to know.
struct Call {
    network: Network,
    /// `CNI_NETNS`; empty if it was not told.
    netns: String,
    own_netns: request::OwnNetns,
}

/// Commands came one after the other (specification 1.1.0, "Changelog").
fn since(command: &str, version: CniVersion) -> Result<(), CniError> {
    let first = match command {
        "CHECK" => CniVersion::V0_4_0,
        "GC" | "STATUS" => CniVersion::V1_1_0,
        _ => CniVersion::V0_3_1,
    };
    if version >= first {
        return Ok(());
    }
    let msg = format!("CNI_COMMAND {command} came with version {first}, the configuration has {version}");
    Err(CniError::new(Code::IncompatibleVersion, msg))
}

/// A result of plugins before us passes as it is.
fn add(call: &Call) -> Result<Answer, CniError> {
    let netns = netns::open_of_pod(Path::new(&call.netns), call.own_netns)?;
    let addresses = within(&netns, || {
        let mut socket = Socket::open()?;
        let lo = set(&mut socket, LinkState::Up)?;
        kernel::addresses_of(&mut socket, lo.index)
    })?;
    if let Some(strange) = addresses.iter().find(|found| !found.address.is_loopback()) {
        return Err(not_as_should(format!("lo has the address {}, which is no loopback's", strange.address)));
    }
    let version = call.network.version;
    let result = match call.network.prev_result.clone() {
        Some(Value::Object(previous)) => passed(previous, version),
        _ => result(version, &call.netns, &addresses),
    };
    Ok(Answer::Added(Added { result, warning: None }))
}

/// What cannot be found has nothing to be set down, and the namespace takes all with it in any case.
fn del(call: &Call) -> Result<Answer, CniError> {
    let Ok(netns) = Netns::open(Path::new(&call.netns)) else { return Ok(Answer::Silence) };
    if !netns.is_namespace().map_err(|error| netns::invalid(netns.path(), error))? {
        return Ok(Answer::Silence);
    }
    netns.refuse_own(call.own_netns)?;
    within(&netns, || set(&mut Socket::open()?, LinkState::Down))?;
    Ok(Answer::Silence)
}

fn check(call: &Call) -> Result<Answer, CniError> {
    let netns = netns::open_of_pod(Path::new(&call.netns), call.own_netns)?;
    match within(&netns, || kernel::link(&mut Socket::open()?, LO))? {
        Some(Link { up: true, .. }) => Ok(Answer::Silence),
        _ => Err(not_as_should("lo is down".to_owned())),
    }
}

fn within<T>(netns: &Netns, act: impl FnOnce() -> Result<T, NetlinkError>) -> Result<T, CniError> {
    let outcome = netns.enter(act).map_err(|error| netns::invalid(netns.path(), error))?;
    outcome.map_err(not_as_should)
}

fn not_as_should(why: impl ToString) -> CniError {
    CniError::new(Code::PodWiring, "the pod's loopback interface is not as it should be").with_details(why)
}

/// Sets `lo` up or down and tells which link it is.
fn set(socket: &mut Socket, state: LinkState) -> Result<Link, NetlinkError> {
    let doing = format!("set {LO} {state:?}").to_lowercase();
    let message = Message::new(doing, libc::RTM_NEWLINK, 0, &ifinfo(0, state)).text(libc::IFLA_IFNAME, LO);
    let replies = socket.batch(&[message, kernel::link_query(LO)])?;
    let lo = replies.iter().find_map(kernel::parse_link);
    lo.ok_or_else(|| std::io::Error::other("the kernel tells nothing about lo").into())
}

fn passed(mut previous: Map<String, Value>, version: CniVersion) -> Value {
    previous.insert("cniVersion".into(), version.as_str().into());
    Value::Object(previous)
}

/// The first address of each family.
fn result(version: CniVersion, sandbox: &str, addresses: &[Address]) -> Value {
    let first = |of: fn(&IpAddr) -> bool| addresses.iter().find(move |found| of(&found.address));
    let families = [(first(IpAddr::is_ipv4), "4"), (first(IpAddr::is_ipv6), "6")];
    let ips = families.iter().filter_map(|(found, family)| {
        let Address { address, prefix, .. } = found.as_ref()?;
        let mut ip = json!({"address": format!("{address}/{prefix}"), "interface": 0});
        if version < CniVersion::V1_0_0 {
            ip["version"] = (*family).into();
        }
        Some(ip)
    });
    json!({
        "cniVersion": version.as_str(),
        "interfaces": [{"name": LO, "mac": "00:00:00:00:00:00", "sandbox": sandbox}],
        "ips": ips.collect::<Vec<Value>>(),
        "dns": {},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(command: &str, version: &str) -> Result<Answer, CniError> {
        let variable = |name: &str| match name {
            "CNI_COMMAND" => Some(command.to_owned()),
            "CNI_CONTAINERID" => Some("a1".to_owned()),
            "CNI_IFNAME" => Some("lo".to_owned()),
            "CNI_NETNS" => Some("/nonexistent".to_owned()),
            _ => None,
        };
        let config = format!(r#"{{"cniVersion": "{version}", "name": "cni-loopback", "type": "loopback"}}"#);
        serve(&variable, config.as_bytes())
    }

    #[test]
    fn commands_are_refused_in_versions_before_theirs() {
        for (command, version, code) in [
            ("ADD", "0.3.1", Some(Code::InvalidNetns)),
            ("ADD", "0.2.0", Some(Code::IncompatibleVersion)),
            ("CHECK", "0.3.1", Some(Code::IncompatibleVersion)),
            ("CHECK", "0.4.0", Some(Code::InvalidNetns)),
            ("DEL", "0.3.1", None),
            ("GC", "1.0.0", Some(Code::IncompatibleVersion)),
            ("GC", "1.1.0", None),
            ("STATUS", "1.0.0", Some(Code::IncompatibleVersion)),
            ("STATUS", "1.1.0", None),
            ("SING", "1.1.0", Some(Code::BadEnvironment)),
        ] {
            assert_eq!(called(command, version).err().map(|error| error.code), code, "{command} {version}");
        }
        assert!(matches!(called("VERSION", "none"), Ok(Answer::Json(_))));
    }

    #[test]
    fn the_family_is_told_before_1_0_0_and_lo_may_have_one_alone() {
        let address = |text: &str, prefix| Address {
            link: 1,
            address: text.parse().expect("address"),
            prefix,
            usable: true,
        };
        let both = [address("127.0.0.1", 8), address("127.0.0.2", 8), address("::1", 128)];
        let told = result(CniVersion::V0_3_1, "/run/netns/a", &both);
        assert_eq!(
            told["ips"],
            json!([
                {"address": "127.0.0.1/8", "interface": 0, "version": "4"},
                {"address": "::1/128", "interface": 0, "version": "6"},
            ])
        );
        let told = result(CniVersion::V1_0_0, "/run/netns/a", &both[..1]);
        assert_eq!(told["ips"], json!([{"address": "127.0.0.1/8", "interface": 0}]));
    }
}
