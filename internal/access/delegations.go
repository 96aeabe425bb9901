package access

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"maps"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/verify"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

// DelegationFile is the file in the data folder that holds the secret of which the HMACs of delegation tokens are made,
// 64 bytes of chance, mode 0600. It is made with the first token.
const DelegationFile = "delegation.key"

// The bounds of delegation tokens; the first three are the defaults of Kafka.
const (
	DelegationLife    = 7 * 24 * time.Hour // delegation.token.max.lifetime.ms
	DelegationRenewal = 24 * time.Hour     // delegation.token.expiry.time.ms
	delegationSweep   = time.Hour          // delegation.token.expiry.check.interval.ms
	maxDelegations    = 1000               // of one requester
	delegationSecret  = 64                 // bytes
)

// Why something is not done to a delegation token.
var (
	ErrNoDelegation    = fault.New(fault.NotFound, "access.Delegations", "there is no such delegation token")
	ErrDelegationEnded = fault.New(fault.Denied, "access.Delegations", "the delegation token has ended")
	ErrNotRenewer      = fault.New(fault.Denied, "access.Delegations", "neither the owner nor a renewer of the token")
)

// Delegations makes delegation tokens, and knows whose they are. It may be used from any goroutine.
type Delegations struct{ a *Access }

// Delegations are those of the catalog; nil: there is no folder for their secret, so there are none.
func (a *Access) Delegations() *Delegations {
	if a.opt.FS == nil {
		return nil
	}
	return &Delegations{a}
}

// readDelegationSecret reads the secret; there may be none. Errors: Corrupt; those of the disk.
func (a *Access) readDelegationSecret() error {
	if a.opt.FS == nil {
		return nil
	}
	secret, err := vfs.ReadWhole(a.opt.FS, DelegationFile, delegationSecret)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil
	case err == nil && len(secret) != delegationSecret, fault.Is(err, fault.TooLarge):
		return fault.New(fault.Corrupt, "access.Open", "%s does not hold %d bytes", DelegationFile, delegationSecret).
			WithHint("put the file back from a backup; or remove it: the delegation tokens of now are good no more")
	case err != nil:
		return err
	}
	a.mu.master, a.mu.masterName = secret, nameOfSecret(secret)
	return nil
}

// master is the secret of delegation tokens; nil: there is none yet.
func (a *Access) master() []byte {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.mu.master
}

// makeMaster makes the secret if there is none. Who calls it holds changing.
func (a *Access) makeMaster() ([]byte, error) {
	if secret := a.master(); secret != nil {
		return secret, nil
	}
	secret := make([]byte, delegationSecret)
	rand.Read(secret) // never fails
	if err := vfs.WriteWhole(a.opt.FS, DelegationFile, secret); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.master, a.mu.masterName = secret, nameOfSecret(secret)
	return secret, nil
}

func hmacOf(secret []byte, id string) []byte {
	h := hmac.New(sha512.New, secret)
	h.Write([]byte(id))
	return h.Sum(nil)
}

// HMAC is what proves a token, as Kafka computes it: HMAC-SHA-512 of its id.
func (ds *Delegations) HMAC(d *Delegation) []byte { return hmacOf(ds.a.master(), d.ID) }

// Create makes a token: Owner, Requester and Renewers are said, the rest is made. Life is how long it can be renewed,
// at most and, if it is 0, DelegationLife. Errors: Limited when the requester has too many; those of Apply.
func (ds *Delegations) Create(ctx context.Context, said Delegation, life time.Duration) (*Delegation, error) {
	a := ds.a
	if err := said.check(); err != nil {
		return nil, err
	}
	for said.ID = ""; said.ID == "" || said.ID[0] == '-'; { // which would be an option of a command
		var id [16]byte
		rand.Read(id[:]) // never fails
		said.ID = base64.RawURLEncoding.EncodeToString(id[:])
	}
	if life <= 0 || life > DelegationLife {
		life = DelegationLife
	}
	now := a.opt.Clock().Truncate(time.Millisecond)
	said.Issued, said.Last = now, now.Add(life)
	said.Ends = now.Add(min(life, DelegationRenewal))
	err := a.Edit(ctx, func(*Catalog) (*Change, error) {
		c := &Change{Undelegated: ds.over()}
		if ds.askedBy(said.Requester) >= maxDelegations {
			return nil, fault.New(fault.Limited, "access.Delegations", "a user may have asked for %d delegation tokens",
				maxDelegations)
		}
		secret, err := a.makeMaster()
		if err != nil {
			return nil, err
		}
		said.secret = nameOfSecret(secret)
		for _, m := range credential.Mechanisms() { // of 512 bits of chance: nobody guesses, however few the iterations
			s, err := credential.NewSCRAM(m, passwordOf(hmacOf(secret, said.ID)), verify.Salt(), credential.MinIterations)
			if err != nil {
				return nil, err
			}
			said.verifiers.Put(s)
		}
		c.Delegations = []*Delegation{&said}
		return c, nil
	})
	return &said, err
}

// askedBy counts the tokens that a user has asked for and that have not ended.
func (ds *Delegations) askedBy(requester string) (n int) {
	for _, d := range ds.List() {
		if d.Requester == requester {
			n++
		}
	}
	return n
}

