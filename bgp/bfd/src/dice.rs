//! The dice that spread packets and choose discriminators.

use std::time::Duration;

use crate::packet::Discriminator;

/// A small generator (SplitMix64) with an injected seed, so that a run can be repeated. A discriminator is no secret: what
/// keeps strangers out is the TTL (RFC 5881 section 5).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The time until the next packet: a quarter shorter at most, and where one lost packet is too much a tenth at least,
    /// for it must not come after the time is up (RFC 5880 section 6.8.7).
    pub(crate) fn jittered(&mut self, interval: Duration, multiplier: u8) -> Duration {
        let most = if multiplier == 1 { 0.90 } else { 1.0 };
        let unit = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        interval.mul_f64(0.75 + (most - 0.75) * unit)
    }

    /// One that may be taken already.
    pub(crate) fn discriminator(&mut self) -> Discriminator {
        loop {
            if let Some(found) = Discriminator::new((self.next() >> 32) as u32) {
                return found;
            }
        }
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_up_to_a_quarter_early_and_with_multiplier_1_never_late() {
        let mut dice = Dice::new(1);
        for (multiplier, most) in [(3, 1.0), (1, 0.9)] {
            let shares = (0..10_000).map(|_| dice.jittered(Duration::from_secs(1), multiplier).as_secs_f64());
            let shares: Vec<f64> = shares.collect();
            let (least, largest) =
                shares.iter().fold((2.0_f64, 0.0_f64), |(low, high), one| (low.min(*one), high.max(*one)));
            assert!((0.75..0.76).contains(&least), "{least}");
            assert!((most - 0.01..=most).contains(&largest), "{largest} of {most}");
        }
    }
}
