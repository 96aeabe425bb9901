package gcm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
)

// pair is the AEAD of this package and the standard library's of one key.
func pair(t testing.TB, key []byte) (ours, theirs cipher.AEAD) {
	t.Helper()
	ours, err := New(key)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

func random(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// The test cases of AES-256 with nonces of 12 bytes in "The Galois/Counter Mode of Operation", appendix B: 13 to 16.
func TestVectors(t *testing.T) {
	const (
		zeros = "0000000000000000000000000000000000000000000000000000000000000000"
		key   = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
		nonce = "cafebabefacedbaddecaf888"
		text  = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525" +
			"b16aedf5aa0de657ba637b391aafd255"
		sealed = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b10568288" +
			"38c5f61e6393ba7a0abcc9f662898015ad"
	)
	for i, c := range []struct{ key, nonce, plain, bound, sealed, tag string }{
		{zeros, zeros[:24], "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
		{zeros, zeros[:24], zeros[:32], "", "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"},
		{key, nonce, text, "", sealed, "b094dac5d93471bdec1a502270e3cc6c"},
		{
			key, nonce, text[:120], "feedfacedeadbeeffeedfacedeadbeefabaddad2",
			sealed[:120], "76fc6ece0f4e1768cddf8853bb2d551b",
		},
	} {
		ours, _ := pair(t, unhex(t, c.key))
		got := ours.Seal(nil, unhex(t, c.nonce), unhex(t, c.plain), unhex(t, c.bound))
		if want := unhex(t, c.sealed+c.tag); !bytes.Equal(got, want) {
			t.Errorf("case %d: %x, not %x", i+13, got, want)
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The same comes out as of the standard library, for texts of every length around blocks and groups of them, at any
// place in memory, in place and elsewhere.
func TestLikeTheStandardLibrary(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 14))
	lengths := []int{4095, 4096, 4097, 65536 - 16, 65537, 1<<20 + 255}
	for n := range 1100 {
		lengths = append(lengths, n)
	}
	for i, n := range lengths {
		ours, theirs := pair(t, random(rng, keyBytes))
		nonce, bound, memory := random(rng, 12), random(rng, i%70*i%19), random(rng, n+i%67)
		plain := memory[i%67:]
		want := theirs.Seal(nil, nonce, plain, bound)
		got := ours.Seal([]byte("before"), nonce, plain, bound)
		if !bytes.Equal(got, append([]byte("before"), want...)) {
			t.Fatalf("sealing %d bytes with %d: %x, not %x", n, len(bound), got, want)
		}
		opened, err := ours.Open([]byte("before"), nonce, want, bound)
		if err != nil || !bytes.Equal(opened, append([]byte("before"), plain...)) {
			t.Fatalf("opening %d bytes: %v", n, err)
		}
		if opened, err = ours.Open(want[:0], nonce, want, bound); err != nil || !bytes.Equal(opened, plain) {
			t.Fatalf("opening %d bytes in place: %v", n, err)
		}
		inPlace := append(make([]byte, 0, n+16), plain...)
		if inPlace = ours.Seal(inPlace[:0], nonce, inPlace, bound); !bytes.Equal(inPlace, got[len("before"):]) {
			t.Fatalf("sealing %d bytes in place gives something else", n)
		}
	}
}

// Nothing opens that is another by one bit, and then there is nothing of it.
func TestEveryBitCounts(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 15))
	ours, _ := pair(t, random(rng, keyBytes))
	plain := random(rng, 600)
	nonce, bound := random(rng, 12), random(rng, 20)
	sealed := ours.Seal(nil, nonce, plain, bound)
	for _, part := range [][]byte{sealed, nonce, bound} {
		for bit := range len(part) * 8 {
			part[bit/8] ^= 1 << (bit % 8)
			out := random(rng, len(plain))
			if _, err := ours.Open(out[:0], nonce, sealed, bound); err == nil {
				t.Fatalf("bit %d of %d bytes does not count", bit, len(part))
			}
			if !bytes.Equal(out, make([]byte, len(plain))) {
				t.Fatalf("bit %d of %d bytes: something is left of what did not open", bit, len(part))
			}
			part[bit/8] ^= 1 << (bit % 8)
		}
	}
	for n := range len(sealed) {
		if _, err := ours.Open(nil, nonce, sealed[:n], bound); err == nil {
			t.Fatalf("the first %d bytes open", n)
		}
	}
}

func TestManyUseOneKey(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 16))
	ours, theirs := pair(t, random(rng, keyBytes))
	nonce, plain := random(rng, 12), random(rng, 3000)
	want := theirs.Seal(nil, nonce, plain, nil)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 50 {
				if got, err := ours.Open(nil, nonce, want, nil); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("does not open beside others: %v", err)
				}
			}
		})
	}
	all.Wait()
}

func TestNewRefusesOtherLengths(t *testing.T) {
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := New(make([]byte, n)); !fault.Is(err, fault.Invalid) {
			t.Errorf("a key of %d bytes: %v", n, err)
		}
	}
}

func TestOpenAllocs(t *testing.T) {
	ours, _ := pair(t, make([]byte, keyBytes))
	nonce, bound := make([]byte, 12), make([]byte, 12)
	sealed := ours.Seal(nil, nonce, make([]byte, 5000), bound)
	dst := make([]byte, 0, len(sealed))
	if n := testing.AllocsPerRun(100, func() {
		dst = ours.Seal(dst[:0], nonce, sealed[:5000], bound)
		if _, err := ours.Open(dst[:0], nonce, dst, bound); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%.0f allocations", n)
	}
}

// BenchmarkOpen opens pieces of 4 KiB, blocks of a segment, and of 256 KiB, large batches of a journal.
func BenchmarkOpen(b *testing.B) {
	ours, theirs := pair(b, make([]byte, keyBytes))
	for name, aead := range map[string]cipher.AEAD{"ours": ours, "standard": theirs} {
		for _, n := range []int{4 << 10, 256 << 10} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				nonce := make([]byte, 12)
				sealed := aead.Seal(nil, nonce, make([]byte, n), nil)
				dst := make([]byte, 0, n)
				b.SetBytes(int64(n))
				for b.Loop() {
					if _, err := aead.Open(dst, nonce, sealed, nil); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n>>10), "ns/KiB")
			})
		}
	}
}
