//! `cambric-cni`: the binary a container runtime executes, by this name or as `loopback`. All it does is in the library.

use std::env;
use std::io;
use std::process::ExitCode;

use cambric_cni::Role;

fn main() -> ExitCode {
    let variable = |name: &str| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let role = Role::by_name(env::args_os().next().as_deref());
    cambric_cni::run(role, &variable, io::stdin().lock(), io::stdout().lock(), io::stderr().lock())
}
