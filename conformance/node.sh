#!/usr/bin/env bash
# kafkajs, MQTT.js and Eclipse Tahu's Sparkplug client, as npm has them.
. "$(dirname "$0")/lib.sh"
"$here/install.sh" node
node_modules
start_firth
(cd "$node" && timeout 600 node gate.mjs && timeout 300 node sparkplug.mjs)
stop_firth
start_firth --set mqtt.sparkplug=true
(cd "$node" && timeout 300 node sparkplug.mjs aware)
stop_firth
echo "kafkajs, MQTT.js and Tahu: all passed"
