//! `drain` and `undrain`.

use std::time::Instant;

use cambric_api::{Drainable, Draining, Reply};
use cambric_bgp::config::Drain;

use super::client::Operator;
use crate::drain::{By, Drained, Part};
use crate::state::Shared;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Drain,
    Undrain,
}

pub(super) fn set(shared: &Shared, what: Drainable, way: Way, operator: &Operator) -> Reply {
    let meant: &[Part] = match what {
        Drainable::All => &Part::ALL,
        Drainable::Services => &[Part::Services],
        Drainable::Pods => &[Part::Pods],
    };
    let parts = |own: &[Part]| {
        let is_wanted = |part: &Part| match way {
            Way::Drain => meant.contains(part) || own.contains(part),
            Way::Undrain => !meant.contains(part) && own.contains(part),
        };
        Part::ALL.into_iter().filter(is_wanted).collect()
    };
    tracing::info!(what = ?what, way = ?way, operator = %operator, "an operator drains the node, or no longer");
    if let Err(error) = shared.drains.change(By::Operator, Instant::now(), parts) {
        let why =
            format!("nothing was done, for it could not be written down in the run-time folder: {error}");
        return Reply::failed(why);
    }
    let now = shared.drains.now();
    let is_labels = meant.iter().any(|part| now.contains_key(&(*part, By::Label)));
    let note = (way == Way::Undrain && is_labels)
        .then(|| format!("the label {} of the Node drains it, too", crate::drain::LABEL));
    let draining = shown(&now, Instant::now());
    let reply = match way {
        Way::Drain => Reply::drained(draining),
        Way::Undrain => Reply::undrained(draining),
    };
    Reply { note, ..reply }
}

/// The parts that are drained, for an answer.
pub(super) fn shown(drained: &Drained, now: Instant) -> Vec<Draining> {
    let shown = |part: Part| {
        let of_part = || drained.iter().filter(move |((of, _), _)| *of == part);
        let since = of_part().map(|(_, since)| *since).min()?;
        let elapsed = now.saturating_duration_since(since);
        let left = Drain::WAIT.saturating_sub(elapsed);
        Some(Draining {
            part: part.to_string(),
            by: of_part().map(|((_, by), _)| by.to_string()).collect(),
            since_s: elapsed.as_secs(),
            // The last second counts until it is over.
            left_s: left.as_secs() + u64::from(left.subsec_nanos() > 0),
        })
    };
    Part::ALL.into_iter().filter_map(shown).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn part_is_shown_once_with_all_who_want_it_and_how_far_it_is() {
        let began = Instant::now();
        let later = began + Duration::from_secs(10);
        let drained = Drained::from([
            ((Part::Services, By::Label), began),
            ((Part::Services, By::Operator), later),
            ((Part::Pods, By::Operator), later),
        ]);
        let at = |seconds: u64| {
            let shown = shown(&drained, began + Duration::from_secs(seconds)).into_iter();
            shown
                .map(|Draining { part, by, since_s, left_s }| (part, by.join("+"), since_s, left_s))
                .collect::<Vec<_>>()
        };
        let services =
            |since_s, left_s| ("services".to_owned(), "operator+label".to_owned(), since_s, left_s);
        let pods = |since_s, left_s| ("pods".to_owned(), "operator".to_owned(), since_s, left_s);
        assert_eq!(at(12), [services(12, 48), pods(2, 58)]);
        assert_eq!(at(65), [services(65, 0), pods(55, 5)]);
        assert_eq!(shown(&Drained::new(), began), []);
    }
}
