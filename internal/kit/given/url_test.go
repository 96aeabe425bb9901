package given

import (
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
)

func TestCheckURL(t *testing.T) {
	for text, want := range map[string]string{
		"https://id.example.org/keys":     "",
		"https://id.example.org:8443/a?b": "",
		"http://localhost:8080/who":       "",
		"http://127.0.0.1/who":            "",
		"http://[::1]:80/who":             "",
		"http://id.example.org/keys":      "is not https",
		"http://127.0.0.1.example.org/":   "is not https",
		"http://localhost.example.org/":   "is not https",
		"http://0.0.0.0/":                 "is not https",
		"ftp://id.example.org/":           "is no address",
		"unix:/run/who.sock":              "is no address",
		"id.example.org":                  "is no address",
		"https://":                        "is no address",
		"https://a/#b":                    "is no address",
		"https://u:canary@a/":             "holds a user",
		"https://a b/":                    "is no address",
		"":                                "is no address",
	} {
		for _, plain := range []bool{false, true} {
			err := CheckURL("op", text, plain)
			good := want == "" || plain && want == "is not https"
			if good != (err == nil) || err != nil && (!fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s: %v", text, err)
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("it shows a password: %v", err)
			}
		}
	}
}
