package given

import (
	"net/netip"
	"net/url"

	"github.com/firthmq/firth/internal/kit/fault"
)

// CheckURL tells whether an address that an operator gives may be asked, for an operation that errors name: by https,
// or on this machine, or anywhere where plain http will do. There is no user in it. Errors: Invalid.
func CheckURL(op, text string, plain bool) error {
	u, err := url.Parse(text)
	switch {
	case err == nil && u.User != nil: // it may hold a password, and is not shown
		return fault.New(fault.Invalid, op, "the address of %s holds a user: there is none in it", fault.Text(u.Host))
	case err != nil || u.Host == "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http":
		return fault.New(fault.Invalid, op, "%s is no address such as https://id.example.org/path", fault.Text(text))
	case u.Scheme == "http" && !plain && !isHere(u.Hostname()):
		return fault.New(fault.Invalid, op, "%s is not https: whoever is on the way can read and change what it carries",
			fault.Text(text)).WithHint("plain http is for this machine only")
	}
	return nil
}

// isHere tells whether a host is this machine and nothing else.
func isHere(host string) bool {
	if host == "localhost" {
		return true
	}
	at, err := netip.ParseAddr(host)
	return err == nil && at.Unmap().IsLoopback()
}
