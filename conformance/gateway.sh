#!/usr/bin/env bash
# One gateway before three brokers of Apache Kafka in KRaft mode, as Maven has it, each with a small heap: what devices
# find of MQTT on one machine they find here; kill -9 of the gateway and of a broker, and all brokers away for a while, also
# with a spool, and kill -9 of the gateway in the middle of that; a Kafka consumer reads from the cluster what devices sent;
# a second gateway, and settings that lose what was acknowledged, are refused; of two that may share the cluster one stands
# by, and takes the place of the other after kill -9. Then a node with a log of its own moves into the cluster.
# shellcheck source=conformance/lib.sh
. "$(dirname "$0")/lib.sh"
"$here/install.sh" clients java
jars "$repo/bench/kafka/pom.xml"
java=(java -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$jars")
base=$(($(free_ports 6) - 1)) # ports of the brokers: base + 1 to 3, and their controllers 4 to 6
brokers=127.0.0.1:$((base + 1)),127.0.0.1:$((base + 2)),127.0.0.1:$((base + 3))
declare -A broker_pid=()

# format_broker ID: one that was killed is not taken anew until its session has ended.
format_broker() {
	mkdir -p "$work/broker-$1"
	cat >"$work/broker-$1/server.properties" <<-CONF
		process.roles=broker,controller
		node.id=$1
		controller.quorum.voters=1@127.0.0.1:$((base + 4)),2@127.0.0.1:$((base + 5)),3@127.0.0.1:$((base + 6))
		listeners=PLAINTEXT://127.0.0.1:$((base + $1)),CONTROLLER://127.0.0.1:$((base + 3 + $1))
		advertised.listeners=PLAINTEXT://127.0.0.1:$((base + $1))
		controller.listener.names=CONTROLLER
		log.dirs=$work/broker-$1/data
		offsets.topic.num.partitions=1
		transaction.state.log.num.partitions=2
		group.initial.rebalance.delay.ms=0
		log.cleaner.threads=1
		broker.heartbeat.interval.ms=1000
		broker.session.timeout.ms=5000
	CONF
	"${java[@]}" kafka.tools.StorageTool format -t Zmlya2gtdGVzdC1ub2RlMA -c "$work/broker-$1/server.properties" \
		>"$work/broker-$1/format.log" 2>&1 || { cat "$work/broker-$1/format.log" >&2; fail "formatting a broker"; }
}

start_broker() { # start_broker ID
	"${java[@]}" kafka.Kafka "$work/broker-$1/server.properties" >>"$work/broker-$1/log" 2>&1 &
	broker_pid[$1]=$!
	others+=($!)
}

kill_broker() { # kill_broker ID
	kill -9 "${broker_pid[$1]}"
	wait "${broker_pid[$1]}" 2>/dev/null || true
}

gateway_ready() {
	kill -0 "$firth_pid" 2>/dev/null || { tail -n 5 "$work/firth.log" >&2; fail "the gateway did not start"; }
	mqtt=$(address mqtt) http=$(address http)
	[ -n "$mqtt" ] && [ -n "$http" ]
}

gateway=(--set "log.kafka.brokers=$brokers" --set log.kafka.takeover=60s --set listen.ws=off)

start_gateway() { # start_gateway ADDRESS [OPTION...]: at that address of MQTT
	: >"$work/firth.log"
	"$firth" serve --data "$work/data" "${gateway[@]}" --set "listen.mqtt=$1" --set listen.http=127.0.0.1:0 "${@:2}" \
		>"$work/firth.log" 2>&1 &
	firth_pid=$!
	wait_for 300 "addresses from the gateway" gateway_ready
	mqtt_port=${mqtt##*:}
}

kill_gateway() {
	kill -9 "$firth_pid"
	wait "$firth_pid" 2>/dev/null || true
	if grep -qE '^panic:|goroutine [0-9]+ \[' "$work/firth.log"; then fail "the gateway panicked"; fi
}

pub() { timeout 300 mosquitto_pub -h 127.0.0.1 -p "$mqtt_port" "$@"; }
sub() { timeout 300 mosquitto_sub -h 127.0.0.1 -p "$mqtt_port" "$@"; }
there() { # grep reads all: who closes the pipe early makes it fail
	"$firth" session list --http "$http" --data "$work/data" --state connected --prefix "$1" | grep "$1" >/dev/null
}
left() { ! there "$1"; }
answers() { curl -sf "http://$http/readyz" >/dev/null; }
refuses() { ! answers; }
# slowly FROM TO FILE: lines of messages, the last once there is the file.
slowly() {
	local n
	for ((n = $1; n < $2; n++)); do
		echo "m$n"
		sleep 0.05
	done
	until [ -e "$3" ]; do sleep 0.05; done
	echo "m$2"
}
grown() { [ "$(wc -l <"$1")" -ge "$2" ]; } # grown FILE LINES
lines() { seq -f "$1%.0f" "$2" "$3"; }     # lines PREFIX FROM TO
same() { # same WHAT FILE: the lines of a file, in whatever order, are those of standard input
	sort >"$work/want"
	sort "$2" | diff "$work/want" - >"$work/diff" || { head -n 20 "$work/diff" >&2; fail "$1"; }
	pass "$1"
}

firth=${FIRTH:-$repo/build/firth}
if [ -z "${FIRTH:-}" ]; then (cd "$repo" && CGO_ENABLED=0 go build -trimpath -o build/firth ./cmd/firth); fi
for id in 1 2 3; do
	format_broker "$id" &
done
wait
for id in 1 2 3; do start_broker "$id"; done

# --- everything at its place
start_gateway 127.0.0.1:0 --set log.kafka.request_timeout=60s --set topics.defaults.partitions=3
mqtt_at=$mqtt
"$firth" topic list -b "${brokers%%,*}" >"$work/topics"
grep -q __firth_sessions "$work/topics" || fail "no topic of sessions"
pass "a gateway before three brokers"

timeout 300 "$firth" serve --data "$work/second" "${gateway[@]}" --set log.kafka.takeover=6s --set listen.mqtt=off \
	--set listen.http=off >"$work/second.log" 2>&1 & # which takes a while: beside what follows
second=$!
others+=("$second")

# --- sessions, retained messages, wills, shared subscriptions
sub -V 5 -i sleeper -c -x 3600 -q 2 -t 'plant/#' -E
mosquitto_sub -h 127.0.0.1 -p "$mqtt_port" -i witness -t witness --will-topic plant/gone --will-payload gone \
	--will-qos 1 &
witness=$!
wait_for 180 "witness" there witness
kill -9 "$witness"
wait "$witness" 2>/dev/null || true
wait_for 180 "end of the witness" left witness
shared=(-V 5 -i shared1 -c -x 3600 -q 1 -t '$share/g/plant/a' -t '$share/g/plant/state') # the will comes when it comes
sub "${shared[@]}" -E
lines one- 1 20 | pub -q 2 -t plant/a -l
pub -q 1 -r -t plant/state -m on
sub -V 5 -i late -t plant/state -C 1 -W 180 >"$work/retained"
echo on | same "a retained message is there" "$work/retained"
[ "$("$firth" topic list -b "${brokers%%,*}" | awk '$1 == "plant" {print $2}')" = 3 ] ||
	fail "the topic of devices has other partitions than configured"
(lines one- 1 20; echo on) >"$work/shared"
sub "${shared[@]}" -C 21 -W 180 >"$work/got"
same "a shared subscription gets all, once" "$work/got" <"$work/shared"

if wait "$second"; then fail "a second gateway serves"; fi
grep -q 'another node serves this cluster' "$work/second.log" || { cat "$work/second.log" >&2; fail "the second gateway"; }
pass "a second gateway is refused"

# --- the gateway dies
kill_gateway
start_gateway "$mqtt_at"
lines two- 1 20 | pub -q 2 -t plant/b -l
(cat "$work/shared"; echo gone; lines two- 1 20) >"$work/all"
sub -V 5 -i sleeper -c -x 3600 -q 2 -t 'nothing' -C 42 -W 180 >"$work/got"
same "after kill -9 of the gateway a session gets what it missed, exactly once" "$work/got" <"$work/all"

# --- a broker dies under a publisher and a subscriber
sub -i steady -c -q 2 -t 'load/#' -E # subscribed, which one who is connected is not yet
mosquitto_sub -h 127.0.0.1 -p "$mqtt_port" -i steady -c -k 300 -q 2 -t 'load/#' >"$work/steady" &
others+=($!)
wait_for 180 "subscriber" there steady
slowly 1 100 "$work/one-away" | pub -i publisher -k 300 -q 2 -t load/x -l &
publisher=$!
wait_for 180 "messages" grown "$work/steady" 20
kill_broker 2
: >"$work/one-away"
wait "$publisher" || fail "the publisher was sent away"
wait_for 300 "all messages" grown "$work/steady" 100
lines m 1 100 | same "through kill -9 of a broker QoS 2 arrives once" "$work/steady"
start_broker 2

# --- Kafka is away
slowly 101 200 "$work/all-away" | pub -i publisher -k 300 -q 2 -t load/x -l &
publisher=$!
wait_for 180 "more messages" grown "$work/steady" 110
for id in 1 2 3; do kill_broker "$id"; done
wait_for 180 "refusal" refuses
: >"$work/all-away"
curl -s "http://$http/readyz" | grep 'Kafka' >/dev/null || fail "/readyz does not say that Kafka is away"
curl -sf "http://$http/healthz" >/dev/null || fail "/healthz depends on Kafka"
sleep 12 # longer than a transaction without an owner may stay open
[ "$(wc -l <"$work/steady")" -lt 200 ] || fail "messages arrive without Kafka"
for id in 1 2 3; do start_broker "$id"; done
wait "$publisher" || fail "the publisher was sent away while Kafka was away"
wait_for 300 "all messages" grown "$work/steady" 200
lines m 1 200 | same "through an outage of all brokers QoS 2 arrives once, and no connection ends" "$work/steady"
wait_for 180 "readiness" answers

# --- Kafka is away, and the disk of the gateway acknowledges
kill -TERM "$firth_pid"
wait "$firth_pid" || fail "the gateway ended with status $?"
start_gateway "$mqtt_at" --set log.kafka.ack=spool --set log.kafka.request_timeout=60s
held() { curl -sf "http://$http/readyz?verbose" | grep 'wait in the spool' >/dev/null; }
drained() { curl -sf "http://$http/metrics" | grep '^firth_spool_bytes 0$' >/dev/null; }
slowly 201 300 "$work/spooled" | pub -i publisher -k 300 -q 2 -t load/x -l &
publisher=$!
wait_for 180 "more messages" grown "$work/steady" 205
for id in 1 2 3; do kill_broker "$id"; done
: >"$work/spooled"
wait "$publisher" || fail "the publisher was sent away though there is a spool"
lines m 301 320 | pub -q 1 -t load/x -l
wait_for 180 "notice of what is held" held
[ "$(wc -l <"$work/steady")" -lt 320 ] || fail "messages arrive without Kafka"
pass "while Kafka is away the disk acknowledges, and the gateway is ready"
for id in 1 2 3; do start_broker "$id"; done
wait_for 300 "all messages" grown "$work/steady" 320
wait_for 180 "an empty spool" drained
for id in 1 2 3; do kill_broker "$id"; done
lines m 321 340 | pub -q 2 -t load/x -l
kill_gateway
for id in 1 2 3; do start_broker "$id"; done
start_gateway "$mqtt_at" --set log.kafka.ack=spool --set log.kafka.request_timeout=60s
lines m 341 350 | pub -q 2 -t load/x -l
wait_for 300 "all messages" grown "$work/steady" 350
lines m 1 350 | same "what was held arrives, once, also after kill -9 of the gateway" "$work/steady"

# --- what Kafka clients see
kcat -b "$brokers" -C -t load -e -q -X isolation.level=read_committed -f '%s\n' >"$work/got" 2>"$work/kcat.log"
lines m 1 350 | diff - "$work/got" >"$work/diff" || { head -n 20 "$work/diff" >&2; fail "order in Kafka"; }
pass "a Kafka consumer reads from the brokers what devices sent, in order"

# --- several gateways, of which one serves
kill -TERM "$firth_pid"
wait "$firth_pid" || fail "the gateway ended with status $?"
among=(--set log.kafka.gateways=many --set log.kafka.peers.listen=127.0.0.1:0 --set log.kafka.takeover=15s)
start_gateway 127.0.0.1:0 "${among[@]}"
"$firth" serve --data "$work/other" "${gateway[@]}" "${among[@]}" --set listen.mqtt=127.0.0.1:0 \
	--set listen.http=127.0.0.1:0 >"$work/other.log" 2>&1 &
other_pid=$!
others+=("$other_pid")
first_port=$mqtt_port
stands_by() {
	mqtt_port=$(sed -n '/^mqtt  *127.0.0.1:[0-9]/ { s/.*:\([0-9]*\)$/\1/p; q }' "$work/other.log")
	grep -q 'standing by while' "$work/other.log" && [ -n "$mqtt_port" ]
}
wait_for 300 "a gateway that stands by" stands_by
sub -V 5 -i mover -c -x 3600 -q 2 -t 'moves/#' -E
lines before- 1 20 | mqtt_port=$first_port pub -q 2 -t moves/a -l
lines by- 1 20 | pub -q 2 -t moves/b -l
(lines before- 1 20; lines by- 1 20) >"$work/moves"
sub -V 5 -i mover -c -x 3600 -q 2 -t nothing -C 40 -W 180 >"$work/got"
same "through a gateway that stands by devices find their sessions" "$work/got" <"$work/moves"
stdbuf -oL mosquitto_sub -h 127.0.0.1 -p "$mqtt_port" -d -V 5 -i mourned -c -x 3600 -t nothing \
	--will-topic moves/will --will-payload gone --will-qos 1 >"$work/mourned" 2>&1 &
mourned=$!
others+=("$mourned")
wait_for 180 "the mourned" grep -q Subscribed "$work/mourned" # before that its session is not stored
kill -9 "$mourned" # its connection ends with that of the gateway, or before
kill_gateway
from=$(date +%s%N)
served() { timeout 20 mosquitto_pub -h 127.0.0.1 -p "$mqtt_port" -q 1 -t again -m again 2>/dev/null; }
wait_for 300 "service by the other gateway" served
echo "served again after $((($(date +%s%N) - from) / 1000000)) ms"
firth_pid=$other_pid
lines after- 1 20 | pub -q 2 -t moves/c -l
(echo gone; lines after- 1 20) >"$work/moves"
sub -V 5 -i mover -c -x 3600 -q 2 -t nothing -C 21 -W 180 >"$work/got"
same "after kill -9 of the gateway that serves another one goes on, exactly once" "$work/got" <"$work/moves"

# --- a clean end, and a cluster that would lose what was acknowledged
kill -TERM "$firth_pid"
wait "$firth_pid" || fail "the gateway ended with status $?"
firth_pid=
"$firth" topic config __firth_sessions -b "$brokers" --timeout 180s --set cleanup.policy=delete >"$work/alter.log" 2>&1 ||
	{ cat "$work/alter.log" >&2; fail "changing a setting"; }
if timeout 300 "$firth" serve --data "$work/data" "${gateway[@]}" --set listen.mqtt=off --set listen.http=off \
	>"$work/refused.log" 2>&1; then fail "sessions that are deleted are taken"; fi
grep -q -- '--alter --topic __firth_sessions --add-config cleanup.policy=compact' "$work/refused.log" ||
	{ cat "$work/refused.log" >&2; fail "the refusal does not say what to do"; }
pass "settings that lose what was acknowledged are refused"

# --- a node with a log of its own moves into the cluster
left_over() { # left_over: the topics that are there yet, one a line
	"$firth" topic list -b "$brokers" --timeout 180s >"$work/topics" &&
		awk '$1 ~ /^__firth_|^plant$|^load$|^witness$/ { print $1 }' "$work/topics"
}
mapfile -t topics < <(left_over)
[ ${#topics[@]} -gt 0 ] || fail "there are no topics"
"$firth" topic delete "${topics[@]}" --yes -b "$brokers" --timeout 180s >"$work/deleted.log" 2>&1 ||
	{ cat "$work/deleted.log" >&2; fail "deleting topics"; }
vacant() { left_over >"$work/left" && [ ! -s "$work/left" ]; }
wait_for 180 "end of the topics" vacant
move() { timeout 240 "$firth" migrate --to "kafka://$brokers" --data "$work/alone" "$@"; }
start_node() { # start_node: one that keeps its log, in the folder of its own
	: >"$work/firth.log"
	"$firth" serve --data "$work/alone" --set listen.mqtt=127.0.0.1:0 --set listen.ws=127.0.0.1:0 \
		--set listen.kafka=127.0.0.1:0 --set listen.http=127.0.0.1:0 >"$work/firth.log" 2>&1 &
	firth_pid=$!
	wait_for 300 "addresses from the node" ready
	mqtt_port=${mqtt##*:}
}
start_node
export -f sub
export mqtt_port
seq 500 | xargs -P 8 -I N bash -c 'sub -V 5 -i away-N -c -x 3600 -q 1 -t "far/N" -t far/all -E'
sub -V 5 -i sleeper -c -x 3600 -q 2 -t 'far/#' -E
lines old- 1 3000 | pub -q 1 -t far/data -l
lines twice- 1 20 | pub -q 2 -t far/all -l
pub -q 1 -r -t far/state -m on
"$firth" consume -b "$kafka" -t far -g readers -o start -n 100 >"$work/read" || fail "a group reads"
move --from "$kafka" >"$work/ahead" || fail "copying ahead"
grep -q 'Copied ahead' "$work/ahead" || { cat "$work/ahead" >&2; fail "copying ahead"; }
lines new- 1 3000 | pub -q 1 -t far/data -l
printf 'secret\n' >"$work/password"
"$firth" user add anna --http "$http" --data "$work/alone" --new-password-file "$work/password" >/dev/null
"$firth" acl allow User:anna publish,subscribe --names 'far/#' --http "$http" --data "$work/alone" >/dev/null
kill -TERM "$firth_pid"
wait "$firth_pid" || fail "the node ended with status $?"
firth_pid=
kills=0
for after in 0.05 0.15 0.3 0.5; do # at least the first finds it under way, whatever the machine
	"$firth" migrate --to "kafka://$brokers" --data "$work/alone" >/dev/null 2>&1 &
	moving=$!
	sleep "$after"
	kill -KILL "$moving" 2>/dev/null || true # it may have ended
	status=0
	wait "$moving" || status=$? # its lock is free from here on, which the end of a timeout -s KILL does not say
	[ $status -ne 137 ] || kills=$((kills + 1))
done
[ $kills -gt 0 ] || fail "firth migrate was never killed under way"
move >"$work/moved" 2>&1 || grep -q 'was moved to the cluster' "$work/moved" || { cat "$work/moved" >&2; fail "moving"; }
rm -rf "$work/data"
start_gateway 127.0.0.1:0
anna=(-u anna -P secret)
(lines old- 1 3000; lines new- 1 3000; lines twice- 1 20; echo on) >"$work/all"
sub "${anna[@]}" -V 5 -i sleeper -c -x 3600 -q 2 -t far/none -C 6021 -W 100 >"$work/got"
same "after firth migrate, killed $kills times, a session gets what it missed, exactly once" "$work/got" <"$work/all"
for n in 1 250 500; do
	lines twice- 1 20 >"$work/all"
	sub "${anna[@]}" -V 5 -i "away-$n" -c -x 3600 -q 1 -t far/none -C 20 -W 100 >"$work/got"
	same "and session $n of 500" "$work/got" <"$work/all"
done
sub "${anna[@]}" -V 5 -i late -t far/state -C 1 -W 180 >"$work/retained"
echo on | same "and a retained message is there" "$work/retained"
if sub -i stranger -t far/x -C 1 -W 10 >/dev/null 2>&1; then fail "nobody has to log in any more"; fi
(lines old- 1 3000; lines new- 1 3000; lines twice- 1 20; echo on) >"$work/all"
kcat -b "$brokers" -C -t far -e -q -X isolation.level=read_committed -f '%s\n' >"$work/got" 2>"$work/kcat.log"
same "and all records, once, in the cluster" "$work/got" <"$work/all"
"$firth" group describe readers -b "$brokers" -o json | tr -d ' \n' >"$work/group"
grep -q '"committed":100' "$work/group" || { cat "$work/group" >&2; fail "the group goes on elsewhere"; }
pass "and a group goes on where it was"
echo "one gateway before three brokers: passed"
