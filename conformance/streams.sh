#!/usr/bin/env bash
# What Kafka has to prove transactions, from its own jars: the word count of its documentation, kafka-transactions.sh, and,
# both at once, while the server, the copiers and the instances of Streams are killed (kill -9) and started again,
# TransactionalMessageCopier with aborts at random and the smoke test of Kafka Streams with exactly_once_v2. Word count
# and smoke test run once more under the streams protocol (group.protocol=streams, KIP-1071), on a server of their own.
# [Kafka-StreamsGroupDescribe] [Kafka-StreamsGroupHeartbeat]
. "$(dirname "$0")/lib.sh"
"$here/install.sh" java clients
rounds=${ROUNDS:-9} records=${RECORDS:-120000}
cp -r "$here/streams" "$work/streams"
cd "$work/streams"
"$again" timeout 600 mvn -q -B -ntp compile dependency:build-classpath -Dmdep.outputFile=target/classpath
cd "$repo"
classes=$work/streams/target/classes:$(cat "$work/streams/target/classpath")
quick=(-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx256m "-Djava.io.tmpdir=$work"
	-Dorg.slf4j.simpleLogger.defaultLogLevel=warn)

declare -A running # what runs: its process id by its name
# run NAME CLASS ARGUMENT...: in the background, its words in a file.
run() {
	local name=$1
	shift
	java "${quick[@]}" -cp "$classes" "$@" >"$work/$name.log" 2>&1 &
	running[$name]=$!
	others+=($!)
}
copier() {
	run "copier$1" org.apache.kafka.tools.TransactionalMessageCopier --broker-list "$kafka" --transactional-id "copier-$1" \
		--input-topic input --input-partition -1 --output-topic output --consumer-group copiers --transaction-size 20 \
		--transaction-timeout 60000 --enable-random-aborts --group-mode --use-group-metadata
}
instance() { run "instance$1" org.apache.kafka.streams.tests.StreamsSmokeTest "$work/streams.properties" process; }
kill_one() {
	kill -9 "${running[$1]}" 2>/dev/null || true
	wait "${running[$1]}" 2>/dev/null || true
}
alive() { kill -0 "${running[$1]}" 2>/dev/null; }
said() { grep -qs -- "$2" "$work/$1.log"; }
copying() { grep -qE '"totalProcessed":[1-9]' "$work"/copier?.log 2>/dev/null; }
# copied: how many records the copiers have copied since they were started, as they say.
copied() {
	local log n all=0
	for log in "$work"/copier?.log; do
		n=$(grep -oE '"totalProcessed":[0-9]+' "$log" | tail -n 1) || n=
		n=${n##*:}
		all=$((all + ${n:-0}))
	done
	echo "$all"
}
goes_on() { grep -qE '"totalProcessed":[1-9]' "$work/copier$1.log" || ! alive "copier$1"; }
kill_firth() {
	kill -9 "$firth_pid"
	wait "$firth_pid" 2>/dev/null || true
	restart_firth "${settings[@]}"
}

settings=(--set groups.min_session_timeout=1s)
start_firth "${settings[@]}"
export kafka
# The word count of Kafka's documentation, as docs/transactions.md has it: the scripts are those of Kafka's folder.
mkdir -p "$work/kafka/bin"
script() { # script NAME CLASS
	printf '#!/bin/sh\nexec java %s -cp %s %s "$@"\n' "${quick[*]}" "$classes" "$2" >"$work/kafka/bin/$1"
	chmod +x "$work/kafka/bin/$1"
}
script kafka-topics.sh org.apache.kafka.tools.TopicCommand
script kafka-run-class.sh ''
script kafka-console-producer.sh org.apache.kafka.tools.ConsoleProducer
script kafka-console-consumer.sh org.apache.kafka.tools.consumer.ConsoleConsumer
# count_words PROTOCOL
count_words() {
	awk '/^```sh$/ { on = 1; next } /^```$/ { on = 0 } on' "$repo/docs/transactions.md" >"$work/words"
	grep -q WordCountDemo "$work/words" || fail "docs/transactions.md has no word count"
	sed -i "s/localhost:9092/$kafka/g; s/processing.guarantee=/group.protocol=$1 &/" "$work/words"
	(cd "$work/kafka" && timeout 300 bash -e "$work/words" >"$work/words.log" 2>&1) ||
		{ cat "$work/words.log" >&2; fail "word count, $1"; }
	for word in all streams lead to kafka; do
		grep -qx "$word	1" "$work/words.log" || { cat "$work/words.log" >&2; fail "word count, $1: no $word"; }
	done
}
count_words classic
pass "word count of Kafka's documentation, as docs/transactions.md tells to paste it"

# tool ARGUMENT...: kafka-transactions.sh; shows WHAT ARGUMENT...: it prints what matches.
tool() {
	timeout 300 java "${quick[@]}" -cp "$classes" org.apache.kafka.tools.TransactionsCommand --bootstrap-server "$kafka" \
		"$@" >"$work/printed" 2>&1 || { cat "$work/printed" >&2; fail "kafka-transactions.sh $*"; }
}
shows() {
	local what=$1
	shift
	tool "$@"
	grep -qE -- "$what" "$work/printed" || { cat "$work/printed" >&2; fail "kafka-transactions.sh $* shows no $what"; }
}
run open Drive open left-open
wait_for 180 "open transaction" said open '^open'
shows 'left-open.*Ongoing' list
shows 'left-open.*Ongoing.*left-open-0' describe --transactional-id left-open
shows '[0-9]+.*[[:space:]]0[[:space:]]*$' describe-producers --topic left-open --partition 0
shows '^Topic[[:space:]]+Partition' find-hanging --topic left-open --max-transaction-timeout 1
if grep -q left-open "$work/printed"; then fail "a transaction under way counts as one that hangs"; fi
tool abort --topic left-open --partition 0 --start-offset 0
shows 'None[[:space:]]*$' describe-producers --topic left-open --partition 0
tool forceTerminateTransaction --transactionalId left-open
shows 'left-open.*Empty' list
kill_one open
pass "kafka-transactions.sh: list, describe, describe-producers, find-hanging, abort, forceTerminateTransaction"

cat >"$work/streams.properties" <<-END
	bootstrap.servers=$kafka
	processing.guarantee=exactly_once_v2
	num.stream.threads=1
	session.timeout.ms=6000
	heartbeat.interval.ms=1000
	transaction.timeout.ms=6000
	commit.interval.ms=200
END
run seed Drive seed "$records"
wait "${running[seed]}" || fail "the input of the copiers: $(tail -n 5 "$work/seed.log")"
# A device is subscribed to the copy. What Kafka clients send without mqtt.flags has QoS 0: what comes while the device
# is not connected is not kept for it.
stdbuf -oL mosquitto_sub -d -V 5 -h "$mqtt_host" -p "$mqtt_port" -q 2 -t 'output/#' -F 'got %t %p' \
	>"$work/device" 2>/dev/null &
others+=($!)
wait_for 180 "SUBACK" grep -q '^Subscribed' "$work/device"
run smoke Drive smoke "$((rounds * 4))"
wait_for 180 "topics of the smoke test" said smoke '^topics made'
for n in 1 2; do
	copier $n
	instance $n
done
wait_for 180 "first transactions" copying
wait_for 180 "record at the device" grep -q '^got ' "$work/device"

# The server is killed each time; each third time also a copier and an instance of Streams, in turn. The first three
# times come after some of the records, however quick the copiers are: they are to be at work.
atwork=0
for round in $(seq "$rounds"); do
	from=$(copied)
	for _ in $(seq 30); do
		sleep 0.1
		[ "$atwork" -ge 3 ] || [ $(($(copied) - from)) -lt $((records / 15)) ] || break
	done
	if alive copier1 || alive copier2; then atwork=$((atwork + 1)); fi
	kill_firth
	[ $((round % 3)) -eq 0 ] || continue
	n=$((round / 3 % 2 + 1))
	kill_one copier$n
	copier $n
	kill_one instance$n
	instance $n
	wait_for 180 "transactions of a copier that was killed" goes_on $n
done
[ "$atwork" -ge 3 ] || fail "the copiers had done their work before the server was killed three times"
pass "the server killed $rounds times, $atwork of them under copiers at work; copiers and instances of Streams killed"
timeout 900 java "${quick[@]}" -cp "$classes" Drive copied "$records"
# What was aborted was copied again: who saw it saw a number twice, or one that is too high.
sed -n 's/^got //p' "$work/device" >"$work/watched"
awk '$1 in last && $2 <= last[$1] { exit 1 } { last[$1] = $2 }' "$work/watched" ||
	fail "a subscriber saw records out of order, or that were aborted"
seen=$(wc -l <"$work/watched")
[ "$seen" -ge "$((records / 4))" ] || fail "a subscriber saw $seen of $records records"
timeout 300 mosquitto_sub -V 5 -h "$mqtt_host" -p "$mqtt_port" -q 1 -t '$replay/earliest/output/#' -C "$records" \
	-F '%t %p' >"$work/replayed" || fail "replay of the copy: $(wc -l <"$work/replayed") of $records records"
seq 0 "$((records - 1))" | awk '{ print "output/" $1 % 4, $1 }' | sort >"$work/wanted"
sort "$work/replayed" | cmp - "$work/wanted" || fail "a replay of the copy does not have each record once"
pass "MQTT: $seen records of the copy as they came, and all in a replay, committed ones only"
streams_right() { wait "${running[smoke]}" && grep -q '^SUCCESS' "$work/smoke.log"; }
streams_right || { tail -n 60 "$work/smoke.log" >&2; fail "the smoke test of Streams"; }
pass "smoke test of Kafka Streams, exactly_once_v2: $(grep '^verifying topic' "$work/smoke.log" | sort -u | wc -l) topics verified"
for name in copier1 copier2 instance1 instance2; do kill_one $name; done

stop_firth

rm -rf "$work/data" "$work/kafka-streams" # with the counts of words that instances keep beside the server
settings=(--set groups.consumer_session_timeout=6s --set groups.consumer_heartbeat_interval=1s)
start_firth "${settings[@]}"
export kafka
count_words streams
pass "word count, group.protocol=streams"
sed -i "s/^bootstrap.servers=.*/bootstrap.servers=$kafka/; \$ a group.protocol=streams" "$work/streams.properties"
run smoke Drive smoke 24
wait_for 180 "topics of the smoke test" said smoke '^topics made'
instance 1
instance 2
for round in 1 2 3; do
	sleep 4
	kill_firth
	kill_one instance$((round % 2 + 1))
	instance $((round % 2 + 1))
done
streams_right || { tail -n 60 "$work/smoke.log" >&2; fail "the smoke test of Streams, group.protocol=streams"; }
tools() { timeout 300 java "${quick[@]}" -cp "$classes" org.apache.kafka.tools.streams.StreamsGroupCommand \
	--bootstrap-server "$kafka" "$@" >"$work/printed" 2>&1 || { cat "$work/printed" >&2; fail "kafka-streams-groups.sh $*"; }; }
tools --list
grep -qx SmokeTest "$work/printed" || { cat "$work/printed" >&2; fail "kafka-streams-groups.sh lists no SmokeTest"; }
tools --describe --members --group SmokeTest
grep -q SmokeTest "$work/printed" || { cat "$work/printed" >&2; fail "kafka-streams-groups.sh describes no member"; }
for name in instance1 instance2; do kill_one $name; done
pass "smoke test of Kafka Streams, group.protocol=streams: server and instances killed 3 times"
stop_firth
echo "Kafka's tests of transactions and of Streams: all passed"
