use super::*;

const FAST: Duration = Duration::from_millis(50);

fn config(millis: u64) -> Config {
    let interval = Duration::from_millis(millis);
    Config { transmit: interval, receive: interval, ..Config::default() }
}

/// A session of ours, and what the other side would say.
struct Bench {
    now: Instant,
    session: Session,
    dice: Dice,
    other: Packet,
}

impl Bench {
    fn new(config: Config) -> Bench {
        let now = Instant::now();
        let ours = Discriminator::new(1).expect("not 0");
        let other = Packet {
            diagnostic: Diagnostic::NONE,
            state: State::Down,
            poll: false,
            is_final: false,
            control_plane_independent: false,
            demand: false,
            multiplier: NonZeroU8::new(3).expect("not 0"),
            my_discriminator: Discriminator::new(2).expect("not 0"),
            your_discriminator: None,
            desired_min_tx: Duration::from_millis(300),
            required_min_rx: Duration::from_millis(300),
        };
        let mut bench = Bench { now, session: Session::new(now, ours, config), dice: Dice::new(7), other };
        let first = bench.sent();
        assert_eq!(first.iter().map(|packet| packet.state).collect::<Vec<_>>(), [State::AdminDown]);
        bench
    }

    fn up(config: Config) -> Bench {
        let mut bench = Bench::new(config);
        bench.hear(State::Down);
        bench.hear(State::Up);
        bench.sent();
        assert_eq!(bench.session.state(), State::Up);
        bench
    }

    fn hear(&mut self, state: State) {
        let your_discriminator = Discriminator::new(1).filter(|_| state != State::Down);
        self.hear_as(|packet| Packet { state, your_discriminator, ..packet });
    }

    fn hear_as(&mut self, with: impl FnOnce(Packet) -> Packet) {
        let packet = with(self.other);
        self.session.handle_packet(self.now, &packet);
    }

    fn sent(&mut self) -> Vec<Packet> {
        std::iter::from_fn(|| self.session.poll_transmit(self.now, &mut self.dice)).collect()
    }

    fn one(&mut self) -> Packet {
        let sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent[0]
    }

    /// Lets time pass without a word from the other side; what we send meanwhile, and when.
    fn pass(&mut self, time: Duration) -> Vec<(Duration, Packet)> {
        let (start, end) = (self.now, self.now + time);
        let mut sent = Vec::new();
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.session.handle_timeout(self.now);
            let after = self.now - start;
            sent.extend(self.sent().into_iter().map(|packet| (after, packet)));
        }
        self.now = end;
        sent
    }
}

#[test]
fn new_says_admin_down_and_then_down_once_a_second() {
    let mut bench = Bench::new(config(50));
    let sent = bench.pass(Duration::from_secs(10));
    assert!((10..=14).contains(&sent.len()), "{sent:?}");
    assert!(sent.iter().all(|(_, packet)| packet.state == State::Down), "{sent:?}");
    assert!(sent.iter().all(|(_, packet)| packet.desired_min_tx == Duration::from_secs(1)));
    assert!(
        sent.iter().all(|(_, packet)| packet.required_min_rx == FAST && packet.your_discriminator.is_none())
    );
}

#[test]
fn down_hears_down_and_goes_to_init_hears_init_and_goes_up() {
    let mut bench = Bench::new(config(300));
    bench.hear(State::Down);
    let packet = bench.one();
    assert_eq!((packet.state, packet.your_discriminator), (State::Init, Discriminator::new(2)));
    bench.hear(State::Init);
    assert_eq!(bench.one().state, State::Up);
    assert_eq!((bench.session.status().ups, bench.session.status().downs), (1, 0));
}

#[test]
fn down_hears_up_and_stays_for_the_other_side_has_to_come_down_first() {
    let mut bench = Bench::new(config(300));
    bench.hear(State::Up);
    assert_eq!(bench.session.state(), State::Down);
    bench.hear(State::AdminDown);
    assert_eq!(bench.session.state(), State::Down);
}

#[test]
fn up_polls_until_the_new_pace_is_known_and_goes_at_it_at_once() {
    let mut bench = Bench::new(config(300));
    bench.hear(State::Down);
    bench.hear(State::Init);
    let packet = bench.one();
    assert!(packet.poll && packet.state == State::Up && packet.desired_min_tx == Duration::from_millis(300));
    let packets = bench.pass(Duration::from_millis(650));
    assert!(packets.len() >= 2 && packets.iter().all(|(_, packet)| packet.poll), "{packets:?}");
    bench.hear_as(|packet| Packet { state: State::Up, is_final: true, ..packet });
    let packets = bench.pass(Duration::from_millis(600));
    assert!(packets.len() >= 2 && packets.iter().all(|(_, packet)| !packet.poll), "{packets:?}");
}

#[test]
fn poll_of_the_other_side_is_answered_at_once_and_only_with_final() {
    let mut bench = Bench::up(config(300));
    bench.hear_as(|packet| Packet { state: State::Up, poll: true, is_final: true, ..packet });
    let packet = bench.one();
    assert_eq!((packet.poll, packet.is_final), (false, true));
}

