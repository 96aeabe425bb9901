#!/usr/bin/env bash
# confluent-kafka (librdkafka) and paho-mqtt, as pip has them.
. "$(dirname "$0")/lib.sh"
"$here/install.sh" python
python3 -m venv "$work/venv"
"$again" timeout 300 "$work/venv/bin/pip" install -q --disable-pip-version-check -r "$here/python/requirements.txt"
start_firth
timeout 600 "$work/venv/bin/python" "$here/python/gate.py"
stop_firth
echo "confluent-kafka and paho-mqtt: all passed"
