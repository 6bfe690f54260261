//! A client, a node and a pod behind it, each in a namespace of its own, and packets from one end to the other.
//!
//! On veth devices the whole way of a packet, through the node to the other's socket, is gone in the thread that sends it. So
//! the CPU time of that thread is the cost of the way, and what else the machine does is hardly in it.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use netlink_sys::{Socket as Netlink, SocketAddr as NetlinkAddr, protocols::NETLINK_NETFILTER};
use socket2::{Domain, Protocol, Socket, Type};

use crate::clock::thread_time;
use crate::namespace::Namespace;

/// Who sends.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// The UDP port that the pods' policies let the client reach; no other.
pub(crate) const PORT: u16 = 5001;

const PAYLOAD: [u8; 32] = [0; 32];
const HEADERS_BYTES: usize = 28;
/// Where source ports of new flows begin.
const FIRST_SOURCE_PORT: u16 = 1024;

/// Address of the pod with this number on its node.
pub(crate) fn address(pod: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0a08_0001 + (pod / 250 * 256 + pod % 250) as u32)
}

/// The node's end of that pod's veth.
pub(crate) fn veth(pod: usize) -> String {
    format!("cam{pod:04x}")
}

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client to the pod: what policies call ingress.
    ToPod,
    /// From the pod to the client.
    FromPod,
}

/// Client, node and pod, and the sockets of both ends.
#[derive(Debug)]
pub(crate) struct Site {
    node: Namespace,
    to_pod: Ends,
    from_pod: Ends,
    /// To the node's connection tracking.
    conntrack: Netlink,
}

/// Who sends and who is sent to. The sockets keep their namespaces alive.
#[derive(Debug)]
struct Ends {
    /// Of the established flow.
    flow: UdpSocket,
    /// Sends packets of any source port.
    raw: Socket,
    /// With so little room that what comes in a burst is dropped there and then: the same cost for all.
    sink: UdpSocket,
    from: Ipv4Addr,
    to: SocketAddrV4,
    /// Counters of the receiver's interface.
    counters: File,
}

impl Site {
    /// One whose pod has this number; its node has no rules yet.
    pub(crate) fn new(pod_number: usize) -> Result<Self> {
        let [client, node, pod] = [Namespace::new()?, Namespace::new()?, Namespace::new()?];
        let (address, veth) = (address(pod_number), veth(pod_number));
        node.enter(|| Ok(std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?)).context("ip_forward")?;
        let links = format!(
            "link add up0 type veth peer name eth0 netns {client}\n\
             link add {veth} type veth peer name eth0 netns {pod}\n\
             address add 10.9.0.1/24 dev up0\n\
             link set up0 up\n\
             address add 169.254.1.1/32 dev {veth}\n\
             link set {veth} up\n\
             route add {address}/32 dev {veth}\n",
            client = client.path(),
            pod = pod.path(),
        );
        node.run("ip", "-batch -", &links)?;
        let links =
            format!("address add {CLIENT}/24 dev eth0\nlink set eth0 up\nroute add default via 10.9.0.1\n");
        client.run("ip", "-batch -", &links)?;
        let links = format!(
            "address add {address}/32 dev eth0\nlink set eth0 up\n\
             route add 169.254.1.1 dev eth0\nroute add default via 169.254.1.1\n"
        );
        pod.run("ip", "-batch -", &links)?;
        let to_pod = Ends::new(&client, CLIENT, &pod, address)?;
        let from_pod = Ends::new(&pod, address, &client, CLIENT)?;
        let conntrack = node.enter(|| Ok(Netlink::new(NETLINK_NETFILTER)?))?;
        Ok(Self { node, to_pod, from_pod, conntrack })
    }

    /// Where rules go.
    pub(crate) fn node(&self) -> &Namespace {
        &self.node
    }

    /// Makes sure that packets to the port of the rules pass.
    pub(crate) fn passes(&self, way: Way) -> Result<()> {
        self.ends(way).establish()
    }

    /// Whether a packet to another port comes through.
    pub(crate) fn leaks(&self, way: Way) -> Result<bool> {
        let ends = self.ends(way);
        let before = ends.came()?;
        ends.send(FIRST_SOURCE_PORT, PORT + 1)?;
        Ok(ends.came()? > before)
    }

    /// CPU nanoseconds a packet of one established flow.
    pub(crate) fn established(&self, way: Way, packets: u16) -> Result<f64> {
        let ends = self.ends(way);
        ends.establish()?;
        ends.burst(packets, |_| Ok(ends.flow.send(&PAYLOAD).map(drop)?))
    }

