//! Attributes as routes share them, with their octets beside them.

use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::OnceLock;

use super::Attributes;
use crate::session::AsWidth;
use crate::wire::attribute;

/// Attributes that do not change any more, and how they stand on the wire once some peer was told them.
///
/// All that an encoding depends on is the width of AS numbers, so peers share the octets. These go with the set, and
/// count for nothing where sets are compared.
#[derive(Debug)]
pub struct AttributeSet {
    attributes: Attributes,
    in_two_octets: OnceLock<Box<[u8]>>,
    in_four_octets: OnceLock<Box<[u8]>>,
}

impl AttributeSet {
    /// All attributes but those that carry prefixes; worked out once for each width.
    pub(crate) fn encoded(&self, width: AsWidth) -> &[u8] {
        let encoding = match width {
            AsWidth::Two => &self.in_two_octets,
            AsWidth::Four => &self.in_four_octets,
        };
        encoding.get_or_init(|| {
            let mut octets = Vec::with_capacity(64);
            attribute::write_all(&mut octets, &self.attributes, width);
            octets.into()
        })
    }
}

impl From<Attributes> for AttributeSet {
    fn from(attributes: Attributes) -> AttributeSet {
        AttributeSet { attributes, in_two_octets: OnceLock::new(), in_four_octets: OnceLock::new() }
    }
}

impl Deref for AttributeSet {
    type Target = Attributes;
    fn deref(&self) -> &Attributes {
        &self.attributes
    }
}

impl PartialEq for AttributeSet {
    fn eq(&self, other: &AttributeSet) -> bool {
        self.attributes == other.attributes
    }
}

impl Eq for AttributeSet {}

impl Hash for AttributeSet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.attributes.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Asn;

    #[test]
    fn octets_are_worked_out_once_for_each_width_and_do_not_count_in_comparisons() {
        let mut attributes = Attributes::originated([192, 0, 2, 1].into());
        attributes.as_path = [Asn::new(4_200_000_000).expect("not 0")].into_iter().collect();
        let (set, untold) = (AttributeSet::from(attributes.clone()), AttributeSet::from(attributes));
        let (four, two) = (set.encoded(AsWidth::Four), set.encoded(AsWidth::Two));
        assert_ne!(four, two);
        assert_eq!(set.encoded(AsWidth::Four).as_ptr(), four.as_ptr());
        assert_eq!(set, untold);
    }
}
