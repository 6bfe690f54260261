//! The containerlab file: read, merged (defaults, kind, group, node), checked.
//!
//! `raw` is the file as written; this module is what the rest of the crate works with. The checks are those
//! containerlab's JSON schema cannot express (a link to a node that is not there, three ends, an interface used
//! twice, bind sources that do not exist) and those that namespaces add (kinds nobody here can play). Every error
//! names the file, the place in it and the value.

mod raw;
mod words;

use std::collections::{BTreeMap, btree_map::Entry};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use raw::{RawEndpoint, RawFile, RawLink, RawNode};
pub use words::split_words;

/// The label that asks for pods at `up`: their number.
pub const PODS_LABEL: &str = "cambric.dev/pods";

/// Most pods that `up` starts on a node: what a /24 has room for, and twice what a kubelet takes by default.
const PODS_MAX: u32 = 250;

/// IFNAMSIZ without the closing zero.
const INTERFACE_NAME_MAX: usize = 15;

/// What a veth takes (ETH_MIN_MTU and ETH_MAX_MTU of Linux); below 1280 it has no IPv6.
const MTU_BYTES: RangeInclusive<u32> = 68..=65535;

/// A lab as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Name of the lab.
    pub name: String,
    /// First part of the nodes' names under `/run/netns`; containerlab's `prefix`.
    pub prefix: String,
    /// The file, absolute.
    pub file: PathBuf,
    /// Nodes by name.
    pub nodes: BTreeMap<String, NodeSpec>,
    /// Links in file order.
    pub links: Vec<Link>,
}

/// A node with defaults, kind and group merged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Name in the file, and host name.
    pub name: String,
    /// What runs in it.
    pub role: Role,
    /// What a container is made of; a bridge has none.
    #[serde(default)]
    pub image: Option<String>,
    /// Files and folders of the host that the node sees.
    pub binds: Vec<Bind>,
    /// Commands run once the links are up and the daemons started, as containerlab does.
    pub exec: Vec<Vec<String>>,
    /// Kernel settings, written before anything starts.
    pub sysctls: BTreeMap<String, String>,
    /// Environment of everything that runs in the node.
    pub env: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `cmd`: arguments of `cambricd`; none: the default ones.
    pub arguments: Option<Vec<String>>,
    /// Pods that `up` starts, from [`PODS_LABEL`].
    pub pods: u32,
}

/// What runs in a node: the last part of the image name, or the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The host's zebra, staticd, bgpd and bfdd.
    Frr,
    /// `cambricd`.
    Cambric,
    /// Nothing but what `exec` and the user start.
    Linux,
    /// A bridge that holds the node's links.
    Bridge,
}

impl Role {
    fn of_image(image: &str) -> Self {
        let last = image.rsplit('/').next().unwrap_or(image);
        match last.split([':', '@']).next() {
            Some("frr") => Self::Frr,
            Some("cambric" | "cambric-lab") => Self::Cambric,
            _ => Self::Linux,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Frr => "frr",
            Self::Cambric => "cambric",
            Self::Linux => "linux",
            Self::Bridge => "bridge",
        })
    }
}

/// `source:target[:ro]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// On the host, absolute, without symbolic links.
    pub source: PathBuf,
    /// In the node, absolute.
    pub target: PathBuf,
    /// Whether the node may write through it.
    pub access: Access,
}

/// Whether a node may write through a bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// `:ro`.
    ReadOnly,
    /// The default.
    ReadWrite,
}

/// A veth pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Both ends.
    pub ends: [Endpoint; 2],
    /// MTU of both ends; none: the kernel's 1500 (containerlab's own default is 9500).
    pub mtu_bytes: Option<u32>,
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Endpoint {
    /// Node by name.
    pub node: String,
    /// Interface in that node.
    pub interface: String,
    /// MAC address to set.
    pub mac: Option<String>,
    /// Addresses with prefix length, both families.
    pub addresses: Vec<String>,
}

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}{problem}", file.display(), if place.is_empty() { String::new() } else { format!("{place}: ") })]
pub struct FileError {
    /// The file.
    pub file: PathBuf,
    /// The key, as in `topology.nodes.n11.binds[0]`; empty when the problem says it.
    pub place: String,
    /// What is wrong, with the value.
    pub problem: String,
}

