package node

import (
	"github.com/firthmq/firth/internal/mqtt"
)

// Rates are how fast devices may connect and publish, each a number a second; unlimited: no bound.
type Rates struct {
	Connect     int // connections of one listener
	Message     int // messages of one device
	Bytes       int64
	AllMessages int // messages of all devices of a listener
}

func (r *Rates) options() mqtt.Rates {
	return mqtt.Rates{
		Connects: int64(max(r.Connect, 0)), Messages: int64(max(r.Message, 0)), Bytes: max(r.Bytes, 0),
		AllMessages: int64(max(r.AllMessages, 0)),
	}
}

// limitRates are the rates of listeners that have none of their own.
func limitRates() []Option {
	all := rateOptions("limits.", " A listener may have its own bound.", func(c *Config) *Rates { return &c.Limits.Rates })
	for i := range all {
		o := &all[i]
		if o.Reload = true; o.Key == "limits.message_rate" || o.Key == "limits.byte_rate" {
			o.Doc += " For a device that is connected a change holds when it is back."
		}
	}
	return all
}

// rateOptions are the options of rates in a C, each key behind a prefix.
func rateOptions[C any](prefix, more string, rates func(*C) *Rates) []OptionOf[C] {
	const most = 1_000_000_000
	return []OptionOf[C]{
		OptionOf[C]{Key: prefix + "connect_rate", Default: "unlimited",
			Doc: "How many connections a second may come by one listener, and as many at once." + more,
			Shows: "CONNACK with reason code 0x9F, Connection rate exceeded, return code 3 in MQTT 3; of more than twice as " +
				"many the connection is closed at once; `firth_mqtt_listener_refused_total{reason=\"rate\"}`",
		}.number(func(c *C) *int { return &rates(c).Connect }, 1, most),
		OptionOf[C]{Key: prefix + "message_rate", Default: "unlimited",
			Doc:   "How many messages a second one device may publish, and as many at once." + more,
			Shows: "what comes faster waits in its socket, nothing is dropped; `firth_mqtt_slowed_total`",
		}.number(func(c *C) *int { return &rates(c).Message }, 1, most),
		OptionOf[C]{Key: prefix + "byte_rate", Default: "unlimited",
			Doc:   "How many bytes of payload a second one device may publish, and as many at once." + more,
			Shows: "as for message_rate",
		}.size(func(c *C) *int64 { return &rates(c).Bytes }, 1, tib, "unlimited"),
		OptionOf[C]{Key: prefix + "all_messages_rate", Default: "unlimited",
			Doc:   "How many messages a second all devices of one listener together may publish." + more,
			Shows: "as for message_rate",
		}.number(func(c *C) *int { return &rates(c).AllMessages }, 1, most),
	}
}
