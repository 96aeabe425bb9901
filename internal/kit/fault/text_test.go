package fault_test

import (
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/kit/fault"
)

// TestText is D9: what clients call themselves goes into lines, cut and escaped.
func TestText(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"sensors/room 1", "sensors/room 1"},
		{"ünï", "ünï"},
		{"a\x1b[31m\r\nb", `a\x1b[31m\r\nb`},
		{"no-break\u00a0space", `no-break\u00a0space`},
		{"\xff\xfe", `\xff\xfe`},
		{`back\slash "quoted"`, `back\slash "quoted"`},
		{strings.Repeat("x", 128), strings.Repeat("x", 128)},
		{strings.Repeat("x", 65535), strings.Repeat("x", 128) + "... (65535 bytes)"},
		{strings.Repeat("x", 127) + "üü", strings.Repeat("x", 127) + "... (131 bytes)"},
	} {
		if got := fault.Text(tt.in); got != tt.want {
			t.Errorf("%.20q: %q, want %q", tt.in, got, tt.want)
		}
		if got := fault.Text([]byte(tt.in)); got != tt.want {
			t.Errorf("%.20q in bytes: %q, want %q", tt.in, got, tt.want)
		}
	}
	if n := alloctest.PerRun(100, 0, func() { fault.Text("sensors/room1") }); n > 0 {
		t.Errorf("%.0f allocations for a plain text", n)
	}
}
