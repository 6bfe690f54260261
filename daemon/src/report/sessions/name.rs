//! Names and labels of BGPSessionStates. Pure, and the same on every machine.

use super::super::write::hash;

/// The longest name of an object.
const MOST_NAME_OCTETS: usize = 253;
/// The longest DNS label (RFC 1123), and value of a label.
const MOST_LABEL_OCTETS: usize = 63;

/// The name of the object: `<node>.<peer>`. The part of the peer has no dot, so that two sessions have no common one; what
/// cannot stand in a name, or is too long, is told apart by a hash.
pub(crate) fn object(node: &str, peer: &str) -> String {
    let peer = match dns_label(peer) {
        label if label == peer => label,
        label => with_hash(&label, peer, MOST_LABEL_OCTETS),
    };
    let most = MOST_NAME_OCTETS - 1 - peer.len();
    let node = if node.len() <= most { node.to_owned() } else { with_hash(node, node, most) };
    format!("{node}.{peer}")
}

/// A text as the value of a label; one that is none is told apart by a hash.
pub(crate) fn label(text: &str) -> String {
    let fits = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
    let is_end = |octet: Option<u8>| octet.is_some_and(|octet| octet.is_ascii_alphanumeric());
    let ends_well = is_end(text.bytes().next()) && is_end(text.bytes().next_back());
    if text.len() <= MOST_LABEL_OCTETS && ends_well && text.bytes().all(fits) {
        return text.to_owned();
    }
    with_hash(&dns_label(text), text, MOST_LABEL_OCTETS)
}

/// Small letters, digits and '-', none of them at an end.
fn dns_label(text: &str) -> String {
    let octet = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_lowercase() || c.is_ascii_digit() => c,
        _ => '-',
    };
    let label: String = text.chars().map(octet).take(MOST_LABEL_OCTETS).collect();
    label.trim_matches('-').to_owned()
}

/// As much of `start` as there is room for, which is ASCII, and a hash of `whole`.
fn with_hash(start: &str, whole: &str, most: usize) -> String {
    let hash = format!("{:08x}", hash([whole]) as u32);
    let start: String = start.chars().take(most - hash.len() - 1).collect();
    let start = start.trim_end_matches(['-', '.']);
    if start.is_empty() { format!("x{hash}") } else { format!("{start}-{hash}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_dns_subdomain(name: &str) -> bool {
        let is_inner = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
        name.len() <= 253
            && name.split('.').all(|label| {
                !label.is_empty()
                    && label.bytes().all(is_inner)
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            })
    }

    #[test]
    fn plain_names_stay_and_others_are_told_apart() {
        assert_eq!(object("n1", "tor1a"), "n1.tor1a");
        assert_eq!(object("n1.example.org", "n2-v6"), "n1.example.org.n2-v6");
        let others =
            ["TOR1A", "tor_1a", "tor:1a", "tor.1a", "fd00::2", "192.0.2.2", "-", "tor1a-", &"x".repeat(70)];
        let names: Vec<String> = others.iter().map(|peer| object("n1", peer)).collect();
        for (at, name) in names.iter().enumerate() {
            assert!(is_dns_subdomain(name), "{name}");
            assert!(!names[..at].contains(name) && name != "n1.tor1a", "{name}");
        }
        assert_ne!(object("a.b", "c"), object("a", "b.c"));
    }

    #[test]
    fn long_names_of_nodes_fit() {
        let node =
            format!("{}.{}", "a".repeat(63), ["b".repeat(60), "c".repeat(60), "d".repeat(60)].join("."));
        let other = format!("{node}e");
        let (one, two) = (object(&node, "tor1a"), object(&other, "tor1a"));
        assert!(is_dns_subdomain(&one) && is_dns_subdomain(&two), "{one} {two}");
        assert_ne!(one, two);
    }

    #[test]
    fn labels_are_valid_and_differ() {
        assert_eq!(label("n1.example.org"), "n1.example.org");
        assert_eq!(label("Tor_1"), "Tor_1");
        let others = ["fd00::2", "tor_", "", &"x".repeat(64), &"x".repeat(65)];
        let labels: Vec<String> = others.iter().map(|text| label(text)).collect();
        for (at, found) in labels.iter().enumerate() {
            assert!(found.len() <= 63 && *found == label(found), "{found}");
            assert!(!labels[..at].contains(found), "{found}");
        }
    }
}
