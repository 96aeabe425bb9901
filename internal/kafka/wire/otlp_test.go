package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
)

// inField is a field of protocol buffers that holds bytes.
func inField(number int, b []byte) []byte {
	out := binary.AppendUvarint(nil, uint64(number)<<3|2)
	return append(binary.AppendUvarint(out, uint64(len(b))), b...)
}

// pushedMetric is a metric with one number, in a MetricsData.
func pushedMetric(name string, kind int, value float64, whole bool) []byte {
	key, bits := byte(4<<3|1), math.Float64bits(value)
	if whole {
		key, bits = 6<<3|1, uint64(int64(value))
	}
	point := append([]byte{3<<3 | 1, 1, 2, 3, 4, 5, 6, 7, 8, key}, binary.LittleEndian.AppendUint64(nil, bits)...)
	data := append(inField(1, point), 2<<3, 1, 3<<3, 1)
	metric := append(inField(1, []byte(name)), inField(3, []byte("ms"))...)
	scope := inField(2, append(metric, inField(kind, data)...))
	return inField(1, append(inField(1, []byte{}), inField(2, scope)...))
}

func TestOTLP(t *testing.T) {
	all := slices.Concat(pushedMetric("gauge", 5, 1.5, false), pushedMetric("sum", 7, -3, true),
		pushedMetric("histogram", 9, 7, false))
	read := func(b []byte) (got []string, err error) {
		err = OTLP(b, func(name []byte, value float64, sum bool) {
			got = append(got, fmt.Sprint(string(name), " ", value, " ", sum))
		})
		return got, err
	}
	got, err := read(all)
	if want := []string{"gauge 1.5 false", "sum -3 true"}; err != nil || !slices.Equal(got, want) {
		t.Fatalf("%v %v, want %v", got, err, want)
	}
	whole := len(pushedMetric("gauge", 5, 1.5, false))
	for cut := range whole {
		if _, err := read(all[:cut]); cut > 0 && !fault.Is(err, fault.Invalid) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
	if _, err := read([]byte("\x0f no metrics")); err == nil {
		t.Fatal("a group is taken")
	}
}

func FuzzOTLP(f *testing.F) {
	f.Add(pushedMetric("gauge", 5, 1.5, false))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		_ = OTLP(b, func([]byte, float64, bool) { n++ }) // it may be anything
		if n > len(b) {
			t.Fatalf("%d numbers in %d bytes", n, len(b))
		}
	})
}
