package access

import (
	"bytes"
	"testing"

	"github.com/firthmq/firth/internal/access/credential"
)

// FuzzDelegation: what can be read of the catalog is written as it is read.
func FuzzDelegation(f *testing.F) {
	verifier := func(m credential.Mechanism) string {
		s, err := credential.NewSCRAM(m, []byte("secret"), []byte("salt of it"), credential.MinIterations)
		if err != nil {
			f.Fatal(err)
		}
		return s.Text()
	}
	f.Add("id", []byte(`{"owner":"a","requester":"b","renewers":["c"],"issued":1,"ends":2,"last":3,"secret":"00",`+
		`"scram_sha_256":"`+verifier(credential.SHA256)+`","scram_sha_512":"`+verifier(credential.SHA512)+`"}`))
	f.Fuzz(func(t *testing.T, id string, value []byte) {
		d, err := parseDelegation(id, value)
		if err != nil {
			return
		}
		written, err := d.value()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseDelegation(id, written)
		if err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		if twice, err := again.value(); err != nil || !bytes.Equal(written, twice) {
			t.Errorf("%s, then %s: %v", written, twice, err)
		}
	})
}
