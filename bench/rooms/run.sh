#!/usr/bin/env bash
# The benchmarks of the hot rooms, in the order of a message's way, beside their baseline.
#   run.sh            measures and compares with baseline.txt (benchstat)
#   run.sh baseline   measures and makes that the baseline
# COUNT (6) and TIME (100ms) are -count and -benchtime; ROOMS (all) is a regular expression of rooms below.
set -euo pipefail
cd "$(dirname "$0")/../.."
baseline=bench/rooms/baseline.txt
out=build/bench/rooms/$(date -u +%Y%m%dT%H%M%S).txt
benchstat=golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
go=${GO:-go}
rooms=${ROOMS:-.}
rooms=${rooms//\//.} # a slash would end the pattern for benchstat

# room, benchmarks
hot() {
	cat <<-'LIST'
	mqtt/packet   ^Benchmark(Decode|AppendTo)$/^(publish|puback)
	hinge         ^Benchmark(Mapping|Partition)$
	names         ^Benchmark(TrieMatch|TrieFanout|Match|CheckName)$
	access/rule   ^Benchmark(Name|ManyOfOne)$
	access        ^BenchmarkMayName$
	mqtt/fanout   ^BenchmarkLive$
	mqtt          ^Benchmark(Deliver|Publish)$
	log/record    ^Benchmark(Append|Seal|Iter|Validate)$
	kit/atrest    ^BenchmarkBlocks$
	log/journal   ^Benchmark(Frame|WriteSealed)$
	log/store     ^BenchmarkAppend$
	kafka/wire    ^Benchmark(ProduceWalk|FetchEncode)$
	kafka         ^Benchmark(ProducePath|FetchPath)$
	LIST
}

mkdir -p "$(dirname "$out")"
model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)
echo "# $(date -u +%F), $(nproc) CPUs ($model), $("$go" version | cut -d' ' -f3-), commit $(git describe --always --dirty)" | tee "$out"
hot | awk -v rooms="$rooms" '$1 ~ rooms' | while read -r room benchmarks; do
	"$go" test -run '^$' -bench "$benchmarks" -benchmem -count "${COUNT:-6}" -benchtime "${TIME:-100ms}" \
		"./internal/$room" | tee -a "$out"
done
if [ "${1:-}" = baseline ]; then
	cp "$out" "$baseline"
elif [ -e "$baseline" ]; then
	"$go" run "$benchstat" -ignore goos,goarch,cpu -filter "pkg:/$rooms/" baseline="$baseline" now="$out" |
		tee "${out%.txt}.benchstat"
fi
