#!/usr/bin/env bash
# Pastes what the pages of docs/ tell a newcomer to paste: each ```sh block behind a comment
#
#   <!-- shows: TEXT -->     one or more; TEXT comes, on one line of what the block prints
#   <!-- given: COMMAND -->  what is there before, if anything
#
# into a shell in an empty folder, against a server with its defaults, unless the block starts one itself. Those of
# examples run in the root of the repository, as their pages say. docs.sh PAGE... tries only those pages.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repo=$(dirname "$here")
if [ -z "${DOCS_NET:-}" ]; then
	"$here/install.sh" clients
	if [ -z "${FIRTH:-}" ]; then (cd "$repo" && CGO_ENABLED=0 go build -trimpath -o build/firth ./cmd/firth); fi
fi
# The defaults are fixed ports: a network of its own has them free.
if [ -z "${DOCS_NET:-}" ]; then
	export DOCS_NET=own
	if unshare -n ip link set lo up 2>/dev/null; then
		exec unshare -n bash -c 'ip link set lo up && exec "$0" "$@"' "$0" "$@"
	elif unshare -rn ip link set lo up 2>/dev/null; then
		exec unshare -rn bash -c 'ip link set lo up && exec "$0" "$@"' "$0" "$@"
	fi
	export DOCS_NET=shared
fi
# shellcheck source=conformance/lib.sh
. "$(dirname "$0")/lib.sh"
firth=${FIRTH:-$repo/build/firth}
mkdir "$work/bin"
ln -s "$(realpath "$firth")" "$work/bin/firth"
export PATH="$work/bin:$PATH"

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
serves() { answers 1883 && answers 8083 && answers 9092 && answers 8080; }
none_serves() { ! answers 1883 && ! answers 8083 && ! answers 9092 && ! answers 8080; }
none_serves || fail "the default ports are taken, and a network of its own is not to be had"

# The group is there once setsid has run.
group_ends() { ! kill -0 "$1" 2>/dev/null && ! kill -0 -- "-$1" 2>/dev/null; }
end_group() { # end_group PID: all that a block has left running
	local until=$((SECONDS + 20))
	until group_ends "$1"; do
		if [ $SECONDS -lt $until ]; then kill -TERM -- "-$1" 2>/dev/null || true; else kill -9 -- "-$1" 2>/dev/null || true; fi
		sleep 0.1
	done
}
shown() { # shown FILE TEXT...: all of it
	local file=$1 text
	shift
	for text in "$@"; do grep -qF -- "$text" "$file" || return 1; done
}

# try WHERE: the block in $block, with what $given and $shows say.
try() {
	local where=$1 folder text begin
	folder=$(mktemp -d "$work/try.XXXX")
	cd "$folder"
	printf '%s' "$block" >block
	begin=()
	case $where in examples/*) begin=(env -C "$repo") ;; esac
	if ! grep -qE 'firth (serve|demo)|^firth$' block; then
		setsid firth >server.log 2>&1 &
		firth_pid=$!
		wait_for 180 "server" serves
	fi
	if [ -n "$given" ]; then
		printf '%s' "$given" >given
		timeout 300 setsid -w "${begin[@]}" bash "$folder/given" >given.log 2>&1 </dev/null || fail "$where: given: $(cat given.log)"
	fi
	: >printed
	setsid "${begin[@]}" stdbuf -oL bash "$folder/block" >printed 2>&1 </dev/null &
	local pid=$! until=$((SECONDS + 60))
	others+=("$pid")
	until shown printed "${shows[@]}" || { group_ends "$pid" && ! shown printed "${shows[@]}"; }; do
		[ $SECONDS -lt $until ] || break
		sleep 0.05
	done
	if ! shown printed "${shows[@]}"; then
		wrong=yes
		echo "--- pasted:" "$block" "--- printed:" >&2
		cat printed server.log >&2 2>/dev/null || true
		for text in "${shows[@]}"; do grep -qF -- "$text" printed || echo "$where: \"$text\" is not shown" >&2; done
	fi
	end_group "$pid"
	if [ -n "$firth_pid" ]; then end_group "$firth_pid"; fi
	firth_pid=
	wait_for 180 "end of the server" none_serves
}

# tries WHERE: tries the block, and once or twice more if something took longer than the seconds that the page gives it.
tries() {
	local n
	for n in 1 2 3; do
		wrong=''
		try "$1"
		[ -n "$wrong" ] || break
	done
	if [ -n "$wrong" ]; then
		echo "FAIL: $1" >&2
		bad=$((bad + 1))
	else
		if [ "$n" -gt 1 ]; then pass "$1, at try $n"; else pass "$1"; fi
	fi
}

tried=0 bad=0
page() { # page FILE
	local file=$1 line number=0 inside='' at
	given='' block='' shows=()
	while IFS= read -r line || [ -n "$line" ]; do
		number=$((number + 1))
		if [ -n "$inside" ]; then
			if [ "$line" != '```' ]; then
				block+=$line$'\n'
				continue
			fi
			inside=''
			if [ ${#shows[@]} -gt 0 ]; then
				tries "${file#"$repo"/}:$at"
				tried=$((tried + 1))
			fi
			given='' block='' shows=()
			continue
		fi
		case $line in
		'<!-- shows: '*' -->') line=${line#<!-- shows: } shows+=("${line% -->}") ;;
		'<!-- given: '*' -->') line=${line#<!-- given: } given+=${line% -->}$'\n' ;;
		'```sh') inside=yes at=$number ;;
		esac
	done <"$file"
}

cd "$repo"
pages=("$repo/README.md" "$repo"/docs/*.md "$repo"/examples/*/README.md)
if [ $# -gt 0 ]; then pages=("${@/#/$PWD/}"); fi
for one in "${pages[@]}"; do
	before=$tried
	page "$one"
	[[ $one != */examples/* || $tried -gt $before ]] || fail "nothing of ${one#"$repo"/} was tried"
done
[ "$tried" -gt 0 ] || fail "nothing was tried"
[ "$bad" -eq 0 ] || fail "$bad of $tried blocks do not show what the pages say"
echo "docs: $tried blocks were pasted, and show what the pages say"
