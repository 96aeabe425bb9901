#!/usr/bin/env bash
# kafka-python's own integration suite, from its package on PyPI, against the binary. What it skips stands in
# docs/conformance/kafka-python.md with the reason, which is where the list is read from.
. "$(dirname "$0")/lib.sh"
"$here/install.sh" python
page=$repo/docs/conformance/kafka-python.md
venv "$here/kafka-python/requirements.txt"
pin=$(grep '^kafka-python==' "$here/kafka-python/requirements.txt")
"$again" timeout 300 "$python" -m pip download -q --disable-pip-version-check --no-deps --no-binary :all: \
	--no-build-isolation -d "$work/source" "$pin"
tar -xzf "$work"/source/kafka_python-*.tar.gz -C "$work/source" --strip-components=1
mkdir "$work/suite"
cp -r "$work/source/test" "$work/source/pyproject.toml" "$work/suite/"
cp "$here/kafka-python/test/service.py" "$work/suite/test/"
touch "$work/suite/test/__init__.py" # else Python's own package of that name is found

# Their broker's own settings: four partitions, and sessions as short as their tests want them.
start_firth --set topics.defaults.partitions=4 --set groups.min_session_timeout=1s
timeout 300 "$python" "$here/kafka-python/admin.py"
cd "$work/suite"
skip=()
while read -r name; do skip+=("--deselect=test/integration/$name"); done \
	< <(sed -nE 's/^\| `(test_[a-z_]+\.py::[A-Za-z0-9_:]+)` \|.*$/\1/p' "$page")
# The version that it takes the server for is the one that it is told to speak.
version=$("$python" -c "import kafka
print('.'.join(map(str, kafka.KafkaConsumer(bootstrap_servers='$kafka').config['api_version'])))")
[[ $version == 4.* ]] || fail "kafka-python takes the server for version $version"
echo "  $pin, as for version $version, without: ${skip[*]#*integration/}"
KAFKA_ROOT=$work KAFKA_URI=kafka://$kafka KAFKA_VERSION=$version timeout 900 "$python" -m pytest -q -rs \
	--no-header --tb=short --show-capture=no --timeout=180 -W ignore "${skip[@]}" --ignore=test/integration/test_ssl_integration.py \
	--ignore=test/integration/test_sasl_integration.py test/integration >"$work/pytest.log" 2>&1 ||
	{ tail -n 80 "$work/pytest.log" >&2; fail "kafka-python's suite"; }
sed -nE 's/^SKIPPED .*integration\/(.*)/  skipped by itself: \1/p' "$work/pytest.log"
passed=$(sed -nE 's/^([0-9]+) passed.*/\1/p' "$work/pytest.log")
[ "${passed:-0}" -ge 50 ] || fail "only ${passed:-0} tests have run"
stop_firth
echo "kafka-python's suite: $passed passed"
