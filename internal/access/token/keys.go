package token

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"

	"github.com/go-jose/go-jose/v4"

	"github.com/firthmq/firth/internal/kit/fault"
)

// kind is what a key is, as far as algorithms tell keys apart.
type kind uint8

const (
	unknownKey kind = iota
	rsaKey
	p256Key
	p384Key
	p521Key
	edKey
	secretKey
)

const (
	minRSA    = 2048 // bits
	maxRSA    = 8192
	minSecret = 32 // bytes (RFC 7518, section 3.2)
	maxKeys   = 256
	maxTried  = 16 // keys that a token without the name of one is held against
)

// Keys are the keys of an issuer. They do not change.
type Keys struct{ all []key }

type key struct {
	id, algorithm string // "": any
	kind          kind
	value         any
}

// Len is how many keys there are.
func (k *Keys) Len() int { return len(k.all) }

// ParseKeys reads a JWK Set (RFC 7517), one JWK, or PEM with public keys or certificates. What is not for signatures,
// or of a kind that is not known, is left out. Errors: Invalid, also when nothing is left.
func ParseKeys(text []byte) (*Keys, error) {
	k := &Keys{}
	var err error
	if trimmed := bytes.TrimSpace(text); bytes.HasPrefix(trimmed, []byte("{")) {
		err = k.addJSON(trimmed)
	} else {
		err = k.addPEM(text)
	}
	switch {
	case err != nil:
		return nil, err
	case len(k.all) == 0:
		return nil, invalid("there is no public key that signatures can be held against")
	case len(k.all) > maxKeys:
		return nil, invalid("%d keys: at most %d", len(k.all), maxKeys)
	}
	return k, nil
}

// Secret is the key of algorithms that have one secret for both sides. Errors: Invalid.
func Secret(secret []byte) (*Keys, error) {
	if len(secret) < minSecret {
		return nil, invalid("a secret of %d bytes: at least %d", len(secret), minSecret)
	}
	return &Keys{all: []key{{kind: secretKey, value: bytes.Clone(secret)}}}, nil
}

func (k *Keys) addJSON(text []byte) error {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return invalid("it is no JWK Set: %w", err)
	}
	if set.Keys == nil {
		set.Keys = []json.RawMessage{text}
	}
	for _, one := range set.Keys {
		var j jose.JSONWebKey
		if json.Unmarshal(one, &j) != nil || j.Use != "" && j.Use != "sig" || !j.Valid() {
			continue // others may be able to use it
		}
		k.add(j.KeyID, j.Algorithm, j.Key)
	}
	return nil
}

func (k *Keys) addPEM(text []byte) error {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var value any
		var err error
		switch block.Type {
		case "PUBLIC KEY":
			value, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			value, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "CERTIFICATE":
			var c *x509.Certificate
			if c, err = x509.ParseCertificate(block.Bytes); err == nil {
				value = c.PublicKey
			}
		default:
			return fault.New(fault.Invalid, op, "PEM of the type %s is no public key", fault.Text(block.Type)).
				WithHint("openssl pkey -in key.pem -pubout writes the public key of a private one")
		}
		if err != nil {
			return invalid("a key cannot be read: %w", err)
		}
		k.add("", "", value)
	}
	return nil
}

// add takes a public key, if it is one that is good enough.
func (k *Keys) add(id, algorithm string, value any) {
	of := kindOf(value)
	if of == unknownKey || algorithm != "" && algorithms[algorithm] != of {
		return
	}
	k.all = append(k.all, key{id: id, algorithm: algorithm, kind: of, value: value})
}

func kindOf(value any) kind {
	switch v := value.(type) {
	case *rsa.PublicKey:
		if bits := v.N.BitLen(); bits >= minRSA && bits <= maxRSA {
			return rsaKey
		}
	case *ecdsa.PublicKey:
		switch v.Curve {
		case elliptic.P256():
			return p256Key
		case elliptic.P384():
			return p384Key
		case elliptic.P521():
			return p521Key
		}
	case ed25519.PublicKey:
		return edKey
	}
	return unknownKey
}

// verify finds the key of a token and gives what was signed. Errors: Denied, NotFound.
func (k *Keys) verify(signed *jose.JSONWebSignature) ([]byte, error) {
	header := signed.Signatures[0].Protected
	of, tried := algorithms[header.Algorithm], 0
	for i := range k.all {
		one := &k.all[i]
		if one.kind != of || one.algorithm != "" && one.algorithm != header.Algorithm ||
			one.id != "" && header.KeyID != "" && one.id != header.KeyID {
			continue
		}
		if tried++; tried > maxTried {
			break
		}
		if payload, err := signed.Verify(one.value); err == nil {
			return payload, nil
		}
	}
	if tried == 0 {
		return nil, fault.New(fault.NotFound, op, "the token: no key of its issuer is called %s", fault.Text(header.KeyID))
	}
	return nil, denied("its signature is wrong")
}

func invalid(format string, args ...any) error { return fault.New(fault.Invalid, op, format, args...) }
