//! What a run with NetworkPolicy has left in the kernel, for one that is told to go without. Tables that nobody keeps would
//! close every new pod for ever.

use cambric_policy::kernel::{CommitError, Kernel, Operation};
use cambric_policy::program::Family;

/// Takes tables and sets away; how many there were. Blocks for some milliseconds.
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
    for set in &sets {
        kernel.destroy_set(set)?;
    }
    Ok(operations.len() + sets.len())
}
