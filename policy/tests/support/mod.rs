//! What the tests of this folder share: the case files ([`case`]), a cluster as Kubernetes objects ([`cluster`]), an evaluator
//! that judges it by the text of the API alone ([`evaluator`]), what is told when a cluster changes ([`changes`]), and its
//! nodes, each with a compiler and a simulated kernel ([`nodes`], [`kernel`], [`stages`]).
#![allow(dead_code, unreachable_pub, reason = "each test file uses another part of it")]

pub mod case;
pub mod changes;
pub mod cluster;
pub mod evaluator;
pub mod kernel;
pub mod nodes;
pub mod stages;

use std::io::Write;

/// Prints a line that is seen, too, when all tests pass: the harness withholds only what `println!` prints.
pub fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("standard output");
}
