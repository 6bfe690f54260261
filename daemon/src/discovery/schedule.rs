//! When something is sent on a link, and who is taken for the router at its other end. Pure: time and dice come in.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

/// What to send, to all nodes or all routers of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Send {
    /// To all routers.
    Solicitation,
    /// To all nodes.
    Advertisement,
}

/// The times of one link, from the moment that it is up.
#[derive(Debug)]
pub(super) struct Schedule {
    advertise_at: Instant,
    advertised_at: Option<Instant>,
    /// Until a router is heard.
    solicit_at: Option<Instant>,
    solicited_at: Option<Instant>,
    solicited: u32,
    dice: u64,
}

impl Schedule {
    /// MaxRtrAdvInterval (RFC 4861 section 6.2.1), as FRR has it on links of unnumbered peers. The least is a third of it.
    const INTERVAL: Duration = Duration::from_secs(10);
    const LEAST_INTERVAL: Duration = Duration::from_millis(3300);
    /// MIN_DELAY_BETWEEN_RAS and MAX_RA_DELAY_TIME (RFC 4861 section 10).
    const BETWEEN: Duration = Duration::from_secs(3);
    const ANSWER: Duration = Duration::from_millis(500);
    /// RTR_SOLICITATION_INTERVAL, doubled each time up to a minute (RFC 7559 section 2 has an hour; who is not there now
    /// comes without a word of ours, too, but a lost packet should not cost that).
    const SOLICIT: Duration = Duration::from_secs(4);
    const MOST_DOUBLED: u32 = 4;

    /// The link came up: both at once.
    ///
    /// Deviation: RFC 4861 sections 6.2.4 and 6.3.7 wait up to 16 s and 1 s for the sake of links where many come up
    /// together. There are two on this one, and no session before they know of each other.
    pub(super) fn new(now: Instant, dice: u64) -> Schedule {
        Schedule {
            advertise_at: now,
            advertised_at: None,
            solicit_at: Some(now),
            solicited_at: None,
            solicited: 0,
            dice: dice | 1,
        }
    }

    /// Somebody asks (RFC 4861 section 6.2.6).
    pub(super) fn handle_solicitation(&mut self, now: Instant) {
        let delay = self.roll(Duration::ZERO, Self::ANSWER);
        let allowed = self.advertised_at.map_or(now, |last| last + Self::BETWEEN);
        self.advertise_at = self.advertise_at.min(now.max(allowed) + delay);
    }

    /// A router was heard.
    pub(super) fn handle_advertisement(&mut self) {
        self.solicit_at = None;
    }

    /// Who is there shall say so again: soon, and not for each packet of somebody who has many addresses.
    pub(super) fn ask(&mut self, now: Instant) {
        let allowed = self.solicited_at.map_or(now, |last| last + Self::SOLICIT);
        (self.solicit_at, self.solicited) = (Some(now.max(allowed)), 0);
    }

    /// What is due.
    pub(super) fn poll(&mut self, now: Instant) -> Vec<Send> {
        let mut due = Vec::new();
        if self.solicit_at.is_some_and(|at| now >= at) {
            self.solicit_at = Some(now + Self::SOLICIT * (1 << self.solicited.min(Self::MOST_DOUBLED)));
            self.solicited_at = Some(now);
            self.solicited += 1;
            due.push(Send::Solicitation);
        }
        if now >= self.advertise_at {
            self.advertised_at = Some(now);
            self.advertise_at = now + self.roll(Self::LEAST_INTERVAL, Self::INTERVAL);
            due.push(Send::Advertisement);
        }
        due
    }

    /// When something is due next.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.solicit_at.map_or(self.advertise_at, |at| at.min(self.advertise_at))
    }

    /// xorshift: that two routers do not keep step needs no better.
    fn roll(&mut self, from: Duration, to: Duration) -> Duration {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        from + (to - from).mul_f64((self.dice % 1000) as f64 / 1000.0)
    }
}

