package kafka

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// IncrementalAlterConfigs (44): v0-1.
//
// Behaviour
//   - Sets and deletes settings of a topic, and appends to and subtracts from lists; what is not named
//     stays (KIP-339). All faults are told at once, in one INVALID_CONFIG, and then nothing changes.
//   - A resource or a setting named twice is INVALID_REQUEST. The broker, and the
//     floor of retention: see AlterConfigs.
//
// Versions: 1 flexible.

// incrementalAlterConfigs answers IncrementalAlterConfigs.
func (d *Door) incrementalAlterConfigs(
	ctx context.Context, c *conn, req *kmsg.IncrementalAlterConfigsRequest,
) (*kmsg.IncrementalAlterConfigsResponse, error) {
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	seen := map[resource]int{}
	for i := range req.Resources {
		seen[resource{req.Resources[i].ResourceType, req.Resources[i].ResourceName}]++
	}
	for i := range req.Resources {
		rr := &req.Resources[i]
		var err error
		switch {
		case seen[resource{rr.ResourceType, rr.ResourceName}] > 1:
			err = refusal(wire.InvalidRequest, "the resource is named twice")
		case namedTwice(rr.Configs) != "":
			err = refusal(wire.InvalidRequest, "setting %q is named twice", namedTwice(rr.Configs))
		case rr.ResourceType == kmsg.ConfigResourceTypeBroker:
			err = d.alterBroker(ctx, c, rr.ResourceName, req.ValidateOnly, func(set map[string]string) []error {
				return incrementBroker(set, rr.Configs)
			})
		case rr.ResourceType == kmsg.ConfigResourceTypeGroupConfig:
			err = d.alterGroupConfig(ctx, c, rr.ResourceName, req.ValidateOnly, func(set map[string]string) []error {
				return incrementGroup(set, rr.Configs)
			})
		case rr.ResourceType == kmsg.ConfigResourceTypeClientMetrics:
			err = d.alterSubscription(ctx, c, rr.ResourceName, req.ValidateOnly, func(set map[string]string) []error {
				return incrementSubscription(set, rr.Configs)
			})
		default:
			err = d.alterResource(ctx, c, resource{rr.ResourceType, rr.ResourceName}, req.ValidateOnly,
				func(t *stream.Topic) (stream.TopicChange, []error) { return d.incrementConfig(t, rr.Configs) })
		}
		answer := kmsg.NewIncrementalAlterConfigsResponseResource()
		answer.ResourceType, answer.ResourceName = rr.ResourceType, rr.ResourceName
		answer.ErrorCode, answer.ErrorMessage = createCode(err), words(err)
		resp.Resources = append(resp.Resources, answer)
	}
	return resp, nil
}

// incrementBroker changes the settings of the broker by the operations.
func incrementBroker(
	set map[string]string, configs []kmsg.IncrementalAlterConfigsRequestResourceConfig,
) (faults []error) {
	for i := range configs {
		cfg := &configs[i]
		switch {
		case cfg.Op == kmsg.IncrementalAlterConfigOpDelete && findDynamic(cfg.Name) != nil:
			delete(set, cfg.Name)
		case cfg.Op == kmsg.IncrementalAlterConfigOpSet && cfg.Value != nil:
			set[cfg.Name] = *cfg.Value
		case cfg.Op == kmsg.IncrementalAlterConfigOpSet:
			faults = append(faults, fmt.Errorf("broker setting %s: null is no value", cfg.Name))
		default:
			faults = append(faults, fmt.Errorf("broker setting %s: it can be set or deleted, if it can be changed", cfg.Name))
		}
	}
	return faults
}

// namedTwice is a setting that is there more than once, or "".
func namedTwice(configs []kmsg.IncrementalAlterConfigsRequestResourceConfig) string {
	seen := map[string]bool{}
	for i := range configs {
		if seen[configs[i].Name] {
			return configs[i].Name
		}
		seen[configs[i].Name] = true
	}
	return ""
}

// incrementConfig is the change that the operations make to t.
func (d *Door) incrementConfig(
	t *stream.Topic, configs []kmsg.IncrementalAlterConfigsRequestResourceConfig,
) (stream.TopicChange, []error) {
	change := stream.TopicChange{Set: map[string]string{}}
	var faults []error
	for i := range configs {
		cfg := &configs[i]
		def := stream.FindSetting(cfg.Name)
		switch {
		case def == nil:
			faults = append(faults, fmt.Errorf("topic setting: unknown setting %q", cfg.Name))
		case cfg.Op == kmsg.IncrementalAlterConfigOpDelete:
			change.Unset = append(change.Unset, cfg.Name)
		case cfg.Value == nil:
			faults = append(faults, fmt.Errorf("topic setting %s: null is no value", cfg.Name))
		case cfg.Op == kmsg.IncrementalAlterConfigOpSet:
			change.Set[cfg.Name] = *cfg.Value
		case cfg.Op != kmsg.IncrementalAlterConfigOpAppend && cfg.Op != kmsg.IncrementalAlterConfigOpSubtract:
			faults = append(faults, fmt.Errorf("topic setting %s: unknown operation %d", cfg.Name, cfg.Op))
		case def.Type != stream.TypeList:
			faults = append(faults, fmt.Errorf("topic setting %s: is no list", cfg.Name))
		default:
			now, _ := d.topicSetting(t, def)
			change.Set[cfg.Name] = changeList(now, *cfg.Value, cfg.Op == kmsg.IncrementalAlterConfigOpAppend)
		}
	}
	return change, append(faults, checkConfig(change.Set)...)
}

// changeList adds the items of value to the list now, without doubles, or takes them out.
func changeList(now, value string, add bool) string {
	items := strings.Split(now, ",")
	for item := range strings.SplitSeq(value, ",") {
		at := slices.Index(items, item)
		switch {
		case add && at < 0:
			items = append(items, item)
		case !add && at >= 0:
			items = slices.Delete(items, at, at+1)
		}
	}
	return strings.Join(items, ",")
}
