//! Environment and stdin become one typed request, or an error that names everything wrong with them.
//!
//! After this file nobody asks whether a name is valid. The order of checks is the reference library's: command,
//! variables (all missing ones at once), stdin, version, values.

use std::io::Read;
use std::path::PathBuf;

use crate::attachment::{Attachment, Holder, MAX_CONTAINER_ID};
use crate::config::{Network, PodConfig, is_identifier};
use crate::error::{CniError, Code};
use crate::previous::Previous;
use crate::version::CniVersion;

/// Bytes of the longest interface name (the kernel's IFNAMSIZ, less the final zero).
const MAX_IFNAME: usize = 15;
/// Bytes of the longest uid. Those of Kubernetes have 36; static pods may have any.
const MAX_UID: usize = 255;

/// Reads a variable of the environment; empty counts as absent.
pub(crate) type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What the runtime wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Started by a person: no command at all.
    About,
    /// Which versions are spoken.
    Version,
    /// Give a pod an interface.
    Add(Box<Add>),
    /// Take everything of an attachment away.
    Del(Box<Del>),
    /// Say whether an attachment is as ADD left it.
    Check(Box<Check>),
}

/// A valid ADD.
#[derive(Debug, Clone, PartialEq)]
pub struct Add {
    /// Version, name and folders.
    pub network: Network,
    /// What the pod gets.
    pub config: PodConfig,
    /// Whose interface.
    pub attachment: Attachment,
    /// `CNI_NETNS`
    pub netns: PathBuf,
    /// Whether the pod may share the plugin's own namespace.
    pub own_netns: OwnNetns,
}

/// A valid DEL. It needs no namespace: the host end takes the pod end and the routes with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Del {
    /// Version, name and folders.
    pub network: Network,
    /// Whose interface.
    pub attachment: Attachment,
}

/// A valid CHECK: all that ADD was given, and what it answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// As ADD had it.
    pub add: Add,
    /// `prevResult`, the answer of the last plugin of the list.
    pub previous: Previous,
}

/// `CNI_NETNS_OVERRIDE`, an extension of the reference library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnNetns {
    /// The pod's namespace must not be the plugin's.
    Refused,
    /// It may.
    Allowed,
}

/// Reads the request. Only ADD, CHECK and DEL touch stdin.
///
/// # Errors
/// Codes 1, 2 and 4 to 7; see [`Code`].
pub fn read(variable: Variable<'_>, stdin: impl Read) -> Result<Request, CniError> {
    let get = |name: &str| variable(name).filter(|value| !value.is_empty());
    match get("CNI_COMMAND").as_deref() {
        None => Ok(Request::About),
        Some("VERSION") => Ok(Request::Version),
        Some("ADD") => read_add(&get, stdin).map(|add| Request::Add(Box::new(add))),
        Some("DEL") => read_del(&get, stdin).map(|del| Request::Del(Box::new(del))),
        Some("CHECK") => read_check(&get, stdin).map(|check| Request::Check(Box::new(check))),
        Some(command @ ("GC" | "STATUS")) => {
            Err(bad_environment(format!("CNI_COMMAND {command} is not implemented yet")))
        }
        Some(command) => Err(unknown_command(command)),
    }
}

