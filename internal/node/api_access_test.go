package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/access/authority"
	"github.com/firthmq/firth/internal/access/people"
	"github.com/firthmq/firth/internal/api"
	"github.com/firthmq/firth/internal/mqtt/client"
)

// answered is what the API answers to a change.
type answered struct {
	status int
	tag    string // its ETag
	text   string
}

// change asks with a body, and wants a status.
func (c apiClient) change(method, path, body string, status int, headers ...string) answered {
	c.t.Helper()
	a := c.send(method, path, body, headers...)
	if a.status != status {
		c.t.Errorf("%s %s %s: %d %s, want %d", method, path, body, a.status, a.text, status)
	}
	return a
}

// read reads an answer, which leaves nothing of what was in it before.
func read[T any](t *testing.T, a answered, into *T) {
	t.Helper()
	*into = *new(T)
	if err := json.Unmarshal([]byte(a.text), into); err != nil {
		t.Errorf("%v: %s", err, a.text)
	}
}

func (c apiClient) send(method, path, body string, headers ...string) answered {
	c.t.Helper()
	if c.user != "" {
		headers = append(headers, basicHeader(c.user, mxPassword))
	}
	resp := newBrowser(c.t, c.n).open(method, api.Path+path, body, headers...)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answered{resp.StatusCode, resp.Header.Get("ETag"), string(text)}
}

// names are those of the things on all pages of a list, by one of their fields.
func (c apiClient) names(path, field string) (all []string) {
	c.t.Helper()
	glue := "?"
	if strings.Contains(path, "?") {
		glue = "&"
	}
	for next := ""; ; {
		var page struct {
			Items []map[string]any
			Next  string
			Total int
		}
		c.get(path+glue+"limit=2&cursor="+next, &page)
		for _, item := range page.Items {
			name, _ := item[field].(string)
			all = append(all, name)
		}
		if next = page.Next; next == "" {
			if page.Total != len(all) {
				c.t.Errorf("%s: %d in all, want %d", path, page.Total, len(all))
			}
			return all
		}
	}
}

