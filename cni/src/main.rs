//! `cambric-cni`: the binary a container runtime executes. All it does is in the library.

use std::env;
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let variable = |name: &str| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    cambric_cni::run(&variable, io::stdin().lock(), io::stdout().lock(), io::stderr().lock())
}
