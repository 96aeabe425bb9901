package token_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access/token"
	"github.com/firthmq/firth/internal/access/token/tokentest"
	"github.com/firthmq/firth/internal/kit/fault"
)

func issuer() *token.Issuer {
	return &token.Issuer{Name: tokentest.Name, Audiences: []string{"firth", "other"}, Algorithms: token.Asymmetric(),
		User: "sub", Roles: "realm.roles", Groups: "groups", Skew: 30 * time.Second}
}

func keysOf(t testing.TB, id *tokentest.Issuer) *token.Keys {
	t.Helper()
	k, err := token.ParseKeys(id.Keys())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestVerify(t *testing.T) {
	for _, algorithm := range token.Asymmetric() {
		id := tokentest.New(t, algorithm)
		raw := id.Token(map[string]any{"realm": map[string]any{"roles": []string{"a", "b"}}, "groups": "x y",
			"exp": 2000.5, "nbf": 1000, "iat": 1000})
		if !token.Like([]byte(raw)) {
			t.Errorf("%s: it is not like a token", algorithm)
		}
		if name, kid, err := token.Peek(raw); name != tokentest.Name || kid != algorithm || err != nil {
			t.Errorf("%s: %s %s %v", algorithm, name, kid, err)
		}
		who, err := issuer().Verify(raw, keysOf(t, id), time.Unix(1500, 0))
		want := token.Identity{Issuer: tokentest.Name, User: "alice", Roles: []string{"a", "b"}, Groups: []string{"x", "y"},
			Ends: time.Unix(2030, 5e8)}
		if !reflect.DeepEqual(who, want) || err != nil {
			t.Errorf("%s: %v %+v", algorithm, err, who)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	id, other := tokentest.New(t, "ES256"), tokentest.New(t, "ES256")
	now := time.Unix(1500, 0)
	for name, test := range map[string]struct {
		claims map[string]any
		change func(i *token.Issuer)
		says   string
	}{
		"ended":            {claims: map[string]any{"exp": 1470}, says: "has ended"},
		"no end":           {claims: map[string]any{"exp": nil}, says: "when it ends"},
		"end is text":      {claims: map[string]any{"exp": "2000"}, says: "when it ends"},
		"end is too late":  {claims: map[string]any{"exp": 1e300}, says: "when it ends"},
		"not yet":          {claims: map[string]any{"nbf": 1531}, says: "not good yet"},
		"from the future":  {claims: map[string]any{"iat": 1531}, says: "not good yet"},
		"odd nbf":          {claims: map[string]any{"nbf": "x"}, says: "no time"},
		"other issuer":     {claims: map[string]any{"iss": "https://id.example.org/"}, says: "another issuer"},
		"no issuer":        {claims: map[string]any{"iss": nil}, says: "another issuer"},
		"other audience":   {claims: map[string]any{"aud": []string{"x"}}, says: "somebody else"},
		"no audience":      {claims: map[string]any{"aud": nil}, says: "somebody else"},
		"odd audience":     {claims: map[string]any{"aud": []any{1}}, says: "neither text"},
		"no user":          {claims: map[string]any{"sub": nil}, says: "no user"},
		"user is a number": {claims: map[string]any{"sub": 7}, says: "no user"},
		"roles are odd":    {claims: map[string]any{"realm": map[string]any{"roles": 7}}, says: "neither text"},
		"a claim is missing": {change: func(i *token.Issuer) { i.Required = map[string]string{"scope": "mqtt"} },
			says: "not what it must be"},
		"no algorithm is allowed": {change: func(i *token.Issuer) { i.Algorithms = nil }, says: "no algorithm"},
		"another algorithm":       {change: func(i *token.Issuer) { i.Algorithms = []string{"RS256"} }, says: "not allowed"},
		"nobody is meant":         {change: func(i *token.Issuer) { i.Audiences = nil }, says: "somebody else"},
	} {
		i := issuer()
		if test.change != nil {
			test.change(i)
		}
		claims := map[string]any{"exp": 2000}
		maps.Copy(claims, test.claims)
		_, err := i.Verify(id.Token(claims), keysOf(t, id), now)
		if !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := id.Token(map[string]any{"exp": 2000})
	if _, err := issuer().Verify(good, keysOf(t, other), now); !fault.Is(err, fault.Denied) {
		t.Errorf("the key of somebody else: %v", err)
	}
	if _, err := issuer().Verify(good, keysOf(t, id.Named("x")), now); !fault.Is(err, fault.NotFound) {
		t.Errorf("a key of another name: %v", err)
	}
}

// TestConfusion has the header of a token ask for what its issuer does not do (RFC 8725, section 2.1).
func TestConfusion(t *testing.T) {
	id := tokentest.New(t, "RS256")
	now := time.Now()
	good := id.Token(nil)
	_, rest, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	b64 := base64.RawURLEncoding.EncodeToString
	der, err := x509.MarshalPKIXPublicKey(id.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	hmacs := tokentest.New(t, "HS256")
	for name, raw := range map[string]string{
		"none":              b64([]byte(`{"alg":"none"}`)) + "." + payload + ".",
		"None":              b64([]byte(`{"alg":"None"}`)) + "." + payload + ".",
		"none with a key":   b64([]byte(`{"alg":"none","kid":"RS256"}`)) + "." + payload + "." + signature,
		"HS256":             hmacs.Token(nil),
		"another header":    b64([]byte(`{"alg":"RS512","kid":"RS256"}`)) + "." + payload + "." + signature,
		"a key of its own":  b64([]byte(`{"alg":"RS256","jwk":{"kty":"oct","k":"AA"}}`)) + "." + rest,
		"critical":          b64([]byte(`{"alg":"RS256","kid":"RS256","crit":["b64"],"b64":false}`)) + "." + rest,
		"another signature": good[:len(good)-8] + "AAAAAAAA",
		"no signature":      good[:len(good)-len(signature)],
		"two parts":         good[:len(good)-len(signature)-1],
		"JSON":              `{"payload":"` + payload + `","signatures":[]}`,
		"empty":             "",
		"too long":          good + strings.Repeat("A", token.MaxSize),
	} {
		for _, keys := range []*token.Keys{keysOf(t, id), secretOf(t, public)} {
			if who, err := issuer().Verify(raw, keys, now); err == nil {
				t.Errorf("%s: it is of %s", name, who.User)
			}
		}
	}
	// The public key as a secret: only who allows HS256 is asked for a secret at all.
	i := issuer()
	i.Algorithms = token.Symmetric()
	if _, err := i.Verify(hmacs.Token(nil), keysOf(t, id), now); err == nil {
		t.Error("HS256 was held against a public key")
	}
	if _, err := i.Verify(hmacs.Token(nil), secretOf(t, hmacs.Public().([]byte)), now); err != nil {
		t.Error(err)
	}
}

func secretOf(t *testing.T, secret []byte) *token.Keys {
	t.Helper()
	k, err := token.Secret(secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeys(t *testing.T) {
	id := tokentest.New(t, "PS256")
	der, err := x509.MarshalPKIXPublicKey(id.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	k, err := token.ParseKeys(public)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := issuer().Verify(id.Token(nil), k, time.Now()); err != nil {
		t.Errorf("a key as PEM, whose name nobody knows: %v", err)
	}
	for name, text := range map[string]string{
		"nothing":         "",
		"no keys":         `{"keys":[]}`,
		"a secret":        `{"keys":[{"kty":"oct","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}`,
		"for encryption":  strings.Replace(string(id.Keys()), `"sig"`, `"enc"`, 1),
		"another kind":    strings.Replace(string(id.Keys()), `"PS256"`, `"ES256"`, 2),
		"not JSON":        `{"keys":`,
		"a private key":   "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"a broken public": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
	} {
		if k, err := token.ParseKeys([]byte(text)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v %v", name, k, err)
		}
	}
	if _, err := token.Secret(make([]byte, 31)); !fault.Is(err, fault.Invalid) {
		t.Errorf("a short secret: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	id := tokentest.New(f, "EdDSA")
	keys := keysOf(f, id)
	f.Add(id.Token(nil))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, raw string) {
		_, _, _ = token.Peek(raw)
		token.Like([]byte(raw))
		_, err := issuer().Verify(raw, keys, time.Unix(0, 0))
		if _, is := errors.AsType[*fault.Error](err); err != nil && !is {
			t.Fatal(err)
		}
	})
}

func FuzzClaims(f *testing.F) {
	id := tokentest.New(f, "EdDSA")
	keys := keysOf(f, id)
	f.Add([]byte(`{"iss":"https://id.example.org","aud":["firth"],"exp":9999999999,"sub":"a","realm":{"roles":"x"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		who, err := issuer().Verify(id.Sign(text), keys, time.Unix(1000, 0))
		if err == nil && (who.User == "" || !who.Ends.After(time.Unix(1000, 0))) {
			t.Fatalf("%+v", who)
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add(tokentest.New(f, "ES256").Keys())
	f.Fuzz(func(t *testing.T, text []byte) {
		if k, err := token.ParseKeys(text); err == nil && k.Len() == 0 {
			t.Fatal("no key and no error")
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for _, algorithm := range []string{"RS256", "ES256", "EdDSA"} {
		b.Run(algorithm, func(b *testing.B) {
			id := tokentest.New(b, algorithm)
			keys, raw, now := keysOf(b, id), id.Token(nil), time.Now()
			for b.Loop() {
				if _, err := issuer().Verify(raw, keys, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
