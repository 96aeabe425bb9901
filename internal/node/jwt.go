package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/keys"
	"github.com/firthmq/firth/internal/access/token"
	"github.com/firthmq/firth/internal/access/verify"
)

// JWT is one issuer of tokens that are good here.
type JWT struct {
	Issuer, Audience      string // lists have commas
	Keys, KeysURL, Secret string // one of them
	Discover              bool
	Algorithms            string
	User, Roles, Groups   string // claims
	Require               string // claim=value, with commas
	ClientID              string
	UserName              string // ignore or same
	Skew                  time.Duration
	MaxAge                time.Duration // of keys that cannot be fetched again
}

func jwtOption() Option {
	return objects(Option{Key: "access.jwt", Type: "list of issuers",
		Doc: "Whose JSON Web Tokens are good here: as the password of MQTT and of Kafka's PLAIN, by OAUTHBEARER in both " +
			"doors, and as the bearer of a request to listen.http. With one nobody comes in unknown.",
	}, entries[JWT]{
		key: "access.jwt", one: "issuer", list: func(c *Config) *[]JWT { return &c.Access.JWT },
		fields: jwtFields, needed: []string{"issuer", "audience"}, check: checkJWT, page: jwtManual,
	})
}

func jwtFields() []OptionOf[JWT] {
	type option = OptionOf[JWT]
	anything := func(string) error { return nil }
	return slices.Concat(jwtKeyFields(), []option{
		option{Key: "algorithms", Type: "list of algorithms",
			Default: strings.Join(token.Asymmetric(), ","),
			Doc:     "What it signs with. With secret that is HS256; nothing else is then.",
		}.text(func(j *JWT) *string { return &j.Algorithms }, checkAlgorithms),
		option{Key: "user", Type: "claim", Default: "sub",
			Doc: "The claim that names the user; one within another has a dot: realm.user. The user need not be in the list " +
				"of users; if it is, it has that user's roles and groups, and is kept out when that is disabled.",
		}.text(func(j *JWT) *string { return &j.User }, anything),
		option{Key: "roles", Type: "claim",
			Doc: "The claim that lists the user's roles, as an array or with spaces. Empty: none does.",
		}.text(func(j *JWT) *string { return &j.Roles }, anything),
		option{Key: "groups", Type: "claim",
			Doc: "The claim that lists the user's groups, as roles.",
		}.text(func(j *JWT) *string { return &j.Groups }, anything),
		option{Key: "require", Type: "list of claim=value",
			Doc: "Claims that must have a value, or hold it in an array.",
		}.text(func(j *JWT) *string { return &j.Require }, checkRequired),
		option{Key: "client_id", Type: "pattern",
			Doc: "Which client identifiers a token is good for in MQTT: as of firth user add, such as ${username} or meter-*. " +
				"Empty: any.",
		}.text(func(j *JWT) *string { return &j.ClientID }, anything),
		option{Key: "user_name", Default: "ignore",
			Doc: "What a user name means that a client gives besides the token: ignore, nothing; same, it has to be the user's.",
		}.choice(func(j *JWT) *string { return &j.UserName }, "ignore", "same"),
		option{Key: "skew", Default: "30s",
			Doc: "By how much its clock and ours may differ. A token ends that much later.",
		}.span(func(j *JWT) *time.Duration { return &j.Skew }, 0, time.Hour, ""),
	})
}

// jwtKeyFields are those that say who an issuer is and where its keys are.
func jwtKeyFields() []OptionOf[JWT] {
	type option = OptionOf[JWT]
	anything := func(string) error { return nil }
	return []option{
		option{Key: "issuer", Type: "text",
			Doc: "Who it is: the claim iss, to the letter.",
		}.text(func(j *JWT) *string { return &j.Issuer }, notEmpty),
		option{Key: "audience", Type: "list of text",
			Doc: "For whom its tokens have to be: the claim aud names one of these.",
		}.text(func(j *JWT) *string { return &j.Audience }, notEmpty),
		option{Key: "keys", Type: "path",
			Doc: "A file with its public keys, as JWK Set or PEM. It is looked at every 2 s; a bad one changes nothing.",
		}.text(func(j *JWT) *string { return &j.Keys }, anything),
		option{Key: "keys_url", Type: "URL",
			Doc: "Where its JWK Set is: https, or http on this machine. It is fetched every 15 minutes, and when a token " +
				"names a key that is not in it, at most every 10 s.",
		}.text(func(j *JWT) *string { return &j.KeysURL }, checkKeysURL),
		option{Key: "discover", Default: "false",
			Doc: "Whether issuer is a URL that tells where the JWK Set is (OpenID Connect Discovery).",
		}.flag(func(j *JWT) *bool { return &j.Discover }),
		option{Key: "secret", Type: "path",
			Doc: "A file with the one secret of HS256, of 32 bytes at least, that nobody else can read.",
		}.text(func(j *JWT) *string { return &j.Secret }, anything),
		option{Key: "max_age", Default: "1d",
			Doc: "How long keys of a URL are good when they cannot be fetched again. Then its tokens are refused.",
		}.span(func(j *JWT) *time.Duration { return &j.MaxAge }, time.Minute, 365*day, ""),
	}
}

