package format

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Input is a parsed input format of rpk topic produce -f: tokens with the text that ends each.
type Input struct{ fields []field }

type field struct {
	verb byte
	end  []byte // what the field ends with; for a literal before the first token verb is 0
}

const inputVerbs = "kvsthp"

// ParseInput parses an input format: %k key, %v or %s value, %t topic, %p partition, %h headers as
// name=value pairs joined by commas; every token but the last needs text behind it that ends it.
// Errors: Invalid, naming the token.
func ParseInput(spec string) (*Input, error) {
	in := &Input{}
	i := 0
	for i < len(spec) {
		var f field
		if spec[i] == '%' && !strings.HasPrefix(spec[i:], "%%") {
			if i+1 == len(spec) || strings.IndexByte(inputVerbs, spec[i+1]) < 0 {
				return nil, fault.New(fault.Invalid, "format", "unknown token %q", spec[i:min(i+2, len(spec))]).
					WithHint("known are %%k key, %%v value, %%t topic, %%p partition, %%h headers")
			}
			f.verb = spec[i+1]
			i += 2
		}
		next := i
		for next < len(spec) && (spec[next] != '%' || strings.HasPrefix(spec[next:], "%%")) {
			next++
			if spec[next-1] == '%' {
				next++
			}
		}
		end, err := Unescape(strings.ReplaceAll(spec[i:next], "%%", "%"))
		if err != nil {
			return nil, err
		}
		f.end = end
		if len(end) == 0 && next < len(spec) {
			return nil, fault.New(fault.Invalid, "format", "nothing separates %%%c from what follows", f.verb)
		}
		in.fields = append(in.fields, f)
		i = next
	}
	if len(in.fields) == 0 {
		return nil, fault.New(fault.Invalid, "format", "the input format is empty")
	}
	return in, nil
}

// MaxField is the longest field that Read takes, in bytes.
const MaxField = 64 << 20

// Read reads one record. A field that the format does not have stays as it is in r, so that the
// caller can set defaults. Errors: io.EOF between records; Invalid inside one.
func (in *Input) Read(from *bufio.Reader, r *Record) error {
	for i, f := range in.fields {
		text, err := readUntil(from, f.end)
		atEnd := errors.Is(err, io.EOF)
		if atEnd && i == 0 && len(text) == 0 {
			return io.EOF
		}
		if err != nil && (!atEnd || i < len(in.fields)-1) {
			if atEnd {
				return fault.New(fault.Invalid, "input", "ends in the middle of a record")
			}
			return err
		}
		if err := set(r, f.verb, text); err != nil {
			return err
		}
	}
	return nil
}

// readUntil reads up to and without end; without an end it reads all there is.
func readUntil(from *bufio.Reader, end []byte) ([]byte, error) {
	var text []byte
	for {
		b, err := from.ReadByte()
		if err != nil {
			return text, err
		}
		text = append(text, b)
		if len(end) > 0 && b == end[len(end)-1] && bytes.HasSuffix(text, end) {
			return text[:len(text)-len(end)], nil
		}
		if len(text) > MaxField {
			return nil, fault.New(fault.TooLarge, "input", "a field is longer than %d bytes", MaxField)
		}
	}
}

func set(r *Record, verb byte, text []byte) error {
	switch verb {
	case 0:
		if len(text) > 0 {
			return fault.New(fault.Invalid, "input", "expected the text before the first token, got %q", text)
		}
	case 'k':
		r.Key = notNil(text)
	case 'v', 's':
		r.Value = notNil(text)
	case 't':
		r.Topic = string(text)
	case 'p':
		n, err := strconv.ParseInt(string(text), 10, 32)
		if err != nil {
			return fault.New(fault.Invalid, "input", "%q is not a partition", text)
		}
		r.Partition = int32(n)
	case 'h':
		r.Headers = nil
		for pair := range strings.SplitSeq(string(text), ",") {
			if pair == "" {
				continue
			}
			h, err := ParseHeader(pair)
			if err != nil {
				return err
			}
			r.Headers = append(r.Headers, h)
		}
	}
	return nil
}

// ParseHeader parses name=value (kcat) or name:value (rpk), whichever sign comes first. A name alone
// has a null value. Errors: Invalid for an empty name.
func ParseHeader(s string) (Header, error) {
	i := strings.IndexAny(s, "=:")
	if i == 0 || s == "" {
		return Header{}, fault.New(fault.Invalid, "header", "%q has no name", s).WithHint("write it as name=value")
	}
	if i < 0 {
		return Header{Name: s}, nil
	}
	return Header{Name: s[:i], Value: []byte(s[i+1:])}, nil
}
