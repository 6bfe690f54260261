//! What belongs to a connection that was let through passes, both ways, though both ends are isolated in both directions:
//! answers, and ICMP errors, the pod's own and those of routers. What only claims to belong to one does not.

use std::io::{Read, Write};
use std::net::IpAddr;

use nix::libc;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::rig::{At, World};
use crate::small::{FAMILIES, OUTSIDE, addresses, allow, cluster, deny_all, ip, pod, to};

/// Of the link to a pod that packets do not fit.
const NARROW_BYTES: u16 = 1300;
/// Of a payload that does not fit it, but fits all other links.
const TOO_MUCH_BYTES: usize = 1400;
/// "Too big" and "port unreachable", by family: type and code.
const TOO_BIG: [(u16, u16); 2] = [(3, 4), (2, 0)];
const NO_SUCH_PORT: [(u16, u16); 2] = [(3, 3), (1, 4)];

/// A client on `node1`, a server beside it and one on `node2`; only the client may speak to them, and nothing else.
fn world() -> (World, At, [(At, [IpAddr; 2]); 2]) {
    let mut policies = vec![deny_all()];
    for server in ["near", "far"] {
        policies.extend(allow("client", server, "TCP", 80));
        policies.extend(allow("client", server, "UDP", 80));
    }
    let pods = [pod("client", 1, "node1"), pod("near", 2, "node1"), pod("far", 3, "node2")];
    let world = World::of(&cluster(&pods, &policies));
    let at = |name| world.pod("default", name);
    let (client, servers) = (at("client"), [(at("near"), addresses(2)), (at("far"), addresses(3))]);
    (world, client, servers)
}

#[test]
fn both_directions_of_an_allowed_connection_pass() {
    let (world, client, servers) = world();
    for (server, addresses) in &servers {
        for address in addresses {
            let listener = world.rig.listen(server, to(address, 80));
            let there = world.rig.connect(&client, None, to(address, 80)).expect("it is allowed");
            let (here, _) = listener.accept().expect("a connection");
            for (mut from, mut into, text) in [(&there, &here, b"ask"), (&here, &there, b"say")] {
                from.write_all(text).expect("room");
                world.rig.settle(3, |_, _| ());
                let mut got = [0; 3];
                into.read_exact(&mut got).expect("it has come");
                assert_eq!(&got, text);
            }
            // The other way round nothing goes.
            let back = addresses_of_client(address);
            let _listener = world.rig.listen(&client, to(back, 80));
            assert!(world.rig.connect(server, None, to(back, 80)).is_none(), "{address} -> {back}");
        }
    }
}

fn addresses_of_client(family_of: &IpAddr) -> IpAddr {
    addresses(1)[usize::from(family_of.is_ipv6())]
}

#[test]
fn port_unreachable_comes_back_to_an_isolated_client_and_to_an_isolated_server() {
    let (world, client, servers) = world();
    for (server, addresses) in &servers {
        for family in FAMILIES {
            let (from, address) = (addresses_of_client(&addresses[family]), addresses[family]);
            // Nobody listens: the server's kernel says so.
            let socket = world.rig.socket(&client, to(from, 0));
            let told = errors_after(&world, &client, NO_SUCH_PORT[family], || {
                socket.send_to(b"anybody?", to(address, 80)).expect("sent");
            });
            assert_eq!(told, 1, "{address} -> {from}");
            // The client is gone when the answer comes: its kernel says so.
            let listening = world.rig.socket(server, to(address, 80));
            socket.send_to(b"hello", to(address, 80)).expect("sent");
            world.rig.settle(3, |_, _| ());
            let (_, asker) = listening.recv_from(&mut [0; 16]).expect("it has come");
            drop(socket);
            listening.send_to(b"too late", asker).expect("sent");
            assert_eq!(errors(&world, server, NO_SUCH_PORT[family]), 1, "{from} -> {address}");
        }
    }
}

