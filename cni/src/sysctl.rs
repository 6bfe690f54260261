//! IPv6 settings of an interface, by files under `/proc/sys`: netlink has no message for them. And how any setting is
//! looked at.
//!
//! `/proc/sys/net` shows the namespace of the calling thread.

use std::fs;
use std::io;
use std::path::Path;

const NET: &str = "/proc/sys/net";
const IPV6: &str = "/proc/sys/net/ipv6/conf";

/// What a pod has to do with IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ipv6 {
    /// It gets an address.
    Granted,
    /// It gets none, though the kernel could.
    Unused,
    /// The kernel cannot (`ipv6.disable=1`).
    Missing,
}

impl Ipv6 {
    /// What a pod that wants an address or not has to do with it on this kernel.
    pub(crate) fn wanted(wanted: bool) -> io::Result<Ipv6> {
        match (wanted, Path::new(IPV6).join("all").exists()) {
            (true, true) => Ok(Ipv6::Granted),
            (true, false) => {
                let why = "IPv6 is disabled in this kernel (ipv6.disable=1?), yet the range has ipv6";
                Err(io::Error::other(why))
            }
            (false, true) => Ok(Ipv6::Unused),
            (false, false) => Ok(Ipv6::Missing),
        }
    }
}

/// The settings of the host end: it listens to no router, has addresses at once, and routes.
pub(crate) fn set_host_end(ifname: &str, ipv6: Ipv6) -> io::Result<()> {
    set_pod_end(ifname, ipv6)?;
    if ipv6 == Ipv6::Granted { set(ifname, "forwarding", "1") } else { Ok(()) }
}

/// The settings of the pod end: it listens to no router, and has addresses at once.
pub(crate) fn set_pod_end(ifname: &str, ipv6: Ipv6) -> io::Result<()> {
    if ipv6 == Ipv6::Missing {
        return Ok(());
    }
    set(ifname, "accept_dad", "0")?;
    set(ifname, "accept_ra", "0")?;
    // After the others, since it makes a link-local address by the settings of that moment.
    if ipv6 == Ipv6::Granted { set(ifname, "disable_ipv6", "0") } else { Ok(()) }
}

/// How a setting, by its path under `net`, is other than wanted, in words.
pub(crate) fn differs(path: &str, wanted: &str) -> Option<String> {
    let file = Path::new(NET).join(path);
    match fs::read_to_string(&file) {
        Ok(current) if current.trim_end() == wanted => None,
        Ok(current) => Some(format!("{} is {}, must be {wanted}", file.display(), current.trim_end())),
        Err(error) => Some(format!("{} cannot be read: {error}", file.display())),
    }
}

/// As [`differs`], for an IPv6 setting of an interface.
pub(crate) fn differs_ipv6(ifname: &str, setting: &str, wanted: &str) -> Option<String> {
    differs(&format!("ipv6/conf/{ifname}/{setting}"), wanted)
}

/// Writes only what differs: some writes wait for the lock of all interfaces, which a busy node hands around.
fn set(ifname: &str, setting: &str, value: &str) -> io::Result<()> {
    let file = Path::new(IPV6).join(ifname).join(setting);
    let written = match fs::read_to_string(&file) {
        Ok(current) if current.trim_end() == value => Ok(()),
        Ok(_) => fs::write(&file, value),
        Err(error) => Err(error),
    };
    written.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot set {} to {value}: {error}", file.display()))
    })
}
