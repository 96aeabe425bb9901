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
func (a *Authority) read(ctx context.Context) error {
	folded, err := stream.FoldState(ctx, a.opt.Log, TopicName, a.apply)
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

// store stores entries in one unit, and puts them in force. The caller holds changing.
func (a *Authority) store(ctx context.Context, entries ...entry) error {
	now := a.opt.Clock().UnixMilli()
	records := make([]record.Record, len(entries))
	for i, e := range entries {
		records[i] = record.Record{Timestamp: now, Key: []byte(e.key)}
		if e.value == nil {
			continue
		}
		var err error
		if records[i].Value, err = json.Marshal(e.value); err != nil {
			return fault.Wrap(fault.Internal, op, err)
		}
	}
	// Who asked may go meanwhile: what is stored is in force all the same.
	if err := stream.StoreState(context.WithoutCancel(ctx), a.opt.Log, TopicName, records); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range records {
		_ = a.apply(string(records[i].Key), records[i].Value) // they are ours
	}
	return nil
}

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