#[test]
fn too_big_comes_back_to_an_isolated_client_and_to_an_isolated_server() {
    let (world, client, servers) = world();
    let [_, (far, addresses)] = &servers;
    let narrow = |node, at: &At, bytes: u16| {
        let At::Pod(key) = at else { panic!("a pod") };
        world.rig.node(node).ip(&[format!("link set {} mtu {bytes}", world.rig.interface(key))]);
    };
    for family in FAMILIES {
        let (from, address) = (addresses_of_client(&addresses[family]), addresses[family]);
        let socket = world.rig.socket(&client, to(from, 0));
        let listening = world.rig.socket(far, to(address, 80));
        narrow("node2", far, NARROW_BYTES);
        socket.send_to(&[0; TOO_MUCH_BYTES], to(address, 80)).expect("it fits the first link");
        assert_eq!(errors(&world, &client, TOO_BIG[family]), 1, "about {from} -> {address}");
        // Now it is known, and goes in fragments.
        socket.send_to(&[0; TOO_MUCH_BYTES], to(address, 80)).expect("sent");
        world.rig.settle(3, |_, _| ());
        let (came, asker) = listening.recv_from(&mut [0; 2 * TOO_MUCH_BYTES]).expect("it has come");
        assert_eq!(came, TOO_MUCH_BYTES);
        narrow("node2", far, 1500);

        narrow("node1", &client, NARROW_BYTES);
        listening.send_to(&[0; TOO_MUCH_BYTES], asker).expect("it fits the first link");
        assert_eq!(errors(&world, far, TOO_BIG[family]), 1, "about {address} -> {from}");
        listening.send_to(&[0; TOO_MUCH_BYTES], asker).expect("sent");
        world.rig.settle(3, |_, _| ());
        assert_eq!(socket.recv(&mut [0; 2 * TOO_MUCH_BYTES]).expect("it has come"), TOO_MUCH_BYTES);
        narrow("node1", &client, 1500);
    }
}

#[test]
fn an_error_about_no_connection_does_not_reach_an_isolated_pod() {
    let (world, client, _) = world();
    for family in FAMILIES {
        let pod = addresses(1)[family];
        send_error(&world, ip(OUTSIDE[family]), pod, family);
        assert_eq!(errors(&world, &client, NO_SUCH_PORT[family]), 0, "{pod}");
    }
    // It would have come: to a pod that is not isolated it does.
    let open = World::of(&cluster(&[pod("client", 1, "node1")], &[]));
    for family in FAMILIES {
        send_error(&open, ip(OUTSIDE[family]), addresses(1)[family], family);
        assert_eq!(errors(&open, &open.pod("default", "client"), NO_SUCH_PORT[family]), 1);
    }
}

/// [`errors`] that come of something; tried again if nothing comes and a queue of the kernel was full meanwhile.
fn errors_after(world: &World, place: &At, what: (u16, u16), send: impl Fn()) -> usize {
    loop {
        let overflowed = world.rig.overflowed();
        send();
        let count = errors(world, place, what);
        if count > 0 || world.rig.overflowed() == overflowed {
            return count;
        }
    }
}

/// ICMP errors of a type and code that come to a place from now on, until all is quiet.
fn errors(world: &World, place: &At, (kind, code): (u16, u16)) -> usize {
    let mut count = 0;
    world.rig.settle(6, |at, seen| {
        let protocol = i32::from(seen.flow.protocol);
        let is_icmp = protocol == libc::IPPROTO_ICMP || protocol == libc::IPPROTO_ICMPV6;
        let is_it = is_icmp && (seen.flow.source_port, seen.flow.destination_port) == (kind, code);
        count += usize::from(at == place && is_it);
    });
    count
}

/// From outside: "port unreachable" about a datagram that the pod never sent.
fn send_error(world: &World, from: IpAddr, pod: IpAddr, family: usize) {
    let mut inner = Vec::new();
    match (pod, from) {
        (IpAddr::V4(pod), IpAddr::V4(from)) => {
            inner.extend([0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0]);
            inner.extend(pod.octets());
            inner.extend(from.octets());
            let checksum = internet_checksum(&inner);
            inner[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        (IpAddr::V6(pod), IpAddr::V6(from)) => {
            inner.extend([0x60, 0, 0, 0, 0, 8, 17, 64]);
            inner.extend(pod.octets());
            inner.extend(from.octets());
        }
        _ => panic!("two families"),
    }
    inner.extend([0x9c, 0x40, 0, 80, 0, 8, 0, 0]); // UDP from port 40000 to port 80
    let (kind, code) = NO_SUCH_PORT[family];
    let mut message = vec![kind as u8, code as u8, 0, 0, 0, 0, 0, 0];
    message.extend(inner);
    let (domain, protocol) = match family {
        0 => (Domain::IPV4, libc::IPPROTO_ICMP),
        _ => (Domain::IPV6, libc::IPPROTO_ICMPV6), // the kernel sums up for us
    };
    if family == 0 {
        let checksum = internet_checksum(&message);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    world.rig.netns(&At::Outside).enter(|| {
        let socket = Socket::new(domain, Type::RAW, Some(protocol.into())).expect("a raw socket");
        socket.bind(&SockAddr::from(to(from, 0))).expect("an address outside");
        socket.send_to(&message, &SockAddr::from(to(pod, 0))).expect("sent");
    });
}

/// RFC 1071.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(*two.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}
