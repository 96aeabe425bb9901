#!/usr/bin/env bash
# The MQTT cases through three gateways that share sessions, before three brokers of Apache Kafka: each connection goes to
# another gateway than the one before. mqtt/sharing.txt says what is refused there, and why. Not one of the gates that run
# by themselves: conformance/run.sh sharing.
# shellcheck source=conformance/lib.sh
. "$(dirname "$0")/lib.sh"
"$here/install.sh" python java balancers
venv "$here/mqtt/requirements.txt"
jars "$repo/bench/kafka/pom.xml"
java=(java -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$jars")
base=$(free_ports 17) # 6 of the brokers, 9 of the gateways, 2 of the load balancer
firth=${FIRTH:-$repo/build/firth}
if [ -z "${FIRTH:-}" ]; then (cd "$repo" && CGO_ENABLED=0 go build -trimpath -o build/firth ./cmd/firth); fi
brokers=127.0.0.1:$base,127.0.0.1:$((base + 1)),127.0.0.1:$((base + 2))
for n in 0 1 2; do
	mkdir "$work/broker$n"
	cat >"$work/broker$n/server.properties" <<-CONF
		process.roles=broker,controller
		node.id=$n
		controller.quorum.voters=0@127.0.0.1:$((base + 3)),1@127.0.0.1:$((base + 4)),2@127.0.0.1:$((base + 5))
		listeners=PLAINTEXT://127.0.0.1:$((base + n)),CONTROLLER://127.0.0.1:$((base + 3 + n))
		controller.listener.names=CONTROLLER
		log.dirs=$work/broker$n/data
		offsets.topic.num.partitions=1
		transaction.state.log.num.partitions=3
		group.initial.rebalance.delay.ms=0
	CONF
	"${java[@]}" kafka.tools.StorageTool format -t Zmlya2gtdGVzdC1ub2RlMA -c "$work/broker$n/server.properties" \
		>"$work/broker$n/format.log" 2>&1 || { cat "$work/broker$n/format.log" >&2; fail "formatting a broker"; }
	"${java[@]}" kafka.Kafka "$work/broker$n/server.properties" >"$work/broker$n/log" 2>&1 &
	others+=($!)
done
are_there() { [ "$("$firth" topic list -b "127.0.0.1:$((base + $1))" 2>/dev/null | wc -l)" -gt 0 ]; }
for n in 0 1 2; do wait_for 180 "broker" are_there $n; done

answers() { [ "$(curl -s "http://127.0.0.1:$((base + 12 + $1))/readyz")" = ok ]; }
for n in 0 1 2; do
	"$firth" serve --data "$work/gateway$n" --set "log.kafka.brokers=$brokers" --set log.kafka.gateways=shared \
		--set log.kafka.peers.listen=127.0.0.1:0 --set log.kafka.takeover=60s --set audit.enabled=false \
		--set "listen.mqtt=127.0.0.1:$((base + 6 + n))" --set "listen.ws=127.0.0.1:$((base + 9 + n))" \
		--set "listen.http=127.0.0.1:$((base + 12 + n))" >"$work/gateway$n.log" 2>&1 &
	others+=($!)
	wait_for 180 "gateway" answers $n
done
shares() { # each has a third of the sessions: devices of those that move are told to come again
	local n last
	for n in 0 1 2; do
		last=$(grep 'has given out the sessions' "$work/gateway$n.log" | tail -n 1)
		[[ $last =~ nodes=3\ shards=2[12]\  ]] || return 1
	done
}
wait_for 180 "share of the sessions for each gateway" shares
{
	printf 'defaults\n mode tcp\n timeout connect 5s\n timeout client 10m\n timeout server 10m\n'
	for d in 0 1; do # mqtt, ws
		printf 'listen door%d\n bind 127.0.0.1:%d\n balance roundrobin\n' $d $((base + 15 + d))
		for n in 0 1 2; do printf ' server gateway%d 127.0.0.1:%d\n' $n $((base + 6 + 3 * d + n)); done
	done
} >"$work/haproxy.cfg"
haproxy -f "$work/haproxy.cfg" -db >"$work/haproxy.log" 2>&1 &
others+=($!)
takes() { (exec 3<>"/dev/tcp/127.0.0.1/$((base + 15))") 2>/dev/null; }
wait_for 60 "load balancer" takes
export mqtt=127.0.0.1:$((base + 15)) ws=127.0.0.1:$((base + 16)) PYTHONDONTWRITEBYTECODE=1
timeout 900 "$python" "$here/mqtt/judge.py" "$here/mqtt/sharing.txt" "$@"
for n in 0 1 2; do
	if grep -E '^panic:|goroutine [0-9]+ \[|level=ERROR' "$work/gateway$n.log" >&2; then fail "gateway $n has errors"; fi
done
echo "three gateways that share sessions: passed in $SECONDS s"