/// Who is at the other end of a link.
#[derive(Debug, Default)]
pub(super) struct Routers {
    /// And when it was heard last; absent, if only an earlier run has heard it.
    current: Option<(Ipv6Addr, Option<Instant>)>,
    rival: Option<Rival>,
}

/// Another one than the current.
#[derive(Debug)]
struct Rival {
    address: Ipv6Addr,
    since: Instant,
    heard_at: Instant,
}

/// What follows from an advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follows {
    /// Nothing.
    Nothing,
    /// It must be seen who is there: all shall advertise themselves again.
    Ask,
}

impl Routers {
    /// How long the current router may take to be heard beside a new one: it has answered a solicitation by then.
    const SETTLES: Duration = Duration::from_secs(5);
    /// How long a second router that is heard no more is spoken of.
    const REMEMBERED: Duration = Duration::from_secs(120);

    /// An earlier run had a session there.
    pub(super) fn known_before(router: Ipv6Addr) -> Routers {
        Routers { current: Some((router, None)), rival: None }
    }

    /// `source` says that it is a router.
    pub(super) fn handle_advertisement(&mut self, now: Instant, source: Ipv6Addr) -> Follows {
        match &mut self.current {
            None => self.current = Some((source, Some(now))),
            Some((current, heard_at)) if *current == source => *heard_at = Some(now),
            Some(_) => match &mut self.rival {
                Some(rival) if rival.address == source => rival.heard_at = now,
                _ => {
                    self.rival = Some(Rival { address: source, since: now, heard_at: now });
                    return Follows::Ask;
                }
            },
        }
        Follows::Nothing
    }

