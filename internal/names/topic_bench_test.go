package names

import (
	"fmt"
	"runtime"
	"testing"
)

const million = 1_000_000

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkTrieMatch has from one to a million filters of which each device has its own. With filters=n a name
// matches one of them, with filters=n,wildcards three more that match every name.
func BenchmarkTrieMatch(b *testing.B) {
	v := new(int)
	for _, filters := range []int{1, 1000, 100_000, million} {
		before := heap()
		trie := new(Trie[*int])
		for i := range filters {
			trie.Add(fmt.Sprintf("fleet/device-%07d/command", i), v)
		}
		perEntry := float64(heap()-before) / float64(filters)
		names := make([][]byte, min(filters, 512))
		for i := range names {
			names[i] = fmt.Appendf(nil, "fleet/device-%07d/command", i*(filters/len(names)))
		}
		name := fmt.Sprintf("filters=%d", filters)
		b.Run(name, func(b *testing.B) {
			benchmarkMatch(b, trie, names, 1)
			if filters >= 1000 {
				b.ReportMetric(perEntry, "B/filter")
			}
		})
		for _, wild := range []string{"fleet/+/command", "fleet/#", "#"} {
			trie.Add(wild, v)
		}
		b.Run(name+",wildcards", func(b *testing.B) { benchmarkMatch(b, trie, names, 4) })
	}
}

func benchmarkMatch(b *testing.B, trie *Trie[*int], names [][]byte, each int) {
	b.ReportAllocs()
	found, i := 0, 0
	visit := func(*int) { found++ }
	for b.Loop() {
		trie.Match(names[i&(len(names)-1)], visit)
		i++
	}
	if found != each*i {
		b.Fatalf("%d found in %d matches", found, i)
	}
}

func BenchmarkTrieFanout(b *testing.B) {
	var trie Trie[int]
	for i := range 1000 {
		trie.Add("news/all", i)
	}
	name, found := []byte("news/all"), 0
	b.ReportAllocs()
	for b.Loop() {
		trie.Match(name, func(int) { found++ })
	}
}

func BenchmarkTrieAddRemove(b *testing.B) {
	var trie Trie[int]
	for i := range 100_000 {
		trie.Add(fmt.Sprintf("fleet/device-%07d/command", i), i)
	}
	b.ReportAllocs()
	for b.Loop() {
		trie.Add("fleet/another/command", 1)
		trie.Remove("fleet/another/command", 1)
	}
}

func BenchmarkNamesMillion(b *testing.B) {
	before := heap()
	names := new(Names[int64])
	for i := range million {
		names.Set(fmt.Appendf(nil, "fleet/device-%07d/state", i), int64(i))
	}
	perName := float64(heap()-before) / million
	b.ResetTimer()
	b.ReportAllocs()
	found := 0
	for i := range b.N {
		names.Match(fmt.Sprintf("fleet/device-%07d/#", i%million), func([]byte, int64) bool { found++; return true })
	}
	if found != b.N {
		b.Fatalf("%d found in %d", found, b.N)
	}
	b.ReportMetric(perName, "B/name")
	runtime.KeepAlive(names)
}

func BenchmarkMatch(b *testing.B) {
	filter, name := []byte("sensors/+/temperature/#"), []byte("sensors/room1/temperature/kitchen")
	for b.Loop() {
		if !Match(filter, name) {
			b.Fatal("no match")
		}
	}
}

func BenchmarkCheckName(b *testing.B) {
	name := []byte("sensors/room1/temperature")
	for b.Loop() {
		if CheckName(name) != nil {
			b.Fatal("refused")
		}
	}
}
