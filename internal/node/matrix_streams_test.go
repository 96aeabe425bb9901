package node

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/api"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// The streams that the administrative interface sends: they go on while rights change.

// followed is a stream that somebody follows.
type followed struct {
	who   *person
	what  string
	right string
	by    func() bool // tells whether what proved who it is is good still
	trace string      // the client that is traced; "": it is something else
	name  string      // the topic name that is followed by the API; "": it is something else
	body  io.ReadCloser
}

// shows reads a stream up to what has a text in it; false: it ends before.
func (f *followed) shows(text string) bool {
	limit := time.AfterFunc(patience, func() { _ = f.body.Close() })
	defer limit.Stop()
	lines := bufio.NewReader(f.body)
	for {
		line, err := lines.ReadString('\n')
		if strings.Contains(line, text) {
			return true
		}
		if err != nil {
			return false
		}
	}
}

// streams has something happen, judges what those see of it who follow since the phase before, and has everybody who
// may follow from now on.
func (m *matrix) streams() {
	mark := fmt.Sprintf("mark-%d", m.phase)
	m.happens(mark)
	for _, f := range m.open {
		m.judge("HTTP stream", f.who, f.what, m.sees(f) && f.by(), f.shows(mark))
		_ = f.body.Close()
	}
	m.open = nil
	for i, who := range m.people {
		as := asBackEnd(who)
		as.listener = "http"
		if strings.Contains(as.user, ":") {
			continue // HTTP cannot say such a name
		}
		basic := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(as.user+":"+mxPassword))
		m.follow(as, newBrowser(m.t, m.node), fmt.Sprint("traced", i), basic)
		if jar := m.jars[as.user][1]; jar != nil {
			m.follow(as, jar, fmt.Sprint("traced by a cookie", i))
		}
	}
}

// happens has the audit and each trace be told of something.
func (m *matrix) happens(mark string) {
	m.user(mark, map[string]any{}, true)
	m.root.publish(&packet.Publish{Topic: []byte(fencePost), Payload: []byte(mark), QoS: 1}, 0)
	m.root.drain()
	for _, f := range m.open {
		if f.trace == "" {
			continue
		}
		d, err := m.dial(&person{user: "root", client: f.trace, listener: "mqtt"}, func(o *client.Options) {
			o.Resume = false
		})
		if err != nil {
			m.t.Fatal(err)
		}
		d.publish(&packet.Publish{Topic: []byte(mxRoot + "/trace/" + mark), QoS: 1}, 0)
		d.drain()
		d.c.Abort()
	}
}

// fencePost is a name that everybody may read who may come.
const fencePost = mxRoot + "/fence"

func (m *matrix) sees(f *followed) bool {
	if f.name != "" {
		return m.oracle.name(f.who, f.right, f.name)
	}
	return m.oracle.resource(f.who, f.right, "cluster", "kafka-cluster")
}

// follow asks for each stream, and judges whether it is answered.
func (m *matrix) follow(who *person, b *browser, traced string, headers ...string) {
	roles, changed := m.oracle.roles[who.user]
	same := func() bool { // a session ends with a change of its user
		now, is := m.oracle.roles[who.user]
		return len(headers) > 0 || is == changed && fmt.Sprint(now) == fmt.Sprint(roles)
	}
	for _, f := range []*followed{
		{what: adminPath + "/audit?follow=true&last=1&type=change", right: "describe"},
		{what: adminPath + "/trace?client=" + strings.ReplaceAll(traced, " ", "+"), right: "alter", trace: traced},
		{what: api.Path + "/filters/" + url.PathEscape(fencePost) + "/messages", right: "read", name: fencePost},
	} {
		answer := b.open(http.MethodGet, f.what, "", headers...) //nolint:bodyclose // streams closes it
		f.who, f.by, f.body = who, same, answer.Body
		m.t.Cleanup(func() { _ = f.body.Close() })
		m.judge("HTTP stream asked for", who, f.what, m.sees(f), answer.StatusCode == http.StatusOK)
		if answer.StatusCode == http.StatusOK {
			m.open = append(m.open, f)
			continue
		}
		_ = f.body.Close()
	}
}
