#!/usr/bin/env bash
# Three gateways before three brokers of Apache Kafka, as a newcomer starts them: pastes the blocks of docs/gateway.md,
# one after the other, into a shell in a folder where Apache Kafka is (as Maven has it: its scripts in bin are ours). Then
# HAProxy and nginx before the gateways, by examples/balancer: a device finds its session through each, with the address
# that is its own, also when the gateway that serves has died.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repo=$(dirname "$here")
if [ -z "${GATEWAYS_NET:-}" ]; then
	"$here/install.sh" clients java balancers
	if [ -z "${FIRTH:-}" ]; then (cd "$repo" && CGO_ENABLED=0 go build -trimpath -o build/firth ./cmd/firth); fi
	jars=$(mktemp -d "${TMPDIR:-/tmp}/firth-jars.XXXXXX")
	trap 'rm -rf "$jars"' EXIT
	cp "$repo/bench/kafka/pom.xml" "$jars/"
	(cd "$jars" && "$repo/.ci/again" timeout 600 mvn -q -B -ntp dependency:build-classpath -Dmdep.outputFile="$jars/path")
	CLASSPATH=$(cat "$jars/path")
	export CLASSPATH GATEWAYS_NET=own
	# The page has fixed ports: a network of its own has them free.
	net=()
	if unshare -n ip link set lo up 2>/dev/null; then net=(unshare -n); fi
	if [ ${#net[@]} -eq 0 ] && unshare -rn ip link set lo up 2>/dev/null; then net=(unshare -rn); fi
	[ ${#net[@]} -eq 0 ] || net+=(bash -c 'ip link set lo up && exec "$0" "$@"')
	"${net[@]}" "$0" "$@"
	exit
fi
# shellcheck source=conformance/lib.sh
. "$(dirname "$0")/lib.sh"
page=$repo/docs/gateway.md
firth=${FIRTH:-$repo/build/firth}
mkdir "$work/bin" "$work/path"
ln -s "$(realpath "$firth")" "$work/path/firth"
export PATH="$work/path:$PATH:/usr/sbin"
export FIRTH_LOG_KAFKA_TAKEOVER=15s # in place of 6 s: a busy machine is no dead gateway
cd "$work"

script() { # script NAME: what is in Kafka's folder by that name
	cat >"bin/$1"
	chmod +x "bin/$1"
}
java='exec java -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1'
script kafka-storage.sh <<<"#!/bin/sh
$java kafka.tools.StorageTool \"\$@\""
script kafka-console-consumer.sh <<<"#!/bin/sh
$java org.apache.kafka.tools.consumer.ConsoleConsumer \"\$@\""
script kafka-server-start.sh <<<"#!/bin/sh
shift
$java kafka.Kafka \"\$@\" >>\"\$1.log\" 2>&1 &"

blocks=() # process groups of blocks, with what they have left running
end_blocks() {
	local group
	for group in "${blocks[@]}"; do kill -9 -- "-$group" 2>/dev/null || true; done
}
trap 'status=$?; set +e; end_blocks; (exit $status); finish' EXIT

# block NAME TEXT...: pastes a block of the page, which prints each text.
block() {
	local name=$1 from=$SECONDS text pid
	shift
	awk -v mark="<!-- try: $name -->" '$0 == mark {on = 1; next} on == 1 && /^```sh$/ {on = 2; next} on == 2 && /^```$/ {exit}
		on == 2' "$page" >"block.$name"
	[ -s "block.$name" ] || fail "$page has no block $name"
	setsid bash "block.$name" >"printed.$name" 2>&1 </dev/null &
	pid=$!
	blocks+=("$pid")
	timeout 600 tail --pid="$pid" -s 0.05 -f /dev/null || { cat "printed.$name" >&2; fail "block $name does not end"; }
	wait "$pid" || { cat "printed.$name" >&2; fail "block $name ended with status $?"; }
	for text in "$@"; do
		grep -qF -- "$text" "printed.$name" || { cat "printed.$name" >&2; fail "block $name does not show: $text"; }
	done
	pass "$page, block $name, as it says ($((SECONDS - from)) s)"
	tried=$((tried + 1))
}

gone() { ! kill -0 "$1" 2>/dev/null; }

tried=0
page=docs/gateway.md
ln -s "$repo/docs" docs
block brokers Formatting
block gateways ok 'standing by: devices are passed on'
block devices 'sensors/room1/temp 21.5'
grep -qx 21.5 printed.devices || { cat printed.devices >&2; fail "the Kafka consumer shows no 21.5"; }
block drain 'stands by' serves 'sensors/room1/temp 22'
wait_for 60 "end of the drained gateway" gone "$(cat try/gateway1.pid)"

# --- behind load balancers
serves() { # serves N: whether gateway N is the one that serves
	[ "$(curl -s "http://127.0.0.1:1808$1/readyz")" = ok ] && serving=$1
}
one_serves() { serves 2 || serves 3; }
wait_for 180 "gateway that serves" one_serves
sed 's/127.0.0.1:1883/127.0.0.1:1884/' "$repo/examples/balancer/nginx.conf" >nginx.conf # beside HAProxy
haproxy -f "$repo/examples/balancer/haproxy.cfg" -db >haproxy.log 2>&1 &
others+=($!)
nginx -c "$work/nginx.conf" -e "$work/nginx.log" -g "daemon off; pid $work/nginx.pid;" >nginx.out 2>&1 &
others+=($!)
through() { # through PORT: publishes by a load balancer
	timeout 20 mosquitto_pub -p "$1" -q 1 -t "fleet/$1" -m "$2" 2>/dev/null
}
declare -A device=()
for port in 1883 1884; do # each has an address of its own, which the gateway is to see
	wait_for 180 "service behind port $port" through "$port" first
	stdbuf -oL mosquitto_sub -A "127.0.7.$((port - 1800))" -p "$port" -i "device-$port" -c -k 10 -q 1 -t "fleet/$port" \
		-d >"device-$port" 2>&1 &
	device[$port]=$!
	others+=($!)
	wait_for 180 "SUBACK by port $port" grep -q '^Subscribed' "device-$port"
	"$firth" session show "device-$port" --http "127.0.0.1:1808$serving" --data "try/gateway$serving" >session
	grep -q "127.0.7.$((port - 1800))" session || { cat session >&2; fail "another address than that of the device"; }
done
kill -9 "$(cat "try/gateway$serving.pid")"
from=$(date +%s%N)
for port in 1883 1884; do
	wait_for 180 "service behind port $port" through "$port" after
	echo "  published by port $port $((($(date +%s%N) - from) / 1000000)) ms after kill -9 of the gateway that serves"
done
for port in 1883 1884; do
	wait_for 180 "message to the device behind port $port" grep -qx after "device-$port"
	kill -0 "${device[$port]}" || fail "the device behind port $port has ended"
done
pass "HAProxy and nginx: devices are served again after kill -9 of a gateway, and have their own addresses"

[ "$tried" -eq "$(grep -c '^<!-- try: ' "$page")" ] || fail "the page has blocks that were not tried"
for log in try/gateway*.log; do
	if grep -E '^panic:|goroutine [0-9]+ \[|level=ERROR' "$log" >&2; then fail "$log has errors"; fi
done
echo "three gateways before three brokers: passed in $SECONDS s"
