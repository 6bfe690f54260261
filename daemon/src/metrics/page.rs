//! Families of samples, as the library writes them.

use std::fmt::{self, Write};

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelValue, LabelEncoder, LabelValueEncoder, MetricEncoder,
    NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// A label of a sample.
#[derive(Debug, Clone)]
pub(super) struct Label(&'static str, String);

pub(super) fn label(name: &'static str, value: impl fmt::Display) -> Label {
    Label(name, value.to_string())
}

/// A sample without labels.
pub(super) fn none<T>(value: T) -> (Vec<Label>, T) {
    (Vec::new(), value)
}

impl EncodeLabel for Label {
    fn encode(&self, mut encoder: LabelEncoder<'_>) -> fmt::Result {
        let mut name = encoder.encode_label_key()?;
        name.write_str(self.0)?;
        let mut value = name.encode_label_value()?;
        Escaped(&self.1).encode(&mut value)?;
        value.finish()
    }
}

/// The library writes label values as they are, and names of peers come from outside.
struct Escaped<'a>(&'a str);

impl EncodeLabelValue for Escaped<'_> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => encoder.write_str("\\\\")?,
                '"' => encoder.write_str("\\\"")?,
                '\n' => encoder.write_str("\\n")?,
                other => encoder.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// How long things took: the upper bound in seconds and how many took no longer, but longer than the bound before. The
/// last bound is [`f64::MAX`], for which `+Inf` is written.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    pub(super) buckets: Vec<(f64, u64)>,
    pub(super) sum_s: f64,
}

/// Where samples go. A family without samples is still described.
pub(super) struct Page<'a>(DescriptorEncoder<'a>);

impl<'a> Page<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Page<'a> {
        Page(encoder)
    }

    pub(super) fn info(&mut self, name: &str, help: &str, labels: &[Label]) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(&labels)
    }

    pub(super) fn gauge<T: Into<f64>>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<Label>, T)>,
    ) -> fmt::Result {
        self.gauge_in(None, name, help, samples)
    }

    /// The unit is the end of the name.
    pub(super) fn gauge_in<T: Into<f64>>(
        &mut self,
        unit: Option<Unit>,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<Label>, T)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in samples {
            let value: f64 = value.into();
            with(&mut family, &labels, |sample| sample.encode_gauge(&value))?;
        }
        Ok(())
    }

    /// `_total` is put behind the name.
    pub(super) fn counter(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<Label>, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            with(&mut family, &labels, |sample| sample.encode_counter::<NoLabelSet, u64, f64>(&value, None))?;
        }
        Ok(())
    }

    /// `_seconds_total` is put behind the name.
    pub(super) fn seconds_counter(&mut self, name: &str, help: &str, value_s: f64) -> fmt::Result {
        let unit = Unit::Seconds;
        let mut family = self.0.encode_descriptor(name, help, Some(&unit), MetricType::Counter)?;
        family.encode_counter::<NoLabelSet, f64, f64>(&value_s, None)
    }

    /// `_seconds` is put behind the name.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<Label>, Histogram)>,
    ) -> fmt::Result {
        let unit = Unit::Seconds;
        let mut family = self.0.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
        for (labels, Histogram { buckets, sum_s }) in samples {
            let count = buckets.iter().map(|(_, count)| count).sum();
            with(&mut family, &labels, |sample| {
                sample.encode_histogram::<NoLabelSet>(sum_s, count, &buckets, None)
            })?;
        }
        Ok(())
    }
}

/// Without labels there are no braces.
fn with(
    family: &mut MetricEncoder<'_>,
    labels: &[Label],
    write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    if labels.is_empty() { write(family) } else { write(&mut family.encode_family(&labels)?) }
}
