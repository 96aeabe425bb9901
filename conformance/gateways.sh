#!/usr/bin/env bash
# Three gateways before three brokers of Apache Kafka, as a newcomer starts them: pastes the blocks of docs/gateway.md,
# one after the other, into a shell in a folder where Apache Kafka is (as Maven has it: its scripts in bin are ours). Then
# HAProxy and nginx before the gateways, by examples/balancer: a device finds its session through each, with the address
# that is its own, also when the gateway that serves has died.
# shellcheck source=conformance/lib.sh
. "$(dirname "$0")/lib.sh"
if [ -z "${GATEWAYS_NET:-}" ]; then
	"$here/install.sh" clients java balancers
	if [ -z "${FIRTH:-}" ]; then (cd "$repo" && CGO_ENABLED=0 go build -trimpath -o build/firth ./cmd/firth); fi
	jars "$repo/bench/kafka/pom.xml"
	export CLASSPATH=$jars GATEWAYS_NET=own
	# The page has fixed ports: a network of its own has them free.
	net=()
	if unshare -n ip link set lo up 2>/dev/null; then net=(unshare -n); fi
	if [ ${#net[@]} -eq 0 ] && unshare -rn ip link set lo up 2>/dev/null; then net=(unshare -rn); fi
	[ ${#net[@]} -eq 0 ] || net+=(bash -c 'ip link set lo up && exec "$0" "$@"')
	"${net[@]}" "$0" "$@"
	exit
fi
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

# The shell of a block lives on, so that what the block has left running ends with it: it is all one process group.
cat >lead <<"END"
trap 'kill -9 0' TERM
bash "block.$1" >"printed.$1" 2>&1 &
wait $! && status=0 || status=$?
echo $status >"ended.$1"
sleep infinity &
wait
END
has_ended() { [ -s "ended.$1" ]; }

# block NAME TEXT...: pastes a block of the page, which prints each text.
block() {
	local name=$1 from=$SECONDS text status
	shift
	awk -v mark="<!-- try: $name -->" '$0 == mark {on = 1; next} on == 1 && /^```sh$/ {on = 2; next} on == 2 && /^```$/ {exit}
		on == 2' "$page" >"block.$name"
	[ -s "block.$name" ] || fail "$page has no block $name"
	setsid bash lead "$name" </dev/null >/dev/null 2>&1 &
	others+=($!)
	disown # bash would tell of its end
	while ! has_ended "$name"; do
		[ $((SECONDS - from)) -lt 600 ] || { cat "printed.$name" >&2; fail "block $name does not end"; }
		sleep 0.05
	done
	status=$(<"ended.$name")
	[ "$status" -eq 0 ] || { cat "printed.$name" >&2; fail "block $name ended with status $status"; }
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
