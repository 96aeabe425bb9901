package secure

import (
	"encoding/hex"
	"testing"
)

// TestSubject wants the names that X500Principal.getName of Java 21 gives, as Kafka has them.
func TestSubject(t *testing.T) {
	for der, want := range map[string]string{
		"3054310b300906035504061302444531183016060355040a0c0f4dc3bc6c6c65722c2053c3b6686e65311a300a06035504071303556c6d" +
			"300c060355040b1305706c616e74310f300d0603550403130670756d702d37": `CN=pump-7,L=Ulm+OU=plant,O=Müller\, Söhne,C=DE`,
		"304131133011060a0992268993f22c64011916036f726731173015060a0992268993f22c64011916076578616d706c653111300f060a09" +
			"92268993f22c640101130178": "UID=x,DC=example,DC=org",
		"301c311a301806035504030c116123622b633d643b653c663e6722685c69": `CN=a\#b\+c\=d\;e\<f\>g\"h\\i`,
		"3019310a30080603550403130178310b3009060355040513023432":       "2.5.4.5=#13023432,CN=x",
		"300e310c300a06035504030c03206120":                             `CN=\ a\ `,
		"300e310c300a06035504030c03610062":                             `CN=a\00b`,
		"3000":                                                         "",
		"3054310b":                                                     "",
		"300d310b3009060355040303020061":                               "CN=#03020061",
	} {
		raw, err := hex.DecodeString(der)
		if err != nil {
			t.Fatal(err)
		}
		if got := subject(raw); got != want {
			t.Errorf("%s is %q, want %q", der, got, want)
		}
	}
}

// FuzzSubject reads any bytes as a name.
func FuzzSubject(f *testing.F) {
	f.Add([]byte("\x30\x0e\x31\x0c\x30\x0a\x06\x03\x55\x04\x03\x0c\x03\x20\x61\x20"))
	f.Fuzz(func(_ *testing.T, der []byte) { subject(der) })
}