// wants compares lists.
func wants(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func ifMatch(tag string) string { return "If-Match: " + tag }

// TestAPIUsers makes users, changes them by two who do not know of each other, and removes them.
func TestAPIUsers(t *testing.T) {
	n := start(t, local(t))
	nobody := apiClient{t, n, ""}
	nobody.change("POST", "/users", `{"name":"root","password":"`+mxPassword+`","roles":["admin"]}`, 201)
	nobody.change("POST", "/users", `{"name":"eve"}`, 401)
	root := apiClient{t, n, "root"}
	var made api.UserMade
	first := root.change("POST", "/users",
		`{"name":"a/b","generate":true,"roles":["viewer","producer"],"groups":["plant"]}`, 201)
	read(t, first, &made)
	if made.Name != "a/b" || len(made.Password) < 32 || made.Disabled || first.tag == "" ||
		!slices.Equal(made.Roles, []string{"producer", "viewer"}) {
		t.Errorf("%+v %q", made, first.tag)
	}
	mayLogIn := func(password string) bool {
		status, _ := newBrowser(t, n).login("a/b", password)
		return status == http.StatusOK
	}
	if !mayLogIn(made.Password) {
		t.Error("the password that was made is not good")
	}
	shown := root.send("GET", "/users/a%2Fb", "")
	if shown.tag != first.tag || strings.Contains(shown.text, made.Password) ||
		strings.Contains(shown.text, `"password":`) {
		t.Errorf("%+v, want the tag %s", shown, first.tag)
	}
	const one = "/users/a%2Fb"
	root.change("POST", "/users", `{"name":"a/b"}`, 409)
	root.change("PATCH", one, `{"disabled":true}`, 428)
	root.change("PATCH", one, `{"disabled":true}`, 412, ifMatch(`"other"`))
	root.change("PATCH", one, `{"disabled":true}`, 412, ifMatch("W/"+first.tag))
	root.change("PATCH", one, `{"disabled":true}`, 400, "If-None-Match: *")
	root.change("PATCH", "/users/none", `{"disabled":true}`, 404, ifMatch("*"))
	second := root.change("PATCH", one, `{"password":"another password"}`, 200, ifMatch(`"x", `+first.tag))
	if second.tag == first.tag || mayLogIn(made.Password) || !mayLogIn("another password") {
		t.Errorf("a new password: %+v", second)
	}
	root.change("PATCH", one, `{"roles":["viewer"]}`, 412, ifMatch(first.tag))
	read(t, root.change("PATCH", one, `{"disabled":true,"roles":[]}`, 200, ifMatch(second.tag)), &made)
	if !made.Disabled || len(made.Roles) != 0 || made.Password != "" || mayLogIn("another password") {
		t.Errorf("disabled: %+v", made)
	}
	for body, words := range map[string]string{
		"":                              "nothing is said",
		`{"name":"x"`:                   "not understood",
		`{"name":"x"} {}`:               "more behind",
		`{"name":"x","pass":"y"}`:       `unknown field`,
		`{"name":"x","password":""}`:    "is empty",
		`{"name":""}`:                   "the name of a user",
		`{"name":"*"}`:                  "not the name of a user",
		`{"name":"x","roles":[""]}`:     "the name of a role",
		`{"name":"x","roles":"viewer"}`: "not understood",
		`{"name":"x","generate":true,"password":"y"}`: "besides",
	} {
		if a := root.change("POST", "/users", body, 400); !strings.Contains(a.text, words) {
			t.Errorf("%s: %s", body, a.text)
		}
	}
	root.change("POST", "/users", `{"name":"carl","roles":["viewer"],"groups":["plant"]}`, 201)
	wants(t, "all", root.names("/users", "name"), "a/b", "carl", "root")
	wants(t, "backwards", root.names("/users?sort=-name", "name"), "root", "carl", "a/b")
	wants(t, "by roles", root.names("/users?sort=roles", "name"), "a/b", "root", "carl")
	wants(t, "of a role", root.names("/users?role=viewer", "name"), "carl")
	wants(t, "of a group", root.names("/users?group=plant&search=a", "name"), "a/b", "carl")
	wants(t, "kept out", root.names("/users?state=disabled", "name"), "a/b")
	root.change("DELETE", one, "", 412, ifMatch(second.tag))
	root.change("DELETE", one, "", 200, ifMatch("*"))
	root.change("DELETE", one, "", 404, ifMatch("*"))
}

// TestAPIUsersRace: of many who change a user at once by what they have seen, one does.
func TestAPIUsersRace(t *testing.T) {
	n := start(t, local(t))
	addUser(t, n, "root", "admin")
	addUser(t, n, "bob")
	root := apiClient{t, n, "root"}
	tag := root.send("GET", "/users/bob", "").tag
	const many = 8
	statuses := make([]int, many)
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() { statuses[i] = root.send("PATCH", "/users/bob", `{"disabled":true}`, ifMatch(tag)).status })
	}
	all.Wait()
	slices.Sort(statuses)
	if statuses[0] != 200 || statuses[1] != 412 || statuses[many-1] != 412 {
		t.Errorf("%v", statuses)
	}
}

