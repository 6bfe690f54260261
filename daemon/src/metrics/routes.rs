//! Routes in the kernel, and how they were kept there.

use std::fmt;

use cambric_routes::{Counts, Family};

use super::count;
use super::page::{Page, label, none};
use crate::pod_routes::PodRoutes;

#[derive(Debug)]
pub(super) struct Seen {
    pub(super) counts: Counts,
    pub(super) pod_routes: PodRoutes,
}

impl Seen {
    pub(super) fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let Counts { learned, unreachable, pending, failing, repairs, overruns, checks } = &self.counts;
        let installed = Family::ALL.into_iter().flat_map(|family| {
            [("learned", learned), ("unreachable", unreachable)].map(|(kind, numbers)| {
                (vec![label("kind", kind), label("family", family)], count(*numbers.get(family)))
            })
        });
        let help = "Routes of ours in the kernel: learned by BGP, or own ranges of pods that are unreachable but for \
                    the pods";
        page.gauge("cambric_routes", help, installed)?;
        page.gauge("cambric_routes_pending", "Prefixes that wait to be written", [none(count(*pending))])?;
        let help = "Prefixes whose route the kernel refused; tried again";
        page.gauge("cambric_routes_failing", help, [none(count(*failing))])?;
        let of_pods = [
            ("pod-route-lost", self.pod_routes.put_back),
            ("pod-route-source-lost", self.pod_routes.sourced),
        ];
        let repairs = repairs.iter().map(|(cause, number)| (cause.to_string(), *number));
        let repairs = repairs.chain(of_pods.map(|(cause, number)| (cause.to_owned(), number)));
        let help =
            "Routes, or groups of next hops, that were put right after somebody else changed them, by cause";
        let repairs = repairs.map(|(cause, number)| (vec![label("cause", cause)], number));
        page.counter("cambric_route_repairs", help, repairs)?;
        let help = "How often events of the kernel were lost; all is compared then";
        page.counter("cambric_route_event_overruns", help, [none(*overruns)])?;
        page.counter("cambric_route_checks", "How often all was compared with the kernel", [none(*checks)])
    }
}
