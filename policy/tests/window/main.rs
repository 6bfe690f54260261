//! New flows at full rate, of kinds that are always allowed and of kinds that never are, while policies and members change
//! in a loop: none of the first may be lost, none of the second may arrive.
//!
//! It runs for 5 s, or as long as `CAMBRIC_WINDOW_SECONDS` says. `CAMBRIC_SEED` repeats the changes, though not their
//! timing.

#[path = "../rig/mod.rs"]
mod rig;
#[path = "../packets/small.rs"]
#[allow(dead_code, reason = "the packet tests use more of it")]
mod small;
#[path = "../support/mod.rs"]
mod support;

mod meter;
mod scene;
mod sharpness;
mod turns;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::meter::{Until, measure};
use crate::support::say;
use crate::turns::{Kind, Turns};

#[test]
fn no_allowed_flow_is_lost_and_no_denied_flow_leaks_while_policies_change() {
    run("window", Turns::new(rig::seed()));
}

#[test]
fn no_packet_that_is_in_a_long_policy_meets_half_of_a_change() {
    run("window, long policies", Turns::long(rig::seed()));
}

fn run(what: &str, mut turns: Turns) {
    let seconds =
        std::env::var("CAMBRIC_WINDOW_SECONDS").map_or(5, |text| text.parse().expect("a number of seconds"));
    let mut made: BTreeMap<Kind, usize> = BTreeMap::new();
    let measured = measure(Duration::from_secs(seconds), turns.state().clone(), Until::Over, |tell| {
        for _ in 0..turns.burst() {
            *made.entry(turns.turn()).or_default() += 1;
            let order = turns.order();
            tell.tell(turns.state(), order);
        }
        tell.flushed();
    });
    let changes = made.values().sum::<usize>();
    say(&format!("{what}: {measured}; {changes} changes: {made:?} (seed {})", turns.seed));
    assert!(measured.lost.is_empty() && measured.leaked.is_empty(), "{measured:#?}");
    for kind in turns.kinds() {
        assert!(made.contains_key(kind), "{kind:?} never came");
    }
    assert!(measured.allowed > 0 && measured.denied > 0, "nothing was sent");
}
