#!/usr/bin/env bash
# What docs/operating.md promises to operators, as Mosquitto's clients meet it: rates, bans, flapping, delayed messages,
# rewritten topics, subscriptions unasked, the list of slow clients; and the HTTP API with its document, as a validator and
# a fuzzer do.
# shellcheck source=conformance/lib.sh
. "$(dirname "$0")/lib.sh"
"$here/install.sh" clients python
venv "$here/operate/requirements.txt"

# The addresses come from start_firth: these would be in its way.
cat >"$work/firth.yaml" <<'YAML'
rewrite:
  - { from: "old/#", match: "^old/(.+)$", to: "new/$1" }
auto_subscribe:
  - { filter: "commands/${clientid}/#", qos: 1 }
flapping: { disconnects: 5 }
limits: { message_rate: 50 }
YAML
start_firth -c "$work/firth.yaml"

equal() { [ "$1" = "$2" ] || fail "$3: got \"$1\", want \"$2\""; }

pub() { mosquitto_pub -h "$mqtt_host" -p "$mqtt_port" "$@"; }
subscribe() { # subscribe NAME ARGUMENTS...: in the background, until it has its SUBACK
	local name=$1
	shift
	: >"$work/$name"
	stdbuf -oL mosquitto_sub -d -h "$mqtt_host" -p "$mqtt_port" -W 180 "$@" >"$work/$name" 2>&1 &
	sub_pid=$!
	others+=("$sub_pid")
	wait_for 180 "SUBACK" grep -q '^Subscribed' "$work/$name"
}
received() {
	wait "$sub_pid" || fail "mosquitto_sub ended with status $?: $(cat "$work/$1")"
	grep -qxF -- "$2" "$work/$1" || fail "want \"$2\", got: $(cat "$work/$1")"
}
listed() { # listed PATTERN: a ban
	"$firth" ban list --http "$http" >"$work/bans"
	grep -q "$1" "$work/bans"
}

curl -sSf "http://$http/api/v1/openapi.json" >"$work/openapi.json"
timeout 60 "${python%/*}/openapi-spec-validator" --schema 3.1 "$work/openapi.json"
pass "the OpenAPI document is one"

subscribe rewritten -v -C 1 -t 'new/#'
pub -q 1 -t old/1 -m x
received rewritten "new/1 x"
subscribe rewritten-filter -v -C 1 -t 'old/#'
pub -q 1 -t new/2 -m y
received rewritten-filter "new/2 y"
pass "topics are rewritten, in PUBLISH and SUBSCRIBE"

subscribe unasked -i meter-17 -v -C 1 -t nothing
pub -q 1 -t commands/meter-17/reset -m now
received unasked "commands/meter-17/reset now"
pass "a device is subscribed unasked"

subscribe delayed -v -C 1 -q 2 -t 'lamp/#'
begin=$(date +%s%N)
pub -q 2 -t '$delayed/2/lamp/1' -m on
received delayed "lamp/1 on"
took=$((($(date +%s%N) - begin) / 1000000))
[ "$took" -ge 1900 ] || fail "a delay of 2 s took $took ms"
pass "a delayed message came after $took ms"

begin=$(date +%s%N)
seq 1 150 | pub -q 1 -l -t flood
took=$((($(date +%s%N) - begin) / 1000000))
[ "$took" -ge 1900 ] || fail "150 messages at 50 a second took $took ms"
subscribe flood -C 1 -t after
pub -t after -m x
received flood x
pass "150 messages at 50 a second took $took ms"

"$firth" ban add client evil --for 1h --reason "a test" --http "$http"
if pub -V mqttv5 -i evil -t a -m x 2>"$work/refused"; then fail "a banned client got in"; fi
listed '^client  *evil .*a test' || fail "the ban is not listed"
"$firth" ban remove client evil --http "$http"
pub -V mqttv5 -i evil -t a -m x
pass "a client is banned, and no longer"

for _ in 1 2 3 4 5 6; do pub -i moth -t a -m x; done
wait_for 180 "ban of a client that flaps" listed '^client  *moth .*flapping'
if pub -i moth -t a -m x 2>"$work/refused"; then fail "a client that flaps got in"; fi
pass "a client that connects and disconnects too often is banned"

[ "$("$firth" session slow -o json --http "$http")" = "[]" ] || fail "somebody is slow"
pass "nobody is slow"

pub -q 1 -t '$delayed/3600/later/1' -m x
stop_firth
start_firth -c "$work/firth.yaml"
waiting=$(curl -sf "http://$http/metrics" | grep "^firth_mqtt_delayed_messages ")
equal "$waiting" "firth_mqtt_delayed_messages 1" "delayed messages"
if pub -i moth -t a -m x 2>"$work/refused"; then fail "the ban is gone"; fi
pass "delayed messages and bans are there after a restart"

# Killed in the middle of publishing what is due: each message is there once, in order.
crashed() { kcat -q -b "$kafka" -C -o beginning -e -t crash >"$work/crash" 2>/dev/null; }
some() { crashed && [ "$(wc -l <"$work/crash")" -ge "$1" ]; }
pub -q 1 -t crash/x -m 0
seq 1 250 | pub -q 1 -l -t '$delayed/7/crash/x' # which takes four seconds
published() { # published N: so many delayed messages
	curl -sf "http://$http/metrics" >"$work/metrics"
	before=$(sed -n 's/^firth_mqtt_delayed_published_total //p' "$work/metrics")
	[ "${before:-0}" -ge "$1" ]
}
wait_for 180 "delayed messages" published 80
kill -9 "$firth_pid"
wait "$firth_pid" || true
start_firth -c "$work/firth.yaml"
wait_for 180 "the other delayed messages" some 251
seq 0 250 >"$work/wanted"
cmp -s "$work/crash" "$work/wanted" || fail "delayed messages after a kill: $(diff "$work/wanted" "$work/crash" | head)"
pass "kill -9 behind $before of 250 delayed messages: each came once, in order"
stop_firth

# A fuzzer driven by the document, with the same cases each time: no 5xx, nothing that the document does not say, and
# nothing for who says nothing of who it is.
start_firth --set "data=$work/fuzzed"
printf 'a password for the fuzzer\n' >"$work/password"
"$firth" user add root --role admin --new-password-file "$work/password" --http "$http" --data "$work/fuzzed" >/dev/null
begin=$SECONDS
cd "$work" # where it leaves what it remembers
timeout 240 "${python%/*}/schemathesis" run "http://$http/api/v1/openapi.json" --no-color --warnings off \
	--include-tag access --include-tag audit --include-tag node --include-tag sessions \
	-a "root:a password for the fuzzer" -H 'Content-Type: application/json' --phases coverage,fuzzing -n 4 \
	--generation-deterministic --continue-on-failure --request-timeout 60 --suppress-health-check all --checks \
	not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,ignored_auth \
	>"$work/fuzz.log" 2>&1 || { cat "$work/fuzz.log" >&2; fail "the fuzzer of the API found something"; }
pass "the API is as its document says: $(grep -o '[0-9]* generated, [0-9]* passed' "$work/fuzz.log"), $((SECONDS - begin)) s"
stop_firth
echo "operating: all passed"
