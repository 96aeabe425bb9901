package kafka

import (
	"context"
	"encoding/json"
	"math"
	"net/netip"
	"unicode/utf8"

	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// quotasTopic holds the quotas: key the entity, value its quotas, both as JSON; null: it has none.
const quotasTopic = "__firth_quotas"

// mostQuotas is how many entities may have quotas.
const mostQuotas = 10_000

// key is the entity as JSON: {"client-id":"app","user":null}, where null is the default.
func (e quotaEntity) key() string {
	parts := map[string]*string{}
	e.visit(func(kind string, name *string) { parts[kind] = name })
	text, _ := json.Marshal(parts) // strings can always be encoded
	return string(text)
}

// visit names the parts of an entity; a nil name is the default.
func (e quotaEntity) visit(f func(kind string, name *string)) {
	for _, kind := range quotaEntityKinds {
		if part := e.part(kind); part.given {
			var name *string
			if part.name != "" {
				name = &part.name
			}
			f(kind, name)
		}
	}
}

var quotaEntityKinds = []string{"user", "client-id", "ip"}

// part is the part of an entity by its kind, nil for a kind that is none.
func (e *quotaEntity) part(kind string) *quotaPart {
	switch kind {
	case "user":
		return &e.user
	case "client-id":
		return &e.client
	case "ip":
		return &e.ip
	}
	return nil
}

// set gives an entity another part. Errors: coded.
func (e *quotaEntity) set(kind string, name *string) error {
	p := e.part(kind)
	switch {
	case p == nil:
		return refusal(wire.InvalidRequest, "a quota entity of type %q is not known", kind)
	case name != nil && *name == "":
		return refusal(wire.InvalidRequest, "an empty %s has no quotas", kind)
	case name != nil && !utf8.ValidString(*name):
		return refusal(wire.InvalidRequest, "the %s is not UTF-8", kind)
	}
	*p = quotaPart{given: true}
	if name != nil {
		p.name = *name
	}
	return nil
}

// check tells what is wrong with an entity. Errors: coded.
func (e *quotaEntity) check() error {
	switch {
	case *e == quotaEntity{}:
		return refusal(wire.InvalidRequest, "a quota entity without a type")
	case e.ip.given && (e.user.given || e.client.given):
		return refusal(wire.InvalidRequest, "a quota is for an address or for a user and a client id")
	case e.ip.name != "":
		ip, err := netip.ParseAddr(e.ip.name)
		if err != nil {
			return refusal(wire.InvalidRequest, "%q is no IP address", e.ip.name)
		}
		e.ip.name = ip.Unmap().String()
	}
	return nil
}

// kindOf finds a quota that an entity may have by its name. Errors: coded.
func (e *quotaEntity) kindOf(name string) (quotaKind, error) {
	for kind, is := range quotaNames {
		if is == name && (quotaKind(kind) == connectRate) == e.ip.given {
			return quotaKind(kind), nil
		}
	}
	return 0, refusal(wire.InvalidRequest, "%s is no quota of %s", name, e.key())
}

// check tells what is wrong with the value of a quota. Errors: coded.
func (kind quotaKind) check(value float64) error {
	switch {
	case !(value > 0) || math.IsInf(value, 0):
		return refusal(wire.InvalidRequest, "%s must be greater than 0", quotaNames[kind])
	case kind != requestTime && kind != changeRate && value != math.Trunc(value):
		return refusal(wire.InvalidRequest, "%s is a whole number", quotaNames[kind])
	case kind == connectRate && value > math.MaxInt32, value > math.MaxInt64:
		return refusal(wire.InvalidRequest, "%s is too large", quotaNames[kind])
	}
	return nil
}

// openQuotas reads the quotas. What is not understood is left alone.
func (d *Door) openQuotas(ctx context.Context) error {
	t := d.log.Topics().ByName(quotasTopic)
	if t == nil {
		return nil
	}
	all := map[quotaEntity]quotaValues{}
	folded, err := stream.Fold(ctx, d.log, t.Partitions[0], 0, func(v *record.View) error {
		entity, values, err := parseQuota(v)
		if err == nil {
			all[entity] = values
		}
		return err
	})
	if err != nil {
		return err
	}
	if !folded.Complete() {
		d.opt.Logger.Warn("kafka: quotas were left out", "lost", folded.Lost, "strange", folded.Strange,
			"error", folded.First)
	}
	d.quotas.table.Store((*quotaTable)(nil).with(all))
	return nil
}

// parseQuota reads a record of the topic.
func parseQuota(v *record.View) (entity quotaEntity, values quotaValues, err error) {
	const op = "kafka.quotas"
	var parts map[string]*string
	if err := json.Unmarshal(v.Key, &parts); err != nil {
		return entity, values, fault.Wrap(fault.Corrupt, op, err)
	}
	for kind, name := range parts {
		if err := entity.set(kind, name); err != nil {
			return entity, values, fault.Wrap(fault.Unsupported, op, err)
		}
	}
	if err := entity.check(); err != nil {
		return entity, values, fault.Wrap(fault.Unsupported, op, err)
	}
	if v.Value == nil {
		return entity, values, nil
	}
	var rates map[string]float64
	if err := json.Unmarshal(v.Value, &rates); err != nil {
		return entity, values, fault.Wrap(fault.Corrupt, op, err)
	}
	for name, rate := range rates {
		kind, err := entity.kindOf(name)
		if err != nil {
			return entity, values, fault.Wrap(fault.Unsupported, op, err)
		}
		values[kind] = rate
	}
	return entity, values, nil
}

// value is the quotas as JSON, nil for none.
func (v quotaValues) value() []byte {
	rates := map[string]float64{}
	for kind, rate := range v {
		if rate > 0 {
			rates[quotaNames[kind]] = rate
		}
	}
	if len(rates) == 0 {
		return nil
	}
	text, _ := json.Marshal(rates) // they are finite
	return text
}

// quotaChange is what is to become of the quotas of one entity; 0 takes one away.
type quotaChange struct {
	entity quotaEntity
	rates  map[quotaKind]float64
}

// alterQuotas changes quotas for a client, all that are given in one unit of the log.
func (d *Door) alterQuotas(ctx context.Context, c *conn, changes []quotaChange) error {
	return d.changeQuotas(c.as(ctx), changes, nil)
}

// changeQuotas changes quotas, all that are given in one unit of the log, unless judge refuses what is there.
func (d *Door) changeQuotas(ctx context.Context, changes []quotaChange, judge func(*quotaTable) error) error {
	q := d.quotas
	q.changing.Lock()
	defer q.changing.Unlock()
	table := q.table.Load()
	if judge != nil {
		if err := judge(table); err != nil {
			return err
		}
	}
	changed := map[quotaEntity]quotaValues{}
	for _, change := range changes {
		values, ok := changed[change.entity]
		if !ok && table != nil {
			values = table.of[change.entity]
		}
		for kind, rate := range change.rates {
			values[kind] = rate
		}
		changed[change.entity] = values
	}
	next := table.with(changed)
	if next != nil && len(next.of) > mostQuotas {
		return refusal(wire.PolicyViolation, "more than %d users, client ids and addresses with quotas", mostQuotas)
	}
	var records []record.Record
	before, after := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	for entity, values := range changed {
		if table != nil {
			was := table.of[entity]
			before[entity.key()] = was.value()
		}
		after[entity.key()] = values.value()
		records = append(records, record.Record{
			Timestamp: wallMillis(), Key: []byte(entity.key()), Value: values.value(),
		})
	}
	a := alteration{"quotas.set", chain.Resource{Kind: "quotas", Name: changes[0].entity.key()}, before, after}
	store := func() error { return stream.StoreState(ctx, d.log, quotasTopic, records) }
	if err := d.opt.alterAs(ctx, a, store); err != nil {
		return err
	}
	q.table.Store(next)
	return nil
}
