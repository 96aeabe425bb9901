#!/usr/bin/env bash
# Logins by clients from outside, with and without TLS: kcat, Kafka's own for Java, confluent-kafka and mosquitto_pub, by
# PLAIN, SCRAM, OAUTHBEARER, tokens and delegation tokens. Who is wrong is told so in the words of its protocol, at once.
# And what they may do, by Kafka's AclCommand and by an ACL file of Mosquitto.
# shellcheck source=conformance/lib.sh
. "$(dirname "$0")/lib.sh"
"$here/install.sh" clients python java
venv "$here/python/requirements.txt"
jars "$here/tools/pom.xml"
cd "$work"
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 10 -keyout server.key -out server.pem \
	-subj "/CN=localhost" -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" 2>/dev/null
openssl genrsa -out issuer.key 2048 2>/dev/null
openssl pkey -in issuer.key -pubout -out issuer.pub

# jwt USER SECONDS: a token of the issuer for a user that ends in so many seconds.
jwt() {
	local b64='openssl base64 -A' now signed
	now=$(date +%s)
	signed=$(printf '{"alg":"RS256","typ":"JWT"}' | $b64 | tr '+/' '-_' | tr -d =).$(
		printf '{"iss":"conformance","aud":"firth","sub":"%s","roles":"admin","iat":%d,"exp":%d}' "$1" "$now" $((now + $2)) |
			$b64 | tr '+/' '-_' | tr -d =
	)
	printf '%s.%s' "$signed" "$(printf %s "$signed" | openssl dgst -sha256 -sign issuer.key | $b64 | tr '+/' '-_' | tr -d =)"
}

# refused PATTERN COMMAND...: it fails, not by a timeout, and says so.
refused() {
	local pattern=$1
	shift
	if "$@" >said 2>&1 </dev/null; then fail "let in: $*"; fi
	grep -qiE "$pattern" said || { cat said >&2; fail "nothing like $pattern: $*"; }
}

# kcat tries again for as long as it may: it does beside what follows.
declare -A refusals=() # process ids, by the files with what they say
refused_later() { # refused_later FILE COMMAND...
	"${@:2}" >"$1" 2>&1 </dev/null &
	refusals[$1]=$!
	others+=($!)
}
all_refused() { # all_refused PATTERN
	local file
	for file in "${!refusals[@]}"; do
		if wait "${refusals[$file]}"; then fail "let in: $file"; fi
		grep -qiE "$1" "$file" || { cat "$file" >&2; fail "nothing like $1: $file"; }
	done
}

start_firth --set tls.certificate=server.pem --set tls.key=server.key --set listen.mqtts=127.0.0.1:0 \
	--set listen.kafkas=127.0.0.1:0 --set \
	'access.jwt=[{"issuer":"conformance","audience":"firth","keys":"issuer.pub","roles":"roles"}]'
mqtts=$(address mqtts) kafkas=$(address kafkas)
printf 'right' >alice.secret
printf 'wrong' >wrong.secret
admin=(--http "$http" --data "$work/data")
"$firth" user add alice --role admin --new-password-file alice.secret "${admin[@]}"
"$firth" token create alice --name conformance "${admin[@]}" >alice.token
jwt carol 86400 >carol.token # longer than a slow machine takes for all this

