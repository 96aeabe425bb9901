#!/usr/bin/env bash
# Makes a data directory of the format that a binary writes, and what it holds, for TestDataOfOlderVersions.
# Usage: make.sh BINARY FORMAT [KEYS]    with a file of keys the directory is encrypted; as root: it mounts a small disk, on which journal files have 1 MiB
# Needs kcat, mosquitto_pub.
set -euo pipefail
bin=$1 name=format-$2 keys=${3:+$(realpath "$3")} here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d) kafka=127.0.0.1:29092 mqtt=21883
mkdir "$work/data"
mount -t tmpfs -o size=36m tmpfs "$work/data"
trap 'kill -9 $server 2>/dev/null || true; umount "$work/data"; rm -r "$work"' EXIT
"$bin" serve --data "$work/data" --set listen.mqtt=127.0.0.1:$mqtt --set listen.kafka=$kafka \
  --set listen.ws=127.0.0.1:28083 --set listen.http=127.0.0.1:28080 \
  ${keys:+--set encryption.key_file="$keys"} >"$work/log" 2>&1 &
server=$!
until kcat -b $kafka -L >/dev/null 2>&1; do :; done

lines() { # COUNT WIDTH
  awk -v n="$1" -v w="$2" 'BEGIN { for (i = 0; i < n; i++) { s = "value " i " "
    while (length(s) < w) s = s "of the golden directory "; print "key" i % 7 ":" s } }'
}
topics="plain gzip snappy lz4 zstd"
for t in $topics; do
  "$bin" topic create "$t" -p 2 -b $kafka
  lines 300 200 | kcat -b $kafka -P -t "$t" -K: -z "${t/plain/none}" -X linger.ms=5
done
seq -f 'reading %g' 40 | mosquitto_pub -p $mqtt -q 1 -t devices/a/temp -l
mosquitto_pub -p $mqtt -q 1 -r -t devices/a/state -m on
mosquitto_pub -p $mqtt -q 1 -r -t devices/b/state -m off
mosquitto_pub -p $mqtt -q 1 -r -t devices/c/state -m gone
mosquitto_pub -p $mqtt -q 1 -r -t devices/c/state -n
# Many small batches, so that a journal is rolled up, then large ones, so that one is kept in place, then a tail.
lines 2500 300 | kcat -b $kafka -P -t plain -K: -z none -X linger.ms=0 -X batch.num.messages=1 -X acks=all
lines 40 60000 | kcat -b $kafka -P -t plain -K: -z none -X linger.ms=0 -X acks=all
lines 300 200 | kcat -b $kafka -P -t plain -K: -z none
timeout 20 kcat -b $kafka -G golden -c 500 -X auto.offset.reset=earliest plain gzip >/dev/null 2>&1 || true
timeout 20 kcat -b $kafka -G other -c 100 -X auto.offset.reset=earliest zstd >/dev/null 2>&1 || true
until ls "$work/data/log" | grep -q 3.*segment; do :; done
seq -f 'last %g' 3 | mosquitto_pub -p $mqtt -q 1 -t devices/b/temp -l
{
  for t in $topics devices; do
    kcat -b $kafka -C -t "$t" -o beginning -e -q -f '%p %o %T %k %S %s\n' | sort -k1n -k2n | sha256sum |
      awk -v t="$t" '{ print "topic", t, $1 }'
    kcat -b $kafka -C -t "$t" -o beginning -e -q -f '%p\n' | sort | uniq -c | awk -v t="$t" '{ print "count", t, $2, $1 }'
  done
  for g in golden other; do
    "$bin" group describe $g -b $kafka | awk -v g=$g '$2 ~ /^[0-9]+$/ && $3 ~ /^[0-9]+$/ { print "group", g, $1, $2, $3 }'
  done
  printf 'retained devices/a/state on\nretained devices/b/state off\n'
} >"$here/$name.txt"
kill -9 $server
rm "$work/data/LOCK"
(cd "$work/data" && tar --exclude=spare.* --exclude=admin.token --sort=name --owner=0 --group=0 --mtime=@0 -cf - *) | gzip -9n >"$here/$name.tar.gz"