// TestAPILogins lists sessions of people, and ends them; a session changes nothing without its token.
func TestAPILogins(t *testing.T) {
	n := start(t, local(t))
	addUser(t, n, "root", "admin")
	addUser(t, n, "bob", "viewer")
	root, bob := newBrowser(t, n), newBrowser(t, n)
	for b, name := range map[*browser]string{root: "root", bob: "bob"} {
		if status, text := b.login(name, mxPassword); status != http.StatusOK {
			t.Fatalf("%d %s", status, text)
		}
	}
	admin := apiClient{t, n, "root"}
	wants(t, "logins", admin.names("/logins", "user"), "bob", "root")
	wants(t, "of bob", admin.names("/logins?user=bob", "method"), "password")
	if status, text := root.do("DELETE", api.Path+"/users/bob/logins", "", people.CSRFHeader+": "); status != 403 ||
		!strings.Contains(text, "the token of the session") {
		t.Errorf("without the token: %d %s", status, text)
	}
	if status, text := bob.do("DELETE", api.Path+"/users/root/logins", ""); status != 403 {
		t.Errorf("by a viewer: %d %s", status, text)
	}
	if status, text := root.do("DELETE", api.Path+"/users/bob/logins", ""); status != 200 ||
		!strings.Contains(text, `"ended":1`) {
		t.Errorf("logged out: %d %s", status, text)
	}
	if status, _ := bob.do("GET", api.Path+"/users", ""); status != http.StatusUnauthorized {
		t.Errorf("bob is still there: %d", status)
	}
	admin.change("DELETE", "/users/bob/logins", "", 404)
	id := admin.names("/logins", "id")[0]
	admin.change("DELETE", "/logins/"+id, "", 200)
	admin.change("DELETE", "/logins/"+id, "", 404)
}

const readsMeters = `"effect":"allow","operations":["read"],"kind":"topic","pattern":"literal","name":"meters"`

// TestAPIRules adds rules and masks, finds out by them who may do what, and gives a role its rules.
func TestAPIRules(t *testing.T) {
	n := start(t, local(t))
	addUser(t, n, "root", "admin")
	addUser(t, n, "ann", "reader")
	makeTopics(t, n, "meters")
	root, ann := apiClient{t, n, "root"}, apiClient{t, n, "ann"}
	explain := func(want bool) (said api.Explained) {
		t.Helper()
		root.get("/explain?user=ann&operation=read&name=meters", &said)
		status := ann.send("GET", "/topics/meters/records", "").status
		if said.Allowed != want || (status == 200) != want {
			t.Errorf("%+v, and ann got %d", said, status)
		}
		return said
	}
	if said := explain(false); said.Reason != "no rule allows it" {
		t.Errorf("%+v", said)
	}
	var r api.Rule
	read(t, root.change("POST", "/rules", `{"principal":"User:ann",`+readsMeters+`}`, 201), &r)
	if said := explain(true); len(said.Rules) != 1 || said.Rules[0].ID != r.ID ||
		r.Text != "allow User:ann read on topic meters" {
		t.Errorf("%+v, %+v", said, r)
	}
	root.change("POST", "/rules", `{"principal":"User:ann",`+readsMeters+`}`, 201)
	root.change("POST", "/rules", `{"principal":"Role:reader","effect":"mask","operations":["read"],"kind":"topic",`+
		`"pattern":"literal","name":"meters","masks":["key=hash"]}`, 201)
	if said := explain(true); len(said.Masks) != 1 || !slices.Equal(said.Masks[0].Masks, []string{"key=hash"}) {
		t.Errorf("%+v", said)
	}
	wants(t, "masks", root.names("/rules?effect=mask", "principal"), "Role:reader")
	wants(t, "about ann", root.names("/rules?user=ann&sort=principal", "principal"), "Role:reader", "User:ann")
	wants(t, "of a principal", root.names("/rules?principal=User:ann", "id"), r.ID)
	wants(t, "of a ready role", root.names("/rules?ready=true&user=root&kind=group", "principal"), "Role:admin")
	root.change("GET", "/rules/"+r.ID, "", 200)
	root.change("DELETE", "/rules/"+r.ID, "", 200)
	root.change("DELETE", "/rules/"+r.ID, "", 404)
	explain(false)
	for _, body := range []string{
		`{"principal":"ann",` + readsMeters + `}`,
		`{` + readsMeters + `}`,
		`{"principal":"User:ann","effect":"mask","operations":["read"],"kind":"topic","pattern":"literal","name":"x"}`,
		`{"principal":"User:ann","effect":"allow","operations":["fly"],"kind":"topic","pattern":"literal","name":"x"}`,
		`{"id":"` + r.ID + `"}`} {
		root.change("POST", "/rules", body, 400)
	}
	for _, query := range []string{"operation=fly&name=x", "operation=read", "operation=read&name=x&address=here",
		"operation=read&name=x&cert=shoe%3D43"} {
		root.refused("/explain?"+query, 400)
	}
	root.get("/explain?operation=read&name=x&cert="+url.QueryEscape("cn=pump")+"&cert="+url.QueryEscape("ou=plant"),
		&api.Explained{})
}

