#!/bin/sh
# A thermostat: thermostat.sh ROOM. It says what it is set to, and obeys commands, also those that were given while it
# was off: its session lasts, and is there (-E) before it says anything.
set -eu
room=$1
say() { mosquitto_pub -q 1 -r -t "home/$room/state" -m "$1"; }
commands() { mosquitto_sub -c -i "thermostat-$room" -q 1 -t "home/$room/set" "$@"; }
commands -E
say 19.0
commands | while read -r wanted; do say "$wanted"; done
