package node

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// sizeUnits are the units of a size, largest first, so that formatSize takes the largest that fits.
func sizeUnits() []unit {
	return []unit{
		{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
		{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
	}
}

type unit struct {
	name  string
	bytes int64
}

// parseSize reads a number of bytes: "1048576", "64KiB", "16 MiB", "1.5GiB", "2MB" (1,000,000 each).
func parseSize(text string) (int64, error) {
	bad := fmt.Errorf("%q is not a size (examples: 65536, 64KiB, 16MiB, 2GB)", text)
	number, name := text, "B"
	if i := strings.IndexFunc(text, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); i >= 0 {
		number, name = text[:i], strings.TrimLeft(text[i:], " ")
	}
	for _, u := range sizeUnits() {
		if !strings.EqualFold(u.name, name) {
			continue
		}
		f, err := strconv.ParseFloat(number, 64)
		if err != nil || number[0] == '.' {
			return 0, bad
		}
		if whole, err := strconv.ParseInt(number, 10, 64); err == nil && whole <= math.MaxInt64/u.bytes {
			return whole * u.bytes, nil
		}
		if f *= float64(u.bytes); f >= math.MaxInt64 || f != math.Trunc(f) {
			return 0, bad
		}
		return int64(f), nil
	}
	return 0, bad
}

// formatSize writes a number of bytes in the largest binary unit that loses nothing.
func formatSize(n int64) string {
	for _, u := range sizeUnits() {
		if u.bytes >= 1<<10 && u.bytes&(u.bytes-1) == 0 && n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

const day = 24 * time.Hour

// parseDuration reads Go's durations with d (24 h) and w (7 d) before them: "7d", "1w2d", "1d12h30m", "10s".
func parseDuration(text string) (time.Duration, error) {
	bad := fmt.Errorf("%q is not a time (examples: 500ms, 10s, 12h, 7d, 4w)", text)
	rest, total := text, 0.0
	for _, u := range []struct {
		letter string
		length time.Duration
	}{{"w", 7 * day}, {"d", day}} {
		number, after, found := strings.Cut(rest, u.letter)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return 0, bad
		}
		total += float64(n) * float64(u.length)
		rest = after
	}
	if rest == "" && rest != text {
		if total > math.MaxInt64 {
			return 0, bad
		}
		return time.Duration(total), nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || rest[0] == '+' || rest[0] == '-' || total+float64(d) > math.MaxInt64 {
		return 0, bad
	}
	return time.Duration(total) + d, nil
}

// formatDuration writes whole days as days and leaves out the zero parts of the rest.
func formatDuration(d time.Duration) string {
	if d >= day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
