package node

import (
	"fmt"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/access/keys"
	"github.com/firthmq/firth/internal/access/oidc"
	"github.com/firthmq/firth/internal/access/people"
)

// OIDC is the identity provider at which people log in.
type OIDC struct {
	Issuer, ClientID string // "": there is none
	Secret           string // a file
	Scopes           string // with spaces or commas
	Name, Groups     string // claims
	Roles            string // group=role, with commas
	Skew             time.Duration
}

func oidcOptions() []Option {
	anything := func(string) error { return nil }
	return []Option{
		Option{Key: "access.oidc.issuer", Type: "URL",
			Doc: "The OpenID provider at which people log in to listen.http: its issuer, to the letter; https, or http on " +
				"this machine. With one nobody comes in unknown any more, by no door. It needs http.public_url: the " +
				"provider has to know PUBLIC_URL" + people.Callback + " as redirect URI.",
		}.text(func(c *Config) *string { return &c.Access.OIDC.Issuer }, checkKeysURL),
		Option{Key: "access.oidc.client_id", Type: "text",
			Doc: "What the provider calls us; its ID tokens have to be for it.",
		}.text(func(c *Config) *string { return &c.Access.OIDC.ClientID }, anything),
		Option{Key: "access.oidc.client_secret_file", Type: "path",
			Doc: "A file with the secret of the client, that nobody else can read. It is read at each login. Empty: the " +
				"client is a public one, and PKCE alone protects a login.",
		}.text(func(c *Config) *string { return &c.Access.OIDC.Secret }, anything),
		Option{Key: "access.oidc.scopes", Type: "list of scopes", Default: "openid,profile", list: true,
			Doc: "What the provider is asked to tell; openid always.",
		}.text(func(c *Config) *string { return &c.Access.OIDC.Scopes }, anything),
		Option{Key: "access.oidc.name_claim", Type: "claim", Default: "sub",
			Doc: "The claim that names the user. It has to be one that people cannot choose: who gets the name of a user of " +
				"firth user has that user's roles, too. Of email, the provider has to have verified it (email_verified).",
		}.text(func(c *Config) *string { return &c.Access.OIDC.Name }, notEmpty),
		Option{Key: "access.oidc.groups_claim", Type: "claim",
			Doc: "The claim that lists the groups of the user, as an array or with spaces; one within another has a dot: " +
				"realm_access.roles. Rules name them as Group:NAME. Empty: none does.",
		}.text(func(c *Config) *string { return &c.Access.OIDC.Groups }, anything),
		Option{Key: "access.oidc.roles", Type: "list of group=role", Default: "", list: true,
			Doc: "Which roles the groups of the provider give: plant-admins=admin. A group may stand there several times.",
		}.text(func(c *Config) *string { return &c.Access.OIDC.Roles }, checkGroupRoles),
		Option{Key: "access.oidc.skew", Default: "30s",
			Doc: "By how much the clock of the provider and ours may differ.",
		}.span(func(c *Config) *time.Duration { return &c.Access.OIDC.Skew }, 0, time.Hour, ""),
	}
}

func checkGroupRoles(s string) error {
	for _, one := range splitList(s) {
		if i := strings.LastIndex(one, "="); i <= 0 || i == len(one)-1 {
			return fmt.Errorf("%q is not group=role", one)
		}
	}
	return nil
}

// roles are the roles that groups give.
func (o *OIDC) roles() map[string][]string {
	by := map[string][]string{}
	for _, one := range splitList(o.Roles) {
		if i := strings.LastIndex(one, "="); i > 0 {
			by[one[:i]] = append(by[one[:i]], one[i+1:])
		}
	}
	return by
}

// checkOIDC looks at what an identity provider needs.
func (l *loader) checkOIDC() {
	const key = "access.oidc.issuer"
	switch o := &l.config.Access.OIDC; {
	case o.Issuer == "":
	case o.ClientID == "":
		l.report(l.origin(key), "%s: access.oidc.client_id says what it calls us", key)
	case l.config.HTTP.PublicURL == "":
		l.report(l.origin(key), "%s: http.public_url says where it sends people back to", key)
	}
}

// openProvider makes the identity provider at which people log in; nil: there is none.
func (n *Node) openProvider() (*oidc.Provider, error) {
	o := &n.cfg.Access.OIDC
	if o.Issuer == "" {
		return nil, nil
	}
	from, err := keys.Open(keys.Options{Issuer: o.Issuer, Discover: true, Logger: n.log, Metrics: n.issuers})
	if err != nil {
		return nil, fmt.Errorf("access.oidc: %w", err)
	}
	p, err := oidc.New(oidc.Options{Issuer: o.Issuer, ClientID: o.ClientID, Secret: o.Secret, Keys: from,
		Callback: n.cfg.HTTP.PublicURL + people.Callback, Scopes: splitList(o.Scopes), User: o.Name, Groups: o.Groups,
		Roles: o.roles(), Skew: o.Skew})
	if err != nil {
		return nil, fmt.Errorf("access.oidc: %w", err)
	}
	n.opened("keys of the identity provider", n.run("keys of the identity provider", from.Run))
	return p, nil
}
