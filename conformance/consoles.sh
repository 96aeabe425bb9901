#!/usr/bin/env bash
# The calls that Redpanda Console, kafka-ui and AKHQ make of a cluster.
set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
go test -count=1 -timeout 15m -v ./conformance/consoles >"$log" 2>&1 || { grep -v level=INFO "$log" >&2; exit 1; }
passed=$(grep -cE '^ {8}--- PASS' "$log")
[ "$passed" -ge 80 ] || { echo "FAIL: only $passed calls were made" >&2; exit 1; }
echo "consoles: $passed calls passed"
