package demo

import (
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// screen shows snapshots: drawn in place, or a line at a time.
type screen struct {
	o    Options
	open bool // the alternate screen is on
}

func newScreen(o Options) *screen { return &screen{o: o} }

const (
	enter   = "\x1b[?1049h\x1b[?25l\x1b[2J"
	leave   = "\x1b[?25h\x1b[?1049l"
	home    = "\x1b[H"
	lineEnd = "\x1b[K"
	below   = "\x1b[J"
	bold    = "\x1b[1m"
	dim     = "\x1b[2m"
	plain   = "\x1b[0m"
)

func (s *screen) close() {
	if s.open {
		_, _ = io.WriteString(s.o.Out, leave)
	}
}

// draw draws a snapshot over the last one, in one write so that nothing flickers.
func (s *screen) draw(n snapshot) {
	var b strings.Builder
	if !s.open {
		b.WriteString(enter)
		s.open = true
	}
	b.WriteString(home)
	width, height := s.o.Size()
	lines := s.lines(&n, width, height)
	for i, l := range lines {
		b.WriteString(s.styled(l, width))
		b.WriteString(lineEnd)
		if i < len(lines)-1 {
			b.WriteString("\r\n")
		}
	}
	b.WriteString(below)
	_, _ = io.WriteString(s.o.Out, b.String())
}

// line prints a snapshot as one line.
func (s *screen) line(n snapshot) {
	_, _ = io.WriteString(s.o.Out, plainLine(&n))
}

// styled cuts a line to the width and gives it its style.
func (s *screen) styled(l line, width int) string {
	text := clip(l.text, width)
	if !s.o.Color || l.style == "" {
		return text
	}
	return l.style + text + plain
}

// line is one line of the screen, without escape sequences.
type line struct{ text, style string }

// lines lays a snapshot out for a terminal: what does not fit is left out from the middle.
func (s *screen) lines(n *snapshot, width, height int) []line {
	head := s.head(n, width)
	tail := s.tail(n)
	back := backLines(n)
	room := height - len(head) - len(back) - len(tail)
	if room < 3 {
		room = max(height-len(head)-len(tail), 3)
		back = nil
	}
	all := slices.Concat(head, tableLines(n, width, room), back, tail)
	return all[:min(len(all), max(height, 1))]
}

func (s *screen) head(n *snapshot, width int) []line {
	chart := min(max(width-62, 0), 58)
	return []line{
		{fmt.Sprintf(" firth demo   %d devices speak MQTT, a back end speaks Kafka, both use one log", n.devices), bold},
		{"", ""},
		{fmt.Sprintf(" MQTT in    %7.0f msg/s  %s %10s acknowledged, on disk", n.inRate,
			spark(n.inHistory, chart), thousands(n.acked)), ""},
		{fmt.Sprintf(" Kafka out  %7.0f rec/s  %s %10s read by group %q", n.outRate,
			spark(n.outHistory, chart), thousands(n.read), Group), ""},
		{fmt.Sprintf(" latency   to Kafka p50 %s p99 %s   to PUBACK p50 %s p99 %s",
			millis(n.through.p50, n.through.known), millis(n.through.p99, n.through.known),
			millis(n.ack.p50, n.ack.known), millis(n.ack.p99, n.ack.known)), ""},
		{"", ""},
	}
}

// tableLines is what the consumer group reads, at most room lines of it.
func tableLines(n *snapshot, width, room int) []line {
	keyWidth := max(min(width-45, 44), 24)
	row := func(topic, partition, offset, key, value string) string {
		return fmt.Sprintf(" %-8s %2s %6s  %-*s  %s", topic, partition, offset, keyWidth, clip(key, keyWidth), value)
	}
	lines := []line{{row("TOPIC", "P.", "OFFSET", "KEY, the MQTT topic", "LAST VALUE"), dim}}
	if len(n.readings) == 0 {
		lines = append(lines, line{" the consumer group is joining ...", ""})
	}
	for _, r := range pick(n.readings, room-2) {
		place, offset := strconv.Itoa(int(r.partition)), strconv.FormatInt(r.offset, 10)
		lines = append(lines, line{row(r.topic, place, offset, r.key, r.value), ""})
	}
	return append(lines, line{})
}

// pick chooses at most n readings, as many of each topic as possible, always the same ones.
func pick(all []reading, n int) []reading {
	byTopic := map[string][]reading{}
	for _, r := range all {
		byTopic[r.topic] = append(byTopic[r.topic], r)
	}
	var topics []string
	for topic, rs := range byTopic {
		topics = append(topics, topic)
		slices.SortFunc(rs, func(a, b reading) int { return compareNatural(a.key, b.key) })
	}
	slices.Sort(topics)
	var picked []reading
	for i, topic := range topics {
		share := min((n-len(picked))/(len(topics)-i), len(byTopic[topic]))
		picked = append(picked, byTopic[topic][:max(share, 0)]...)
	}
	return picked
}

// compareNatural puts truck-2 before truck-10: the shorter name first where lengths differ.
func compareNatural(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// backLines is the way back: commands from Kafka to devices.
func backLines(n *snapshot) []line {
	title := fmt.Sprintf(" and back  %s commands: Kafka produced, MQTT delivered  p50 %s p99 %s",
		thousands(n.commands), millis(n.back.p50, n.back.known), millis(n.back.p99, n.back.known))
	lines := []line{{title, ""}}
	for i := range 2 {
		text := ""
		if i < len(n.recent) {
			c := n.recent[len(n.recent)-1-i]
			text = fmt.Sprintf("   %s  %-20s %-16s ", c.at.Format("15:04:05"), c.key, c.value)
			if c.took > 0 {
				text += "after " + millis(c.took, true)
			}
		}
		lines = append(lines, line{text, ""})
	}
	return append(lines, line{})
}

// tail says what to try, and how it ends.
func (s *screen) tail(n *snapshot) []line {
	lines := []line{{" Try it, in a second terminal:", bold}}
	for _, l := range tries(s.o) {
		lines = append(lines, line{"   " + l, ""})
	}
	end := " Ctrl-C ends it"
	if s.o.Data != "" {
		end += " and removes " + s.o.Data
	}
	if n.fault != "" {
		end = " last error: " + n.fault
	}
	return append(lines, line{end, dim})
}

// tries are commands for a second terminal.
func tries(o Options) []string {
	host, port, err := net.SplitHostPort(o.MQTT)
	if err != nil {
		host, port = o.MQTT, "1883"
	}
	at := "-p " + port
	if host != "127.0.0.1" && host != "localhost" {
		at = "-h " + host + " " + at
	}
	return []string{
		fmt.Sprintf("mosquitto_sub %s -t 'fleet/+/position' -v", at),
		fmt.Sprintf(`kcat -b %s -C -t building -o end -f '%%k %%s\n'`, o.Kafka),
		fmt.Sprintf(`echo '{"kmh":30}' | kcat -b %s -P -t commands -k commands/truck-1`, o.Kafka),
	}
}

// plainLine is a snapshot in one line, for logs and pipes.
func plainLine(n *snapshot) string {
	const form = "%4.0fs  in %.0f/s (%d acknowledged)  out %.0f/s (%d read)  to Kafka p50 %s p99 %s  back %d p50 %s"
	text := fmt.Sprintf(form, n.elapsed.Seconds(), n.inRate, n.acked, n.outRate, n.read, millis(n.through.p50,
		n.through.known),
		millis(n.through.p99, n.through.known), n.commands, millis(n.back.p50, n.back.known))
	if r := n.newest; r != nil {
		text += fmt.Sprintf("  last %s[%d]@%d %s %s", r.topic, r.partition, r.offset, r.key, r.value)
	}
	if n.fault != "" {
		text += "  last error: " + n.fault
	}
	return text + "\n"
}

// summary is what is printed at the end.
func summary(n *snapshot) string {
	return fmt.Sprintf(`In %.0f s
  %s messages were published over MQTT, %s acknowledged: they are on disk;
  %s were read by the Kafka consumer group %q: p50 %s, p99 %s;
  %s commands were produced with Kafka and reached devices: p50 %s, p99 %s.
`, n.elapsed.Seconds(), thousands(n.sent), thousands(n.acked), thousands(n.read), Group,
		millis(n.through.p50, n.through.known), millis(n.through.p99, n.through.known), thousands(n.commands),
		millis(n.back.p50, n.back.known), millis(n.back.p99, n.back.known))
}

// millis is a duration in milliseconds, or - when it is not known.
func millis(d time.Duration, known bool) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case !known:
		return "-"
	case ms < 10:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 100:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// thousands is n with commas.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// spark draws values as a line of blocks of the width, the newest last.
func spark(values []float64, width int) string {
	const blocks = "▁▂▃▄▅▆▇█"
	values = values[max(len(values)-width, 0):]
	top := 0.0
	for _, v := range values {
		top = max(top, v)
	}
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", width-len(values)))
	for _, v := range values {
		level := 0
		if top > 0 {
			level = int(math.Round(v / top * 7))
		}
		b.WriteString(string([]rune(blocks)[level]))
	}
	return b.String()
}

// clip cuts s to the width, in characters.
func clip(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	if width < 1 {
		return ""
	}
	return string([]rune(s)[:width-1]) + "…"
}
