//! Case `compile`: from a change of a large cluster to the kernel, and starts.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cambric_policy::change::Change;
use cambric_policy::enforcer::Enforcer;
use clap::Args;

use crate::cluster::{Edit, Labels, Sizes};
use crate::machine::resident_mib;
use crate::namespace::Namespace;
use crate::node;
use crate::statistics::{Micros, Samples, micros};
use crate::table::Table;

/// What may be chosen.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Policies of the cluster.
    #[arg(long, default_value_t = 12_000)]
    policies: usize,
    /// Pods of the cluster.
    #[arg(long, default_value_t = 3_500)]
    pods: usize,
    /// Pods of this node among them.
    #[arg(long, default_value_t = 250)]
    local: usize,
    /// Namespaces, which share pods and policies evenly.
    #[arg(long, default_value_t = 120)]
    namespaces: usize,
    /// Changes of each kind.
    #[arg(long, default_value_t = 200)]
    changes: usize,
}

/// 99 of 100 changes are in the kernel after this time.
const TARGET_CHANGE_US: f64 = 100_000.0;
/// All is in the kernel after this time from the start.
const TARGET_START_US: f64 = 2_000_000.0;

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Options { policies, pods, local, namespaces, changes } = *options;
    ensure!(local <= pods && local > 0 && namespaces > 0, "of {pods} pods {local} cannot be here");
    println!(
        "compile: {policies} policies, {pods} pods in {namespaces} namespaces, {local} pods on this node\n"
    );
    let sizes = Sizes { namespaces, policies, pods, local };
    let all = sizes.changes();
    let namespace = Namespace::new()?;
    node::run(&namespace, async || {
        let objects_mib = resident_mib();
        let (enforcer, cold) = start(all.clone()).await?;
        let mib = resident_mib() - objects_mib;
        enforcer.stop().await;
        let (enforcer, adopt) = start(all).await?;
        let counts = node::counts(&enforcer, local).await?;
        println!(
            "  in the kernel: {} sets, {} members, {} chains of classes",
            counts.sets, counts.members, counts.chains
        );
        println!(
            "  resident: {mib:.0} MiB of compiler and enforcer, beside {objects_mib:.0} MiB of objects\n"
        );
        measure(&enforcer, sizes, changes).await?;
        print_start("cold start: all objects told to an empty kernel written", cold);
        print_start("adopt start: all objects told, nothing to write", adopt);
        Ok(())
    })
}

/// Starts an enforcer and tells it all: microseconds until all stands in the kernel.
async fn start(all: Vec<Change>) -> Result<(Enforcer, f64)> {
    let begin = Instant::now();
    let enforcer = node::start()?;
    enforcer.apply(all).await?;
    enforcer.complete().await?;
    Ok((enforcer, micros(begin.elapsed())))
}

fn print_start(what: &str, us: f64) {
    let word = if us <= TARGET_START_US { "met" } else { "MISSED" };
    println!("  {what}: {}; target {}, {word}", Micros(us), Micros(TARGET_START_US));
}

/// A kind of change: its name and the changes of the n-th time, each of them measured.
type Kind<'a> = (&'static str, Box<dyn Fn(usize) -> Vec<Vec<Change>> + 'a>);

fn kinds(sizes: Sizes) -> Vec<Kind<'static>> {
    let Sizes { namespaces, policies, pods, local } = sizes;
    let remote = move |n: usize| if local < pods { local + n % (pods - local) } else { n % pods };
    // Of a policy that selects a local pod, where there is one of that kind.
    let selecting =
        move |n: usize, kind: usize| sizes.policy_of(n % local, kind).unwrap_or(n % policies.max(1));
    let turn = |n: usize, of: usize| n / of.max(1) + 1;
    vec![
        (
            "label of a pod elsewhere",
            Box::new(move |n| {
                vec![vec![sizes.pod(remote(n), Labels { tier_further: turn(n, pods - local), ..Labels::default() })]]
            }),
        ),
        (
            "label of a local pod: other policies",
            Box::new(move |n| {
                vec![vec![sizes.pod(n % local, Labels { app_further: turn(n, local), ..Labels::default() })]]
            }),
        ),
        ("label of a namespace", Box::new(move |n| vec![vec![sizes.namespace(n, turn(n, namespaces))]])),
        (
            "port of a policy",
            Box::new(move |n| {
                vec![vec![sizes.policy(selecting(n, 1), Edit { port: 1 + n as u16, peer: None })]]
            }),
        ),
        (
            "peers of a policy",
            Box::new(move |n| vec![vec![sizes.policy(selecting(n, 2), Edit { port: 0, peer: Some(n) })]]),
        ),
        (
            "policy gone and back",
            Box::new(move |n| {
                let back = sizes.policy(selecting(n, 9), Edit::default());
                vec![gone(&back), vec![back]]
            }),
        ),
        (
            "pod elsewhere gone and back",
            Box::new(move |n| {
                let back = sizes.pod(remote(n), Labels::default());
                vec![gone(&back), vec![back]]
            }),
        ),
        (
            "local pod gone and back",
            Box::new(move |n| {
                let pod = sizes.pod(n % local, Labels::default());
                let (veth, endpoint) = (sizes.veth(n % local), sizes.endpoint(n % local));
                let mut leave = gone(&pod);
                leave.push(Change::Endpoint(veth.clone(), None));
                vec![leave, vec![pod, Change::Endpoint(veth, Some(endpoint))]]
            }),
        ),
    ]
}

