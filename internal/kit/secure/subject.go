package secure

import (
	"encoding/asn1"
	"encoding/hex"
	"strings"
)

// Value is a field of the certificate by the name that templates of access rules have for it; "": it has none. Of
// several values it is the first.
func (p *Peer) Value(field string) string {
	switch field {
	case "cn":
		return p.CommonName
	case "subject":
		return p.Subject
	case "o":
		return p.Organization
	case "ou":
		return p.Unit
	case "serial":
		return p.Serial
	case "san.dns":
		return first(p.DNSNames)
	case "san.uri":
		return first(p.URIs)
	case "san.email":
		return first(p.Emails)
	case "san.ip":
		return first(p.IPs)
	}
	return ""
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// keywords are the attributes of names that RFC 2253 has words for. The others are written by their numbers.
var keywords = map[string]string{
	"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "STREET", "2.5.4.10": "O",
	"2.5.4.11": "OU", "0.9.2342.19200300.100.1.1": "UID", "0.9.2342.19200300.100.1.25": "DC",
}

// attribute is an AttributeTypeAndValue whose value is not read yet.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// subject writes a distinguished name as RFC 2253 has it, from the last part to the first: character for character what
// X500Principal.getName of Java gives, which Kafka makes its principals of. A name that cannot be read is "".
func subject(der []byte) string {
	var rdns []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &rdns); err != nil || len(rest) > 0 {
		return ""
	}
	parts := make([]string, len(rdns))
	for i, rdn := range rdns {
		var set []attribute
		if rest, err := asn1.UnmarshalWithParams(rdn.FullBytes, &set, "set"); err != nil || len(rest) > 0 {
			return ""
		}
		list := make([]string, len(set))
		for j, a := range set {
			list[j] = a.text()
		}
		parts[len(rdns)-1-i] = strings.Join(list, "+")
	}
	return strings.Join(parts, ",")
}

func (a *attribute) text() string {
	name := a.Type.String()
	var value any
	if keyword := keywords[name]; keyword != "" {
		name = keyword
		if _, err := asn1.Unmarshal(a.Value.FullBytes, &value); err != nil {
			value = nil
		}
	}
	if text, is := value.(string); is {
		return name + "=" + escape(text)
	}
	return name + "=#" + hex.EncodeToString(a.Value.FullBytes)
}

// escape marks what would mean something else in a name.
func escape(text string) string {
	first := len(text) - len(strings.TrimLeft(text, " \r"))
	last := len(strings.TrimRight(text, " \r"))
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == 0:
			b.WriteString(`\00`)
			continue
		case strings.ContainsRune(`,=+<>#;"\`, r), i < first, i >= last:
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
