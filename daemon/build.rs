//! How the daemon is linked.

use std::env;
use std::process::Command;

/// glibc that takes relocations in their short form (DT_RELR).
const GLIBC: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A word for each of the 45 000 places that are filled in at the start becomes some bits: 1 MB less in the file and
    // in memory (ld(1), `-z pack-relative-relocs`). A linker may know it where the C library does not: then the program
    // would not start.
    if env::var("TARGET") == env::var("HOST") && own_glibc().is_some_and(|own| own >= GLIBC) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// As `glibc 2.36`.
fn own_glibc() -> Option<(u32, u32)> {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