/// That a thing is no more.
fn gone(change: &Change) -> Vec<Change> {
    vec![match change {
        Change::Namespace(name, _) => Change::Namespace(name.clone(), None),
        Change::Pod(key, _) => Change::Pod(key.clone(), None),
        Change::Policy(key, _) => Change::Policy(key.clone(), None),
        Change::Endpoint(veth, _) => Change::Endpoint(veth.clone(), None),
        Change::BgpPeers(_) => Change::BgpPeers(Default::default()),
    }]
}

async fn measure(enforcer: &Enforcer, sizes: Sizes, times: usize) -> Result<()> {
    let mut table = Table::new(["change to kernel", "changes", "median", "p99", "most"]);
    let mut line = |name: &str, samples: &Samples| {
        let shown = [0.5, 0.99, 1.0].map(|part| Micros(samples.quantile(part)).to_string());
        table.line([vec![name.to_owned(), samples.len().to_string()], shown.to_vec()].concat());
    };
    let mut all = Samples::default();
    for (name, changes_of) in kinds(sizes) {
        let mut samples = Samples::default();
        for changes in (0..times).flat_map(changes_of) {
            let begin = Instant::now();
            enforcer.apply(changes).await?;
            enforcer.flushed().await.with_context(|| format!("waiting for: {name}"))?;
            samples.push(micros(begin.elapsed()));
        }
        line(name, &samples);
        all.append(&samples);
    }
    line("all", &all);
    table.print();
    let p99 = all.quantile(0.99);
    let word = if p99 <= TARGET_CHANGE_US { "met" } else { "MISSED" };
    println!("\n  target: p99 of all at most {}: {}, {word}", Micros(TARGET_CHANGE_US), Micros(p99));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const SIZES: Sizes = Sizes { namespaces: 6, policies: 600, pods: 60, local: 12 };

    /// What a change is about, and what it says of it.
    fn told(change: &Change) -> (String, String) {
        let about = match change {
            Change::Namespace(name, _) => format!("namespace {name}"),
            Change::Pod(key, _) => format!("pod {key}"),
            Change::Policy(key, _) => format!("policy {key}"),
            Change::Endpoint(veth, _) => format!("endpoint {veth}"),
            Change::BgpPeers(_) => "peers".into(),
        };
        (about, format!("{change:?}"))
    }

    #[test]
    fn objects_of_a_cluster_are_all_about_different_things() {
        let told: BTreeMap<_, _> = SIZES.changes().iter().map(told).collect();
        assert_eq!(told.len(), SIZES.namespaces + SIZES.policies + SIZES.pods + SIZES.local);
    }

    #[test]
    fn every_change_says_something_new() {
        let mut known: BTreeMap<_, _> = SIZES.changes().iter().map(told).collect();
        for (name, changes_of) in kinds(SIZES) {
            for change in (0..100).flat_map(changes_of).flatten() {
                let (about, says) = told(&change);
                assert_ne!(known.insert(about, says.clone()), Some(says), "{name}");
            }
        }
    }

    #[test]
    fn policies_whose_change_is_measured_select_the_local_pod() {
        for pod in 0..SIZES.local {
            for kind in 0..10 {
                let policy = SIZES.policy_of(pod, kind).expect("as many policies");
                let Change::Policy(key, Some(object)) = SIZES.policy(policy, Edit::default()) else {
                    unreachable!()
                };
                let Change::Pod(pod, Some(labelled)) = SIZES.pod(pod, Labels::default()) else {
                    unreachable!()
                };
                assert_eq!(key.namespace, pod.namespace);
                let selector = object.object.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
                let selected = selector.and_then(|selector| selector.match_labels.as_ref());
                let app = labelled.metadata.labels.as_ref().and_then(|labels| labels.get("app"));
                assert_eq!(selected.and_then(|labels| labels.get("app")), app);
            }
        }
    }
}
