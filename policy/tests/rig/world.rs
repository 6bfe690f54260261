//! A cluster in a rig, with an enforcer on each node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use cambric_policy::change::{Change, Endpoint, Key};
use cambric_policy::compile::{Options, UnknownPods};
use cambric_policy::enforcer::{Config, Enforcer};
use tokio::runtime::{Builder, Runtime};

use super::netns::Netns;
use super::wire::{At, NewPod, Rig};
use crate::support::changes::{Order, changes, endpoints};
use crate::support::cluster::Cluster;

/// Often, so that what is told while a check is due is met, too.
const CHECKED_EACH: Duration = Duration::from_secs(1);
/// What nodes that have no address in a case get: a block that no case uses.
const SPARE: [u8; 3] = [192, 0, 2];

/// Goes from one state of a cluster to the next.
#[derive(Debug)]
pub struct World {
    pub rig: Rig,
    pub enforcers: BTreeMap<String, Enforcer>,
    cluster: Cluster,
    runtime: Runtime,
}

impl World {
    /// Nodes and outside of all states, and nothing else. Enforcers run, but were told nothing.
    pub fn new<'a>(states: impl IntoIterator<Item = &'a Cluster> + Clone) -> World {
        let mut nodes: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        let mut outside = BTreeSet::new();
        for state in states {
            nodes.extend(state.nodes.iter().map(|(name, addresses)| (name.clone(), addresses.clone())));
            outside.extend(state.externals.values().flatten());
        }
        for (addresses, nth) in nodes.values_mut().zip(1..) {
            if addresses.is_empty() {
                addresses.push([SPARE[0], SPARE[1], SPARE[2], nth].into());
            }
        }
        let nodes: Vec<_> = nodes.into_iter().collect();
        let rig = Rig::new(&nodes, &outside.into_iter().collect::<Vec<_>>());
        // Side by side: the kernel is asked what it can do, and takes its time.
        let config = |name: &str| Config { check_interval: CHECKED_EACH, ..Config::new(options(name)) };
        let start = |name: &str, node: &Netns| node.enter(|| Enforcer::start(config(name)));
        let enforcers = rig.on_all_processors(|| {
            thread::scope(|scope| {
                let starting: Vec<_> = nodes
                    .iter()
                    .zip(rig.nodes())
                    .map(|((name, _), node)| (name.clone(), scope.spawn(move || start(name, node))))
                    .collect();
                let started = starting.into_iter().map(|(name, thread)| {
                    let enforcer = thread.join().expect("a thread that starts one").expect("an enforcer");
                    (name, enforcer)
                });
                started.collect()
            })
        });
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        World { rig, enforcers, cluster: Cluster::default(), runtime }
    }

    /// A cluster as it is from the beginning.
    pub fn of(cluster: &Cluster) -> World {
        let mut world = World::new([cluster]);
        world.go(cluster, Order::AddsFirst);
        world
    }

    /// The state it is in.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Goes to another state: wires and tells what changes, and returns when all of it is in all kernels.
    pub fn go(&mut self, to: &Cluster, order: Order) {
        let told = changes(&self.cluster, to, order);
        let (before, after) = (endpoints(&self.cluster), endpoints(to));
        let is_first = self.cluster == Cluster::default();
        for (place, endpoint) in &before {
            if after.get(place) != Some(endpoint) {
                self.rig.remove_pod(key(endpoint));
            }
        }
        let new: Vec<_> =
            after.iter().filter(|(place, endpoint)| before.get(place) != Some(endpoint)).collect();
        let new_pods: Vec<NewPod> = new
            .iter()
            .map(|((node, interface), endpoint)| NewPod {
                key: key(endpoint).clone(),
                node: node.clone(),
                interface: interface.as_str().into(),
                addresses: endpoint.addresses.clone(),
            })
            .collect();
        self.rig.add_pods(&new_pods);
        let enforcers = &self.enforcers;
        self.runtime.block_on(async {
            for (node, enforcer) in enforcers {
                let concerns = |of: &Option<String>| of.as_ref().is_none_or(|of| of == node);
                let changes: Vec<Change> =
                    told.iter().filter(|told| concerns(&told.node)).map(|told| told.change.clone()).collect();
                enforcer.apply(changes).await.expect("it runs");
                if is_first {
                    enforcer.complete().await.expect("it runs");
                }
                for ((_, interface), endpoint) in new.iter().filter(|((on, _), _)| on == node) {
                    let placed = enforcer.place(interface.as_str().into(), (*endpoint).clone()).await;
                    placed.expect("its Pod object was told");
                }
                enforcer.flushed().await.expect("it runs");
                let problems = enforcer.status().borrow().problems.clone();
                assert!(problems.is_empty(), "{node}: {problems:?}");
            }
        });
        self.cluster.clone_from(to);
    }

    /// Runs what asks enforcers.
    pub fn block_on<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// Where pods of a name are.
    pub fn pod(&self, namespace: &str, name: &str) -> At {
        At::Pod(Key::new(namespace, name))
    }
}

pub fn options(node: &str) -> Options {
    Options { node: node.to_owned(), bgp_port: 179, log_group: 100, unknown_pods: UnknownPods::Closed }
}

fn key(endpoint: &Endpoint) -> &Key {
    &endpoint.pod.as_ref().expect("pods of a case are pods of Kubernetes").key
}
