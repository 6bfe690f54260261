//! Every input that is kept, as a plain test: what once found a fault finds none any more.

use std::fs;
use std::path::{Path, PathBuf};

use cambric_fuzz::TARGETS;

/// The inputs for a target of one of the two folders.
fn inputs(folder: &str, target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(target);
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.expect("an entry of a folder").path()).collect()
}

#[test]
fn inputs_that_are_kept_find_nothing() {
    for (name, target) in TARGETS {
        for input in inputs("corpus", name).into_iter().chain(inputs("found", name)) {
            println!("{}", input.display()); // shown if it panics
            target(&fs::read(&input).expect("a file of the repository"));
        }
    }
}

#[test]
fn every_target_has_a_corpus() {
    for (name, _) in TARGETS {
        assert!(!inputs("corpus", name).is_empty(), "{name}");
    }
}
