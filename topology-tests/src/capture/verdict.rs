//! Whether a frame is a pod's, and whether it is bare.
//!
//! A pod's frame is known by its mark, wherever in the frame it is, or by its two addresses; so a frame that a tunnel
//! or a translation has changed is known, too. A header of a tunnel is guilty even without a mark: on a link between
//! a node and its switch there is none to be. Between the addresses of pods everything is guilty that is not TCP,
//! UDP or ICMP right behind a plain header: pods say nothing else here.

use std::net::{IpAddr, SocketAddr};

use super::PerFamily;
use super::frame::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, ICMP, ICMPV6, Packet, TCP, UDP};
use super::tap::{Captured, Tag};

/// EtherTypes that put something between Ethernet and IP.
const BETWEEN: [(u16, &str); 5] = [
    (0x8100, "a VLAN tag (802.1Q)"),
    (0x88a8, "a VLAN tag (802.1ad)"),
    (0x9100, "a VLAN tag (QinQ)"),
    (0x8847, "an MPLS label"),
    (0x88e5, "MACsec"),
];

/// IP protocols that carry packets (IANA "Assigned Internet Protocol Numbers").
const TUNNELS: [(u8, &str); 7] = [
    (4, "IPIP"),
    (41, "IPv6 in IP"),
    (47, "GRE"),
    (50, "IPsec ESP"),
    (94, "IPIP (94)"),
    (97, "EtherIP"),
    (137, "MPLS in IP"),
];

/// UDP ports of tunnels.
const TUNNEL_PORTS: [(u16, &str); 6] = [
    (4789, "VXLAN"),
    (8472, "VXLAN on Linux's old port"),
    (4790, "VXLAN-GPE"),
    (6081, "Geneve"),
    (51820, "WireGuard"),
    (51821, "WireGuard"),
];

/// How a pod's frame must look on one link.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// What the payload of pods carries.
    pub mark: [u8; 16],
    /// Addresses of the pod on the node.
    pub near: Vec<IpAddr>,
    /// Addresses of the pod elsewhere.
    pub far: Vec<IpAddr>,
    /// MAC of the node on this link.
    pub node_mac: [u8; 6],
    /// MAC of the switch on this link.
    pub switch_mac: [u8; 6],
    /// TTL and hop limit of what leaves the node.
    pub ttl_out: PerFamily,
    /// TTL and hop limit of what comes to the node.
    pub ttl_in: PerFamily,
}

/// What a frame is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody's pod sent it.
    NotPods,
    /// As it should be.
    Bare(Bare),
    /// What is wrong with it, in words.
    Guilty(String),
}

/// A pod's frame that is as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bare {
    /// From the near pod or to it.
    pub way: Way,
    /// `UDP`, `TCP`, `ICMP` or `ICMPv6`.
    pub protocol: String,
    /// IPv4 or IPv6.
    pub family: &'static str,
    /// What a datagram carries.
    pub payload: Option<Vec<u8>>,
    /// Both ends of a stream, the sender first.
    pub stream: Option<(SocketAddr, SocketAddr)>,
    /// All of its headers, for people.
    pub words: String,
}

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the node to the switch.
    Out,
    /// From the switch to the node.
    In,
}

impl Bare {
    /// Way, family and protocol, as `out IPv4 UDP`.
    pub fn kind(&self) -> String {
        let way = match self.way {
            Way::Out => "out",
            Way::In => "in",
        };
        format!("{way} {} {}", self.family, self.protocol)
    }
}

