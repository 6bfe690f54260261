#!/usr/bin/env bash
# The protocol cores, BGP and BFD, depend on no runtime, no cluster and no socket: their whole trees of dependencies are
# looked at.
set -euo pipefail
forbidden='^(tokio|mio|async-std|smol|socket2|kube.*|k8s-openapi|hyper|rtnetlink|netlink-.*|nix|rustix|libc)$'

# All lines of a crate above its tests, which stand last in a file, or in one of their own.
untested() {
    find "$1/src" -name '*.rs' ! -name tests.rs -exec awk '/^#\[cfg\(test\)\]/ {nextfile} {print FILENAME ":" FNR ": " $0}' {} +
}

is_pure() {
    local package=$1 folder=$2 tree found
    tree=$(cargo tree --locked -p "$package" -e normal --prefix none --format '{p}' | awk '{print $1}' | sort -u)
    if found=$(grep -E "$forbidden" <<<"$tree"); then
        echo "$folder must not depend on: $(tr '\n' ' ' <<<"$found")" >&2
        exit 1
    fi
    # Nor may it do by the standard library what it may not do by a crate.
    if found=$(untested "$folder" | grep -E 'std::net::(Tcp|Udp)|std::(fs|process|thread|env)\b|Instant::now|SystemTime'); then
        echo "$folder must not touch the system: $found" >&2
        exit 1
    fi
    echo "$folder is pure: $(wc -w <<<"$tree") crates, none of them a runtime, a cluster client or a socket"
}

is_pure cambric-bgp bgp/core
is_pure cambric-bfd bgp/bfd
