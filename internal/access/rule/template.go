package rule

import (
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
)

// expand puts what is known of a subject into a template: ${clientid}, ${username}, ${cert.cn} and the like. It fails
// if one is not known, or would be more than text: a value never brings wildcards, levels of its own, or nothing
// (CVE-2017-7650). Errors: Invalid for what is no template, NotFound for what the subject does not have.
func expand(template string, who *Subject) (string, error) {
	if !strings.Contains(template, "${") {
		return template, nil
	}
	var b strings.Builder
	for rest := template; ; {
		text, behind, found := strings.Cut(rest, "${")
		b.WriteString(text)
		if !found {
			return b.String(), nil
		}
		name, after, closed := strings.Cut(behind, "}")
		value, known := who.value(name)
		switch {
		case !closed || !known:
			return "", fault.New(fault.Invalid, "access.Template", "%s has ${%s: it is not known here",
				fault.Text(template), fault.Text(name)).WithHint("%s", templateHint)
		case value == "" || strings.ContainsAny(value, "+#/\x00") || b.Len() == 0 && value[0] == '$':
			return "", fault.New(fault.NotFound, "access.Template", "%s cannot be in a topic name", fault.Text(value))
		}
		b.WriteString(value)
		rest = after
	}
}

// isTemplate tells whether a name is another one for each subject.
func isTemplate(name string) bool { return strings.Contains(name, "${") }

func (s *Subject) value(name string) (value string, known bool) {
	switch name {
	case "clientid":
		return s.ClientID, true
	case "username":
		if s.User == Anonymous { // is no name
			return "", true
		}
		return s.User, true
	}
	if field, of := strings.CutPrefix(name, "cert."); of {
		return s.OfCertificate(field)
	}
	return "", false
}

// templateHint tells what templates may name.
var templateHint = "there are ${clientid}, ${username}, ${cert.cn}, ${cert." +
	strings.Join(CertificateFields[:], "}, ${cert.") + "}"
