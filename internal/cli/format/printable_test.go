package format

import "testing"

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"grün/€/🌊":               "grün/€/🌊",
		"a\x1b[31mb\a":           `a\u001b[31mb\u0007`,
		"a\nb\tc\rd\x7f":         `a\u000ab\u0009c\u000dd\u007f`,
		"c1 \u0085\u009b31m":     `c1 \u0085\u009b31m`,
		"8 bit \x9b31m":          `8 bit \x9b31m`,
		"cut \xe2\x82":           `cut \xe2\x82`,
		"turned \u202ecba\u2069": `turned \u202ecba\u2069`,
		"line\u2028":             `line\u2028`,
		`back\slash`:             `back\slash`,
	} {
		if got := Printable(in); got != want {
			t.Errorf("%q becomes %s, want %s", in, got, want)
		}
		if got := string(AppendPrintable([]byte("x"), []byte(in), false)); got != "x"+want {
			t.Errorf("%q is appended as %s, want %s", in, got, want)
		}
	}
	if got := string(AppendPrintable(nil, "a\nb\t\r\n", true)); got != "a\nb\t\\u000d\n" {
		t.Errorf("with lines: %q", got)
	}
}

// TestTerminalFormats (F38): what others wrote is made printable, what the format says is not.
func TestTerminalFormats(t *testing.T) {
	m := &Message{Topic: "a\x1b\nb", Payload: []byte("p\a\nq\xff"), ContentType: "c\x1b", ResponseTopic: "r\x1b",
		Correlation: []byte{0x1b, '\n'}, User: []Property{{"k\x1b", "v\a"}}}
	const spec = `\e[1m%t\e[0m %p %C %R %D %P %j`
	for terminal, want := range map[bool]string{
		false: "\x1b[1ma\x1b\nb\x1b[0m p\a\nq\xff c\x1b r\x1b \x1b\n k\x1b:v\a ",
		true:  "\x1b[1ma\\u001b\\u000ab\x1b[0m p\\u0007\nq\\xff c\\u001b r\\u001b \\u001b\\u000a k\\u001b:v\\u0007 ",
	} {
		f, err := ParseMQTT(spec)
		if err != nil {
			t.Fatal(err)
		}
		f.Terminal = terminal
		got, err := f.AppendTo(nil, m)
		if want += string(AppendMQTTJSON(nil, m)); err != nil || string(got) != want {
			t.Errorf("terminal: %v: got %q, %v, want %q", terminal, got, err, want)
		}
	}
	r := &Record{Topic: "t", Key: []byte("k\x1b"), Value: []byte("v\x1b\n"), Headers: []Header{{"h\x1b", []byte("\n")}}}
	for terminal, want := range map[bool]string{
		false: "\x1bt k\x1b v\x1b\n h\x1b=\n",
		true:  "\x1bt k\\u001b v\\u001b\n h\\u001b=\\u000a",
	} {
		f, err := ParseKafka(`\x1b%t %k %s %h`, "")
		if err != nil {
			t.Fatal(err)
		}
		f.Terminal = terminal
		if got := string(f.AppendTo(nil, r)); got != want {
			t.Errorf("terminal: %v: got %q, want %q", terminal, got, want)
		}
	}
}
