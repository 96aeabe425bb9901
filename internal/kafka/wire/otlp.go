package wire

import (
	"encoding/binary"
	"math"
)

// OTLP visits the numbers in what a client pushes: a MetricsData of OpenTelemetry's protocol, in protocol buffers. sum
// is whether one counts, rather than tells how much there is now. A metric of another kind, a histogram for one, is
// passed over. Errors: Invalid.
func OTLP(b []byte, visit func(name []byte, value float64, sum bool)) error {
	p := protobuf{b: b}
	p.each(1, func(resource *protobuf) { // resource_metrics
		resource.each(2, func(scope *protobuf) { // scope_metrics
			scope.each(2, func(metric *protobuf) { metric.metric(visit) })
		})
	})
	if p.bad {
		return invalid("wire.OTLP", "metrics that are cut short or none")
	}
	return nil
}

// protobuf is a message of protocol buffers that is read field by field.
type protobuf struct {
	b   []byte
	bad bool
}

// protoField is one field of it: its number, and its value as bytes or as a number.
type protoField struct {
	number int
	bytes  []byte
	bits   uint64
}

// next reads a field; it is false at the end.
func (p *protobuf) next() (f protoField, ok bool) {
	if len(p.b) == 0 || p.bad {
		return f, false
	}
	key := p.uvarint()
	f.number = int(key >> 3)
	switch key & 7 {
	case 0:
		f.bits = p.uvarint()
	case 1:
		if b := p.span(8); b != nil {
			f.bits = binary.LittleEndian.Uint64(b)
		}
	case 2:
		f.bytes = p.span(p.uvarint())
	case 5:
		p.span(4)
	default:
		p.bad = true
	}
	return f, !p.bad
}

func (p *protobuf) uvarint() uint64 {
	v, n := binary.Uvarint(p.b)
	if n <= 0 {
		p.bad = true
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *protobuf) span(n uint64) []byte {
	if n > uint64(len(p.b)) {
		p.bad = true
		return nil
	}
	b := p.b[:n:n]
	p.b = p.b[n:]
	return b
}

// each visits the messages of one field. One that is bad makes this one bad.
func (p *protobuf) each(number int, visit func(*protobuf)) {
	for f, ok := p.next(); ok; f, ok = p.next() {
		if f.number == number {
			inner := protobuf{b: f.bytes}
			visit(&inner)
			p.bad = inner.bad
		}
	}
}

// metric visits the numbers of a Metric.
func (p *protobuf) metric(visit func(name []byte, value float64, sum bool)) {
	const nameField, gaugeField, sumField, doubleField, intField = 1, 5, 7, 4, 6
	var name []byte
	for f, ok := p.next(); ok; f, ok = p.next() {
		if f.number == nameField {
			name = f.bytes
		}
		if f.number != gaugeField && f.number != sumField {
			continue
		}
		data := protobuf{b: f.bytes}
		data.each(1, func(point *protobuf) {
			for v, ok := point.next(); ok; v, ok = point.next() {
				switch v.number {
				case doubleField:
					visit(name, math.Float64frombits(v.bits), f.number == sumField)
				case intField:
					visit(name, float64(int64(v.bits)), f.number == sumField)
				}
			}
		})
		p.bad = data.bad
	}
}
