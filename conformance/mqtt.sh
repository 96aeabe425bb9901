#!/usr/bin/env bash
# The MQTT cases, as a gate of run.sh.
exec "$(dirname "$0")/mqtt/run.sh"