/// A problem at a place; [`Topology::parse`] adds the file.
type Checked<T> = Result<T, (String, String)>;

fn wrong<T>(place: impl Into<String>, problem: impl Into<String>) -> Checked<T> {
    Err((place.into(), problem.into()))
}

impl Topology {
    /// Reads a `*.clab.yml`, or the one such file of a folder.
    ///
    /// # Errors
    /// When there is no such file, or anything in it is unknown or wrong.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let file = locate(path)?;
        let text = read(&file)?;
        Self::parse(&file, &text)
    }

    /// Reads the text of `file`; binds are relative to its folder.
    ///
    /// # Errors
    /// When anything in it is unknown or wrong.
    pub fn parse(file: &Path, text: &str) -> Result<Self, FileError> {
        let error = |(place, problem)| FileError { file: file.to_owned(), place, problem };
        let raw = RawFile::parse(text).map_err(|problem| error((String::new(), problem)))?;
        check(file, raw).map_err(error)
    }

    /// The name a node has under `/run/netns`; the same as containerlab's container name.
    pub fn netns_name(&self, node: &str) -> String {
        match self.prefix.as_str() {
            "" => node.to_owned(),
            "__lab-name" => format!("{}-{node}", self.name),
            prefix => format!("{prefix}-{}-{node}", self.name),
        }
    }

    /// The ends of links that are in a node.
    pub fn ends_of<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Endpoint> {
        self.links.iter().flat_map(|link| &link.ends).filter(move |end| end.node == node)
    }
}

/// Name of the lab in a file whose rest may be broken: `down` must work then, too.
///
/// # Errors
/// When there is no such file or no name in it.
pub fn name_of(path: &Path) -> Result<(PathBuf, String), FileError> {
    #[derive(Deserialize)]
    struct OnlyName {
        name: String,
    }
    let file = locate(path)?;
    let text = read(&file)?;
    match serde_yaml_ng::from_str::<OnlyName>(&text) {
        Ok(found) if is_name(&found.name) => Ok((file, found.name)),
        Ok(found) => {
            Err(FileError { file, place: "name".into(), problem: format!("bad name {:?}", found.name) })
        }
        Err(error) => Err(FileError { file, place: String::new(), problem: error.to_string() }),
    }
}

fn locate(path: &Path) -> Result<PathBuf, FileError> {
    let error = |problem: String| FileError { file: path.to_owned(), place: String::new(), problem };
    let path = path.canonicalize().map_err(|e| error(e.to_string()))?;
    if !path.is_dir() {
        return Ok(path);
    }
    let entries = path.read_dir().map_err(|e| error(e.to_string()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".clab.yml") || name.ends_with(".clab.yaml")
        })
        .collect();
    match (files.pop(), files.is_empty()) {
        (Some(file), true) => Ok(file),
        (Some(_), false) => Err(error("the folder has more than one *.clab.yml, name one".into())),
        (None, _) => Err(error("the folder has no *.clab.yml".into())),
    }
}

fn read(file: &Path) -> Result<String, FileError> {
    std::fs::read_to_string(file).map_err(|e| FileError {
        file: file.to_owned(),
        place: String::new(),
        problem: e.to_string(),
    })
}

fn check(file: &Path, raw: RawFile) -> Checked<Topology> {
    if !is_name(&raw.name) {
        return wrong("name", format!("bad name {:?}: letters, digits, '-', '_' and '.' only", raw.name));
    }
    let levels = &raw.topology;
    let mut nodes = BTreeMap::new();
    for (name, own) in &levels.nodes {
        let place = format!("topology.nodes.{name}");
        if !is_name(name) {
            return wrong(place, format!("bad name {name:?}: letters, digits, '-', '_' and '.' only"));
        }
        let own = own.clone().unwrap_or_default();
        let merged = merge(levels, &place, own)?;
        nodes.insert(name.clone(), check_node(file, name, &place, merged)?);
    }
    let links = check_links(&nodes, levels.links.as_deref().unwrap_or_default())?;
    let prefix = raw.prefix.unwrap_or_else(|| "clab".into());
    if !prefix.is_empty() && prefix != "__lab-name" && !is_name(&prefix) {
        let what = "letters, digits, '-', '_' and '.' only, or empty, or __lab-name";
        return wrong("prefix", format!("bad prefix {prefix:?}: {what}"));
    }
    let topology = Topology { name: raw.name, prefix, file: file.to_owned(), nodes, links };
    for (name, node) in &topology.nodes {
        if node.role == Role::Bridge && name.len() > INTERFACE_NAME_MAX {
            return wrong(format!("topology.nodes.{name}"), too_long("bridge", name));
        }
    }
    Ok(topology)
}

