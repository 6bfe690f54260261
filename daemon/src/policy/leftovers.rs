//! What a run with NetworkPolicy has left in the kernel, for one that is told to go without. Tables that nobody keeps would
//! close every new pod for ever.

use std::thread::sleep;
use std::time::{Duration, Instant};

use cambric_policy::kernel::{CommitError, Error, Kernel, Operation};
use cambric_policy::program::{Family, SetName};

/// The kernel takes rules apart some time after it has dropped them (`nf_tables_trans_destroy_work`), and holds the sets
/// that they name so long.
const LATEST: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// Takes tables and sets away; how many there were. Blocks for some milliseconds, at most for some seconds.
///
/// # Errors
/// The kernel's.
pub(super) fn remove() -> Result<usize, CommitError> {
    let mut kernel = Kernel::open()?;
    let held = kernel.read()?;
    let tables = Family::ALL.into_iter().filter(|family| held.table(*family).is_some());
    let arp = held.arp.iter().map(|_| Operation::DropArpTable);
    let operations: Vec<Operation> = tables.map(Operation::DropTable).chain(arp).collect();
    if !operations.is_empty() {
        kernel.commit(&operations, None)?;
    }
    // No rule names them any more.
    let sets = kernel.set_names()?;
    let until = Instant::now() + LATEST;
    for set in &sets {
        destroy(&mut kernel, set, until)?;
    }
    Ok(operations.len() + sets.len())
}

fn destroy(kernel: &mut Kernel, set: &SetName, until: Instant) -> Result<(), Error> {
    loop {
        match kernel.destroy_set(set) {
            Err(Error::Set { .. }) if Instant::now() < until => sleep(PAUSE),
            destroyed => return destroyed,
        }
    }
}
