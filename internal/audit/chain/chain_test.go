package chain

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

const source = "/firth/a/1"

func testKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

// build makes a chain of n records with a checkpoint behind every sixth and at the end.
func build(t testing.TB, n int, key ed25519.PrivateKey) [][]byte {
	t.Helper()
	var link Link
	var values [][]byte
	now := time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC)
	for i := range n {
		var value []byte
		var err error
		if i%7 == 6 || i == n-1 {
			value, link, err = link.Checkpoint(source, now, key)
		} else {
			value, link, err = link.Append(source, Event{Type: TypeRefused, Time: now, Actor: Actor{Principal: "User:alice"},
				Action: "write", Resource: Resource{"topic", fmt.Sprint("t", i)}, Outcome: Denied})
		}
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, value)
		now = now.Add(time.Second)
	}
	return values
}

func verify(t testing.TB, values [][]byte, key ed25519.PrivateKey, head []byte) Report {
	t.Helper()
	public, _ := key.Public().(ed25519.PublicKey)
	v := Verifier{Key: public}
	if head != nil {
		var err error
		if v.Head, err = Parse(head); err != nil {
			t.Fatal(err)
		}
	}
	for _, value := range values {
		if !v.Next(value) {
			break
		}
	}
	return v.End()
}

// TestRecord says what a record looks like: a CloudEvents event in JSON.
func TestRecord(t *testing.T) {
	e := Event{Type: TypeLogin, Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Actor: Actor{Principal: "User:alice",
		Method: "password"}, Origin: Origin{Address: "10.0.0.7", Listener: "mqtts", Client: "meter-1", TLS: true},
		Action: "connect", Outcome: Failure, Reason: "wrong password", Count: 3}
	value, link, err := Link{}.Append(source, e)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"specversion":"1.0","id":"1","source":"/firth/a/1","type":"firth.login","time":"2026-01-02T03:04:05Z",` +
		`"datacontenttype":"application/json","sequence":"1","previoushash":"` + strings.Repeat("0", 64) + `",` +
		`"data":{"actor":{"principal":"User:alice","method":"password"},"origin":{"address":"10.0.0.7","listener":"mqtts",` +
		`"client":"meter-1","tls":true},"action":"connect","outcome":"failure","reason":"wrong password","count":3}}`
	if string(value) != want {
		t.Errorf("got  %s\nwant %s", value, want)
	}
	r, err := Parse(value)
	if err != nil {
		t.Fatal(err)
	}
	if again := LinkOf(r, value); again != link {
		t.Errorf("LinkOf gave %v, Append %v", again, link)
	}
	if r.Data.Type != TypeLogin || r.Data.Outcome != Failure {
		t.Errorf("Parse gave %+v, %v", r, err)
	}
}

// TestBound wants what clients say of themselves cut, and valid.
func TestBound(t *testing.T) {
	value, _, err := Link{}.Append(source, Event{Origin: Origin{Client: strings.Repeat("ü", 1000)},
		Actor: Actor{Principal: "User:\xff"}})
	if err != nil || len(value) > 1000 || !json.Valid(value) {
		t.Errorf("%d bytes, %v: %s", len(value), err, value)
	}
}

// TestSpoiled does to a chain what somebody might who wants to hide something, and wants it found and named.
// Long: it is a table of what can be done.
func TestSpoiled(t *testing.T) {
	key := testKey(1)
	good := build(t, 40, key)
	head := good[len(good)-1]
	alter := func(i int, old, now string) func([][]byte) [][]byte {
		return func(all [][]byte) [][]byte {
			all[i] = bytes.Replace(all[i], []byte(old), []byte(now), 1)
			return all
		}
	}
	rewrite := func(all [][]byte, from int, keep func(*Record) bool, sign ed25519.PrivateKey) [][]byte {
		last, err := Parse(all[from-1])
		if err != nil {
			t.Fatal(err)
		}
		link := LinkOf(last, all[from-1])
		out := slices.Clone(all[:from])
		for _, value := range all[from:] {
			r, err := Parse(value)
			if err != nil || !keep(r) {
				continue
			}
			switch {
			case r.Type == TypeCheckpoint && sign != nil:
				value, link, _ = link.Checkpoint(source, r.Time, sign)
			default:
				value, link, _ = link.Append(source, r.Data)
			}
			out = append(out, value)
		}
		return out
	}
	for name, c := range map[string]struct {
		do   func([][]byte) [][]byte
		want Fault
	}{
		"nothing":       {func(all [][]byte) [][]byte { return all }, Fault{}},
		"trimmed":       {func(all [][]byte) [][]byte { return all[9:] }, Fault{}},
		"one removed":   {func(all [][]byte) [][]byte { return slices.Delete(all, 10, 11) }, Fault{Removed, 11, ""}},
		"three removed": {func(all [][]byte) [][]byte { return slices.Delete(all, 10, 13) }, Fault{Removed, 11, ""}},
		"swapped": {func(all [][]byte) [][]byte {
			all[10], all[11] = all[11], all[10]
			return all
		}, Fault{Reordered, 11, ""}},
		"twice":   {func(all [][]byte) [][]byte { return slices.Insert(all, 11, all[10]) }, Fault{Reordered, 11, ""}},
		"altered": {alter(10, "User:alice", "User:mallo"), Fault{Altered, 11, ""}},
		"two altered": {func(all [][]byte) [][]byte {
			return alter(11, "User:alice", "User:mallo")(alter(10, "User:alice", "User:mallo")(all))
		}, Fault{Altered, 11, ""}},
		"another hash": {func(all [][]byte) [][]byte {
			all[10] = bytes.Replace(all[10], []byte(`"previoushash":"`), []byte(`"previoushash":"00`), 1)
			all[10] = append(all[10][:bytes.Index(all[10], []byte(`","data"`))-2],
				all[10][bytes.Index(all[10], []byte(`","data"`)):]...)
			return all
		}, Fault{Altered, 11, ""}},
		"another number": {alter(10, `"id":"11"`, `"id":"12"`), Fault{Altered, 11, ""}},
		"another source": {alter(10, source, "/firth/b/1"), Fault{Altered, 11, ""}},
		"no record":      {alter(10, "{", "["), Fault{Altered, 11, ""}},
		"first altered":  {alter(0, "User:alice", "User:mallo"), Fault{Altered, 1, ""}},
		"checkpoint":     {alter(39, `"signature":"`, `"signature":"AAAA`), Fault{Forged, 40, ""}},
		"end gone":       {func(all [][]byte) [][]byte { return all[:30] }, Fault{Truncated, 31, ""}},
		"all gone":       {func([][]byte) [][]byte { return nil }, Fault{Truncated, 1, ""}},
		"another chain":  {func([][]byte) [][]byte { return build(t, 40, testKey(2)) }, Fault{Forged, 7, ""}},
		"rewritten": {func(all [][]byte) [][]byte {
			return rewrite(all, 10, func(r *Record) bool { return r.Sequence != 11 }, nil)
		}, Fault{Forged, 13, ""}},
		"another key": {func(all [][]byte) [][]byte {
			return rewrite(all, 10, func(r *Record) bool { return r.Sequence != 11 }, testKey(2))
		}, Fault{Forged, 13, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			report := verify(t, c.do(slices.Clone(good)), key, head)
			switch f := report.Fault; {
			case f == nil && c.want == Fault{}:
			case f == nil:
				t.Errorf("it was not found")
			case f.Wrong != c.want.Wrong || f.Sequence != c.want.Sequence:
				t.Errorf("found %v, not %s %d", f, c.want.Wrong, c.want.Sequence)
			}
		})
	}
}

