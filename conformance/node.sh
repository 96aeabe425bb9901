#!/usr/bin/env bash
# kafkajs, MQTT.js and Eclipse Tahu's Sparkplug client, as npm has them.
. "$(dirname "$0")/lib.sh"
"$here/install.sh" node
cp -r "$here/node" "$work/node"
(cd "$work/node" && "$again" timeout 300 npm ci --no-audit --no-fund --loglevel=error)
start_firth
(cd "$work/node" && timeout 600 node gate.mjs && timeout 300 node sparkplug.mjs)
stop_firth
start_firth --set mqtt.sparkplug=true
(cd "$work/node" && timeout 300 node sparkplug.mjs aware)
stop_firth
echo "kafkajs, MQTT.js and Tahu: all passed"
