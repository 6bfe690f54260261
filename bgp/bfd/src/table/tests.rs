use std::time::Duration;

use super::*;
use crate::packet::Diagnostic;

const OTHER: u32 = 0x0BAD_CAFE;

fn at(address: &str, interface: u32) -> Neighbor {
    Neighbor { address: address.parse().expect("address"), interface: NonZeroU32::new(interface) }
}

fn from(neighbor: &Neighbor, interface: u32) -> Arrived {
    Arrived { source: neighbor.address, interface: NonZeroU32::new(interface), ttl: TTL }
}

fn table_of(now: Instant, neighbors: &[Neighbor]) -> Table {
    let mut table = Table::new(1);
    table.apply(now, &neighbors.iter().map(|neighbor| (*neighbor, Config::default())).collect());
    table
}

fn packet(state: State, yours: Option<Discriminator>) -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        demand: false,
        multiplier: std::num::NonZeroU8::new(3).expect("not 0"),
        my_discriminator: Discriminator::new(OTHER).expect("not 0"),
        your_discriminator: yours,
        desired_min_tx: Duration::from_millis(300),
        required_min_rx: Duration::from_millis(300),
    }
}

#[test]
fn first_packets_are_of_the_neighbour_on_their_link_and_later_ones_of_whom_they_name() {
    let now = Instant::now();
    let [one, other] = [at("fe80::1", 2), at("fe80::1", 3)];
    let mut table = table_of(now, &[one, other]);
    let state = |table: &Table, of| table.status(of).map(|status| status.state);
    let down = packet(State::Down, None).encode();
    assert_eq!(table.handle_packet(now, from(&one, 3), &down), Ok(()));
    assert_eq!((state(&table, &one), state(&table, &other)), (Some(State::Down), Some(State::Init)));
    assert_eq!(table.handle_packet(now, from(&one, 4), &down), Err(Refusal::UnknownNeighbor));

    let name = table.status(&one).expect("there").discriminator;
    assert_ne!(Some(name), table.status(&other).map(|status| status.discriminator));
    let init = packet(State::Init, Some(name)).encode();
    let elsewhere = [from(&at("fe80::2", 0), 2), from(&one, 3)];
    for arrived in elsewhere {
        assert_eq!(table.handle_packet(now, arrived, &init), Err(Refusal::WrongSource));
    }
    assert_eq!(table.handle_packet(now, from(&one, 2), &init), Ok(()));
    assert_eq!(state(&table, &one), Some(State::Up));
}

#[test]
fn neighbour_without_a_link_is_known_on_each() {
    let now = Instant::now();
    let neighbor = at("192.0.2.1", 0);
    let mut table = table_of(now, &[neighbor]);
    assert_eq!(table.handle_packet(now, from(&neighbor, 7), &packet(State::Down, None).encode()), Ok(()));
}

#[test]
fn what_is_refused_is_counted_by_reason() {
    let now = Instant::now();
    let neighbor = at("192.0.2.1", 0);
    let mut table = table_of(now, &[neighbor]);
    let name = table.status(&neighbor).expect("there").discriminator;
    let stranger = Discriminator::new(name.get() ^ 1);
    let near = from(&neighbor, 1);
    let mut authenticated = [packet(State::Down, None).encode().as_slice(), &[1, 2]].concat();
    authenticated[1] |= 4;
    authenticated[3] = 26;
    let cases = [
        (Arrived { ttl: 254, ..near }, packet(State::Down, None).encode().to_vec(), Refusal::Ttl),
        (near, vec![0; 3], Refusal::Truncated),
        (near, packet(State::Down, stranger).encode().to_vec(), Refusal::UnknownSession),
        (near, packet(State::Init, None).encode().to_vec(), Refusal::ZeroYourDiscriminator),
        (near, packet(State::Up, None).encode().to_vec(), Refusal::ZeroYourDiscriminator),
        (from(&at("192.0.2.2", 0), 1), packet(State::Down, None).encode().to_vec(), Refusal::UnknownNeighbor),
        (near, authenticated, Refusal::Authenticated),
    ];
    for (arrived, octets, refusal) in cases {
        assert_eq!(table.handle_packet(now, arrived, &octets), Err(refusal));
    }
    assert_eq!(table.refused().values().sum::<u64>(), 7);
    assert_eq!(table.refused().get(&Refusal::ZeroYourDiscriminator), Some(&2));
    assert_eq!(table.status(&neighbor).expect("there").state, State::Down);
}

#[test]
fn session_that_nobody_wants_says_so_and_goes() {
    let start = Instant::now();
    let neighbor = at("192.0.2.1", 0);
    let mut table = table_of(start, &[neighbor]);
    while table.poll_transmit().is_some() {}
    table.apply(start, &BTreeMap::new());
    let (to, octets) = table.poll_transmit().expect("it says so");
    let (said, _) = Packet::decode(&octets).expect("ours");
    assert_eq!((to, said.state), (neighbor, State::AdminDown));
    assert_eq!(table.status(&neighbor).expect("still there").state, State::AdminDown);
    while let Some(at) = table.poll_timeout() {
        assert!(at < start + Duration::from_secs(5), "it never goes");
        table.handle_timeout(at);
    }
    assert_eq!(table.status(&neighbor), None);
}

#[test]
fn changes_are_told_once_for_each_session() {
    let now = Instant::now();
    let neighbor = at("192.0.2.1", 0);
    let mut table = table_of(now, &[neighbor]);
    assert_eq!((table.poll_change(), table.poll_change()), (Some(neighbor), None));
    let down = packet(State::Down, None).encode();
    for _ in 0..2 {
        table.handle_packet(now, from(&neighbor, 1), &down).expect("its own");
    }
    assert_eq!((table.poll_change(), table.poll_change()), (Some(neighbor), None));
    table.handle_packet(now, from(&neighbor, 1), &down).expect("its own");
    assert_eq!(table.poll_change(), None, "nothing new");
}