    /// CPU nanoseconds a packet that begins a flow.
    pub(crate) fn new_flows(&self, way: Way, packets: u16) -> Result<f64> {
        let ends = self.ends(way);
        self.forget_flows()?;
        ends.burst(packets, |n| ends.send(FIRST_SOURCE_PORT + n, PORT))
    }

    fn ends(&self, way: Way) -> &Ends {
        match way {
            Way::ToPod => &self.to_pod,
            Way::FromPod => &self.from_pod,
        }
    }

    /// Empties the node's connection tracking: each burst finds it as the one before.
    fn forget_flows(&self) -> Result<()> {
        /// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE`; without a tuple: all.
        const DELETE: u16 = 1 << 8 | 2;
        /// `NLM_F_REQUEST | NLM_F_ACK`
        const FLAGS: u16 = 5;
        let mut message = [0; 20];
        message[0..4].copy_from_slice(&20_u32.to_ne_bytes());
        message[4..6].copy_from_slice(&DELETE.to_ne_bytes());
        message[6..8].copy_from_slice(&FLAGS.to_ne_bytes());
        self.conntrack.send_to(&message, &NetlinkAddr::new(0, 0), 0)?;
        let (answer, _) = self.conntrack.recv_from_full()?;
        let error = answer.get(16..20).and_then(|octets| octets.try_into().ok()).map(i32::from_ne_bytes);
        ensure!(error == Some(0), "connection tracking cannot be emptied: {error:?}");
        Ok(())
    }
}

impl Ends {
    fn new(sender: &Namespace, from: Ipv4Addr, receiver: &Namespace, to: Ipv4Addr) -> Result<Self> {
        let to = SocketAddrV4::new(to, PORT);
        let (flow, raw) = sender.enter(|| {
            let flow = UdpSocket::bind((from, 0))?;
            flow.connect(to)?;
            // IPPROTO_RAW: the IP header is ours (raw(7)).
            Ok((flow, Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?))
        })?;
        let (sink, counters) = receiver.enter(|| {
            let sink = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
            sink.set_recv_buffer_size(1)?;
            sink.bind(&to.into())?;
            Ok((UdpSocket::from(sink), File::open("/proc/thread-self/net/dev")?))
        })?;
        flow.set_nonblocking(true)?;
        sink.set_nonblocking(true)?;
        Ok(Self { flow, raw, sink, from, to, counters })
    }

    /// Sends and answers until both ends have heard each other: then the flow is established.
    fn establish(&self) -> Result<()> {
        let start = Instant::now();
        let mut buffer = [0; 64];
        while start.elapsed() < Duration::from_secs(5) {
            while self.sink.recv_from(&mut buffer).is_ok() {}
            self.flow.send(&PAYLOAD)?;
            let came =
                self.sink.recv_from(&mut buffer).and_then(|(_, from)| self.sink.send_to(&PAYLOAD, from));
            let answered = came.and_then(|_| self.flow.recv(&mut buffer));
            match answered {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        bail!("no packet comes back from {} within 5 s", self.to)
    }

    /// CPU nanoseconds a packet of so many; all of them have to come.
    fn burst(&self, packets: u16, send: impl Fn(u16) -> Result<()>) -> Result<f64> {
        let came_before = self.came()?;
        let before = thread_time()?;
        for n in 0..packets {
            send(n)?;
        }
        let spent = thread_time()? - before;
        let came = self.came()? - came_before;
        ensure!(came >= u64::from(packets), "only {came} of {packets} packets came to {}", self.to);
        Ok(spent.as_nanos() as f64 / f64::from(packets))
    }

    /// Sends one UDP packet with this source port.
    fn send(&self, from_port: u16, to_port: u16) -> Result<()> {
        let mut packet = [0; HEADERS_BYTES + PAYLOAD.len()];
        let length = packet.len() as u16;
        // RFC 791 section 3.1; the kernel fills identification and checksum in.
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet[8] = 64;
        packet[9] = 17;
        packet[12..16].copy_from_slice(&self.from.octets());
        packet[16..20].copy_from_slice(&self.to.ip().octets());
        // RFC 768; checksum 0: none was made.
        packet[20..22].copy_from_slice(&from_port.to_be_bytes());
        packet[22..24].copy_from_slice(&to_port.to_be_bytes());
        packet[24..26].copy_from_slice(&(length - 20).to_be_bytes());
        self.raw.send_to(&packet, &self.to.into())?;
        Ok(())
    }

    /// Packets that came to the receiver's interface so far.
    fn came(&self) -> Result<u64> {
        let mut text = String::new();
        let mut file = &self.counters;
        file.rewind()?;
        file.read_to_string(&mut text)?;
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix("eth0:"));
        let packets = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        packets.context("counters of the receiver's interface")
    }
}
