#!/bin/sh
# Five lorries drive for a while: drive.sh [POSITIONS]. Each is an MQTT client of its own, which says where it is; the
# last position is retained, and a will says that a lorry is lost.
set -eu
positions=${1:-20}
for lorry in 1 2 3 4 5; do
	for n in $(seq "$positions"); do
		printf '{"lat":52.%02d%02d,"lon":13.%02d00,"kmh":%d}\n' "$lorry" "$n" "$n" $((40 + n % 30))
	done | mosquitto_pub -i "lorry$lorry" -q 1 -r -l -t "fleet/lorry$lorry/position" \
		--will-topic "fleet/lorry$lorry/lost" --will-payload "lorry$lorry" --will-qos 1 &
done
wait
