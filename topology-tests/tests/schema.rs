//! Every lab of `containerlab/` and of `labs/` is valid for containerlab itself: by its JSON schema (`schema/`,
//! BSD-3-Clause, Nokia), and by what this crate checks beyond it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cambric_lab::clab::Topology;

/// Debian's python3 beside whatever comes first on PATH: the package python3-jsonschema belongs to the former.
const PYTHONS: [&str; 2] = ["/usr/bin/python3", "python3"];

/// No `check_schema`: the schema's own patterns use `\p{…}`, which Python's `re` lacks, in keys that no lab uses.
const VALIDATE: &str = r#"
import json, sys, yaml
from jsonschema import Draft7Validator
validator = Draft7Validator(json.load(open(sys.argv[1])))
wrong = 0
for name in sys.argv[2:]:
    for error in validator.iter_errors(yaml.safe_load(open(name))):
        wrong = 1
        print(f"{name}: {'.'.join(map(str, error.absolute_path))}: {error.message}")
sys.exit(wrong)
"#;

/// Where labs are: those to be shown, and those that only tests use.
const FOLDERS: [&str; 2] = ["../containerlab", "labs"];

fn lab_files() -> Vec<PathBuf> {
    let mut all: Vec<_> = FOLDERS.into_iter().flat_map(lab_files_in).collect();
    all.sort();
    all
}

fn lab_files_in(folder: &str) -> Vec<PathBuf> {
    let labs =
        fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).expect("reading labs").flatten();
    let files =
        labs.filter_map(|lab| fs::read_dir(lab.path()).ok()).flatten().flatten().map(|file| file.path());
    let found: Vec<_> = files.filter(|file| file.to_string_lossy().ends_with(".clab.yml")).collect();
    assert!(!found.is_empty(), "there are labs in {folder}");
    found
}

#[test]
fn labs_are_valid_for_containerlab() {
    let has_modules = |python: &&&str| {
        let import = Command::new(python).args(["-c", "import jsonschema, yaml"]).output();
        import.is_ok_and(|output| output.status.success())
    };
    let Some(python) = PYTHONS.iter().find(has_modules) else {
        eprintln!("not run: needs the packages python3-jsonschema and python3-yaml");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI has all that tests need");
        return;
    };
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/clab.schema.json");
    let output = Command::new(python)
        .args(["-c", VALIDATE])
        .arg(&schema)
        .args(lab_files())
        .output()
        .expect("running python3");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn labs_are_valid_for_cambric_lab() {
    for file in lab_files() {
        Topology::load(&file).unwrap_or_else(|error| panic!("{error}"));
    }
}
