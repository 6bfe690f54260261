//! Every attribute set once.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::{AttributeSet, Attributes};
use crate::interner::Interner;
use crate::session::Form;

/// The attribute sets that are in use: found by the octets in which they came, else by what they say.
///
/// Most of what a peer tells has attributes that it told before: then they are not read again. What is remembered of
/// octets is bounded by [`ByOctets`], whatever peers send. A set whose last route is gone goes at the next sweep: until then
/// as many of those are kept as there are in use, or about a thousand, and one takes up to 64 KB.
#[derive(Debug, Default)]
pub struct AttributeTable {
    sets: Interner<AttributeSet>,
    by_octets: ByOctets,
}

impl AttributeTable {
    /// The shared copy of `attributes`.
    pub(crate) fn intern(&mut self, attributes: Attributes) -> Arc<AttributeSet> {
        self.sets.intern(attributes.into())
    }

    /// What `told` was read as before.
    pub(crate) fn recall(&self, told: &Told<'_>) -> Option<Arc<AttributeSet>> {
        self.by_octets.get(told)
    }

    /// `told` is read as `set` from now on. Only for what has no flaw: those are to be told of each time.
    pub(crate) fn remember(&mut self, told: &Told<'_>, set: &Arc<AttributeSet>) {
        self.by_octets.insert(told, set);
    }

    /// The shared copy of what was just read.
    pub(crate) fn share(&mut self, set: Arc<AttributeSet>) -> Arc<AttributeSet> {
        self.sets.share(set)
    }
}

/// All that decides what the attributes of an UPDATE say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told<'a> {
    pub(crate) form: Form,
    /// Of MP_REACH_NLRI, where that stands in front of `list`.
    pub(crate) next_hop: Option<(IpAddr, Option<Ipv6Addr>)>,
    /// The attributes as they came; none of them carries prefixes.
    pub(crate) list: &'a [u8],
}

impl Told<'_> {
    /// Where it is kept. Two that fall together take each other's place, which costs a reading and nothing else: so
    /// it needs no secret, and a peer that seeks such pairs finds nothing to gain.
    fn slot(&self) -> usize {
        const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
        let mix = |hash: u64, word: u64| (hash.rotate_left(29) ^ word).wrapping_mul(FACTOR);
        let (words, rest) = self.list.as_chunks::<8>();
        let mut hash = words.iter().fold(FACTOR, |hash, word| mix(hash, u64::from_le_bytes(*word)));
        let last = rest.iter().fold(rest.len() as u64, |word, octet| word << 8 | u64::from(*octet));
        hash = mix(hash, last ^ u64::from(self.form.peer_asn.value()));
        if let Some((IpAddr::V6(next_hop), _)) = self.next_hop {
            hash = mix(hash, next_hop.to_bits() as u64);
        }
        (hash >> 40) as usize % ByOctets::SLOTS
    }
}

/// A place for each of some hundred lists, the latest that fell there.
#[derive(Debug, Default)]
struct ByOctets {
    /// [`ByOctets::SLOTS`] of them, or none before the first is remembered.
    slots: Vec<Option<Known>>,
}

#[derive(Debug)]
struct Known {
    form: Form,
    next_hop: Option<(IpAddr, Option<Ipv6Addr>)>,
    list: Box<[u8]>,
    set: Arc<AttributeSet>,
}

impl ByOctets {
    const SLOTS: usize = 1024;
    /// Longer lists are read each time: with these the whole takes some hundred kilobytes, at most 1.5 MB.
    const MOST_OCTETS: usize = 512;

    fn get(&self, told: &Told<'_>) -> Option<Arc<AttributeSet>> {
        let Known { form, next_hop, list, set } = self.slots.get(told.slot())?.as_ref()?;
        let known = Told { form: *form, next_hop: *next_hop, list };
        (known == *told).then(|| Arc::clone(set))
    }

    fn insert(&mut self, told: &Told<'_>, set: &Arc<AttributeSet>) {
        if told.list.len() > Self::MOST_OCTETS {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(Self::SLOTS, || None);
        }
        let Told { form, next_hop, list } = *told;
        self.slots[told.slot()] = Some(Known { form, next_hop, list: list.into(), set: Arc::clone(set) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{AsWidth, LeftmostAs};
    use crate::types::{Asn, Med, PeerKind};

    fn form(peer_asn: u32) -> Form {
        let peer_asn = Asn::new(peer_asn).expect("not 0");
        Form { kind: PeerKind::External, peer_asn, as_width: AsWidth::Four, leftmost_as: LeftmostAs::Peers }
    }

    fn set(med: u32) -> Arc<AttributeSet> {
        let mut attributes = Attributes::originated([192, 0, 2, 1].into());
        attributes.med = Some(Med(med));
        Arc::new(attributes.into())
    }

    #[test]
    fn what_was_told_in_another_form_or_with_another_next_hop_is_not_recalled() {
        let mut table = AttributeTable::default();
        let told = Told { form: form(65001), next_hop: None, list: &[1; 37] };
        table.remember(&told, &set(1));
        assert_eq!(table.recall(&told), Some(set(1)));
        let next_hop = Some((IpAddr::from([0; 16]), None));
        let others = [
            Told { form: form(65002), ..told },
            Told { form: Form { kind: PeerKind::Internal, ..told.form }, ..told },
            Told { form: Form { as_width: AsWidth::Two, ..told.form }, ..told },
            Told { next_hop, ..told },
            Told { list: &[1; 38], ..told },
        ];
        for other in others {
            assert_eq!(table.recall(&other), None, "{other:?}");
        }
    }

    #[test]
    fn octets_of_a_peer_that_tells_ever_new_ones_do_not_add_up() {
        let mut table = AttributeTable::default();
        for number in 0_u32..20_000 {
            let shared = table.share(set(number));
            let told = Told { form: form(65001), next_hop: None, list: &number.to_be_bytes() };
            table.remember(&told, &shared);
        }
        let kept = table.by_octets.slots.iter().flatten().count();
        assert!(kept <= ByOctets::SLOTS && kept > ByOctets::SLOTS / 2, "{kept}");
        assert!(table.sets.len() <= 4 * ByOctets::SLOTS, "{}", table.sets.len());
        let long = [0; ByOctets::MOST_OCTETS + 1];
        let told = Told { form: form(65001), next_hop: None, list: &long };
        table.remember(&told, &set(1));
        assert_eq!(table.recall(&told), None);
    }

    #[test]
    fn equal_sets_are_one_object_however_they_came() {
        let mut table = AttributeTable::default();
        let one = table.share(set(1));
        assert!(Arc::ptr_eq(&one, &table.share(set(1))));
        assert!(Arc::ptr_eq(&one, &table.intern(Attributes::clone(&one))));
    }
}
