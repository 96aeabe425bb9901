#!/usr/bin/env bash
# The Java clients, as Maven has them: the official ones of Kafka (producer, consumer, admin) and HiveMQ's of MQTT, the
# latter across a restart too.
. "$(dirname "$0")/lib.sh"
"$here/install.sh" java
cp -r "$here/java" "$work/java"
cd "$work/java"
"$again" timeout 600 mvn -q -B -ntp compile dependency:build-classpath -Dmdep.outputFile=target/classpath
cd "$repo"
start_firth
classes=$work/java/target/classes:$(cat "$work/java/target/classpath")
timeout 600 java -cp "$classes" Gate
: >"$work/devices"
timeout 300 java -cp "$classes" Devices > >(tee "$work/devices" | grep --line-buffered -v '^restart$') &
devices=$!
others+=("$devices")
asked() { grep -q '^restart$' "$work/devices" || ! kill -0 "$devices" 2>/dev/null; }
wait_for 240 "wish for a restart" asked
stop_firth
start_firth --set "listen.mqtt=$mqtt"
wait "$devices" || fail "Devices ended with status $?"
stop_firth
echo "Java clients: all passed"
