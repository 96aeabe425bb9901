package access

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Delegation is a delegation token of Kafka (KIP-48): who logs in by SCRAM with its id as the user and its HMAC in
// base64 as the password is its owner. It is not changed once it is in the catalog.
type Delegation struct {
	ID        string
	Owner     string // a user, as whom it lets in
	Requester string // the user who asked for it
	Renewers  []string
	Issued    time.Time
	Ends      time.Time // unless it is renewed before
	Last      time.Time // no renewal goes beyond
	verifiers credential.Verifiers
	secret    string // names the secret that its HMAC is made with
}

// storedDelegation is a delegation token as JSON in the catalog. Times are milliseconds since 1970.
type storedDelegation struct {
	Owner     string   `json:"owner"`
	Requester string   `json:"requester"`
	Renewers  []string `json:"renewers,omitempty"`
	Issued    int64    `json:"issued"`
	Ends      int64    `json:"ends"`
	Last      int64    `json:"last"`
	SCRAM256  string   `json:"scram_sha_256"`
	SCRAM512  string   `json:"scram_sha_512"`
	Secret    string   `json:"secret"`
}

func (d *Delegation) value() ([]byte, error) {
	text, err := json.Marshal(storedDelegation{Owner: d.Owner, Requester: d.Requester, Renewers: d.Renewers,
		Issued: d.Issued.UnixMilli(), Ends: d.Ends.UnixMilli(), Last: d.Last.UnixMilli(),
		SCRAM256: d.verifiers.SCRAM256.Text(), SCRAM512: d.verifiers.SCRAM512.Text(), Secret: d.secret})
	return text, fault.Wrap(fault.Internal, "access.Delegation", err)
}

// parseDelegation reads a delegation token of the catalog. Errors: Corrupt, Invalid.
func parseDelegation(id string, value []byte) (*Delegation, error) {
	var s storedDelegation
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, fault.Wrap(fault.Corrupt, "access.Delegation", err)
	}
	d := &Delegation{ID: id, Owner: s.Owner, Requester: s.Requester, Renewers: s.Renewers, secret: s.Secret,
		Issued: time.UnixMilli(s.Issued), Ends: time.UnixMilli(s.Ends), Last: time.UnixMilli(s.Last)}
	for i, text := range [...]string{s.SCRAM256, s.SCRAM512} {
		v, err := credential.ParseSCRAM(text)
		if err != nil {
			return nil, err
		}
		if v.Mechanism() != credential.Mechanisms()[i] {
			return nil, fault.New(fault.Corrupt, "access.Delegation", "a verifier of %s in the place of another", v.Mechanism())
		}
		d.verifiers.Put(v)
	}
	return d, d.check()
}

// check tells what is wrong with a delegation token, and sorts its renewers. Errors: Invalid.
func (d *Delegation) check() (err error) {
	for _, name := range []string{d.Owner, d.Requester} {
		if err := checkName("user", name); err != nil {
			return err
		}
		if name == rule.Anonymous || name == "*" {
			return fault.New(fault.Invalid, "access.Delegation", "%s is not the name of a user", name)
		}
	}
	d.Renewers, err = checkNames("user", d.Renewers)
	return err
}

// mayRenew tells whether a user may renew and end it: its owner, and its renewers.
func (d *Delegation) mayRenew(user string) bool {
	return d.Owner == user || slices.Contains(d.Renewers, user)
}

// Concerns tells whether a user is its owner, asked for it, or may renew it: may see it, that is.
func (d *Delegation) Concerns(user string) bool { return d.Requester == user || d.mayRenew(user) }

// over tells whether it has ended.
func (d *Delegation) over(now time.Time) bool { return !now.Before(d.Ends) }

// delegation finds a delegation token; nil: there is none.
func (a *Access) delegation(id string) *Delegation {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.mu.delegations[id]
}

// delegationsOf are the ids of the delegation tokens that a user owns or has asked for.
func (a *Access) delegationsOf(user string) (ids []string) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for id, d := range a.mu.delegations {
		if d.Owner == user || d.Requester == user {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// foldDelegation takes a delegation token of the catalog, or its end. Errors: Corrupt, Invalid.
func (a *Access) foldDelegation(id string, value []byte) error {
	if value == nil {
		delete(a.mu.delegations, id)
		return nil
	}
	d, err := parseDelegation(id, value)
	if err == nil {
		a.mu.delegations[id] = d
	}
	return err
}

// nameOfSecret names a secret and does not tell it: it has as much chance as its hash.
func nameOfSecret(secret []byte) string {
	sum := sha256.Sum256(secret)
	return hex.EncodeToString(sum[:8])
}

// passwordOf is the password of SCRAM that an HMAC is.
func passwordOf(mac []byte) []byte { return base64.StdEncoding.AppendEncode(nil, mac) }
