#!/usr/bin/env bash
# franz-go's own suite, at the version that go.mod pins, against the binary. What it skips stands in
# docs/conformance/kgo.md with the reason, which is where the list is read from. What the suite can do while its connections
# break at random (KGO_TEST_CHAOS) is done once more that way.
. "$(dirname "$0")/lib.sh"
page=$repo/docs/conformance/kgo.md
records=${KGO_TEST_RECORDS:-10000}

skip=$(sed -nE 's/^\| `(Test[A-Za-z0-9_/]+)` \|.*$/^\1$/p' "$page" | paste -sd '|')
skip=${skip:-^\$} # none

version=$(cd "$repo" && go list -m -f '{{.Version}}' github.com/twmb/franz-go)
source=$(cd "$repo" && "$again" go mod download -json "github.com/twmb/franz-go@$version" |
	sed -nE 's/^\t"Dir": "(.*)",?$/\1/p')
[ -d "$source" ] || fail "no source of franz-go $version"
cp -r "$source" "$work/franz-go"
chmod -R u+w "$work/franz-go"

(cd "$work/franz-go" && GOWORK=off GOFLAGS=-mod=mod "$again" go test -c -o "$work/kgo.test" ./pkg/kgo)

start_firth
cd "$work/franz-go/pkg/kgo"
echo "  franz-go $version, KGO_TEST_RECORDS=$records, without: $skip"
KGO_SEEDS=$kafka KGO_TEST_RF=1 KGO_TEST_RECORDS=$records KGO_LOG_LEVEL=none \
	"$work/kgo.test" -test.timeout 20m -test.v -test.skip "$skip" >"$work/kgo.log" 2>&1 &
suite=$!
others+=("$suite")
while kill -0 "$suite" 2>/dev/null; do
	sleep 5
	printf '  %4d s: %d passed, %d failed\n' "$SECONDS" \
		"$(grep -c '^--- PASS' "$work/kgo.log")" "$(grep -c '^ *--- FAIL' "$work/kgo.log")"
done
if ! wait "$suite"; then
	grep -E '^ *--- FAIL|^panic|^FAIL' "$work/kgo.log" >&2 || true
	cp "$work/kgo.log" "${KGO_LOG:-$repo/build/kgo.log}"
	fail "franz-go's suite; its log is ${KGO_LOG:-build/kgo.log}"
fi
passed=$(grep -c '^--- PASS' "$work/kgo.log")
if ! KGO_TEST_CHAOS=1 KGO_SEEDS=$kafka KGO_TEST_RF=1 KGO_TEST_RECORDS=$records KGO_LOG_LEVEL=none timeout 900 \
	"$work/kgo.test" -test.timeout 880s -test.v -test.run '^(TestGroupETL|TestShareGroupETL)$' -test.skip "$skip" \
	>"$work/chaos.log" 2>&1; then
	grep -E '^ *--- FAIL|^panic|^FAIL' "$work/chaos.log" >&2 || true
	cp "$work/chaos.log" "${KGO_LOG:-$repo/build/kgo.log}"
	fail "franz-go's suite under chaos; its log is ${KGO_LOG:-build/kgo.log}"
fi
chaos=$(grep -cE '^ +--- PASS' "$work/chaos.log")
[ "$chaos" -ge 6 ] || fail "only $chaos tests have run under chaos"
[ "$passed" -ge 100 ] || fail "only $passed tests have run"
sed -nE 's/^--- SKIP: ([^ ]+).*/  skipped by itself: \1/p' "$work/kgo.log"
stop_firth
echo "franz-go's suite: $passed passed, $chaos of them again under chaos"
