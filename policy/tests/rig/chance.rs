//! Chance that can be repeated.

use std::time::SystemTime;

/// `CAMBRIC_SEED`, or one of its own.
pub fn seed() -> u64 {
    std::env::var("CAMBRIC_SEED").map_or_else(
        |_| {
            SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_micros() as u64)
        },
        |text| text.parse().expect("CAMBRIC_SEED is a number"),
    )
}

/// The next number (splitmix64).
pub fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
