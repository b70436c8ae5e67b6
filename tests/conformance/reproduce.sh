#!/bin/sh
# Build the web example in two state roots, on two days: one digest. Then let `pybuild verify` say so.
#   tests/conformance/reproduce.sh [EXAMPLE]        # as root, with the network that apt and pip need
# PYBUILD names the command (default: .venv/bin/pybuild). The steps run under the kernel's clock; what is faked is ours.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
example=${1:-$here/Containerfiles/examples/web}
export PYBUILD="${PYBUILD:-$here/.venv/bin/pybuild}" FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset SOURCE_DATE_EPOCH

one() { PYBUILD_ROOT="$work/one" "$@"; }
two() { PYBUILD_ROOT="$work/two" faketime -f +40d "$@"; }

one "$here/Containerfiles/bases" debian >&2
one "$PYBUILD" save -o "$work/base.tar" debian:latest
two "$PYBUILD" load -i "$work/base.tar" >&2
first=$(one "$PYBUILD" build --progress quiet --network host -t web:1 "$example")
second=$(two "$PYBUILD" build --progress quiet --network host -t web:1 "$example")
echo "today:          $first"
echo "in forty days:  $second"
[ "$first" = "$second" ]
one "$PYBUILD" verify web:1 -- --progress quiet --network host "$example"
