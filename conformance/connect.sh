#!/usr/bin/env bash
# Kafka Connect and MirrorMaker 2, from Kafka's own jars: docs/connect.md as it tells to paste it; a distributed worker with
# the file connectors and exactly-once sources, while the server and the worker are killed (kill -9); a mirror of one server
# on another.
. "$(dirname "$0")/lib.sh"
"$here/install.sh" java clients
command -v curl >/dev/null || fail "there is no curl"
lines=${LINES_IN:-20000} kills=${KILLS:-4}
cp -r "$here/connect" "$work/jars"
(cd "$work/jars" && "$again" timeout 600 mvn -q -B -ntp dependency:build-classpath -Dmdep.outputFile=classpath)
classes=$(cat "$work/jars/classpath")
quick=(-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx400m "-Djava.io.tmpdir=$work"
	-Dorg.slf4j.simpleLogger.defaultLogLevel=warn)
mkdir "$work/plugins" # there are none but those of the class path
kill_firth() {
	kill -9 "$firth_pid"
	wait "$firth_pid" 2>/dev/null || true
	restart_firth
}
# committed ADDRESS TOPIC FORMAT: all records of a topic that are committed.
committed() { kcat -b "$1" -t "$2" -C -e -q -X isolation.level=read_committed -f "$3" 2>/dev/null; }

# A distributed worker.
rest=http://127.0.0.1:$(free_ports 1)
start_worker() {
	cat >"$work/worker.properties" <<-END
		bootstrap.servers=$kafka
		group.id=workers
		key.converter=org.apache.kafka.connect.storage.StringConverter
		value.converter=org.apache.kafka.connect.storage.StringConverter
		config.storage.topic=connect-configs
		offset.storage.topic=connect-offsets
		status.storage.topic=connect-status
		config.storage.replication.factor=1
		offset.storage.replication.factor=1
		status.storage.replication.factor=1
		offset.flush.interval.ms=500
		exactly.once.source.support=enabled
		session.timeout.ms=6000
		heartbeat.interval.ms=1000
		scheduled.rebalance.max.delay.ms=0
		listeners=$rest
		plugin.path=$work/plugins
		plugin.discovery=service_load
	END
	java "${quick[@]}" -cp "$classes" org.apache.kafka.connect.cli.ConnectDistributed "$work/worker.properties" \
		>>"$work/worker.log" 2>&1 &
	worker_pid=$!
	others+=("$worker_pid")
}
answers() { curl -sf -m 10 "$rest/$1"; }
fail() {
	echo "FAIL: $*" >&2
	if [ -s "$work/worker.log" ]; then
		answers 'connectors?expand=status' >&2 || echo "the worker does not answer" >&2
		echo "--- the last words of the worker:" >&2
		grep -vE '^[[:space:]]+at ' "$work/worker.log" | tail -n 60 >&2
	fi
	exit 1
}
connector() { # connector NAME JSON
	curl -sf -m 60 -X PUT -H 'Content-Type: application/json' -d "$2" "$rest/connectors/$1/config" >"$work/put" 2>&1
}
runs() { [ "$(answers "connectors/$1/status" | grep -o '"state":"RUNNING"' | wc -l)" -ge 2 ]; }

# docs/connect.md, in a folder that has what Kafka's has.
mkdir -p "$work/kafka/bin" "$work/kafka/config" "$work/kafka/libs"
ln -s "$(tr : '\n' <"$work/jars/classpath" | grep connect-file)" "$work/kafka/libs/"
script() { # script NAME CLASS
	printf '#!/bin/sh\nexec java %s -cp %s %s "$@"\n' "${quick[*]}" "$classes" "$2" >"$work/kafka/bin/$1"
	chmod +x "$work/kafka/bin/$1"
}
script connect-standalone.sh org.apache.kafka.connect.cli.ConnectStandalone
script kafka-console-consumer.sh org.apache.kafka.tools.consumer.ConsoleConsumer
cat >"$work/kafka/config/connect-standalone.properties" <<-END
	bootstrap.servers=localhost:9092
	key.converter=org.apache.kafka.connect.json.JsonConverter
	value.converter=org.apache.kafka.connect.json.JsonConverter
	key.converter.schemas.enable=true
	value.converter.schemas.enable=true
	offset.storage.file.filename=$work/connect.offsets
	offset.flush.interval.ms=10000
	listeners=$rest
END
printf '%s\n' name=local-file-source connector.class=FileStreamSource tasks.max=1 file=test.txt topic=connect-test \
	>"$work/kafka/config/connect-file-source.properties"
