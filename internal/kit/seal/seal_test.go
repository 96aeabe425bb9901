package seal

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"testing"

	"github.com/firthmq/firth/internal/kit/alloctest"
)

func suites() map[uint16]int {
	return map[uint16]int{
		tls.TLS_AES_128_GCM_SHA256: 32, tls.TLS_AES_256_GCM_SHA384: 48, tls.TLS_CHACHA20_POLY1305_SHA256: 32,
	}
}

// pair is both ends of one direction.
func pair(t testing.TB, suite uint16, size, used int) (*Out, *In) {
	t.Helper()
	secret := make([]byte, size)
	rand.Read(secret) // never fails
	out, in := new(Out), new(In)
	if err := errors.Join(out.Begin(suite, secret, used), in.Begin(suite, secret)); err != nil {
		t.Fatal(err)
	}
	return out, in
}

// openAll opens all records of b.
func openAll(in *In, b []byte) (plain []byte, asked bool, err error) {
	for len(b) > 0 {
		n, p, asks, err := in.Open(b)
		if plain, asked = append(plain, p...), asked || asks; err != nil || n == 0 {
			return plain, asked, err
		}
		b = b[n:]
	}
	return plain, asked, nil
}

// TestThere: what is sealed is opened, of every suite and size, over changes of keys.
func TestThere(t *testing.T) {
	for suite, size := range suites() {
		out, in := pair(t, suite, size, 0)
		for _, n := range []int{1, 2, 100, MaxPlain - 1, MaxPlain, MaxPlain + 1, 3*MaxPlain + 7} {
			want := make([]byte, n)
			rand.Read(want) // never fails
			sealed := out.Seal(nil, want)
			records := (n + MaxPlain - 1) / MaxPlain
			if len(sealed) != n+records*Overhead {
				t.Errorf("%d bytes became %d", n, len(sealed))
			}
			got, asked, err := openAll(in, sealed)
			if err != nil || asked || !bytes.Equal(got, want) {
				t.Fatalf("suite %#x, %d bytes: %v", suite, n, err)
			}
			if got, asked, err := openAll(in, out.Update(nil)); err != nil || asked || len(got) > 0 {
				t.Fatalf("suite %#x: a change of keys: %v", suite, err)
			}
		}
	}
}

// TestOldKeys: a key that sealed too much is changed without being asked.
func TestOldKeys(t *testing.T) {
	out, in := pair(t, tls.TLS_AES_128_GCM_SHA256, 32, 0)
	out.sealed = maxSealed - 1
	before := out.secret
	got, _, err := openAll(in, out.Seal(nil, []byte("hello")))
	if err != nil || string(got) != "hello" || out.secret == before || in.secret != out.secret {
		t.Errorf("%q, %v", got, err)
	}
}

