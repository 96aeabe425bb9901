#!/bin/sh
# Raises an alarm for each box above 8 degrees: watch.sh [N], to end after N records.
set -eu
firth consume cold -g watch -o beginning ${1:+-n "$1"} -f '%k %s\n' | while read -r box degrees; do
	if awk "BEGIN { exit !($degrees > 8) }"; then
		mosquitto_pub -q 1 -r -t "alarm/${box#cold/}" -m "$degrees"
	fi
done
