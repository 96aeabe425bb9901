package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/firthmq/firth/internal/erasure"
	"github.com/firthmq/firth/internal/kafka"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// openErasures goes on with what is to be shredded. The log of an outside Kafka is not ours to write anew.
func (n *Node) openErasures(ctx context.Context) (err error) {
	if n.store == nil {
		return nil
	}
	n.erasures, err = erasure.Open(ctx, erasure.Options{
		Log: n.store, Audit: n.audit, Places: n.subjects, Clear: n.mqtt.Forget, Metrics: n.metrics,
		Logger: n.log,
	})
	if err != nil {
		return fmt.Errorf("erasures: %w", err)
	}
	n.opened("erasures", n.run("erasures", n.erasures.Run))
	return nil
}

// subjects are the topics whose records say whom they are about: those that name a subject, those that take dead
// letters of others, and where the device door keeps messages.
func (n *Node) subjects() (places []erasure.Place) {
	internal := n.mqtt.Subjects()
	named := false
	for _, t := range n.store.Topics().All() {
		subject := t.Settings.Subject
		named = named || subject.Named()
		switch {
		case internal[t.Name] != nil:
			places = append(places, erasure.Place{Topic: t, Of: internal[t.Name], State: true})
		case subject.Named():
			places = append(places, erasure.Place{Topic: t, Of: subject.Of})
		case t.Settings.DeadLetters:
			places = append(places, erasure.Place{Topic: t, Of: n.letterSubject})
		}
	}
	if !named {
		return nil
	}
	return places
}

// letterSubject is whom the record was about that a dead letter is of.
func (n *Node) letterSubject(v *record.View) ([]byte, bool) {
	source, _ := v.Header(kafka.LetterTopic)
	t := n.store.Topics().ByName(string(source))
	if t == nil {
		return stream.Subject{}.Of(v)
	}
	return t.Settings.Subject.Of(v)
}

// shredAsk is whom a request is about. It is in the body: what is in an address is written down in many places.
type shredAsk struct {
	Subject []byte `json:"subject"` // base64
}

func (n *Node) shredAskOf(r *http.Request) (a shredAsk, err error) {
	if n.erasures == nil {
		return a, errNoErasures
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 64<<10)).Decode(&a); err != nil {
		return a, fault.New(fault.Invalid, "admin", "the body names no subject: %w", err)
	}
	return a, nil
}

func (n *Node) adminShred(r *http.Request) (any, error) {
	a, err := n.shredAskOf(r)
	if err != nil {
		return nil, err
	}
	return n.erasures.Ask(r.Context(), a.Subject)
}

var errNoErasures = fault.New(fault.Unsupported, "shred", "the log is that of an outside Kafka").
	WithHint("what is in it has to be made unreadable there")

func (n *Node) adminShreds(*http.Request) (any, error) {
	if n.erasures == nil {
		return nil, errNoErasures
	}
	return append(n.erasures.List(), n.erasures.Lost()...), nil
}

// adminAcceptShreds ends the alarm about requests that cannot be read.
func (n *Node) adminAcceptShreds(r *http.Request) (any, error) {
	if n.erasures == nil {
		return nil, errNoErasures
	}
	return nil, n.erasures.Accept(r.Context())
}

// adminFindShreds lists the requests about a subject, and those that cannot be read: they may be about it.
func (n *Node) adminFindShreds(r *http.Request) (any, error) {
	a, err := n.shredAskOf(r)
	if err != nil {
		return nil, err
	}
	return append(n.erasures.Find(a.Subject), n.erasures.Lost()...), nil
}
