package mask

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// masker makes one of masks as text.
func masker(t testing.TB, texts ...string) *Masker {
	t.Helper()
	var list []Mask
	for _, text := range texts {
		m, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, m)
	}
	set := Set{Secret: []byte("secret"), Fields: []*Fields{New(list)}}
	return set.Masker()
}

func hashed(kind byte, text string) string {
	set := Set{Secret: []byte("secret")}
	return string(set.Masker().appendHash(nil, kind, []byte(text)))
}

func TestPayload(t *testing.T) {
	deep := strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1)
	for _, c := range []struct{ masks, in, want string }{
		{"json:a=remove", `{"a":1,"b":2}`, `{"b":2}`},
		{"json:a=remove", `{"b":2,"a":1}`, `{"b":2}`},
		{"json:a=remove", `{"a":1}`, `{}`},
		{"json:a=remove", `{"b":1, "a":{"x":[1,2]} , "c":3}`, `{"b":1 , "c":3}`},
		{"json:a=remove json:b=remove", `{"a":1,"b":2}`, `{}`},
		{"json:a=remove json:b=remove", `{"a":1,"b":2,"c":{"a":5}}`, `{"c":{"a":5}}`},
		{"json:a=remove json:b=remove", `{"c":0,"a":1,"b":2,"d":4}`, `{"c":0,"d":4}`},
		{"json:a=remove json:c.d=hash", `{"a":1,"c":{"d":"x"}}`, `{"c":{"d":"` + hashed('s', "x") + `"}}`},
		{"json:a=remove", `{"a":1,"a":2,"b":{"a":3}}`, `{"b":{"a":3}}`}, // twice
		{"json:a=remove", `{"\u0061":1,"b":2}`, `{"b":2}`},              // by an escape
		{"json:a.b=remove", `{"a":{"b":1,"c":2}}`, `{"a":{"c":2}}`},
		{"json:a.b=remove", `{"a":[{"b":1},{"c":2}]}`, `{"a":[{},{"c":2}]}`},
		{"json:a[].b=remove", `{"a":[{"b":1},[{"b":2}]]}`, `{"a":[{},[{}]]}`},
		{"json:a[].b=remove", `{"a":{"b":1}}`, `{"a":{}}`}, // no array
		{"json:a[]=remove", `{"a":[1,"2",{}],"b":3}`, `{"a":[],"b":3}`},
		{"json:a[]=remove", `{"a":7,"b":3}`, `{"b":3}`},
		{"json:a[][]=remove", `{"a":[1,[2,[3]]]}`, `{"a":[[]]}`},
		{"json:[].a=remove", `[{"a":1},{"a":2,"b":3}]`, `[{},{"b":3}]`},
		{"json:a=remove", `[{"a":1}]`, `[{}]`},
		{"json:[]=remove", `5`, ``}, // all of it
		{"json:a=hash", `{"a":"x"}`, `{"a":"` + hashed('s', "x") + `"}`},
		{"json:a=hash", `{"a":"\u0078"}`, `{"a":"` + hashed('s', "x") + `"}`},
		{"json:a=hash", `{"a":12}`, `{"a":"` + hashed('j', "12") + `"}`},
		{"json:a=hash", `{"a":{ "x" : "y z" }}`, `{"a":"` + hashed('j', `{"x":"y z"}`) + `"}`},
		{"json:a=hash", `{"a":null}`, `{"a":null}`},
		{"json:a=hash json:a.b=remove", `{"a":{"b":1}}`, `{"a":"` + hashed('j', `{"b":1}`) + `"}`},
		{"json:a=truncate:2", `{"a":"h\u00e4llo","b":1}`, `{"a":"hä","b":1}`},
		{"json:a=truncate:2", `{"a":"\"\u0001x"}`, `{"a":"\"\u0001"}`},
		{"json:a=truncate:4", `{"a":52.5234}`, `{"a":"52.5"}`},
		{"json:a=truncate:4", `{"a":{"x":1},"b":[1]}`, `{"b":[1]}`},
		{"json:a=truncate:4 json:a=truncate:1", `{"a":"xyz"}`, `{"a":"x"}`},
		{"json:a=truncate:4 json:a=hash", `{"a":"xyz"}`, `{"a":"` + hashed('s', "xyz") + `"}`},
		{"json:a=hash json:a=remove", `{"a":"xyz"}`, `{}`},
		{`json:"a.b"."c\"d"=remove`, `{"a.b":{"c\"d":1}}`, `{"a.b":{}}`},
		{"json:z=remove", ` {"a" : [ 1 , "\ud83d\ude00" ] } `, ` {"a" : [ 1 , "\ud83d\ude00" ] } `}, // as it is
		{"json:z=remove", `{"a":"\ud800"}`, `{"a":"\ud800"}`},
		{"json:z=remove", `{"a\ud800":1}`, "!"},    // half a pair
		{"json:z=remove", `{"z\u0000":1}`, "!"},    // NUL
		{"json:z=remove", "{\"a\":\"\xff\"}", "!"}, // no UTF-8
		{"json:z=remove", "\ufeff{}", "!"},         // byte order mark
		{"json:z=remove", `{} {}`, "!"},
		{"json:z=remove", `{"a":1,}`, "!"},
		{"json:z=remove", `[1,]`, "!"},
		{"json:z=remove", `{'a':1}`, "!"},
		{"json:z=remove", `{"a":01}`, "!"},
		{"json:z=remove", `{"a":NaN}`, "!"},
		{"json:z=remove", `plain`, "!"},
		{"json:z=remove", " ", "!"},
		{"json:z=remove", deep, "!"},
		{"json:z=remove", deep[1 : len(deep)-1], deep[1 : len(deep)-1]},
		{"json:z=remove", `"` + strings.Repeat("x", MaxPayload) + `"`, "!"},
		{"json:a[]=hash", `{"a":[` + strings.Repeat("1,", MaxPayload/4) + `1]}`, "!"},
		{"json:a.b=remove", `{"a":[` + strings.Repeat(`{"b":1},`, 3) + `{"b":2}]}`, `{"a":[{},{},{},{}]}`},
	} {
		m := masker(t, strings.Fields(c.masks)...)
		got, ok := m.Payload([]byte(c.in))
		if text := string(got); ok && text != c.want || !ok && c.want != "!" {
			t.Errorf("%s of %.80s: %.200s, %v; want %.200s", c.masks, c.in, text, ok, c.want)
		}
		if got == nil {
			t.Errorf("%s of %.80s: null", c.masks, c.in)
		}
	}
}

