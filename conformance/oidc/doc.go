// Package oidc has people log in to a server that runs at an OpenID provider that somebody else has written: that of
// zitadel/oidc, which is certified.
//
//	FIRTH=build/firth go test .
//
// It is a module of its own: what the provider needs is not what Firth needs.
package oidc
