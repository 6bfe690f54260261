//! What others have on a node: of every kind that Cambric has, and named as alike as can be.

use std::io::Write;

use anyhow::Result;
use cambric_lab::Node;

/// Typed one after another.
const COMMANDS: [&str; 32] = [
    "ip nexthop add id 203000777 via 192.0.2.0 dev eth1 proto 99",
    "ip nexthop add id 203500777 group 203000777 proto 99",
    "ip route add 203.0.113.128/25 nhid 203500777 proto 99",
    "ip route add 203.0.113.64/27 via 192.0.2.2 dev eth2 metric 203 proto static",
    "ip route add 203.0.113.96/27 via 192.0.2.2 dev eth2 proto 203 table 100",
    "ip route add unreachable 203.0.113.32/27 metric 203 proto static",
    "ip -6 route add 2001:db8:fff::/64 via 2001:db8:0:11:: dev eth1 metric 203 proto 99",
    "ip rule add from 203.0.113.7 lookup 100 pref 203",
    "ip neighbour add 192.0.2.77 lladdr 02:ca:3b:00:00:01 dev eth1 nud permanent",
    "ip link add camera0 type veth peer name lens0",
    "ip link add cam0123456789ab type bridge",
    "ip link set cam0123456789ab alias uplink-of-somebody",
    "ip link add camfedcba987654 type veth peer name other0",
    "ip link set camera0 up",
    "ip link set lens0 up",
    "ip address add 203.0.113.9/32 dev camera0",
    "nft add table ip cambric2",
    "nft add chain ip cambric2 forward { type filter hook forward priority 0 ; }",
    "nft add rule ip cambric2 forward iifname camera0 counter",
    "nft add table inet cambric",
    "nft add chain inet cambric forward { type filter hook forward priority 0 ; }",
    "nft add table bridge cambric",
    "ipset create cam4other hash:ip",
    "ipset add cam4other 203.0.113.1",
    "ipset create camfoo hash:net family inet6",
    "ipset create cam4paaaa hash:net",
    "iptables -A FORWARD -m set --match-set cam4other src -j ACCEPT",
    "ip6tables -A FORWARD -m set --match-set camfoo dst -j DROP",
    // An interface that forwards on a node that does not.
    "sysctl -q -w net.ipv4.conf.eth2.forwarding=1",
    "sysctl -q -w net.ipv6.conf.eth2.forwarding=1",
    "sysctl -q -w net.ipv6.conf.eth1.accept_ra=1",
    "sysctl -q -w net.ipv4.conf.eth1.send_redirects=0",
];

const FILES: [(&str, &str); 5] = [
    ("/etc/cni/net.d/87-other.conflist", "{\"cniVersion\":\"1.0.0\",\"name\":\"other\",\"plugins\":[]}"),
    ("/etc/cni/net.d/10-cambric.conflist.bak", "of the operator"),
    ("/opt/cni/bin/loopback", "the real one"),
    ("/opt/cni/bin/cambric-cni-old", "of the operator"),
    ("/opt/cni/bin/bridge", "a plugin"),
];

pub(crate) fn settle(node: &Node) -> Result<()> {
    for command in COMMANDS {
        node.run_ok(&command.split(' ').collect::<Vec<_>>())?;
    }
    for (path, text) in FILES {
        std::fs::File::create(node.path(path))?.write_all(text.as_bytes())?;
    }
    Ok(())
}
