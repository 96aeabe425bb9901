#!/usr/bin/env bash
# Telegraf, built from its Go module with the plugins that speak MQTT: what devices publish comes out as metrics, each
# once, with a session that outlives Telegraf and Firth; and metrics come in by MQTT 5. Telegraf is stopped where Firth is:
# once a connection was refused it acknowledges nothing more (docs/conformance/clients.md).
# shellcheck source=conformance/lib.sh
. "$(dirname "$0")/lib.sh"
"$here/install.sh" clients
version=v1.37.2
sum=h1:mYr0I/suEw9+UM4KrCFuYuzJuq/e99cINniIwqO6ykw=

read -r source got < <(cd "$work" && GOFLAGS=-mod=mod "$again" go mod download -json "github.com/influxdata/telegraf@$version" |
	sed -nE 's/^\t"(Dir|Sum)": "(.*)",?$/\2/p' | paste -s -d ' ')
[ "$got" = "$sum" ] || fail "Telegraf $version has sum $got, want $sum"
cp -r "$source" "$work/telegraf"
chmod -R u+w "$work/telegraf"
echo "  building Telegraf $version"
(cd "$work/telegraf" && GOWORK=off GOFLAGS=-mod=mod "$again" timeout 600 go build -o "$work/telegraf.bin" \
	-tags "custom inputs.mqtt_consumer outputs.file outputs.mqtt parsers.value serializers.influx" ./cmd/telegraf)

pub() { mosquitto_pub -h "$mqtt_host" -p "$mqtt_port" "$@"; }

start_telegraf() {
	cat >"$work/telegraf.conf" <<-CONF
		[agent]
		interval = "200ms"
		flush_interval = "200ms"
		flush_jitter = "0s"
		omit_hostname = true
		[[inputs.mqtt_consumer]]
		servers = ["tcp://$mqtt"]
		topics = ["sensors/#"]
		qos = 1
		client_id = "telegraf"
		persistent_session = true
		max_undelivered_messages = 50
		data_format = "value"
		data_type = "integer"
		[[outputs.file]]
		files = ["$work/metrics"]
		data_format = "influx"
		[[outputs.mqtt]]
		servers = ["mqtt://$mqtt"]
		protocol = "5"
		client_id = "telegraf-out"
		topic = "metrics/{{ .PluginName }}"
		qos = 1
		data_format = "influx"
	CONF
	"$work/telegraf.bin" --config "$work/telegraf.conf" >>"$work/telegraf.log" 2>&1 &
	telegraf=$!
	others+=("$telegraf")
}

# values TOPIC: what came of it, in order.
values() { sed -nE "s#^mqtt_consumer,topic=$1 value=([0-9]+)i .*#\\1#p" "$work/metrics"; }
all_came() { [ "$(values "$1" | sort -u | wc -l)" -ge "$2" ]; }
subscribed() { "$firth" session show telegraf --http "$http" 2>/dev/null | grep 'sensors/#' >/dev/null; }
# is CLIENT STATE: that it is connected, or away.
is() { "$firth" session show "$1" --http "$http" 2>/dev/null | grep -E "^state +$2" >/dev/null; }
: >"$work/metrics"

start_firth
start_telegraf
wait_for 180 "subscription of Telegraf" subscribed
seq 1 500 | pub -q 1 -l -t sensors/a
wait_for 180 "metrics" all_came sensors/a 500
cmp -s <(values sensors/a) <(seq 1 500) || fail "metrics: $(diff <(values sensors/a) <(seq 1 500) | head)"
pass "500 messages of QoS 1 came out as metrics, each once, in order, 50 undelivered at most"

# sent TOPIC: the metrics of 500 messages are records now.
sent() {
	[ "$(kcat -q -b "$kafka" -C -o beginning -e -t metrics -f '%s\n' | grep -F "topic=$1 " | sort -u | wc -l)" -ge 500 ]
}
wait_for 180 "metrics in the log" sent sensors/a
pass "and came back as records, by MQTT 5"

kill -TERM "$telegraf"
wait "$telegraf" || fail "Telegraf ended with status $?: $(tail -n 5 "$work/telegraf.log")"
wait_for 180 "end of its connection" is telegraf away
seq 1 500 | pub -q 1 -l -t sensors/b
stop_firth
restart_firth
seq 1 500 | pub -q 1 -l -t sensors/c
start_telegraf
for topic in sensors/b sensors/c; do
	wait_for 180 "metrics of the absence" all_came "$topic" 500
	cmp -s <(values "$topic") <(seq 1 500) || fail "metrics: $(diff <(values "$topic") <(seq 1 500) | head)"
done
pass "1000 messages that came while Telegraf was stopped, and Firth in between, each once, in order"
stop_firth
echo "Telegraf $version: all passed"
