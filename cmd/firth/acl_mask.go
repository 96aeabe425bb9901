package main

import (
	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/cli/output"
)

func newACLMask(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mask PRINCIPAL FIELD=ACTION...",
		Short: "Take fields out of what a user or role reads",
		Long: `Take fields out of what a user or role reads, with MQTT and Kafka. A mask allows nothing: other rules say what
may be read. Masks of all that a client is add up; who shall see everything has none.

FIELD is header:NAME (a header of Kafka, a user property of MQTT), key (of the record) or json:PATH (in the payload):
json:customer.name, json:items[].price, json:"a.b".c. Arrays are looked through whether the path says [] or not.

ACTION is remove, hash (32 hexadecimal digits, the same for equal values, that only this cluster can make) or truncate:N
(the first N characters). What cannot be masked is not shown: a payload that is no JSON, is nested deeper than 64 or
larger than 1 MiB comes empty, if a mask of json: is about it.`,
		Example: `  firth acl mask Role:support json:customer.name=hash header:trace=remove --topic meters
  firth acl mask Group:partners json:position=truncate:4 key=hash --names 'fleet/#'
  firth acl explain --as bob read --topic meters`,
		Args: cobra.MinimumNArgs(2),
	}
	form := formFlag(cmd)
	on := addTopicFlags(cmd)
	conditions := addConditionFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		r := rule.Rule{Effect: rule.Mask, Principal: args[0], Operations: rule.Of(rule.Read)}
		for _, text := range args[1:] {
			m, err := mask.Parse(text)
			if err != nil {
				return output.WithCode(output.ExitUsage, err)
			}
			r.Masks = append(r.Masks, m)
		}
		if r.When, err = conditions(); err != nil {
			return err
		}
		return a.addRules(cmd, *form, r, on)
	}
	return cmd
}

// addTopicFlags are those of addResourceFlags that name topics.
func addTopicFlags(cmd *cobra.Command) *resourceFlags {
	f := &resourceFlags{by: map[string]*[]string{}}
	for _, r := range resources {
		if r.kind == rule.Topic {
			f.by[r.flag] = cmd.Flags().StringArray(r.flag, nil, r.doc)
		}
	}
	return f
}