func TestPayloadThatNothingIsAbout(t *testing.T) {
	for _, in := range [][]byte{nil, {}, []byte("no JSON")} {
		if got, ok := masker(t, "key=hash").Payload(in); !ok || !bytes.Equal(got, in) || (got == nil) != (in == nil) {
			t.Errorf("%q became %q, %v", in, got, ok)
		}
	}
	for _, in := range [][]byte{nil, {}} {
		if got, ok := masker(t, "json:a=hash").Payload(in); !ok || len(got) > 0 || (got == nil) != (in == nil) {
			t.Errorf("%q became %q, %v", in, got, ok)
		}
	}
}

func TestKeyAndHeaders(t *testing.T) {
	m := masker(t, "key=truncate:2", "header:who=hash", "header:gone=remove")
	if got := m.Key([]byte("käse")); string(got) != "kä" {
		t.Errorf("the key became %q", got)
	}
	if got := m.Key([]byte("\xff\xfe\xfd")); string(got) != "\xff\xfe" {
		t.Errorf("the key became %q", got)
	}
	if got := m.Key([]byte{}); got == nil || len(got) > 0 {
		t.Errorf("an empty key became %v", got)
	}
	if got := masker(t, "key=remove").Key([]byte("k")); got != nil {
		t.Errorf("the key became %q", got)
	}
	for _, c := range []struct {
		name, value, want string
		shown             bool
	}{
		{"who", "x", hashed('s', "x"), true},
		{"mqtt.user.who", "x", hashed('s', "x"), true},
		{"mqtt.user.mqtt.user.who", "x", hashed('s', "x"), true},
		{"Who", "x", "x", true},
		{"gone", "x", "", false},
	} {
		if got, shown := m.Header([]byte(c.name), []byte(c.value)); string(got) != c.want || shown != c.shown {
			t.Errorf("%s became %q, %v", c.name, got, shown)
		}
	}
	if got, shown := m.Header([]byte("who"), nil); got != nil || !shown {
		t.Errorf("a null header became %q, %v", got, shown)
	}
	m.Reset()
	if got := m.Key([]byte("abc")); string(got) != "ab" {
		t.Errorf("the key became %q", got)
	}
}

