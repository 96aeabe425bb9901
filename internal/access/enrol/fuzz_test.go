package enrol

import (
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
)

// FuzzRequest: whatever a stranger sends as a request is taken or refused as the client's fault.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("MIHoMIGQAgEAMC4xLDAqBgNVBAMMI3B1bXA="))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"))
	f.Add([]byte{0x30, 0x82, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, body []byte) {
		csr, err := parse(body)
		if (csr == nil) == (err == nil) {
			t.Error(csr, err)
		}
		if err != nil && !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge) {
			t.Error(err)
		}
	})
}
