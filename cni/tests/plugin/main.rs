//! The real binary, run as a container runtime runs it, on a host made of fresh namespaces.
//!
//! Needs root, iproute2, ipset and nft. A host lives on one thread: when the thread ends the kernel takes its
//! namespaces back, so nothing leaks onto the machine, whatever a test does.

mod host;

mod check;
mod cleanup;
mod endpoints;
mod gate;
mod host_routes;
mod input;
mod leases;
mod loopback;
mod removal;
mod traffic;
