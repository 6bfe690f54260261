//! What can be wrong with a file, and what has to be said of it.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cambric_lab::poll;

use crate::BOTH_PAIRS;
use crate::common::operator::{problems, try_in, type_in};
use crate::desk::{Desk, LIMIT, good, headline, original};

/// How long a daemon may take to say what is wrong with a file.
const SAID_LIMIT: Duration = Duration::from_secs(10);

/// Something wrong with a file, and what has to be said of it.
struct Fault {
    what: &'static str,
    file: &'static str,
    text: String,
    says: &'static [&'static str],
    /// Whether all of `show status` is printed.
    is_shown: bool,
}

impl Desk<'_> {
    pub(crate) fn faults_change_nothing(&self) -> Result<()> {
        headline("files are broken and mended");
        self.while_pods_talk(&BOTH_PAIRS, || {
            let before = self.all_that_forwards()?;
            let mut unsaid = Vec::new();
            for fault in faults() {
                if let Err(error) = self.is_broken_and_mended(&fault, &before) {
                    println!("    NOT AS IT SHOULD BE: {error:#}");
                    unsaid.push(format!("{}: {error:#}", fault.what));
                }
            }
            ensure!(unsaid.is_empty(), "{unsaid:#?}");
            type_in(&self.node, "cambric show status").map(drop)
        })
    }

    fn is_broken_and_mended(&self, fault: &Fault, before: &BTreeSet<String>) -> Result<()> {
        println!("\n  {}", fault.what);
        self.folder.write(&format!("manifests/{}", fault.file), &fault.text);
        let said = self.is_named(fault).and_then(|()| self.forwards_as(before));
        match original(fault.file) {
            Some(_) => self.mend(fault.file),
            None => fs::remove_file(self.path(fault.file))?,
        }
        poll::until("the problem to go", LIMIT, || problems(&self.node).is_ok_and(|all| all.is_empty()))?;
        said.and_then(|()| self.forwards_as(before).context("mended"))
    }

    /// Whether `show status` says file, field and reason.
    fn is_named(&self, fault: &Fault) -> Result<()> {
        let what = format!("a problem that says {:?}", fault.says);
        let problem = poll::until_some(&what, SAID_LIMIT, || {
            let says_all = |problem: &String| fault.says.iter().all(|word| problem.contains(word));
            Ok(problems(&self.node)?.into_iter().find(says_all))
        });
        let problem = problem.with_context(|| format!("it says {:#?}", problems(&self.node)))?;
        println!("    {problem}");
        if fault.is_shown {
            type_in(&self.node, "cambric show status")?;
            let (status, text) = try_in(&self.node, "cambric configure check")?;
            ensure!(!status.success() && text.contains(fault.file), "the check finds nothing: {status}");
        }
        Ok(())
    }
}

fn faults() -> Vec<Fault> {
    let edited = |file: &'static str, old: &str, new: &str| {
        let text = good(file);
        assert!(text.contains(old), "{file} has no {old:?}");
        text.replace(old, new)
    };
    let fault = |what, file, text, says| Fault { what, file, text, says, is_shown: false };
    vec![
        Fault {
            is_shown: true,
            ..fault(
                "c1.yaml: a bracket is not closed",
                "c1.yaml",
                edited("c1.yaml", "asn: 65101", "asn: [65101"),
                &["c1.yaml", "line"],
            )
        },
        fault(
            "c1.yaml: a field that is not there",
            "c1.yaml",
            edited("c1.yaml", "holdTimeSeconds: 9", "holdTime: 9"),
            &["c1.yaml", "unknown field `holdTime`"],
        ),
        fault(
            "c1.yaml: a word where a number belongs",
            "c1.yaml",
            edited("c1.yaml", "asn: 65101", "asn: many"),
            &["c1.yaml", "asn", "\"many\""],
        ),
        fault(
            "c1.yaml: no address",
            "c1.yaml",
            edited("c1.yaml", "address: 192.0.2.0,", "address: 192.0.2.300,"),
            &["c1.yaml", "address", "192.0.2.300"],
        ),
        fault(
            "c1.yaml: no hold time",
            "c1.yaml",
            edited("c1.yaml", "holdTimeSeconds: 9", "holdTimeSeconds: 2"),
            &["c1.yaml", "holdTimeSeconds", "2"],
        ),
        fault(
            "c1.yaml: a BGPPeerConfig that is not there",
            "c1.yaml",
            edited("c1.yaml", "peerConfig: f1", "peerConfig: f9"),
            &["c1.yaml", "peerConfig", "\"f9\""],
        ),
        fault(
            "c1.yaml: two peers have one address",
            "c1.yaml",
            edited("c1.yaml", "address: 192.0.2.2,", "address: 192.0.2.0,"),
            &["c1.yaml", "address: 192.0.2.0", "f1"],
        ),
        fault(
            "c2.yaml: pod ranges of two nodes overlap",
            "c2.yaml",
            edited("c2.yaml", "198.51.100.64/26", "198.51.100.0/25"),
            &["c2.yaml", "podCIDRs", "198.51.100.0/25", "c1"],
        ),
        fault(
            "c3.yaml: an address that another node has",
            "c3.yaml",
            edited("c3.yaml", "192.0.2.103", "192.0.2.102"),
            &["c3.yaml", "status.addresses", "192.0.2.102", "c2.yaml"],
        ),
        Fault {
            is_shown: true,
            ..fault(
                "z.yaml, new: a second Node c2",
                "z.yaml",
                good("c2.yaml")
                    .split("---")
                    .next()
                    .unwrap_or_default()
                    .replace("198.51.100.64/26", "198.51.100.192/26"),
                &["z.yaml", "c2", "c2.yaml"],
            )
        },
        fault(
            "z.yaml, new: a second BGPClusterConfig for all nodes",
            "z.yaml",
            good("cluster.yaml")
                .split("---")
                .next()
                .unwrap_or_default()
                .replace("name: default", "name: other"),
            &["z.yaml", "BGPClusterConfig other", "Conflicted", "default"],
        ),
    ]
}
