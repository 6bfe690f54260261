//! The API server, and how it stands with each kind of objects.

use std::fmt;
use std::time::SystemTime;

use cambric_kube::{Health, KindHealth};
use prometheus_client::registry::Unit;

use super::count;
use super::page::{Page, label, none};
use crate::control::cluster::word;

pub(super) fn write(health: &Health, page: &mut Page<'_>) -> fmt::Result {
    let help = "Whether the API server answers";
    page.gauge(
        "cambric_source_up",
        help,
        [none(u8::from(health.server.is_some() && health.trouble.is_none()))],
    )?;
    let kinds = || health.kinds.iter();
    let objects = kinds().map(|(kind, known)| (vec![label("kind", kind)], count(known.objects)));
    page.gauge("cambric_source_objects", "Objects that are known", objects)?;
    let help =
        "1 for the state of the kind: watching, unknown, from-snapshot, away, refused, older, not-installed";
    let state = |(kind, known): (&String, &KindHealth)| {
        (vec![label("kind", kind), label("state", word(&known.state))], 1_u8)
    };
    page.gauge("cambric_source_state", help, kinds().map(state))?;
    let now = SystemTime::now();
    let since = |(kind, known): (&String, &KindHealth)| {
        let age_s = now.duration_since(known.since).unwrap_or_default().as_secs_f64();
        (vec![label("kind", kind)], age_s)
    };
    let help = "Time that the kind is in its state";
    page.gauge_in(Some(Unit::Seconds), "cambric_source_state_age", help, kinds().map(since))?;
    let help = "Objects that cannot be read and count as before";
    let unreadable = kinds().map(|(kind, known)| (vec![label("kind", kind)], count(known.unreadable.len())));
    page.gauge("cambric_source_unreadable", help, unreadable)?;
    let help = "What is wrong with the snapshot on the disk";
    page.gauge("cambric_source_snapshot_problems", help, [none(count(health.journal.len()))])
}
