package hinge

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/firthmq/firth/internal/log/record"
)

// TestPlays runs the plays of testdata. The commands:
//
//	rules [catch-all=NAME] [plain-qos=N]  a rule a line: filter -> topic key=.. partitions=.. header.NAME=..
//	publish                               topic names (or name and fields, a message a line) as records, and back
//	catch-all                             the same, when the log topic may not be made
//	produce topic=NAME                    records of plain Kafka clients, a record a line, as messages
//	stems                                 log topics, one a line, and how the names of their records begin
func TestPlays(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		p := &play{t: t, table: mustNew(t, Options{})}
		datadriven.RunTest(t, path, p.run)
	})
}

type play struct {
	t     *testing.T
	table *Table
}

func (p *play) run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	switch d.Cmd {
	case "rules":
		return p.rules(d)
	case "publish", "catch-all":
		return p.each(d, func(line string) string { return p.publish(line, d.Cmd == "catch-all") })
	case "produce":
		return p.each(d, func(line string) string { return p.produce(d.CmdArgs[0].Vals[0], line) })
	case "stems":
		return p.each(d, func(line string) string {
			if stems, all := p.table.Stems(line); !all {
				return fmt.Sprintf("%s: %q", line, stems)
			}
			return line + ": any"
		})
	}
	d.Fatalf(t, "unknown command %q", d.Cmd)
	return ""
}

func (p *play) each(d *datadriven.TestData, one func(line string) string) string {
	var out []string
	for line := range strings.SplitSeq(d.Input, "\n") {
		out = append(out, one(line))
	}
	return strings.Join(out, "\n")
}

func (p *play) rules(d *datadriven.TestData) string {
	var opt Options
	for _, arg := range d.CmdArgs {
		switch arg.Key {
		case "catch-all":
			opt.CatchAll = arg.Vals[0]
		case "plain-qos":
			n, err := strconv.Atoi(arg.Vals[0])
			if err != nil {
				return err.Error()
			}
			opt.PlainQoS = byte(n)
		}
	}
	var rules []Rule
	for line := range strings.SplitSeq(d.Input, "\n") {
		if line != "" {
			rules = append(rules, parseRule(line))
		}
	}
	table, err := New(rules, opt)
	if err != nil {
		return err.Error()
	}
	p.table = table
	return "ok"
}

// fields splits a line at spaces that are not within quotes and takes the quotes away.
func fields(line string) []string {
	var out []string
	for line = strings.TrimLeft(line, " "); line != ""; line = strings.TrimLeft(line, " ") {
		end := 0
		for quoted := false; end < len(line) && (quoted || line[end] != ' '); end++ {
			if line[end] == '"' {
				quoted = !quoted
			}
		}
		out = append(out, unquote(line[:end]))
		line = line[end:]
	}
	return out
}

func unquote(s string) string {
	if i := strings.IndexByte(s, '"'); i >= 0 {
		if text, err := strconv.Unquote(s[i:]); err == nil {
			return s[:i] + text
		}
	}
	return s
}

func parseRule(line string) Rule {
	mqtt, rest, _ := strings.Cut(line, "->")
	r := Rule{MQTT: strings.TrimSpace(mqtt)}
	for i, f := range fields(rest) {
		key, value, _ := strings.Cut(f, "=")
		header, isHeader := strings.CutPrefix(key, "header.")
		switch {
		case i == 0:
			r.Topic = f
		case key == "key":
			r.Key = value
		case key == "partitions":
			n, err := strconv.Atoi(value)
			if err != nil {
				n = -99
			}
			r.Partitions = n
		case isHeader:
			if r.Headers == nil {
				r.Headers = map[string]string{}
			}
			r.Headers[header] = value
		}
	}
	return r
}

func (p *play) publish(line string, catchAll bool) string {
	m := parseMessage(line)
	var to Target
	if catchAll {
		p.table.CatchAllTarget(m.Topic, &to)
	} else if err := p.table.Target(m.Topic, &to); err != nil {
		return err.Error()
	}
	roundTrip(p.t, p.table, &to, m)
	var rec record.Record
	to.Record(m, &rec)
	out := fmt.Sprintf("%s  %q = %q", to.Topic, rec.Key, rec.Value)
	if to.Partitions > 0 {
		out += fmt.Sprintf("  partitions=%d", to.Partitions)
	}
	for _, h := range rec.Headers {
		out += fmt.Sprintf("\n    %s: %q", h.Key, h.Value)
	}
	return out
}

// parseMessage reads: topic [payload] [qos=N] [retain] [expiry=N] [format=N] [type=..] [response=..]
// [correlation=..] [user.NAME=VALUE ...].
func parseMessage(line string) *Message {
	m := new(Message)
	for i, f := range fields(line) {
		key, value, _ := strings.Cut(f, "=")
		number, _ := strconv.ParseUint(value, 10, 32)
		user, isUser := strings.CutPrefix(key, "user.")
		switch {
		case i == 0:
			m.Topic = []byte(f)
		case key == "qos":
			m.QoS = byte(number)
		case f == "retain":
			m.Retain = true
		case key == "expiry":
			m.HasExpiry, m.Expiry = true, uint32(number)
		case key == "format":
			m.HasPayloadFormat, m.PayloadFormat = true, byte(number)
		case key == "type":
			m.ContentType = []byte(value)
		case key == "response":
			m.ResponseTopic = []byte(value)
		case key == "correlation":
			m.Correlation = []byte(value)
		case isUser:
			m.UserProperties = appendUser(m.UserProperties, []byte(user), []byte(value))
		default:
			m.Payload = []byte(f)
		}
	}
	return m
}

// produce reads: key value [header=VALUE ...], where null stands for null.
func (p *play) produce(logTopic, line string) string {
	var rec record.Record
	null := func(s string) []byte {
		if s == "null" {
			return nil
		}
		return []byte(s)
	}
	for i, f := range fields(line) {
		switch i {
		case 0:
			rec.Key = null(f)
		case 1:
			rec.Value = null(f)
		default:
			key, value, _ := strings.Cut(f, "=")
			rec.Headers = append(rec.Headers, record.Header{Key: key, Value: null(value)})
		}
	}
	var m Message
	if !p.table.Message(logTopic, asView(p.t, &rec), &m) {
		return "not for MQTT"
	}
	if !stemmed(p.table, string(m.Topic), logTopic) {
		return "Stems is wrong about " + string(m.Topic)
	}
	return describe(&m)
}

func describe(m *Message) string {
	out := fmt.Sprintf("%s  %q", m.Topic, m.Payload)
	say := func(yes bool, format string, args ...any) {
		if yes {
			out += fmt.Sprintf(format, args...)
		}
	}
	say(m.QoS > 0, " qos=%d", m.QoS)
	say(m.Retain, " retain")
	say(m.HasExpiry, " expiry=%d", m.Expiry)
	say(m.HasPayloadFormat, " format=%d", m.PayloadFormat)
	say(m.ContentType != nil, " type=%q", m.ContentType)
	say(m.ResponseTopic != nil, " response=%q", m.ResponseTopic)
	say(m.Correlation != nil, " correlation=%q", m.Correlation)
	for name, value, rest, ok := cutUser(m.UserProperties); ok; name, value, rest, ok = cutUser(rest) {
		say(true, " user.%s=%q", name, value)
	}
	return out
}

// stemmed tells whether a table says of a log topic that its records may have a name.
func stemmed(t *Table, name, logTopic string) bool {
	stems, all := t.Stems(logTopic)
	return all || slices.ContainsFunc(stems, func(stem string) bool {
		return name == stem || strings.HasPrefix(name, stem+"/")
	})
}
