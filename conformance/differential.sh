#!/usr/bin/env bash
# Firth beside Mosquitto: the same scripts, made by chance, with the same answers. SCRIPTS is how many, SCRIPTS_SEED the
# seed of the first: others are tried by hand, for each difference has to be judged.
. "$(dirname "$0")/lib.sh"
"$here/install.sh" python clients
venv "$here/mqtt/requirements.txt"
start_firth
port=$(free_ports 1)
cat >"$work/mosquitto.conf" <<EOF
listener $port 127.0.0.1
allow_anonymous true
allow_duplicate_messages false
set_tcp_nodelay true
EOF
$(PATH=$PATH:/usr/sbin command -v mosquitto) -c "$work/mosquitto.conf" >"$work/mosquitto.log" 2>&1 &
others+=($!)
ours=$mqtt theirs=127.0.0.1:$port
export ours theirs PYTHONDONTWRITEBYTECODE=1
wait_for 180 "answer of Mosquitto" bash -c ">/dev/tcp/127.0.0.1/$port" 2>/dev/null
timeout 900 "$python" "$here/mqtt/differential.py" "${SCRIPTS:-200}" "${SCRIPTS_SEED:-1}"
stop_firth
