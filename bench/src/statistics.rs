//! What many measurements of one thing say.

use std::fmt;
use std::time::Duration;

/// Measurements of one thing, all in one unit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn append(&mut self, others: &Samples) {
        self.0.extend_from_slice(&others.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest measurement that at least the share `part` (0 to 1) of all do not exceed: the nearest rank. NaN of none.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (part * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The differences of measurements that were taken side by side: what disturbs both of a pair leaves it alone.
    pub(crate) fn minus(&self, other: &Samples) -> Samples {
        Samples(self.0.iter().zip(&other.0).map(|(one, other)| one - other).collect())
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}

/// A time in the unit that reads best.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Micros(pub(crate) f64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            us if us.is_nan() => "-".into(),
            us if us < 100.0 => format!("{us:.1} µs"),
            us if us < 1_000.0 => format!("{us:.0} µs"),
            us if us < 100_000.0 => format!("{:.1} ms", us / 1e3),
            us if us < 1_000_000.0 => format!("{:.0} ms", us / 1e3),
            us => format!("{:.2} s", us / 1e6),
        };
        f.pad(&text)
    }
}

/// A duration in microseconds.
pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measurements_of_the_nearest_rank() {
        let hundred: Samples = (1..=100).rev().map(f64::from).collect();
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|part| hundred.quantile(part)), [1.0, 50.0, 99.0, 100.0]);
        let three: Samples = [3.0, 1.0, 2.0].into_iter().collect();
        assert_eq!((three.median(), three.quantile(0.99)), (2.0, 3.0));
    }

    #[test]
    fn one_measurement_is_every_quantile_and_none_has_no_quantile() {
        let mut samples = Samples::default();
        assert!(samples.median().is_nan());
        samples.push(7.0);
        assert_eq!((samples.quantile(0.01), samples.quantile(0.99)), (7.0, 7.0));
    }

    #[test]
    fn a_disturbance_of_both_is_not_in_the_difference() {
        let ours: Samples = [11.0, 51.0, 12.0].into_iter().collect();
        let other: Samples = [10.0, 50.0, 11.0].into_iter().collect();
        assert_eq!(ours.minus(&other).quantile(1.0), 1.0);
    }

    #[test]
    fn times_are_shown_in_the_unit_that_reads_best() {
        let shown = [0.04, 7.25, 250.0, 1_500.0, 250_000.0, 1_500_000.0].map(|us| Micros(us).to_string());
        assert_eq!(shown, ["0.0 µs", "7.2 µs", "250 µs", "1.5 ms", "250 ms", "1.50 s"]);
    }
}
