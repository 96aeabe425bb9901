package mosquitto

import (
	"fmt"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
)

const (
	hash7 = "$7$101$mzWbRV1MGq0/OrLr$" +
		"QLEF2eX26DotME/+45Zh+0xmPrVs7ruvqdtSCCKKcWwO6fXTC8WRKexFJdhCGTJej6GeE7BExyrWkE8VCtLUXA=="
	hash6 = "$6$zoXauSS1rc8OQA3U$" +
		"ZTs0YnjIJjZf5S9PodIhUCSs+fR+HSwTIc903hZ0w+OzBtdgP46X2/eh1UKjFOMnDqOTSsKp7BcDvkI3+DuArQ=="
	argon = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
)

func TestParsePasswords(t *testing.T) {
	text := "# users\n\nalice:" + hash7 + "\nbob the builder:" + hash6 + "\r\n  carol :" + argon
	all, err := ParsePasswords("passwords", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		name, password string
		line           int
	}{{"alice", "pässword", 3}, {"bob the builder", "pässword", 4}, {"carol", "password", 5}}
	if len(all) != len(want) {
		t.Fatalf("%d users", len(all))
	}
	for i, w := range want {
		if a := all[i]; a.Name != w.name || a.Line != w.line || !a.Password.Verify([]byte(w.password)) ||
			a.Password.Verify([]byte("")) {
			t.Errorf("%+v, want %+v", a, w)
		}
	}
}

// TestBadPasswords wants every malformed line named, and no user of it (CVE-2018-12551).
func TestBadPasswords(t *testing.T) {
	for line, column := range map[string]int{
		"alice": 1, "alice:": 7, ":" + hash7: 1, "alice:secret": 7, "alice:$7$": 7, "alice:$5$a$b": 7, "*:" + hash7: 1,
		"alice:" + hash7 + ":more": 7, "ALICE " + hash7: 1, "ANONYMOUS:" + hash7: 1, "a\xffb:" + hash7: 1,
		"alice:" + hash7[:60]: 7, strings.Repeat("x", 1025) + ":" + hash7: 1, "bob:" + hash7: 1, "$7$101$AAAA$BBBB": 1,
	} {
		all, err := ParsePasswords("passwords", []byte("bob:"+hash7+"\n"+line+"\n"))
		if !fault.Is(err, fault.Invalid) || len(all) != 1 {
			t.Errorf("%.40q: %d users, %v", line, len(all), err)
			continue
		}
		text := strings.TrimPrefix(err.Error(), "mosquitto: ")
		if !strings.HasPrefix(text, fmt.Sprintf("passwords:2:%d: ", column)) || strings.Contains(text, "secret") ||
			strings.Contains(text, hash7[10:20]) {
			t.Errorf("%.40q, want column %d: %s", line, column, text)
		}
	}
}

func FuzzParsePasswords(f *testing.F) {
	f.Add([]byte("# c\nalice:" + hash7 + "\nbob:" + hash6 + "\r\n\ncarol:" + argon))
	f.Add([]byte("alice\nbob:\n:x\ncarol:$7$1$AAAA$"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := ParsePasswords("passwords", text)
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, a := range all {
			if a.Name == "" || a.Password.IsZero() || seen[a.Name] {
				t.Fatalf("%q", a.Name)
			}
			seen[a.Name] = true
		}
	})
}
