//! New flows at full rate: of each kind of packet many, each of a flow of its own, from raw sockets.

use std::net::{IpAddr, SocketAddr};

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::libc;
use socket2::{Domain, SockAddr, SockFilter, Socket, Type};

use super::host::Flow;
use super::netns::Netns;
use super::prober::{Probe, Protocol, fresh_port, init};
use super::wire::{LONGEST_PATH, Rig};

/// Flows after which the nodes forget all: source ports come again, and flows must be new.
const REMEMBERED: usize = 30_000;

/// Kinds of packets that are sent again and again.
#[derive(Debug)]
pub struct Flood {
    lanes: Vec<Lane>,
    sent: usize,
}

#[derive(Debug)]
struct Lane {
    probe: Probe,
    socket: Socket,
    destination: SockAddr,
}

impl Flood {
    /// Of these kinds.
    pub fn new(rig: &Rig, probes: &[Probe]) -> Flood {
        let lane = |probe: &Probe| Lane {
            socket: rig.netns(&probe.from).enter(|| raw_socket(probe)),
            destination: without_port(probe.destination),
            probe: probe.clone(),
        };
        Flood { lanes: probes.iter().map(lane).collect(), sent: 0 }
    }

    /// Sends so many of each kind, and tells how many of each arrived.
    pub fn round(&mut self, rig: &Rig, each: usize) -> Vec<usize> {
        loop {
            let overflowed = rig.overflowed();
            let arrived = self.try_round(rig, each);
            if rig.overflowed() == overflowed {
                return arrived;
            }
        }
    }

    fn try_round(&mut self, rig: &Rig, each: usize) -> Vec<usize> {
        self.sent += each * self.lanes.len();
        assert!(each * self.lanes.len() < REMEMBERED, "source ports would come again");
        if self.sent > REMEMBERED {
            rig.nodes().for_each(forget_flows);
            self.sent = each * self.lanes.len();
        }
        let mut lane_of_port = vec![usize::MAX; 1 << 16];
        for _ in 0..each {
            for (nth, lane) in self.lanes.iter().enumerate() {
                let port = fresh_port();
                lane_of_port[usize::from(port)] = nth;
                let sent = lane.socket.send_to(&packet(&lane.probe.flow(port)), &lane.destination);
                sent.unwrap_or_else(|error| panic!("{:?}: {error}", lane.probe));
            }
        }
        let mut arrived = vec![0; self.lanes.len()];
        rig.settle(LONGEST_PATH, |at, seen| {
            let nth = lane_of_port[usize::from(seen.flow.source_port)];
            let Some(lane) = self.lanes.get(nth) else { return };
            if *at == lane.probe.to && seen.flow == lane.probe.flow(seen.flow.source_port) {
                arrived[nth] += 1;
            }
        });
        arrived
    }
}

/// Sends only: what comes back is of no interest.
fn raw_socket(probe: &Probe) -> Socket {
    const RETURN: u16 = 6;
    let protocol = i32::from(probe.protocol.number()).into();
    let domain = Domain::for_address(SocketAddr::new(probe.source, 0));
    let socket = Socket::new(domain, Type::RAW, Some(protocol)).expect("a raw socket");
    socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)]).expect("a filter");
    socket.bind(&without_port(probe.source)).expect("an address of the place");
    socket
}

fn without_port(address: IpAddr) -> SockAddr {
    SocketAddr::new(address, 0).into()
}

/// The transport header of a first packet. Connection tracking looks at checksums.
fn packet(flow: &Flow) -> Vec<u8> {
    let ports = [flow.source_port.to_be_bytes(), flow.destination_port.to_be_bytes()].concat();
    let (mut bytes, checksum_at) = match i32::from(flow.protocol) {
        libc::IPPROTO_TCP => {
            // Sequence number, none acknowledged, 20 bytes, SYN, window.
            let rest = [0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
            ([ports, rest.to_vec()].concat(), 16)
        }
        libc::IPPROTO_UDP => ([ports, vec![0, 8, 0, 0]].concat(), 6),
        _ => return init(flow.source_port, flow.destination_port),
    };
    let checksum = checksum(flow, &bytes).to_be_bytes();
    bytes[checksum_at..checksum_at + 2].copy_from_slice(&checksum);
    bytes
}

/// With the pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1), which sums up the same in both families.
fn checksum(flow: &Flow, bytes: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        bytes.chunks(2).map(|two| u32::from(u16::from_be_bytes([two[0], *two.get(1).unwrap_or(&0)]))).sum()
    };
    let address = |address| match address {
        IpAddr::V4(address) => words(&address.octets()),
        IpAddr::V6(address) => words(&address.octets()),
    };
    let header = address(flow.source) + address(flow.destination) + u32::from(flow.protocol);
    let mut sum = header + bytes.len() as u32 + words(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        0 if flow.protocol == Protocol::Udp.number() => 0xffff,
        sum => sum,
    }
}

/// Empties the table of connections (ctnetlink: IPCTNL_MSG_CT_DELETE that names none).
fn forget_flows(node: &Netns) {
    let socket = node.enter(|| netlink_sys::Socket::new(NETLINK_NETFILTER)).expect("a netlink socket");
    let (kind, flags) = (1_u16 << 8 | 2, (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16);
    let mut message = 20_u32.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 12]); // sequence, sender, family, version, nothing
    socket.send_to(&message, &netlink_sys::SocketAddr::new(0, 0), 0).expect("a message is sent");
    let mut answer = Vec::with_capacity(4096);
    socket.recv_from(&mut answer, 0).expect("an answer");
    assert_eq!(answer.get(16..20), Some(&[0; 4][..]), "connections are forgotten");
}
