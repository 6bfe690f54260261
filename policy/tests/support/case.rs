//! Case files: clusters, policies and who may reach whom. The format is in `vectors/README.md`.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
pub struct Case {
    pub schema: String,
    pub id: String,
    #[serde(default)]
    pub tags: Vec<String>,
    pub steps: Vec<Step>,
}

/// A state of the cluster.
#[derive(Debug, Deserialize)]
pub struct Step {
    #[serde(default)]
    pub nodes: Vec<Named>,
    pub namespaces: Vec<Value>,
    pub pods: Vec<PodOfCase>,
    #[serde(default)]
    pub externals: Vec<Named>,
    pub policies: Vec<Value>,
    pub expect: Vec<Table>,
}

/// A node, or something outside the cluster.
#[derive(Debug, Deserialize)]
pub struct Named {
    pub name: String,
    pub ips: Vec<IpAddr>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodOfCase {
    pub namespace: String,
    pub name: String,
    pub labels: Value,
    pub node: Option<String>,
    #[serde(default)]
    pub host_network: bool,
    pub phase: String,
    pub ips: Vec<IpAddr>,
    #[serde(default)]
    pub ports: Value,
    pub deletion_timestamp: Option<String>,
}

/// Who reaches whom by one family, protocol and port.
#[derive(Debug, Deserialize)]
pub struct Table {
    pub family: Family,
    pub protocol: String,
    pub port: u16,
    pub rows: Vec<String>,
    pub cols: Vec<String>,
    pub combined: Vec<String>,
    pub egress: Vec<String>,
    pub ingress: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Family {
    IPv4,
    IPv6,
}

impl Family {
    pub const ALL: [Family; 2] = [Family::IPv4, Family::IPv6];

    pub fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::IPv4 } else { Family::IPv6 }
    }

    /// The one address of this family.
    pub fn pick(self, addresses: &[IpAddr]) -> Option<IpAddr> {
        addresses.iter().copied().find(|address| Family::of(*address) == self)
    }
}

/// Which of the three tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What the source's node says.
    Egress,
    /// What the destination's node says.
    Ingress,
    /// Both.
    Combined,
}

impl Side {
    pub const ALL: [Side; 3] = [Side::Egress, Side::Ingress, Side::Combined];
}

impl Table {
    /// All cells of all three tables: side, row, column and character.
    pub fn cells(&self) -> impl Iterator<Item = (Side, &str, &str, char)> {
        Side::ALL.into_iter().flat_map(move |side| {
            let lines = match side {
                Side::Egress => &self.egress,
                Side::Ingress => &self.ingress,
                Side::Combined => &self.combined,
            };
            assert_eq!(lines.len(), self.rows.len(), "a line for each row");
            self.rows.iter().zip(lines).flat_map(move |(row, line)| {
                assert_eq!(line.len(), self.cols.len(), "a character for each column");
                self.cols
                    .iter()
                    .zip(line.chars())
                    .map(move |(col, expected)| (side, &**row, &**col, expected))
            })
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {}", self.family, self.protocol, self.port)
    }
}

/// All cases of a file.
pub fn read(path: &Path) -> Vec<Case> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let cases: Vec<Case> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(at, line)| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{} line {}: {error}", path.display(), at + 1))
        })
        .collect();
    for case in &cases {
        assert_eq!(case.schema, "netpol-case/1", "{} in {}", case.id, path.display());
    }
    assert!(!cases.is_empty(), "{} has no cases", path.display());
    cases
}

/// The cases of this project.
pub fn own() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/own.jsonl")
}

/// Cases of another project, which lie beside this repository or nowhere.
pub fn cyclonus() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/netpol-cases/cyclonus.jsonl");
    path.exists().then_some(path)
}

/// The files of the folder that `CAMBRIC_NETPOL_CASES` names.
pub fn further() -> Option<Vec<PathBuf>> {
    let folder = PathBuf::from(std::env::var_os("CAMBRIC_NETPOL_CASES")?);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry of the folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no *.jsonl", folder.display());
    Some(files)
}
