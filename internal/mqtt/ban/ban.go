// Package ban says who is kept out: by client identifier, user name or address, until a time. It finds out whose
// connections come and go too often, too. Times come in as milliseconds since 1970.
//
//	var bans ban.Table
//	err := bans.Add(ban.Ban{Kind: ban.Address, Who: "10.1.0.0/16"})
//	found := bans.Find("client", "user", address, now) // nil: nobody keeps it out
package ban

import (
	"cmp"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Kind is what a ban goes by.
type Kind string

// The kinds.
const (
	Client  Kind = "client"  // client identifier
	User    Kind = "user"    // user name
	Address Kind = "address" // IP address, or a prefix of them
)

// Ban keeps somebody out.
type Ban struct {
	Kind   Kind   `json:"-"`
	Who    string `json:"-"`
	Since  int64  `json:"since"`
	Until  int64  `json:"until,omitempty"` // 0: for ever
	By     string `json:"by,omitempty"`    // what made it: the command line, flapping
	Reason string `json:"reason,omitempty"`
}

// Over tells whether the ban has ended.
func (b *Ban) Over(now int64) bool { return b.Until > 0 && b.Until <= now }

// maxText bounds what a ban says of whom and why, in bytes.
const maxText = 65_535

// Check brings whom a ban is about into the one form that it is kept in. Errors: Invalid.
func (b *Ban) Check() error {
	const op = "ban"
	if b.Who == "" || len(b.Who) > maxText || len(b.Reason) > maxText || !utf8.ValidString(b.Who) {
		return fault.New(fault.Invalid, op, "who is banned, and why, is text of 1 to %d bytes", maxText)
	}
	switch b.Kind {
	case Client, User:
		return nil
	case Address:
		p, err := parsePrefix(b.Who)
		if err != nil {
			return fault.New(fault.Invalid, op, "%s is no address: %w", fault.Text(b.Who), err).
				WithHint("examples: 192.0.2.7, 192.0.2.0/24, 2001:db8::/32")
		}
		b.Who = p.String()
		return nil
	}
	return fault.New(fault.Invalid, op, "%q is not %s, %s or %s", b.Kind, Client, User, Address)
}

// parsePrefix reads an address or a prefix. IPv4 in IPv6 is IPv4.
func parsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	const mapped = 96 // bits before an IPv4 address in IPv6
	if a := p.Addr(); a.Is4In6() && p.Bits() >= mapped {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-mapped)
	}
	return p.Masked(), nil
}

// Key is the key of the ban's record.
func (b *Ban) Key() []byte { return []byte(string(b.Kind) + "/" + b.Who) }

// Value is the value of the ban's record.
func (b *Ban) Value() ([]byte, error) { return json.Marshal(b) }

// Parse reads a record; with no value the ban says only whom it is about. Errors: Invalid.
func Parse(key, value []byte) (b Ban, err error) {
	kind, who, _ := strings.Cut(string(key), "/")
	if len(value) > 0 {
		if err := json.Unmarshal(value, &b); err != nil {
			return Ban{}, fault.New(fault.Invalid, "ban", "record of %s: %w", fault.Text(key), err)
		}
	}
	b.Kind, b.Who = Kind(kind), who
	return b, b.Check()
}

type key struct {
	kind Kind
	who  string
}

// Table is who is banned. The zero Table is empty. It is not safe for concurrent use.
type Table struct {
	bans map[key]Ban
	bits [2][129]int // how many prefixes there are of so many bits, of IPv4 and IPv6
}

// Len is how many bans there are, those that are over included until Remove.
func (t *Table) Len() int { return len(t.bans) }

// Add adds a ban, in the place of one for the same. Errors: those of Check.
func (t *Table) Add(b Ban) error {
	if err := b.Check(); err != nil {
		return err
	}
	t.Remove(b.Kind, b.Who)
	if t.bans == nil {
		t.bans = map[key]Ban{}
	}
	t.bans[key{b.Kind, b.Who}] = b
	t.count(&b, 1)
	return nil
}

// Remove removes a ban; false: there is none. Who is in the form that Check brings it into.
func (t *Table) Remove(kind Kind, who string) bool {
	b, is := t.bans[key{kind, who}]
	if is {
		delete(t.bans, key{kind, who})
		t.count(&b, -1)
	}
	return is
}

func (t *Table) count(b *Ban, n int) {
	if b.Kind != Address {
		return
	}
	if p, err := netip.ParsePrefix(b.Who); err == nil {
		t.bits[family(p.Addr())][p.Bits()] += n
	}
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// Find finds a ban of a client; nil: there is none. An empty user name, and an address that is not valid, are nobody's.
func (t *Table) Find(client, user string, address netip.Addr, now int64) *Ban {
	if len(t.bans) == 0 {
		return nil
	}
	if b := t.find(Client, client, now); b != nil {
		return b
	}
	if b := t.find(User, user, now); b != nil {
		return b
	}
	if !address.IsValid() {
		return nil
	}
	address = address.Unmap().WithZone("")
	for bits, n := range t.bits[family(address)] {
		if n == 0 {
			continue
		}
		p, err := address.Prefix(bits)
		if err != nil {
			return nil
		}
		if b := t.find(Address, p.String(), now); b != nil {
			return b
		}
	}
	return nil
}

// Get is the ban of somebody, over or not; nil: there is none. Who is in the form that Check brings it into.
func (t *Table) Get(kind Kind, who string) *Ban {
	b, is := t.bans[key{kind, who}]
	if !is {
		return nil
	}
	return &b
}

func (t *Table) find(kind Kind, who string, now int64) *Ban {
	b, is := t.bans[key{kind, who}]
	if !is || b.Over(now) {
		return nil
	}
	return &b
}

// All are the bans that are not over, by kind and whom they are about.
func (t *Table) All(now int64) []Ban {
	all := make([]Ban, 0, len(t.bans))
	for _, b := range t.bans {
		if !b.Over(now) {
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(a, b Ban) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Who, b.Who))
	})
	return all
}

// Ended are the bans that are over, which are there until Remove.
func (t *Table) Ended(now int64) (over []Ban) {
	for _, b := range t.bans {
		if b.Over(now) {
			over = append(over, b)
		}
	}
	return over
}