// Renew has a token, known by its HMAC, end so much later than now; 0: DelegationRenewal, which is the most. By is the
// user who asks. Errors: ErrNoDelegation, ErrDelegationEnded, ErrNotRenewer; those of Apply.
func (ds *Delegations) Renew(ctx context.Context, mac []byte, by string, span time.Duration) (time.Time, error) {
	if span <= 0 || span > DelegationRenewal {
		span = DelegationRenewal
	}
	return ds.alter(ctx, mac, by, func(d *Delegation, now time.Time) (*Change, time.Time) {
		return d.until(now.Add(span))
	})
}

// Expire has a token end so long from now; below 0: at once. Otherwise it is as Renew.
func (ds *Delegations) Expire(ctx context.Context, mac []byte, by string, span time.Duration) (time.Time, error) {
	return ds.alter(ctx, mac, by, func(d *Delegation, now time.Time) (*Change, time.Time) {
		if span < 0 {
			return &Change{Undelegated: []string{d.ID}}, now
		}
		return d.until(now.Add(min(span, DelegationLife)))
	})
}

// until is the change that has it end at some time, or at the last that it can.
func (d *Delegation) until(end time.Time) (*Change, time.Time) {
	next := *d
	if next.Ends = end; next.Last.Before(end) {
		next.Ends = next.Last
	}
	return &Change{Delegations: []*Delegation{&next}}, next.Ends
}

// alter changes a token that somebody knows the HMAC of.
func (ds *Delegations) alter(
	ctx context.Context, mac []byte, by string, change func(*Delegation, time.Time) (*Change, time.Time),
) (ends time.Time, err error) {
	err = ds.a.Edit(ctx, func(*Catalog) (c *Change, err error) {
		now := ds.a.opt.Clock().Truncate(time.Millisecond)
		d := ds.byHMAC(mac)
		switch {
		case d == nil:
			return nil, ErrNoDelegation
		case d.over(now):
			return nil, ErrDelegationEnded
		case !d.mayRenew(by):
			return nil, ErrNotRenewer
		}
		c, ends = change(d, now)
		return c, nil
	})
	return ends, err
}

// byHMAC finds a token by what proves it; nil: there is none. One that has ended may be there.
func (ds *Delegations) byHMAC(mac []byte) *Delegation {
	for _, d := range ds.a.Catalog().Delegations() {
		if ds.sound(d) && hmac.Equal(ds.HMAC(d), mac) {
			return d
		}
	}
	return nil
}

// sound tells whether a token is of the secret of now: those of another one are good no more.
func (ds *Delegations) sound(d *Delegation) bool {
	ds.a.mu.RLock()
	defer ds.a.mu.RUnlock()
	return ds.a.mu.masterName != "" && d.secret == ds.a.mu.masterName
}

// good finds a token that lets in; nil: there is none.
func (ds *Delegations) good(id string) *Delegation {
	d := ds.a.delegation(id)
	if d == nil || !ds.sound(d) || d.over(ds.a.opt.Clock()) {
		return nil
	}
	return d
}

// Lookup implements verify.Users, with ids of tokens as the names.
func (ds *Delegations) Lookup(id string) (*credential.Verifiers, bool) {
	d := ds.good(id)
	if d == nil {
		return nil, false
	}
	if u := ds.a.user(d.Owner); u != nil && u.Disabled {
		return nil, false
	}
	return &d.verifiers, true
}

// Grant is what a token gives to who has proven it. Errors: Denied when it has ended meanwhile.
func (ds *Delegations) Grant(id string) (*Grant, error) {
	d := ds.good(id)
	if d == nil {
		return nil, ErrDelegationEnded
	}
	return &Grant{User: d.Owner, Ends: d.Ends, delegation: d.ID}, nil
}

// List lists the tokens that are good, the oldest first.
func (ds *Delegations) List() []*Delegation {
	if ds == nil {
		return nil
	}
	now := ds.a.opt.Clock()
	return slices.DeleteFunc(ds.a.Catalog().Delegations(), func(d *Delegation) bool { return d.over(now) || !ds.sound(d) })
}

// over are the ids of the tokens that have ended, or are of another secret.
func (ds *Delegations) over() (ids []string) {
	now := ds.a.opt.Clock()
	for _, d := range ds.a.Catalog().Delegations() {
		if d.over(now) || !ds.sound(d) {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

// Run removes tokens that have ended every hour, until ctx ends: what is left of their connections ends then.
func (ds *Delegations) Run(ctx context.Context) {
	t := time.NewTicker(delegationSweep)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := ds.Sweep(ctx); err != nil && ctx.Err() == nil {
			ds.a.opt.Logger.Warn("delegation tokens that have ended could not be removed", "because", err)
		}
	}
}

// Sweep removes the tokens that have ended. Errors: those of Apply.
func (ds *Delegations) Sweep(ctx context.Context) error {
	return ds.a.Edit(ctx, func(*Catalog) (*Change, error) { return &Change{Undelegated: ds.over()}, nil })
}

// Delegations lists the delegation tokens, the oldest first, those that have ended and are not removed yet, too.
func (c *Catalog) Delegations() []*Delegation {
	c.a.mu.RLock()
	defer c.a.mu.RUnlock()
	return slices.SortedFunc(maps.Values(c.a.mu.delegations), func(x, y *Delegation) int {
		return cmp.Or(x.Issued.Compare(y.Issued), cmp.Compare(x.ID, y.ID))
	})
}
