package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeClientQuotas (48): v0-1.
//
// Behaviour
//   - The quotas of users, client ids and addresses that match each component of the filter; with strict, of those that
//     have no other part. No component matches all, or with strict none (KIP-546).
//   - A type of entity that is not known is UNSUPPORTED_VERSION; one that is named twice or not at all, an address
//     beside a user or a client id, and a name where none belongs are INVALID_REQUEST.
//
// Versions: 1 flexible.

// describeClientQuotas answers DescribeClientQuotas.
func (d *Door) describeClientQuotas(
	_ context.Context, c *conn, req *kmsg.DescribeClientQuotasRequest,
) (*kmsg.DescribeClientQuotasResponse, error) {
	resp := kmsg.NewPtrDescribeClientQuotasResponse()
	err := checkQuotaFilter(req.Components)
	if !d.may(c, OpDescribeConfigs, OnCluster, ClusterResource) {
		err = refusal(wire.ClusterAuthorizationFailed, "the quotas cannot be described")
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = createCode(err), new(err.Error())
		return resp, nil
	}
	resp.Entries = []kmsg.DescribeClientQuotasResponseEntry{} // null is for errors
	table := d.quotas.table.Load()
	for _, entity := range table.entities() {
		if !entity.matches(req) {
			continue
		}
		entry := kmsg.NewDescribeClientQuotasResponseEntry()
		entity.visit(func(kind string, name *string) {
			part := kmsg.NewDescribeClientQuotasResponseEntryEntity()
			part.Type, part.Name = kind, name
			entry.Entity = append(entry.Entity, part)
		})
		for kind, rate := range table.of[entity] {
			if rate > 0 {
				value := kmsg.NewDescribeClientQuotasResponseEntryValue()
				value.Key, value.Value = quotaNames[kind], rate
				entry.Values = append(entry.Values, value)
			}
		}
		resp.Entries = append(resp.Entries, entry)
	}
	return resp, nil
}

// checkQuotaFilter tells what is wrong with a filter. Errors: coded.
func checkQuotaFilter(components []kmsg.DescribeClientQuotasRequestComponent) error {
	seen := map[string]bool{}
	for i := range components {
		f := &components[i]
		named := f.MatchType == kmsg.QuotasMatchTypeExact
		switch {
		case f.EntityType == "":
			return refusal(wire.InvalidRequest, "a filter without a type")
		case (&quotaEntity{}).part(f.EntityType) == nil:
			return refusal(wire.UnsupportedVersion, "a quota entity of type %q is not known", f.EntityType)
		case seen[f.EntityType]:
			return refusal(wire.InvalidRequest, "two filters of type %s", f.EntityType)
		case f.MatchType < kmsg.QuotasMatchTypeExact || f.MatchType > kmsg.QuotasMatchTypeAny:
			return refusal(wire.InvalidRequest, "a filter that matches in a way that is not known: %d", f.MatchType)
		case named != (f.Match != nil):
			return refusal(wire.InvalidRequest, "a filter that matches a name has one, another has none")
		}
		seen[f.EntityType] = true
	}
	if seen["ip"] && len(seen) > 1 {
		return refusal(wire.InvalidRequest, "a quota is for an address or for a user and a client id")
	}
	return nil
}

// matches tells whether a filter is about an entity.
func (e quotaEntity) matches(req *kmsg.DescribeClientQuotasRequest) bool {
	for i := range req.Components {
		f := &req.Components[i]
		part := e.part(f.EntityType)
		switch {
		case !part.given,
			f.MatchType == kmsg.QuotasMatchTypeExact && part.name != *f.Match,
			f.MatchType == kmsg.QuotasMatchTypeDefault && part.name != "":
			return false
		}
		*part = quotaPart{}
	}
	return !req.Strict || e == quotaEntity{}
}