// TestNeverSigned wants a chain found from which all checkpoints were taken.
func TestNeverSigned(t *testing.T) {
	var link Link
	var values [][]byte
	for range mostUnsigned + 10 {
		var value []byte
		value, link, _ = link.Append(source, Event{Type: TypeLogin})
		values = append(values, value)
	}
	if f := verify(t, values, testKey(1), nil).Fault; f == nil || f.Wrong != Forged {
		t.Errorf("found %v", f)
	}
}

// TestEveryByte changes chance bytes of chance records, and removes, repeats and swaps chance ones: all is found, as
// long as a checkpoint follows.
func TestEveryByte(t *testing.T) {
	key := testKey(1)
	good := build(t, 60, key)
	head := good[len(good)-1]
	chance := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		all := slices.Clone(good)
		i := 1 + chance.IntN(len(all)-3)
		what := chance.IntN(4)
		switch what {
		case 0:
			all[i] = slices.Clone(all[i])
			all[i][chance.IntN(len(all[i]))] ^= byte(1 + chance.IntN(255))
		case 1:
			all = slices.Delete(all, i, i+1+chance.IntN(2))
		case 2:
			all = slices.Insert(all, i, all[chance.IntN(len(all))])
		case 3:
			j := 1 + chance.IntN(len(all)-3)
			if i == j {
				continue
			}
			all[i], all[j] = all[j], all[i]
		}
		if verify(t, all, key, head).Fault == nil {
			t.Fatalf("case %d at record %d was not found", what, i+1)
		}
	}
}

// TestMatch is what a query finds.
func TestMatch(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := &Record{Type: TypeRefused, Time: at, Data: Event{Actor: Actor{Principal: "User:alice"}, Outcome: Denied,
		Origin: Origin{Address: "10.0.0.7"}, Resource: Resource{"topic", "plant-1"}, Also: []Resource{{"topic", "other"}}}}
	for _, c := range []struct {
		q    Query
		want bool
	}{
		{Query{}, true},
		{Query{Principal: "alice"}, true}, {Query{Principal: "User:alice"}, true}, {Query{Principal: "bob"}, false},
		{Query{Type: "firth.access.refused"}, true}, {Query{Type: "refused"}, true}, {Query{Type: "access"}, true},
		{Query{Type: "login"}, false}, {Query{Outcome: Denied}, true}, {Query{Outcome: Success}, false},
		{Query{Since: at}, true}, {Query{Since: at.Add(1)}, false}, {Query{Until: at}, false},
		{Query{Resource: "plant-*"}, true}, {Query{Resource: "topic:*"}, true}, {Query{Resource: "other"}, true},
		{Query{Resource: "group:*"}, false}, {Query{Address: "10.0.0.7"}, true}, {Query{Address: "10.0.0.8"}, false},
	} {
		if got := c.q.Match(r); got != c.want {
			t.Errorf("%+v: %v", c.q, got)
		}
	}
}

// FuzzParse wants no panic, and of what is a record the same record again.
func FuzzParse(f *testing.F) {
	for _, value := range build(f, 8, testKey(1)) {
		f.Add(value)
	}
	f.Add([]byte(`{"specversion":"1.0","id":"1","sequence":"1","data":{"also":[{}],"until":"2026-01-01T00:00:00Z"}}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		v := Verifier{Key: make(ed25519.PublicKey, ed25519.PublicKeySize)}
		for range 3 {
			v.Next(value)
		}
		v.End()
		r, err := Parse(value)
		if err != nil {
			return
		}
		again, _, err := Link{Sequence: r.Sequence - 1, Hash: r.Previous}.Append(r.Source, r.Data)
		if err != nil {
			return // a year that JSON does not know
		}
		if s, err := Parse(again); err != nil || s.Sequence != r.Sequence || s.Previous != r.Previous {
			t.Errorf("%s became %s: %v", value, again, err)
		}
	})
}
