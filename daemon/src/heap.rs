//! The heap of the process, told that little memory is worth more here than much of it at once.

use std::thread;
use std::time::Duration;

use nix::libc;

/// For all threads: glibc makes one for each of a few, up to eight a core, and none uses what another gave back.
const ARENAS: libc::c_int = 1;
/// So much that is free at the end of the heap goes back to the kernel (octets).
const TRIM: libc::c_int = 256 << 10;
/// What is larger has pages of its own, which go back when it is dropped (octets). Said once, it does not grow with what
/// is dropped, as it would by itself, to 32 MiB (mallopt(3)).
const OWN_PAGES: libc::c_int = 128 << 10;
/// A list of 100 000 pods leaves holes that the end of the heap does not show.
const BETWEEN_LOOKS: Duration = Duration::from_secs(10);

/// Sets it up, and gives holes back now and then. Before there is another thread.
pub(crate) fn keep_small() {
    for (what, value) in
        [(libc::M_ARENA_MAX, ARENAS), (libc::M_TRIM_THRESHOLD, TRIM), (libc::M_MMAP_THRESHOLD, OWN_PAGES)]
    {
        #[expect(unsafe_code, reason = "there is no safe name for this call")]
        // SAFETY: it takes numbers; one that glibc does not take changes nothing.
        unsafe {
            libc::mallopt(what, value);
        }
    }
    let trim = || {
        loop {
            thread::sleep(BETWEEN_LOOKS);
            #[expect(unsafe_code, reason = "there is no safe name for this call")]
            // SAFETY: it gives back pages that nobody has.
            unsafe {
                libc::malloc_trim(0);
            }
        }
    };
    // Without it there is only more in use.
    _ = thread::Builder::new().name("heap".to_owned()).stack_size(64 << 10).spawn(trim);
}