#[test]
fn up_hears_nothing_for_the_detection_time_and_goes_down() {
    let mut bench = Bench::up(config(50));
    // 3 of its 300 ms.
    bench.pass(Duration::from_millis(899));
    assert_eq!(bench.session.state(), State::Up);
    let sent = bench.pass(Duration::from_millis(2));
    assert_eq!(bench.session.state(), State::Down);
    let (_, last) = sent.last().expect("a new state is told at once");
    assert_eq!((last.state, last.diagnostic), (State::Down, Diagnostic::DETECTION_TIME_EXPIRED));
    let status = bench.session.status();
    let down = status.last_down.expect("it was up");
    assert_eq!(down.cause, DownCause::DetectionTimeExpired(Duration::from_millis(900)));
    assert_eq!((status.downs, status.remote), (1, None));
}

#[test]
fn up_hears_down_and_goes_down_and_the_cause_is_told() {
    let mut bench = Bench::up(config(300));
    bench.hear_as(|packet| Packet { diagnostic: Diagnostic::DETECTION_TIME_EXPIRED, ..packet });
    assert_eq!(bench.session.state(), State::Down);
    let packet = bench.one();
    assert_eq!(packet.diagnostic, Diagnostic::NEIGHBOR_SIGNALED_DOWN);
    let cause = bench.session.status().last_down.expect("it was up").cause;
    assert_eq!(cause, DownCause::NeighborSignaledDown(Diagnostic::DETECTION_TIME_EXPIRED));
    assert!(cause.is_failure());
}

#[test]
fn up_hears_admin_down_and_goes_down_and_that_is_no_failure() {
    let mut bench = Bench::up(config(300));
    bench.hear(State::AdminDown);
    assert_eq!(bench.session.state(), State::Down);
    let cause = bench.session.status().last_down.expect("it was up").cause;
    assert_eq!((cause, cause.is_failure()), (DownCause::NeighborAdminDown, false));
}

#[test]
fn pace_is_the_slower_of_what_we_want_and_what_the_other_side_can_receive() {
    for (theirs, least, most) in [(10, 20, 27), (100, 10, 14), (0, 0, 0)] {
        let mut bench = Bench::up(config(50));
        let mut sent = 0;
        for _ in 0..10 {
            bench.hear_as(|packet| Packet {
                state: State::Up,
                is_final: true,
                required_min_rx: Duration::from_millis(theirs),
                ..packet
            });
            bench.sent();
            sent += bench.pass(Duration::from_millis(100)).len();
        }
        assert!((least..=most).contains(&sent), "{theirs} ms: {sent} packets in a second");
    }
}

#[test]
fn other_side_that_wants_no_packets_is_waited_for_all_the_same_and_then_spoken_to() {
    let mut bench = Bench::up(config(50));
    bench.hear_as(|packet| Packet { state: State::Up, required_min_rx: Duration::ZERO, ..packet });
    assert_eq!(bench.pass(Duration::from_millis(899)), []);
    let sent = bench.pass(Duration::from_secs(3));
    assert!(sent.len() >= 3 && sent.iter().all(|(_, packet)| packet.state == State::Down), "{sent:?}");
}

#[test]
fn demand_of_the_other_side_is_silence_while_both_are_up() {
    let mut bench = Bench::up(config(50));
    bench.hear_as(|packet| Packet { state: State::Up, is_final: true, demand: true, ..packet });
    assert_eq!(bench.pass(Duration::from_millis(800)), []);
    bench.hear_as(|packet| Packet { state: State::Up, poll: true, demand: true, ..packet });
    assert!(bench.one().is_final);
}

#[test]
fn slower_pace_counts_when_the_other_side_has_answered_and_a_faster_one_at_once() {
    let mut bench = Bench::up(config(50));
    bench.hear_as(|packet| Packet { state: State::Up, is_final: true, required_min_rx: FAST, ..packet });
    bench.session.apply(bench.now, config(200));
    assert_eq!(bench.session.status().transmit, Some(FAST), "it may wait for 3 of these");
    assert!(bench.one().poll);
    bench.hear_as(|packet| Packet { state: State::Up, is_final: true, required_min_rx: FAST, ..packet });
    assert_eq!(bench.session.status().transmit, Some(Duration::from_millis(200)));
    bench.session.apply(bench.now, config(100));
    assert_eq!(bench.session.status().transmit, Some(Duration::from_millis(100)));
}

#[test]
fn answer_to_an_earlier_poll_does_not_end_a_later_one() {
    let mut bench = Bench::up(config(50));
    bench.session.apply(bench.now, config(200));
    let answer = |packet| Packet { state: State::Up, is_final: true, ..packet };
    bench.hear_as(answer);
    assert!(bench.one().poll, "the poll at coming up was not answered before");
    bench.hear_as(answer);
    bench.pass(Duration::from_millis(300));
    let sent = bench.pass(Duration::from_millis(300));
    assert!(sent.iter().all(|(_, packet)| !packet.poll), "{sent:?}");
}

#[test]
fn leaving_says_admin_down_until_the_other_side_has_surely_heard_it() {
    let mut bench = Bench::up(config(300));
    bench.session.leave(bench.now);
    let packet = bench.one();
    assert_eq!((packet.state, packet.diagnostic), (State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN));
    bench.hear(State::Up);
    assert_eq!(bench.session.state(), State::AdminDown);
    assert!(!bench.session.has_left(bench.now + Duration::from_millis(900)));
    assert!(bench.session.has_left(bench.now + Duration::from_secs(2)));
    bench.session.apply(bench.now, config(300));
    bench.sent();
    assert_eq!(bench.session.state(), State::Down, "wanted again");
    assert_eq!(bench.session.status().downs, 0, "nobody lost it");
}
