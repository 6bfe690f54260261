//! What an operator writes in filters.

use cambric_bgp::Asn;
use cambric_bgp::attributes::AsPath;
use cambric_bgp::policy::as_path::AsPathPattern;

use crate::input::Input;

/// A pattern and a path: a pattern that is taken ends, and one without operators says what it stands for.
pub(crate) fn as_path(octets: &[u8]) {
    let mut input = Input::new(octets);
    let numbers = input
        .chunk()
        .chunks_exact(4)
        .filter_map(|number| Asn::new(u32::from_be_bytes(number.try_into().ok()?)));
    let path: AsPath = numbers.collect();
    let text = String::from_utf8_lossy(input.rest());
    let Ok(pattern) = AsPathPattern::new(&text) else { return };
    let fits = pattern.fits(&path);
    if !text.is_empty() && text.bytes().all(|letter| letter.is_ascii_digit()) {
        assert_eq!(fits, path.to_string().contains(&*text));
        let whole = AsPathPattern::new(&format!("_{text}_")).expect("a pattern");
        let numbers: Vec<String> = path.asns().iter().map(ToString::to_string).collect();
        assert_eq!(whole.fits(&path), numbers.contains(&text.into_owned()));
    }
}
