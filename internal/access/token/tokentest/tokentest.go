// Package tokentest makes tokens for tests, as an issuer does.
//
//	id := tokentest.New(t, "ES256")
//	raw := id.Token(map[string]any{"sub": "alice", "aud": "firth", "exp": now.Add(time.Hour).Unix()})
//	os.WriteFile(name, id.Keys(), 0o600)
package tokentest

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Name is what the issuers of this package are called.
const Name = "https://id.example.org"

// Issuer signs tokens.
type Issuer struct {
	tb        testing.TB
	algorithm string
	id        string
	private   any
	public    any
}

// New makes an issuer with a key of its own for an algorithm; the name of the key is that of the algorithm.
func New(tb testing.TB, algorithm string) *Issuer {
	tb.Helper()
	i := &Issuer{tb: tb, algorithm: algorithm, id: algorithm}
	var err error
	switch algorithm {
	case "ES256", "ES384", "ES512":
		curve := map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}
		var k *ecdsa.PrivateKey
		if k, err = ecdsa.GenerateKey(curve[algorithm], rand.Reader); err == nil {
			i.private, i.public = k, &k.PublicKey
		}
	case "EdDSA":
		i.public, i.private, err = ed25519.GenerateKey(rand.Reader)
	case "HS256":
		secret := []byte(rand.Text() + rand.Text())
		i.private, i.public = secret, secret
	default:
		var k *rsa.PrivateKey
		if k, err = rsa.GenerateKey(rand.Reader, 2048); err == nil {
			i.private, i.public = k, &k.PublicKey
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
	return i
}

// Named is the issuer with another name of its key.
func (i *Issuer) Named(id string) *Issuer {
	other := *i
	other.id = id
	return &other
}

// Public is its public key, or the secret.
func (i *Issuer) Public() any { return i.public }

// Keys is its JWK Set.
func (i *Issuer) Keys() []byte {
	text, err := json.Marshal(jose.JSONWebKeySet{
		Keys: []jose.JSONWebKey{{Key: i.public, KeyID: i.id, Use: "sig", Algorithm: i.algorithm}},
	})
	if err != nil {
		i.tb.Fatal(err)
	}
	return text
}

// Token signs a token for the audience "firth" that is good for an hour, unless what it claims says otherwise; a claim
// of nil is left out.
func (i *Issuer) Token(claims map[string]any) string {
	i.tb.Helper()
	all := map[string]any{"iss": Name, "aud": "firth", "sub": "alice", "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(all, claims)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	text, err := json.Marshal(all)
	if err != nil {
		i.tb.Fatal(err)
	}
	return i.Sign(text)
}

// Sign signs a text.
func (i *Issuer) Sign(text []byte) string {
	key := jose.SigningKey{Algorithm: jose.SignatureAlgorithm(i.algorithm),
		Key: jose.JSONWebKey{Key: i.private, KeyID: i.id}}
	signer, err := jose.NewSigner(key, nil)
	if err != nil {
		i.tb.Fatal(err)
	}
	signed, err := signer.Sign(text)
	if err != nil {
		i.tb.Fatal(err)
	}
	raw, err := signed.CompactSerialize()
	if err != nil {
		i.tb.Fatal(err)
	}
	return raw
}