/// Lays defaults, kind, group and the node itself over each other, the last one on top, as containerlab does.
fn merge(levels: &raw::RawTopology, place: &str, own: RawNode) -> Checked<RawNode> {
    let defaults = levels.defaults.clone().unwrap_or_default();
    let group_name = own.group.clone().or_else(|| defaults.group.clone());
    let group = match &group_name {
        Some(name) => match levels.groups.get(name) {
            Some(group) => group.clone(),
            // Without `groups` the word only sorts nodes in containerlab's graphs.
            None if levels.groups.is_empty() => RawNode::default(),
            None => return wrong(format!("{place}.group"), format!("{name:?} is not in topology.groups")),
        },
        None => RawNode::default(),
    };
    let kind_name = own.kind.clone().or_else(|| group.kind.clone()).or_else(|| defaults.kind.clone());
    let kind = kind_name.as_ref().and_then(|name| levels.kinds.get(name)).cloned().unwrap_or_default();
    let mut merged = defaults.under(kind).under(group).under(own);
    merged.kind = kind_name;
    Ok(merged)
}

fn check_node(file: &Path, name: &str, place: &str, raw: RawNode) -> Checked<NodeSpec> {
    let role = match (raw.kind.as_deref(), raw.image.as_deref()) {
        (Some("linux"), Some(image)) => Role::of_image(image),
        (Some("linux"), None) => return wrong(place, "a node of kind linux needs an image"),
        (Some("bridge"), _) => Role::Bridge,
        (Some(kind), _) => {
            return wrong(
                format!("{place}.kind"),
                format!("no namespace can play {kind:?}; known are linux and bridge"),
            );
        }
        (None, _) => return wrong(place, "no kind: not on the node, its group nor in defaults"),
    };
    if role == Role::Bridge {
        let needless =
            [("binds", raw.binds.is_empty()), ("exec", raw.exec.is_empty()), ("env", raw.env.is_empty())];
        if let Some((key, _)) = needless.iter().find(|(_, empty)| !empty) {
            return wrong(format!("{place}.{key}"), "means nothing on a bridge");
        }
    }
    let mut exec = Vec::new();
    for (index, line) in raw.exec.iter().enumerate() {
        let line = line.replace("__clabNodeName__", name);
        match split_words(&line) {
            Ok(words) if !words.is_empty() => exec.push(words),
            Ok(_) => return wrong(format!("{place}.exec[{index}]"), "empty command"),
            Err(problem) => return wrong(format!("{place}.exec[{index}]"), format!("{problem}: {line:?}")),
        }
    }
    let labels = raw.labels.into_iter().map(|(key, value)| (key, value.0)).collect();
    Ok(NodeSpec {
        name: name.to_owned(),
        role,
        image: raw.image,
        binds: check_binds(file, name, place, &raw.binds)?,
        exec,
        sysctls: check_sysctls(place, raw.sysctls)?,
        env: raw.env.into_iter().map(|(key, value)| (key, value.0)).collect(),
        arguments: check_cmd(place, role, raw.cmd)?,
        pods: check_pods(place, role, &labels)?,
        labels,
    })
}