fn read_add(get: Variable<'_>, stdin: impl Read) -> Result<Add, CniError> {
    refuse_missing(get, &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"])?;
    let network = read_network(stdin)?;
    let version = network.version;
    parse_add(get, network).map_err(|error| error.in_version(version))
}

fn parse_add(get: Variable<'_>, network: Network) -> Result<Add, CniError> {
    let attachment = read_attachment(get, &network)?;
    let config = network.pod_config()?;
    let netns = get("CNI_NETNS").unwrap_or_default().into();
    Ok(Add { config, attachment, netns, own_netns: read_own_netns(get), network })
}

fn read_check(get: Variable<'_>, stdin: impl Read) -> Result<Check, CniError> {
    refuse_missing(get, &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"])?;
    let network = read_network(stdin)?;
    let version = network.version;
    let parse = || {
        if version < CniVersion::V0_4_0 {
            let msg = format!("CNI_COMMAND CHECK came with version 0.4.0, the configuration has {version}");
            return Err(CniError::new(Code::IncompatibleVersion, msg));
        }
        let previous = Previous::parse(network.prev_result.as_ref())?;
        Ok(Check { add: parse_add(get, network)?, previous })
    };
    parse().map_err(|error: CniError| error.in_version(version))
}

fn read_del(get: Variable<'_>, stdin: impl Read) -> Result<Del, CniError> {
    refuse_missing(get, &["CNI_CONTAINERID", "CNI_IFNAME"])?;
    let network = read_network(stdin)?;
    match read_attachment(get, &network) {
        Ok(attachment) => Ok(Del { network, attachment }),
        Err(error) => Err(error.in_version(network.version)),
    }
}

pub(crate) fn refuse_missing(get: Variable<'_>, required: &[&str]) -> Result<(), CniError> {
    let missing: Vec<&str> = required.iter().copied().filter(|name| get(name).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(bad_environment(format!("required environment variables missing: {}", missing.join(", "))))
}

pub(crate) fn read_network(mut stdin: impl Read) -> Result<Network, CniError> {
    let mut document = Vec::new();
    stdin.read_to_end(&mut document).map_err(|error| {
        CniError::new(Code::Io, "cannot read the configuration from stdin").with_details(error)
    })?;
    Network::parse(&document)
}

fn read_attachment(get: Variable<'_>, network: &Network) -> Result<Attachment, CniError> {
    let holder = read_holder(get)?;
    let (pod, uid) = read_pod(&get("CNI_ARGS").unwrap_or_default())?;
    Ok(Attachment { holder, network: network.name.clone(), pod, uid })
}

pub(crate) fn read_holder(get: Variable<'_>) -> Result<Holder, CniError> {
    let container_id = get("CNI_CONTAINERID").unwrap_or_default();
    if container_id.len() > MAX_CONTAINER_ID || !is_identifier(&container_id) {
        let why = "must be 1 to 128 of A-Z a-z 0-9 _ . - and start with a letter or digit";
        return Err(bad_environment(format!("invalid CNI_CONTAINERID {container_id:?}")).with_details(why));
    }
    let ifname = get("CNI_IFNAME").unwrap_or_default();
    if !is_ifname(&ifname) {
        let why = "must be 1 to 15 printable ASCII bytes without / : %, and neither . nor ..";
        return Err(bad_environment(format!("invalid CNI_IFNAME {ifname:?}")).with_details(why));
    }
    Ok(Holder { container_id, ifname })
}

/// Takes the pod's name and uid out of `K=V;K=V`; refuses wishes that would be passed over in silence.
///
/// Half a name is kept as such, since DEL needs none: the gate refuses it where it matters.
fn read_pod(args: &str) -> Result<(Option<String>, Option<String>), CniError> {
    let (mut namespace, mut name, mut uid) = ("", "", "");
    for pair in args.split(';').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            None => return Err(bad_environment(format!("invalid CNI_ARGS: {pair:?} is not KEY=VALUE"))),
            Some(("K8S_POD_NAMESPACE", value)) => namespace = value,
            Some(("K8S_POD_NAME", value)) => name = value,
            Some(("K8S_POD_UID", value)) => uid = value,
            Some((key @ ("IP" | "MAC"), value)) => {
                return Err(bad_environment(format!(
                    "CNI_ARGS {key}={value}: fixed addresses are not implemented yet"
                )));
            }
            Some(_) => {}
        }
    }
    let is_told = !namespace.is_empty() || !name.is_empty();
    // A uid that nobody can write down counts as not told: then the name alone tells whose link it is.
    let is_uid = !uid.is_empty() && uid.len() <= MAX_UID;
    Ok((is_told.then(|| format!("{namespace}/{name}")), is_uid.then(|| uid.to_owned())))
}

pub(crate) fn read_own_netns(get: Variable<'_>) -> OwnNetns {
    match get("CNI_NETNS_OVERRIDE").as_deref() {
        Some("1" | "true") => OwnNetns::Allowed,
        _ => OwnNetns::Refused,
    }
}

/// What the kernel takes as a name (`dev_valid_name`), without `%`, which it would take as a pattern.
fn is_ifname(name: &str) -> bool {
    (1..=MAX_IFNAME).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%'))
}

pub(crate) fn unknown_command(command: &str) -> CniError {
    bad_environment(format!("unknown CNI_COMMAND {command:?}"))
}

fn bad_environment(msg: String) -> CniError {
    CniError::new(Code::BadEnvironment, msg)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const CONFIG: &str = r#"{"cniVersion":"0.4.0","name":"cambric","ranges":[{"ipv4":"10.244.1.0/24"}]}"#;
    const GOOD: [(&str, &str); 4] = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "a1"),
        ("CNI_NETNS", "/run/netns/a"),
        ("CNI_IFNAME", "eth0"),
    ];

    /// stdin that must not be read.
    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }

    /// The good request with some variables set otherwise.
    fn read_with(changes: &[(&str, &str)]) -> Result<Request, CniError> {
        let variable = |name: &str| {
            let all = changes.iter().chain(&GOOD);
            all.clone().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        read(&variable, CONFIG.as_bytes())
    }

    #[test]
    fn add_carries_everything() {
        let Ok(Request::Add(add)) =
            read_with(&[("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=prod;K8S_POD_NAME=web-0")])
        else {
            panic!("not an ADD");
        };
        assert_eq!(add.attachment.alias(), "prod/web-0 eth0 a1 cambric");
        assert_eq!((add.netns, add.own_netns), ("/run/netns/a".into(), OwnNetns::Refused));
    }

    #[test]
    fn half_a_name_is_not_taken_for_none() {
        for (args, pod) in [
            ("", None),
            ("IgnoreUnknown=1", None),
            ("K8S_POD_NAMESPACE=;K8S_POD_NAME=", None),
            ("K8S_POD_NAME=web-0", Some("/web-0")),
            ("K8S_POD_NAMESPACE=;K8S_POD_NAME=web-0", Some("/web-0")),
            ("K8S_POD_NAMESPACE=prod", Some("prod/")),
        ] {
            for command in ["ADD", "DEL"] {
                let attachment = match read_with(&[("CNI_COMMAND", command), ("CNI_ARGS", args)]) {
                    Ok(Request::Add(add)) => add.attachment,
                    Ok(Request::Del(del)) => del.attachment,
                    other => panic!("{other:?}"),
                };
                assert_eq!((attachment.pod.as_deref(), attachment.pod_name()), (pod, None), "{args}");
            }
        }
    }

    #[test]
    fn the_uid_is_carried_if_one_is_told() {
        let long = "x".repeat(MAX_UID + 1);
        for (uid, wanted) in [("", None), ("0fe1-2", Some("0fe1-2")), ("a/b", Some("a/b")), (&long, None)] {
            let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=prod;K8S_POD_UID={uid};K8S_POD_NAME=web-0");
            let Ok(Request::Add(add)) = read_with(&[("CNI_ARGS", &args)]) else { panic!("not an ADD") };
            assert_eq!(add.attachment.uid.as_deref(), wanted);
            assert_eq!(add.attachment.alias(), "prod/web-0 eth0 a1 cambric", "earlier versions read it");
        }
    }

    #[test]
    fn del_needs_no_namespace() {
        assert!(matches!(read_with(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")]), Ok(Request::Del(_))));
    }

    #[test]
    fn version_and_no_command_do_not_touch_stdin() {
        let version = |name: &str| (name == "CNI_COMMAND").then(|| "VERSION".to_owned());
        assert_eq!(read(&version, Broken), Ok(Request::Version));
        assert_eq!(read(&|_| None, Broken), Ok(Request::About));
    }

    #[test]
    fn unreadable_stdin_is_code_5() {
        let variable =
            |name: &str| GOOD.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        assert_eq!(read(&variable, Broken).expect_err("refused").code, Code::Io);
    }

    #[test]
    fn all_missing_variables_are_named_at_once() {
        let missing = [("CNI_CONTAINERID", ""), ("CNI_NETNS", ""), ("CNI_IFNAME", "")];
        let error = read_with(&missing).expect_err("refused");
        assert_eq!(error.code, Code::BadEnvironment);
        assert_eq!(
            error.msg,
            "required environment variables missing: CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME"
        );
    }

    #[test]
    fn bad_values_are_code_4_in_the_runtimes_version() {
        for (name, value) in [
            ("CNI_CONTAINERID", "-a"),
            ("CNI_CONTAINERID", "a/b"),
            ("CNI_IFNAME", "."),
            ("CNI_IFNAME", ".."),
            ("CNI_IFNAME", "eth/0"),
            ("CNI_IFNAME", "eth:0"),
            ("CNI_IFNAME", "eth 0"),
            ("CNI_IFNAME", "eth%d"),
            ("CNI_IFNAME", "sixteen-letters!"),
            ("CNI_ARGS", "K8S_POD_NAME"),
            ("CNI_ARGS", "IP=10.244.1.9"),
        ] {
            let error = read_with(&[(name, value)]).expect_err("refused");
            assert_eq!(error.code, Code::BadEnvironment, "{name}={value}");
            assert_eq!(error.to_json()["cniVersion"], "0.4.0");
        }
    }

    #[test]
    fn check_needs_all_that_add_needs_and_its_answer() {
        let check = [("CNI_COMMAND", "CHECK")];
        assert_eq!(read_with(&check).expect_err("refused").code, Code::InvalidConfig);
        let missing = read_with(&[("CNI_COMMAND", "CHECK"), ("CNI_NETNS", "")]).expect_err("refused");
        assert_eq!(missing.msg, "required environment variables missing: CNI_NETNS");

        let variable = |name: &str| {
            let all = check.iter().chain(&GOOD);
            all.clone().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let with_result = CONFIG.replace("\"name\"", "\"prevResult\":{},\"name\"");
        assert!(matches!(read(&variable, with_result.as_bytes()), Ok(Request::Check(_))));
        let error = read(&variable, with_result.replace("0.4.0", "0.3.1").as_bytes()).expect_err("refused");
        assert_eq!(
            (error.code, &error.to_json()["cniVersion"]),
            (Code::IncompatibleVersion, &"0.3.1".into())
        );
    }

    #[test]
    fn commands_not_served_say_so() {
        for command in ["GC", "STATUS", "add"] {
            assert_eq!(
                read_with(&[("CNI_COMMAND", command)]).expect_err("refused").code,
                Code::BadEnvironment
            );
        }
    }
}
