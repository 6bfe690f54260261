//! Sysctls back to what the daemon found, where they still are what it made of them.
//!
//! The switches of forwarding go first: the kernel sets the interfaces' own with them. What it sets so and should not is
//! then set to what it was.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Component, Path};

use cambric_api::node::{Sysctl, Sysctls};

use super::report::{Report, Verb};

/// Those with which the kernel sets others.
const SWITCHES: [&str; 2] = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];

/// One of the record that is there now.
struct Present<'a> {
    name: &'a str,
    recorded: &'a Sysctl,
    now: String,
}

/// Leaves all as it is, `accept_ra` and `accept_redirects` too: their values are those of a node that forwards.
pub(super) fn keep(report: &mut Report, record: &Path) {
    if record.exists() {
        report.leave("sysctls", "forwarding stays as it is, as --keep-forwarding says");
    }
}

/// Whether all is as it was, or as others want it: then the record is of no more use.
pub(super) fn put_back(report: &mut Report, sysctl_dir: &Path, record: &Path) -> bool {
    let text = match fs::read(record) {
        Err(error) if error.kind() == ErrorKind::NotFound => return true,
        text => text,
    };
    let record = match text.map(|text| Sysctls::parse(&text)) {
        Ok(Ok(parsed)) => parsed,
        Ok(Err(error)) => return fail(report, "sysctls", format_args!("{}: {error}", record.display())),
        Err(error) => return fail(report, "sysctls", format_args!("{}: {error}", record.display())),
    };
    let mut all = true;
    let mut present = Vec::new();
    for (name, recorded) in record.found.iter().filter(|(name, _)| is_below(name)) {
        match read(&sysctl_dir.join(name)) {
            Ok(now) => present.push(Present { name, recorded, now }),
            // Its interface is gone.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => all = fail(report, in_words(name), error),
        }
    }
    // Stable: the others stay in order.
    present.sort_by_key(|sysctl| !SWITCHES.contains(&sysctl.name));
    for Present { name, recorded: Sysctl { before, ours }, now } in present {
        let path = sysctl_dir.join(name);
        let what = in_words(name);
        if now != *ours {
            if now != *before {
                report
                    .leave(&what, format_args!("it is {now}, Cambric made it {ours} and found it {before}"));
            }
            // A switch may have set it meanwhile.
            all &= report.is_dry()
                || set(&path, &now).map_or_else(|error| fail(report, &what, error), |()| true);
        } else if before == ours {
            all &= report.is_dry()
                || set(&path, before).map_or_else(|error| fail(report, &what, error), |()| true);
        } else {
            all &= report
                .act(Verb::PutBack, format_args!("{what}: {before}, was {ours}"), || set(&path, before));
        }
    }
    all
}

fn fail(report: &mut Report, what: impl std::fmt::Display, why: impl std::fmt::Display) -> bool {
    report.fail(Verb::PutBack, what, why);
    false
}

fn in_words(name: &str) -> String {
    format!("sysctl net/{name}")
}

fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map(|text| text.trim().to_owned())
}

/// Writes only what differs.
fn set(path: &Path, value: &str) -> io::Result<()> {
    if read(path)? == value { Ok(()) } else { fs::write(path, value) }
}

/// Names lead down only, whoever wrote the record.
fn is_below(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}
