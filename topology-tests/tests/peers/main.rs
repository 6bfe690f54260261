//! Cambric beside FRR, BIRD and GoBGP, feature by feature: the table of `docs/interop.md`.
//!
//! A row is a feature, a cell of it the feature with one of the three. Each cell is a lab of its own, mostly of two nodes
//! and a link: `cambricd` with manifests as an operator writes them, and the other implementation with its own
//! configuration. Cells run side by side, for most of their time is the timers of others.
//!
//! The table is printed, and `docs/interop.md` must hold it as it is. `CAMBRIC_INTEROP=MD5` runs the rows whose name has
//! that word, `CAMBRIC_INTEROP_JOBS` says how many cells run at once (6 without it).

#[path = "../common/mod.rs"]
mod common;

mod cambric;
mod other;
mod rig;
mod table;

mod capabilities;
mod collision;
mod leaving;
mod paths;
mod pitfalls;
mod reflector;
mod restarts;
mod roles;
mod sessions;
mod sorts;
mod twenty;
mod wire;

use common::{Need, machine_has};

#[test]
fn every_row_of_the_table_holds() {
    if machine_has(&[Need::Root, Need::Frr, Need::Bird, Need::Gobgp, Need::Cambric]) {
        let parts = [
            sessions::ROWS,
            sorts::ROWS,
            twenty::ROWS,
            collision::ROWS,
            capabilities::ROWS,
            restarts::ROWS,
            leaving::ROWS,
            reflector::ROWS,
            paths::ROWS,
            roles::ROWS,
            pitfalls::ROWS,
        ];
        table::hold(&parts.concat());
    }
}
