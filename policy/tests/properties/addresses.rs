//! All addresses: of pods, of nodes and outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub fn v4_of_pod(low_bits: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, low_bits).into()
}

pub fn v6_of_pod(low_bits: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, low_bits.into()).into()
}

pub fn of_nodes() -> [[IpAddr; 2]; 2] {
    [["172.16.0.1", "fd01::1"], ["172.16.0.2", "fd01::2"]].map(|both| both.map(address))
}

/// Outside: far away, and among the pods' addresses.
pub fn of_externals() -> [(&'static str, [IpAddr; 2]); 2] {
    [
        ("ext:far", ["192.0.2.1", "2001:db8::1"].map(address)),
        ("ext:near", ["10.0.0.10", "fd00::a"].map(address)),
    ]
}

/// All that there are, and some that nobody has.
pub fn addresses() -> Vec<IpAddr> {
    let of_pods = (0..11).flat_map(|low_bits| [v4_of_pod(low_bits), v6_of_pod(low_bits)]);
    let others = of_nodes().into_iter().chain(of_externals().map(|(_, both)| both)).flatten();
    of_pods.chain(others).collect()
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address in a test")
}

pub fn zero(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// The first bits of one address and the rest of another.
pub fn join(first: IpAddr, rest: IpAddr, length: u8) -> IpAddr {
    match (first, rest) {
        (IpAddr::V4(first), IpAddr::V4(rest)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            Ipv4Addr::from_bits(first.to_bits() & mask | rest.to_bits() & !mask).into()
        }
        (IpAddr::V6(first), IpAddr::V6(rest)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            Ipv6Addr::from_bits(first.to_bits() & mask | rest.to_bits() & !mask).into()
        }
        _ => panic!("addresses of two families"),
    }
}