fn check_cmd(place: &str, role: Role, cmd: Option<String>) -> Checked<Option<Vec<String>>> {
    let place = format!("{place}.cmd");
    match cmd {
        None => Ok(None),
        Some(cmd) if role == Role::Cambric => match split_words(&cmd) {
            Ok(words) => Ok(Some(words)),
            Err(problem) => wrong(place, format!("{problem}: {cmd:?}")),
        },
        Some(cmd) => wrong(place, format!("only an image named cambric takes one here, not {cmd:?}")),
    }
}

fn check_pods(place: &str, role: Role, labels: &BTreeMap<String, String>) -> Checked<u32> {
    let Some(value) = labels.get(PODS_LABEL) else { return Ok(0) };
    let place = format!("{place}.labels[{PODS_LABEL}]");
    match value.parse() {
        Ok(0) => Ok(0),
        Ok(_) if role != Role::Cambric => wrong(place, "pods need a node whose image is named cambric"),
        Ok(count) if count > PODS_MAX => wrong(place, format!("{count} pods: at most {PODS_MAX}")),
        Ok(count) => Ok(count),
        Err(_) => wrong(place, format!("{value:?} is not a number of pods")),
    }
}

fn check_sysctls(place: &str, sysctls: BTreeMap<String, raw::Scalar>) -> Checked<BTreeMap<String, String>> {
    for key in sysctls.keys() {
        // Others belong to the whole machine; Docker refuses most of them as well.
        if !key.starts_with("net.") || key.contains("..") || key.contains('/') {
            return wrong(
                format!("{place}.sysctls"),
                format!("{key:?} does not belong to a network namespace"),
            );
        }
    }
    Ok(sysctls.into_iter().map(|(key, value)| (key, value.0)).collect())
}

/// Binds of all levels; where two have one target, the one nearest to the node holds.
fn check_binds(file: &Path, node: &str, place: &str, binds: &[String]) -> Checked<Vec<Bind>> {
    let mut checked: Vec<Bind> = Vec::new();
    for (index, text) in binds.iter().enumerate() {
        let bind =
            check_bind(file, node, text).map_err(|problem| (format!("{place}.binds[{index}]"), problem))?;
        checked.retain(|other| other.target != bind.target);
        checked.push(bind);
    }
    Ok(checked)
}

fn check_bind(file: &Path, node: &str, text: &str) -> Result<Bind, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err(format!("{text:?} is not source:target or source:target:ro")),
    };
    let mut access = Access::ReadWrite;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => access = Access::ReadOnly,
            "rw" => access = Access::ReadWrite,
            "z" | "Z" => {} // SELinux labels: nothing to label here
            _ => return Err(format!("unknown option {option:?} in {text:?}")),
        }
    }
    if !target.starts_with('/') || target == "/" || target.split('/').any(|part| part == "..") {
        return Err(format!("target {target:?} in {text:?} must be an absolute path below /"));
    }
    let source = source.replace("__clabNodeName__", node);
    let source = match (source.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => file.parent().unwrap_or(Path::new("/")).join(&source),
    };
    let source = source.canonicalize().map_err(|error| format!("{}: {error}", source.display()))?;
    Ok(Bind { source, target: PathBuf::from(target), access })
}

fn check_links(nodes: &BTreeMap<String, NodeSpec>, raw: &[RawLink]) -> Checked<Vec<Link>> {
    let mut links = Vec::new();
    let mut taken: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (index, link) in raw.iter().enumerate() {
        let place = format!("topology.links[{index}]");
        let link = check_link(nodes, &place, link)?;
        for (end, number) in link.ends.iter().zip(0..) {
            match taken.entry((end.node.clone(), end.interface.clone())) {
                Entry::Vacant(free) => {
                    free.insert(index);
                }
                Entry::Occupied(other) => {
                    return wrong(
                        format!("{place}.endpoints[{number}]"),
                        format!(
                            "{}:{} is in topology.links[{}] already",
                            end.node,
                            end.interface,
                            other.get()
                        ),
                    );
                }
            }
        }
        links.push(link);
    }
    Ok(links)
}