// TestAPIRoles gives a role its rules, by two who do not know of each other, and takes them away.
func TestAPIRoles(t *testing.T) {
	n := start(t, local(t))
	addUser(t, n, "root", "admin")
	addUser(t, n, "ann", "reader")
	root := apiClient{t, n, "root"}
	const readers = `{"rules":[{` + readsMeters + `}]}`
	root.change("GET", "/roles/reader", "", 404)
	root.change("PUT", "/roles/reader", readers, 428)
	root.change("PUT", "/roles/reader", readers, 412, ifMatch("*"))
	var role api.RoleDetail
	first := root.change("PUT", "/roles/reader", readers, 201, "If-None-Match: *")
	read(t, first, &role)
	if len(role.Rules) != 1 || role.Rules[0].Principal != "Role:reader" || first.tag == "" {
		t.Errorf("%+v", role)
	}
	root.change("PUT", "/roles/reader", readers, 412, "If-None-Match: *")
	const two = `{"rules":[{` + readsMeters + `},{"effect":"deny","operations":["all"],"kind":"topic",` +
		`"pattern":"prefixed","name":"secret"}]}`
	second := root.change("PUT", "/roles/reader", two, 200, ifMatch(first.tag))
	read(t, second, &role)
	if len(role.Rules) != 2 || second.tag == first.tag {
		t.Errorf("%+v", role)
	}
	root.change("PUT", "/roles/reader", readers, 412, ifMatch(first.tag))
	root.change("PUT", "/roles/reader", `{"rules":[]}`, 400, ifMatch("*"))
	if again := root.send("GET", "/roles/reader", ""); again.tag != second.tag {
		t.Errorf("%+v", again)
	}
	wants(t, "roles by users", root.names("/roles?sort=-users&search=r", "name"), "reader", "viewer", "producer",
		"operator", "consumer")
	var list api.Page[api.Role]
	root.get("/roles?search=reader", &list)
	if list.Items[0] != (api.Role{Name: "reader", Rules: 2, Users: 1}) {
		t.Errorf("%+v", list)
	}
	root.get("/roles/viewer", &role)
	if all := root.send("GET", "/users", "").text; strings.Contains(all, "null") {
		t.Errorf("a list that is none: %s", all)
	}
	if len(role.Ready) == 0 || len(role.Rules) != 0 {
		t.Errorf("%+v", role)
	}
	root.change("DELETE", "/roles/viewer", "", 404, ifMatch("*"))
	root.change("DELETE", "/roles/reader", "", 412, ifMatch(first.tag))
	root.change("DELETE", "/roles/reader", "", 200, ifMatch(second.tag))
	root.change("GET", "/roles/reader", "", 404)
}

