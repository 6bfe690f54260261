//! One attachment: a container's interface in our network, and every name derived from it.
//!
//! All names depend on the container, not on the pod, so that a late DEL of an old sandbox cannot touch the new
//! sandbox of the same pod.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Bytes of the longest container ID accepted: ID, interface and network name must fit into a link alias.
pub const MAX_CONTAINER_ID: usize = 128;
/// Bytes of the longest network name accepted.
pub const MAX_NETWORK_NAME: usize = 64;
/// Bytes of the longest link alias (the kernel's IFALIASZ, less the final zero).
const MAX_ALIAS: usize = 255;
/// How the names of all host ends start.
const HOST_PREFIX: &str = "cam";
/// Instead of what an alias should not have.
const UNPRINTABLE: char = '?';

/// Who holds a lease: the key of everything the plugin keeps.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Holder {
    /// `CNI_CONTAINERID`
    pub container_id: String,
    /// `CNI_IFNAME`, the interface's name in the pod.
    pub ifname: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of container {}", self.ifname, self.container_id)
    }
}

/// A holder in its network, with the pod's name for people who read `ip link`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Container and interface.
    pub holder: Holder,
    /// `name` of the network configuration.
    pub network: String,
    /// `namespace/name` if the runtime told it; one of them is empty if it told only the other.
    pub pod: Option<String>,
    /// The pod's uid if the runtime told it; no alias has it.
    pub uid: Option<String>,
}

impl Attachment {
    /// The host end's name: `cam` and 12 hex digits, 15 bytes in all.
    pub fn host_ifname(&self) -> String {
        format!("{HOST_PREFIX}{:012x}", self.hash() >> 16)
    }

    /// Whether [`Attachment::host_ifname`] may have made it.
    pub fn is_host_ifname(name: &str) -> bool {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        name.strip_prefix(HOST_PREFIX).is_some_and(|hash| hash.len() == 12 && hash.bytes().all(is_hex))
    }

    /// Namespace and name of the pod, if both are known.
    pub fn pod_name(&self) -> Option<(String, String)> {
        let (namespace, name) = self.pod.as_deref()?.split_once('/')?;
        let is_word = |word: &str| !word.is_empty() && !word.contains('/');
        (is_word(namespace) && is_word(name)).then(|| (namespace.to_owned(), name.to_owned()))
    }

    /// The pod end's MAC: locally administered, and never the host end's, which starts with 02.
    pub fn pod_mac(&self) -> Mac {
        let [_, _, _, a, b, c, d, e] = self.hash().to_be_bytes();
        Mac([0x0a, a, b, c, d, e])
    }

    /// The host end's alias: `pod ifname container network`, from which a lost lease table is rebuilt.
    ///
    /// The pod's name is cut when the whole would be too long for the kernel; the other words never are. What is not
    /// printable in it is a `?`.
    pub fn alias(&self) -> String {
        let Holder { container_id, ifname } = &self.holder;
        let rest = format!(" {ifname} {container_id} {}", self.network);
        let mut pod: String = self.pod.as_deref().unwrap_or("-").chars().map(printable).collect();
        pod.truncate(MAX_ALIAS.saturating_sub(rest.len()));
        pod + &rest
    }

    /// Whether the pod's name may be another one than the alias has. The same for what is read from the alias.
    pub(crate) fn outdoes_its_alias(&self) -> bool {
        let is_bent = |pod: &str| pod.chars().any(|c| printable(c) == UNPRINTABLE);
        self.alias().len() >= MAX_ALIAS || self.pod.as_deref().is_some_and(is_bent)
    }

    /// Reads what [`Attachment::alias`] wrote; `None` if somebody else wrote it.
    pub fn from_alias(alias: &str) -> Option<Attachment> {
        let words: Vec<&str> = alias.split(' ').collect();
        let [pod, ifname, container_id, network] = words[..] else { return None };
        Some(Attachment {
            holder: Holder { container_id: container_id.into(), ifname: ifname.into() },
            network: network.into(),
            pod: (pod != "-").then(|| pod.into()),
            uid: None,
        })
    }

    /// Whether both are of one holder in one network; the pod's name is for people.
    pub fn is_same(&self, other: &Attachment) -> bool {
        (&self.holder, &self.network) == (&other.holder, &other.network)
    }

    /// FNV-1a with a final mix: stable over releases, since DEL must find what another release's ADD made.
    fn hash(&self) -> u64 {
        let Holder { container_id, ifname } = &self.holder;
        let text = [self.network.as_str(), ifname, container_id].join("\0");
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd)
    }
}

