#!/usr/bin/env bash
# Every gate, quick ones first; run.sh NAME... runs only those. A gate that cannot run has failed.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.." || exit 1
gates=(
	apt package docs bridge bridge-out c operate tls sasl
	consoles
	console
	node nodered python telegraf
	mqtt differential
	oidc s3 sarama kafka-python
	spark flink
	java tools connect
	streams cluster keepers gateway gateways
	kgo
)
if [ $# -eq 0 ]; then set -- "${gates[@]}"; fi
if [ -z "${FIRTH:-}" ]; then
	CGO_ENABLED=0 go build -trimpath -o build/firth ./cmd/firth || exit 1
	export FIRTH=$PWD/build/firth
fi
failed=()
log=$(mktemp "${TMPDIR:-/tmp}/firth-gate.XXXXXX")
CONFORMANCE_SHARED=$(mktemp -d "${TMPDIR:-/tmp}/firth-shared.XXXXXX")
export CONFORMANCE_SHARED
trap 'rm -rf "$log" "$log".* "$CONFORMANCE_SHARED"' EXIT
n=0
for gate in "$@"; do
	n=$((n + 1))
	from=$SECONDS
	echo "conformance [$n/$#] $gate"
	exec {out}> >(exec tee "$log")
	tee=$!
	"$here/$gate.sh" >&"$out" 2>&1
	status=$?
	exec {out}>&-
	timeout 10 tail --pid=$tee -s 0.05 -f /dev/null # it has written all, unless a process of the gate lives on
	if [ $status -eq 0 ]; then
		echo "conformance [$n/$#] $gate passed in $((SECONDS - from)) s"
	else
		echo "conformance [$n/$#] $gate FAILED after $((SECONDS - from)) s"
		failed+=("$gate")
		tail -n 150 "$log" >"$log.$gate"
	fi
done
if [ ${#failed[@]} -gt 0 ]; then
	for gate in "${failed[@]}"; do # again, because the end of what CI prints is what is read
		echo "conformance: the end of $gate:"
		sed 's/^/  /' "$log.$gate"
	done
	echo "conformance: failed: ${failed[*]}"
	exit 1
fi
echo "conformance: all $# gates passed"
