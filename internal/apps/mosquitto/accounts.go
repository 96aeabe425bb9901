package mosquitto

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Account is a user of a password file.
type Account struct {
	Place
	Name     string
	Password credential.Password
}

// maxName bounds the name of a user, in bytes.
const maxName = 1024

// ParsePasswords reads a password_file: a user and the hash of the password in each line. Every line that is not one,
// or whose hash is not known, is an error: none is passed over, and none becomes a user without a password
// (CVE-2018-12551). Errors: Invalid names them all, as file:line:column, without what they hold.
func ParsePasswords(file string, text []byte) ([]Account, error) {
	var all []Account
	p := &problems{file: file}
	seen := map[string]int{}
	for number, line := range lines(text) {
		p.line = number
		if blank(line) || line[0] == '#' {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		at := len(name) + 1
		name, hash = strings.TrimSpace(name), strings.TrimSpace(hash)
		password, err := credential.ParsePassword(hash)
		switch {
		case !ok:
			p.add(0, "a line is of the form user:hash")
		case userFault(name) != "":
			p.add(0, "%s", userFault(name))
		case seen[name] > 0:
			p.add(0, "the user stands in line %d already", seen[name])
		case err != nil && !strings.HasPrefix(hash, "$"):
			p.add(at, "a password in the clear: mosquitto_passwd -U hashes the whole file")
		case err != nil:
			p.add(at, "%v", cause(err))
		default:
			all = append(all, Account{Place{file, number}, name, password})
		}
		seen[name] = number
	}
	return all, p.err()
}

// problems gathers what is wrong with a file.
type problems struct {
	file string
	line int
	list []string
}

// add notes what is wrong from an offset of the line on, in bytes.
func (p *problems) add(offset int, format string, args ...any) {
	p.list = append(p.list, fmt.Sprintf("%s:%d:%d: ", p.file, p.line, offset+1)+fmt.Sprintf(format, args...))
}

func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	return fault.New(fault.Invalid, "mosquitto", "%s", strings.Join(p.list, "\n"))
}

// userFault tells what is wrong with the name of a user; "": nothing.
func userFault(name string) string {
	switch {
	case name == "":
		return "a user without a name"
	case len(name) > maxName || !utf8.ValidString(name) || strings.ContainsAny(name, "\x00\r"):
		return fmt.Sprintf("the name of a user is UTF-8 of 1 to %d bytes", maxName)
	case name == rule.Anonymous || name == "*":
		return name + " cannot be the name of a user here: it means more than one"
	}
	return ""
}

// cause is an error without the operation in front.
func cause(err error) error { return cmp.Or(errors.Unwrap(err), err) }

// lines gives the lines of a text with their numbers, from 1, without what ends them.
func lines(text []byte) func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		number := 0
		for line := range strings.Lines(string(text)) {
			number++
			if !yield(number, strings.TrimRight(line, "\r\n")) {
				return
			}
		}
	}
}

func blank(line string) bool { return strings.TrimSpace(line) == "" }
