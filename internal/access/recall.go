package access

import (
	"encoding/binary"
	"net/netip"

	"github.com/firthmq/firth/internal/access/rule"
)

// Bits of the first byte of what Pass.From gives.
const (
	fromEncrypted = 1 << iota
	fromProven
	fromBits = iota
)

// From tells how somebody is here, for Recall when it is gone: docs/format/sessions.md.
func (p *Pass) From() string {
	flags := byte(0)
	if p.who.Encrypted {
		flags |= fromEncrypted
	}
	if p.proof != "" || p.certified || p.recalled {
		flags |= fromProven
	}
	b := []byte{flags}
	for _, text := range [...]string{p.who.Listener, string(p.who.Address.Unmap().AsSlice()), p.who.CommonName} {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	return string(b)
}

// Recall makes the pass of somebody who was let in before: for a will, or what waits to be published. It need not be in
// the catalog. From is what its pass told; where that is not known, conditions hold for what denies, and for nothing
// else. A name that was not proven, for nobody asked, is nobody's by now.
func (a *Access) Recall(who rule.Subject, from string) *Pass {
	flags, known := recall(&who, from)
	if known && flags&fromProven == 0 && !a.open() {
		who.User = rule.Anonymous
	}
	return &Pass{access: a, who: who, recalled: who.User != rule.Anonymous}
}

// recall reads how somebody was here.
func recall(who *rule.Subject, from string) (flags byte, known bool) {
	if from == "" || from[0]>>fromBits != 0 {
		who.Faint = true
		return 0, false
	}
	var texts [3]string
	rest := []byte(from[1:])
	for i := range texts {
		n, used := binary.Uvarint(rest)
		if used <= 0 || n > uint64(len(rest)-used) {
			who.Faint = true
			return 0, false
		}
		texts[i], rest = string(rest[used:][:n]), rest[uint64(used)+n:]
	}
	who.Address, _ = netip.AddrFromSlice([]byte(texts[1])) // none: from a Unix socket
	who.Listener, who.CommonName, who.Encrypted = texts[0], texts[2], from[0]&fromEncrypted != 0
	return from[0], true
}
