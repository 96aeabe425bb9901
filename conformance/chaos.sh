#!/usr/bin/env bash
# Three gateways that share sessions before three brokers of Apache Kafka, killed, paused and restarted for GATEWAYS (1m)
# under devices with QoS 0, 1 and 2, wills and a Kafka consumer: make torture-gateways. Not one of the gates that run by
# themselves.
# shellcheck source=conformance/lib.sh
. "$(dirname "$0")/lib.sh"
"$here/install.sh" java
jars "$repo/bench/kafka/pom.xml"
if [ -z "${FIRTH:-}" ]; then (cd "$repo" && CGO_ENABLED=0 go build -trimpath -o build/firth ./cmd/firth); fi
cd "$repo"
FIRTH=${FIRTH:-$repo/build/firth} FIRTH_TEST_KAFKA_JARS=$jars go test -count=1 -timeout 120m -v -run 'TestGateways$' ./torture \
	-args -gateways "${GATEWAYS:-1m}"
