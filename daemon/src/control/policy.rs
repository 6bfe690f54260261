//! `show policy`, the policy lines of `show status`, and `place`, which the CNI plugin asks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::SystemTime;

use cambric_api::{
    Count, Denial, Denied, Policy, PolicyDirection, PolicyPod, PolicyStatus, PolicyTable, Repairs, Reply,
};
use cambric_cni::attachment::is_link_local;
use cambric_policy::change::{Endpoint, Key, PodRef};
use cambric_policy::enforcer::{self, Filter, PodState, PolicyState, Report, Waiting};
use cambric_policy::pod::Uid;
use cambric_policy::program::{Family, VETH_PREFIX};

use super::words::{escaped, near};
use crate::state::Shared;

/// The longest name of an interface (the kernel's IFNAMSIZ, less the final zero).
const MOST_INTERFACE_OCTETS: usize = 15;

/// Of a pod that is judged by the rules of the change before.
const LAST_CHANGE: &str = "the last change is not in the kernel yet";

/// A pod as the plugin tells it.
pub(super) struct Told {
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) uid: Option<String>,
}

/// `place`
pub(super) async fn place(shared: &Shared, interface: &str, pod: Told, addresses: &[String]) -> Reply {
    let endpoint = match endpoint(interface, pod, addresses) {
        Ok(endpoint) => endpoint,
        Err(why) => return Reply::not_understood(why),
    };
    match shared.policy.place(interface.into(), endpoint).await {
        Ok(()) => Reply::placed(interface),
        Err(why) => Reply::not_placed(escaped(&why)),
    }
}

fn endpoint(
    interface: &str,
    Told { namespace, name, uid }: Told,
    addresses: &[String],
) -> Result<Endpoint, String> {
    if !interface.starts_with(VETH_PREFIX) || interface.len() > MOST_INTERFACE_OCTETS {
        return Err(format!("interface: {interface:?}: not of a pod"));
    }
    let mut parsed = BTreeMap::new();
    for text in addresses {
        let address: IpAddr = text.parse().map_err(|error| format!("addresses: {text:?}: {error}"))?;
        if let Some(first) = parsed.insert(Family::of(address), address) {
            return Err(format!("addresses: {address}: {first} is of its family, too"));
        }
    }
    let pod = match (namespace, name) {
        (Some(namespace), Some(name)) => {
            Some(PodRef { key: Key::new(&namespace, &name), uid: uid.as_deref().and_then(Uid::new) })
        }
        (None, None) => None,
        // No pod of Kubernetes is open, so half a name must not be none.
        (Some(_), None) => return Err("name: is missing beside the namespace".to_owned()),
        (None, Some(_)) => return Err("namespace: is missing beside the name".to_owned()),
    };
    Ok(Endpoint { pod, addresses: parsed.into_values().collect() })
}

/// `show policy [POD]`
pub(super) async fn show(shared: &Shared, wanted: Option<&str>) -> Reply {
    let Some(wanted) = wanted else {
        return match shared.policy.report(None).await {
            Ok(report) => Reply::policy(table(&report, &shared.policy)),
            Err(why) => Reply::unavailable(why),
        };
    };
    let report = match shared.policy.report(filter(wanted)).await {
        Ok(report) => report,
        Err(why) => return Reply::unavailable(why),
    };
    match meant(&report.pods, wanted) {
        Ok(pods) => {
            let now = SystemTime::now();
            Reply::policy_pods(
                pods.into_iter().map(|pod| self::pod(pod, &why(&shared.policy), now)).collect(),
            )
        }
        Err(near) if filter(wanted).is_none() => Reply::no_such("pod on this node", &escaped(wanted), &near),
        // All of them were not asked for: now they are, for their names.
        Err(_) => match shared.policy.report(None).await {
            Ok(report) => Reply::no_such(
                "pod on this node",
                &escaped(wanted),
                &near(wanted, names(&report.pods).collect()),
            ),
            Err(why) => Reply::unavailable(why),
        },
    }
}

/// Nothing for a name alone: it is looked for among all.
fn filter(wanted: &str) -> Option<Filter> {
    match wanted.split_once('/') {
        Some((namespace, name)) => Some(Filter::Pod(Key::new(namespace, name))),
        None if wanted.starts_with(VETH_PREFIX) && wanted.len() == MOST_INTERFACE_OCTETS => {
            Some(Filter::Interface(wanted.into()))
        }
        None => None,
    }
}

