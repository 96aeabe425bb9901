#!/usr/bin/env bash
# Kafka's own command-line tools, as Maven has them: conformance/tools/plays has the commands and what they must print.
# Journal files are small, so that there is something to compact for LogCompactionTester.
. "$(dirname "$0")/lib.sh"
"$here/install.sh" java
cp -r "$here/tools" "$work/tools"
cd "$work/tools"
"$again" timeout 600 mvn -q -B -ntp compile dependency:build-classpath -Dmdep.outputFile=target/classpath
cd "$repo"
start_firth --set limits.journal_file=1MiB
cd "$work/tools/plays" # files that they name are there
timeout 600 java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx256m --add-opens java.base/java.lang=ALL-UNNAMED \
	"-Djava.io.tmpdir=$work" -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
	-cp "$work/tools/target/classes:$(cat "$work/tools/target/classpath")" Tools ./*.txt
stop_firth
echo "Kafka's command-line tools: all passed"
