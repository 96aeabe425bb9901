package main

import (
	"strconv"
	"strings"

	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// propertyPacket is the type of packet that a command of -D stands for; 0 is a will.
func propertyPacket(command string) (t packet.Type, ok bool) {
	switch command {
	case "connect":
		return packet.CONNECT, true
	case "publish":
		return packet.PUBLISH, true
	case "subscribe":
		return packet.SUBSCRIBE, true
	case "unsubscribe":
		return packet.UNSUBSCRIBE, true
	case "disconnect":
		return packet.DISCONNECT, true
	case "will":
		return 0, true
	}
	return 0, false
}

// parseProperties reads the operands of all -D flags: commands are their first operands, in order, and
// rest holds the others, as the command line had them: name value, or user-property name value.
func parseProperties(commands, rest []string) (map[string]*packet.Properties, error) {
	all := make(map[string]*packet.Properties)
	for _, command := range commands {
		command = strings.ToLower(command)
		kind, ok := propertyPacket(command)
		if !ok {
			return nil, output.Usage("-D knows no command %q: use connect, publish, subscribe, "+
				"unsubscribe, disconnect or will", command)
		}
		if all[command] == nil {
			all[command] = &packet.Properties{}
		}
		n, err := setProperty(all[command], kind, rest)
		if err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	if len(rest) > 0 {
		return nil, output.Usage("unexpected argument %q", rest[0])
	}
	return all, nil
}

// property is a property that can be given on the command line.
type property struct {
	id   packet.Property
	text func(*packet.Properties, []byte)
	num  func(*packet.Properties, uint32)
	min  uint64
	max  uint64
}

// byName finds a property by mosquitto's name for it.
func byName(name string) (property, bool) {
	const byteMax, shortMax, longMax = 1, 1<<16 - 1, 1<<32 - 1
	type props = packet.Properties
	all := map[string]property{
		"content-type":            {id: packet.PropContentType, text: (*props).SetContentType},
		"response-topic":          {id: packet.PropResponseTopic, text: (*props).SetResponseTopic},
		"correlation-data":        {id: packet.PropCorrelationData, text: (*props).SetCorrelationData},
		"authentication-method":   {id: packet.PropAuthMethod, text: (*props).SetAuthMethod},
		"authentication-data":     {id: packet.PropAuthData, text: (*props).SetAuthData},
		"reason-string":           {id: packet.PropReasonString, text: (*props).SetReasonString},
		"message-expiry-interval": {id: packet.PropMessageExpiry, num: (*props).SetMessageExpiry, max: longMax},
		"session-expiry-interval": {id: packet.PropSessionExpiry, num: (*props).SetSessionExpiry, max: longMax},
		"will-delay-interval":     {id: packet.PropWillDelay, num: (*props).SetWillDelay, max: longMax},
		"maximum-packet-size": {id: packet.PropMaximumPacketSize,
			num: (*props).SetMaximumPacketSize, min: 1, max: longMax},
		"subscription-identifier": {id: packet.PropSubscriptionID, num: (*props).AddSubscriptionID, min: 1, max: 1<<28 - 1},
		"receive-maximum": {id: packet.PropReceiveMaximum,
			num: short((*props).SetReceiveMaximum), min: 1, max: shortMax},
		"topic-alias": {id: packet.PropTopicAlias,
			num: short((*props).SetTopicAlias), min: 1, max: shortMax},
		"topic-alias-maximum": {id: packet.PropTopicAliasMaximum,
			num: short((*props).SetTopicAliasMaximum), max: shortMax},
		"payload-format-indicator": {id: packet.PropPayloadFormat, num: single((*props).SetPayloadFormat), max: byteMax},
		"request-problem-information": {id: packet.PropRequestProblemInfo,
			num: single((*props).SetRequestProblemInfo), max: byteMax},
		"request-response-information": {id: packet.PropRequestResponseInfo,
			num: single((*props).SetRequestResponseInfo), max: byteMax},
	}
	p, ok := all[name]
	return p, ok
}

func short(set func(*packet.Properties, uint16)) func(*packet.Properties, uint32) {
	return func(p *packet.Properties, v uint32) { set(p, uint16(v)) }
}

func single(set func(*packet.Properties, byte)) func(*packet.Properties, uint32) {
	return func(p *packet.Properties, v uint32) { set(p, byte(v)) }
}

// setProperty sets one property from its operands and tells how many it took.
func setProperty(p *packet.Properties, kind packet.Type, operands []string) (int, error) {
	if len(operands) < 2 {
		return 0, output.Usage("-D needs a command, a property name and a value")
	}
	name, value := strings.ToLower(operands[0]), operands[1]
	if name == "user-property" {
		if len(operands) < 3 {
			return 0, output.Usage("-D user-property needs a name and a value")
		}
		p.AddUser(value, operands[2])
		return 3, nil
	}
	one, ok := byName(name)
	if !ok {
		return 0, output.Usage("-D knows no property %q", name)
	}
	if !one.id.Allowed(kind) {
		return 0, output.Usage("the property %s does not go there", name)
	}
	if one.text != nil {
		one.text(p, []byte(value))
		return 2, nil
	}
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil || n < one.min || n > one.max {
		return 0, output.Usage("%s is a number from %d to %d, not %q", name, one.min, one.max, value)
	}
	one.num(p, uint32(n))
	return 2, nil
}
