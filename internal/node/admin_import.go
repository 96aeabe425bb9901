package node

import (
	"net/http"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/rule"
)

// imported are users and rules that come from elsewhere.
type imported struct {
	Users map[string]string `json:"users"` // verifiers of passwords by name
	Rules []rule.Rule       `json:"rules"`
}

// adminImport takes users and rules over, all or none; with replace=true users who are there get other passwords.
func (n *Node) adminImport(r *http.Request) (any, error) {
	var said imported
	if err := body(r, &said); err != nil {
		return nil, err
	}
	passwords := make(map[string]credential.Password, len(said.Users))
	for name, text := range said.Users {
		p, err := credential.ParsePassword(text)
		if err != nil {
			return nil, err
		}
		passwords[name] = p
	}
	return nil, n.access.Import(r.Context(), passwords, said.Rules, r.URL.Query().Get("replace") == "true")
}
