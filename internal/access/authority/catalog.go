package authority

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/replica"
	"github.com/firthmq/firth/internal/log/stream"
)

// How the keys of the catalog begin.
const (
	certificateKey = "certificate/" // and the serial, hexadecimal
	claimKey       = "claim/"       // and the id
)

// Bounds of the catalog.
const (
	maxCertificates = 1_000_000
	maxClaims       = 100_000
)

// Certificate is one that was issued, as the catalog has it. It is not changed once it is there.
type Certificate struct {
	Serial string    `json:"serial"` // hexadecimal
	Name   string    `json:"name"`   // the common name: the user that it stands for
	Server bool      `json:"server,omitempty"`
	Names  []string  `json:"names,omitempty"` // of a server: its DNS names and addresses
	Issued time.Time `json:"issued"`
	Until  time.Time `json:"until"`
	By     string    `json:"by,omitempty"` // whose wish it was
	// Revoked is when it was revoked; nil: it is not.
	Revoked *time.Time `json:"revoked,omitempty"`
	Reason  string     `json:"reason,omitempty"`
}

// ValidAt tells whether a certificate is neither revoked nor over.
func (c *Certificate) ValidAt(now time.Time) bool { return c.Revoked == nil && now.Before(c.Until) }

// read folds the catalog.
func (a *Authority) read(ctx context.Context) (err error) {
	var folded stream.Folded
	if a.opt.Shared {
		a.replica, folded, err = replica.Open(ctx, replica.Options{Log: a.opt.Log, Topic: TopicName, Take: a.take,
			AcceptDamage: a.opt.AcceptDamage, Logger: a.opt.Logger, Passed: a.opt.Passed})
	} else {
		folded, err = stream.FoldState(ctx, a.opt.Log, TopicName, a.apply)
	}
	if err != nil || folded.Complete() {
		return err
	}
	if !a.opt.AcceptDamage {
		return folded.Damage("authority.Open", TopicName).WithHint("what is missing may be a certificate that was " +
			"revoked. Restore the data directory, or start with access.damaged: accept and look at firth cert list")
	}
	a.opt.Logger.Error("certificates or claims are missing: their records cannot be read", "lost", folded.Lost,
		"strange", folded.Strange, "error", folded.First)
	return nil
}

// apply takes a record of the catalog. Errors: Corrupt, Unsupported.
func (a *Authority) apply(key string, value []byte) error {
	if serial, is := strings.CutPrefix(key, certificateKey); is {
		if value == nil {
			a.forget(serial)
			return nil
		}
		var c Certificate
		if err := json.Unmarshal(value, &c); err != nil || c.Serial != serial {
			return fault.New(fault.Corrupt, "authority.Open", "the certificate %s: %v", fault.Text(serial), err)
		}
		if a.mu.certificates[serial] == nil {
			a.mu.byName[c.Name] = append(a.mu.byName[c.Name], serial)
		}
		a.mu.certificates[serial] = &c
		if c.Revoked != nil {
			a.mu.revoked++
		}
		return nil
	}
	id, is := strings.CutPrefix(key, claimKey)
	switch {
	case !is:
		return fault.New(fault.Unsupported, "authority.Open", "a record with the key %s", fault.Text(key))
	case value == nil:
		delete(a.mu.claims, id)
		return nil
	}
	var c Claim
	if err := json.Unmarshal(value, &c); err != nil || c.ID != id {
		return fault.New(fault.Corrupt, "authority.Open", "the claim %s: %v", fault.Text(id), err)
	}
	a.mu.claims[id] = &c
	return nil
}

func (a *Authority) forget(serial string) {
	c := a.mu.certificates[serial]
	if c == nil {
		return
	}
	delete(a.mu.certificates, serial)
	rest := slices.DeleteFunc(a.mu.byName[c.Name], func(s string) bool { return s == serial })
	if a.mu.byName[c.Name] = rest; len(rest) == 0 {
		delete(a.mu.byName, c.Name)
	}
}

// entry is one key of the catalog and what becomes of it; nil: it goes.
type entry struct {
	key   string
	value any
}

func ofCertificate(c *Certificate) entry { return entry{certificateKey + c.Serial, c} }

func ofClaim(c *Claim) entry { return entry{claimKey + c.ID, c} }

// change stores what decide finds by what is there, in one unit, and puts it in force. Where the catalog is shared,
// decide is asked again when another node has changed something. The caller holds changing.
func (a *Authority) change(ctx context.Context, decide func() ([]entry, error)) error {
	ctx = context.WithoutCancel(ctx) // who asked may go meanwhile: what is stored is in force all the same
	find := func() ([]record.Record, error) {
		entries, err := decide()
		if err != nil {
			return nil, err
		}
		return a.records(entries)
	}
	if a.replica != nil {
		return a.replica.Edit(ctx, find)
	}
	records, err := find()
	if err != nil || len(records) == 0 {
		return err
	}
	return replica.StoreAlone(ctx, a.opt.Log, TopicName, records, a.take)
}

// records are what entries become in the log.
func (a *Authority) records(entries []entry) ([]record.Record, error) {
	now := a.opt.Clock().UnixMilli()
	records := make([]record.Record, len(entries))
	for i, e := range entries {
		records[i] = record.Record{Timestamp: now, Key: []byte(e.key)}
		if e.value == nil {
			continue
		}
		var err error
		if records[i].Value, err = json.Marshal(e.value); err != nil {
			return nil, fault.Wrap(fault.Internal, op, err)
		}
	}
	return records, nil
}

// take takes records in that are stored. Anew, what was there before is not any more. What is revoked has to be listed:
// who has changed it does so, or Run, at once.
func (a *Authority) take(anew bool, feed func(apply func(key string, value []byte) error)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if anew {
		a.clear()
	}
	before := a.mu.revoked
	feed(a.apply)
	if !anew && a.mu.revoked == before {
		return
	}
	a.mu.listed = time.Time{}
	select {
	case a.revoked <- struct{}{}:
	default: // a token is there
	}
}

// clear forgets what the catalog says. It needs the lock of mu.
func (a *Authority) clear() {
	a.mu.certificates, a.mu.byName, a.mu.claims = map[string]*Certificate{}, map[string][]string{}, map[string]*Claim{}
}

// Unsure tells why it is not known what is revoked: others may have changed a catalog that is shared, and that cannot
// be read. nil: it is known. Errors: Unavailable, Corrupt.
func (a *Authority) Unsure() error {
	if a.replica == nil {
		return nil
	}
	return a.replica.Unsure()
}

// Follow follows a catalog that is shared, until ctx ends.
func (a *Authority) Follow(ctx context.Context) error { return a.replica.Run(ctx) }

// Certificates lists what was issued, by name and then the oldest first.
func (a *Authority) Certificates() []*Certificate {
	a.mu.RLock()
	list := slices.Collect(maps.Values(a.mu.certificates))
	a.mu.RUnlock()
	slices.SortFunc(list, func(x, y *Certificate) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), x.Issued.Compare(y.Issued), cmp.Compare(x.Serial, y.Serial))
	})
	return list
}

// valid are the certificates of a name that are neither revoked nor over, the newest last.
func (a *Authority) valid(name string) []*Certificate {
	now := a.opt.Clock()
	a.mu.RLock()
	defer a.mu.RUnlock()
	var list []*Certificate
	for _, serial := range a.mu.byName[name] {
		if c := a.mu.certificates[serial]; c.ValidAt(now) {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(x, y *Certificate) int { return x.Issued.Compare(y.Issued) })
	return list
}
