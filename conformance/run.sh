#!/usr/bin/env bash
# Every gate, quick ones first; run.sh NAME... runs only those. A gate that cannot run has failed.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.." || exit 1
gates=(
	apt docs bridge bridge-out c operate tls sasl
	consoles
	node nodered python telegraf
	mqtt differential
	oidc sarama kafka-python
	spark flink
	java tools connect
	streams cluster keepers gateway
	kgo
)
if [ $# -eq 0 ]; then set -- "${gates[@]}"; fi
if [ -z "${FIRTH:-}" ]; then
	CGO_ENABLED=0 go build -trimpath -o build/firth ./cmd/firth || exit 1
	export FIRTH=$PWD/build/firth
fi
failed=()
n=0
for gate in "$@"; do
	n=$((n + 1))
	from=$SECONDS
	echo "conformance [$n/$#] $gate"
	if "$here/$gate.sh"; then
		echo "conformance [$n/$#] $gate passed in $((SECONDS - from)) s"
	else
		echo "conformance [$n/$#] $gate FAILED after $((SECONDS - from)) s"
		failed+=("$gate")
	fi
done
if [ ${#failed[@]} -gt 0 ]; then
	echo "conformance: failed: ${failed[*]}"
	exit 1
fi
echo "conformance: all $# gates passed"
