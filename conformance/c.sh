#!/usr/bin/env bash
# Eclipse Paho's C client, as apt has it: synchronous, and asynchronous across a restart.
# shellcheck source=conformance/lib.sh
. "$(dirname "$0")/lib.sh"
"$here/install.sh" build paho-c
for form in client:paho-mqtt3c async:paho-mqtt3a; do
	gcc -O1 -Wall -Wextra -Werror -pthread -o "$work/${form%:*}" "$here/c/${form%:*}.c" "-l${form#*:}"
done
start_firth
timeout 900 "$work/client"
mkdir "$work/inflight"
through_restart 120 async "$work/async" "$work/inflight"
stop_firth
echo "Paho C: all passed"
