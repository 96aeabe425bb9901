#!/usr/bin/env bash
# People log in at an OpenID provider that somebody else has written. Its module is its own.
. "$(dirname "$0")/lib.sh"
if [ -z "${FIRTH:-}" ]; then (cd "$repo" && CGO_ENABLED=0 go build -trimpath -o build/firth ./cmd/firth); fi
FIRTH=$(realpath "${FIRTH:-$repo/build/firth}")
export FIRTH
cd "$here/oidc"
export GOWORK=off
"$again" go mod download
go vet .
go test -c -o "$work/oidc.test" .
timeout 300 "$work/oidc.test" -test.v -test.timeout 280s >"$work/oidc.log" 2>&1 || { cat "$work/oidc.log" >&2; fail "oidc"; }
grep -q -- '^--- PASS: TestLogin' "$work/oidc.log" || { cat "$work/oidc.log" >&2; fail "no login was tried"; }
echo "oidc: passed"
