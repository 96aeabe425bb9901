#!/usr/bin/env bash
# The Java clients, as Maven has them: the official ones of Kafka (producer, consumer, admin) and HiveMQ's of MQTT, the
# latter across a restart too.
. "$(dirname "$0")/lib.sh"
"$here/install.sh" java
cp -r "$here/java" "$work/java"
cd "$work/java"
"$again" timeout 600 mvn -q -B -ntp compile dependency:build-classpath -Dmdep.outputFile=target/classpath
cd "$repo"
start_firth --set groups.consumer_heartbeat_interval=500ms
classes=$work/java/target/classes:$(cat "$work/java/target/classpath")
timeout 600 java -cp "$classes" Gate
timeout 900 java -cp "$classes" Limits
timeout 600 java -cp "$classes" Groups
timeout 900 java -cp "$classes" Transactions
timeout 900 java -cp "$classes" Shares
through_restart 240 Devices java -cp "$classes" Devices
stop_firth
echo "Java clients: all passed"
