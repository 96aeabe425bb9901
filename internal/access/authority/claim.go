package authority

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Claim lets who knows its token have a certificate. It is not changed once it is in the catalog.
type Claim struct {
	ID string `json:"id"` // how the hash begins
	// Name is whose certificate it is for. With * at the end it is for any name that begins so and has neither a
	// certificate nor a user yet.
	Name  string    `json:"name"`
	Hash  string    `json:"hash"` // SHA-256 of the token, hexadecimal: the token is chance of 192 bits
	Uses  int       `json:"uses"` // that are left
	Until time.Time `json:"until"`
	Roles []string  `json:"roles,omitempty"` // of the user that is made with the certificate
}

// Bounds of claims.
const (
	MaxUses   = 1_000_000
	MaxAwhile = 366 * 24 * time.Hour
)

// claimID is the length of the id of a claim, in bytes.
const claimID = 12

// tokenPrefix begins a token, so that people and scanners of secrets know it.
const tokenPrefix = "fct_"

// tokenBytes is the length of a token: 24 bytes of chance in base64 behind the prefix.
const tokenBytes = len(tokenPrefix) + 32

// IsToken tells whether a password looks like the token of a claim.
func IsToken(password []byte) bool {
	return len(password) == tokenBytes && strings.HasPrefix(string(password), tokenPrefix)
}

// NewClaim is a claim to be made: for whom, how often and for how long.
type NewClaim struct {
	Name  string
	Uses  int
	For   time.Duration
	Roles []string
}

// AddClaim makes a claim and its token, which nobody can be told a second time. Errors: NotFound, there is no
// authority; Invalid; Limited; those of the log.
func (a *Authority) AddClaim(ctx context.Context, n *NewClaim) (c *Claim, token string, err error) {
	name, open := strings.CutSuffix(n.Name, "*")
	switch {
	case !a.Exists():
		return nil, "", errNone()
	case n.Uses < 1 || n.Uses > MaxUses:
		return nil, "", fault.New(fault.Invalid, op, "a claim has 1 to %d uses", MaxUses)
	case n.For <= 0 || n.For > MaxAwhile:
		return nil, "", fault.New(fault.Invalid, op, "a claim is good for at most %d days", MaxAwhile/(24*time.Hour))
	}
	if !open || name != "" {
		if err := CheckName(name); err != nil {
			return nil, "", err
		}
	}
	var chance [24]byte
	_, _ = rand.Read(chance[:]) // never fails
	token = tokenPrefix + base64.RawURLEncoding.EncodeToString(chance[:])
	hash := hashToken([]byte(token))
	c = &Claim{ID: hash[:claimID], Name: n.Name, Hash: hash, Uses: n.Uses,
		Until: a.opt.Clock().Add(n.For).UTC().Truncate(time.Second), Roles: n.Roles}
	a.changing.Lock()
	defer a.changing.Unlock()
	return c, token, a.change(ctx, func() ([]entry, error) {
		a.mu.RLock()
		defer a.mu.RUnlock()
		if len(a.mu.claims) >= maxClaims {
			return nil, fault.New(fault.Limited, op, "there may be %d claims", maxClaims)
		}
		return []entry{ofClaim(c)}, nil
	})
}

func hashToken(token []byte) string {
	sum := sha256.Sum256(token)
	return hex.EncodeToString(sum[:])
}

// RemoveClaim ends a claim. Errors: NotFound; those of the log.
func (a *Authority) RemoveClaim(ctx context.Context, id string) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	return a.change(ctx, func() ([]entry, error) {
		a.mu.RLock()
		defer a.mu.RUnlock()
		if a.mu.claims[id] == nil {
			return nil, fault.New(fault.NotFound, op, "there is no claim %s", fault.Text(id)).
				WithHint("firth cert claims shows them")
		}
		return []entry{{key: claimKey + id}}, nil
	})
}

// Claims lists the claims by name.
func (a *Authority) Claims() []*Claim {
	a.mu.RLock()
	list := slices.Collect(maps.Values(a.mu.claims))
	a.mu.RUnlock()
	slices.SortFunc(list, func(x, y *Claim) int { return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID)) })
	return list
}

// ErrClaim refuses who shows no claim that is good. It does not tell what is wrong with it.
var ErrClaim = fault.New(fault.Denied, "authority.Enrol", "no claim that is good for this name")

