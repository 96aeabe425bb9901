package node

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/access/webhook"
	"github.com/firthmq/firth/internal/names"
)

// Webhook is where a service sends messages that it signs.
type Webhook struct {
	Name       string
	TopicName  string // of MQTT
	User       string // "": webhook.NAME
	Scheme     string
	Header     string // of the signature; "": as the scheme has it
	SecretFile string
	Tolerance  time.Duration
	MaxBody    int64  // bytes
	Keep       string // names of headers, with commas
}

// user is whose rights it has.
func (w *Webhook) user() string { return cmp.Or(w.User, "webhook."+w.Name) }

func webhooksOption() []Option {
	return []Option{
		objects(Option{Key: "webhooks", Type: "list of webhooks",
			Doc: "Services that send messages by HTTP and sign them: POST /hooks/NAME on listen.http publishes what comes " +
				"to a topic name, with the rights of a user. [api.md](api.md#webhooks) tells how.",
		}, entries[Webhook]{
			key: "webhooks", one: "webhook", list: func(c *Config) *[]Webhook { return &c.Webhooks },
			fields: webhookFields, needed: []string{"name", "topic_name", "secret_file"}, check: checkWebhook,
			page: webhooksManual,
		}),
	}
}

func webhookFields() []OptionOf[Webhook] {
	type option = OptionOf[Webhook]
	return []option{
		option{Key: "name", Type: "text", Doc: "The end of its path, /hooks/NAME: letters, digits, - and _."}.
			text(func(w *Webhook) *string { return &w.Name }, checkWebhookName),
		option{Key: "topic_name", Type: "topic name", Doc: "What its messages are published to, with QoS 1."}.
			text(func(w *Webhook) *string { return &w.TopicName }, checkTopicName),
		option{Key: "secret_file", Type: "path",
			Doc: "The file with the secret, for the user of the server only (mode 0600). It may have several, one a line, so " +
				"that one is replaced without a gap: any of them may have signed. It is read again when it changes.",
		}.text(func(w *Webhook) *string { return &w.SecretFile }, checkPath),
		option{Key: "scheme", Default: "standard",
			Doc: "How messages are signed, always by HMAC with SHA-256. standard: as the Standard Webhooks specification has " +
				"it. github: the body alone, in hexadecimal, as GitHub and many others do. stripe: time and body, as Stripe does.",
		}.choice(func(w *Webhook) *string { return &w.Scheme }, webhook.Schemes()...),
		option{Key: "header", Type: "text", Default: "",
			Doc: "The header with the signature, where it is not X-Hub-Signature-256 (github) or Stripe-Signature (stripe).",
		}.text(func(w *Webhook) *string { return &w.Header }, checkHeaders),
		option{Key: "user", Type: "user name", Default: "",
			Doc: "Whose rights it has: a user of firth user. Empty: webhook.NAME.",
		}.text(func(w *Webhook) *string { return &w.User }, anyText),
		option{Key: "tolerance", Default: "5m",
			Doc: "How far the time that was signed may be from that of the node, and for how long, twice, it is remembered " +
				"what came: what comes again meanwhile is answered, and not published again.",
		}.span(func(w *Webhook) *time.Duration { return &w.Tolerance }, time.Second, time.Hour, ""),
		option{Key: "max_body", Default: "1MiB", Doc: "The largest message."}.
			size(func(w *Webhook) *int64 { return &w.MaxBody }, kib, 64*mib, ""),
		option{Key: "keep_headers", Type: "list of headers", Default: "",
			Doc: "Headers that become user properties of the message, with commas: X-GitHub-Event. No signature is about them.",
		}.text(func(w *Webhook) *string { return &w.Keep }, checkHeaders),
	}
}

func checkWebhookName(s string) error {
	const longest = 64
	if s == "" || len(s) > longest || strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return fmt.Errorf("%q is not 1 to %d letters, digits, - and _", s, longest)
	}
	return nil
}

func checkTopicName(s string) error {
	if names.CheckName([]byte(s)) != nil || s[0] == '$' {
		return fmt.Errorf("%q is no topic name", s)
	}
	return nil
}

// checkHeaders sees that names of headers are such (RFC 9110, section 5.1).
func checkHeaders(s string) error {
	for _, one := range splitList(s) {
		if strings.ContainsFunc(one, func(c rune) bool {
			return c <= ' ' || c >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
		}) {
			return fmt.Errorf("%q is no name of a header", one)
		}
	}
	return nil
}

func checkWebhook(w *Webhook) (field string, err error) {
	if _, err := webhook.Parse(w.Scheme, w.Header, w.Tolerance); err != nil {
		return "header", errors.New("the scheme standard has headers of its own")
	}
	return "", nil
}

// checkWebhooks sees that no two have one path.
func (l *loader) checkWebhooks() {
	var before []string
	for i, w := range l.config.Webhooks {
		if slices.Contains(before, w.Name) {
			l.report(l.entries["webhooks"][i], "webhooks: webhook %d: there is another one called %s", i+1, w.Name)
		}
		before = append(before, w.Name)
	}
}

const webhooksManual = "```yaml" + `
webhooks:
  - name: shop
    topic_name: hooks/shop
    secret_file: /etc/firth/shop.secret
  - name: github
    topic_name: hooks/github
    scheme: github
    secret_file: /etc/firth/github.secret
    keep_headers: X-GitHub-Event, X-GitHub-Delivery
` + "```" + `

`