printf '%s\n' name=local-file-sink connector.class=FileStreamSink tasks.max=1 file=test.sink.txt topics=connect-test \
	>"$work/kafka/config/connect-file-sink.properties"
# paste N TEXT...: runs the n-th block of the page and wants the lines.
paste() {
	local n=$1 text
	shift
	awk -v n="$n" '/^```sh$/ { on = ++at == n; next } /^```$/ { on = 0 } on' "$repo/docs/connect.md" >"$work/block"
	[ -s "$work/block" ] || fail "docs/connect.md has no block $n"
	sed -i "s/localhost:9092/$kafka/g; s/^firth pub /&-p $mqtt_port /" "$work/block" "$work"/kafka/config/*
	(cd "$work/kafka" && timeout 900 bash -e "$work/block" >"$work/pasted.log" 2>&1) ||
		{ cat "$work/pasted.log" >&2; fail "docs/connect.md, block $n"; }
	for text in "$@"; do
		grep -qxF -- "$text" "$work/pasted.log" || { cat "$work/pasted.log" >&2; fail "docs/connect.md does not show $text"; }
	done
}

start_firth
ln -s "$(realpath "$firth")" "$work/kafka/bin/firth"
PATH=$work/kafka/bin:$PATH paste 1 '{"schema":{"type":"string","optional":false},"payload":"foo"}' \
	'{"schema":{"type":"string","optional":false},"payload":"bar"}' bar
PATH=$work/kafka/bin:$PATH paste 2 21.5
pass "docs/connect.md: the quick start of Connect, and a device's message in a file"

start_worker
wait_for 300 "REST interface of the worker" answers connectors
echo 0 >"$work/in.txt"
wait_for 180 "source connector" connector source '{"connector.class": "FileStreamSource", "tasks.max": "1",
	"file": "'"$work/in.txt"'", "topic": "lines", "exactly.once.support": "required", "batch.size": "100"}'
wait_for 180 "sink connector" connector sink '{"connector.class": "FileStreamSink", "tasks.max": "1", "topics": "lines",
	"file": "'"$work/out.txt"'", "consumer.override.isolation.level": "read_committed"}'
wait_for 300 "line in the sink" test -s "$work/out.txt"
wait_for 180 "source connector that runs" runs source
wait_for 180 "sink connector that runs" runs sink
stdbuf -oL mosquitto_sub -d -V 5 -h "$mqtt_host" -p "$mqtt_port" -t lines -F 'got %p' >"$work/device" &
others+=($!)
wait_for 180 "subscription" grep -q '^Subscribed' "$work/device"
echo 1 >>"$work/in.txt"
wait_for 180 "line that a device gets" grep -qx 'got 1' "$work/device"
mosquitto_pub -V 5 -h "$mqtt_host" -p "$mqtt_port" -q 1 -t lines/device -m 'said by a device'
wait_for 180 "message of a device in the sink" grep -qx 'said by a device' "$work/out.txt"
pass "Connect, distributed: a line of the source is in the sink and at a device, a device's message in the sink"

grow() { for from in $(seq 2 100 "$lines"); do
	seq "$from" $((from + 99))
	sleep 0.1
done >>"$work/in.txt"; }
grow &
grower=$!
others+=("$grower")
for kill in $(seq "$kills"); do
	sleep 3
	kill_firth
	[ "$kill" -eq 2 ] || continue
	kill -9 "$worker_pid"
	wait "$worker_pid" 2>/dev/null || true
	start_worker
done
wait "$grower"
# Lines that the source has read beyond a batch stay in its buffer until there are more: it gets more.
last=$(tail -n 1 "$work/in.txt")
arrived() { grep -qx "$last" "$work/out.txt" || { echo "more $SECONDS $RANDOM" >>"$work/in.txt"; sleep 0.5; false; }; }
wait_for 240 "last line in the sink" arrived
same() { # same FILE: it begins as the input does, and has all that was counted
	grep -vx 'said by a device' "$1" >"$work/got"
	[ "$(wc -l <"$work/got")" -gt "$last" ] && head -n "$(wc -l <"$work/got")" "$work/in.txt" | cmp - "$work/got"
}
# The sink may repeat lines behind a kill: it commits what it has written. The topic has each once.
committed "$kafka" lines '%s\n' >"$work/topic"
same "$work/topic" || fail "the topic is not the file"
awk '!seen[$0]++' "$work/out.txt" >"$work/once"
same "$work/once" || fail "lines were lost"
pass "Connect: $last lines, each once in the topic, $(($(wc -l <"$work/out.txt") - $(wc -l <"$work/once"))) repeated in the" \
	"sink, the server killed $kills times and the worker once"
kill "$worker_pid"
wait "$worker_pid" || true

# MirrorMaker 2 onto a second server, as docs/connect.md has it; only the intervals are shorter.
centre=127.0.0.1:0
start_centre() {
	: >"$work/centre.log"
	"$firth" serve --set "data=$work/centre" --set listen.mqtt=off --set listen.ws=off --set "listen.kafka=$centre" \
		--set listen.http=off >"$work/centre.log" 2>&1 &
	centre_pid=$!
	others+=("$centre_pid")
	wait_for 180 "second server" grep -q '^kafka ' "$work/centre.log"
	centre=$(sed -n 's/^kafka *//p' "$work/centre.log")
}
dump() { committed "$1" "$2" '%p %k %s %h %T\n' | sort; }
mirrored() { dump "$kafka" "$1" >"$work/there" && dump "$centre" "edge.$1" >"$work/here" && cmp -s "$work/there" "$work/here"; }
not_empty() { [ -n "$(kcat -b "$centre" -t "$1" -C -c 1 -e -q 2>/dev/null)" ]; }
synced() { "$firth" group describe readers -b "$centre" 2>/dev/null | grep -E '^edge.orders +2 +[1-9]' >/dev/null; }
orders() { seq "$1" "$2" | sed 's/.*/key& value&/' | kcat -b "$kafka" -t orders -P -K ' ' -H source=kcat; }

