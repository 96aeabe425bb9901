package access

import (
	"encoding/json"
	"slices"
	"unicode/utf8"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// User is somebody who may prove who they are. It is not changed once it is in the catalog.
type User struct {
	Name      string
	Verifiers credential.Verifiers
	Roles     []string // sorted
	Groups    []string // sorted
	// ClientID is which client identifiers the user may have in MQTT: this one, those that begin with what stands in
	// front of a * at the end, or with ${username} in it its own. Empty: any.
	ClientID string
	Disabled bool
}

// stored is a user as JSON in the catalog.
type stored struct {
	Password string   `json:"password,omitempty"`
	SCRAM256 string   `json:"scram_sha_256,omitempty"`
	SCRAM512 string   `json:"scram_sha_512,omitempty"`
	Roles    []string `json:"roles,omitempty"`
	Groups   []string `json:"groups,omitempty"`
	ClientID string   `json:"client_id,omitempty"`
	Disabled bool     `json:"disabled,omitempty"`
}

func (u *User) value() []byte {
	text, _ := json.Marshal(stored{ // strings can always be encoded
		Password: u.Verifiers.Password.Text(), SCRAM256: u.Verifiers.SCRAM256.Text(),
		SCRAM512: u.Verifiers.SCRAM512.Text(), Roles: u.Roles, Groups: u.Groups, ClientID: u.ClientID,
		Disabled: u.Disabled,
	})
	return text
}

// parseUser reads a user of the catalog. Errors: Corrupt, Invalid.
func parseUser(name string, value []byte) (*User, error) {
	var s stored
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, fault.Wrap(fault.Corrupt, "access.User", err)
	}
	u := &User{Name: name, Roles: s.Roles, Groups: s.Groups, ClientID: s.ClientID, Disabled: s.Disabled}
	var err error
	if s.Password != "" {
		if u.Verifiers.Password, err = credential.ParsePassword(s.Password); err != nil {
			return nil, err
		}
	}
	for _, text := range []string{s.SCRAM256, s.SCRAM512} {
		if text == "" {
			continue
		}
		v, err := credential.ParseSCRAM(text)
		if err != nil {
			return nil, err
		}
		u.Verifiers.Put(v)
	}
	return u, u.check()
}

// maxName bounds the name of a user, role or group, in bytes; maxRoles is how many roles, and how many groups, a user
// may have.
const (
	maxName  = 1024
	maxRoles = 100
)

// check tells what is wrong with a user, and sorts its roles and groups. Errors: Invalid.
func (u *User) check() (err error) {
	if err := checkName("user", u.Name); err != nil {
		return err
	}
	if u.Name == rule.Anonymous || u.Name == "*" {
		return fault.New(fault.Invalid, "access.User", "%s is not the name of a user", u.Name)
	}
	if u.Roles, err = checkNames("role", u.Roles); err != nil {
		return err
	}
	u.Groups, err = checkNames("group", u.Groups)
	return err
}

// checkNames sorts the names of roles or groups. Errors: Invalid.
func checkNames(what string, list []string) ([]string, error) {
	list = slices.Clone(list)
	slices.Sort(list)
	list = slices.Compact(list)
	if len(list) > maxRoles {
		return nil, fault.New(fault.Invalid, "access.User", "%d %ss: at most %d", len(list), what, maxRoles)
	}
	for _, name := range list {
		if err := checkName(what, name); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func checkName(what, name string) error {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) {
		return fault.New(fault.Invalid, "access", "the name of a %s is UTF-8 of 1 to %d bytes", what, maxName)
	}
	return nil
}
