package kafka

import (
	"context"
	"errors"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
)

// QuotaEntity is whom a quota is for: a user, a client id, both, or an address. nil: it is for no such one; an empty
// name: for all that have none of their own.
type QuotaEntity struct{ User, ClientID, Address *string }

// QuotaLook is the quotas of somebody, by Kafka's names, for who looks after the door.
type QuotaLook struct {
	Who   QuotaEntity
	Rates map[string]float64
}

// EachQuota visits the quotas that are set.
func (d *Door) EachQuota(visit func(*QuotaLook)) {
	table := d.quotas.table.Load()
	for _, entity := range table.entities() {
		visit(&QuotaLook{Who: entity.look(), Rates: table.of[entity].look()})
	}
}

func (e quotaEntity) look() (who QuotaEntity) {
	for _, of := range []struct {
		at   **string
		part quotaPart
	}{{&who.User, e.user}, {&who.ClientID, e.client}, {&who.Address, e.ip}} {
		if of.part.given {
			*of.at = &of.part.name
		}
	}
	return who
}

func (v quotaValues) look() map[string]float64 {
	rates := map[string]float64{}
	for kind, rate := range v {
		if rate > 0 {
			rates[quotaNames[kind]] = rate
		}
	}
	return rates
}

// SetQuota makes rates be the quotas of somebody, and no others, unless judge refuses what was there. Who asks is known
// by the context (audit.As). Errors: Invalid, Limited; those of judge and of the log.
func (d *Door) SetQuota(ctx context.Context, q *QuotaLook, judge func(was map[string]float64) error) error {
	change, err := q.change()
	if err == nil {
		err = d.changeQuotas(ctx, []quotaChange{change}, func(table *quotaTable) error {
			if table == nil {
				return judge(nil)
			}
			return judge(table.of[change.entity].look())
		})
	}
	if e, is := errors.AsType[coded](err); is {
		kind := fault.Invalid
		if e.code == wire.PolicyViolation {
			kind = fault.Limited
		}
		return fault.New(kind, "kafka.SetQuota", "%w", e.error)
	}
	return err
}

// change is what is to become of every quota. Errors: coded.
func (q *QuotaLook) change() (c quotaChange, err error) {
	for _, of := range []struct {
		kind string
		name *string
	}{{"user", q.Who.User}, {"client-id", q.Who.ClientID}, {"ip", q.Who.Address}} {
		if of.name == nil {
			continue
		}
		if *of.name == "" { // the default
			of.name = nil
		}
		if err := c.entity.set(of.kind, of.name); err != nil {
			return c, err
		}
	}
	if err := c.entity.check(); err != nil {
		return c, err
	}
	c.rates = map[quotaKind]float64{}
	for kind := range quotaKinds {
		c.rates[kind] = 0
	}
	for name, rate := range q.Rates {
		kind, err := c.entity.kindOf(name)
		if err == nil {
			err = kind.check(rate)
		}
		if err != nil {
			return c, err
		}
		c.rates[kind] = rate
	}
	return c, nil
}
