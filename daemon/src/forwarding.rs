//! Keeps the node forwarding packets.
//!
//! Other programs turn forwarding off now and then (a network manager, `sysctl --system`); a node that
//! does not forward looks healthy and carries nothing. So the two switches are looked at twice a second.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinHandle;

/// How often the switches are looked at.
const INTERVAL: Duration = Duration::from_millis(500);
const SWITCHES: [&str; 2] = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];

/// Turns forwarding on and keeps it so. Before IPv6 forwarding goes on, the interfaces `from_ra`, which
/// owe a route to router advertisements, get `accept_ra=2`: with 1 the kernel drops these routes as it
/// starts to forward (ip-sysctl, accept_ra).
pub fn start(sysctl_dir: PathBuf, from_ra: &[String]) -> JoinHandle<()> {
    for interface in from_ra {
        let path = sysctl_dir.join("ipv6/conf").join(interface).join("accept_ra");
        match fs::write(&path, "2") {
            Ok(()) => {
                tracing::info!(iface = %interface, "accept_ra=2, so that routes from router advertisements stay")
            }
            Err(error) => tracing::error!(iface = %interface, error = %error, "accept_ra cannot be set"),
        }
    }
    keep(&sysctl_dir, Say::Quiet);
    tokio::spawn(async move {
        let mut said = [false; SWITCHES.len()];
        loop {
            tokio::time::sleep(INTERVAL).await;
            keep_all(&sysctl_dir, &mut said);
        }
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Say {
    Quiet,
    Loud,
}

fn keep(sysctl_dir: &Path, say: Say) {
    for switch in SWITCHES {
        if let Err(error) = turn_on(&sysctl_dir.join(switch), say) {
            tracing::error!(sysctl = switch, error = %error, "forwarding cannot be turned on");
        }
    }
}

/// An error is told once until it is over.
fn keep_all(sysctl_dir: &Path, said: &mut [bool; SWITCHES.len()]) {
    for (switch, said) in SWITCHES.iter().zip(said) {
        match turn_on(&sysctl_dir.join(switch), Say::Loud) {
            Ok(()) => *said = false,
            Err(error) if !*said => {
                tracing::error!(sysctl = switch, error = %error, "forwarding cannot be turned on");
                *said = true;
            }
            Err(_) => {}
        }
    }
}

/// Where the kernel has no such family there is nothing to turn on.
fn turn_on(path: &Path, say: Say) -> io::Result<()> {
    match fs::read_to_string(path) {
        Ok(value) if value.trim() == "1" => Ok(()),
        Ok(_) => {
            if say == Say::Loud {
                tracing::warn!(sysctl = %path.display(), "somebody turned forwarding off; it is on again");
            }
            fs::write(path, "1")
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_that_is_off_goes_on_and_an_absent_family_is_no_error() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let switch = folder.path().join("ip_forward");
        fs::write(&switch, "0\n").expect("own folder");
        turn_on(&switch, Say::Loud).expect("own file");
        assert_eq!(fs::read_to_string(&switch).expect("own file"), "1");
        turn_on(&folder.path().join("absent"), Say::Loud).expect("nothing to do");
    }
}
