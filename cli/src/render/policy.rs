//! `show policy`: which policies judge which pods, and what became of their packets.

use std::fmt::Write;

use cambric_api::{Count, Denial, Policy, PolicyDirection, PolicyPod, PolicyTable};

use super::span;
use crate::table::{Column, Fields, Table};

/// Pods of one policy that are named; the others are counted.
const MOST_PODS: usize = 3;

/// One line a policy that selects a pod of this node, its faults below it; then the pods, then what was denied. Of a
/// cluster's thousands of policies a node has few: the others are counted.
pub(super) fn render(table: &PolicyTable) -> String {
    let mut text = policies(&table.policies);
    if !table.pods.is_empty() {
        text.push('\n');
        text.push_str(&pods(&table.pods));
    }
    let denied = table.denied.iter().filter(|denied| denied.count.packets > 0);
    let denied = denied.map(|denied| {
        format!("{} by {}: {}", denied.direction, or_nobody(&denied.policies), packets(denied.count))
    });
    let mut fields = Fields::new();
    fields.list("Denied", denied, "nothing");
    let others = table.others.iter().filter(|(_, count)| count.packets > 0);
    fields.list("Others", others.map(|(rule, count)| format!("{rule}: {}", packets(*count))), "nothing");
    let _ = write!(text, "\n{fields}");
    text
}

fn policies(policies: &[Policy]) -> String {
    let (here, others): (Vec<_>, Vec<_>) = policies.iter().partition(|policy| !policy.selects.is_empty());
    let faulty = others.iter().filter(|policy| !policy.faults.is_empty()).count();
    let faulty = if faulty > 0 { format!(" ({faulty} with faults)") } else { String::new() };
    let others = match others.len() {
        0 => String::new(),
        count => format!("policies that select no pod of this node: {count}{faulty}\n"),
    };
    if here.is_empty() {
        return if others.is_empty() { "no policies\n".to_owned() } else { others };
    }
    let mut table = Table::new([
        Column::Left("Policy"),
        Column::Left("Directions"),
        Column::Right("In"),
        Column::Right("Out"),
        Column::Left("Pods here"),
    ]);
    for policy in here {
        let directions = [("ingress", policy.ingress), ("egress", policy.egress)];
        let directions = directions.iter().filter(|(_, count)| count.is_some()).map(|(name, _)| *name);
        let directions = directions.collect::<Vec<_>>().join("+");
        let or_dash = |count: Option<Count>| count.map_or("-".to_owned(), |count| count.packets.to_string());
        table.row([
            policy.name.clone(),
            if directions.is_empty() { "none".to_owned() } else { directions },
            or_dash(policy.ingress),
            or_dash(policy.egress),
            few(&policy.selects),
        ]);
        if !policy.faults.is_empty() {
            let mut fields = Fields::new().indent(4);
            fields.list("Allows nothing", &policy.faults, "");
            table.below(fields);
        }
    }
    format!("{table}{others}")
}

fn pods(pods: &[PolicyPod]) -> String {
    let mut table = Table::new([
        Column::Left("Pod"),
        Column::Left("Interface"),
        Column::Left("Addresses"),
        Column::Left("Ingress"),
        Column::Left("Egress"),
    ]);
    for pod in pods {
        table.row([
            pod.pod.clone().unwrap_or_else(|| "-".to_owned()),
            pod.interface.clone(),
            if pod.addresses.is_empty() { "-".to_owned() } else { pod.addresses.join(" ") },
            pod.ingress.state.clone(),
            pod.egress.state.clone(),
        ]);
    }
    table.to_string()
}

/// One block an interface.
pub(super) fn render_pods(pods: &[PolicyPod]) -> String {
    pods.iter().map(block).collect::<Vec<_>>().join("\n")
}

fn block(pod: &PolicyPod) -> String {
    let mut fields = Fields::new();
    fields.field("Pod", pod.pod.as_deref().unwrap_or("none of Kubernetes"));
    fields.field("Interface", &pod.interface);
    fields.list("Addresses", &pod.addresses, "none");
    for (name, direction) in [("Ingress", &pod.ingress), ("Egress", &pod.egress)] {
        let PolicyDirection { state, why, policies, denied } = direction;
        let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let by = if policies.is_empty() { String::new() } else { format!(" by {}", policies.join(", ")) };
        fields.field(name, format_args!("{state}{by}{why}"));
        if !policies.is_empty() {
            fields.field(&format!("{name} denied"), of_class(*denied));
        }
    }
    fields.list("Denied lately", pod.denials.iter().map(denial), "nothing");
    fields.to_string()
}

fn denial(denial: &Denial) -> String {
    let Denial { ago_s, direction, peer_address, peer, protocol, port, policies } = denial;
    let towards = if direction == "egress" { "to" } else { "from" };
    let peer = peer.as_ref().map(|peer| format!(" ({peer})")).unwrap_or_default();
    let port = port.map(|port| format!(" port {port}")).unwrap_or_default();
    let by = or_nobody(policies);
    format!("{direction} {towards} {peer_address}{peer}, {protocol}{port}, by {by} ({} ago)", span(*ago_s))
}

fn or_nobody(policies: &[String]) -> String {
    if policies.is_empty() { "no policy, for it was closed".to_owned() } else { policies.join(", ") }
}

/// Pods that the same policies judge share their rules, and so the counters of them.
fn of_class(denied: Count) -> String {
    match denied.packets {
        0 => packets(denied),
        _ => format!("{}, of all pods here with the same rules", packets(denied)),
    }
}

