package enrol

import (
	"bytes"
	"testing"

	"github.com/firthmq/firth/internal/access/authority"
	"github.com/firthmq/firth/internal/kit/fault"
)

// FuzzRequest: whatever a stranger sends as a request is taken or refused as the client's fault.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("MIHoMIGQAgEAMC4xLDAqBgNVBAMMI3B1bXA="))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"))
	f.Add([]byte{0x30, 0x82, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, body []byte) {
		text, err := readRequest(bytes.NewReader(body))
		if err == nil {
			_, err = authority.ParseRequest(text)
		}
		if err != nil && !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge) {
			t.Error(err)
		}
	})
}
