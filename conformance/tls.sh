#!/usr/bin/env bash
# TLS and mutual TLS by clients from outside: mosquitto_pub and mosquitto_sub, kcat, curl, paho-mqtt, MQTT.js and Kafka's
# own for Java. The certificates are made by openssl as docs/security.md says.
# shellcheck source=conformance/lib.sh
. "$(dirname "$0")/lib.sh"
"$here/install.sh" clients python node java
venv "$here/python/requirements.txt"
node_modules
jars "$here/tools/pom.xml"
cd "$work"
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 10 -keyout ca.key -out ca.pem \
	-subj "/CN=conformance" 2>/dev/null
issue() {
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$1" 2>/dev/null
	printf 'extendedKeyUsage=%s\nsubjectAltName=%s\n' "$2" "$3" >"$1.ext"
	openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 9 -extfile "$1.ext" -out "$1.pem" 2>/dev/null
}
issue server serverAuth DNS:localhost,IP:127.0.0.1
issue device clientAuth DNS:device.example.org

# kafka CLASS CONFIG... runs one of Kafka's tools by tls.properties.
kafka() {
	timeout 300 java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx256m -Dorg.slf4j.simpleLogger.defaultLogLevel=error \
		-cp "$jars" "org.apache.kafka.tools.$1" --bootstrap-server "localhost:${kafkas##*:}" \
		--command-config tls.properties "${@:2}"
}

for auth in none require; do
	start_firth --set tls.certificate=server.pem --set tls.key=server.key --set tls.client_ca=ca.pem \
		--set "tls.client_auth=$auth" --set listen.mqtts=127.0.0.1:0 --set listen.wss=127.0.0.1:0 \
		--set listen.kafkas=127.0.0.1:0 --set listen.https=127.0.0.1:0
	mqtts=$(address mqtts) wss=$(address wss) kafkas=$(address kafkas) https=$(address https)
	own=() kafka_own=() curl_own=()
	if [ $auth = require ]; then
		own=(--cert device.pem --key device.key)
		kafka_own=(-X ssl.certificate.location=device.pem -X ssl.key.location=device.key)
		curl_own=(--cert device.pem --key device.key)
	fi
	for version in tlsv1.2 tlsv1.3; do
		at=(-h localhost -p "${mqtts##*:}" --cafile ca.pem --tls-version $version "${own[@]}")
		: >got
		stdbuf -oL mosquitto_sub -d "${at[@]}" -t "tls/$version/#" -q 1 -C 100 -W 180 >got 2>&1 &
		sub=$!
		others+=("$sub")
		wait_for 180 "SUBACK" grep -q '^Subscribed' got
		for _ in $(seq 100); do echo "message"; done | timeout 300 mosquitto_pub "${at[@]}" -t "tls/$version/x" -q 1 -l
		wait "$sub" || fail "mosquitto_sub with $version and client_auth=$auth"
		pass "mosquitto_pub and mosquitto_sub, $version, client_auth=$auth"
	done
	timeout 300 mosquitto_pub -h localhost -p "${mqtts##*:}" --cafile ca.pem --tls-alpn mqtt "${own[@]}" -t tls/alpn -m x
	timeout 300 kcat -b "localhost:${kafkas##*:}" -X security.protocol=ssl -X ssl.ca.location=ca.pem "${kafka_own[@]}" \
		-C -t tls -o beginning -e -q -f '%k\n' >keys
	[ "$(sort -u keys | wc -l)" -eq 3 ] || fail "kcat read $(sort -u keys)"
	pass "kcat, client_auth=$auth"
	curl -sS --cacert ca.pem "${curl_own[@]}" "https://localhost:${https##*:}/readyz?verbose" >said || fail "https"
	grep -q '^mqtts .*: ok' said || fail "https: $(cat said)"
	"$firth" pub -L "mqtts://localhost:${mqtts##*:}/tls/own" --cafile ca.pem "${own[@]}" -m x -q 1
	"$firth" consume tls -b "localhost:${kafkas##*:}" --cafile ca.pem "${own[@]}" -o beginning -e -f '%k\n' >keys
	grep -q tls/own keys || fail "firth consume: $(cat keys)"
	pass "firth pub and consume, client_auth=$auth"
	mine=()
	printf 'security.protocol=SSL\nssl.truststore.type=PEM\nssl.truststore.location=ca.pem\n' >tls.properties
	if [ $auth = require ]; then
		mine=(device.pem device.key)
		cat device.key device.pem >device.both.pem
		printf 'ssl.keystore.type=PEM\nssl.keystore.location=device.both.pem\n' >>tls.properties
	fi
	echo "from Java" | kafka ConsoleProducer --topic java
	kafka consumer.ConsoleConsumer --topic java --from-beginning --max-messages 1 --timeout-ms 180000 >said ||
		fail "Kafka's console consumer"
	grep -q "from Java" said || fail "Kafka's console consumer: $(cat said)"
	pass "Kafka's console producer and consumer, client_auth=$auth"
	timeout 300 "$python" "$here/python/tls.py" "${mqtts##*:}" tcp ca.pem "${mine[@]}"
	timeout 300 "$python" "$here/python/tls.py" "${wss##*:}" websockets ca.pem "${mine[@]}"
	pass "paho-mqtt over TLS and wss, client_auth=$auth"
	for url in "mqtts://localhost:${mqtts##*:}" "wss://localhost:${wss##*:}/mqtt"; do
		timeout 300 node "$node/tls.mjs" "$url" ca.pem "${mine[@]}"
	done
	pass "MQTT.js over TLS and wss, client_auth=$auth"
	if [ $auth = require ]; then
		if timeout 300 mosquitto_pub -h localhost -p "${mqtts##*:}" --cafile ca.pem -t tls/x -m x 2>/dev/null; then
			fail "no certificate was asked for"
		fi
		pass "without a certificate nobody comes in"
	fi
	stop_firth
	rm -rf "$work/data"
done
echo "TLS: all passed"
