#!/usr/bin/env bash
# What is in an image whose files lie in one tar: its files, their sum, and whether that is little enough.
# usage: measure.sh FILES.tar LIMIT_BYTES
set -euo pipefail
tar --list --verbose --file "$1" | awk '{ print "  " $1, $3, "/" $6 } /^-/ { sum += $3; files++ } END { print "  " files " files, " sum " bytes" }'
bytes=$(tar --list --verbose --file "$1" | awk '/^-/ { sum += $3 } END { print sum + 0 }')
[ "$bytes" -le "$2" ] || { echo "cambric: the image has $bytes bytes, more than $2" >&2; exit 1; }
