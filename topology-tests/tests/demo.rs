//! The promises of the README, on real racks: every pod and node reaches every other one with its own address; a
//! switch that loses power costs less than 300 ms; a daemon that is killed or ended costs nothing.
//!
//! The same steps as `make demo`, which shows them to a person.

mod common;

use anyhow::ensure;
use cambric_lab::demo;

use common::{LabFolder, Need, in_lab, machine_has};

#[test]
fn two_racks_keep_what_the_demo_promises() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric]) {
        return;
    }
    in_lab(&LabFolder::copy_of("../containerlab/two-rack"), |lab| {
        let faults = demo::run(lab)?;
        ensure!(faults.is_empty(), "{faults:#?}");
        Ok(())
    });
}
