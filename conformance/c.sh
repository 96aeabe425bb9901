#!/usr/bin/env bash
# Eclipse Paho's C client, as apt has it: synchronous, and asynchronous across a restart.
# shellcheck source=conformance/lib.sh
. "$(dirname "$0")/lib.sh"
"$here/install.sh" build paho-c
for form in client:paho-mqtt3c async:paho-mqtt3a; do
	gcc -O1 -Wall -Wextra -Werror -pthread -o "$work/${form%:*}" "$here/c/${form%:*}.c" "-l${form#*:}"
done
start_firth
timeout 300 "$work/client"
mkdir "$work/inflight"
: >"$work/async.out"
timeout 300 "$work/async" "$work/inflight" > >(tee "$work/async.out" | grep --line-buffered -v '^restart$') &
async=$!
others+=("$async")
asked() { grep -q '^restart$' "$work/async.out" || ! kill -0 "$async" 2>/dev/null; }
wait_for 120 "wish for a restart" asked
stop_firth
start_firth --set "listen.mqtt=$mqtt"
wait "$async" || fail "async ended with status $?"
stop_firth
echo "Paho C: all passed"