/// Aliases are split at spaces and shown on terminals.
fn printable(c: char) -> char {
    if c.is_ascii_graphic() { c } else { UNPRINTABLE }
}

/// A MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The link-local address that an interface makes of it (RFC 4291 appendix A, "modified EUI-64").
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 0b10, b, c, 0xff, 0xfe, d, e, f])
    }
}

/// Whether an address counts on its link alone (RFC 4291 section 2.5.6), as that which follows from a MAC does.
pub fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(container_id: &str, ifname: &str, pod: Option<&str>) -> Attachment {
        Attachment {
            holder: Holder { container_id: container_id.into(), ifname: ifname.into() },
            network: "cambric".into(),
            pod: pod.map(Into::into),
            uid: None,
        }
    }

    #[test]
    fn names_are_stable_and_distinct() {
        let first = attachment("a1b2", "eth0", None);
        assert_eq!(first.host_ifname().len(), 15);
        assert_eq!(first.host_ifname(), "camce119f8daff5", "DEL of a newer release must find it");
        assert_ne!(first.host_ifname(), attachment("a1b2", "eth1", None).host_ifname());
        assert_ne!(first.host_ifname(), attachment("a1b3", "eth0", None).host_ifname());
        assert_eq!(first.host_ifname(), attachment("a1b2", "eth0", Some("default/web")).host_ifname());
    }

    #[test]
    fn pod_mac_is_a_locally_administered_unicast_address() {
        let Mac([first, ..]) = attachment("a1b2", "eth0", None).pod_mac();
        assert_eq!(first & 0b11, 0b10);
    }

    #[test]
    fn link_local_address_has_the_mac_with_its_second_bit_turned() {
        let mac = Mac([0x0a, 0x01, 0x02, 0x03, 0x04, 0x05]);
        assert_eq!(mac.link_local().to_string(), "fe80::801:2ff:fe03:405");
    }

    #[test]
    fn alias_tells_the_attachment_again() {
        for pod in [None, Some("default/web-0")] {
            let given = attachment("a1b2", "eth0", pod);
            assert_eq!(Attachment::from_alias(&given.alias()), Some(given));
        }
        assert_eq!(Attachment::from_alias("uplink to rack 4 port 12"), None);
    }

    #[test]
    fn names_of_host_ends_are_known_by_their_form() {
        assert!(Attachment::is_host_ifname(&attachment("a1b2", "eth0", None).host_ifname()));
        let others = ["cam0", "camce119f8daff", "camce119f8daff55", "camCE119F8DAFF5", "camera-uplink-1"];
        assert!(others.into_iter().all(|name| !Attachment::is_host_ifname(name)));
    }

    #[test]
    fn a_name_has_two_words_or_is_none() {
        let name = |pod| attachment("a1b2", "eth0", pod).pod_name();
        assert_eq!(name(Some("default/web-0")), Some(("default".to_owned(), "web-0".to_owned())));
        for none in [None, Some("default"), Some("/web-0"), Some("default/"), Some("a/b/c")] {
            assert_eq!(name(none), None, "{none:?}");
        }
    }

    #[test]
    fn an_alias_that_bends_the_name_is_known_from_both_ends() {
        for (pod, bends) in [("default/web-0", false), ("default/wéb", true), ("a b/c", true)] {
            let given = attachment("a1b2", "eth0", Some(pod));
            let read = Attachment::from_alias(&given.alias()).expect("ours");
            assert_eq!((given.outdoes_its_alias(), read.outdoes_its_alias()), (bends, bends), "{pod}");
        }
    }

    #[test]
    fn link_local_addresses_are_those_of_one_link() {
        for (text, wanted) in [
            ("fe80::1", true),
            ("febf::1", true),
            ("fec0::1", false),
            ("fd00::1", false),
            ("169.254.1.1", false),
        ] {
            assert_eq!(is_link_local(text.parse().expect("address")), wanted, "{text}");
        }
    }

    #[test]
    fn longest_alias_fits_and_keeps_the_holder() {
        let mut given = attachment(&"c".repeat(MAX_CONTAINER_ID), "fifteen-letters", None);
        given.network = "n".repeat(MAX_NETWORK_NAME);
        given.pod = Some(format!("{} {}", "x".repeat(63), "ü".repeat(253)));
        assert_eq!((given.alias().len(), given.outdoes_its_alias()), (MAX_ALIAS, true));
        let read = Attachment::from_alias(&given.alias()).expect("ours");
        assert_eq!((read.holder, read.network), (given.holder, given.network));
    }
}
