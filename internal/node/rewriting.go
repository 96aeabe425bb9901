package node

import (
	"fmt"
	"strconv"

	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/rewrite"
)

func rewritingOptions() []Option {
	return []Option{
		objects(Option{Key: "rewrite", Type: "list of rewrite rules", Reload: true,
			Doc: "Topic names and filters that are to be others than devices say. The first rule that matches is taken. It " +
				"comes before everything else: mapping, retained messages, and who may do what. Subscriptions stay as they were " +
				"made.",
		}, entries[rewrite.Rule]{
			key: "rewrite", one: "rule", list: func(c *Config) *[]rewrite.Rule { return &c.Rewrite },
			fields: rewriteFields, needed: []string{"from", "match", "to"}, check: (*rewrite.Rule).Check, page: rewriteManual,
		}),
		objects(Option{Key: "auto_subscribe", Type: "list of subscriptions", Reload: true,
			Doc: "What every device is subscribed to when it connects, without a SUBSCRIBE, if it is not by then. Its own " +
				"UNSUBSCRIBE ends it until it connects again.",
		}, entries[mqtt.AutoSubscription]{
			key: "auto_subscribe", one: "subscription",
			list:   func(c *Config) *[]mqtt.AutoSubscription { return &c.AutoSubscribe },
			fields: autoSubscribeFields, needed: []string{"filter"}, check: checkAutoSubscription, page: autoSubscribeManual,
		}),
	}
}

func anyText(string) error { return nil }

func rewriteFields() []OptionOf[rewrite.Rule] {
	type option = OptionOf[rewrite.Rule]
	return []option{
		option{Key: "action", Default: rewrite.All,
			Doc: "What is rewritten: the topics of PUBLISH and of wills, the filters of SUBSCRIBE and UNSUBSCRIBE, or all.",
		}.choice(func(r *rewrite.Rule) *string { return &r.Action }, rewrite.Publish, rewrite.Subscribe, rewrite.All),
		option{Key: "from", Type: "topic filter",
			Doc: "Which topics: `x/#`. Wildcards in what a device subscribes to are text here.",
		}.text(func(r *rewrite.Rule) *string { return &r.From }, anyText),
		option{Key: "match", Type: "regular expression",
			Doc: "What the topic must match besides (RE2): `^x/(.+)$`.",
		}.text(func(r *rewrite.Rule) *string { return &r.Match }, anyText),
		option{Key: "to", Type: "template",
			Doc: "The topic in its place: $1 to $9 are the groups of match, ${clientid} and ${username} those of the device. " +
				"A rule does not match a device without such a name, or whose name holds /, + or #.",
		}.text(func(r *rewrite.Rule) *string { return &r.To }, anyText),
	}
}

func autoSubscribeFields() []OptionOf[mqtt.AutoSubscription] {
	type subscription = mqtt.AutoSubscription
	type option = OptionOf[subscription]
	return []option{
		option{Key: "filter", Type: "template",
			Doc: "The topic filter: ${clientid} and ${username} are those of the device. A device without such a name, or " +
				"whose name holds /, + or #, is not subscribed.",
		}.text(func(s *subscription) *string { return &s.Filter }, anyText),
		option{Key: "qos", Default: "0", Doc: "The highest QoS of what it gets."}.
			small(func(s *subscription) *byte { return &s.QoS }),
		option{Key: "no_local", Default: "false", Doc: "Whether it does not get what it publishes itself."}.
			flag(func(s *subscription) *bool { return &s.NoLocal }),
		option{Key: "retain_as_published", Default: "false",
			Doc: "Whether messages keep the RETAIN with which they were published.",
		}.flag(func(s *subscription) *bool { return &s.RetainAsPublished }),
		option{Key: "retain_handling", Default: "0",
			Doc: "Whether it gets what is retained: 0 and 1, when it is subscribed; 2, not.",
		}.small(func(s *subscription) *byte { return &s.RetainHandling }),
	}
}

// small is a number from 0 to 2.
func (o OptionOf[C]) small(field func(*C) *byte) OptionOf[C] {
	o.Type, o.bare = "0 | 1 | 2", true
	o.parse = func(c *C, s string) error {
		if len(s) != 1 || s[0] < '0' || s[0] > '2' {
			return fmt.Errorf("%q is not 0, 1 or 2", s)
		}
		*field(c) = s[0] - '0'
		return nil
	}
	o.show = func(c *C) string { return strconv.Itoa(int(*field(c))) }
	return o
}

func checkAutoSubscription(s *mqtt.AutoSubscription) (field string, err error) {
	return "filter", s.Check()
}

const rewriteManual = "```yaml" + `
rewrite:
  - { action: all, from: "old/#", match: "^old/(.+)$", to: "new/$1" }
  - { action: publish, from: "mine/#", match: "^mine/(.+)$", to: "devices/${clientid}/$1" }
` + "```" + `

`

const autoSubscribeManual = "```yaml" + `
auto_subscribe:
  - { filter: "commands/${clientid}/#", qos: 1 }
` + "```" + `

`
