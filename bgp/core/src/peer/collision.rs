//! Two connections to one peer: which one stays (RFC 4271 section 6.8, RFC 6286 section 2.3).

use crate::types::{Asn, RouterId};

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opener {
    /// We did.
    Us,
    /// The peer did.
    Peer,
}

/// The connection that the speaker with the higher identifier opened stays; both sides come to the same
/// answer without another word. Equal identifiers occur between ASes: then the AS number decides.
pub(crate) fn survivor(ours: (RouterId, Asn), theirs: (RouterId, Asn)) -> Opener {
    if ours > theirs { Opener::Us } else { Opener::Peer }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_keep_the_same_connection() {
        let speaker = |id, asn| (RouterId::new(id).expect("not 0"), Asn::new(asn).expect("not 0"));
        for (one, two) in [(speaker(1, 65001), speaker(2, 65001)), (speaker(7, 65001), speaker(7, 65002))] {
            assert_eq!(survivor(one, two), Opener::Peer);
            assert_eq!(survivor(two, one), Opener::Us);
        }
    }
}