func notEmpty(s string) error {
	if s == "" {
		return errors.New("is empty")
	}
	return nil
}

func checkKeysURL(s string) error {
	if s == "" {
		return nil
	}
	return keys.CheckURL(s)
}

func checkAlgorithms(s string) error {
	for _, one := range splitList(s) {
		if known := append(token.Asymmetric(), token.Symmetric()...); !slices.Contains(known, one) {
			return fmt.Errorf("%q is not one of %s", one, strings.Join(known, ", "))
		}
	}
	return notEmpty(s)
}

func checkRequired(s string) error {
	for _, one := range splitList(s) {
		if name, _, is := strings.Cut(one, "="); !is || name == "" {
			return fmt.Errorf("%q is not claim=value", one)
		}
	}
	return nil
}

func checkJWT(j *JWT) (field string, err error) {
	given := 0
	for _, is := range []bool{j.Keys != "", j.KeysURL != "", j.Secret != "", j.Discover} {
		if is {
			given++
		}
	}
	algorithms := splitList(j.Algorithms)
	asked := j.Algorithms != strings.Join(token.Asymmetric(), ",")
	switch {
	case given != 1:
		return "keys", errors.New("one of keys, keys_url, discover and secret says where its keys are")
	case j.Discover && keys.CheckURL(j.Issuer) != nil:
		return "issuer", keys.CheckURL(j.Issuer)
	case j.Secret != "" && asked && !slices.Equal(algorithms, token.Symmetric()),
		j.Secret == "" && slices.ContainsFunc(algorithms, isSymmetric):
		return "algorithms", errors.New("HS256 is for a secret, and nothing else is")
	}
	return "", nil
}

func isSymmetric(algorithm string) bool { return slices.Contains(token.Symmetric(), algorithm) }

// issuer is what of it concerns its tokens.
func (j *JWT) issuer() token.Issuer {
	i := token.Issuer{
		Name: j.Issuer, Audiences: splitList(j.Audience), Algorithms: splitList(j.Algorithms), User: j.User,
		Roles: j.Roles, Groups: j.Groups, ClientID: j.ClientID, SameUser: j.UserName == "same", Skew: j.Skew,
	}
	if j.Secret != "" {
		i.Algorithms = token.Symmetric()
	}
	for _, one := range splitList(j.Require) {
		name, value, _ := strings.Cut(one, "=")
		if i.Required == nil {
			i.Required = map[string]string{}
		}
		i.Required[name] = value
	}
	return i
}

// openTokens makes what judges tokens of issuers; nil: there are none.
func (n *Node) openTokens() (access.Tokens, error) {
	if len(n.cfg.Access.JWT) == 0 {
		return nil, nil
	}
	var issuers []verify.Issuer
	for i := range n.cfg.Access.JWT {
		j := &n.cfg.Access.JWT[i]
		from, err := keys.Open(keys.Options{
			Issuer: j.Issuer, File: j.Keys, Secret: j.Secret, URL: j.KeysURL, Discover: j.Discover, MaxAge: j.MaxAge,
			Logger: n.log, Metrics: n.issuers,
		})
		if err != nil {
			return nil, fmt.Errorf("access.jwt: %w", err)
		}
		n.opened("token keys", n.run("token keys", from.Run))
		issuers = append(issuers, verify.Issuer{Issuer: j.issuer(), From: from})
	}
	tokens := verify.NewTokens(issuers, 0, n.clocks.wall)
	n.metrics.CounterFunc("firth_access_tokens_remembered_total",
		"Tokens that had been found good before, and cost no signature.", func() float64 {
			return float64(tokens.Remembered())
		})
	return tokens, nil
}

const jwtManual = "```yaml" + `
access:
  jwt:
    - { issuer: "https://id.example.org/realms/plant", discover: true, audience: firth, roles: realm_access.roles }
    - { issuer: factory, audience: firth, keys: /etc/firth/factory.pem, client_id: "${username}" }
` + "```" + `

`
