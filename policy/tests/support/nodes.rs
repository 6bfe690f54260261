//! The nodes of a cluster: each has a compiler, which is told what changes, and a kernel, which is told deltas and judges
//! packets. A pod of a node has a veth there ([`changes::veth_of`](super::changes::veth_of)); everything else is behind
//! one uplink.
//!
//! A connection between pods of one node is one packet, from veth to veth, which both sides judge. To see one side alone
//! the packet takes the uplink as its other end. Where no packet of the connection meets a rule of ours (a node to
//! its pods), the answer is what the simulator says of the packet that the node then sees.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cambric_policy::change::Change;
use cambric_policy::compile::{Compiler, Options, UnknownPods};
use cambric_policy::program::{Delta, IfName, Program};
use cambric_policy::simulate::{Outcome, Packet, judge};
use k8s_openapi::api::core::v1::Pod;

use super::case::Side;
use super::changes::{Order, Told, changes, veth_of};
use super::cluster::{Cluster, node_of};
use super::evaluator::{Connection, End};
use super::kernel;

/// What other nodes and the world are behind.
const UPLINK: &str = "eth0";

/// All nodes.
#[derive(Debug)]
pub struct Nodes {
    nodes: BTreeMap<String, Node>,
}

#[derive(Debug)]
struct Node {
    compiler: Compiler,
    kernel: Program,
}

impl Nodes {
    /// Nodes that know nothing yet.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a String>) -> Nodes {
        let node = |name: &String| (name.clone(), Node::new(name));
        Nodes { nodes: names.into_iter().map(node).collect() }
    }

    /// Nodes that were told a whole cluster at once.
    pub fn of(cluster: &Cluster) -> Nodes {
        let mut nodes = Nodes::new(cluster.nodes.keys());
        nodes.go(&Cluster::default(), cluster, Order::AddsFirst);
        nodes
    }

    /// Tells all that leads from one state to the next.
    pub fn go(&mut self, from: &Cluster, to: &Cluster, order: Order) {
        for told in changes(from, to, order) {
            self.tell(&told);
        }
        self.settle();
    }

    /// Tells whom it concerns.
    pub fn tell(&mut self, told: &Told) {
        match &told.node {
            Some(name) => {
                self.nodes.get_mut(name).expect("a node of the cluster").compiler.apply(told.change.clone())
            }
            None => self.nodes.values_mut().for_each(|node| node.compiler.apply(told.change.clone())),
        }
    }

    /// Makes the kernels what the compilers want them to be.
    ///
    /// # Panics
    /// If a delta does not lead to the compiler's program, or the program has flaws.
    pub fn settle(&mut self) {
        self.nodes.iter_mut().for_each(|(name, node)| node.settle(name));
    }

    /// The same; whoever watches is given what each kernel held before, the delta, and what it holds now.
    pub fn settle_watched(&mut self, mut watch: impl FnMut(&str, &Program, &Delta, &Program)) {
        for (name, node) in &mut self.nodes {
            let before = node.kernel.clone();
            let delta = node.compiler.take_delta();
            kernel::apply(&mut node.kernel, delta.clone());
            watch(name, &before, &delta, &node.kernel);
        }
    }

    /// How these nodes' kernels differ from those of other nodes with the same names; empty: they do not.
    pub fn difference(&self, other: &Nodes) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, node) in &self.nodes {
            let empty = Program::default();
            let other = other.nodes.get(name).map_or(&empty, |node| &node.kernel);
            let found = kernel::difference(&node.kernel, other);
            lines.extend(found.into_iter().map(|line| format!("{name}: {line}")));
        }
        lines
    }

    /// What one side or both say of a connection: passed, or (as error) by which chain and tag it was dropped.
    ///
    /// # Panics
    /// If neither end is a pod.
    pub fn judge(&self, side: Side, connection: &Connection) -> Result<(), String> {
        let both = match (connection.source, connection.destination) {
            (End::Pod(source), End::Pod(destination)) if node_of(source) == node_of(destination) => {
                side == Side::Combined || veth_of(source) == veth_of(destination)
            }
            _ => false,
        };
        match side {
            _ if both => {
                let (End::Pod(source), End::Pod(destination)) = (connection.source, connection.destination)
                else {
                    unreachable!("both are pods");
                };
                self.packet(node_of(source), Some(veth(source)), Some(veth(destination)), connection)
            }
            Side::Egress => self.judge_egress(connection),
            Side::Ingress => self.judge_ingress(connection),
            Side::Combined => self.judge_egress(connection).and_then(|()| self.judge_ingress(connection)),
        }
    }

    fn judge_egress(&self, connection: &Connection) -> Result<(), String> {
        let End::Pod(source) = connection.source else { return Ok(()) };
        let node = node_of(source);
        let is_for_own_node = matches!(connection.destination, End::Node(name) if name == node);
        let output = (!is_for_own_node).then(|| UPLINK.into());
        self.packet(node, Some(veth(source)), output, connection)
    }

    fn judge_ingress(&self, connection: &Connection) -> Result<(), String> {
        let End::Pod(destination) = connection.destination else { return Ok(()) };
        let node = node_of(destination);
        let is_from_own_node = matches!(connection.source, End::Node(name) if name == node);
        let input = (!is_from_own_node).then(|| UPLINK.into());
        self.packet(node, input, Some(veth(destination)), connection)
    }

    fn packet(
        &self,
        node: &str,
        input: Option<IfName>,
        output: Option<IfName>,
        connection: &Connection,
    ) -> Result<(), String> {
        let (protocol, has_ports) = match connection.protocol {
            "TCP" => (6, true),
            "UDP" => (17, true),
            "SCTP" => (132, true),
            "ICMP" => (1, false),
            other => panic!("protocol {other} in a test"),
        };
        let packet = Packet {
            input,
            output,
            source: connection.source_address,
            destination: connection.destination_address,
            protocol,
            destination_port: has_ports.then_some(connection.port),
            is_established: false,
        };
        let node = self.nodes.get(node).expect("a node of the cluster");
        match judge(&node.kernel, &packet).outcome {
            Outcome::Passed => Ok(()),
            Outcome::Dropped { chain, tag } => Err(format!("{chain} {tag}")),
        }
    }
}

fn veth(pod: &Pod) -> IfName {
    veth_of(pod).expect("pods of a table have a network of their own")
}

impl Node {
    fn new(name: &str) -> Node {
        let options = Options {
            node: name.to_owned(),
            bgp_port: 179,
            log_group: 100,
            unknown_pods: UnknownPods::Closed,
        };
        let mut compiler = Compiler::new(options);
        // What nothing is told of differs from nothing: the frame comes from here, and all later from deltas.
        let kernel = compiler.program().clone();
        let peers: BTreeSet<IpAddr> =
            ["192.0.2.179", "2001:db8::179"].map(|address| address.parse().expect("an address")).into();
        compiler.apply(Change::BgpPeers(peers));
        Node { compiler, kernel }
    }

    fn settle(&mut self, name: &str) {
        let delta = self.compiler.take_delta();
        kernel::apply(&mut self.kernel, delta);
        let differs = kernel::difference(&self.kernel, self.compiler.program());
        assert!(differs.is_empty(), "{name}: the deltas (left) do not lead to the program: {differs:#?}");
        let flaws = kernel::flaws(&self.kernel);
        assert!(flaws.is_empty(), "{name}: {flaws:#?}");
    }
}
