//! Pods: network namespaces of their own, each behind a veth whose host end is in the test's namespace.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cambric_policy::program::Family;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

use crate::common::run;

/// A pod. Its number makes its names and addresses.
pub(crate) struct Pod {
    number: u8,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Pod {
    /// Wires it, with neighbours learned as usual in IPv4 and known for good in IPv6.
    pub(crate) fn new(number: u8) -> Pod {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
            tell.send(gettid()).expect("sent");
            queue.into_iter().for_each(|job| job());
        });
        let pod = Pod { number, jobs: Some(jobs), thread: Some(thread) };
        let (veth, thread) = (pod.veth(), told.recv().expect("told"));
        for family in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{family}"), "1").expect("forwarding");
        }
        run(&format!(
            "ip link add {veth} address {} type veth peer name eth0 address {} netns {thread}",
            mac(number, 1),
            mac(number, 2)
        ));
        run(&format!("ip link set {veth} up"));
        run(&format!("ip addr add 10.0.{number}.1/24 dev {veth}"));
        run(&format!("ip addr add fd00:{number}::1/64 dev {veth} nodad"));
        run(&format!("ip neigh add fd00:{number}::2 lladdr {} dev {veth} nud permanent", mac(number, 2)));
        pod.inside(move || {
            std::fs::write("/proc/sys/net/ipv6/conf/all/accept_dad", "0").expect("no probing");
            std::fs::write("/proc/sys/net/ipv6/conf/eth0/accept_dad", "0").expect("no probing");
            run("ip link set lo up");
            run("ip link set eth0 up");
            run(&format!("ip addr add 10.0.{number}.2/24 dev eth0"));
            run(&format!("ip addr add fd00:{number}::2/64 dev eth0 nodad"));
            run(&format!("ip route add default via 10.0.{number}.1"));
            run(&format!("ip neigh add fd00:{number}::1 lladdr {} dev eth0 nud permanent", mac(number, 1)));
            run(&format!("ip route add default via fd00:{number}::1"));
        });
        pod
    }

    /// The host end of its veth.
    pub(crate) fn veth(&self) -> String {
        format!("camtest{}", self.number)
    }

    /// Its address.
    pub(crate) fn address(&self, family: Family) -> IpAddr {
        let text = match family {
            Family::Ipv4 => format!("10.0.{}.2", self.number),
            Family::Ipv6 => format!("fd00:{}::2", self.number),
        };
        text.parse().expect("an address")
    }

    /// Does something in its network namespace.
    pub(crate) fn inside<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let job = Box::new(move || drop(tell.send(job())));
        self.jobs.as_ref().expect("it lives").send(job).expect("it lives");
        told.recv().expect("what was done in the pod did not panic")
    }

    /// A UDP socket of the pod at a port of its address (0: any).
    pub(crate) fn socket(&self, family: Family, port: u16) -> UdpSocket {
        let address = SocketAddr::new(self.address(family), port);
        self.inside(move || {
            let socket = UdpSocket::bind(address).expect("bound");
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
            socket
        })
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn mac(pod: u8, end: u8) -> String {
    format!("02:00:00:00:{pod:02x}:{end:02x}")
}
