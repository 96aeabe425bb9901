#!/usr/bin/env bash
# A Mosquitto beside the devices, bridged to Firth: topic in, out and both, by MQTT 3.1.1 (where the bridge announces
# itself in the protocol level) and 5.0 (where it asks for No Local), retained messages, and either side stopped,
# killed and started again: nothing lost, nothing twice, no loop.
# shellcheck source=conformance/lib.sh
. "$(dirname "$0")/lib.sh"
"$here/install.sh" clients

mosquitto=$(PATH=$PATH:/usr/sbin command -v mosquitto)
edge_pid=
edge=$(free_ports 1) # the port of Mosquitto

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
		topic state/# both 1
		topic lamp out 1 local/ $1/remote/
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
equal() { # equal GOT WANT WHAT: the same lines
	cat "$2" >"$work/wanted"
	cmp -s "$1" "$work/wanted" || fail "$3: $(diff "$1" "$work/wanted" | head -n 5; wc -l "$1" "$work/wanted")"
}

# bridged: the bridge says so itself, by a retained message of its own server.
bridged() { wait_for 180 "bridge" bridge_is 1; }
bridge_is() {
	[ "$(at_edge sub -W 5 -C 1 -t "\$SYS/broker/connection/edge-$version/state" 2>/dev/null)" = "$1" ]
}

# logged TOPIC COUNT: Firth has so many records.
logged() { [ "$(records "$1" | wc -l)" -ge "$2" ]; }

# keeps NAME FILTER: a session at Mosquitto that gets what comes while nobody reads.
keeps() { at_edge sub -c -i "$1" -q 2 -t "$2" -E; }

# got NAME COUNT FILTER: what came for that session.
got() {
	at_edge sub -c -i "$1" -q 2 -t "$3" -C "$2" -W 180 >"$work/got" ||
		fail "$1: $(wc -l <"$work/got") of $2 messages: $(tail -n 3 "$work/got")"
}

# lines TEXT FROM TO: as many lines.
lines() { seq -f "$1 %g" "$2" "$3"; }

both_ways() { # in, out and both, with nothing in the way
	keeps reader 'down/#'
	keeps "both" 'both/#'
	lines "$version up" 1 300 | at_edge pub -q 2 -l -t "up/$version"
	wait_for 180 "messages that went out" logged up $((records + 300))
	lines "$version down" 1 300 | at_firth pub -q 2 -l -t "down/$version"
	got reader 300 'down/#'
	equal "$work/got" <(lines "$version down" 1 300) "in"
	pass "$version: 300 messages out, 300 in, in order"

	lines "$version here" 1 100 | at_edge pub -q 2 -l -t "both/$version"
	wait_for 180 "messages that went both ways" logged both $((shared + 100))
	lines "$version there" 1 100 | at_firth pub -q 2 -l -t "both/$version"
	at_firth pub -q 2 -t "both/$version" -m end # behind any echo
	got both 201 'both/#'
	{ lines "$version here" 1 100; lines "$version there" 1 100; echo end; } >"$work/want"
	equal "$work/got" "$work/want" "both, at Mosquitto"
	records both | tail -n 201 >"$work/got"
	equal "$work/got" "$work/want" "both, at Firth"
	[ "$(records both | wc -l)" = $((shared + 201)) ] || fail "an echo in the log"
	records=$((records + 300)) shared=$((shared + 201))
	pass "$version: topic both has no loop and no echo"
}

announced() { # announced STATE: what the bridge says of itself (notifications) is below $SYS of Firth
	wait_for 180 "state $1 of the bridge at Firth" state_at_firth "$1"
	pass "$version: \$SYS of Firth tells of the bridge: $1"
}
state_at_firth() {
	[ "$(at_firth sub -W 2 -C 1 -t "\$SYS/broker/connection/edge-$version/state" 2>/dev/null)" = "$1" ]
}

