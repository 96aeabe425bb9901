package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterConfigs (33): v0-2, for clients from before IncrementalAlterConfigs.
//
// Behaviour
//   - The settings of a topic become those of the request: one that is not named goes back to its
//     default. All faults are told at once, in one INVALID_CONFIG, and then nothing changes.
//   - Settings that go against firth.retention.floor.ms are INVALID_CONFIG; who lowers it needs ALTER on the cluster,
//     or is told CLUSTER_AUTHORIZATION_FAILED.
//   - Of the broker the settings of groups can be set (DescribeConfigs says which are not read-only); they stay
//     after a restart. The others are set in the configuration of the node: INVALID_CONFIG.
//
// Versions: 2 flexible.

// alterConfigs answers AlterConfigs.
func (d *Door) alterConfigs(
	ctx context.Context, c *conn, req *kmsg.AlterConfigsRequest,
) (*kmsg.AlterConfigsResponse, error) {
	resp := kmsg.NewPtrAlterConfigsResponse()
	for i := range req.Resources {
		rr := &req.Resources[i]
		answer := kmsg.NewAlterConfigsResponseResource()
		answer.ResourceType, answer.ResourceName = rr.ResourceType, rr.ResourceName
		var err error
		replace := func(set map[string]string) []error { return replaceBroker(set, rr.Configs) }
		switch rr.ResourceType {
		case kmsg.ConfigResourceTypeBroker:
			err = d.alterBroker(ctx, c, rr.ResourceName, req.ValidateOnly, replace)
		case kmsg.ConfigResourceTypeGroupConfig:
			err = d.alterGroupConfig(ctx, c, rr.ResourceName, req.ValidateOnly, replace)
		case kmsg.ConfigResourceTypeClientMetrics:
			err = d.alterSubscription(ctx, c, rr.ResourceName, req.ValidateOnly, replace)
		default:
			err = d.alterResource(ctx, c, resource{rr.ResourceType, rr.ResourceName}, req.ValidateOnly,
				func(t *stream.Topic) (stream.TopicChange, []error) { return replaceConfig(t, rr.Configs) })
		}
		answer.ErrorCode, answer.ErrorMessage = createCode(err), words(err)
		resp.Resources = append(resp.Resources, answer)
	}
	return resp, nil
}

// replaceConfig is the change that makes the settings of t those of the request.
func replaceConfig(t *stream.Topic, configs []kmsg.AlterConfigsRequestResourceConfig) (stream.TopicChange, []error) {
	change := stream.TopicChange{Set: map[string]string{}}
	var faults []error
	for _, cfg := range configs {
		if cfg.Value == nil {
			faults = append(faults, fmt.Errorf("topic setting %s: null is no value", cfg.Name))
			continue
		}
		change.Set[cfg.Name] = *cfg.Value
	}
	for _, name := range sortedNames(t.Config) {
		if _, kept := change.Set[name]; !kept {
			change.Unset = append(change.Unset, name)
		}
	}
	return change, append(faults, checkConfig(change.Set)...)
}

// replaceBroker makes the settings of the broker, or of a group, those of the request.
func replaceBroker(set map[string]string, configs []kmsg.AlterConfigsRequestResourceConfig) (faults []error) {
	clear(set)
	for _, cfg := range configs {
		if cfg.Value == nil {
			faults = append(faults, fmt.Errorf("setting %s: null is no value", cfg.Name))
			continue
		}
		set[cfg.Name] = *cfg.Value
	}
	return faults
}

// resource is what a configuration belongs to.
type resource struct {
	kind kmsg.ConfigResourceType
	name string
}

// alterResource changes the settings of one resource by what change finds, all or nothing.
func (d *Door) alterResource(ctx context.Context, c *conn, of resource, dry bool,
	change func(*stream.Topic) (stream.TopicChange, []error),
) error {
	name := of.name
	if of.kind != kmsg.ConfigResourceTypeTopic {
		return refusal(wire.InvalidRequest, "there is no configuration of this type of resource")
	}
	t, code := d.topic(c, d.log.Topics(), name, OpAlterConfigs)
	if code != wire.None {
		return refusal(code, "topic %q cannot be altered", name)
	}
	if t.Internal() {
		return refusal(wire.InvalidTopic, "topic %q belongs to the log itself", name)
	}
	todo, faults := change(t)
	if len(faults) > 0 {
		return coded{errors.Join(faults...), wire.InvalidConfig}
	}
	after := configAfter(t.Config, &todo)
	if err := d.mayLowerFloor(c, t, after); err != nil || dry {
		return err
	}
	a := alteration{action: "topic.configure", on: topicOf(name), before: topicState{Config: t.Config},
		after: topicState{Config: after}}
	err := d.opt.alter(ctx, c, a, func() error {
		_, err := d.log.AlterTopic(ctx, name, todo)
		return err
	})
	if err != nil {
		if fault.Is(err, fault.Invalid) {
			return coded{err, wire.InvalidConfig}
		}
		return err
	}
	return nil
}
