package rule

import "slices"

// Certificate is what the certificate of a client says besides its common name, once it was verified.
type Certificate interface {
	// Value is a field of CertificateFields; "": it has none. Where there may be several, it is the first.
	Value(field string) string
}

// CertificateFields are the fields of certificates that templates may name behind "cert.", but for the common name:
// the subject as RFC 2253 writes it, its organization and unit, the serial number in hexadecimal, and the subject
// alternative names of each kind.
var CertificateFields = [...]string{"subject", "o", "ou", "serial", "san.dns", "san.uri", "san.email", "san.ip"}

// OfCertificate is what the certificate of a subject says: a field of CertificateFields, or "cn", the common name. It
// is empty where it does not say it.
func (s *Subject) OfCertificate(field string) (value string, known bool) {
	switch {
	case field == "cn":
		return s.CommonName, true
	case !slices.Contains(CertificateFields[:], field):
		return "", false
	case s.Certificate == nil:
		return "", true
	}
	return s.Certificate.Value(field), true
}
