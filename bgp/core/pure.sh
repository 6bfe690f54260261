#!/usr/bin/env bash
# The protocol core depends on no runtime, no cluster and no socket: its whole tree of dependencies is looked at.
set -euo pipefail
tree=$(cargo tree --locked -p cambric-bgp -e normal --prefix none --format '{p}' | awk '{print $1}' | sort -u)
forbidden='^(tokio|mio|async-std|smol|socket2|kube.*|k8s-openapi|hyper|rtnetlink|netlink-.*|nix|rustix|libc)$'
if found=$(grep -E "$forbidden" <<<"$tree"); then
    echo "bgp/core must not depend on: $(tr '\n' ' ' <<<"$found")" >&2
    exit 1
fi
# All lines of the crate above its tests, which stand last in a file.
untested() {
    find bgp/core/src -name '*.rs' ! -name tests.rs -exec awk '/^#\[cfg\(test\)\]/ {nextfile} {print FILENAME ":" FNR ": " $0}' {} +
}
# Nor may it do by the standard library what it may not do by a crate.
if found=$(untested | grep -E 'std::net::(Tcp|Udp)|std::(fs|process|thread|env)\b|Instant::now|SystemTime'); then
    echo "bgp/core must not touch the system: $found" >&2
    exit 1
fi
echo "bgp/core is pure: $(wc -w <<<"$tree") crates, none of them a runtime, a cluster client or a socket"
