package cluster

import (
	"context"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Login is how a keeper says who it is (SASL).
type Login struct {
	// Mechanism is PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.
	Mechanism string
	// User is who it is; OAUTHBEARER needs none.
	User string
	// Secret gives the password, or the token. It is asked at every connection, so that a new one takes effect.
	Secret func() (string, error)
}

// mechanism is the login as the client takes it. The mechanism is one of mechanisms.
func (l *Login) mechanism() sasl.Mechanism { return mechanisms[l.Mechanism](l) }

var mechanisms = map[string]func(*Login) sasl.Mechanism{
	"PLAIN": func(l *Login) sasl.Mechanism {
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			secret, err := l.Secret()
			return plain.Auth{User: l.User, Pass: secret}, err
		})
	},
	"SCRAM-SHA-256": func(l *Login) sasl.Mechanism { return scram.Sha256(l.scram) },
	"SCRAM-SHA-512": func(l *Login) sasl.Mechanism { return scram.Sha512(l.scram) },
	"OAUTHBEARER": func(l *Login) sasl.Mechanism {
		return oauth.Oauth(func(context.Context) (oauth.Auth, error) {
			secret, err := l.Secret()
			return oauth.Auth{Token: secret}, err
		})
	},
}

func (l *Login) scram(context.Context) (scram.Auth, error) {
	secret, err := l.Secret()
	return scram.Auth{User: l.User, Pass: secret}, err
}
