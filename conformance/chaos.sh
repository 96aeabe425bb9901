#!/usr/bin/env bash
# Three gateways that share sessions before three brokers of Apache Kafka, killed, restarted and cut off for GATEWAYS (2m)
# under devices with QoS 0, 1 and 2, wills and a Kafka consumer. BLOWS is an expression of the names of what is struck:
# pauses of gateways stay out, for on a busy machine a short one is a long one, and what a gateway does that was paused
# for longer than others wait is known to be open (docs/design/0014-gateway.md). make torture-gateways strikes all.
# TAKEOVER (15s) is long for the same reason: a busy machine is no dead gateway. It is no gate of run.sh yet.
# shellcheck source=conformance/lib.sh
. "$(dirname "$0")/lib.sh"
"$here/install.sh" clients java
jars "$here/chaos/pom.xml"
if [ -z "${FIRTH:-}" ]; then (cd "$repo" && CGO_ENABLED=0 go build -trimpath -o build/firth ./cmd/firth); fi
cd "$repo"
log=$work/chaos.log
FIRTH=${FIRTH:-$repo/build/firth} FIRTH_TEST_KAFKA_JARS=$jars go test -count=1 -timeout 120m -v -run 'TestGateways$' ./torture \
	-args -gateways "${GATEWAYS:-2m}" -gateways.blows "${BLOWS-kill|roll|cut|pause of a broker}" \
	-gateways.takeover "${TAKEOVER:-15s}" -gateways.within "${WITHIN:-0}" 2>&1 | tee "$log"
grep -q '^--- PASS: TestGateways' "$log" || fail "the gateways were not struck"
