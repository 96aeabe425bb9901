#!/usr/bin/env bash
# confluent-kafka (librdkafka) and paho-mqtt, as pip has them; and what Home Assistant does with the latter.
. "$(dirname "$0")/lib.sh"
"$here/install.sh" python
python3 -m venv "$work/venv"
"$again" timeout 300 "$work/venv/bin/pip" install -q --disable-pip-version-check -r "$here/python/requirements.txt"
start_firth
timeout 600 "$work/venv/bin/python" "$here/python/gate.py"
timeout 120 "$work/venv/bin/python" "$here/python/discovery.py" announce
stop_firth
start_firth
timeout 120 "$work/venv/bin/python" "$here/python/discovery.py" find 1
kill -9 "$firth_pid"
wait "$firth_pid" 2>/dev/null || true
start_firth
timeout 120 "$work/venv/bin/python" "$here/python/discovery.py" find 2
stop_firth
echo "confluent-kafka and paho-mqtt: all passed"