impl Expectation {
    /// Judges one frame.
    pub fn judge(&self, captured: &Captured) -> Verdict {
        let Some(frame) = Frame::parse(&captured.octets) else { return Verdict::NotPods };
        let marked = captured.octets.windows(self.mark.len()).any(|window| window == self.mark);
        let way = frame.packet.as_ref().and_then(|packet| self.way(packet));
        let guilty = |what: String| Verdict::Guilty(format!("{what}: {}", in_words(&frame)));

        if captured.tag == Tag::Tagged {
            return guilty("a VLAN tag (taken off by the kernel)".to_owned());
        }
        if let Some((_, what)) = BETWEEN.iter().find(|(ethertype, _)| *ethertype == frame.ethertype) {
            return guilty((*what).to_owned());
        }
        let tunnel = frame.packet.as_ref().and_then(|packet| tunnel(packet, way));
        if let Some(tunnel) = tunnel {
            return guilty(format!("a tunnel, {tunnel}"));
        }
        match (&frame.packet, way) {
            (Some(packet), Some(way)) => self.judge_bare(&frame, packet, way),
            (None, _) if marked => guilty("a pod's octets in something that is not IP".to_owned()),
            (Some(_), None) if marked => {
                guilty("a pod's octets between addresses that are not both pods'".to_owned())
            }
            _ => Verdict::NotPods,
        }
    }

    fn way(&self, packet: &Packet<'_>) -> Option<Way> {
        let between = |from: &[IpAddr], to: &[IpAddr]| {
            from.contains(&packet.source) && to.contains(&packet.destination)
        };
        if between(&self.near, &self.far) {
            Some(Way::Out)
        } else if between(&self.far, &self.near) {
            Some(Way::In)
        } else {
            None
        }
    }

    /// Headers, MACs and TTL of a frame from pod to pod.
    fn judge_bare(&self, frame: &Frame<'_>, packet: &Packet<'_>, way: Way) -> Verdict {
        let (macs, ttls) = match way {
            Way::Out => ((self.node_mac, self.switch_mac), self.ttl_out),
            Way::In => ((self.switch_mac, self.node_mac), self.ttl_in),
        };
        let words = in_words(frame);
        let icmp = if packet.source.is_ipv4() { ICMP } else { ICMPV6 };
        if ![TCP, UDP, icmp].contains(&packet.protocol) {
            let protocol = protocol_in_words(packet.protocol);
            return Verdict::Guilty(format!("neither TCP, UDP nor ICMP but {protocol} behind IP: {words}"));
        }
        if !packet.options.is_empty() {
            return Verdict::Guilty(format!("{} octets of IPv4 options: {words}", packet.options.len()));
        }
        if (frame.source, frame.destination) != macs {
            let wanted = format!("{} -> {}", mac_in_words(macs.0), mac_in_words(macs.1));
            return Verdict::Guilty(format!("MACs are not {wanted}: {words}"));
        }
        let ttl = ttls.of(packet.source);
        if packet.ttl != ttl {
            return Verdict::Guilty(format!("TTL is {}, must be {ttl}: {words}", packet.ttl));
        }
        Verdict::Bare(Bare {
            way,
            protocol: protocol_in_words(packet.protocol),
            family: if packet.source.is_ipv4() { "IPv4" } else { "IPv6" },
            payload: packet.datagram().map(<[u8]>::to_vec),
            stream: packet.stream(),
            words,
        })
    }
}