fn packets(count: Count) -> String {
    match count.packets {
        0 => "nothing".to_owned(),
        1 => format!("1 packet, {} bytes", count.bytes),
        packets => format!("{packets} packets, {} bytes", count.bytes),
    }
}

fn few(pods: &[String]) -> String {
    match pods {
        [] => "none".to_owned(),
        pods if pods.len() <= MOST_PODS => pods.join(" "),
        pods => format!("{} and {} more", pods[..MOST_PODS].join(" "), pods.len() - MOST_PODS),
    }
}

#[cfg(test)]
mod tests {
    use cambric_api::Denied;

    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn direction(state: &str, why: Option<&str>, policies: &[&str], packets: u64) -> PolicyDirection {
        let denied = Count { packets, bytes: 60 * packets };
        let (state, why) = (state.to_owned(), why.map(str::to_owned));
        PolicyDirection { state, why, policies: words(policies), denied }
    }

    fn web() -> PolicyPod {
        let denial = Denial {
            ago_s: 3,
            direction: "ingress".to_owned(),
            peer_address: "10.244.2.9".to_owned(),
            peer: Some("dev/shell".to_owned()),
            protocol: "TCP".to_owned(),
            port: Some(5432),
            policies: words(&["default/web"]),
        };
        let outside = Denial {
            ago_s: 90,
            direction: "egress".to_owned(),
            peer_address: "192.0.2.1".to_owned(),
            peer: None,
            protocol: "ICMP".to_owned(),
            port: None,
            policies: Vec::new(),
        };
        PolicyPod {
            pod: Some("default/web-0".to_owned()),
            interface: "cam0123456789ab".to_owned(),
            addresses: words(&["10.244.1.7", "fd00::7"]),
            ingress: direction("isolated", None, &["default/web", "default/dns"], 2),
            egress: direction("open", Some("no policy isolates it"), &[], 0),
            denials: vec![denial, outside],
        }
    }

    #[test]
    fn one_line_a_policy_and_a_pod() {
        let count = |packets| Some(Count { packets, bytes: 60 * packets });
        let four = words(&["default/web-0", "default/web-1", "default/web-2", "default/web-3"]);
        let good =
            Policy { name: "default/web".to_owned(), ingress: count(12), selects: four, ..Policy::default() };
        let bad = Policy {
            name: "prod/deny".to_owned(),
            ingress: count(0),
            egress: count(0),
            selects: words(&["prod/db"]),
            faults: words(&["spec.egress[0].to[0].ipBlock.cidr: \"10.0.0.0/33\": not a CIDR"]),
        };
        let denied = Denied {
            direction: "ingress".to_owned(),
            policies: words(&["default/web", "default/dns"]),
            count: Count { packets: 2, bytes: 120 },
        };
        let closed = PolicyPod {
            interface: "camffffffffffff".to_owned(),
            ingress: direction("closed", Some("no Pod object a/b yet"), &[], 0),
            egress: direction("closed", Some("no Pod object a/b yet"), &[], 0),
            ..PolicyPod::default()
        };
        let others = [("spoofed", 1), ("closed", 0)];
        let table = PolicyTable {
            policies: vec![good, Policy { selects: Vec::new(), ..bad.clone() }, bad, Policy::default()],
            pods: vec![web(), closed],
            denied: vec![denied],
            others: others.map(|(rule, packets)| (rule.to_owned(), Count { packets, bytes: 84 })).into(),
        };
        let expected = "\
Policy       Directions      In  Out  Pods here
default/web  ingress         12    -  default/web-0 default/web-1 default/web-2 and 1 more
prod/deny    ingress+egress   0    0  prod/db
    Allows nothing:  spec.egress[0].to[0].ipBlock.cidr: \"10.0.0.0/33\": not a CIDR
policies that select no pod of this node: 2 (1 with faults)

Pod            Interface        Addresses           Ingress   Egress
default/web-0  cam0123456789ab  10.244.1.7 fd00::7  isolated  open
-              camffffffffffff  -                   closed    closed

Denied:  ingress by default/web, default/dns: 2 packets, 120 bytes
Others:  spoofed: 1 packet, 84 bytes
";
        assert_eq!(render(&table), expected);
    }

    #[test]
    fn pod_says_what_isolates_it_and_what_was_denied() {
        let expected = "\
Pod:             default/web-0
Interface:       cam0123456789ab
Addresses:       10.244.1.7
                 fd00::7
Ingress:         isolated by default/web, default/dns
Ingress denied:  2 packets, 120 bytes, of all pods here with the same rules
Egress:          open: no policy isolates it
Denied lately:   ingress from 10.244.2.9 (dev/shell), TCP port 5432, by default/web (3s ago)
                 egress to 192.0.2.1, ICMP, by no policy, for it was closed (1m30s ago)
";
        assert_eq!(render_pods(&[web()]), expected);
    }

    #[test]
    fn thousands_of_policies_of_other_nodes_are_one_line() {
        let table = PolicyTable { policies: vec![Policy::default(); 12_000], ..PolicyTable::default() };
        let expected =
            "policies that select no pod of this node: 12000\n\nDenied:  nothing\nOthers:  nothing\n";
        assert_eq!(render(&table), expected);
    }

    #[test]
    fn nothing_is_said_so() {
        let expected = "no policies\n\nDenied:  nothing\nOthers:  nothing\n";
        assert_eq!(render(&PolicyTable::default()), expected);
    }
}