start_centre
{
	awk '/^```/ { on = !in_block && $0 == "```"; in_block = !in_block; next } on && / = /' "$repo/docs/connect.md"
	printf '%s = %s\n' 'edge->centre.sync.group.offsets.interval.seconds' 1 'edge->centre.offset.lag.max' 0 \
		'edge->centre.emit.checkpoints.interval.seconds' 1 'edge->centre.refresh.groups.interval.seconds' 1 \
		'edge->centre.refresh.topics.interval.seconds' 1 'edge->centre.topics' 'lines|orders' \
		centre.offset.flush.interval.ms 500 edge.plugin.discovery service_load centre.plugin.discovery service_load \
		listeners "$rest"
} | sed "s/gateway:9092/$kafka/; s/centre:9092/$centre/" >"$work/mirror.properties"
"$firth" topic create orders -p 3 -c retention.ms=3600000 -b "$kafka"
orders 1 1000
kcat -b "$kafka" -q -X auto.offset.reset=earliest -e -G readers orders >"$work/read" 2>&1
timeout -k 5 900 java "${quick[@]}" -cp "$classes" org.apache.kafka.connect.mirror.MirrorMaker "$work/mirror.properties" \
	>"$work/mirror.log" 2>&1 &
mirror_pid=$!
others+=("$mirror_pid")
wait_for 300 "copy of the orders" mirrored orders
wait_for 180 "copy of what Connect has written in transactions" mirrored lines
wait_for 180 "offsets of a group" synced
wait_for 180 "checkpoints" not_empty edge.checkpoints.internal
wait_for 180 "heartbeats" not_empty heartbeats
"$firth" topic describe edge.orders -b "$centre" >"$work/described"
grep -q 'retention.ms.*3600000' "$work/described" || fail "edge.orders has other settings: $(cat "$work/described")"
for n in $(seq 1 20); do
	orders "$n"000 "$n"100
	if [ $((n % 8)) -eq 0 ]; then
		kill -9 "$centre_pid"
		wait "$centre_pid" || true
		start_centre
	fi
done
wait_for 300 "copy of what came while the second server was killed" mirrored orders
pass "MirrorMaker 2: $(wc -l <"$work/here") records of a topic, each once in the copy, the second server killed twice;" \
	"offsets of a group, checkpoints, heartbeats, settings"

kill "$mirror_pid"
wait "$mirror_pid" 2>/dev/null || true
kill -TERM "$centre_pid"
wait "$centre_pid" || fail "the second server ended with status $?"
if grep 'level=ERROR' "$work/centre.log" >&2; then fail "the second server logged errors"; fi
"$firth" log check "$work/centre" >"$work/check.log" 2>&1 || { cat "$work/check.log" >&2; fail "log of the second server"; }
stop_firth
echo "Kafka Connect and MirrorMaker 2: all passed"