for protocol in sasl_plaintext sasl_ssl; do
	port=${kafka##*:}
	if [ $protocol = sasl_ssl ]; then port=${kafkas##*:}; fi
	at=(kcat -b "localhost:$port" -X "security.protocol=$protocol" -X ssl.ca.location=server.pem)
	for mechanism in PLAIN SCRAM-SHA-256 SCRAM-SHA-512; do
		as=("${at[@]}" -X "sasl.mechanism=$mechanism" -X sasl.username=alice)
		echo "$mechanism" | timeout 300 "${as[@]}" -X sasl.password=right -P -t "$protocol-$mechanism"
		timeout 300 "${as[@]}" -X sasl.password=right -C -t "$protocol-$mechanism" -o beginning -e -q >said ||
			fail "kcat, $protocol, $mechanism"
		grep -qx "$mechanism" said || fail "kcat, $protocol, $mechanism: $(cat said)"
		refused_later "refused-$protocol-$mechanism" timeout 300 "${as[@]}" -X sasl.password=wrong -L -m 30
	done
	timeout 300 "${at[@]}" -X sasl.mechanism=PLAIN -X sasl.username=token -X "sasl.password=$(cat alice.token)" -L >/dev/null
	timeout 300 "${at[@]}" -X sasl.mechanism=PLAIN -X sasl.username=carol -X "sasl.password=$(cat carol.token)" -L >/dev/null
	pass "kcat by PLAIN, SCRAM and tokens, $protocol"
	for who in alice carol; do
		timeout 300 "$python" "$here/python/oauth.py" "$port" $protocol server.pem $who.token "oauth-$protocol-$who"
	done
	pass "confluent-kafka by OAUTHBEARER, $protocol"
done

# java_by MECHANISM LOGIN LINE... writes sasl.properties; kafka NAME ARGUMENT... runs one of Kafka's tools by them, all in
# one JVM: most of the time of a tool is the start of its own.
java_by() {
	printf '%s\n' security.protocol=SASL_SSL ssl.truststore.type=PEM ssl.truststore.location=server.pem \
		"sasl.mechanism=$1" "sasl.jaas.config=org.apache.kafka.common.security.$2;" "${@:3}" >sasl.properties
}
coproc TOOLS {
	exec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx256m --add-opens java.base/java.lang=ALL-UNNAMED \
		-Dorg.slf4j.simpleLogger.defaultLogLevel=error \
		"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://$work/carol.token" \
		-cp "$jars" "$here/tools/src/main/java/Tools.java" -
}
others+=("$TOOLS_PID")
exec {ask}>&"${TOOLS[1]}" {answer}<&"${TOOLS[0]}" # subshells have these, and not those of the coprocess
kafka() {
	local status words IFS=$'\t'
	if [ "$1" = console-producer ]; then cat >typed; else : >typed; fi
	words=(typed printed "kafka-$1.sh" --bootstrap-server "localhost:${kafkas##*:}" --command-config sasl.properties "${@:2}")
	printf '%s\n' "${words[*]}" >&"$ask"
	read -r -t 300 status <&"$answer" || fail "no answer of kafka-$1.sh"
	cat printed
	return "$status"
}
round_trip() {
	echo "from Java" | kafka console-producer --topic "java-$1"
	kafka console-consumer --topic "java-$1" --from-beginning --max-messages 1 --timeout-ms 150000 >said ||
		{ cat said >&2; fail "Kafka's console consumer by $1"; }
	grep -q "from Java" said || { cat said >&2; fail "Kafka's console consumer by $1"; }
}
for mechanism in PLAIN SCRAM-SHA-256 SCRAM-SHA-512; do
	module=plain.PlainLoginModule
	if [ $mechanism != PLAIN ]; then module=scram.ScramLoginModule; fi
	java_by $mechanism "$module required username=\"alice\" password=\"right\""
	round_trip $mechanism
	java_by $mechanism "$module required username=\"alice\" password=\"wrong\""
	refused 'SaslAuthenticationException' kafka topics --list
done
java_by OAUTHBEARER "oauthbearer.OAuthBearerLoginModule required" \
	sasl.login.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler \
	"sasl.oauthbearer.token.endpoint.url=file://$work/carol.token"
round_trip OAUTHBEARER
pass "Kafka's own clients by PLAIN, SCRAM and OAUTHBEARER, sasl_ssl"

# A delegation token: made, shown, renewed and used by others than who made it, and refused once it is expired.
right='scram.ScramLoginModule required username="alice" password="right"'
java_by SCRAM-SHA-256 "$right"
kafka delegation-tokens --create --max-life-time-period -1 --renewer-principal User:bob >made
read -r id hmac _ < <(grep -E '^[A-Za-z0-9_-]{22}[[:space:]]' made) || { cat made >&2; fail "no delegation token was made"; }
kafka delegation-tokens --describe --owner-principal User:alice >said
grep -qF -- "$hmac" said || { cat said >&2; fail "the token is not shown"; }
kafka delegation-tokens --renew --renew-time-period 3600000 --hmac "$hmac" >said
grep -qi "completed" said || { cat said >&2; fail "the token is not renewed"; }
for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
	java_by $mechanism "scram.ScramLoginModule required username=\"$id\" password=\"$hmac\" tokenauth=\"true\""
	round_trip "token-$mechanism"
	refused 'UnsupportedByAuthenticationException' \
		kafka delegation-tokens --create --max-life-time-period -1
done
java_by SCRAM-SHA-256 "$right"
kafka delegation-tokens --expire --expiry-time-period -1 --hmac "$hmac" >said
java_by SCRAM-SHA-256 "scram.ScramLoginModule required username=\"$id\" password=\"$hmac\" tokenauth=\"true\""
refused 'SaslAuthenticationException' kafka topics --list
pass "Kafka's own clients by delegation tokens, sasl_ssl"

for version in mqttv311 mqttv5; do
	as=(mosquitto_pub -h localhost -p "${mqtts##*:}" --cafile server.pem -V $version -t sasl/x -m x -q 1 -u alice)
	timeout 300 "${as[@]}" -P right
	timeout 300 "${as[@]}" -P "$(cat alice.token)"
	timeout 300 "${as[@]}" -P "$(cat carol.token)"
	refused 'bad user name or password|not authori[sz]ed' timeout 300 "${as[@]}" -P wrong
	refused 'bad user name or password|not authori[sz]ed' timeout 300 "${as[@]}" -P "$(jwt carol -600)"
done
pass "mosquitto_pub by passwords and tokens, over TLS"

# Rights that Kafka's AclCommand gives and those of a Mosquitto ACL file are rows of one list: each is shown to both, and
# what firth acl explain says of a row is what both doors do.
for user in kim eve; do "$firth" user add $user --new-password-file alice.secret "${admin[@]}"; done
mosquitto_passwd -c -b passwd dora right
cat >acl <<'ACL'
user dora
topic readwrite sensors/#
topic read plant/1/state
topic read meters/#
topic deny meters/+/key
pattern write devices/%c/up
ACL
for name in sensors/1 meters/1 plan/1 devices/d/up; do # the topics are there
	timeout 300 mosquitto_pub -h localhost -p "${mqtts##*:}" --cafile server.pem -u alice -P right -q 1 -t $name -m x
done
"$firth" import mosquitto-access --passwords passwd --acl acl --apply "${admin[@]}"
java_by SCRAM-SHA-256 "$right"
kafka acls --add --allow-principal User:kim --allow-principal User:eve --producer --consumer --topic sensors \
	--group readers --transactional-id tx >said
kafka acls --add --deny-principal User:eve --operation Write --topic sen --resource-pattern-type prefixed >said
kafka acls --add --allow-principal User:kim --operation Read --topic plan --resource-pattern-type prefixed >said

device() { # device USER OPERATION NAME: what MQTT's door does
	local as=(-h localhost -p "${mqtts##*:}" --cafile server.pem -V mqttv5 -u "$1" -P right -i d -t "$3")
	case $2 in
	publish) timeout 300 mosquitto_pub "${as[@]}" -q 1 -m x ;;
	subscribe) timeout 300 mosquitto_sub "${as[@]}" -E ;;
	esac >said 2>&1 || { cat said >&2; fail "mosquitto, as $1: $2 $3"; }
	if grep -qE 'Not authorized|subscription requests were denied' said; then echo no; else echo yes; fi
}
backend() { # backend USER OPERATION FLAG NAME: what Kafka's door does
	local as=(timeout 300 kcat -b "localhost:${kafkas##*:}" -X security.protocol=sasl_ssl -X ssl.ca.location=server.pem
		-X sasl.mechanism=PLAIN -X "sasl.username=$1" -X sasl.password=right)
	case "$2 $3" in
	"write --topic") echo x | "${as[@]}" -P -t "$4" ;;
	"read --topic") "${as[@]}" -C -t "$4" -o beginning -e -q ;;
	"read --group") "${as[@]}" -G "$4" sensors -e -q ;;
	"write --transactional-id")
		java_by PLAIN "plain.PlainLoginModule required username=\"$1\" password=\"right\""
		kafka producer-perf-test --topic sensors --transactional-id "$4" --transaction-duration-ms 1000 --num-records 1 \
			--record-size 10 --throughput -1
		;;
	esac >said 2>&1 && { echo yes; return; }
	grep -qE 'Topic authorization failed|Group authorization failed|Transactional Id authorization failed' said ||
		{ cat said >&2; fail "a client of Kafka, as $1: $2 $3 $4"; }
	echo no
}
agree() { # agree yes|no USER OPERATION NAME, or FLAG NAME: explain says it, and the door does it
	local explained=yes did
	"$firth" acl explain --as "$2" --client d "${@:3}" "${admin[@]}" >said 2>&1 || explained=no
	if [ $# -eq 4 ]; then did=$(device "${@:2}"); else did=$(backend "${@:2}"); fi
	[ "$explained $did" = "$1 $1" ] || fail "$*: explained as $explained, done: $did; $(cat said)"
}
while read -r want; do
	# shellcheck disable=SC2086 # words
	agree $want </dev/null
done <<'TABLE'
yes kim publish sensors/1
yes kim subscribe sensors/#
yes kim subscribe plan/1
no kim publish plan/1
no kim subscribe meters/1
yes kim write --topic sensors
yes kim read --topic plan
no kim write --topic plan
yes kim read --group readers
no kim read --group others
yes kim write --transactional-id tx
no kim write --transactional-id ty
no eve publish sensors/1
yes eve subscribe sensors/1
no eve write --topic sensors
yes eve read --topic sensors
yes dora publish sensors/1
yes dora subscribe meters/1
no dora subscribe meters/1/key
no dora publish meters/1
yes dora publish devices/d/up
no dora publish devices/e/up
yes dora write --topic sensors
yes dora read --topic sensors
no dora read --topic meters
no dora write --topic devices
TABLE
java_by SCRAM-SHA-256 "$right"
kafka acls --list | awk '/^Current/ { on = $0 } /principal=/ { print on, $0 }' >listed
"$firth" acl list "${admin[@]}" >rows
while IFS='|' read -r resource entry row; do
	grep -F "name=$resource)" listed | grep -F "(principal=User:$entry)" >/dev/null || { cat listed >&2; fail "AclCommand has no $entry"; }
	grep -qE " $row\$" rows || { cat rows >&2; fail "firth acl list has no $row"; }
done <<'TABLE'
sensors, patternType=LITERAL|kim, host=*, operation=WRITE, permissionType=ALLOW|allow User:kim write on topic sensors
plan, patternType=PREFIXED|kim, host=*, operation=READ, permissionType=ALLOW|allow User:kim read on topics plan\*
sen, patternType=PREFIXED|eve, host=*, operation=WRITE, permissionType=DENY|deny User:eve write on topics sen\*
readers, patternType=LITERAL|kim, host=*, operation=READ, permissionType=ALLOW|allow User:kim read on group readers
tx, patternType=LITERAL|kim, host=*, operation=WRITE, permissionType=ALLOW|allow User:kim write on transactional_id tx
sensors, patternType=LITERAL|dora, host=*, operation=WRITE, permissionType=ALLOW|allow User:dora read,write on names sensors/#
meters, patternType=LITERAL|dora, host=*, operation=READ, permissionType=DENY|deny User:dora read,write on names meters/\+/key
TABLE
kafka acls --remove --force --allow-principal User:kim --operation Write --topic sensors >said
agree no kim publish sensors/1
agree no kim write --topic sensors
agree yes kim subscribe sensors/1
if kafka acls --remove --force --allow-principal User:dora --operation Write --topic sensors >said 2>&1; then
	fail "AclCommand removes a rule that says more than it shows"
fi
command=$(grep -oE 'firth acl remove [0-9a-f]{16}' said | head -n 1) || { cat said >&2; fail "nothing says what removes it"; }
"$firth" acl remove "${command##* }" "${admin[@]}"
agree no dora publish sensors/1
agree no dora read --topic sensors
pass "AclCommand, a Mosquitto ACL file and firth acl explain agree, and both doors with them"
all_refused 'SASL authentication error|Authentication failed'
pass "kcat with a wrong password, by PLAIN and SCRAM"
stop_firth
echo "SASL: all passed"