func TestSetWith(t *testing.T) {
	var none *Set
	one, two := masker(t, "json:a=truncate:2").set, masker(t, "json:a=hash").set
	if none.With(nil) != nil || none.With(one) != one || one.With(none) != one || none.AboutHeaders() {
		t.Error("nil is not none")
	}
	got, _ := one.With(two).Masker().Payload([]byte(`{"a":"xyz"}`))
	if want := `{"a":"` + hashed('s', "xyz") + `"}`; string(got) != want {
		t.Errorf("both make %s", got)
	}
}

func TestParse(t *testing.T) {
	for _, text := range []string{
		"key=remove", "header:a=b=hash", "json:a=truncate:1000", "json:[]=hash", `json:a[]."b.c"=remove`, "json:a[][].b=hash",
	} {
		m, err := Parse(text)
		if err != nil || m.String() != text {
			t.Errorf("%s: %s, %v", text, m.String(), err)
		}
	}
	for _, text := range []string{
		"", "key", "key:x=hash", "value=hash", "key=", "key=gone", "key=truncate", "key=truncate:0", "key=truncate:1001",
		"key=truncate:-1", "key=truncate:07", "key=remove:1", "header:=hash", "header:mqtt.topic=hash",
		"header:mqtt.user.mqtt.topic=hash", "header:content-type=hash", "json:=hash", "json:.a=hash", "json:a.=hash",
		"json:a..b=hash", "json:a]=hash", "json:a[0]=hash", `json:"a=hash`, `json:"a"b=hash`, `json:a"b"=hash`,
		"json:\xff=hash",
		"json:[]a=hash", "json:" + strings.Repeat("a.", 600) + "a=hash", "json:" + strings.Repeat("[]", 65) + "=hash",
	} {
		if m, err := Parse(text); err == nil {
			t.Errorf("%q is %v", text, m)
		}
	}
}

// FuzzParse: what is read can be written and read again, and is the same.
func FuzzParse(f *testing.F) {
	f.Add(`json:a[]."b\u0022.c"=truncate:5`)
	f.Add("header:mqtt.user.x=hash")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := Parse(text)
		if err != nil {
			return
		}
		New([]Mask{m})
		if again, err := Parse(m.String()); err != nil || again != m {
			t.Fatalf("%q is %v, and %q %v, %v", text, m, m.String(), again, err)
		}
	})
}

// FuzzPayload holds the masking of JSON against encoding/json: what comes out is JSON, and has nowhere what was masked.
func FuzzPayload(f *testing.F) {
	for _, in := range []string{
		`{"a":1,"b":[{"a":"x"},2]}`, `[[{"b":{"a":1}}],{"\u0062":1e5}]`, `{"a":{"b":1},"a":[1,{"b":2}]}`, `"\ud83d\ude00"`,
		`{"b":null,"c":{},"d":[[],{}] }`, `{"a":"\"","b":"\\"}`, ` [ 1 , -0.5E+3 , true,false, null ] `,
	} {
		f.Add([]byte(in), byte(0))
		f.Add([]byte(in), byte(5))
	}
	paths := []string{"a", "b", "a.b", "b.a", "a[]", "b[].a", "[].a", "[]"}
	does := []string{"=remove", "=hash", "=truncate:1"}
	f.Fuzz(func(t *testing.T, in []byte, which byte) {
		path := paths[int(which)%len(paths)]
		action := does[int(which)/len(paths)%len(does)]
		m := masker(t, "json:"+path+action)
		before := bytes.Clone(in)
		got, ok := m.Payload(in)
		if !bytes.Equal(in, before) {
			t.Fatal("the payload itself was changed")
		}
		if !ok || len(in) == 0 {
			if len(got) > 0 {
				t.Fatalf("%q: what cannot be masked is shown: %q", in, got)
			}
			return
		}
		if !json.Valid(in) {
			t.Fatalf("%q is masked, and is no JSON", in)
		}
		steps, _ := parsePath(path)
		want, gone := expected(decode(t, in), steps, action)
		if gone {
			if len(got) > 0 {
				t.Fatalf("%q: %q", in, got)
			}
			return
		}
		if have := decode(t, got); !same(have, want) {
			t.Fatalf("%s%s of %q: %q, want %v", path, action, in, got, want)
		}
	})
}

