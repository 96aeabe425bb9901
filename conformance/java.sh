#!/usr/bin/env bash
# The official Java clients, as Maven has them: producer, consumer, admin.
. "$(dirname "$0")/lib.sh"
"$here/install.sh" java
cp -r "$here/java" "$work/java"
cd "$work/java"
"$again" timeout 600 mvn -q -B -ntp compile dependency:build-classpath -Dmdep.outputFile=target/classpath
cd "$repo"
start_firth
timeout 600 java -cp "$work/java/target/classes:$(cat "$work/java/target/classpath")" Gate
stop_firth
echo "Java clients: all passed"