// For tells whether a claim is for a name.
func (c *Claim) For(name string) bool {
	if prefix, open := strings.CutSuffix(c.Name, "*"); open {
		return strings.HasPrefix(name, prefix) && CheckName(name) == nil
	}
	return c.Name == name
}

// isOpen tells whether it is for more names than one.
func (c *Claim) isOpen() bool { return strings.HasSuffix(c.Name, "*") }

// Find finds the claim of a token that is good for a name now. Errors: ErrClaim.
func (a *Authority) Find(name string, token []byte) (*Claim, error) {
	if !IsToken(token) {
		return nil, ErrClaim
	}
	hash := hashToken(token)
	a.mu.RLock()
	c := a.mu.claims[hash[:claimID]]
	a.mu.RUnlock()
	if c == nil || subtle.ConstantTimeCompare([]byte(c.Hash), []byte(hash)) != 1 || c.Uses < 1 ||
		!a.opt.Clock().Before(c.Until) || !c.For(name) {
		return nil, ErrClaim
	}
	return c, nil
}

// Enrol issues a certificate to who has a claim, for one of its uses: both are stored together. The subject of the
// request is the name, or empty. known tells whether there is a user of a name. Errors: ErrClaim; Exists, the claim is
// for many names and this one is somebody's; Invalid; as of Issue.
func (a *Authority) Enrol(
	ctx context.Context, name string, token []byte, csr *x509.CertificateRequest, known func(name string) bool,
) (*Issued, *Claim, error) {
	if err := checkSubject(name, csr); err != nil {
		return nil, nil, err
	}
	a.changing.Lock()
	defer a.changing.Unlock()
	c, err := a.Find(name, token) // before anything is signed
	if err != nil {
		return nil, nil, err
	}
	made, err := a.issue(ctx, &Request{CSR: csr, Name: name, By: "claim " + c.ID}, func() ([]entry, error) {
		if c, err = a.Find(name, token); err != nil {
			return nil, err
		}
		if c.isOpen() && (known(name) || len(a.valid(name)) > 0) {
			return nil, fault.New(fault.Exists, op, "%s is somebody's", fault.Text(name)).
				WithHint("firth cert claim %s makes a claim for it alone", fault.Text(name))
		}
		return []entry{c.spent()}, nil
	})
	return made, c, err
}

// spent is what is left of a claim after one more use.
func (c *Claim) spent() entry {
	left := *c
	left.Uses--
	e := ofClaim(&left)
	if left.Uses == 0 {
		e.value = nil
	}
	return e
}

// ReEnrol issues a certificate to who has shown a valid one of ours. Errors: Denied; Invalid; as of Issue.
func (a *Authority) ReEnrol(
	ctx context.Context, shown *x509.Certificate, csr *x509.CertificateRequest,
) (*Issued, error) {
	own, _ := a.signer()
	if own == nil {
		return nil, errNone()
	}
	name, serial := shown.Subject.CommonName, serialText(shown.SerialNumber)
	if err := checkSubject(name, csr); err != nil {
		return nil, err
	}
	a.changing.Lock()
	defer a.changing.Unlock()
	was := a.shown(serial, name)
	if was == nil || shown.CheckSignatureFrom(own) != nil {
		return nil, errShown
	}
	r := &Request{CSR: csr, Name: name, Life: min(was.Until.Sub(was.Issued).Round(time.Hour), MaxLife),
		By: "renewal of " + serial}
	return a.issue(ctx, r, func() ([]entry, error) {
		if a.shown(serial, name) == nil {
			return nil, errShown
		}
		return nil, nil
	})
}

var errShown = fault.New(fault.Denied, op, "the certificate shown is not a valid one of this authority")

// shown is the certificate that somebody shows to get another one; nil: it is good for nothing.
func (a *Authority) shown(serial, name string) *Certificate {
	a.mu.RLock()
	defer a.mu.RUnlock()
	was := a.mu.certificates[serial]
	if was == nil || was.Name != name || was.Server || !was.ValidAt(a.opt.Clock()) {
		return nil
	}
	return was
}

// checkSubject sees that a request asks for a name and for nothing else. Errors: Invalid.
func checkSubject(name string, csr *x509.CertificateRequest) error {
	s := csr.Subject
	if s.CommonName != name && s.CommonName != "" {
		return fault.New(fault.Invalid, op, "the request is for %s, who asks is %s", fault.Text(s.CommonName),
			fault.Text(name))
	}
	return nil
}
