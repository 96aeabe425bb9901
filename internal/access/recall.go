package access

import (
	"encoding/binary"
	"encoding/json"
	"net/netip"

	"github.com/firthmq/firth/internal/access/rule"
)

// Bits of the first byte of what Pass.From gives.
const (
	fromEncrypted = 1 << iota
	fromProven
	fromToken       // what its token gives follows, or what the service gave
	fromCertificate // what its certificate says follows
	fromService     // it is of the service, and its rules follow
	fromCatalog     // it was proven by what the catalog has of its user
	fromBits        = iota
)

// From tells how somebody is here, for Recall when it is gone: docs/format/sessions.md.
func (p *Pass) From() string {
	if p.who.Faint {
		return "" // it is no better known by being told again
	}
	flags := byte(0)
	if p.who.Encrypted {
		flags |= fromEncrypted
	}
	if p.proof != "" || p.listed {
		flags |= fromCatalog
	}
	g := p.grant.Load()
	if p.recalled || p.Proven() {
		flags |= fromProven
	}
	if g != nil {
		flags |= fromToken
	}
	if g != nil && g.service {
		flags |= fromService
	}
	said := p.certificate()
	if len(said) > 0 {
		flags |= fromCertificate
	}
	b := []byte{flags}
	for _, text := range [...]string{p.who.Listener, string(p.who.Address.Unmap().AsSlice()), p.who.CommonName} {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	if g != nil {
		b = append(binary.AppendUvarint(b, uint64(len(g.token))), g.token...)
		b = appendList(appendList(b, g.Roles), g.Groups)
	}
	if len(said) > 0 {
		b = appendList(b, said)
	}
	if g != nil && g.service {
		text, _ := json.Marshal(g.rules) // nothing in them cannot be encoded
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	return string(b)
}

func appendList(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, text := range list {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	return b
}

// certificate are the fields of the certificate besides its common name, each with what it says behind it.
func (p *Pass) certificate() (said []string) {
	for _, field := range rule.CertificateFields {
		if value, _ := p.who.OfCertificate(field); value != "" {
			said = append(said, field, value)
		}
	}
	return said
}

// recalledCertificate is what Pass.certificate told.
type recalledCertificate []string

// Value implements rule.Certificate.
func (c recalledCertificate) Value(field string) string {
	for i := 0; i+1 < len(c); i += 2 {
		if c[i] == field {
			return c[i+1]
		}
	}
	return ""
}

// Recall makes the pass of somebody who was let in before: for a will, or what waits to be published. It need not be in
// the catalog, unless that is what proved who it was: a user who was removed is heard no more. From is what its pass
// told; where that is not known, conditions hold for what denies, and for nothing else. A name that was not proven, for
// nobody asked, is nobody's by now.
func (a *Access) Recall(who rule.Subject, from string) *Pass {
	was := recalling{rest: []byte(from)}
	g := was.read(&who)
	if was.bad {
		who.Faint, g = true, nil
	} else if was.flags&fromProven == 0 && !a.open() {
		who.User = rule.Anonymous
	}
	p := &Pass{access: a, who: who, recalled: who.User != rule.Anonymous, listed: was.flags&fromCatalog != 0}
	if g != nil && p.recalled {
		g.User = who.User
		p.grant.Store(g)
	}
	return p
}

// recalling reads what Pass.From told.
type recalling struct {
	rest  []byte
	flags byte
	bad   bool // it is not known, or not understood
}

// read reads how somebody was here, and what its token gave; nil: it had none.
func (r *recalling) read(who *rule.Subject) *Grant {
	if r.bad = len(r.rest) == 0 || r.rest[0]>>fromBits != 0; r.bad {
		return nil
	}
	r.flags, r.rest = r.rest[0], r.rest[1:]
	listener, address, name := r.text(), r.text(), r.text()
	var g *Grant
	if r.flags&fromToken != 0 {
		g = &Grant{token: r.text(), Roles: r.list(), Groups: r.list()}
	}
	var said recalledCertificate
	if r.flags&fromCertificate != 0 {
		said = r.list()
	}
	if r.flags&fromService != 0 {
		text := r.text()
		r.bad = r.bad || g == nil || json.Unmarshal([]byte(text), &g.rules) != nil
		if g != nil {
			g.service = true
		}
	}
	if r.bad {
		return nil
	}
	who.Address, _ = netip.AddrFromSlice([]byte(address)) // none: from a Unix socket
	who.Listener, who.CommonName, who.Encrypted = listener, name, r.flags&fromEncrypted != 0
	if said != nil {
		who.Certificate = said
	}
	return g
}

func (r *recalling) text() string {
	n, used := binary.Uvarint(r.rest)
	if r.bad = r.bad || used <= 0 || n > uint64(len(r.rest)-used); r.bad {
		return ""
	}
	text := string(r.rest[used:][:n])
	r.rest = r.rest[uint64(used)+n:]
	return text
}

func (r *recalling) list() (all []string) {
	n, used := binary.Uvarint(r.rest)
	if r.bad = r.bad || used <= 0 || n > maxRoles; r.bad {
		return nil
	}
	r.rest = r.rest[used:]
	for range n {
		all = append(all, r.text())
	}
	return all
}
