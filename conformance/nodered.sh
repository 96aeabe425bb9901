#!/usr/bin/env bash
# Node-RED, as npm has it: a flow that takes messages and answers them, with MQTT 5, QoS 2 and a session that lasts, across
# a restart of Firth and of Node-RED.
# shellcheck source=conformance/lib.sh
. "$(dirname "$0")/lib.sh"
"$here/install.sh" node clients
cp -r "$here/nodered" "$work/nodered"
(cd "$work/nodered" && "$again" timeout 600 npm ci --no-audit --no-fund --loglevel=error)
export ui_port
ui_port=$(free_ports 1)

start_nodered() {
	(cd "$work/nodered" && exec node node_modules/node-red/red.js --userDir . --settings settings.js) >>"$work/nodered.log" 2>&1 &
	nodered=$!
	others+=("$nodered")
	wait_for 300 "Node-RED" is connected
}
is() {
	"$firth" session show nodered --http "$http" >"$work/session" 2>/dev/null && grep -qE "^state +$1" "$work/session" &&
		grep -q 'requests/#' "$work/session"
}
stop_nodered() {
	kill -TERM "$nodered"
	wait "$nodered" || true # of it only the end of its connection counts
	wait_for 180 "end of its connection" is away
}

pub() { mosquitto_pub -h "$mqtt_host" -p "$mqtt_port" "$@"; }
# answers ROUND: key, value and headers of the records that answer; flag 2 is QoS 2.
answers() { kcat -q -b "$kafka" -C -o beginning -e -t answers -f '%k %s %h\n' 2>/dev/null | grep "^answers/$1 "; }
answered() { [ "$(answers "$1" | wc -l)" -ge 300 ]; }

# asked ROUND: the answers to what was asked in a round came once, in order.
asked() {
	seq -f "answers/$1 done %g mqtt.flags=2,by=node-red" 1 300 >"$work/wanted"
	wait_for 180 "answers" answered "$1"
	answers "$1" >"$work/answers"
	cmp -s "$work/answers" "$work/wanted" || fail "answers: $(diff "$work/answers" "$work/wanted" | head -n 5)"
}

start_firth
start_nodered
state=$(mosquitto_sub -h "$mqtt_host" -p "$mqtt_port" -W 180 -C 1 -F '%r %p' -t nodered/state)
[ "$state" = "1 online" ] || fail "the birth of Node-RED: $state"
seq 1 300 | pub -q 2 -l -t requests/first
asked first
pass "Node-RED has answered 300 messages, each once, in order; its birth is retained"

stop_firth
restart_firth
wait_for 180 "Node-RED" is connected
seq 1 300 | pub -q 2 -l -t requests/second
asked second
pass "Node-RED goes on behind a restart of Firth"

stop_nodered
seq 1 300 | pub -q 2 -l -t requests/third
start_nodered
asked third
pass "300 messages that came while Node-RED was stopped, each answered once, in order"
stop_nodered
stop_firth
echo "Node-RED: all passed"
