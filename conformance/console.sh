#!/usr/bin/env bash
# The console: its source is formatted, its types fit those of the API, what is embedded is what it builds to;
# and in Chromium every view in both themes, each of the main jobs by mouse and by keyboard, the login.
# shellcheck source=conformance/lib.sh
. "$(dirname "$0")/lib.sh"
"$here/install.sh" clients node chromium
tree=$work/tree console=$work/tree/console
mkdir -p "$tree/docs"
(cd "$repo" && cp -r --parents docs/openapi.json console/{src,test,public} "$tree")
find "$repo/console" -maxdepth 1 -type f -exec cp {} "$console" \;
cd "$console"
"$again" timeout 600 npm ci --no-audit --no-fund --loglevel=error >"$work/npm.log" || { cat "$work/npm.log" >&2; exit 1; }
timeout 300 npm run -s check
pass "the source is as it should be"
OUT=$work/dist timeout 300 npm run -s build >"$work/build.log" 2>&1 || { cat "$work/build.log" >&2; exit 1; }
diff -r "$work/dist" "$repo/internal/apps/console/dist" >"$work/diff" ||
	fail "what is embedded is not what console/ builds to (npm ci && npm run build there): $(head -c 2000 "$work/diff")"
bytes=$(cat "$work"/dist/assets/*.{js,css} | gzip -9 | wc -c)
[ "$bytes" -le 200000 ] || fail "the console has $bytes bytes, compressed; the budget is 200,000"
pass "what is embedded is what it builds to, $bytes bytes compressed"

pub() { mosquitto_pub -h "$mqtt_host" -p "$mqtt_port" "$@"; }
meter() { # meter NAME: a device that stays connected
	: >"$work/meter"
	stdbuf -oL mosquitto_sub -d -h "$mqtt_host" -p "$mqtt_port" -i "$1" -c -q 1 -t 'commands/#' -W 900 "${@:2}" >"$work/meter" 2>&1 &
	others+=("$!")
	wait_for 180 "SUBACK" grep -q '^Subscribed' "$work/meter"
}
# browse PART: the tests of one part in a browser.
browse() { timeout 900 node test/gate.mjs "$1" "http://$http"; }

start_firth
mosquitto_sub -h "$mqtt_host" -p "$mqtt_port" -i slow-reader -c -q 1 -t 'sensors/#' -E
meter watcher -t 'sensors/#'
pub -q 1 -t sensors/big -m '{"n":9007199254740993,"t":21.5}'
for n in 1 2 3 4 5 6 7 8 9; do echo "{\"t\":2$n.5,\"room\":\"room$n\"}"; done | pub -q 1 -l -t sensors/room1/temp
printf '\x00\xff\x10binary' | pub -q 1 -s -t sensors/raw
pub -q 1 -r -t plant/1/state -m running
pub -q 1 -t trucks/7/position -m '{"lat":53.55,"lon":9.99}'
kcat -q -b "$kafka" -G readers -X auto.offset.reset=earliest -c 4 sensors >/dev/null
pub -q 1 -t sensors/room2/temp -m late
meter meter-1
meter meter/1
for name in meter-away meter-gone; do
	mosquitto_sub -h "$mqtt_host" -p "$mqtt_port" -i "$name" -c -q 1 -t 'commands/#' -E
done
browse open

admin=(--http "$http" --data "$work/data")
echo lovelace1815 >"$work/password"
"$firth" user add ada --role admin --new-password-file "$work/password" "${admin[@]}" >/dev/null
TOKEN=$("$firth" token create ada --name console "${admin[@]}")
export TOKEN
browse login
stop_firth
echo "console: all passed"
