#!/usr/bin/env bash
# Flink SQL, from its jars on Maven, in a mini cluster: counts by the second of what devices send go to a topic in
# transactions, while Flink is killed (kill -9) and goes on from its last checkpoint, and the server is killed. A device that
# is subscribed to the counts sees each of them once. And what docs/flink.md tells to paste.
. "$(dirname "$0")/lib.sh"
"$here/install.sh" clients java
cp -r "$here/flink" "$work/flink"
(cd "$work/flink" && "$again" timeout 900 mvn -q -B -ntp compile dependency:build-classpath -Dmdep.outputFile=target/classpath)
java=(java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx768m "-Djava.io.tmpdir=$work"
	-Dorg.slf4j.simpleLogger.defaultLogLevel=warn)
for package in lang lang.reflect io net nio text time util util.concurrent util.concurrent.atomic util.concurrent.locks; do
	java+=("--add-opens=java.base/java.$package=ALL-UNNAMED")
done
java+=(-cp "$work/flink/target/classes:$(cat "$work/flink/target/classpath")")

# sql FILE KEY=VALUE...: in the background, its words in flink.log.
sql() {
	"${java[@]}" Sql "$@" >>"$work/flink.log" 2>&1 &
	flink_pid=$!
	others+=("$flink_pid")
}
at_work() { kill -0 "$flink_pid" 2>/dev/null || { tail -n 60 "$work/flink.log" >&2; fail "Flink ended"; }; }
kill_flink() {
	at_work
	kill -9 "$flink_pid"
	wait "$flink_pid" 2>/dev/null || true
}
lines() { grep -c . "$work/$1" 2>/dev/null || true; }
seen() { at_work; [ "$(lines "$1")" -ge "$2" ]; }
counted() { # what the device has seen counted, of all rooms
	at_work
	[ "$(awk '{ sum += $3 } END { print sum + 0 }' "$work/watched")" -ge "$1" ]
}
publish() { # publish ROOM FROM TO
	seq "$2" "$3" | mosquitto_pub -h "$mqtt_host" -p "$mqtt_port" -q 1 -t "sensors/room$1" -l
}
# checkpoint: the newest that is complete.
checkpoint() { find "$work/checkpoints" -name _metadata -printf '%T@ %h\n' 2>/dev/null | sort -n | tail -n 1 | cut -d' ' -f2; }
another() { at_work; [ "$(checkpoint)" != "$1" ] && [ -n "$(checkpoint)" ]; }

start_firth
sed "s/localhost:9092/$kafka/" "$work/flink/counts.sql" >"$work/counts.sql"
settings=(execution.checkpointing.interval=500ms "execution.checkpointing.dir=file://$work/checkpoints"
	execution.checkpointing.num-retained=3 execution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION
	parallelism.default=1 restart-strategy.type=fixed-delay restart-strategy.fixed-delay.attempts=100
	restart-strategy.fixed-delay.delay=1s)
publish 1 1 500
publish 2 1 500
mosquitto_pub -h "$mqtt_host" -p "$mqtt_port" -q 1 -t counts -n # makes the topic
stdbuf -oL mosquitto_sub -V 311 -h "$mqtt_host" -p "$mqtt_port" -q 2 -c -i watcher -t 'counts/#' -F '%t %p' \
	>"$work/watched" 2>/dev/null &
others+=($!)
sql "$work/counts.sql" "${settings[@]}"
wait_for 400 "first job of Flink" grep -q '^running' "$work/flink.log"
publish 1 501 1000
wait_for 400 "counts" seen watched 2
kill_flink
publish 2 501 1000
sql "$work/counts.sql" "${settings[@]}" "execution.state-recovery.path=file://$(checkpoint)"
before=$(lines watched)
sleep 1.1 # a second more of the records' clock, so that the window before it ends
publish 1 1001 1500
wait_for 400 "counts behind a kill of Flink" seen watched $((before + 1))
pass "Flink killed, and it went on from its checkpoint"
last=$(checkpoint)
kill -9 "$firth_pid"
wait "$firth_pid" 2>/dev/null || true
restart_firth
publish 2 1001 1500
wait_for 400 "checkpoint behind a kill of the server" another "$last"
pass "the server killed beneath it"
# The last windows end when a record of a later second comes.
flush() { publish 3 1 1; at_work; sleep 0.5; [ "$(awk '/room[12]/ { sum += $3 } END { print sum + 0 }' "$work/watched")" -ge 3000 ]; }
wait_for 400 "all counts" flush
for room in 1 2; do
	[ "$(awk "/room$room /"'{ count += $3; sum += $4 } END { print count, sum }' "$work/watched")" = "1500 1125750" ] ||
		{ cat "$work/watched" >&2; fail "the counts of room $room"; }
done
[ -z "$(cut -d' ' -f1,2 "$work/watched" | sort | uniq -d)" ] || { cat "$work/watched" >&2; fail "a window was counted twice"; }
kill_flink
pass "MQTT: $(lines watched) counts, each window once, of 3,000 messages"

# What docs/flink.md tells to paste. sql-client.sh is ours: Flink's own needs its SQL gateway, which is not on Maven.
mkdir -p "$work/home/bin" "$work/path"
awk '/^```sql$/ { on = 1; next } /^```$/ { on = 0 } on' "$repo/docs/flink.md" | sed "s/localhost:9092/$kafka/" \
	>"$work/home/averages.sql"
awk '/^```sh$/ { on = 1; next } /^```$/ { on = 0 } on' "$repo/docs/flink.md" >"$work/home/commands"
grep -q 'sql-client.sh.*-f averages.sql' "$work/home/commands" || fail "docs/flink.md has no command"
printf '#!/bin/sh\ndo=$1\nshift\nexec %s $do -p %s "$@"\n' "$(realpath "$firth")" "$mqtt_port" >"$work/path/firth"
{
	echo '#!/bin/bash'
	echo 'settings=()'
	echo 'for a; do case $a in -D*) settings+=("${a#-D}") ;; -f) ;; *) file=$a ;; esac done'
	printf 'exec'
	printf ' %q' "${java[@]}" Sql
	echo ' "$file" "${settings[@]}"'
} >"$work/home/bin/sql-client.sh"
chmod +x "$work/home/bin/sql-client.sh" "$work/path/firth"
: >"$work/pasted"
(cd "$work/home" && PATH=$work/path:$PATH exec setsid bash commands) >"$work/pasted" 2>&1 &
pasted=$!
averaged() { grep -qE '^averages/sensors/room1/temp 2[0-2]\.' "$work/pasted"; }
until=$((SECONDS + 400))
until averaged || [ $SECONDS -ge $until ] || ! kill -0 $pasted 2>/dev/null; do sleep 0.1; done
kill -9 -- "-$pasted" 2>/dev/null || true
wait $pasted 2>/dev/null || true
grep -E '^averages/sensors/room1/temp 2[0-2]\.' "$work/pasted" || { cat "$work/pasted" >&2; fail "docs/flink.md"; }
pass "the table of docs/flink.md"
stop_firth
echo "Flink: all passed"
