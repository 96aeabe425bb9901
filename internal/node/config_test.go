package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/firthmq/firth/internal/log/stream"
)

// TestConfig plays the files of testdata/config. A block is one of
//
//	load [env=(A=1,B=2)] [set=(a=1,b=2)] [escape]   reads a file named firth.yaml: its problems, or "ok"
//	effective (the same arguments)                   reads a file: the keys that have no default value
//
// With escape the file is written as a quoted Go string would be: \t, \r, \xff.
func TestConfig(t *testing.T) {
	bad := 0
	datadriven.Walk(t, "testdata/config", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			src := sourcesOf(t, d)
			c, err := Load(src)
			if err != nil {
				bad++
				return err.Error() + "\n"
			}
			if d.Cmd == "load" {
				return "ok\n"
			}
			return effective(c)
		})
	})
	if bad < 60 {
		t.Errorf("only %d bad configurations were tried", bad)
	}
}

func sourcesOf(t *testing.T, d *datadriven.TestData) Sources {
	t.Helper()
	src := Sources{File: "firth.yaml", Text: []byte(d.Input + "\n")}
	for _, arg := range d.CmdArgs {
		switch arg.Key {
		case "env":
			src.Env = arg.Vals
		case "set":
			for _, v := range arg.Vals {
				src.Flags = append(src.Flags, Assignment{"--set", v})
			}
		case "escape":
			text, err := strconv.Unquote(`"` + strings.ReplaceAll(d.Input, "\n", `\n`) + `"`)
			if err != nil {
				t.Fatal(err)
			}
			src.Text = []byte(text)
		default:
			t.Fatalf("unknown argument %s", arg.Key)
		}
	}
	return src
}

func effective(c *Config) string {
	var b strings.Builder
	for _, o := range Options() {
		if from := c.Origin(o.Key); from.Source != "default" {
			b.WriteString(o.Key + " = " + o.show(c) + "   # " + from.String() + "\n")
		}
	}
	return b.String()
}

func TestDefaults(t *testing.T) {
	c := Default()
	for _, o := range Options() {
		if got := o.show(c); got != o.Default {
			t.Errorf("%s: default %q is shown as %q", o.Key, o.Default, got)
		}
		if o.Doc == "" || o.Type == "" || !strings.HasSuffix(o.Doc, ".") {
			t.Errorf("%s has no sentence or no type", o.Key)
		}
		if strings.HasPrefix(o.Key, "limits.") && o.Shows == "" {
			t.Errorf("%s does not say where it shows", o.Key)
		}
	}
	for _, text := range []string{"", "# nothing here\n", "---\n", "listen:\n", "mapping: []\n", "mapping:\n"} {
		got, err := Load(Sources{File: "firth.yaml", Text: []byte(text)})
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if a, b := dump(t, got), dump(t, c); a != b {
			t.Errorf("%q is not the default:\n%s", text, a)
		}
	}
	if _, err := stream.DecodeSettings(c.Topics.Defaults.settings(), nil); err != nil {
		t.Error(err)
	}
}

