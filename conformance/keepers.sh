#!/usr/bin/env bash
# The tests of the device door, on a log in a Kafka cluster (kfake, in memory) in place of one on files. Those that need
# files (power cuts, disks that fail, trims) skip themselves. One stays out: it wants a retained message to be gone from the
# count by the time of PUBCOMP, and a cluster tells a moment later.
set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp "${TMPDIR:-/tmp}/firth-keepers.XXXXXX")
trap 'rm -f "$log"' EXIT
FIRTH_TEST_KEEPER=cluster go test -count=1 -timeout 20m -v -skip '^TestClearWithQoS2$' ./internal/mqtt >"$log" 2>&1 || {
	grep -E '_test.go:' "$log" | tail -n 60 >&2
	grep -E '^ *--- FAIL|^panic' "$log" >&2
	echo "FAIL: the device door on a cluster" >&2
	exit 1
}
passed=$(grep -cE '^--- PASS' "$log") skipped=$(grep -cE '^--- SKIP' "$log")
[ "$passed" -ge 250 ] || { echo "FAIL: only $passed tests have run" >&2; exit 1; }
echo "the device door on a cluster: $passed passed, $skipped need files"
