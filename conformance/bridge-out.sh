#!/usr/bin/env bash
# Firth joined to a Mosquitto by a bridge of its own (firth bridge), by MQTT 3.1.1 and 5.0: topic in, out and both, names
# with prefixes, retained messages, states; either side killed with SIGKILL again and again while messages of QoS 2 go
# both ways: nothing lost, nothing twice, in order; a connection section of a mosquitto.conf as it is.
# shellcheck source=conformance/lib.sh
. "$(dirname "$0")/lib.sh"
"$here/install.sh" clients

mosquitto=$(PATH=$PATH:/usr/sbin command -v mosquitto)
edge_pid=
edge=$(free_ports 1) # the port of Mosquitto

start_edge() {
	mkdir -p "$work/edge"
	cat >"$work/edge.conf" <<-CONF
		user root
		listener $edge 127.0.0.1
		allow_anonymous true
		password_file $work/passwords
		set_tcp_nodelay true
		max_queued_messages 0
		persistence true
		persistence_location $work/edge/
		autosave_interval 0
	CONF
	"$mosquitto" -c "$work/edge.conf" >>"$work/edge.log" 2>&1 &
	edge_pid=$!
	others+=("$edge_pid")
	wait_for 180 "Mosquitto" at_edge pub -t started -n
}

stop_edge() {
	kill -TERM "$edge_pid"
	wait "$edge_pid" || fail "mosquitto ended with status $?: $(tail -n 5 "$work/edge.log")"
}

