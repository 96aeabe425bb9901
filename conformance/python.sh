#!/usr/bin/env bash
# confluent-kafka (librdkafka) and paho-mqtt, as pip has them; and what Home Assistant does with the latter.
. "$(dirname "$0")/lib.sh"
"$here/install.sh" python
venv "$here/python/requirements.txt"
start_firth
timeout 600 "$python" "$here/python/gate.py"
timeout 900 "$python" -W ignore::DeprecationWarning "$here/python/admin.py"
# The lines that docs/transactions.md tells to paste, once more than it takes: the last time there is nothing left to do.
awk '/^```python$/ { on = 1; next } /^```$/ { on = 0 } on' "$repo/docs/transactions.md" |
	sed "s/127.0.0.1:9092/$kafka/; s/timeout=10/timeout=4/" >"$work/alarms.py"
grep -q send_offsets_to_transaction "$work/alarms.py" || fail "docs/transactions.md has no Python"
for temperature in 95 20; do "$firth" pub -p "$mqtt_port" -q 1 -t sensors/room1/temp -m $temperature; done
alarms() { "$firth" consume alarms -b "$kafka" -e -f '%k %s\n' 2>/dev/null || true; }
alarm() { timeout 300 "$python" "$work/alarms.py"; }
raised() { alarm && [ -n "$(alarms)" ]; }
wait_for 300 "alarm" raised # it ends after four seconds without a message, which a busy machine needs to form the group
alarm
[ "$(alarms)" = "alarms/sensors/room1/temp 95" ] || fail "docs/transactions.md: $(alarms)"
pass "the consumer and producer of docs/transactions.md"
timeout 300 "$python" "$here/python/discovery.py" announce
stop_firth
start_firth
timeout 300 "$python" "$here/python/discovery.py" find 1
kill -9 "$firth_pid"
wait "$firth_pid" 2>/dev/null || true
start_firth
timeout 300 "$python" "$here/python/discovery.py" find 2
stop_firth
echo "confluent-kafka and paho-mqtt: all passed"