/// Those of that name, if all are one pod.
///
/// # Errors
/// The names that may have been meant.
fn meant<'a>(pods: &'a [PodState], wanted: &str) -> Result<Vec<&'a PodState>, Vec<String>> {
    let is_meant = |pod: &&PodState| {
        let key = pod.pod.pod.as_ref();
        key.is_some_and(|key| *key.name == *wanted || key.to_string() == wanted)
            || *pod.pod.interface == *wanted
    };
    let found: Vec<&PodState> = pods.iter().filter(is_meant).collect();
    let keys: BTreeSet<Option<&Key>> = found.iter().map(|pod| pod.pod.pod.as_ref()).collect();
    match keys.len() {
        0 => Err(near(wanted, names(pods).collect())),
        1 => Ok(found),
        _ => Err(keys.into_iter().flatten().map(|key| escaped(&key.to_string())).collect()),
    }
}

/// A pod is typed by its name; one without has the name of its link.
fn names(pods: &[PodState]) -> impl Iterator<Item = String> {
    let name = |pod: &PodState| match &pod.pod.pod {
        Some(key) => escaped(&key.to_string()),
        None => pod.pod.interface.to_string(),
    };
    pods.iter().map(name)
}

/// Why a pod waits, in words.
fn why(policy: &crate::policy::Policy) -> impl Fn(&Waiting) -> String {
    |waiting| policy.why(waiting)
}

fn table(report: &Report, keeper: &crate::policy::Policy) -> PolicyTable {
    let now = SystemTime::now();
    // Those without a name last.
    let mut pods: Vec<&PodState> = report.pods.iter().collect();
    pods.sort_by_key(|pod| (pod.pod.pod.is_none(), &pod.pod.pod, &pod.pod.interface));
    let denied = |denied: &enforcer::Denied| Denied {
        direction: denied.direction.to_string(),
        policies: keys(&denied.policies),
        count: count(denied.count),
    };
    PolicyTable {
        policies: report.policies.iter().map(policy).collect(),
        pods: pods
            .into_iter()
            .map(|pod| PolicyPod { denials: Vec::new(), ..self::pod(pod, &why(keeper), now) })
            .collect(),
        denied: report.denied.iter().map(denied).collect(),
        others: report.frame.iter().map(|(rule, counted)| (rule.clone(), count(*counted))).collect(),
    }
}

fn policy(state: &PolicyState) -> Policy {
    let report = &state.policy;
    Policy {
        name: escaped(&report.key.to_string()),
        ingress: report.ingress.then(|| count(state.ingress)),
        egress: report.egress.then(|| count(state.egress)),
        selects: keys(&report.selects),
        faults: report.faults.iter().map(|fault| escaped(&fault.to_string())).collect(),
    }
}

fn pod(state: &PodState, why: &impl Fn(&Waiting) -> String, now: SystemTime) -> PolicyPod {
    let report = &state.pod;
    let direction = |policies: &[Key], denied| {
        let (word, why) = match (&state.waiting, policies) {
            (Some(waiting), _) if !state.is_judged => ("closed", Some(escaped(&why(waiting)))),
            (Some(_), []) => ("open", Some(LAST_CHANGE.to_owned())),
            (Some(_), _) => ("isolated", Some(LAST_CHANGE.to_owned())),
            (None, []) if report.pod.is_none() => ("open", Some("no pod of Kubernetes".to_owned())),
            (None, []) => ("open", Some("no policy isolates it".to_owned())),
            (None, _) => ("isolated", None),
        };
        PolicyDirection { state: word.to_owned(), why, policies: keys(policies), denied: count(denied) }
    };
    PolicyPod {
        pod: report.pod.as_ref().map(|key| escaped(&key.to_string())),
        interface: escaped(&report.interface),
        addresses: report
            .addresses
            .iter()
            // Every pod has one, and nobody asks for it.
            .filter(|address| !is_link_local(**address))
            .map(IpAddr::to_string)
            .collect(),
        ingress: direction(&report.ingress, state.denied_ingress),
        egress: direction(&report.egress, state.denied_egress),
        denials: state.denials.iter().rev().map(|denial| self::denial(denial, now)).collect(),
    }
}