    /// A new router takes the place of one that is not heard beside it; a second one is forgotten that is heard no more.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let Some(rival) = &self.rival else { return };
        let is_alone = !self.is_current_heard_beside(rival);
        if is_alone && now >= rival.since + Self::SETTLES {
            self.current = Some((rival.address, Some(rival.heard_at)));
            self.rival = None;
        } else if now >= rival.heard_at + Self::REMEMBERED {
            self.rival = None;
        }
    }

    /// When [`Routers::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let rival = self.rival.as_ref()?;
        let forgotten = rival.heard_at + Self::REMEMBERED;
        let settled = rival.since + Self::SETTLES;
        Some(if self.is_current_heard_beside(rival) { forgotten } else { settled })
    }

    fn is_current_heard_beside(&self, rival: &Rival) -> bool {
        matches!(self.current, Some((_, Some(heard_at))) if heard_at >= rival.since)
    }

    /// The router.
    pub(super) fn current(&self) -> Option<Ipv6Addr> {
        self.current.map(|(address, _)| address)
    }

    /// A second one, if both are there.
    pub(super) fn rival(&self) -> Option<Ipv6Addr> {
        self.rival.as_ref().filter(|rival| self.is_current_heard_beside(rival)).map(|rival| rival.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv6Addr = Ipv6Addr::new(0xFE80, 0, 0, 0, 0, 0, 0, 1);
    const B: Ipv6Addr = Ipv6Addr::new(0xFE80, 0, 0, 0, 0, 0, 0, 2);

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// What is sent until `end`, with the seconds since the start.
    fn sent(schedule: &mut Schedule, start: Instant, end: f64) -> Vec<(f64, Send)> {
        let mut sent = Vec::new();
        while schedule.poll_timeout() <= start + secs(end) {
            let now = schedule.poll_timeout();
            let due = schedule.poll(now);
            assert!(!due.is_empty(), "a timeout that stays due keeps the task busy");
            sent.extend(due.into_iter().map(|send| ((now - start).as_secs_f64(), send)));
        }
        sent
    }

    #[test]
    fn a_link_that_came_up_is_told_at_once_and_then_every_3_to_10_seconds() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 7);
        schedule.handle_advertisement();
        let sent = sent(&mut schedule, start, 100.0);
        assert_eq!(sent[0], (0.0, Send::Advertisement));
        for pair in sent.windows(2) {
            assert!((3.3..=10.0).contains(&(pair[1].0 - pair[0].0)), "{pair:?}");
        }
    }

    #[test]
    fn solicitations_go_on_ever_slower_until_a_router_is_heard() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 7);
        let of = |sent: Vec<(f64, Send)>| -> Vec<f64> {
            let asked = sent.into_iter().filter(|(_, send)| *send == Send::Solicitation);
            asked.map(|(at, _)| at).collect()
        };
        assert_eq!(of(sent(&mut schedule, start, 200.0)), [0.0, 4.0, 12.0, 28.0, 60.0, 124.0, 188.0]);
        schedule.handle_advertisement();
        assert_eq!(of(sent(&mut schedule, start, 400.0)), [0.0; 0]);
        schedule.ask(start + secs(400.5));
        assert_eq!(of(sent(&mut schedule, start, 406.0)), [400.5, 404.5]);
        schedule.ask(start + secs(406.0));
        assert_eq!(of(sent(&mut schedule, start, 409.0)), [408.5], "4 s after the last");
    }

    #[test]
    fn who_asks_is_answered_within_half_a_second_and_no_sooner_than_3_seconds_after_the_last() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 7);
        schedule.handle_advertisement();
        schedule.poll(start);
        for _ in 0..50 {
            schedule.handle_solicitation(start + secs(0.1));
        }
        let answer = schedule.poll_timeout() - start;
        assert!((secs(3.0)..=secs(3.5)).contains(&answer), "{answer:?}");
        let mut slow = Schedule { advertise_at: start + secs(9.0), ..Schedule::new(start, 7) };
        slow.handle_advertisement();
        slow.handle_solicitation(start + secs(5.0));
        assert!((secs(5.0)..=secs(5.5)).contains(&(slow.poll_timeout() - start)));
    }

    #[test]
    fn a_new_router_takes_the_place_of_one_that_is_silent() {
        let start = Instant::now();
        let mut routers = Routers::default();
        assert_eq!(routers.handle_advertisement(start, A), Follows::Nothing);
        assert_eq!(routers.handle_advertisement(start + secs(60.0), B), Follows::Ask);
        assert_eq!((routers.current(), routers.rival()), (Some(A), None));
        assert_eq!(routers.poll_timeout(), Some(start + secs(65.0)));
        routers.handle_timeout(start + secs(64.0));
        assert_eq!(routers.current(), Some(A));
        routers.handle_timeout(start + secs(65.0));
        assert_eq!((routers.current(), routers.rival(), routers.poll_timeout()), (Some(B), None, None));
    }

    #[test]
    fn two_routers_are_told_and_the_first_stays_until_it_is_silent() {
        let start = Instant::now();
        let mut routers = Routers::default();
        routers.handle_advertisement(start, A);
        routers.handle_advertisement(start + secs(10.0), B);
        routers.handle_advertisement(start + secs(10.4), A);
        assert_eq!((routers.current(), routers.rival()), (Some(A), Some(B)));
        routers.handle_timeout(start + secs(15.0));
        assert_eq!((routers.current(), routers.rival()), (Some(A), Some(B)));
        routers.handle_timeout(start + secs(130.0));
        assert_eq!((routers.current(), routers.rival()), (Some(A), None), "the second one has gone");
    }

    #[test]
    fn the_router_of_an_earlier_run_counts_until_another_one_is_heard_alone() {
        let start = Instant::now();
        let mut routers = Routers::known_before(A);
        assert_eq!(routers.current(), Some(A));
        routers.handle_advertisement(start, B);
        routers.handle_timeout(start + secs(5.0));
        assert_eq!(routers.current(), Some(B));
        let mut routers = Routers::known_before(A);
        assert_eq!(routers.handle_advertisement(start, A), Follows::Nothing);
        assert_eq!((routers.current(), routers.poll_timeout()), (Some(A), None));
    }
}
