package telemetry

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestPast: what is remembered is the sum of each family, so often and no more, the oldest first.
func TestPast(t *testing.T) {
	s := New()
	grows := s.Counter("firth_test_total", "Test.", "kind")
	level := 7.0
	s.GaugeFunc("firth_test_level", "Test.", func() float64 { return level })
	p := s.Keep([]string{"firth_test_total", "firth_test_level", "firth_nobody"}, 3)
	if got := p.Moments(); len(got) != 0 {
		t.Fatalf("%v", got)
	}
	began := time.Unix(1000, 0)
	for i := range 5 {
		grows.With("a").Inc()
		grows.With("b").Add(10)
		level++
		p.Look(began.Add(time.Duration(i) * time.Second))
	}
	got := p.Moments()
	if len(got) != 3 {
		t.Fatalf("%v", got)
	}
	for i, m := range got {
		n := float64(i + 3)
		if !m.Time.Equal(began.Add(time.Duration(i+2)*time.Second)) || m.Values[0] != 11*n || m.Values[1] != 7+n ||
			m.Values[2] != 0 {
			t.Errorf("moment %d: %v", i, m)
		}
	}
}

// TestPastRun: it looks at once, and ends with its context.
func TestPastRun(t *testing.T) {
	p := New().Keep([]string{"firth_nobody"}, 3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(ctx, time.Hour); !errors.Is(err, context.Canceled) || len(p.Moments()) != 1 {
		t.Errorf("%v, %v", err, p.Moments())
	}
}

// BenchmarkLook is what a node pays each ten seconds, with twelve families.
func BenchmarkLook(b *testing.B) {
	s := New()
	names := make([]string, 12)
	for i := range names {
		names[i] = "firth_test_" + string(rune('a'+i)) + "_total"
		c := s.Counter(names[i], "Test.", "qos")
		for _, q := range []string{"0", "1", "2"} {
			c.With(q).Inc()
		}
	}
	p := s.Keep(names, 360)
	for b.Loop() {
		p.Look(time.Unix(0, 0))
	}
}