// TestAPIBans keeps a client out, and lets it in again.
func TestAPIBans(t *testing.T) {
	n := start(t, local(t))
	addUser(t, n, "root", "admin")
	addUser(t, n, "dev", "device")
	root := apiClient{t, n, "root"}
	dial := func() error {
		c, err := client.Dial(t.Context(), n.Addresses().MQTT, client.Options{ClientID: "d/1", UserName: "dev",
			Password: []byte(mxPassword)})
		if err == nil {
			c.Abort()
		}
		return err
	}
	if err := dial(); err != nil {
		t.Fatal(err)
	}
	var b api.Ban
	read(t, root.change("POST", "/bans", `{"kind":"client","who":"d/1","for":"1h","reason":"noise"}`, 201), &b)
	if b.By != "User:root" || b.Until == nil || b.Reason != "noise" || dial() == nil {
		t.Errorf("%+v", b)
	}
	root.change("POST", "/bans", `{"kind":"address","who":"192.0.2.0/24"}`, 201)
	for _, body := range []string{`{"kind":"shoe","who":"x"}`, `{"kind":"client","who":"x","for":"soon"}`,
		`{"kind":"client","who":"x","for":"1h","until":"2100-01-01T00:00:00Z"}`,
		`{"kind":"client","who":"x","until":"2000-01-01T00:00:00Z"}`, `{"kind":"address","who":"home"}`} {
		root.change("POST", "/bans", body, 400)
	}
	wants(t, "bans", root.names("/bans", "who"), "192.0.2.0/24", "d/1")
	wants(t, "by end", root.names("/bans?sort=-until", "who"), "192.0.2.0/24", "d/1")
	wants(t, "of a kind", root.names("/bans?kind=client&search=noise", "who"), "d/1")
	root.change("DELETE", "/bans/client/d%2F1", "", 200)
	root.change("DELETE", "/bans/client/d%2F1", "", 404)
	root.change("DELETE", "/bans/address/192.0.2.0%2F24", "", 200)
	if err := dial(); err != nil {
		t.Error(err)
	}
}

// TestAPITokens makes a token, uses it within its scope, never sees its secret again, and revokes it.
func TestAPITokens(t *testing.T) {
	n := start(t, local(t))
	addUser(t, n, "root", "admin")
	makeTopics(t, n, "meters", "others")
	root := apiClient{t, n, "root"}
	var made api.TokenMade
	read(t, root.change("POST", "/tokens",
		`{"owner":"root","name":"nightly","expires":"90d","rules":[{`+readsMeters+`}]}`, 201), &made)
	root.change("POST", "/tokens", `{"owner":"root","expires":"never","roles":["viewer"]}`, 201)
	nobody, bearer := apiClient{t, n, ""}, "Authorization: Bearer "+made.Text
	nobody.change("GET", "/topics/meters/records", "", 200, bearer)
	nobody.change("GET", "/topics/others/records", "", 403, bearer)
	nobody.change("GET", "/tokens", "", 403, bearer)
	for _, path := range []string{"/tokens", "/tokens/" + made.ID, "/audit?limit=1000"} {
		if a := root.change("GET", path, "", 200); strings.Contains(a.text, made.Text) {
			t.Errorf("%s tells what proves a token: %s", path, a.text)
		}
	}
	var one api.Token
	read(t, root.change("GET", "/tokens/"+made.ID, "", 200), &one)
	if one.Owner != "root" || one.Name != "nightly" || one.Ends == nil || len(one.Rules) != 1 || one.Kind != "program" {
		t.Errorf("%+v", one)
	}
	wants(t, "tokens by end", root.names("/tokens?sort=ends&owner=root&kind=program", "name"), "nightly", "")
	wants(t, "by name", root.names("/tokens?search=night", "id"), made.ID)
	for body, status := range map[string]int{
		`{"owner":"root"}`:                                     400,
		`{"owner":"root","expires":"soon"}`:                    400,
		`{"owner":"none","expires":"1h"}`:                      404,
		`{"owner":"root","expires":"1h","rules":[{"name":1}]}`: 400,
	} {
		root.change("POST", "/tokens", body, status)
	}
	root.change("DELETE", "/tokens/"+made.ID, "", 200)
	root.change("DELETE", "/tokens/"+made.ID, "", 404)
	nobody.change("GET", "/topics/meters/records", "", 401, bearer)
}

