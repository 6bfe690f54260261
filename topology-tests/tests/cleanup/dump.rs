//! All that a program can leave on a node, as the tools of the system show it.
//!
//! Left out is what the kernel counts, learns or draws by itself:
//! - packets and octets that rules and chains have counted, in nf_tables and iptables;
//! - comments of `iptables-save`: the time of day;
//! - neighbours that are not permanent: any packet brings them, time takes them;
//! - `net.netfilter.nf_conntrack_count`: connections of anybody;
//! - `initval` of a set: the seed of its hash;
//! - sizes of folders and all times.

use std::fmt;

use anyhow::{Result, bail};
use cambric_lab::Node;

/// What is asked, and its name.
const QUESTIONS: [(&str, &str); 15] = [
    ("addresses", "ip -d address show"),
    ("multicast groups", "ip maddress show"),
    ("routes", "ip -d -4 route show table all"),
    ("IPv6 routes", "ip -d -6 route show table all"),
    ("rules", "ip -d -4 rule show"),
    ("IPv6 rules", "ip -d -6 rule show"),
    ("next hops", "ip -d nexthop show"),
    ("neighbours", "ip -d neighbour show nud permanent"),
    ("proxied neighbours", "ip -d neighbour show proxy"),
    ("nf_tables", "nft list ruleset"),
    ("ipset", "ipset save -sorted"),
    ("iptables", "iptables-save"),
    ("ip6tables", "ip6tables-save"),
    ("sysctls", "sysctl --all --ignore --pattern ^net\\."),
    (
        "files",
        "find /etc /opt/cni /run /var/lib -not -type d -printf %p,%y,%m,%U:%G,%s,%l\\n , -type d -printf %p,%y,%m,%U:%G\\n",
    ),
];

/// What a node has, line by line.
#[derive(Debug)]
pub(crate) struct Dump(Vec<(&'static str, Vec<String>)>);

impl Dump {
    pub(crate) fn of(node: &Node) -> Result<Dump> {
        let mut parts = Vec::new();
        for (name, question) in QUESTIONS {
            let text = node.run_ok(&question.split(' ').collect::<Vec<_>>())?;
            let mut lines: Vec<String> = text.lines().filter_map(told).collect();
            if name == "files" || name == "sysctls" {
                lines.sort();
            }
            parts.push((name, lines));
        }
        Ok(Dump(parts))
    }

    /// Lines of a later one that are not in this one, with their part's name.
    pub(crate) fn new_in(&self, later: &Dump) -> Vec<String> {
        self.parts(later)
            .flat_map(|(name, was, is)| only_in(is, was).map(move |line| format!("{name}: {line}")))
            .collect()
    }

    /// # Errors
    /// All lines in which they differ.
    pub(crate) fn is_the_same(&self, when: &str, later: &Dump) -> Result<()> {
        let mut differences = Vec::new();
        for (name, was, is) in self.parts(later).filter(|(_, was, is)| was != is) {
            differences.push(format!("{name}, other than {when}:"));
            differences.extend(only_in(was, is).map(|line| format!("- {line}")));
            differences.extend(only_in(is, was).map(|line| format!("+ {line}")));
        }
        if differences.is_empty() {
            println!("no line differs from {when}");
            return Ok(());
        }
        bail!("{}", differences.join("\n"))
    }

    fn parts<'a>(
        &'a self,
        later: &'a Dump,
    ) -> impl Iterator<Item = (&'static str, &'a [String], &'a [String])> {
        self.0.iter().zip(&later.0).map(|((name, was), (_, is))| (*name, was.as_slice(), is.as_slice()))
    }
}

/// How much there is.
impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> =
            self.0.iter().map(|(name, lines)| format!("{} {name}", lines.len())).collect();
        write!(f, "lines: {}", counts.join(", "))
    }
}

fn only_in<'a>(these: &'a [String], others: &'a [String]) -> impl Iterator<Item = &'a String> {
    these.iter().filter(|line| !others.contains(line))
}

/// A line without what the kernel counts; nothing of one that says nothing else.
fn told(line: &str) -> Option<String> {
    if line.starts_with('#') || line.starts_with("net.netfilter.nf_conntrack_count") {
        return None;
    }
    let mut words: Vec<&str> = line.split(' ').collect();
    for counted in ["packets", "bytes", "initval"] {
        for at in 0..words.len() {
            if words[at] == counted && at + 1 < words.len() {
                words[at + 1] = "…";
            }
        }
    }
    // `:INPUT ACCEPT [12:345]`
    let is_chain = line.starts_with(':');
    words.retain(|word| !(is_chain && word.starts_with('[')));
    Some(words.join(" "))
}
