#!/usr/bin/env bash
# A Mosquitto beside the devices, bridged to Firth: topic in, out and both, by MQTT 3.1.1 (where the bridge announces
# itself in the protocol level) and 5.0 (where it asks for No Local), retained messages, and either side stopped,
# killed and started again: nothing lost, nothing twice, no loop.
# shellcheck source=conformance/lib.sh
. "$(dirname "$0")/lib.sh"
"$here/install.sh" clients

mosquitto=$(PATH=$PATH:/usr/sbin command -v mosquitto)
edge_pid=
edge=$((20000 + RANDOM % 10000)) # the port of Mosquitto

start_edge() { # start_edge VERSION: Mosquitto with its bridge up
	mkdir -p "$work/edge-$1"
	cat >"$work/edge.conf" <<-CONF
		user root
		listener $edge 127.0.0.1
		allow_anonymous true
		set_tcp_nodelay true
		max_queued_messages 0
		persistence true
		persistence_location $work/edge-$1/
		connection firth
		address $mqtt
		remote_clientid edge-$1
		bridge_protocol_version $1
		cleansession false
		restart_timeout 1
		topic up/# out 2
		topic down/# in 2
		topic both/# both 2
		topic +/lamp out 1 local/ $1/remote/
	CONF
	"$mosquitto" -c "$work/edge.conf" >>"$work/edge.log" 2>&1 &
	edge_pid=$!
	others+=("$edge_pid")
	bridged
}

stop_edge() {
	kill -TERM "$edge_pid"
	wait "$edge_pid" || fail "mosquitto ended with status $?: $(tail -n 5 "$work/edge.log")"
}

at_edge() { local run=$1; shift; "mosquitto_$run" -h 127.0.0.1 -p "$edge" "$@"; }
at_firth() { local run=$1; shift; "mosquitto_$run" -h "$mqtt_host" -p "$mqtt_port" "$@"; }
records() { kcat -q -b "$kafka" -C -o beginning -e -t "$1" 2>/dev/null; }
equal() { cmp -s "$1" "$2" || fail "$3: $(diff "$1" "$2" | head -n 5; wc -l "$1" "$2")"; }

# bridged: the bridge says so itself, by a retained message of its own server.
bridged() { wait_for 60 "bridge" bridge_is 1; }
bridge_is() {
	[ "$(at_edge sub -W 5 -C 1 -t "\$SYS/broker/connection/edge-$version/state" 2>/dev/null)" = "$1" ]
}

# logged TOPIC COUNT: Firth has so many records.
logged() { [ "$(records "$1" | wc -l)" -ge "$2" ]; }

# keeps NAME FILTER: a session at Mosquitto that gets what comes while nobody reads.
keeps() { at_edge sub -c -i "$1" -q 2 -t "$2" -E; }

# got NAME COUNT FILTER: what came for that session.
got() {
	at_edge sub -c -i "$1" -q 2 -t "$3" -C "$2" -W 60 >"$work/got" ||
		fail "$1: $(wc -l <"$work/got") of $2 messages: $(tail -n 3 "$work/got")"
}

# count FROM TO
lines() { seq -f "$1 %g" "$2" "$3"; }

both_ways() { # in, out and both, with nothing in the way
	keeps reader 'down/#'
	keeps "both" 'both/#'
	lines "$version up" 1 300 | at_edge pub -q 2 -l -t "up/$version"
	wait_for 60 "messages that went out" logged up "$((round * 300 + 300))"
	lines "$version down" 1 300 | at_firth pub -q 2 -l -t "down/$version"
	got reader 300 'down/#'
	equal "$work/got" <(lines "$version down" 1 300) "in"
	pass "$version: 300 messages out, 300 in, in order"

	lines "$version here" 1 100 | at_edge pub -q 2 -l -t "both/$version"
	wait_for 60 "messages that went both ways" logged both "$((round * 201 + 100))"
	lines "$version there" 1 100 | at_firth pub -q 2 -l -t "both/$version"
	at_firth pub -q 2 -t "both/$version" -m end # behind any echo
	got both 201 'both/#'
	{ lines "$version here" 1 100; lines "$version there" 1 100; echo end; } >"$work/want"
	equal "$work/got" "$work/want" "both, at Mosquitto"
	records both | tail -n 201 >"$work/got"
	equal "$work/got" "$work/want" "both, at Firth"
	[ "$(records both | wc -l)" = $((round * 201 + 201)) ] || fail "an echo in the log"
	pass "$version: topic both has no loop and no echo"
}

round=0
start_firth
for version in mqttv311 mqttv50; do
	start_edge "$version"
	both_ways
	stop_edge
	round=$((round + 1))
done
stop_firth
