package mosquitto

import (
	"github.com/firthmq/firth/internal/kit/fault"
)

// Files are the files that say who may log in and do what; empty: there is none.
type Files struct{ Passwords, ACL string }

// FilesOf finds the password_file and the acl_file that directives name. Errors: Invalid when listeners have different
// ones, for users and rules here are the same for all.
func FilesOf(all []Directive) (f Files, err error) {
	for _, d := range all {
		var file *string
		switch d.Name {
		case "password_file":
			file = &f.Passwords
		case "acl_file":
			file = &f.ACL
		default:
			continue
		}
		if *file != "" && *file != d.Value {
			return Files{}, fault.New(fault.Invalid, "mosquitto", "%s: %s: another file than %s: users and rules are the "+
				"same for all listeners", d.Place, d.Name, *file).WithHint("name one with --passwords and --acl")
		}
		*file = d.Value
	}
	return f, nil
}
