//! How the daemon is linked.

fn main() {
    // A word for each of the 45 000 places that are filled in at the start becomes some bits: 1 MB less in the file and in
    // memory (ld(1), `-z pack-relative-relocs`; glibc 2.36). A linker that does not know it says so and goes on.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    println!("cargo::rerun-if-changed=build.rs");
}