// TestAPICertificates lists certificates with their state, and revokes one.
func TestAPICertificates(t *testing.T) {
	n := start(t, local(t))
	addUser(t, n, "root", "admin")
	root := apiClient{t, n, "root"}
	root.change("GET", "/authority", "", 404)
	if err := n.authority.Create(t.Context(), "plant"); err != nil {
		t.Fatal(err)
	}
	var own api.Authority
	root.get("/authority", &own)
	if own.Name != "plant" || !strings.Contains(own.PEM, "BEGIN CERTIFICATE") || own.Until.IsZero() {
		t.Errorf("%+v", own)
	}
	serials := map[string]string{}
	for name, life := range map[string]time.Duration{"pump": 90 * day, "valve": 2 * day} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatal(err)
		}
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		made, err := n.authority.Issue(t.Context(), &authority.Request{CSR: csr, Name: name, Life: life, By: "a test"})
		if err != nil {
			t.Fatal(err)
		}
		serials[name] = made.Serial
	}
	wants(t, "by end", root.names("/certificates?sort=until", "name"), "valve", "pump")
	wants(t, "soon over", root.names("/certificates?state=ending", "name"), "valve")
	root.change("DELETE", "/certificates/pump", "", 404) // no serial number
	var c api.Certificate
	read(t, root.change("DELETE", "/certificates/"+serials["pump"]+"?reason=stolen", "", 200), &c)
	if c.State != "revoked" || c.Revoked == nil || c.Reason != "stolen" || c.Name != "pump" {
		t.Errorf("%+v", c)
	}
	root.change("DELETE", "/certificates/"+serials["pump"], "", 404) // it is over already
	wants(t, "revoked", root.names("/certificates?state=revoked&search=pum", "serial"), serials["pump"])
	root.change("GET", "/certificates/"+serials["valve"], "", 200)
}

