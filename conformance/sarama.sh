#!/usr/bin/env bash
# sarama, at the versions of the protocol that it took and takes for granted and at the newest; and Shopify's of before.
# Its module is its own.
. "$(dirname "$0")/lib.sh"
cd "$here/sarama"
export GOWORK=off
"$again" go mod download
go vet .
go test -c -o "$work/sarama.test" .
start_firth
# Most of them wait for groups to be formed: all at once.
timeout 900 "$work/sarama.test" -test.v -test.parallel 32 -test.timeout 880s >"$work/sarama.log" 2>&1 ||
	{ grep -vE '^ *(=== |--- PASS)' "$work/sarama.log" >&2 || true; fail "sarama"; }
if grep -E '^ *--- SKIP' "$work/sarama.log" >&2; then fail "tests were skipped"; fi
passed=$(grep -cE '^ *--- PASS' "$work/sarama.log")
[ "$passed" -ge 50 ] || fail "only $passed tests have run"
stop_firth
echo "sarama: $passed passed"
