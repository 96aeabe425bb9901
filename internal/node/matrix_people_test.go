package node

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/access/people"
	"github.com/firthmq/firth/internal/api"
)

// logIn has every user log in with a browser, besides the session of the phase before.
func (m *matrix) logIn() {
	m.t.Helper()
	for user, jar := range m.jars {
		m.jars[user] = [2]*browser{jar[1], nil}
	}
	for _, who := range m.people {
		user := asBackEnd(who).user
		if m.jars[user][1] != nil {
			continue
		}
		b := newBrowser(m.t, m.node)
		status, _ := b.login(user, mxPassword)
		m.judge("HTTP login", who, "login", !m.oracle.out[user], status == http.StatusOK)
		m.jars[user] = [2]*browser{m.jars[user][0], b}
	}
}

// byCookies makes a request by the sessions of somebody, without the token where one is needed, and by a cookie that is
// none. A session of before goes on if the user stays as it was.
func (m *matrix) byCookies(as *person, method, path string, may bool) {
	m.t.Helper()
	before, was := m.before.roles[as.user]
	now, is := m.oracle.roles[as.user]
	same := was == is && slices.Equal(before, now) && !m.oracle.out[as.user]
	for i, b := range m.jars[as.user] {
		if b == nil {
			continue
		}
		good := may && (i == 1 || same)
		status, said := b.do(method, path, "0")
		m.judge("HTTP by a cookie", as, method+" "+path, good, !refusing(status))
		if payloads.MatchString(said) {
			m.judge("HTTP payload", as, path, m.oracle.resource(as, "alter", "cluster", "kafka-cluster"), true)
		}
		if method != http.MethodGet {
			status, _ = b.do(method, path, "0", people.CSRFHeader+": x")
			m.judge("HTTP without the token", as, method+" "+path, false, !refusing(status))
		}
	}
}

func refusing(status int) bool {
	return status == http.StatusForbidden || status == http.StatusUnauthorized
}

// readsByAPI reads every topic by the API, as somebody who says its password, and lists them.
func (m *matrix) readsByAPI(as *person) {
	if strings.Contains(as.user, ":") {
		return // HTTP cannot say such a name
	}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(as.user+":"+mxPassword))
	status, list := m.web(http.MethodGet, api.Path+"/topics?limit=1000", basic, 0)
	if status == http.StatusUnauthorized { // it is not let in, and each time makes the next one wait
		for _, topic := range m.small() {
			m.judge("API login", as, topic, m.oracle.topic(as, "describe", topic), false)
		}
		return
	}
	for _, topic := range m.small() {
		m.judge("API list", as, topic, m.oracle.topic(as, "describe", topic), strings.Contains(string(list), `"`+topic+`"`))
		status, _ = m.web(http.MethodGet, api.Path+"/topics/"+topic, basic, 0)
		m.judge("API topic", as, topic, m.oracle.topic(as, "describe", topic), status == http.StatusOK)
		status, said := m.web(http.MethodGet, api.Path+"/topics/"+topic+"/records?limit=1000", basic, 0)
		m.judge("API records", as, topic, m.oracle.topic(as, "read", topic), status == http.StatusOK)
		if payloads.Match(said) {
			m.judge("API masked", as, topic, !m.oracle.maskedTopic(as, topic), secrets.Match(said))
		}
	}
}