// member is one of an object, which may have two of a name.
type member struct {
	name  string
	value any
}

// decode reads JSON with encoding/json, but keeps what comes twice, and numbers as they are.
func decode(t *testing.T, in []byte) any {
	dec := json.NewDecoder(bytes.NewReader(in))
	dec.UseNumber()
	var read func() any
	token := func() json.Token {
		tok, err := dec.Token()
		if err != nil {
			t.Fatalf("%q is no JSON: %v", in, err)
		}
		return tok
	}
	read = func() any {
		switch tok := token(); tok {
		case json.Delim('{'):
			list := []member{}
			for dec.More() {
				name, _ := token().(string)
				list = append(list, member{name, read()})
			}
			token()
			return list
		case json.Delim('['):
			list := []any{}
			for dec.More() {
				list = append(list, read())
			}
			token()
			return list
		default:
			return tok
		}
	}
	return read()
}

// same tells whether a value is what is expected, where hidden is any hash.
func same(have, want any) bool {
	switch want := want.(type) {
	case hidden:
		text, is := have.(string)
		return is && len(text) == HashDigits
	case []member:
		list, is := have.([]member)
		return is && slices.EqualFunc(list, want, func(a, b member) bool {
			return a.name == b.name && same(a.value, b.value)
		})
	case []any:
		list, is := have.([]any)
		return is && slices.EqualFunc(list, want, same)
	}
	return have == want
}

// expected is what masking makes of a value, told in another way.
func expected(v any, steps []step, action string) (masked any, gone bool) {
	if len(steps) > 0 && !steps[0].each {
		switch of := v.(type) {
		case []any:
			list := []any{}
			for _, e := range of {
				if e, gone := expected(e, steps, action); !gone {
					list = append(list, e)
				}
			}
			return list, false
		case []member:
			list := []member{}
			for _, m := range of {
				gone := false
				if m.name == steps[0].name {
					m.value, gone = expected(m.value, steps[1:], action)
				}
				if !gone {
					list = append(list, m)
				}
			}
			return list, false
		}
		return v, false
	}
	if len(steps) > 0 { // []
		list, is := v.([]any)
		if !is {
			return expected(v, steps[1:], action)
		}
		kept := []any{}
		for _, e := range list {
			if e, gone := expected(e, steps[1:], action); !gone {
				kept = append(kept, e)
			}
		}
		return kept, false
	}
	return whole(v, action)
}

// whole is what becomes of a value itself.
func whole(v any, action string) (masked any, gone bool) {
	if action == "=remove" {
		return nil, true
	}
	kind := byte('j')
	var content string
	switch v := v.(type) {
	case nil:
		return nil, false
	case string:
		kind, content = 's', v
	case bool:
		content = map[bool]string{true: "true", false: "false"}[v]
	case json.Number:
		content = v.String()
	default:
		if action != "=hash" {
			return nil, true
		}
		return hidden{}, false
	}
	if action == "=hash" {
		return hashed(kind, content), false
	}
	return string(first([]byte(content), 1)), false
}

// hidden stands for the hash of an object or an array.
type hidden struct{}

func BenchmarkPayload(b *testing.B) {
	payload := []byte(`{"device":"meter-17","customer":{"name":"Ada","id":1815},"values":[` +
		strings.Repeat(`{"at":1764460800,"power":231.5},`, 20) + `{"at":1764460800,"power":231.5}]}`)
	for _, masks := range []string{"json:no.thing=remove", "json:customer.name=hash", "json:values[].power=truncate:3"} {
		b.Run(masks, func(b *testing.B) {
			m := masker(b, masks)
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				m.Reset()
				if _, ok := m.Payload(payload); !ok {
					b.Fatal("not masked")
				}
			}
		})
	}
}
