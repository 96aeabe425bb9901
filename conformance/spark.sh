#!/usr/bin/env bash
# Spark structured streaming, as PyPI has it, with its Kafka package from Maven: what a device sends becomes a folder of
# Parquet files, each record once, though Spark is killed (kill -9) and goes on from its checkpoint.
. "$(dirname "$0")/lib.sh"
"$here/install.sh" clients java python
jars "$here/spark/pom.xml"
venv "$here/spark/requirements.txt"
export PYTHONDONTWRITEBYTECODE=1 SPARK_LOCAL_IP=127.0.0.1 SPARK_LOCAL_DIRS=$work/local

spark() { # spark LOG WHAT: setsid, so that its JVM can be killed with it
	setsid "$python" "$here/spark/table.py" "$jars" "$work" "$2" >"$work/$1.log" 2>&1 &
	spark_pid=$!
	others+=("$spark_pid")
}
ended() { wait "$spark_pid" || { tail -n 40 "$work/$1.log" >&2; fail "Spark: $1"; }; }
batches() { [ "$(find "$work/checkpoint/commits" -name '[0-9]*' 2>/dev/null | wc -l)" -ge "$1" ] || ! kill -0 "$spark_pid" 2>/dev/null; }
publish() { seq "$1" "$2" | mosquitto_pub -h "$mqtt_host" -p "$mqtt_port" -q 1 -t meters/hall -l; }

start_firth
publish 1 1000
spark first run
wait_for 300 "two batches of Spark" batches 2
kill -0 "$spark_pid" 2>/dev/null || ended first
kill -9 -- "-$spark_pid"
wait "$spark_pid" 2>/dev/null || true
pass "killed after $(find "$work/checkpoint/commits" -name '[0-9]*' | wc -l) batches"
publish 1001 2000
spark second 2000
ended second
grep 'ok: 2000 rows' "$work/second.log" || fail "Spark has not looked at the table"
stop_firth
echo "Spark $(sed -n 's/pyspark==//p' "$here/spark/requirements.txt"): all passed"
