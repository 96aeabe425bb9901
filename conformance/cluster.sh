#!/usr/bin/env bash
# The keeper on a cluster (internal/log/cluster) against Apache Kafka itself: one node in KRaft mode, as Maven has it,
# which the tests start and stop. In go test ./... they are skipped; here a test that was skipped, or did not run, has
# failed. One of them kills its node twice.
. "$(dirname "$0")/lib.sh"
"$here/install.sh" java
jars "$repo/bench/kafka/pom.xml"
cd "$repo"
FIRTH_TEST_KAFKA_JARS=$jars go test -count=1 -timeout 15m -v -run OnKafka ./internal/log/cluster \
	>"$work/test.log" 2>&1 || { tail -n 60 "$work/test.log" >&2; fail "the keeper on Apache Kafka"; }
if grep -E '^--- SKIP' "$work/test.log"; then fail "tests were skipped"; fi
passed=$(grep -cE '^ +--- PASS' "$work/test.log")
[ "$passed" -ge 20 ] || fail "only $passed tests have run"
sed -nE 's/^ +--- SKIP: ([^ ]+).*/  cannot be done to Apache Kafka: \1/p' "$work/test.log"
version=$(sed -nE 's/.*kafka_2.13-([0-9.]+)\.jar.*/\1/p; q' <<<"$jars")
echo "the keeper on Apache Kafka $version: $passed passed"