retained() { # RETAIN goes over, both ways, and clears
	at_edge pub -r -q 1 -t local/lamp -m on
	wait_for 180 "retained message at Firth" kept_at firth "$version/remote/lamp" on
	at_edge pub -r -q 1 -t local/lamp -n
	wait_for 180 "end of it" kept_at firth "$version/remote/lamp" ""
	at_firth pub -r -q 1 -t "state/$version" -m open
	wait_for 180 "retained message at Mosquitto" kept_at edge "state/$version" open
	at_firth pub -r -q 1 -t "state/$version" -n
	wait_for 180 "end of it" kept_at edge "state/$version" ""
	pass "$version: retained messages are retained on the other side, under their other name, and cleared there"
}

# kept_at SIDE TOPIC PAYLOAD: what is retained there; "" is nothing within two seconds.
kept_at() { [ "$("at_$1" sub --retained-only -W 2 -C 1 -t "$2" 2>/dev/null)" = "$3" ]; }

# interrupted HOW: Firth is stopped (TERM) or killed (KILL) while the bridge has messages to send to it: MQTT 3.1.1 has
# each in the log once, in order. The bridge of MQTT 5 has no session that outlives a connection, so that messages may
# come twice; it is also not sent so many, for it does not keep to a receive maximum behind a lost connection.
interrupted() {
	local how=$1 count=2000
	[ "$version" = mqttv311 ] || count=900
	lines "$version $how" 1 "$count" | at_edge pub -q 2 -l -t "up/$version" &
	local publisher=$!
	others+=("$publisher")
	wait_for 180 "messages that went out" logged up $((records + 50))
	if [ "$how" = KILL ]; then
		kill -9 "$firth_pid"
		wait "$firth_pid" 2>/dev/null || true
	else
		stop_firth
	fi
	restart_firth
	wait "$publisher" || fail "mosquitto_pub ended with status $?"
	wait_for 180 "messages that went out" all_out "$how" "$count"
	bridged # and what it might send twice has come
	all_out "$how" "$count"
	if [ "$version" = mqttv311 ]; then
		equal "$work/new" <(lines "$version $how" 1 "$count") "out, across SIG$how"
		pass "$version: SIG$how of Firth while the bridge sends: $count messages once, in order"
	else
		pass "$version: SIG$how of Firth while the bridge sends: $count messages, $(($(wc -l <"$work/new") - count)) twice"
	fi
	records=$(records up | wc -l)
}

# all_out HOW COUNT: what the log has that is new is all there, once or more.
all_out() {
	records up | tail -n +$((records + 1)) >"$work/new"
	cmp -s <(sort -u "$work/new") <(lines "$version $1" 1 "$2" | sort)
}

# edge_away: Mosquitto is stopped, messages for it come meanwhile. They are there when it is back.
edge_away() {
	stop_edge
	lines "$version away" 1 2000 | at_firth pub -q 2 -l -t "down/$version"
	lines "$version away" 1 50 | at_firth pub -q 1 -l -t "both/$version"
	start_edge "$version"
	got reader 2000 'down/#'
	equal "$work/got" <(lines "$version away" 1 2000) "in, after an absence"
	got both 50 'both/#'
	equal "$work/got" <(lines "$version away" 1 50) "both, after an absence"
	shared=$((shared + 50))
	pass "$version: 2050 messages that came while Mosquitto was stopped, once, in order"
}

start_firth
at_firth pub -q 1 -t up -m begin
at_firth pub -q 1 -t both -m begin
for version in mqttv311 mqttv50; do
	records=$(records up | wc -l) shared=$(records both | wc -l)
	start_edge "$version"
	announced 1
	both_ways
	retained
	interrupted TERM
	interrupted KILL
	# That of MQTT 5 asks for no session expiry: its session ends with its connection.
	if [ "$version" = mqttv311 ]; then edge_away; fi
	[ "$(records both | wc -l)" = $shared ] || fail "echoes in the log: $(records both | tail -n +$((shared + 1)) | head)"
	stop_edge
	announced 0
done
stop_firth
echo "the bridge of Mosquitto: all passed"
