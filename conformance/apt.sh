#!/usr/bin/env bash
# The clients that everybody has: mosquitto_pub, mosquitto_sub and kcat, each through its own door and
# across the two.
. "$(dirname "$0")/lib.sh"
"$here/install.sh" clients
start_firth

pub() { mosquitto_pub -h "$mqtt_host" -p "$mqtt_port" "$@"; }
consume() { kcat -q -b "$kafka" -C -o beginning -e "$@"; }

# subscribe NAME ARGUMENTS...: a mosquitto_sub in the background that has its SUBACK.
subscribe() {
	local name=$1
	shift
	stdbuf -oL mosquitto_sub -d -h "$mqtt_host" -p "$mqtt_port" -W 180 "$@" >"$work/$name" 2>&1 &
	sub_pid=$!
	others+=("$sub_pid")
	wait_for 180 "SUBACK" grep -q '^Subscribed' "$work/$name"
}

# received NAME LINE: the background subscriber has printed the line, and ended.
received() {
	wait "$sub_pid" || fail "mosquitto_sub ended with status $?: $(cat "$work/$1")"
	grep -qxF -- "$2" "$work/$1" || fail "want \"$2\", got: $(cat "$work/$1")"
}

equal() { [ "$1" = "$2" ] || fail "$3: got \"$1\", want \"$2\""; }

pub -t sensors/room1/temp -m 21.5 -q 1
equal "$(consume -t sensors -f '%k %s\n')" "sensors/room1/temp 21.5" "MQTT to Kafka"
pass "mosquitto_pub -q 1, read by kcat with its topic name as the key"

for version in mqttv311 mqttv5; do
	for qos in 0 1; do
		subscribe "sub-$version-$qos" -V "$version" -q $qos -v -C 1 -t "cross-$version-$qos/#"
		pub -V "$version" -q $qos -t "cross-$version-$qos/a/b" -m "hello $qos"
		received "sub-$version-$qos" "cross-$version-$qos/a/b hello $qos"
	done
	pass "$version: QoS 0 and 1 from mosquitto_pub to mosquitto_sub"
done

for try in $(seq 20); do # the machine may be busy: the first that is quick will do
	subscribe "back-$try" -v -C 1 -q 1 -t "alerts/$try/#"
	begin=$(date +%s%N)
	printf 'alerts/%s/kitchen:smoke\n' "$try" | kcat -b "$kafka" -P -t alerts -K:
	received "back-$try" "alerts/$try/kitchen smoke"
	took=$((($(date +%s%N) - begin) / 1000000))
	[ "$took" -ge 1000 ] || break
done
[ "$took" -lt 1000 ] || fail "kcat to mosquitto_sub took $took ms, and no less $((try - 1)) times before"
pass "kcat -P into a topic reaches mosquitto_sub within a second ($took ms)"

pub -r -q 1 -t state/lamp -m on
subscribe retained -v -C 1 -t 'state/+'
received retained "state/lamp on"
pub -r -q 1 -t state/lamp -n
subscribe cleared -v -C 1 -t 'state/+'
pub -q 1 -t state/door -m open
received cleared "state/door open"
if grep -q lamp "$work/cleared"; then fail "a cleared retained message was delivered"; fi
pass "retained: set, delivered, cleared"

sub() { mosquitto_sub -h "$mqtt_host" -p "$mqtt_port" -W 180 "$@" | tr '\n' ' '; }
for n in 1 2 3; do pub -q 1 -t "history/$n" -m "$n"; done
equal "$(sub -V mqttv5 -q 1 -C 3 -t 'history/#' -D subscribe user-property firth-from earliest)" "1 2 3 " "firth-from"
equal "$(sub -V mqttv311 -q 1 -C 2 -t '$replay/1/history/+')" "2 3 " "\$replay"
equal "$(sub -V mqttv5 -C 1 -t 'history/3' -D subscribe user-property firth-from -1h \
	-D subscribe user-property firth-where yes -F '%P' | grep -o 'firth-offset:2')" "firth-offset:2" "firth-where"
pass "mosquitto_sub begins in the past: firth-from, \$replay, firth-where"

mosquitto_rr -h "$mqtt_host" -p "$mqtt_port" -V mqttv5 -W 180 -q 1 -t ask/valve -m open -e answers/me \
	-D publish correlation-data 4711 >"$work/rr" 2>&1 &
