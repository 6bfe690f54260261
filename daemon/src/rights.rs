//! The rights of this process, looked at before anything is done: a daemon that may not write a route would still tell
//! its peers to send packets here.
//!
//! These are the capabilities that the DaemonSet gives, and no other (`capabilities(7)`).

use std::path::Path;

use thiserror::Error;

/// A capability: its bit in the sets of `/proc/self/status` is its number in `linux/capability.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Capability {
    name: &'static str,
    number: u32,
}

const NET_BIND_SERVICE: Capability = Capability { name: "NET_BIND_SERVICE", number: 10 };
const NET_ADMIN: Capability = Capability { name: "NET_ADMIN", number: 12 };
const NET_RAW: Capability = Capability { name: "NET_RAW", number: 13 };

/// The kernel's `PROT_SOCK`, where it does not say what holds.
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

/// What cannot go on: the operator's to mend.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// Nothing of what a node's daemon writes could be written.
    #[error(
        "the capability NET_ADMIN is missing: without it no route, no set, no table and no sysctl of the network can \
         be written; run as root or, in a container, add it to securityContext.capabilities.add"
    )]
    NoAdmin,
    /// Peers could not connect.
    #[error(
        "the capability NET_BIND_SERVICE is missing: without it TCP port {port} cannot be listened on, here ports from \
         {first_free} on can; run as root or, in a container, add it to securityContext.capabilities.add"
    )]
    NoBind {
        /// `--bgp-port`.
        port: u16,
        /// `net.ipv4.ip_unprivileged_port_start`.
        first_free: u16,
    },
}

/// Looks whether this process may do what it is started for, and tells of a right that only some of it needs.
///
/// # Errors
/// It may not.
pub fn check(sysctl_dir: &Path, port: u16) -> Result<(), Error> {
    // A node without /proc has other things to complain of.
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return Ok(()) };
    let first_free = std::fs::read_to_string(sysctl_dir.join("ipv4/ip_unprivileged_port_start"));
    let first_free = first_free.ok().and_then(|text| text.trim().parse().ok());
    if lacks(&status, NET_RAW) {
        tracing::warn!(
            capability = NET_RAW.name,
            "a capability is missing; peers by interface, which are to come, will need it, and nothing does today"
        );
    }
    judge(&status, port, first_free.unwrap_or(FIRST_UNPRIVILEGED_PORT))
}

fn judge(status: &str, port: u16, first_free: u16) -> Result<(), Error> {
    if lacks(status, NET_ADMIN) {
        return Err(Error::NoAdmin);
    }
    if port < first_free && lacks(status, NET_BIND_SERVICE) {
        return Err(Error::NoBind { port, first_free });
    }
    Ok(())
}

/// Whether the effective set is without it (`proc_pid_status(5)`). A set that cannot be read lacks nothing: what is
/// really missing is refused later.
fn lacks(status: &str, capability: Capability) -> bool {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .is_some_and(|set| set >> capability.number & 1 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: u64) -> String {
        format!(
            "Name:\tcambricd\nCapPrm:\t0000000000000000\nCapEff:\t{set:016x}\nCapBnd:\t000001ffffffffff\n"
        )
    }

    #[test]
    fn the_three_rights_of_the_daemonset_are_enough() {
        assert_eq!(judge(&with(0x3400), 179, 1024), Ok(()));
    }

    #[test]
    fn a_missing_right_is_named_with_what_it_is_for() {
        assert_eq!(judge(&with(0x2400), 179, 1024), Err(Error::NoAdmin));
        let no_bind = judge(&with(0x3000), 179, 1024);
        assert_eq!(no_bind, Err(Error::NoBind { port: 179, first_free: 1024 }));
        assert!(lacks(&with(0x1400), NET_RAW) && !lacks(&with(0x3400), NET_RAW));
    }

    #[test]
    fn a_port_that_anybody_may_bind_needs_no_right() {
        assert_eq!(judge(&with(0x3000), 1790, 1024), Ok(()));
        assert_eq!(judge(&with(0x3000), 179, 0), Ok(()));
    }

    #[test]
    fn a_set_that_cannot_be_read_refuses_nothing() {
        for status in ["", "CapEff:\tx\n", "CapEff:"] {
            assert_eq!(judge(status, 179, 1024), Ok(()), "{status:?}");
        }
    }
}
