#!/usr/bin/env bash
# kafkajs and MQTT.js, as npm has them.
. "$(dirname "$0")/lib.sh"
"$here/install.sh" node
cp -r "$here/node" "$work/node"
(cd "$work/node" && "$again" timeout 300 npm ci --no-audit --no-fund --loglevel=error)
start_firth
(cd "$work/node" && timeout 600 node gate.mjs)
stop_firth
echo "kafkajs and MQTT.js: all passed"
