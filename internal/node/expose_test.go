package node

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
)

// exposed is what firth expose makes of a configuration, and what it says is kept.
func exposed(t *testing.T, text string, addresses ...string) (*Exposure, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "firth.yaml")
	if text != "" {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	l := Loader{File: file}
	if text == "" { // a file that is named has to be there
		t.Chdir(filepath.Dir(file))
		l.File = ""
	}
	return Expose(l, addresses, nil)
}

// TestExposeLeavesWhatIsThere: each line of the file stays, what is missing is added once, and the result is what it
// shall be.
func TestExposeLeavesWhatIsThere(t *testing.T) {
	for name, tc := range map[string]struct {
		text, lacks string // a line that would be one too many
		want        []string
		kept        string
	}{
		"nothing":  {"", "", []string{"access:\n  anonymous: deny\n", "listen:\n  mqtts: 192.0.2.10:8883\n"}, ""},
		"comments": {"# mine\n\n", "", []string{"# mine\n\naccess:\n"}, ""},
		"a section": {"listen:\n    # plain\n    mqtt: 1884 # here\n\n# more\ntopics:\n  auto_create: false\n", "", []string{
			"    mqtt: 1884 # here\n    mqtts: 192.0.2.10:8883\n", "# more\ntopics:\n  auto_create: false\naccess:\n"}, ""},
		"an empty section": {"listen:\ntls:\n", "", []string{"listen:\n  mqtts: ", "tls:\n  certificate: "}, ""},
		"no end of line":   {"listen:\n  mqtt: 1884", "", []string{"listen:\n  mqtt: 1884\n  mqtts: "}, ""},
		"another listener": {
			"listen: \n  mqtts: 192.0.2.11:8883\n", "mqtts: 192.0.2.10", []string{"  wss: 192.0.2.10:8084\n"},
			"listen.mqtts: 192.0.2.11:8883"},
		"a certificate": {"tls:\n  certificate: a.pem\n  key: a.key\n", "server.pem", []string{"  client_auth: request\n"},
			"tls.certificate: a.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			x, err := exposed(t, tc.text, "192.0.2.10")
			if err != nil {
				t.Fatal(err)
			}
			text := string(x.Text)
			for _, part := range append(tc.want, strings.TrimSuffix(tc.text, "\n")) {
				if !strings.Contains(text, part) && !lined(text, part) {
					t.Errorf("%q is not in\n%s", part, text)
				}
			}
			kept := strings.Join(x.Kept, "\n")
			if tc.lacks != "" && strings.Contains(text, tc.lacks) || !strings.Contains(kept, tc.kept) {
				t.Errorf("kept %q, and made\n%s", kept, text)
			}
			if err := x.Write(); err != nil {
				t.Fatal(err)
			}
			again, err := Expose(Loader{File: x.File}, []string{"192.0.2.10"}, nil)
			if err != nil || len(again.Add) > 0 || string(again.Text) != text {
				t.Errorf("the second time it adds %v, %v", again, err)
			}
		})
	}
}

// lined tells whether all lines of one text are in another, in their order.
func lined(text, lines string) bool {
	have := strings.Split(text, "\n")
	for line := range strings.SplitSeq(strings.TrimSuffix(lines, "\n"), "\n") {
		i := slices.Index(have, line)
		if i < 0 {
			return false
		}
		have = have[i+1:]
	}
	return true
}

func TestExposeRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		text      string
		addresses []string
		kind      fault.Kind
	}{
		"anonymous":        {"access:\n  anonymous: allow\n", []string{"192.0.2.10"}, fault.Exists},
		"a plain listener": {"listen:\n  mqtt: 0.0.0.0:1883\n", []string{"192.0.2.10"}, fault.Unsupported},
		"on one line":      {"listen: {mqtt: 1884}\n", []string{"192.0.2.10"}, fault.Unsupported},
		"all on one":       {"{listen: {mqtt: 1884}}\n", []string{"192.0.2.10"}, fault.Unsupported},
		"a port":           {"", []string{"192.0.2.10:8883"}, fault.Invalid},
		"no name at all":   {"", []string{"0.0.0.0"}, fault.Invalid},
	} {
		if x, err := exposed(t, tc.text, tc.addresses...); !fault.Is(err, tc.kind) {
			t.Errorf("%s: %v, %v, want %s", name, x, err, tc.kind)
		}
	}
}

// TestExposeListens: by an address on it, by a name on all, and the certificate has every name.
func TestExposeListens(t *testing.T) {
	for _, tc := range []struct {
		addresses []string
		mqtts     string
		names     []string
	}{
		{[]string{"2001:db8::10", "192.0.2.10"}, "[2001:db8::10]:8883,192.0.2.10:8883",
			[]string{"2001:db8::10", "127.0.0.1", "192.0.2.10", "::1", "localhost"}},
		{[]string{"broker.example", "192.0.2.10"}, ":8883",
			[]string{"broker.example", "127.0.0.1", "192.0.2.10", "::1", "localhost"}},
	} {
		x, err := exposed(t, "", tc.addresses...)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(x.Add, Setting{"listen.mqtts", tc.mqtts}) || !slices.Equal(x.Names, tc.names) {
			t.Errorf("%q: %v, %q", tc.addresses, x.Add, x.Names)
		}
	}
}