# start_bridged [--set ...]: Firth with its bridge, at the addresses that it had.
start_bridged() {
	local start=start_firth
	[ -z "${mqtt:-}" ] || start=restart_firth
	$start --set bridges="
      - name: edge
        addresses: 127.0.0.1:$edge
        protocol: \"$version\"
        client_id: firth-$version
        max_inflight: 4
        out_rate: 3000
        restart_min: 50ms
        restart_max: 500ms
        topics:
          - { filter: \"up/#\", direction: out, qos: 2 }
          - { filter: \"down/#\", direction: in, qos: 2 }
          - { filter: \"both/#\", direction: both, qos: 1 }
          - { filter: lamp, direction: both, qos: 1, local_prefix: here/, remote_prefix: there/ }
      - name: far
        addresses: $far_mqtt
        protocol: \"$version\"
        client_id: firth-$version
        max_inflight: 2
        out_rate: 3000
        restart_min: 50ms
        restart_max: 500ms
        topics:
          - { filter: \"farup/#\", direction: out, qos: 2 }
          - { filter: \"fardown/#\", direction: in, qos: 2 }" "$@"
}

at_edge() { local run=$1; shift; "mosquitto_$run" -h 127.0.0.1 -p "$edge" "$@"; }
at_firth() { local run=$1; shift; "mosquitto_$run" -h "$mqtt_host" -p "$mqtt_port" "$@"; }
records() { kcat -q -b "$kafka" -C -o beginning -e -t "$1" 2>/dev/null; }
bridge() { "$firth" bridge --http "$http" "$@"; }

# status FIELD [BRIDGE]: of the bridge, from its JSON.
status() { bridge status "${2:-edge}" -o json 2>/dev/null | tr -d ' \n' | sed -nE "s/.*\"$1\":\"?([^\",}]*).*/\\1/p"; }
state_is() { [ "$(status state "${2:-edge}")" = "$1" ]; }
connected() { wait_for 180 "connection of the bridge" state_is connected; }

# same WANT WHAT: what is in $work/got is those lines.
same() {
	cmp -s "$work/got" "$1" || fail "$version: $2: $(wc -l <"$work/got") lines for $(wc -l <"$1"): $(diff "$work/got" "$1" | head -n 5)"
}
lines() { seq -f "$version $1 %g" "$2" "$3"; }

# keeps NAME FILTER: a session at Mosquitto that gets what comes while nobody reads.
keeps() { at_edge sub -c -i "$1" -q 2 -t "$2" -E; }

# got NAME COUNT FILTER: what came for that session, and nothing else. The session ends: who leaves with the last message
# has not acknowledged it.
got() {
	at_edge pub -q 2 -t "$(dirname "$3")/end" -m end
	at_edge sub -c -i "$1" -q 2 -t "$3" -C "$(($2 + 1))" -W 180 >"$work/got" ||
		fail "$version: $1: $(wc -l <"$work/got") of $2 messages, the last $(tail -n 1 "$work/got")"
	[ "$(tail -n 1 "$work/got")" = end ] || fail "$version: $1: more than $2 messages: $(sort "$work/got" | uniq -d | head -n 3)"
	sed -i '$d' "$work/got"
	at_edge sub -i "$1" -t "$3" -E
}

both_ways() {
	keeps reader 'up/#'
	keeps shared 'both/#'
	lines out 1 300 | at_firth pub -q 2 -l -t up/a
	lines in 1 300 | at_edge pub -q 2 -l -t down/a
	lines in 1 300 >"$work/want"
	wait_for 180 "messages that come in" logged down/a 300
	records down | grep "^$version in " >"$work/got"
	same "$work/want" "in"
	got reader 300 'up/#'
	lines out 1 300 >"$work/want"
	same "$work/want" "out"
	pass "$version: 300 messages out, 300 in, once, in order"

	lines here 1 100 | at_firth pub -q 1 -l -t both/a
	wait_for 180 "messages that go out" handed 100
	lines there 1 100 | at_edge pub -q 1 -l -t both/a
	wait_for 180 "messages that come in" shared_has 200
	got shared 200 'both/#'
	{ lines here 1 100; lines there 1 100; } >"$work/want"
	same "$work/want" "both, at Mosquitto"
	records both | grep "^$version" >"$work/got" # end comes too, and nothing else
	same "$work/want" "both, at Firth"
	pass "$version: topic both has no loop and no echo"
}
logged() { [ "$(records "${1%%/*}" | grep -c "^$version in ")" -ge "$2" ]; }
handed() { [ "$(status out)" -ge "$((300 + $1))" ]; }
shared_has() { [ "$(records both | grep -c "^$version")" -ge "$1" ]; }

retained() {
	at_firth pub -r -q 1 -t here/lamp -m on
	wait_for 180 "retained message at Mosquitto" kept_at edge there/lamp on
	at_firth pub -r -q 1 -t here/lamp -n
	wait_for 180 "end of it" kept_at edge there/lamp ""
	at_edge pub -r -q 1 -t there/lamp -m "off"
	wait_for 180 "retained message at Firth" kept_at firth here/lamp "off"
	at_edge pub -r -q 1 -t there/lamp -n
	wait_for 180 "end of it" kept_at firth here/lamp ""
	local topic="\$SYS/broker/connection/firth-$version/state"
	wait_for 180 "state at Mosquitto" kept_at edge "$topic" 1
	bridge pause edge
	wait_for 180 "pause" state_is paused
	wait_for 180 "state at Mosquitto" kept_at edge "$topic" 0
	bridge resume edge
	connected
	pass "$version: retained messages and states are known on the other side"
}
kept_at() { [ "$("at_$1" sub --retained-only -W 2 -C 1 -t "$2" 2>/dev/null)" = "$3" ]; }

# crossing SIDE COUNT TIMES BRIDGE: so many messages of QoS 2 wait at both ends of a bridge, and go over while a side is killed
# again and again. At the far end that is Mosquitto ("edge") or another Firth ("far").
crossing() {
	local side=$1 count=$2 times=$3 name=$4 i midway=0
	run=$((run + 1))
	[ "$name" = far ] || keeps reader 'up/#'
	bridge pause "$name"
	wait_for 180 "pause" state_is paused "$name"
	lines "$run $side out" 1 "$count" | at_firth pub -q 2 -l -t "$(topic up)"
	lines "$run $side in" 1 "$count" | "at_$name" pub -q 2 -l -t "$(topic down)"
	bridge resume "$name" 2>"$work/resume" & # which may be too late: who starts again is not paused
	for ((i = 0; i < times; i++)); do
		sleep "0.0$((RANDOM % 10))"
		"kill_$side"
		all_crossed || midway=$((midway + 1))
	done
	wait_for 300 "messages with $side killed" all_crossed
	check_in
	check_out
	pass "$version: SIGKILL of $side, $times times ($midway of them midway), messages of QoS 2 to and from $name: $count each way, $said"
}
topic() { if [ "$name" = far ]; then echo "far$1/k"; else echo "$1/k"; fi; }
all_crossed() {
	[ "$(came | wc -l)" -ge "$count" ] && [ "$(status backlog "$name")" = 0 ] && [ "$(inflight)" = 0 ]
}
came() { records "$(dirname "$(topic down)")" | grep "^$version $run $side in "; }
inflight() {
	"$firth" session show --http "$http" "bridge.$name" -o json | tr -d ' \n' | sed -nE 's/.*"in_flight":([0-9]+).*/\1/p'
}

check_in() {
	came >"$work/got"
	lines "$run $side in" 1 "$count" >"$work/want"
	said="once, in order"
	if [ "$side" = mosquitto ]; then # it sends again what it had sent, under new packet identifiers
		said="none lost; $(($(wc -l <"$work/got") - count)) in that Mosquitto sent twice"
		awk '!seen[$0]++' "$work/got" >"$work/once"
		mv "$work/once" "$work/got"
	fi
	same "$work/want" "in, with $side killed"
}

check_out() {
	if [ "$name" = far ]; then
		kcat -q -b "$far_kafka" -C -o beginning -e -t farup 2>/dev/null | grep "^$version $run $side out " >"$work/got"
	else
		got reader "$count" 'up/#'
	fi
	lines "$run $side out" 1 "$count" >"$work/want"
	same "$work/want" "out, with $side killed"
}

# imported: a connection of a mosquitto.conf becomes a bridge of Firth's, with its password in a file.
imported() {
	cat >"$work/imported.conf" <<-CONF
		connection imported
		address 127.0.0.1:$edge
		remote_clientid imported
		remote_username bridge
		remote_password hunter2
		restart_timeout 1 2
		notifications_local_only true
		topic # out 1 up/ high/
		topic # in 2 down/ low/
	CONF
	echo hunter2 >"$work/imported.password"
	chmod 600 "$work/imported.password"
	start_firth --mosquitto "$work/imported.conf"
	wait_for 180 "connection of the bridge" state_is connected imported
	keeps imports 'high/#'
	lines imported 1 100 | at_firth pub -q 1 -l -t up/imports
	lines imported 1 100 | at_edge pub -q 2 -l -t low/imports
	lines imported 1 100 >"$work/want"
	got imports 100 'high/#'
	same "$work/want" "out, imported"
	wait_for 180 "messages that come in" imports_are 100
	records down | grep "^$version imported " >"$work/got"
	same "$work/want" "in, imported"
	! grep -r hunter2 "$work/firth.log" || fail "a password is in the log"
	pass "a connection of a mosquitto.conf is a bridge, with its password in a file"
}
imports_are() { [ "$(records down | grep -c "^$version imported ")" -ge "$1" ]; }

kill_firth() {
	kill -9 "$firth_pid"
	wait "$firth_pid" 2>/dev/null || true
	start_bridged
}

# all_read: Mosquitto has taken from its sockets all that its clients, which are stopped, have sent.
all_read() {
	ss -Htn "( sport = :$edge or dport = :$edge )" |
		awk -v own=":$edge\$" '$4 ~ own ? $2 : $3 { left = 1 } END { exit left }'
}

# kill_mosquitto kills it with what it has acknowledged in its database: it saves that now and then only.
kill_mosquitto() {
	kill -STOP "$firth_pid"
	wait_for 180 "end of what is on the way to Mosquitto" all_read
	rm -f "$work/edge/mosquitto.db"
	kill -USR1 "$edge_pid"
	wait_for 180 "database of Mosquitto" [ -s "$work/edge/mosquitto.db" ]
	kill -9 "$edge_pid"
	wait "$edge_pid" 2>/dev/null || true
	start_edge
	kill -CONT "$firth_pid"
	connected
}

run=0 # of crossing
far_pid='' far_mqtt='' far_kafka=''
start_far() {
	: >"$work/far.log"
	"$firth" serve --set "data=$work/far" --set "listen.mqtt=${far_mqtt:-127.0.0.1:0}" --set listen.ws=off \
		--set "listen.kafka=${far_kafka:-127.0.0.1:0}" --set listen.http=off >"$work/far.log" 2>&1 &
	far_pid=$!
	others+=("$far_pid")
	wait_for 180 "addresses of the other firth" far_ready
}
far_ready() {
	far_mqtt=$(sed -nE 's/^mqtt +(127.*)/\1/p' "$work/far.log") far_kafka=$(sed -nE 's/^kafka +(127.*)/\1/p' "$work/far.log")
	[ -n "$far_mqtt" ] && [ -n "$far_kafka" ]
}
at_far() { local run=$1; shift; "mosquitto_$run" -h 127.0.0.1 -p "${far_mqtt##*:}" "$@"; }
kill_far() {
	kill -9 "$far_pid"
	wait "$far_pid" 2>/dev/null || true
	start_far
	wait_for 180 "connection of the bridge" state_is connected far
}

firth=${FIRTH:-$repo/build/firth}
if [ -z "${FIRTH:-}" ]; then (cd "$repo" && CGO_ENABLED=0 go build -trimpath -o build/firth ./cmd/firth); fi
mosquitto_passwd -b -c "$work/passwords" bridge hunter2 2>/dev/null
start_far
for version in 3.1.1 5; do
	start_edge
	start_bridged
	connected
	bridge test edge >"$work/test" || fail "firth bridge test: $(cat "$work/test")"
	both_ways
	retained
	crossing firth 4000 3 edge
	crossing mosquitto 4000 3 edge
	crossing firth 4000 3 far
	crossing far 4000 3 far
	stop_edge
	stop_firth
done
start_edge
imported
stop_firth
stop_edge
kill -TERM "$far_pid"
wait "$far_pid" || fail "the other firth ended with status $?"
"$firth" log check "$work/far" >"$work/check.log" 2>&1 || fail "$(cat "$work/check.log")"
echo "a bridge to Mosquitto: all passed"
