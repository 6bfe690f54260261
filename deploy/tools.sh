#!/usr/bin/env bash
# Installs what the demo, the tests or the benchmarks need from the distribution, unless it is there already.
# usage: tools.sh demo|test|bench
set -euo pipefail

say() { echo "cambric: $*" >&2; }

# What is asked of the machine itself cannot be installed: one line that says what is missing.
[ "$(id -u)" = 0 ] || { say "this needs root: it makes network namespaces"; exit 1; }
[ "$(uname -s)" = Linux ] || { say "this needs Linux"; exit 1; }

declare -A package=([/bin/ip]=iproute2)
if [ "${1:-}" = bench ]; then
    package+=(
        [/usr/sbin/iptables-nft]=iptables
        [/usr/sbin/ipset]=ipset
        [/usr/sbin/bird]=bird2
        [/usr/bin/gobgpd]=gobgpd
        [/usr/lib/frr/bgpd]=frr
    )
else
    package+=(
        [/usr/lib/frr/bgpd]=frr
        [/usr/bin/vtysh]=frr
        [/bin/ping]=iputils-ping
        [/sbin/sysctl]=procps
    )
fi
if [ "${1:-}" = test ]; then
    package+=(
        # Of libFuzzer.
        [/usr/bin/c++]=g++
        [/usr/sbin/bird]=bird2
        [/usr/bin/gobgpd]=gobgpd
        # Any version does; this one is Debian's, 1.20.
        [/usr/bin/kubectl]=kubernetes-client
        [/usr/lib/cni/ptp]=containernetworking-plugins
        [/usr/bin/containerd]=containerd
        [/usr/sbin/runc]=runc
        [/bin/busybox]=busybox-static
        [/usr/sbin/ipset]=ipset
        [/usr/sbin/iptables-nft]=iptables
        [/usr/sbin/nft]=nftables
        # Containers of the image; nothing of it is started on this machine but by the tests.
        [/usr/sbin/dockerd]=docker.io
        [/usr/sbin/debootstrap]=debootstrap
    )
fi

missing=()
for file in "${!package[@]}"; do
    [ -e "$file" ] || missing+=("${package[$file]}")
done
if [ "${1:-}" = test ] && ! /usr/bin/python3 -c 'import jsonschema, yaml' 2>/dev/null; then
    missing+=(python3-jsonschema python3-yaml)
fi
if [ "${1:-}" = test ] && ! /usr/bin/python3 -c 'import grpc, grpc_tools' 2>/dev/null; then
    missing+=(python3-grpcio python3-grpc-tools)
fi
if [ ${#missing[@]} -gt 0 ]; then
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    command -v apt-get >/dev/null || { say "please install: ${missing[*]}"; exit 1; }
    say "installing ${missing[*]}"
    apt-get update -qq
    # Daemons that come along are for the labs: none shall start on this machine.
    # What the administrator has put there stays.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# What the kernel must have. A throw-away pair of namespaces tells.
probe="cambric-probe-$$"
cleanup() {
    ip netns del "$probe" 2>/dev/null || true
    [ -z "${policy:-}" ] || rm -f "$policy"
}
trap cleanup EXIT
ip netns add "$probe" 2>/dev/null || { say "this kernel or container does not allow network namespaces"; exit 1; }
try() { ip -n "$probe" "$@" 2>/dev/null; }
try link add probe0 type veth peer name probe1 || { say "this kernel has no veth devices"; exit 1; }
try address add 192.0.2.1/24 dev probe0 && try link set probe0 up && try link set probe1 up
[ -d /proc/sys/net/ipv6 ] || { say "this kernel has IPv6 turned off"; exit 1; }
unshare --mount --pid --fork true 2>/dev/null || { say "this kernel or container does not allow mount and PID namespaces"; exit 1; }
unshare --mount sh -c 'd=$(mktemp -d) && mount -t tmpfs none "$d" && mkdir "$d/u" "$d/w" "$d/m" &&
    mount -t overlay -o "lowerdir=/etc,upperdir=$d/u,workdir=$d/w" none "$d/m"; e=$?; umount -l "$d"; rmdir "$d"; exit $e' 2>/dev/null ||
    { say "this kernel has no overlayfs, or does not allow it here"; exit 1; }
try nexthop add id 1 via 192.0.2.2 dev probe0 || { say "this kernel has no next-hop objects (Linux 5.3 has)"; exit 1; }