// TestBad: each thing that must not be has its alert, and no byte of it is given away.
func TestBad(t *testing.T) {
	ask := []byte{24, 0, 0, 1, 1}
	raw := func(b ...byte) func(*Out) []byte { return func(*Out) []byte { return b } }
	one := func(kind byte, b ...byte) func(*Out) []byte {
		return func(o *Out) []byte { return o.record(nil, kind, b) }
	}
	spoilt := func(at int) func(*Out) []byte {
		return func(o *Out) []byte {
			b := o.Seal(nil, []byte("xx"))
			b[at] ^= 1
			return b
		}
	}
	for name, c := range map[string]struct {
		make func(o *Out) []byte
		want error
	}{
		"tampered":        {spoilt(7), BadRecordMAC},
		"tag":             {spoilt(Overhead + 1), BadRecordMAC},
		"version":         {spoilt(2), BadRecordMAC},
		"twice":           {func(o *Out) []byte { b := o.Seal(nil, []byte("x")); return append(b, b...) }, BadRecordMAC},
		"skipped":         {func(o *Out) []byte { o.Seal(nil, ask); return o.Seal(nil, ask) }, BadRecordMAC},
		"short":           {raw(append([]byte{23, 3, 3, 0, 16}, make([]byte, 16)...)...), BadRecordMAC},
		"long":            {raw(23, 3, 3, 0x41, 1), RecordOverflow},
		"too much in one": {one(typeData, make([]byte, MaxPlain+1)...), RecordOverflow},
		"plain handshake": {raw(22, 3, 3, 0, 1, 1), UnexpectedMessage},
		"cipher spec":     {raw(20, 3, 3, 0, 1, 1), UnexpectedMessage},
		"MQTT":            {raw(0x10, 0x0c, 0, 4, 'M', 'Q'), UnexpectedMessage},
		"close":           {func(o *Out) []byte { return o.Alert(nil, CloseNotify) }, io.EOF},
		"alert":           {func(o *Out) []byte { return o.Alert(nil, BadRecordMAC) }, Received{BadRecordMAC}},
		"no type":         {one(0, 0, 0), UnexpectedMessage},
		"unknown type":    {one(99, 1), UnexpectedMessage},
		"empty handshake": {one(typeHandshake), UnexpectedMessage},
		"a ticket":        {one(typeHandshake, 4, 0, 0, 1, 0), UnexpectedMessage},
		"update of 2":     {one(typeHandshake, 24, 0, 0, 1, 2), UnexpectedMessage},
		"behind update":   {one(typeHandshake, append(ask, 24)...), UnexpectedMessage},
		"old key":         {func(o *Out) []byte { return o.Seal(o.record(nil, typeHandshake, ask), ask) }, BadRecordMAC},
		"interrupted": {func(o *Out) []byte { return o.Seal(o.record(nil, typeHandshake, ask[:2]), ask) },
			UnexpectedMessage},
		"empty ones": {func(o *Out) (b []byte) {
			for range maxUseless + 1 {
				b = o.record(b, typeData, nil)
			}
			return b
		}, UnexpectedMessage},
		"short alert": {func(o *Out) []byte { return o.record(nil, typeAlert, []byte{1}) }, UnexpectedMessage},
	} {
		out, in := pair(t, tls.TLS_AES_128_GCM_SHA256, 32, 0)
		if got, _, err := openAll(in, c.make(out)); !errors.Is(err, c.want) || name != "twice" && len(got) > 0 {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestUpdates: new keys may be asked for, also in pieces; what is not whole waits; padding means nothing.
func TestUpdates(t *testing.T) {
	out, in := pair(t, tls.TLS_CHACHA20_POLY1305_SHA256, 32, 0)
	b := out.record(nil, typeHandshake, []byte{24, 0})
	b = out.record(b, typeHandshake, []byte{0, 1, 1})
	if err := out.update(); err != nil {
		t.Fatal(err)
	}
	b = out.record(b, typeAlert, []byte{1, byte(userCanceled)})
	b = out.Seal(b, []byte("hello"))
	b = out.record(b, 0, append([]byte("padded"), typeData, 0, 0, 0))
	for n := range Head {
		if size, _, _, err := in.Open(b[:n]); size != 0 || err != nil {
			t.Fatalf("%d bytes: %d, %v", n, size, err)
		}
	}
	if got, asked, err := openAll(in, b); err != nil || !asked || string(got) != "hellopadded" {
		t.Errorf("%q, asked %v, %v", got, asked, err)
	}
}

// TestUsed finds how many records of a flight are under the secret of traffic.
func TestUsed(t *testing.T) {
	for used := range 4 {
		secret := make([]byte, 32)
		rand.Read(secret) // never fails
		var out Out
		if err := out.Begin(tls.TLS_AES_128_GCM_SHA256, secret, 0); err != nil {
			t.Fatal(err)
		}
		other, _ := pair(t, tls.TLS_AES_128_GCM_SHA256, 32, 0)
		records := [][]byte{{22, 3, 3, 0, 1, 1}, {20, 3, 3, 0, 1, 1}, other.Seal(nil, []byte("certificate"))}
		for range used {
			records = append(records, out.record(nil, typeHandshake, []byte("ticket")))
		}
		if got, err := Used(tls.TLS_AES_128_GCM_SHA256, secret, records); err != nil || got != used {
			t.Errorf("%d, %v; want %d", got, err, used)
		}
	}
}

// TestAllocs: a record costs no memory.
func TestAllocs(t *testing.T) {
	out, in := pair(t, tls.TLS_AES_128_GCM_SHA256, 32, 0)
	buf, plain := make([]byte, 0, 1<<10), make([]byte, 100)
	if n := alloctest.PerRun(100, 0, func() {
		b := out.Seal(buf, plain)
		if _, got, _, err := in.Open(b); err != nil || len(got) != len(plain) {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzOpen: whatever comes is opened, waited for or refused, and nothing that was not sealed is given away.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{23, 3, 3, 0, 17}, uint16(0), false)
	f.Add([]byte{21, 3, 3, 0, 2, 1, 0}, uint16(9), true)
	f.Fuzz(func(t *testing.T, junk []byte, at uint16, inside bool) {
		out, in := pair(t, tls.TLS_AES_128_GCM_SHA256, 32, 0)
		if inside { // well sealed, of any content
			if len(junk) == 0 || len(junk) > MaxPlain {
				return
			}
			b := out.record(nil, junk[0], junk[1:])
			n, plain, _, err := in.Open(b)
			if err == nil && (n != len(b) || len(plain) > len(junk)) {
				t.Errorf("%d of %d bytes, %d plain", n, len(b), len(plain))
			}
			return
		}
		good := out.Seal(nil, []byte("good"))
		b := bytes.Clone(good)
		copy(b[min(int(at), len(b)):], junk)
		n, plain, _, err := in.Open(b)
		switch {
		case bytes.Equal(b[:min(n, len(b))], good) || n == 0:
		case err == nil && !bytes.Equal(plain, []byte("good")):
			t.Errorf("%q was opened", plain)
		}
	})
}

func BenchmarkSealOpen(b *testing.B) {
	for suite, size := range suites() {
		b.Run(tls.CipherSuiteName(suite), func(b *testing.B) {
			out, in := pair(b, suite, size, 0)
			buf, plain := make([]byte, 0, 1<<10), make([]byte, 100)
			b.SetBytes(100)
			for b.Loop() {
				if _, _, _, err := in.Open(out.Seal(buf, plain)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
