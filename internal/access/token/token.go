// Package token judges JSON Web Tokens (RFC 7519): who they say that somebody is, and whether that is so.
//
//	name, kid, err := token.Peek(raw)         // whose it says it is: nothing is proven yet
//	who, err := issuer.Verify(raw, keys, now) // by the keys of that issuer
//
// An issuer says which algorithms it signs with, so that a token cannot choose (RFC 8725, section 3.1); a key is used
// for the algorithms of its kind only; "none" is no algorithm. The package is pure: keys and the time come in.
package token

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"

	"github.com/firthmq/firth/internal/kit/fault"
)

const op = "token"

// MaxSize bounds a token, in bytes.
const MaxSize = 16 << 10

// Issuer says which tokens of one who issues them are good, and what they tell.
type Issuer struct {
	// Name is the claim iss, to the letter.
	Name string
	// Audiences are those of which the claim aud names one, at least. None: no token is good.
	Audiences []string
	// Party is for whom its tokens have to be made: the claim azp says so where it is, and has to be where aud names
	// several (OpenID Connect Core 1.0, section 3.1.3.7). "": nobody looks.
	Party string
	// Algorithms are those that it signs with. None: no token is good.
	Algorithms []string
	// User is the claim that names the user, such as "sub". One within another is "outer.inner".
	User string
	// Roles and Groups are claims that list the user's roles and groups, as an array or apart by spaces; "": none does.
	Roles, Groups string
	// Required are claims and the values that they must have: as text, or as one of an array.
	Required map[string]string
	// ClientID is which client identifiers the user may have in MQTT, as of a user of the catalog; "": any.
	ClientID string
	// SameUser wants a user name that a client gives besides to be the user's.
	SameUser bool
	// Skew is by how much the clocks may differ.
	Skew time.Duration
}

// Identity is what a good token says.
type Identity struct {
	Issuer, User  string
	Roles, Groups []string
	ClientID      string    // as Issuer has it
	SameUser      bool      // as Issuer has it
	Ends          time.Time // when it is good no more, Issuer.Skew included
}

// algorithms are those that are known, and the kinds of keys that they are for.
var algorithms = map[string]kind{
	"RS256": rsaKey, "RS384": rsaKey, "RS512": rsaKey, "PS256": rsaKey, "PS384": rsaKey, "PS512": rsaKey,
	"ES256": p256Key, "ES384": p384Key, "ES512": p521Key, "EdDSA": edKey, "HS256": secretKey,
}

// Asymmetric are the algorithms for which keys are public.
func Asymmetric() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// Symmetric are the algorithms for which there is one secret.
func Symmetric() []string { return []string{"HS256"} }

