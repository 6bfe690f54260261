//! What an earlier run with NetworkPolicy has left in the kernel: whether it still judges pods, and how it goes.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cambric_policy::kernel::{CommitError, Error, Kernel, Operation};
use cambric_policy::program::{Family, SetName};
use nix::errno::Errno;

/// The chain that judges what is forwarded.
const JUDGING: &str = "forward";

/// The kernel takes rules apart some time after it has dropped them (`nf_tables_trans_destroy_work`), and holds the
/// sets that they name so long.
const LATEST: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// Whether both tables are there and judge. Blocks for some milliseconds.
///
/// # Errors
/// The kernel's.
pub(super) fn judge() -> Result<bool, Error> {
    let held = Kernel::open()?.read()?;
    let judges = |family| {
        let chain = held.table(family).and_then(|table| table.chains.get(JUDGING));
        chain.is_some_and(|chain| chain.base.is_some() && !chain.rules.is_empty())
    };
    Ok(Family::ALL.into_iter().all(judges))
}

/// Takes tables and sets away; how many there were. Blocks for some milliseconds, at most for some seconds.
///
/// # Errors
/// The kernel's. One that has neither nf_tables nor sets holds nothing, which is none.
pub(super) fn remove() -> Result<usize, CommitError> {
    let opened = Kernel::open();
    let mut kernel = match opened {
        Err(error) if is_lacking(&error) => return Ok(0),
        opened => opened?,
    };
    let operations: Vec<Operation> = match kernel.read() {
        Ok(held) => {
            let tables = Family::ALL.into_iter().filter(|family| held.table(*family).is_some());
            let arp = held.arp.iter().map(|_| Operation::DropArpTable);
            tables.map(Operation::DropTable).chain(arp).collect()
        }
        Err(error) if is_lacking(&error) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    if !operations.is_empty() {
        kernel.commit(&operations, None)?;
    }
    // No rule names them any more.
    let sets = match kernel.set_names() {
        Err(error) if is_lacking(&error) => return Ok(operations.len()),
        sets => sets?,
    };
    let until = Instant::now() + LATEST;
    for set in &sets {
        destroy(&mut kernel, set, until)?;
    }
    Ok(operations.len() + sets.len())
}

/// Whether the kernel does not know what it is asked for (`nfnetlink_rcv_msg`: no such subsystem).
fn is_lacking(error: &Error) -> bool {
    match error {
        Error::Refused(errno) => *errno == Errno::EINVAL as i32,
        Error::Socket(error) => is(error, Errno::EPROTONOSUPPORT) || is(error, Errno::EINVAL),
        _ => false,
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

fn destroy(kernel: &mut Kernel, set: &SetName, until: Instant) -> Result<(), Error> {
    loop {
        match kernel.destroy_set(set) {
            Err(Error::Set { .. }) if Instant::now() < until => sleep(PAUSE),
            destroyed => return destroyed,
        }
    }
}