func dump(t *testing.T, c *Config) string {
	t.Helper()
	var b bytes.Buffer
	if err := c.WriteYAML(&b, false); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// others are values that are no default, by the type of the key.
func others() map[string]string {
	return map[string]string{
		"path": "/x y", "name of a variable": "X_Y", "list of paths": "/x y,/z", "1.2 | 1.3": "1.3",
		"none | request | require": "request", "list of TCP addresses": "127.0.0.1:0,[::1]:0",
		"list of addresses": "127.0.0.1:0,unix:/x",
		"list of listeners": `[{"name":"a","address":"unix:/run/a","mode":"0600","connections":5}]`,
		"list of issuers":   `[{"issuer":"a","audience":"b","keys":"/k"}]`,
		"auto | host:port":  "example.org:1", "true | false": "true",
		"list of rewrite rules": `[{"from":"a/#","match":"^a","to":"b"}]`,
		"list of webhooks":      `[{"name":"a","topic_name":"b","secret_file":"/k"}]`,
		"list of bridges":       `[{"name":"a","addresses":"b:1","topics":[{"filter":"c/#"}]}]`,
		"list of subscriptions": `[{"filter":"a/#"}]`,
		"list of rules":         `[{"mqtt":"a/#","topic":"a"}]`, "list of patterns": "*.example.org", "topic name": "rest",
		"size": "1MiB", "time": "7s", "whole number": "7", "disk | memory": "memory", "none | key": "key",
		"auto | allow | deny": "deny", "enforce | report": "report", "refuse | accept": "accept", "log | spool": "spool",
		"name of a certificate": "x-${cert.san.dns}", "auto | open": "open", "list of topics": "a,b.*",
		"URL": "https://a.example", "text": "x", "claim": "a.b", "list of scopes": "openid,email",
		"list of group=role": "a=b,a=c", "list of networks": "10.0.0.0/8,::1",
		"host": "c.example", "none | plain | scram-sha-256 | scram-sha-512 | oauthbearer": "plain",
		"list of settings": "cleanup.policy", "list of host:port": "a.example:9092,b.example:9092",
		"one | many | shared": "many", "TCP address": "127.0.0.1:7883",
		"text | json": "json", "none | for_now | for_good": "for_now", "host:port": "other.example.org:1883",
		"CreateTime | LogAppendTime": "LogAppendTime", "debug | info | warn | error": "warn",
	}
}

// TestEveryKeyFromEverySource sets each key to another value in the file, the environment and by flag.
func TestEveryKeyFromEverySource(t *testing.T) {
	other := others()
	names := map[string]bool{}
	for _, o := range Options() {
		if names[o.Env()] {
			t.Errorf("two keys have the variable %s", o.Env())
		}
		names[o.Env()] = true
		if serviceLinks().MatchString(o.Env()) {
			t.Errorf("%s looks like a service link", o.Env())
		}
		value, ok := other[o.Type]
		if !ok {
			t.Fatalf("%s: no value to try for %q", o.Key, o.Type)
		}
		if value == "true" && o.Default == "true" {
			value = "false"
		}
		switch o.Key {
		case "limits.outbox_bytes":
			value = "2MiB"
		case "log.kafka.spool_bytes":
			value = "64MiB"
		}
		want := o.show(Default())
		file := strings.ReplaceAll(o.Key, ".", ": {") + ": " + value + strings.Repeat("}", strings.Count(o.Key, "."))
		if o.list || strings.ContainsAny(value, "* {") && o.listing == nil {
			file = strings.Replace(file, value, strconv.Quote(value), 1)
		}
		beside := besides(&o)
		for source, src := range map[string]Sources{
			"file": {File: "f", Text: []byte(file), Env: beside},
			"env":  {Env: append([]string{o.Env() + "=" + value}, beside...)},
			"flag": {Flags: []Assignment{{"--set", o.Key + "=" + value}}, Env: beside},
		} {
			c, err := Load(src)
			if err != nil {
				t.Errorf("%s from %s: %v", o.Key, source, err)
				continue
			}
			if got := o.show(c); got != value || got == want {
				t.Errorf("%s from %s: got %q, want %q", o.Key, source, got, value)
			}
			if got := c.Origin(o.Key).Source; got != source {
				t.Errorf("%s from %s: origin %q", o.Key, source, got)
			}
		}
	}
}

// besides are the variables without which a key means nothing.
func besides(o *Option) (need []string) {
	for _, one := range []struct {
		keys string // what they begin with
		need string
	}{
		{"listen.mqtts listen.wss listen.kafkas listen.https", "TLS_CERTIFICATE=/c TLS_KEY=/k"},
		{"access.oidc.issuer", "ACCESS_OIDC_CLIENT_ID=x HTTP_PUBLIC_URL=https://a.example"},
		{"access.http.", "ACCESS_HTTP_URL=https://a.example"},
		{"access.http.certificate", "ACCESS_HTTP_KEY=/k"}, {"access.http.key", "ACCESS_HTTP_CERTIFICATE=/c"},
		{"log.kafka.", "LOG_KAFKA_BROKERS=localhost:9092"}, {"log.kafka.tls.", "LOG_KAFKA_TLS_ENABLED=true"},
		{"log.kafka.gateways", "LOG_KAFKA_PEERS_LISTEN=127.0.0.1:7883 LOG_KAFKA_GATEWAYS=many"},
		{"log.kafka.peers.", "LOG_KAFKA_GATEWAYS=many LOG_KAFKA_PEERS_LISTEN=127.0.0.1:7883"},
		{"log.kafka.tls.certificate", "LOG_KAFKA_TLS_KEY=/k"}, {"log.kafka.tls.key", "LOG_KAFKA_TLS_CERTIFICATE=/c"},
		{"log.kafka.spool_", "LOG_KAFKA_ACK=spool"},
		{"log.kafka.sasl.user", "LOG_KAFKA_SASL_MECHANISM=plain LOG_KAFKA_SASL_PASSWORD_FILE=/p"},
		{"log.kafka.sasl.password_file", "LOG_KAFKA_SASL_MECHANISM=plain LOG_KAFKA_SASL_USER=x"},
		{"log.kafka.sasl.mechanism", "LOG_KAFKA_SASL_USER=x LOG_KAFKA_SASL_PASSWORD_FILE=/p"},
		{"log.kafka.sasl.token_file", "LOG_KAFKA_SASL_MECHANISM=oauthbearer"},
	} {
		if !slices.ContainsFunc(strings.Fields(one.keys), func(k string) bool { return strings.HasPrefix(o.Key, k) }) {
			continue
		}
		for variable := range strings.FieldsSeq(one.need) {
			if name, _, _ := strings.Cut(envPrefix+variable, "="); name != o.Env() {
				need = append(need, envPrefix+variable)
			}
		}
	}
	return need
}

func TestOrderOfSources(t *testing.T) {
	src := Sources{File: "firth.yaml", Text: []byte("listen: {mqtt: 1, ws: 1, kafka: 1}\n"),
		Env:   []string{"FIRTH_LISTEN_MQTT=2", "FIRTH_LISTEN_WS=3", "PATH=/bin"},
		Flags: []Assignment{{"--set", "listen.mqtt=4"}, {"--set", "listen.mqtt=5"}}}
	c, err := Load(src)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{c.Listen.MQTT, c.Listen.WS, c.Listen.Kafka, c.Listen.HTTP}
	want := []string{"localhost:5", "localhost:3", "localhost:1", "localhost:8080"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for key, want := range map[string]string{
		"listen.mqtt": "--set", "listen.ws": "FIRTH_LISTEN_WS", "listen.kafka": "firth.yaml:1:33", "listen.http": "default",
	} {
		if got := c.Origin(key).String(); got != want {
			t.Errorf("origin of %s is %s, want %s", key, got, want)
		}
	}
}

func TestServiceLinksAreNotOurs(t *testing.T) {
	_, err := Load(Sources{Env: []string{
		"FIRTH_SERVICE_HOST=10.0.0.1", "FIRTH_SERVICE_PORT=1883", "FIRTH_SERVICE_PORT_MQTT=1883",
		"FIRTH_PORT=tcp://10.0.0.1:1883", "FIRTH_PORT_1883_TCP=tcp://10.0.0.1:1883", "FIRTH_PORT_1883_TCP_PROTO=tcp",
		"FIRTH_PORT_1883_TCP_PORT=1883", "FIRTH_PORT_1883_TCP_ADDR=10.0.0.1", "FIRTH_KAFKA_SERVICE_HOST=10.0.0.1",
	}})
	if err != nil {
		t.Error(err)
	}
}

const richFile = `
data: "/var/lib/a #b"
listen: {mqtt: 1884, ws: off}
mapping:
  - {mqtt: "factory/{site}/{line}/#", topic: "factory-{site}", key: "{line}", partitions: 6, headers: {site: "{site}"}}
  - {mqtt: "{rest#}", topic: all}
listeners:
  - {name: plant, address: "127.0.0.1:1885", proxy: true, connections: 500, packet: 64KiB}
  - {kind: ws, address: "unix:/run/firth/ws.sock", mode: 0666}
topics: {defaults: {retention: forever, retention_bytes: 1536MiB, max_message: 1000000}}
shutdown: {timeout: 90s}
`

func TestPrintedConfigurationLoadsAgain(t *testing.T) {
	c, err := Load(Sources{File: "firth.yaml", Text: []byte(richFile)})
	if err != nil {
		t.Fatal(err)
	}
	for _, origins := range []bool{false, true} {
		var b bytes.Buffer
		if err := c.WriteYAML(&b, origins); err != nil {
			t.Fatal(err)
		}
		again, err := Load(Sources{File: "again.yaml", Text: b.Bytes()})
		if err != nil {
			t.Fatalf("%v\n%s", err, b.String())
		}
		if got, want := dump(t, again), dump(t, c); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		b.Reset()
		if err := c.WriteJSON(&b, origins); err != nil {
			t.Fatal(err)
		}
		var tree map[string]any
		if err := json.Unmarshal(b.Bytes(), &tree); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPrintedConfiguration holds the form that people and scripts read.
func TestPrintedConfiguration(t *testing.T) {
	c, err := Load(Sources{File: "firth.yaml", Text: []byte(richFile)})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := errors.Join(c.WriteYAML(&b, true), c.WriteJSON(&b, true)); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/print.golden", b.String())
}

var update = flag.Bool("update", false, "write the files that tests compare with")

// golden compares with a file, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what the code says; go test ./internal/node -update writes it. Got:\n%s", name, got)
	}
}

func TestUnits(t *testing.T) {
	sizes := map[string]int64{"0": 0, "1": 1, "1B": 1, "64KiB": 65536, "64kib": 65536, "16 MiB": 16 << 20,
		"1.5GiB": 3 << 29, "2MB": 2_000_000, "1kB": 1000, "9223372036854775807": 1<<63 - 1}
	for text, want := range sizes {
		got, err := parseSize(text)
		if err != nil || got != want {
			t.Errorf("%s: got %d, %v", text, got, err)
		}
		if again, err := parseSize(formatSize(got)); err != nil || again != got {
			t.Errorf("%d is written as %s", got, formatSize(got))
		}
	}
	for _, text := range []string{"", "x", "1X", "-1", "1 KiB MiB", ".5KiB", "1.0001KiB", "1e3",
		"9223372036854775808", "8388608TiB", "1..5KiB", "KiB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q was taken as %d", text, got)
		}
	}
	spans := map[string]string{"7d": "7d", "1w": "7d", "1w2d": "9d",
		"1d12h": "36h", "90s": "1m30s", "60m": "1h", "24h": "1d", "0": "0s", "500ms": "500ms"}
	for text, want := range spans {
		got, err := parseDuration(text)
		if err != nil || formatDuration(got) != want {
			t.Errorf("%s: got %s, %v", text, formatDuration(got), err)
		}
		if again, err := parseDuration(formatDuration(got)); err != nil || again != got {
			t.Errorf("%s is written as %s", text, formatDuration(got))
		}
	}
	for _, text := range []string{"", "7", "d", "-1s", "1d-1h", "+1s", "1d1w", "1.5d", "7 d", "999999999w", "1dd"} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("%q was taken as %s", text, got)
		}
	}
}