// Like tells whether a password can be a token: three parts of base64url, the first of which begins a JSON object.
func Like(password []byte) bool {
	if len(password) > MaxSize || !strings.HasPrefix(string(password[:min(len(password), 3)]), "eyJ") {
		return false
	}
	dots := 0
	for _, c := range password {
		switch {
		case c == '.':
			dots++
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return dots == 2
}

// Peek reads from a token who it says has issued it, and the name of the key. Nothing of it is proven. Errors: Denied.
func Peek(raw string) (issuer, kid string, err error) {
	signed, err := parse(raw, append(Asymmetric(), Symmetric()...))
	if err != nil {
		return "", "", err
	}
	claims, err := claimsOf(signed.UnsafePayloadWithoutVerification())
	if err != nil {
		return "", "", err
	}
	name, _ := claims.text("iss")
	return name, signed.Signatures[0].Protected.KeyID, nil
}

// Verify judges a token at a time. Errors: Denied; NotFound when none of the keys has the name that the token wants.
// They show no part of it but names.
func (i *Issuer) Verify(raw string, keys *Keys, now time.Time) (Identity, error) {
	return i.VerifyWith(raw, nil, keys, now)
}

// Lacks tells whether a token that was verified does not have all the claims that tell who its user is. An issuer may
// tell them elsewhere (OpenID Connect Core 1.0, section 5.4).
func (i *Issuer) Lacks(raw string) bool {
	signed, err := parse(raw, i.Algorithms)
	if err != nil {
		return false
	}
	c, err := claimsOf(signed.UnsafePayloadWithoutVerification())
	if err != nil {
		return false
	}
	names := []string{i.User, i.Roles, i.Groups}
	for name := range i.Required {
		names = append(names, name)
	}
	return slices.ContainsFunc(names, func(name string) bool {
		_, is := c.find(name)
		return name != "" && !is
	})
}

// ownClaims are those that a token has to have itself: what it is, for whom, and when it is good.
var ownClaims = []string{"iss", "sub", "aud", "azp", "exp", "nbf", "iat", "nonce"}

// VerifyWith is Verify of a token with further claims, a JSON object, which take the place of those of the same names:
// what belongs together is of one time and place. Whoever gives them has to know that they are of the same user and
// issuer.
func (i *Issuer) VerifyWith(raw string, more []byte, keys *Keys, now time.Time) (Identity, error) {
	signed, err := parse(raw, i.Algorithms)
	if err != nil {
		return Identity{}, err
	}
	payload, err := keys.verify(signed)
	if err != nil {
		return Identity{}, err
	}
	claims, err := claimsOf(payload)
	if err != nil {
		return Identity{}, err
	}
	if more != nil {
		further, err := claimsOf(more)
		if err != nil {
			return Identity{}, err
		}
		for name, value := range further {
			if !slices.Contains(ownClaims, name) {
				claims[name] = value
			}
		}
	}
	who := Identity{Issuer: i.Name, ClientID: i.ClientID, SameUser: i.SameUser}
	if who.Ends, err = i.times(claims, now); err != nil {
		return Identity{}, err
	}
	if err := i.meant(claims); err != nil {
		return Identity{}, err
	}
	user, is := claims.text(i.User)
	if !is || user == "" || !utf8.ValidString(user) {
		return Identity{}, denied("the claim %s names no user", i.User)
	}
	who.User = user
	if who.Roles, err = claims.list(i.Roles); err != nil {
		return Identity{}, err
	}
	who.Groups, err = claims.list(i.Groups)
	return who, err
}

// parse reads a token in the compact form. Errors: Denied.
func parse(raw string, allowed []string) (*jose.JSONWebSignature, error) {
	if len(raw) > MaxSize {
		return nil, denied("it has %d bytes: at most %d", len(raw), MaxSize)
	}
	if len(allowed) == 0 { // the library would take that for all
		return nil, denied("no algorithm is allowed")
	}
	var known []jose.SignatureAlgorithm
	for _, name := range allowed {
		if _, is := algorithms[name]; is {
			known = append(known, jose.SignatureAlgorithm(name))
		}
	}
	signed, err := jose.ParseSignedCompact(raw, known)
	switch {
	case err != nil:
		return nil, denied("it is no signed token, or signed with an algorithm that is not allowed")
	case len(signed.Signatures) != 1:
		return nil, denied("it has not one signature")
	}
	return signed, nil
}

// times judges when a token is good, and tells until when. Errors: Denied.
func (i *Issuer) times(c claims, now time.Time) (ends time.Time, err error) {
	exp, is, err := c.time("exp")
	if err != nil || !is {
		return ends, denied("it does not say when it ends (exp)")
	}
	if ends = exp.Add(i.Skew); !now.Before(ends) {
		return ends, denied("it has ended")
	}
	for _, name := range []string{"nbf", "iat"} {
		from, is, err := c.time(name)
		switch {
		case err != nil:
			return ends, err
		case is && now.Add(i.Skew).Before(from):
			return ends, denied("it is not good yet (%s)", name)
		}
	}
	return ends, nil
}

// meant tells whether a token is of this issuer, and for us. Errors: Denied.
func (i *Issuer) meant(c claims) error {
	if name, _ := c.text("iss"); name != i.Name || name == "" {
		return denied("it is of another issuer")
	}
	for_, err := c.texts("aud")
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(for_, func(a string) bool { return slices.Contains(i.Audiences, a) }) {
		return denied("it is for somebody else (aud)")
	}
	_, is := c.find("azp")
	party, _ := c.text("azp")
	if i.Party != "" && (is && party != i.Party || !is && len(for_) > 1) {
		return denied("it was made for somebody else (azp)")
	}
	for name, want := range i.Required {
		if have, err := c.texts(name); err != nil || !slices.Contains(have, want) {
			return denied("the claim %s is not what it must be", name)
		}
	}
	return nil
}

// claims are what a token says, not decoded yet.
type claims map[string]json.RawMessage

func claimsOf(payload []byte) (c claims, err error) {
	if err := json.Unmarshal(payload, &c); err != nil || c == nil {
		return nil, denied("what it says is no JSON object")
	}
	return c, nil
}

// find is a claim by its name, or one within another by both with a dot between.
func (c claims) find(name string) (json.RawMessage, bool) {
	if v, is := c[name]; is {
		return v, true
	}
	outer, inner, within := strings.Cut(name, ".")
	var next claims
	if v, is := c[outer]; !within || !is || json.Unmarshal(v, &next) != nil {
		return nil, false
	}
	return next.find(inner)
}

// text is a claim that is text.
func (c claims) text(name string) (s string, is bool) {
	v, is := c.find(name)
	if !is || json.Unmarshal(v, &s) != nil {
		return "", false
	}
	return s, true
}

// maxList is how many values a claim may list.
const maxList = 1000

// texts is a claim that is text, a truth, or an array of text; none if it is not there. Errors: Denied.
func (c claims) texts(name string) ([]string, error) {
	v, is := c.find(name)
	if !is {
		return nil, nil
	}
	if s := string(v); s == "true" || s == "false" {
		return []string{s}, nil
	}
	var one string
	if json.Unmarshal(v, &one) == nil {
		return []string{one}, nil
	}
	var all []string
	if err := json.Unmarshal(v, &all); err != nil || len(all) > maxList {
		return nil, denied("the claim %s is neither text nor a list of at most %d", name, maxList)
	}
	return all, nil
}

// list is a claim that lists names: an array, or text with spaces between them. Errors: Denied.
func (c claims) list(name string) ([]string, error) {
	if name == "" {
		return nil, nil
	}
	all, err := c.texts(name)
	if err != nil || len(all) != 1 {
		return all, err
	}
	return strings.Fields(all[0]), nil
}

// time is a claim that is a NumericDate: seconds since 1970, perhaps with a fraction. Errors: Denied.
func (c claims) time(name string) (t time.Time, is bool, err error) {
	v, is := c[name]
	if !is {
		return t, false, nil
	}
	var n float64
	const latest = 1 << 40
	if json.Unmarshal(v, &n) != nil || math.IsNaN(n) || n < 0 || n > latest {
		return t, false, denied("the claim %s is no time", name)
	}
	whole, part := math.Modf(n)
	return time.Unix(int64(whole), int64(part*1e9)), true, nil
}

func denied(format string, args ...any) error {
	return fault.New(fault.Denied, op, "the token: "+format, args...)
}
