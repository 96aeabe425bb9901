#!/usr/bin/env bash
# inside.sh WORK DEB IMAGE, in namespaces of its own: see package.sh.
set -euo pipefail
work=$1 deb=$2 image=$3
root=$work/root
running=

fail() {
	echo "FAIL: $*" >&2
	if [ -s "$work/firth.log" ]; then tail -n 40 "$work/firth.log" >&2; fi
	exit 1
}
pass() { echo "  ok: $*"; }
finish() { # what still runs would hold the mounts
	local status=$?
	if [ -n "$running" ]; then kill -9 "$running" 2>/dev/null || true; wait "$running" 2>/dev/null || true; fi
	exit $status
}
trap finish EXIT

mkdir "$work/memory" "$root"
mount -t tmpfs tmpfs "$work/memory"
mkdir "$work/memory/upper" "$work/memory/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/memory/upper,workdir=$work/memory/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
ip link set lo up
inside() { chroot "$root" "$@"; }

# start ROOT COMMAND...: firth in the root, and waits until it serves.
start() {
	local where=$1
	shift
	"$@" >"$work/firth.log" 2>&1 &
	running=$!
	local until=$((SECONDS + 120))
	until chroot "$where" /usr/bin/firth health --ready >"$work/health" 2>&1; do
		kill -0 "$running" 2>/dev/null || fail "firth did not start"
		[ $SECONDS -lt $until ] || fail "firth does not serve: $(cat "$work/health")"
		sleep 0.1
	done
}
stop() {
	kill -TERM "$running"
	timeout 120 tail --pid="$running" -s 0.05 -f /dev/null || fail "firth does not end"
	wait "$running" || fail "firth ended with status $?"
	running=
	if grep 'level=ERROR' "$work/firth.log" >&2; then fail "firth logged errors"; fi
}
through_both() { # through_both ROOT VALUE
	chroot "$1" /usr/bin/firth pub -q 1 -t sensors/room1/temp -m "$2"
	chroot "$1" /usr/bin/firth consume sensors -o beginning -e -f '%k %s\n' >"$work/consumed"
	grep -qxF "sensors/room1/temp $2" "$work/consumed" || fail "\"$2\" did not come through: $(cat "$work/consumed")"
}

equal() { [ "$1" = "$2" ] || fail "$3: got \"$1\", want \"$2\""; }
if inside getent passwd firth >/dev/null || [ -e /var/lib/firth ]; then fail "this machine has had firth before"; fi
cp "$deb" "$root/firth.deb"
package() { inside "$@" >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log" >&2; fail "$*"; }; }


package dpkg -i /firth.deb
equal "$(inside stat -c '%U %G %a' /var/lib/firth)" "firth firth 700" "the folder for data"
equal "$(inside stat -c '%U %a' /etc/firth/firth.yaml)" "root 644" "the configuration"
equal "$(inside systemctl is-enabled firth.service)" enabled "the service"
serve=$(sed -n 's/^ExecStart=//p' "$root/usr/lib/systemd/system/firth.service")
# As the unit starts it. Unquoted: the words of a command.
as_firth() { start "$root" chroot --userspec=firth:firth "$root" $serve; }
as_firth
through_both "$root" 21.5
stop
pass "the .deb: installed, started as firth, a message through both doors"

echo "# ours" >>"$root/etc/firth/firth.yaml"
package dpkg -i /firth.deb
package dpkg -r firth
[ ! -e "$root/usr/bin/firth" ] || fail "removed, and the binary is there"
equal "$(tail -n 1 "$root/etc/firth/firth.yaml")" "# ours" "the configuration that was kept"
package dpkg -i /firth.deb
as_firth
through_both "$root" 22
grep -qxF "sensors/room1/temp 21.5" "$work/consumed" || fail "what was stored is gone"
stop
package dpkg -P firth
[ ! -e "$root/etc/firth/firth.yaml" ] || fail "purged, and the configuration is there"
[ -n "$(ls "$root/var/lib/firth")" ] || fail "the data is gone"
pass "upgraded, removed and installed again: configuration and data are kept; purged: the data is"

# The image, by hand: its one layer is its root.
mkdir "$work/memory/layout" "$work/memory/image"
tar -xf "$image" -C "$work/memory/layout"
blob() { echo "$work/memory/layout/blobs/sha256/$1"; }
digest='s/.*"digest": *"sha256:\([0-9a-f]*\)".*/\1/p'
manifest=$(blob "$(tr ',' '\n' <"$work/memory/layout/index.json" | sed -n "$digest" | head -n 1)")
read -r config layer < <(tr ',' '\n' <"$manifest" | sed -n "$digest" | paste -sd' ')
tar -xzf "$(blob "$layer")" -C "$work/memory/image" --numeric-owner --same-owner
grep -q '"User":"65532:65532"' "$(blob "$config")" || fail "the image runs as root"
grep -q '"Test":\["CMD","/usr/bin/firth","health"\]' "$(blob "$config")" || fail "the image has no health check"
mkdir "$work/memory/image/proc"
mount -t proc proc "$work/memory/image/proc"
start "$work/memory/image" env -i "PATH=$PATH" FIRTH_DATA=/var/lib/firth chroot --userspec=65532:65532 "$work/memory/image" \
	/usr/bin/firth serve
through_both "$work/memory/image" 21.5
stop
pass "the image: unpacked, run as nobody, a message through both doors"
