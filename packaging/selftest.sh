#!/usr/bin/env bash
# Tries binaries of any architecture of Linux, by qemu-user where that is not this machine's: selftest.sh BINARY...
# Each serves on free ports, takes a message through both doors, is told to end, and leaves a log without findings.
set -euo pipefail
declare -A emulators=([arm]=qemu-arm-static [arm64]=qemu-aarch64-static [riscv64]=qemu-riscv64-static
	[amd64]=qemu-x86_64-static)
work=$(mktemp -d "${TMPDIR:-/tmp}/firth-selftest.XXXXXX")
pid=
finish() {
	local status=$?
	if [ -n "$pid" ]; then kill -9 "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; fi
	if [ $status -ne 0 ] && [ -s "$work/firth.log" ]; then tail -n 40 "$work/firth.log" >&2; fi
	rm -rf "$work"
	exit $status
}
trap finish EXIT
fail() {
	echo "FAIL: $binary: $*" >&2
	exit 1
}

selftest() {
	local arch mqtt kafka until=$((SECONDS + 120))
	local run=()
	arch=$(go version -m "$binary" | sed -n 's/^\tbuild\tGOARCH=//p')
	if [ "$arch" != "$(go env GOHOSTARCH)" ]; then
		run=("${emulators[$arch]}")
		command -v "${run[0]}" >/dev/null || fail "qemu-user-static is not installed"
	fi
	rm -rf "$work/data" "$work/ready"
	"${run[@]}" "$binary" version
	"${run[@]}" "$binary" serve --data "$work/data" --set listen.mqtt=0 --set listen.ws=0 --set listen.kafka=0 \
		--set listen.http=0 --ready-file "$work/ready" >"$work/firth.log" 2>&1 &
	pid=$!
	until [ -s "$work/ready" ]; do
		kill -0 "$pid" 2>/dev/null || fail "did not start"
		[ $SECONDS -lt $until ] || fail "does not serve"
		sleep 0.1
	done
	address() { sed -n "s/.*\"$1\":\"\\([^\"]*\\)\".*/\\1/p" "$work/ready"; }
	mqtt=$(address mqtt) kafka=$(address kafka)
	"${run[@]}" "$binary" pub -p "${mqtt##*:}" -q 1 -t sensors/room1/temp -m 21.5
	"${run[@]}" "$binary" consume -b "$kafka" sensors -o beginning -e -f '%k %s\n' >"$work/consumed"
	[ "$(cat "$work/consumed")" = "sensors/room1/temp 21.5" ] || fail "no message came through: $(cat "$work/consumed")"
	kill -TERM "$pid"
	wait "$pid" || fail "ended with status $?"
	pid=
	if grep 'level=ERROR' "$work/firth.log" >&2; then fail "logged errors"; fi
	"${run[@]}" "$binary" log check "$work/data"
}

for binary in "$@"; do selftest; done
