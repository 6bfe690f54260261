//! `cambric-cni`: the binary a container runtime executes.

fn main() {}
