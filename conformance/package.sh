#!/usr/bin/env bash
# The .deb as an administrator has it: installed, started, a message through both doors, upgraded, removed; and the OCI
# image, unpacked and run as its own root; the alerts, by Prometheus' own tool. The root is this machine's, with all that changes in memory; it needs root.
. "$(dirname "$0")/lib.sh"
"$here/install.sh" packages promtool
cd "$repo"
promtool check rules packaging/monitoring/rules.yml >"$work/rules" || { cat "$work/rules" >&2; fail "promtool does not like the alerts"; }
promtool test rules packaging/monitoring/rules_test.yml >"$work/rules" 2>&1 || { cat "$work/rules" >&2; fail "the alerts"; }
pass "Prometheus reads the alerts, and they say what they should"
host=$(go env GOHOSTOS)/$(go env GOHOSTARCH)
OUT=$work/one packaging/release.sh "$host" >"$work/release.log" 2>&1 || { cat "$work/release.log" >&2; fail "release.sh"; }
cat "$work/release.log"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0)
export SOURCE_DATE_EPOCH
version=$(basename "$work"/one/firth_*_oci.tar _oci.tar)
version=${version#firth_}
GOMAXPROCS=1 TMPDIR=/var/tmp build/packaging -only sbom,deb,rpm,image -out "$work/two" -version "$version" "$work"/one/bin/*
diff -r -x bin -x "*.gz" -x SHA256SUMS "$work/one" "$work/two" || fail "packages of the same binary differ"
pass "a package, an image and a bill of materials, the same bytes each time"

# Neither the folder, nor who builds, nor what he prefers shows in a binary. What was compiled comes from the cache, whose
# keys are the very inputs; that no path of this machine is in it, the second look shows.
mkdir -p "$work/elsewhere/with a space"
tar -c --exclude=.git --exclude=node_modules --exclude=./build --exclude=./bin . | tar -x -C "$work/elsewhere/with a space"
build=(env CGO_ENABLED=0 go build -trimpath -buildvcs=false "-ldflags=-w -buildid=")
"${build[@]}" -o "$work/here" ./cmd/firth
(cd "$work/elsewhere/with a space" && USER=nobody LANG=C TZ=Asia/Tokyo GOMAXPROCS=1 "${build[@]}" -o "$work/there" ./cmd/firth)
cmp "$work/here" "$work/there" || fail "the folder shows in the binary"
for path in "$repo/" "$(go env GOMODCACHE)/" "$(go env GOROOT)/"; do
	if grep -qaF "$path" "$work"/one/bin/firth_*; then fail "$path is in the binary"; fi
done
rm -r "$work/elsewhere" "$work/here" "$work/there"
pass "a binary, the same bytes from another folder"

grep -q '"purl": "pkg:golang/github.com/twmb/franz-go@v' "$work"/one/*.cdx.json || fail "franz-go is in no bill of materials"
(cd packaging && GOWORK=off FIRTH=$(echo "$work"/one/bin/firth_*) go test -count=1 . >"$work/helm" 2>&1) ||
	{ cat "$work/helm" >&2; fail "the chart"; }
pass "the chart: standalone and gateways, with TLS and without, in which a node finds no fault"

unit=packaging/files/firth.service
mkdir "$work/unit"
sed 's#^ExecStart=/usr/bin/firth#ExecStart=/bin/true#' $unit >"$work/unit/firth.service"
cp packaging/files/firth.socket "$work/unit"
systemd-analyze verify "$work/unit/firth.service" "$work/unit/firth.socket" || fail "systemd does not like the units"
systemd-analyze security --offline=true --threshold=20 "$work/unit/firth.service" >"$work/security" ||
	{ cat "$work/security" >&2; fail "the unit is too open"; }
pass "the unit is good: $(grep -o 'exposure level.*: [0-9.]*' "$work/security")"

if unshare -mn mount -t tmpfs tmpfs /mnt 2>"$work/mount.log"; then
	# A network of its own has the default ports free.
	unshare -mn "$here/package/inside.sh" "$work" "$work"/one/*.deb "$work"/one/*_oci.tar
	exit
fi
echo "  nothing can be mounted here ($(tail -n 1 "$work/mount.log")): the .deb is unpacked, not installed, the image is left"
dpkg-deb -x "$work"/one/*.deb "$work/unpacked"
FIRTH=$work/unpacked/usr/bin/firth start_firth --config "$work/unpacked/etc/firth/firth.yaml"
"$firth" pub -h "$mqtt_host" -p "$mqtt_port" -q 1 -t sensors/room1/temp -m 21.5
"$firth" consume sensors -b "$kafka" -o beginning -e -f '%k %s\n' >"$work/consumed"
grep -qxF "sensors/room1/temp 21.5" "$work/consumed" || fail "what was published did not come: $(cat "$work/consumed")"
pass "the binary of the .deb: a message through both doors"
