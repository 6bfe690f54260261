//! Brings the labs of `containerlab/` up in network namespaces.
//!
//! A lab is one `*.clab.yml`, the file that containerlab reads ([`clab`]). Here no Docker is needed: each node is a
//! tiny init process in network, mount, UTS and PID namespaces of its own ([`init`]), links are veth pairs
//! ([`links`]), FRR is the host's ([`frr`]), Cambric is what was just built ([`cambric`]), pods are namespaces wired
//! by the real CNI plugin ([`pods`]).
//!
//! **Clean-up is sure, not careful.** Whatever a node makes lives in the namespaces of its init, so it goes with the
//! init: processes, mounts, veths, pods. What is left outside is a folder per lab ([`state`]), written before the
//! thing it stands for, and one name per node under `/run/netns`. `down` finds inits by their command line, which
//! names that folder, so it needs no file to be whole and trusts no recorded PID.
//!
//! For tests: [`Lab`], [`Node`] and [`Pod`] run commands and closures inside, kill and start daemons, cut links;
//! [`poll`] waits for a condition, [`flow`] counts the packets a fault costs, [`reach`] shows which source address a
//! packet carried, [`capture`] looks at the packets of a link, [`http`] asks for health and metrics.
//!
//! The same file with the images it names, as containerlab has it, is what `--backend docker` is for ([`docker`]): then
//! containers play the nodes, and all else stays.
//!
//! Deliberately not here: fetching images, the management network, any kind but `linux` and `bridge`.

#![forbid(unsafe_code)]

mod backend;
pub mod cambric;
pub mod capture;
pub mod clab;
pub mod cni;
pub mod containerd;
pub mod cri;
pub mod crowd;
pub mod demo;
pub mod docker;
pub mod exposition;
pub mod fabric;
pub mod flow;
pub mod frr;
pub mod http;
pub mod init;
pub mod kubelet;
mod lab;
pub mod links;
mod namespaces;
mod node;
pub mod place;
pub mod pods;
pub mod poll;
mod processes;
pub mod promql;
pub mod reach;
pub mod state;

pub use backend::Backend;
pub use docker::Docker;
pub use lab::{Guard, Lab, NodeStatus, Options, PodStatus};
pub use node::{Daemon, Node, Spawned};
pub use place::Place;
pub use pods::Pod;
