package hinge

import (
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestMurmur2 has the values of Kafka's own test of Utils.murmur2.
func TestMurmur2(t *testing.T) {
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
	}
}

// TestPartitionIsKafkas compares with the partitioner of a Kafka client.
func TestPartitionIsKafkas(t *testing.T) {
	theirs := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	rng := rand.New(rand.NewPCG(1, 1))
	for range 20_000 {
		key := make([]byte, rng.IntN(40))
		for i := range key {
			key[i] = byte(rng.Uint32())
		}
		n := 1 + rng.IntN(1000)
		want := theirs.Partition(&kgo.Record{Key: key}, n)
		if got := Partition(key, n); int(got) != want {
			t.Fatalf("Partition(%x, %d) = %d, want %d", key, n, got, want)
		}
	}
	if Partition(nil, 7) != 0 || Partition([]byte("x"), 1) != 0 || Partition([]byte("x"), 0) != 0 {
		t.Error("a null key, one partition, none: not 0")
	}
}
