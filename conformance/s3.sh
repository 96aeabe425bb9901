#!/usr/bin/env bash
# Backups in a bucket of a store that somebody else has written: under load, with kill -9, restored and held to what was
# acknowledged. The store's module is its own.
. "$(dirname "$0")/lib.sh"
if [ -z "${FIRTH:-}" ]; then (cd "$repo" && CGO_ENABLED=0 go build -trimpath -o build/firth ./cmd/firth); fi
FIRTH=$(realpath "${FIRTH:-$repo/build/firth}")
(cd "$here/s3" && export GOWORK=off && "$again" go mod download && go vet . && CGO_ENABLED=0 go build -ldflags=-w -o "$work/store" .)
(cd "$repo" && go test -c -o "$work/torture.test" ./torture)
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=store -addext subjectAltName=IP:127.0.0.1 \
	-keyout "$work/store.key" -out "$work/store.pem" 2>"$work/openssl.log" || { cat "$work/openssl.log" >&2; fail "no certificate"; }
export AWS_REGION=us-east-1 AWS_CA_BUNDLE=$work/store.pem
(umask 077 && printf '[default]\naws_access_key_id = firth\naws_secret_access_key = not-so-secret\n' >"$work/keys")
mkdir -p "$work/buckets/bucket" "$work/about"

store_answers() { own "$store_pid" && curl -s -o "$work/answer" --cacert "$work/store.pem" "https://$store"; }
# It may find its port taken by then, and takes another one.
for _ in $(seq 5); do
	store=127.0.0.1:$(free_ports 1)
	S3_KEY=firth S3_SECRET=not-so-secret "$work/store" "$work/buckets" "$work/about" "$store" "$work/store.pem" "$work/store.key" \
		>"$work/store.log" 2>&1 &
	store_pid=$!
	for _ in $(seq 600); do
		store_answers && break 2
		own "$store_pid" || break
		sleep 0.1
	done
done
others+=("$store_pid")
store_answers || { cat "$work/store.log" >&2; fail "the store does not answer"; }

at=(--s3-endpoint "$store" --s3-credentials "$work/keys")
timeout 500 "$work/torture.test" -test.v -test.timeout 480s -test.run '^TestBackup$' \
	-backup.place "s3://bucket/torture ${at[*]}" >"$work/torture.log" 2>&1 || { cat "$work/torture.log" >&2; fail "torture"; }
[ "$(grep -c 'that were acknowledged before it are there' "$work/torture.log")" -eq 3 ] || fail "not three backups were restored"
pass "three backups under load, one more with kill -9, restored"

"$FIRTH" backup list s3://bucket/torture "${at[@]}" >"$work/list"
id=$(sed -n '2s/ .*//p' "$work/list")
piece=$(find "$work/buckets/bucket/torture/objects" -type f -size +1k | sort | head -n 1)
for damage in change cut; do
	cp "$piece" "$work/piece"
	case $damage in
	change) printf '\377\000\377' | dd of="$piece" bs=1 seek=100 conv=notrunc status=none ;;
	cut) truncate -s 700 "$piece" ;;
	esac
	found=0
	for id in $(sed -n '2,$s/ .*//p' "$work/list"); do
		status=0
		"$FIRTH" backup verify s3://bucket/torture --id "$id" "${at[@]}" >"$work/verify" 2>&1 || status=$?
		case $status in 0) ;; 6) found=1 ;; *) cat "$work/verify" >&2; fail "verify: $status" ;; esac
	done
	[ $found -eq 1 ] || fail "a piece ($damage) that is not what it was is not found"
	cp "$work/piece" "$piece"
done
pass "a piece that was changed, and one that was cut, are found"

AWS_ACCESS_KEY_ID=firth AWS_SECRET_ACCESS_KEY=another "$FIRTH" backup list s3://bucket/torture --s3-endpoint "$store" \
	>"$work/denied" 2>&1 && fail "a wrong key is taken"
grep -q 'the store refuses' "$work/denied" || { cat "$work/denied" >&2; fail "a wrong key is not told"; }
if grep -rqF -e not-so-secret -e another "$work/denied" "$work/torture.log" "$work/list"; then fail "a key is shown"; fi
"$FIRTH" backup remove s3://bucket/torture "$id" "${at[@]}"
if [ -e "$work/buckets/bucket/torture/LOCK" ]; then fail "the lock is left"; fi
pass "a wrong key is refused, a backup removed, the lock given back"
