# Sourced by the gates: builds the binary, runs it on free ports in a temporary folder, stops it by its
# process id. FIRTH=path uses a binary that is already there.
# shellcheck shell=bash
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(dirname "$here")
work=$(mktemp -d "${TMPDIR:-/tmp}/firth-conform.XXXXXX")
firth_pid=
others=() # process ids of helpers a gate has started
again=$repo/.ci/again
shared=${CONFORMANCE_SHARED:-$work} # where what is downloaded lies, for all gates of a run.sh

# own PID: it is a process of the gate. The number of one that has ended may be that of somebody else's by now.
own() { grep -qs "^PPid:[[:space:]]*$$\$" "/proc/$1/status"; }

# ended PID: waits until a process that was told to end is gone: what it still writes is in the way of a removal.
ended() {
	for _ in $(seq 50); do own "$1" || return 0; sleep 0.1; done
	kill -9 "$1" 2>/dev/null || true
	wait "$1" 2>/dev/null || true
}

finish() {
	local status=$?
	for pid in "${others[@]}"; do if own "$pid"; then kill "$pid" 2>/dev/null || true; fi; done
	for pid in "${others[@]}"; do ended "$pid"; done
	if [ -n "$firth_pid" ]; then kill -9 "$firth_pid" 2>/dev/null || true; wait "$firth_pid" 2>/dev/null || true; fi
	if [ "$status" -ne 0 ] && [ -s "$work/firth.log" ]; then
		echo "--- the last words of firth:" >&2
		tail -n 40 "$work/firth.log" >&2
	fi
	if [ "$status" -eq 0 ] || [ -z "${KEEP:-}" ]; then rm -rf "$work"; else echo "kept: $work" >&2; fi
	exit "$status"
}
trap finish EXIT

fail() {
	echo "FAIL: $*" >&2
	exit 1
}

pass() { echo "  ok: $*"; }

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
	local until=$((SECONDS + $1)) what=$2
	shift 2
	until "$@"; do
		[ $SECONDS -lt $until ] || fail "no $what in time"
		sleep 0.05
	done
}

# venv REQUIREMENTS sets python to the one of a virtual environment that has them.
venv() {
	local dir
	dir=$shared/venv-$(sha256sum <"$1" | cut -c 1-16)
	python=$dir/bin/python
	[ ! -e "$dir/whole" ] || return 0
	rm -rf "$dir"
	python3 -m venv "$dir"
	"$again" timeout 600 "$dir/bin/pip" install -q --disable-pip-version-check -r "$1"
	: >"$dir/whole"
}

# node_modules sets node to a copy of conformance/node with the modules that it needs.
node_modules() {
	node=$shared/node
	[ ! -e "$node/whole" ] || return 0
	rm -rf "$node"
	cp -r "$here/node" "$node"
	(cd "$node" && "$again" timeout 600 npm ci --no-audit --no-fund --loglevel=error)
	: >"$node/whole"
}

# jars POM sets jars to the class path of what it depends on.
jars() {
	local dir
	dir=$shared/jars-$(sha256sum <"$1" | cut -c 1-16)
	if [ ! -e "$dir/whole" ]; then
		rm -rf "$dir"
		mkdir "$dir"
		cp "$1" "$dir/pom.xml"
		(cd "$dir" && "$again" timeout 600 mvn -q -B -ntp dependency:build-classpath -Dmdep.outputFile=classpath)
		: >"$dir/whole"
	fi
	jars=$(cat "$dir/classpath")
}

# address DOOR: what firth printed as the address of a door. Lines of its log may name doors and clients, too.
address() { sed -nE "/^$1 +127\\.0\\.0\\.1:[0-9]+\$/ { s/^$1 +//p; q }" "$work/firth.log"; }

# free_ports N: the first of so many ports in a row where nobody listens, from below those that the system gives out.
free_ports() {
	local first port
	while :; do
		first=$((20000 + RANDOM % 9990))
		for ((port = first; port < first + $1; port++)); do
			! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || continue 2
		done
		echo "$first"
		return
	done
}

ready() {
	kill -0 "$firth_pid" 2>/dev/null || fail "firth did not start"
	mqtt=$(address mqtt) ws=$(address ws) kafka=$(address kafka) http=$(address http)
	[ -n "$mqtt" ] && [ -n "$ws" ] && [ -n "$kafka" ] && [ -n "$http" ]
}

# start_firth [--set key=value ...] sets mqtt, ws, kafka and http to the addresses, and their _host and _port.
start_firth() {
	firth=${FIRTH:-$repo/build/firth}
	if [ -z "${FIRTH:-}" ]; then (cd "$repo" && CGO_ENABLED=0 go build -trimpath -o build/firth ./cmd/firth); fi
	: >"$work/firth.log" # the addresses of the one before are not these
	"$firth" serve --set "data=$work/data" --set listen.mqtt=127.0.0.1:0 --set listen.ws=127.0.0.1:0 \
		--set listen.kafka=127.0.0.1:0 --set listen.http=127.0.0.1:0 "$@" >"$work/firth.log" 2>&1 &
	firth_pid=$!
	wait_for 180 "addresses from firth" ready
	mqtt_host=${mqtt%:*} mqtt_port=${mqtt##*:}
	export mqtt ws kafka http mqtt_host mqtt_port
}

# restart_firth [--set key=value ...]: start_firth at the addresses of the one before. All of them: a door with a port
# that the system chooses might be given that of another one.
restart_firth() {
	start_firth --set "listen.mqtt=$mqtt" --set "listen.ws=$ws" --set "listen.kafka=$kafka" --set "listen.http=$http" "$@"
}

# stop_firth wants a clean end within three minutes, no trace of a panic, no line at level error and a log without findings.
stop_firth() {
	local pid=$firth_pid
	kill -TERM "$pid"
	timeout 180 tail --pid="$pid" -s 0.05 -f /dev/null || kill -9 "$pid"
	wait "$pid" || fail "firth ended with status $?"
	firth_pid=
	if grep -qE '^panic:|goroutine [0-9]+ \[' "$work/firth.log"; then fail "firth panicked"; fi
	if grep 'level=ERROR' "$work/firth.log" >&2; then fail "firth logged errors"; fi
	"$firth" log check "$work/data" >"$work/check.log" 2>&1 || { cat "$work/check.log" >&2; fail "firth log check"; }
}

# through_restart SECONDS WHAT COMMAND...: runs a client that says "restart", alone on a line, within so many seconds, and
# then restarts firth at the same addresses. The client has to end well.
through_restart() {
	local limit=$1 what=$2 pid
	shift 2
	: >"$work/said"
	timeout 900 "$@" > >(tee "$work/said" | grep --line-buffered -v '^restart$') &
	pid=$!
	others+=("$pid")
	wait_for "$limit" "wish of $what for a restart" said_restart "$pid"
	stop_firth
	restart_firth
	wait "$pid" || fail "$what ended with status $?"
}

said_restart() { grep -q '^restart$' "$work/said" || ! kill -0 "$1" 2>/dev/null; }
