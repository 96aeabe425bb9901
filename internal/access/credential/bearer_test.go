package credential_test

import (
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/kit/fault"
)

func TestParseBearer(t *testing.T) {
	for message, want := range map[string]credential.Bearer{
		"n,,\x01auth=Bearer abc\x01\x01":                                   {Token: "abc"},
		"n,a=al=2Cice=3D,\x01auth=bearer abc==\x01\x01":                    {User: "al,ice=", Token: "abc=="},
		"y,,\x01host=x\x01port=1\x01auth=Bearer a.b.c\x01traceId=\x01\x01": {Token: "a.b.c"},
	} {
		b, err := credential.ParseBearer([]byte(message))
		if err != nil || b.User != want.User || b.Token != want.Token {
			t.Errorf("%q: %+v %v", message, b, err)
		}
	}
	for _, message := range []string{
		"", "\x01", "n,,", "n,,\x01", "n,,\x01\x01", "n,,\x01auth=Bearer abc\x01", "n,,\x01auth=Bearer abc",
		"p=tls-unique,,\x01auth=Bearer abc\x01\x01", "n,alice,\x01auth=Bearer abc\x01\x01",
		"n,a=,\x01auth=Bearer abc\x01\x01",
		"n,a=al=ice,\x01auth=Bearer abc\x01\x01", "n\x01auth=Bearer abc\x01\x01", "n,,x\x01auth=Bearer abc\x01\x01",
		"n,,\x01auth=Basic abc\x01\x01", "n,,\x01auth=Bearer \x01\x01", "n,,\x01auth=Bearer a b\x01\x01",
		"n,,\x01auth=Bearer abc\x01auth=Bearer def\x01\x01", "n,,\x01x=1\x01x=2\x01auth=Bearer abc\x01\x01",
		"n,,\x01x1=1\x01auth=Bearer abc\x01\x01", "n,,\x01x\x01auth=Bearer abc\x01\x01", "n,,\x01host=x\x01\x01",
		"n,,\x01auth=Bearer \xff\x01\x01", "n,,\x01" + strings.Repeat("x", 64<<10) + "=\x01auth=Bearer abc\x01\x01",
	} {
		if b, err := credential.ParseBearer([]byte(message)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%.60q: %+v %v", message, b, err)
		}
	}
}

func FuzzParseBearer(f *testing.F) {
	f.Add([]byte("n,a=alice,\x01auth=Bearer abc\x01traceId=1\x01\x01"))
	f.Fuzz(func(t *testing.T, message []byte) {
		b, err := credential.ParseBearer(message)
		if err == nil && (b.Token == "" || strings.ContainsAny(b.Token, "\x01 ")) {
			t.Fatalf("%+v", b)
		}
	})
}