fn denial(denial: &enforcer::Denial, now: SystemTime) -> Denial {
    Denial {
        ago_s: ago_s(denial.at, now),
        direction: denial.direction.to_string(),
        peer_address: denial.peer_address.to_string(),
        peer: denial.peer.as_ref().map(|key| escaped(&key.to_string())),
        protocol: protocol(denial.protocol),
        port: denial.port,
        policies: keys(&denial.policies),
    }
}

/// As IANA calls it, if people know it by its name.
fn protocol(number: u8) -> String {
    match number {
        1 => "ICMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        58 => "ICMPv6".to_owned(),
        132 => "SCTP".to_owned(),
        number => format!("protocol {number}"),
    }
}

fn keys(keys: &[Key]) -> Vec<String> {
    keys.iter().map(|key| escaped(&key.to_string())).collect()
}

fn count(count: enforcer::Count) -> Count {
    Count { packets: count.packets, bytes: count.bytes }
}

fn ago_s(at: SystemTime, now: SystemTime) -> u64 {
    now.duration_since(at).unwrap_or_default().as_secs()
}

/// For `show status`.
pub(super) fn status(shared: &Shared) -> PolicyStatus {
    let Some(state) = shared.policy.state() else {
        let waiting_for = shared.policy.waiting_for().into_iter().map(str::to_owned).collect();
        return PolicyStatus { waiting_for, ..PolicyStatus::default() };
    };
    let enforcer::Status { counts, repairs, last_change, denials, .. } = state.enforcer;
    let now = SystemTime::now();
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let repaired = |(cause, repairs): (enforcer::Cause, enforcer::Repairs)| {
        let enforcer::Repairs { count, last, took } = repairs;
        (cause.to_string(), Repairs { count, ago_s: ago_s(last, now), took_us: micros(took) })
    };
    PolicyStatus {
        on: true,
        written: state.written,
        waiting_for: state.waiting_for.into_iter().map(str::to_owned).collect(),
        policies: counts.policies,
        pods: counts.endpoints,
        closed: counts.endpoints.saturating_sub(counts.placed),
        sets: counts.sets,
        members: counts.members,
        chains: counts.chains,
        denials: denials.seen,
        last_change_us: last_change.map(micros),
        repairs: repairs.into_iter().map(repaired).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cambric_policy::compile::{PodReport, PolicyReport};
    use cambric_policy::enforcer::Direction;

    use super::*;

    fn state(interface: &str, pod: Option<&str>) -> PodState {
        let pod = pod.and_then(|pod| pod.split_once('/')).map(|(namespace, name)| Key::new(namespace, name));
        PodState {
            pod: PodReport {
                interface: interface.into(),
                pod,
                addresses: [[10, 244, 1, 7].into()].into(),
                placement: None,
                ingress: Vec::new(),
                egress: Vec::new(),
            },
            denied_ingress: enforcer::Count::default(),
            denied_egress: enforcer::Count::default(),
            waiting: None,
            is_judged: true,
            denials: Default::default(),
        }
    }

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn what_is_to_be_placed_is_read_with_care() {
        let told = |uid: Option<&str>| Told {
            namespace: Some("default".to_owned()),
            name: Some("web-0".to_owned()),
            uid: uid.map(str::to_owned),
        };
        let read = |interface, addresses: &[&str]| endpoint(interface, told(None), &owned(addresses));
        let good = read("cam0123456789ab", &["10.244.1.7", "fd00::7"]).expect("good");
        assert_eq!(good.pod, Some(Key::new("default", "web-0").into()));
        let known = endpoint("cama", told(Some("0fe1-22")), &[]).expect("good");
        assert_eq!(known.pod.and_then(|pod| pod.uid), Uid::new("0fe1-22"));
        assert_eq!(good.addresses.len(), 2);
        for (interface, addresses, says) in [
            ("eth0", ["10.244.1.7"].as_slice(), "interface: \"eth0\": not of a pod"),
            ("cam0123456789abc", &["10.244.1.7"], "interface: \"cam0123456789abc\": not of a pod"),
            ("cama", &["10.244.1"], "addresses: \"10.244.1\": invalid IP address syntax"),
            ("cama", &["10.0.0.1", "10.0.0.2"], "addresses: 10.0.0.2: 10.0.0.1 is of its family, too"),
        ] {
            assert_eq!(read(interface, addresses).expect_err(interface), says);
        }
    }

    /// A link of no pod of Kubernetes is open.
    #[test]
    fn half_a_name_is_not_taken_for_none() {
        let read = |namespace: Option<&str>, name: Option<&str>| {
            let (namespace, name) = (namespace.map(str::to_owned), name.map(str::to_owned));
            endpoint("cama", Told { namespace, name, uid: Some("0fe1-22".to_owned()) }, &[])
        };
        assert_eq!(read(None, None).expect("no pod of Kubernetes").pod, None);
        assert!(read(Some("default"), None).is_err() && read(None, Some("web-0")).is_err());
    }

    #[test]
    fn a_pod_is_found_by_its_name_while_that_is_unambiguous() {
        let pods = [state("cama", Some("a/web")), state("camb", Some("b/web")), state("camc", Some("b/db"))];
        let found = |wanted| meant(&pods, wanted).map(|pods| pods[0].pod.interface.to_string());
        assert_eq!(found("a/web"), Ok("cama".to_owned()));
        assert_eq!(found("db"), Ok("camc".to_owned()));
        assert_eq!(found("camb"), Ok("camb".to_owned()));
        assert_eq!(found("web"), Err(owned(&["a/web", "b/web"])));
        assert_eq!(found("b/dc"), Err(owned(&["b/db"])));
        assert_eq!(filter("a/web"), Some(Filter::Pod(Key::new("a", "web"))));
        assert_eq!(filter("cam0123456789ab"), Some(Filter::Interface("cam0123456789ab".into())));
        assert_eq!(filter("web"), None);
    }

    #[test]
    fn each_direction_says_why_it_is_as_it_is() {
        let now = SystemTime::now();
        let words = |state: &PodState| {
            let pod = pod(state, &Waiting::to_string, now);
            [pod.ingress, pod.egress].map(|direction| (direction.state, direction.why.unwrap_or_default()))
        };
        let none = String::new();
        let mut web = state("cama", Some("a/web"));
        web.pod.ingress = vec![Key::new("a", "deny")];
        let open = ("open".to_owned(), "no policy isolates it".to_owned());
        assert_eq!(words(&web), [("isolated".to_owned(), none), open]);
        web.waiting = Some(Waiting::Kernel);
        let last_change = LAST_CHANGE.to_owned();
        let as_before = [("isolated".to_owned(), last_change.clone()), ("open".to_owned(), last_change)];
        assert_eq!(words(&web), as_before, "its chains stand while all is compared");
        (web.waiting, web.is_judged) = (Some(Waiting::PodObject(Key::new("a", "web"))), false);
        let closed = ("closed".to_owned(), "no Pod object a/web yet".to_owned());
        assert_eq!(words(&web), [closed.clone(), closed]);
        let open = ("open".to_owned(), "no pod of Kubernetes".to_owned());
        assert_eq!(words(&state("cama", None)), [open.clone(), open]);
    }

    #[test]
    fn denials_are_told_with_the_latest_first() {
        let now = SystemTime::now();
        let denial = |seconds, protocol| enforcer::Denial {
            at: now - Duration::from_secs(seconds),
            direction: Direction::Ingress,
            interface: "cama".into(),
            pod: Some(Key::new("a", "web")),
            peer_address: [192, 0, 2, 1].into(),
            peer: None,
            protocol,
            port: Some(80),
            policies: vec![Key::new("a", "deny")],
            chain: "i-x".into(),
        };
        let mut web = state("cama", Some("a/web"));
        web.denials = [denial(9, 6), denial(3, 47)].into();
        let told = pod(&web, &Waiting::to_string, now).denials;
        let brief: Vec<_> = told.iter().map(|denial| (denial.ago_s, denial.protocol.as_str())).collect();
        assert_eq!(brief, [(3, "protocol 47"), (9, "TCP")]);
    }

    #[test]
    fn a_policy_counts_in_the_directions_that_it_has() {
        let report = PolicyReport {
            key: Key::new("a", "deny"),
            ingress: true,
            egress: false,
            selects: vec![Key::new("a", "web")],
            faults: Vec::new(),
        };
        let count = enforcer::Count { packets: 2, bytes: 120 };
        let told = policy(&PolicyState { policy: report, ingress: count, egress: count });
        assert_eq!(told.ingress, Some(Count { packets: 2, bytes: 120 }));
        assert_eq!((told.egress, told.name.as_str()), (None, "a/deny"));
    }
}
