//! Waits until every packet that is being judged now has been judged.

use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;

/// MEMBARRIER_CMD_GLOBAL (linux/membarrier.h)
const GLOBAL: libc::c_int = 1;
/// Where the kernel does not wait for us (nohz_full): no packet takes so long.
const LONG: Duration = Duration::from_millis(50);

/// Packets go through the rules under the kernel's read lock (`nf_hook` in linux/netfilter.h), so one grace period
/// is enough, and `membarrier` waits for one. Takes some milliseconds, more on a busy node.
pub(super) fn packets_pass() {
    // SAFETY: the call takes no pointers and changes nothing of ours.
    #[expect(unsafe_code, reason = "there is no safe name for this call")]
    let done = Errno::result(unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) });
    if done.is_err() {
        thread::sleep(LONG);
    }
}