rr_pid=$!
others+=("$rr_pid")
asked() { [ "$(consume -t ask -c 1 -f '%h %s' 2>/dev/null | grep -c 'response-topic=answers/me')" = 1 ]; }
wait_for 180 "the request" asked
printf 'answers/me:done\n' | kcat -b "$kafka" -P -t answers -K: -H correlation-data=4711
wait "$rr_pid" || fail "mosquitto_rr ended with status $?: $(cat "$work/rr")"
equal "$(cat "$work/rr")" "done" "the response"
pass "mosquitto_rr asks, and kcat answers with the correlation data"

# What exporters for Mosquitto read: each value once with RETAIN, at once.
names=$(mosquitto_sub -h "$mqtt_host" -p "$mqtt_port" -W 180 -C 53 -t '$SYS/#' -F '%r %t' | sort)
for name in version uptime clients/connected clients/total clients/maximum messages/received messages/sent \
	publish/messages/received publish/messages/sent bytes/received bytes/sent 'retained messages/count' \
	subscriptions/count load/messages/received/1min store/messages/bytes heap/current; do
	grep -qxF "1 \$SYS/broker/$name" <<<"$names" || fail "\$SYS has no $name: $names"
done
equal "$(echo "$names" | sort -u | wc -l)" 53 "values below \$SYS"
pass "\$SYS has what mosquitto_sub finds at Mosquitto, as retained messages"

subscribe will -v -C 1 -q 1 -t 'gone/#'
stdbuf -oL mosquitto_sub -d -h "$mqtt_host" -p "$mqtt_port" -t nothing --will-topic gone/device --will-payload dead \
	--will-qos 1 >"$work/dying" 2>&1 &
dying=$!
others+=("$dying")
wait_for 180 "SUBACK" grep -q '^Subscribed' "$work/dying"
kill -9 "$dying"
received will "gone/device dead"
pass "will of a killed client"

for codec in none gzip snappy lz4 zstd; do
	seq 1 500 | kcat -b "$kafka" -P -t "codec-$codec" -z "$codec" -X enable.idempotence=true -X acks=all
	equal "$(consume -t "codec-$codec" | sort -n | md5sum)" "$(seq 1 500 | md5sum)" "codec $codec"
done
pass "kcat: idempotent producer, every codec, read back in full"

# Not into grep -q, which ends at once: kcat may still be writing, and die of it.
listed=$(kcat -b "$kafka" -L -J)
[[ $listed == *'"topic":"sensors"'* ]] || fail "kcat -L does not list the topic: $listed"
asked=$(kcat -q -b "$kafka" -Q -t sensors:0:-1)
[[ $asked == *'offset 1'* ]] || fail "kcat -Q: $asked"
pass "kcat: metadata and offsets"

# Headers, partitions, keys, tombstones and times, as kcat prints them with -f; -o of each kind; -J.
kcat -b "$kafka" -X topic.metadata.refresh.interval.ms=1000 -P -t kinds -p 0 -K: -H a=1 -H b= -Z <<<$'k1:v1\nk2:'
equal "$(consume -t kinds -p 0 -f '%o %k %S %s %h %p\n')" $'0 k1 2 v1 a=1,b= 0\n1 k2 -1  a=1,b= 0' "headers and a null value"
equal "$(consume -t kinds -p 0 -o -1 -f '%o\n')" 1 "kcat -o -1"
equal "$(kcat -q -b "$kafka" -C -t kinds -o s@1 -e -f '%o\n' | tr '\n' ' ')" "0 1 " "kcat -o s@1"
[[ $(consume -t kinds -c 1 -J) == *'"key":"k1","payload":"v1"'* ]] || fail "kcat -C -J"
pass "kcat: headers, a null value, offsets from the end and by time, JSON"

# Where nothing is in a transaction both levels see the same; python.sh has those of librdkafka with transactions.
for isolation in read_committed read_uncommitted; do
	equal "$(consume -t codec-none -X isolation.level=$isolation | wc -l)" 500 "kcat -X isolation.level=$isolation"
done
pass "kcat: both isolation levels"

group() { timeout 300 kcat -q -b "$kafka" -G readers -X auto.offset.reset=earliest -c "$1" codec-none | wc -l; }
first=$(group 100) || fail "kcat -G has read only $first of 100 records"
rest=$(group 400) || fail "kcat -G has read only $rest of 400 records"
equal "$first $rest" "100 400" "consumer group"
pass "kcat: a consumer group goes on where it committed"

stop_firth
cp "$work/firth.log" "$work/first.log"
start_firth
equal "$(consume -t sensors -f '%o %k %s\n')" "0 sensors/room1/temp 21.5" "after a restart"
stop_firth
pass "everything is there after a restart"
echo "clients from apt: all passed"