fn check_link(nodes: &BTreeMap<String, NodeSpec>, place: &str, raw: &RawLink) -> Checked<Link> {
    if let Some(kind) = raw.kind.as_deref().filter(|kind| *kind != "veth") {
        return wrong(format!("{place}.type"), format!("only veth links are known here, not {kind:?}"));
    }
    let [first, second] = &raw.endpoints[..] else {
        return wrong(
            format!("{place}.endpoints"),
            format!("a link has two ends, this one has {}", raw.endpoints.len()),
        );
    };
    let mut ends = [
        check_endpoint(nodes, &format!("{place}.endpoints[0]"), first)?,
        check_endpoint(nodes, &format!("{place}.endpoints[1]"), second)?,
    ];
    if let Some(mtu) = raw.mtu.filter(|mtu| !MTU_BYTES.contains(mtu)) {
        let (least, most) = MTU_BYTES.into_inner();
        return wrong(format!("{place}.mtu"), format!("{mtu}: a veth takes {least} to {most}"));
    }
    for (key, list) in [("ipv4", &raw.ipv4), ("ipv6", &raw.ipv6)] {
        if list.len() > 2 {
            return wrong(format!("{place}.{key}"), "more addresses than ends");
        }
        for (end, address) in ends.iter_mut().zip(list).filter(|(_, address)| !address.is_empty()) {
            end.addresses.push(address.clone());
        }
    }
    for (number, end) in ends.iter().enumerate() {
        if let Some(bad) = end.addresses.iter().find(|address| !is_prefix(address)) {
            return wrong(
                format!("{place}.endpoints[{number}]"),
                format!("{bad:?} is not an address with prefix length"),
            );
        }
    }
    Ok(Link { ends, mtu_bytes: raw.mtu })
}

fn check_endpoint(nodes: &BTreeMap<String, NodeSpec>, place: &str, raw: &RawEndpoint) -> Checked<Endpoint> {
    let end = match raw {
        RawEndpoint::Brief(text) => match text.split_once(':') {
            Some((node, interface)) if !interface.contains(':') => {
                Endpoint { node: node.to_owned(), interface: interface.to_owned(), ..Endpoint::default() }
            }
            _ => return wrong(place, format!("{text:?} is not node:interface")),
        },
        RawEndpoint::Full(end) => Endpoint {
            node: end.node.clone(),
            interface: end.interface.clone(),
            mac: end.mac.clone(),
            addresses: end.ipv4.iter().chain(&end.ipv6).cloned().collect(),
        },
    };
    if !nodes.contains_key(&end.node) {
        return wrong(place, format!("node {:?} is not in topology.nodes", end.node));
    }
    let name = &end.interface;
    if name.len() > INTERFACE_NAME_MAX {
        return wrong(place, too_long("interface", name));
    }
    let usable = !name.is_empty() && !name.contains(|c: char| c == '/' || c.is_whitespace());
    if !usable || name == "." || name == ".." {
        return wrong(place, format!("{name:?} cannot name an interface"));
    }
    if let Some(mac) = end.mac.as_ref().filter(|mac| !is_unicast_mac(mac)) {
        return wrong(format!("{place}.mac"), format!("{mac:?} is not the MAC address of one interface"));
    }
    if name == "lo" || nodes[&end.node].role == Role::Bridge && *name == end.node {
        return wrong(place, format!("{}:{name} is there already", end.node));
    }
    Ok(end)
}

fn too_long(what: &str, name: &str) -> String {
    format!("{what} name {name:?} has {} characters, Linux takes {INTERFACE_NAME_MAX}", name.len())
}

/// containerlab's own pattern, without its `|`.
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain) && text.len() <= 63
}

/// Six octets as `ip` takes them; not all zero, and no group (IEEE 802: the lowest bit of the first octet).
fn is_unicast_mac(text: &str) -> bool {
    let octet =
        |part: &str| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2 && !part.starts_with('+'));
    let octets: Option<Vec<u8>> = text.split(':').map(octet).collect();
    octets.is_some_and(|octets| {
        octets.len() == 6 && octets[0] & 1 == 0 && octets.iter().any(|octet| *octet != 0)
    })
}

fn is_prefix(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<std::net::IpAddr>() else { return false };
    length.parse::<u8>().is_ok_and(|length| length <= if address.is_ipv4() { 32 } else { 128 })
}

#[cfg(test)]
mod tests;
