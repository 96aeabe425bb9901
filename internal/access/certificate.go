package access

import (
	"strings"
	"unicode"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Identity tells whose a certificate is: a text with fields of it. Make one with ParseIdentity. The zero value is the
// common name.
type Identity struct {
	text  string // in front of the fields
	parts []identityPart
}

// identityPart is a field of a certificate, and the text behind it.
type identityPart struct{ field, behind string }

// commonName is the identity by default.
var commonName = Identity{parts: []identityPart{{field: "cn"}}}

// ParseIdentity reads a template such as "${cert.san.uri}" or "device:${cert.cn}". Errors: Invalid.
func ParseIdentity(template string) (id Identity, err error) {
	invalid := func(format string, args ...any) (Identity, error) {
		return Identity{}, fault.New(fault.Invalid, "access.Identity", format, args...).
			WithHint("there are ${cert.cn}, ${cert.%s}", strings.Join(rule.CertificateFields[:], "}, ${cert."))
	}
	text, rest, found := strings.Cut(template, "${")
	id.text = text
	for more := found; more; {
		var name, behind string
		if name, behind, found = strings.Cut(rest, "}"); !found {
			return invalid("%s has ${ without }", fault.Text(template))
		}
		field, of := strings.CutPrefix(name, "cert.")
		if _, known := (&rule.Subject{}).OfCertificate(field); !of || !known {
			return invalid("%s is nothing that a certificate has", fault.Text("${"+name+"}"))
		}
		behind, rest, more = strings.Cut(behind, "${")
		if more && behind == "" {
			return invalid("%s has two fields with nothing between them", fault.Text(template))
		}
		id.parts = append(id.parts, identityPart{field, behind})
	}
	if len(id.parts) == 0 {
		return invalid("%s names no field: every certificate would be the same user", fault.Text(template))
	}
	return id, nil
}

// of is the user that the certificate of a connection names; "": it shows none. Errors: Denied when it names nobody.
func (id *Identity) of(who *rule.Subject) (string, error) {
	if who.CommonName == "" && who.Certificate == nil {
		return "", nil
	}
	if len(id.parts) == 0 {
		id = &commonName
	}
	var text strings.Builder
	text.WriteString(id.text)
	for i, part := range id.parts {
		value, _ := who.OfCertificate(part.field)
		switch last := i == len(id.parts)-1; {
		case value == "":
			return "", errDenied("the certificate has no %s, which would say whose it is", part.field)
		case strings.ContainsFunc(value, noName), !last && strings.Contains(value, part.behind):
			return "", errDenied("the %s of the certificate, %s, names no user", part.field, fault.Text(value))
		}
		text.WriteString(value + part.behind)
	}
	name := text.String()
	if name == rule.Anonymous || checkName("user", name) != nil {
		return "", errDenied("%s, which the certificate says, is no name of a user", fault.Text(name))
	}
	return name, nil
}

// noName tells of what no name of a certificate's user has: what stands for more than itself, or cannot be seen.
func noName(r rune) bool { return r == '*' || unicode.IsControl(r) }