/// The tunnel that a packet is of. A pod may use any port: between pods, ports say nothing.
fn tunnel(packet: &Packet<'_>, way: Option<Way>) -> Option<&'static str> {
    if let Some((_, name)) = TUNNELS.iter().find(|(protocol, _)| *protocol == packet.protocol) {
        return Some(name);
    }
    let (from, to) = packet.ports().filter(|_| packet.protocol == UDP && way.is_none())?;
    TUNNEL_PORTS.iter().find(|(port, _)| *port == from || *port == to).map(|(_, name)| *name)
}

fn in_words(frame: &Frame<'_>) -> String {
    let macs = format!("{} -> {}", mac_in_words(frame.source), mac_in_words(frame.destination));
    let ethertype = match frame.ethertype {
        ETHERTYPE_IPV4 => "0x0800 IPv4".to_owned(),
        ETHERTYPE_IPV6 => "0x86dd IPv6".to_owned(),
        other => format!("{other:#06x}"),
    };
    let Some(packet) = &frame.packet else { return format!("{macs}, EtherType {ethertype}") };
    let Packet { source, destination, ttl, payload, .. } = packet;
    let protocol = protocol_in_words(packet.protocol);
    let ports = packet.ports().map(|(from, to)| format!(" {from} -> {to}")).unwrap_or_default();
    let octets = payload.len();
    format!(
        "{macs}, EtherType {ethertype}, {source} -> {destination}, TTL {ttl}, {protocol}{ports}, {octets} octets"
    )
}

fn mac_in_words(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

fn protocol_in_words(protocol: u8) -> String {
    match protocol {
        UDP => "UDP".to_owned(),
        TCP => "TCP".to_owned(),
        ICMP => "ICMP".to_owned(),
        ICMPV6 => "ICMPv6".to_owned(),
        other => format!("protocol {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: [u8; 16] = *b"a mark of pods .";
    const NODE: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const SWITCH: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn expectation() -> Expectation {
        Expectation {
            mark: MARK,
            near: vec![address("10.244.11.5"), address("fd00:11::5")],
            far: vec![address("10.244.22.7"), address("fd00:22::7")],
            node_mac: NODE,
            switch_mac: SWITCH,
            ttl_out: PerFamily { ipv4: 63, ipv6: 63 },
            ttl_in: PerFamily { ipv4: 60, ipv6: 60 },
        }
    }

    fn ethernet(source: [u8; 6], destination: [u8; 6], ethertype: u16, rest: &[u8]) -> Vec<u8> {
        [&destination[..], &source, &ethertype.to_be_bytes(), rest].concat()
    }

    fn ip(source: &str, destination: &str, ttl: u8, protocol: u8, rest: &[u8]) -> Vec<u8> {
        match (address(source), address(destination)) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let length = (20 + rest.len() as u16).to_be_bytes();
                let header = [&[0x45, 0], &length[..], &[0, 0, 0x40, 0, ttl, protocol, 0, 0]].concat();
                [&header[..], &source.octets(), &destination.octets(), rest].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let length = (rest.len() as u16).to_be_bytes();
                let header = [&[0x60, 0, 0, 0], &length[..], &[protocol, ttl]].concat();
                [&header[..], &source.octets(), &destination.octets(), rest].concat()
            }
            _ => panic!("two families"),
        }
    }

    fn udp(to: u16, rest: &[u8]) -> Vec<u8> {
        let length = (8 + rest.len() as u16).to_be_bytes();
        [&40000_u16.to_be_bytes()[..], &to.to_be_bytes(), &length, &[0, 0], rest].concat()
    }

    fn marked() -> Vec<u8> {
        udp(7007, &[&MARK[..], b"1"].concat())
    }

    /// A pod's packet, as a tunnel would carry it.
    fn inner() -> Vec<u8> {
        ip("10.244.11.5", "10.244.22.7", 63, UDP, &marked())
    }

    fn judge(octets: Vec<u8>) -> Verdict {
        expectation().judge(&Captured { octets, tag: Tag::None })
    }

    #[track_caller]
    fn assert_guilty(octets: Vec<u8>, words: &str) {
        match judge(octets) {
            Verdict::Guilty(why) => assert!(why.contains(words), "{why}"),
            other => panic!("not guilty of {words}: {other:?}"),
        }
    }

    #[test]
    fn bare_packets_of_both_families_and_ways_pass() {
        let out = ethernet(NODE, SWITCH, ETHERTYPE_IPV4, &inner());
        let Verdict::Bare(bare) = judge(out) else { panic!("guilty") };
        assert_eq!(bare.kind(), "out IPv4 UDP");
        assert_eq!(
            bare.words,
            "02:00:00:00:00:01 -> 02:00:00:00:00:02, EtherType 0x0800 IPv4, 10.244.11.5 -> 10.244.22.7, TTL 63, UDP \
             40000 -> 7007, 25 octets"
        );
        assert_eq!(bare.payload.as_deref(), Some(&[&MARK[..], b"1"].concat()[..]));
        // A segment without any payload is known by its addresses.
        let syn = ip("fd00:22::7", "fd00:11::5", 60, TCP, &[0; 20]);
        let Verdict::Bare(bare) = judge(ethernet(SWITCH, NODE, ETHERTYPE_IPV6, &syn)) else {
            panic!("guilty")
        };
        assert_eq!((bare.kind().as_str(), bare.payload), ("in IPv6 TCP", None));
        let ends = ["[fd00:22::7]:0", "[fd00:11::5]:0"].map(|end| end.parse().expect("an end"));
        assert_eq!(bare.stream, Some(ends.into()));
        // A pod may well have the port of a tunnel.
        let ports = ip("10.244.11.5", "10.244.22.7", 63, UDP, &udp(51820, b""));
        assert!(matches!(judge(ethernet(NODE, SWITCH, ETHERTYPE_IPV4, &ports)), Verdict::Bare(_)));
    }

    #[test]
    fn what_others_say_on_the_link_is_not_the_pods() {
        let bgp = ip("172.16.11.1", "172.16.11.0", 1, TCP, &[0; 20]);
        assert_eq!(judge(ethernet(NODE, SWITCH, ETHERTYPE_IPV4, &bgp)), Verdict::NotPods);
        assert_eq!(judge(ethernet(SWITCH, NODE, 0x0806, &[0; 28])), Verdict::NotPods);
        assert_eq!(judge(vec![0; 13]), Verdict::NotPods);
    }

    #[test]
    fn tunnels_are_guilty() {
        let frame = ethernet(NODE, SWITCH, ETHERTYPE_IPV4, &inner());
        let vxlan = [&[8, 0, 0, 0, 0, 0, 1, 0][..], &frame].concat();
        for (port, words) in [(4789, "VXLAN"), (8472, "VXLAN on"), (6081, "Geneve"), (51820, "WireGuard")] {
            let outer = ip("10.255.1.1", "10.255.2.2", 63, UDP, &udp(port, &vxlan));
            assert_guilty(ethernet(NODE, SWITCH, ETHERTYPE_IPV4, &outer), words);
        }
        for (protocol, words) in [(4, "IPIP"), (47, "GRE"), (50, "ESP")] {
            let rest = if protocol == 47 { [&[0, 0, 8, 0][..], &inner()].concat() } else { inner() };
            let outer = ip("10.255.1.1", "10.255.2.2", 63, protocol, &rest);
            assert_guilty(ethernet(NODE, SWITCH, ETHERTYPE_IPV4, &outer), words);
            let outer = ip("fd00:1::1", "fd00:2::2", 63, protocol, &rest);
            assert_guilty(ethernet(NODE, SWITCH, ETHERTYPE_IPV6, &outer), words);
        }
        let in_ipv6 = ip("fd00:11::5", "fd00:22::7", 63, UDP, &marked());
        let outer = ip("10.255.1.1", "10.255.2.2", 63, 41, &in_ipv6);
        assert_guilty(ethernet(NODE, SWITCH, ETHERTYPE_IPV4, &outer), "IPv6 in IP");
        // Even between the pods' own addresses, and even if the mark cannot be seen.
        let hidden = ip("10.244.11.5", "10.244.22.7", 63, 50, &[0x5a; 64]);
        assert_guilty(ethernet(NODE, SWITCH, ETHERTYPE_IPV4, &hidden), "ESP");
        // A port that nobody knows: the mark tells.
        let unknown = ip("10.255.1.1", "10.255.2.2", 63, UDP, &udp(9999, &vxlan));
        assert_guilty(ethernet(NODE, SWITCH, ETHERTYPE_IPV4, &unknown), "not both pods'");
    }

    #[test]
    fn between_pods_anything_but_what_they_say_is_guilty() {
        for (protocol, words) in [
            (0, "protocol 0"),
            (43, "protocol 43"),
            (51, "protocol 51"),
            (60, "protocol 60"),
            (108, "protocol 108"),
            (115, "protocol 115"),
            (253, "protocol 253"),
        ] {
            // Options, a routing header (SRv6), AH, IPComp, L2TP: with the mark, and with nothing that can be seen.
            for rest in [&marked()[..], &[0x5a; 40]] {
                let packet = ip("fd00:11::5", "fd00:22::7", 63, protocol, rest);
                assert_guilty(ethernet(NODE, SWITCH, ETHERTYPE_IPV6, &packet), words);
                let packet = ip("10.244.11.5", "10.244.22.7", 63, protocol, rest);
                assert_guilty(ethernet(NODE, SWITCH, ETHERTYPE_IPV4, &packet), words);
            }
        }
        // An error about a datagram, and neighbours' questions.
        for (source, destination, protocol, ethertype) in [
            ("10.244.11.5", "10.244.22.7", 1, ETHERTYPE_IPV4),
            ("fd00:11::5", "fd00:22::7", 58, ETHERTYPE_IPV6),
        ] {
            let packet = ip(source, destination, 63, protocol, &[3, 3, 0, 0, 0, 0, 0, 0]);
            assert!(matches!(judge(ethernet(NODE, SWITCH, ethertype, &packet)), Verdict::Bare(_)));
        }
        let crossed = ip("fd00:11::5", "fd00:22::7", 63, 1, &[3; 8]);
        assert_guilty(ethernet(NODE, SWITCH, ETHERTYPE_IPV6, &crossed), "but ICMP behind IP");
    }

    #[test]
    fn ipv4_options_are_guilty() {
        let mut packet = inner();
        packet[0] = 0x46;
        packet.splice(20..20, [1, 1, 1, 0]);
        let length = packet.len() as u16;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        assert_guilty(ethernet(NODE, SWITCH, ETHERTYPE_IPV4, &packet), "IPv4 options");
    }

    #[test]
    fn tags_between_ethernet_and_ip_are_guilty() {
        let tagged = [&[0, 42, 8, 0][..], &inner()].concat();
        assert_guilty(ethernet(NODE, SWITCH, 0x8100, &tagged), "VLAN tag (802.1Q)");
        assert_guilty(ethernet(NODE, SWITCH, 0x8847, &tagged), "MPLS");
        assert_guilty(ethernet(NODE, SWITCH, 0x88b5, &tagged), "not IP");
        let octets = ethernet(NODE, SWITCH, ETHERTYPE_IPV4, &inner());
        let taken_off = expectation().judge(&Captured { octets, tag: Tag::Tagged });
        assert!(matches!(taken_off, Verdict::Guilty(why) if why.contains("VLAN tag")));
    }

    #[test]
    fn translated_packets_are_guilty() {
        let source = ip("10.255.1.1", "10.244.22.7", 63, UDP, &marked());
        assert_guilty(ethernet(NODE, SWITCH, ETHERTYPE_IPV4, &source), "not both pods'");
        let destination = ip("fd00:11::5", "fd00:2::2", 63, UDP, &marked());
        assert_guilty(ethernet(NODE, SWITCH, ETHERTYPE_IPV6, &destination), "not both pods'");
    }

    #[test]
    fn a_wrong_number_of_routers_and_wrong_macs_are_guilty() {
        for (ttl, way) in [(64, "out"), (62, "out"), (61, "in"), (63, "in")] {
            let (packet, macs) = if way == "out" {
                (ip("10.244.11.5", "10.244.22.7", ttl, UDP, &marked()), (NODE, SWITCH))
            } else {
                (ip("10.244.22.7", "10.244.11.5", ttl, UDP, &marked()), (SWITCH, NODE))
            };
            assert_guilty(ethernet(macs.0, macs.1, ETHERTYPE_IPV4, &packet), "TTL is");
        }
        assert_guilty(ethernet(SWITCH, NODE, ETHERTYPE_IPV4, &inner()), "MACs are not");
        assert_guilty(ethernet([2; 6], SWITCH, ETHERTYPE_IPV4, &inner()), "MACs are not");
    }

    #[test]
    fn octets_of_any_kind_do_no_harm() {
        let whole = ethernet(NODE, SWITCH, ETHERTYPE_IPV4, &inner());
        for end in 0..whole.len() {
            judge(whole[..end].to_vec());
            let mut bent = whole.clone();
            bent[end] ^= 0xff;
            judge(bent);
        }
    }
}
