//! One target, named by `CAMBRIC_FUZZ`, under libFuzzer: all of them are one program, which is built and linked once.
#![no_main]

use std::sync::LazyLock;

use cambric_fuzz::{TARGETS, Target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("CAMBRIC_FUZZ").expect("CAMBRIC_FUZZ is the name of a target");
    let (_, target) = *TARGETS.iter().find(|(known, _)| *known == name).expect("a name of TARGETS");
    target
});

libfuzzer_sys::fuzz_target!(|octets: &[u8]| TARGET(octets));