func TestLargeFileIsRefused(t *testing.T) {
	_, err := Load(Sources{File: "f", Text: bytes.Repeat([]byte("#"), maxConfigBytes+1)})
	if err == nil || !strings.Contains(err.Error(), "f:1:1: the file is larger than 256KiB") {
		t.Errorf("got %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	for _, seed := range []string{"", richFile, "a: [",
		"listen: {mqtt: &a 1, ws: *a}", "? a\n: b", "mapping: [{mqtt: 1}]", "<<: *a", "a: |\n x"} {
		f.Add([]byte(seed), "FIRTH_MAPPING=[]", "limits.packet=1MiB")
	}
	f.Fuzz(func(t *testing.T, text []byte, env, set string) {
		c, err := Load(Sources{File: "f", Text: text, Env: []string{env}, Flags: []Assignment{{"--set", set}}})
		var ps Problems
		if err != nil && (!errors.As(err, &ps) || len(ps) == 0) {
			t.Errorf("error %v is not a list of problems", err)
		}
		if err == nil {
			again, err := Load(Sources{File: "again", Text: []byte(dump(t, c))})
			if err != nil {
				t.Fatalf("%v\n%s", err, dump(t, c))
			}
			if got, want := dump(t, again), dump(t, c); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		}
	})
}

// TestManual holds the pages about options to the table.
func TestManual(t *testing.T) {
	golden(t, "../../docs/configuration.md", ConfigurationPage())
	golden(t, "../../docs/limits.md", LimitsPage())
}

// TestUnseenCharacters (F44): a value with what nobody sees in it is refused, whatever the key and wherever it comes
// from, and a problem is one line that shows it.
func TestUnseenCharacters(t *testing.T) {
	for _, o := range Options() {
		if o.parse == nil {
			continue // mapping, below
		}
		value := o.Default
		if value == "" {
			value = "app.example.org"
		}
		for _, bad := range []string{value + " ", " " + value, value + "\u00a0", "\u00a0" + value, value + "\r", value + "\t",
			value + "\u3000", "\ufeff" + value, value + "\u200b", value + "\x1b", value + "\u2028"} {
			quoted := strconv.QuoteToASCII(bad)
			sections := strings.Split(o.Key, ".")
			yaml := strings.Join(sections, ": { ") + ": " + quoted + strings.Repeat(" }", len(sections)-1)
			for name, src := range map[string]Sources{
				"file": {File: "firth.yaml", Text: []byte(yaml)},
				"env":  {Env: []string{o.Env() + "=" + bad}},
				"flag": {Flags: []Assignment{{"--set", o.Key + "=" + bad}}},
			} {
				_, err := Load(src)
				if err == nil || strings.ContainsAny(err.Error(), "\r\n\x1b\u00a0") || !strings.Contains(err.Error(), quoted) {
					t.Errorf("%s from %s: %q: %v", o.Key, name, bad, err)
				}
			}
		}
	}
}

func TestUnseenCharactersElsewhere(t *testing.T) {
	for name, src := range map[string]Sources{
		"a word of a list":  {File: "firth.yaml", Text: []byte("ws_origins: [\"a.example\u00a0\", b]")},
		"a filter":          {File: "firth.yaml", Text: []byte("mapping: [{mqtt: \"a/\u00a0\", topic: b}]")},
		"a topic":           {File: "firth.yaml", Text: []byte("mapping: [{mqtt: a/b, topic: \"b \"}]")},
		"a key of the file": {File: "firth.yaml", Text: []byte("\"data\\r\": x")},
		"a name of a file":  {File: "x\r.yaml", Text: []byte("data: 5x\nunknown: 7")},
		"a variable":        {Env: []string{"FIRTH_DA\rTA=x"}},
		"a flag":            {Flags: []Assignment{{"--set", "da\rta=x"}}},
	} {
		if _, err := Load(src); err == nil || strings.ContainsAny(err.Error(), "\r\n\u00a0") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (Loader{File: "no\r.yaml"}).Load(); err == nil || strings.Contains(err.Error(), "\r") {
		t.Errorf("a file that is not there: %v", err)
	}
	for _, good := range []string{"/srv/with a blank/data", "/srv/ä\u00a0b"} {
		if _, err := Load(Sources{Env: []string{"FIRTH_DATA=" + good}}); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}