// TestAPIQuotas sets quotas, which Kafka clients see, by two who do not know of each other.
func TestAPIQuotas(t *testing.T) {
	n := start(t, local(t))
	nobody := apiClient{t, n, ""}
	const one = "/quotas/user=alice&client_id=app"
	nobody.change("GET", one, "", 404)
	nobody.change("PUT", one, `{"producer_byte_rate":1000}`, 428)
	first := nobody.change("PUT", one, `{"producer_byte_rate":1000,"request_percentage":12.5}`, 201, "If-None-Match: *")
	nobody.change("PUT", one, `{"producer_byte_rate":1000}`, 412, "If-None-Match: *")
	k, err := kgo.NewClient(kgo.SeedBrokers(n.Addresses().Kafka))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	seen := func() (all []string) {
		t.Helper()
		quotas, err := kadm.NewClient(k).DescribeClientQuotas(t.Context(), false, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range quotas {
			for _, v := range q.Values {
				all = append(all, fmt.Sprint(q.Entity.String(), " ", v.Key, "=", v.Value))
			}
		}
		slices.Sort(all)
		return all
	}
	if all := seen(); len(all) != 2 || !strings.HasSuffix(all[0], "producer_byte_rate=1000") {
		t.Errorf("%q", all)
	}
	second := nobody.change("PUT", one, `{"consumer_byte_rate":5}`, 200, ifMatch(first.tag))
	if all := seen(); len(all) != 1 || !strings.HasSuffix(all[0], "consumer_byte_rate=5") || second.tag == first.tag {
		t.Errorf("%q", all)
	}
	nobody.change("PUT", one, `{"producer_byte_rate":1}`, 412, ifMatch(first.tag))
	if again := nobody.change("GET", one, "", 200); again.tag != second.tag {
		t.Errorf("%+v", again)
	}
	nobody.change("PUT", "/quotas/user=", `{"producer_byte_rate":7}`, 201, "If-None-Match: *")
	nobody.change("PUT", "/quotas/address=::ffff:192.0.2.1", `{"connection_creation_rate":3}`, 201, "If-None-Match: *")
	nobody.change("GET", "/quotas/address=192.0.2.1", "", 200)
	for path, body := range map[string]string{
		"/quotas/user=a":           `{"connection_creation_rate":3}`,
		"/quotas/user=b":           `{"producer_byte_rate":0}`,
		"/quotas/user=c":           `{"producer_byte_rate":1.5}`,
		"/quotas/user=d":           `{}`,
		"/quotas/alice":            `{"producer_byte_rate":1}`,
		"/quotas/user=a&user=b":    `{"producer_byte_rate":1}`,
		"/quotas/user=a&address=":  `{"producer_byte_rate":1}`,
		"/quotas/address=home":     `{"connection_creation_rate":3}`,
		"/quotas/user=%25FF":       `{"producer_byte_rate":1}`,
		"/quotas/client_id=a%2525": `{"producer_byte_rate":"1"}`,
	} {
		nobody.change("PUT", path, body, 400, "If-None-Match: *")
	}
	wants(t, "quotas", nobody.names("/quotas", "id"), "address=192.0.2.1", "user=", "user=alice&client_id=app")
	wants(t, "of alice", nobody.names("/quotas?search=alice", "user"), "alice")
	nobody.change("DELETE", one, "", 412, ifMatch(first.tag))
	nobody.change("DELETE", one, "", 200, ifMatch(second.tag))
	nobody.change("DELETE", one, "", 404, ifMatch("*"))
}

// audits reads the audit page by page, and tells who did what to what, and how it ended.
func (c apiClient) audits(query string) (all []string) {
	c.t.Helper()
	for next := ""; ; {
		var page api.AuditPage
		c.get("/audit?limit=2&"+query+"&cursor="+next, &page)
		for _, e := range page.Items {
			on := ""
			if len(e.On) > 0 {
				on = e.On[0].Kind + ":" + e.On[0].Name
			}
			all = append(all, strings.Join([]string{e.Actor.Principal, e.Action, on, e.Outcome}, " "))
		}
		if next = page.Next; page.End {
			return all
		}
	}
}

// TestAPIAudit: what is changed by the API is in the audit, in the name of who asked, and is found there; what was
// refused, too, and no secret.
func TestAPIAudit(t *testing.T) {
	n := start(t, local(t))
	addUser(t, n, "root", "admin")
	root, ann := apiClient{t, n, "root"}, apiClient{t, n, "ann"}
	root.change("POST", "/users", `{"name":"ann","password":"`+mxPassword+`","roles":["viewer"]}`, 201)
	root.change("PATCH", "/users/ann", `{"password":"`+mxPassword+`"}`, 200, ifMatch("*"))
	root.change("PATCH", "/users/ann", `{"disabled":true}`, 412, ifMatch(`"x"`)) // nothing is changed
	ann.change("DELETE", "/users/root", "", 403)
	root.change("DELETE", "/users/ann", "", 200, ifMatch("*"))
	// The last outcome is written within a second.
	eventually(t, func() bool {
		return slices.Contains(root.audits("action=user.remove&outcome=success"), "User:root user.remove user:ann success")
	})
	changes := "type=change&resource=user:ann"
	newest := root.audits(changes + "&outcome=success")
	wants(t, "the newest first", newest, "User:root user.remove user:ann success",
		"User:root user.set user:ann success", "User:root user.add user:ann success")
	oldest := root.audits(changes + "&outcome=success&sort=time")
	slices.Reverse(oldest)
	wants(t, "the oldest first", oldest, newest...)
	wants(t, "refused", root.audits("outcome=denied&principal=ann"), "User:ann alter cluster:kafka-cluster denied")
	wants(t, "of another", root.audits("principal=carl"))
	wants(t, "later", root.audits("since=2100-01-01T00:00:00Z"))
	wants(t, "before", root.audits("until=2000-01-01T00:00:00Z"))
	if all := root.audits("since=2000-01-01T00:00:00Z&principal=User:root&type=firth.change"); len(all) != 6 {
		t.Errorf("%q", all)
	}
	if a := root.change("GET", "/audit?limit=1000", "", 200); strings.Contains(a.text, mxPassword) {
		t.Error("a password is in the audit")
	}
	var page api.AuditPage
	root.get("/audit?limit=1", &page)
	root.refused("/audit?sort=time&cursor="+page.Next, 400, "sorted by -time")
	root.refused("/audit?cursor=x", 400)

	var verdict api.AuditVerdict
	root.get("/audit/verify", &verdict)
	if !verdict.Good || !verdict.Whole || verdict.First != 1 || verdict.Last < 6 || verdict.Records != int(verdict.Last) {
		t.Errorf("%+v", verdict)
	}
}
