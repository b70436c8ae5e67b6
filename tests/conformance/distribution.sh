#!/bin/sh
# Runs the conformance suite of the OCI Distribution specification against a registry of ours on loopback, as of version
# 1.1 and as of the specification's head, where only sparse manifests are off: they name layers that were never pushed.
#
#   tests/conformance/distribution.sh [pybuild]
#
# Needs go. Exit code 0 only when nothing failed, nothing was skipped, and the suite has written its results: by itself it
# is content when it could not write them, and counts "unsupported" answers as skips.
set -eu

pybuild=${1:-.venv/bin/pybuild}
suite=github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111
work=$(mktemp -d)
server=
trap 'test -z "$server" || { kill "$server" && wait "$server"; } || true; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

check() { # version, statuses that must not occur
    OCI_REGISTRY=$address OCI_TLS=disabled OCI_VERSION=$1 OCI_RESULTS_DIR="$work/results-$1" \
        OCI_REPO1="suite-$1/one" OCI_REPO2="suite-$1/two" "$work/conformance" >"$work/out" 2>&1 || {
        grep -v ': Pass$' "$work/out" >&2
        return 1
    }
    test -s "$work/results-$1/results.yaml" || { echo "version $1: no results were written" >&2; return 1; }
    if grep -E ":[[:space:]]*($2)\$" "$work/out" | grep -v '^  Sparse Manifests' >&2; then
        echo "version $1: these did not pass" >&2
        return 1
    fi
    echo "version $1: $(grep -c ':[[:space:]]*Pass$' "$work/out") cases and groups passed, none failed or skipped"
}

GOBIN="$work" go install "$suite" 2>"$work/go.log" || { cat "$work/go.log" >&2; exit 1; }
"$pybuild" --root "$work/root" registry serve --addr 127.0.0.1:0 --quiet 2>"$work/log" &
server=$!
tries=0
until address=$(sed -n 's|.* on http://||p' "$work/log") && test -n "$address"; do
    tries=$((tries + 1))
    test $tries -lt 100 || { cat "$work/log" >&2; exit 1; }
    sleep 0.1
done
failed=0
check 1.1 'FAIL|Skip|Error|Unknown' || failed=1
check dev 'FAIL|Skip|Error|Unknown|Disabled' || failed=1
exit $failed
