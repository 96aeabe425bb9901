package enrol

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net/http"
	"net/netip"

	"github.com/smallstep/pkcs7"

	"github.com/firthmq/firth/internal/access/authority"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/secure"
)

// Path is where EST is served (RFC 7030, section 3.2.2).
const Path = "/.well-known/est/"

// maxBody bounds a request: base64, with ends of lines.
const maxBody = authority.MaxRequest * 3 / 2

// Handler serves EST below Path: cacerts, simpleenroll with the token of a claim (Basic, the name of the device as
// user) and simplereenroll with a certificate that the connection has shown. Only the first is served without TLS.
func (d *Desk) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path+"cacerts", d.serveAuthority)
	mux.HandleFunc("POST "+Path+"simpleenroll", d.serveEnrol)
	mux.HandleFunc("POST "+Path+"simplereenroll", d.serveEnrol)
	mux.HandleFunc("GET "+Path+"csrattrs", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent) // nothing is asked for (section 4.5.2)
	})
	return mux
}

func (d *Desk) serveAuthority(w http.ResponseWriter, _ *http.Request) {
	own, err := d.opt.Authority.DER()
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, "application/pkcs7-mime", own)
}

func (d *Desk) serveEnrol(w http.ResponseWriter, r *http.Request) {
	conn := secure.ConnOf(r.Context())
	if conn == nil {
		refuse(w, fault.New(fault.Denied, "enrol", "only over TLS, on listen.https"))
		return
	}
	who := Applicant{Way: "https"}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		who.Address = at.Addr().Unmap()
	}
	name, token, basic := r.BasicAuth()
	shown := conn.ConnectionState().PeerCertificates
	switch {
	case basic && r.URL.Path == Path+"simpleenroll":
		who.Name, who.Token = name, []byte(token)
	case len(shown) > 0: // the listener has verified it
		who.Name, who.Shown = shown[0].Subject.CommonName, shown[0]
	default:
		w.Header().Set("WWW-Authenticate", `Basic realm="enrolment: the device and the token of its claim", charset="UTF-8"`)
		http.Error(w, "a claim, or the certificate that the device has", http.StatusUnauthorized)
		return
	}
	request, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		refuse(w, fault.New(fault.TooLarge, "enrol", "a request of more than %d bytes", maxBody))
		return
	}
	chain, err := d.Enrol(r.Context(), who, request)
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, "application/pkcs7-mime; smime-type=certs-only", chain[0])
}

// parse reads a certificate request as clients send it: DER in base64 (section 4.2.1), as it is, or PEM. Errors:
// TooLarge, Invalid.
func parse(request []byte) (*x509.CertificateRequest, error) {
	if len(request) > maxBody {
		return nil, fault.New(fault.TooLarge, "enrol", "a request of more than %d bytes", maxBody)
	}
	const sequence = 0x30 // how DER begins
	text := bytes.TrimSpace(request)
	if len(text) == 0 || request[0] == sequence || bytes.HasPrefix(text, []byte("-----")) {
		return authority.ParseRequest(request) // DER may well end with what is white space in text
	}
	der, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(text), nil)))
	if err != nil {
		return nil, fault.New(fault.Invalid, "enrol", "the request is neither base64 nor DER nor PEM")
	}
	return authority.ParseRequest(der)
}

// answer sends certificates as those of a signed message without a signature (certs-only), in lines of base64.
func answer(w http.ResponseWriter, kind string, der []byte) {
	message, err := pkcs7.DegenerateCertificate(der)
	if err != nil {
		refuse(w, fault.Wrap(fault.Internal, "enrol", err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Transfer-Encoding", "base64")
	h.Set("Cache-Control", "no-store")
	const line = 57 // bytes in 76 characters
	text := make([]byte, 0, len(message)*3/2)
	for len(message) > 0 {
		n := min(line, len(message))
		text = append(base64.StdEncoding.AppendEncode(text, message[:n]), '\n')
		message = message[n:]
	}
	_, _ = w.Write(text) // a client that has gone needs no answer
}

// refuse says why not, as text (section 4.2.3).
func refuse(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch fault.KindOf(err) {
	case fault.Invalid:
		status = http.StatusBadRequest
	case fault.TooLarge:
		status = http.StatusRequestEntityTooLarge
	case fault.Denied:
		status = http.StatusForbidden
	case fault.NotFound:
		status = http.StatusNotFound
	case fault.Exists:
		status = http.StatusConflict
	case fault.Limited, fault.Timeout, fault.Full, fault.ReadOnly, fault.Closed:
		w.Header().Set("Retry-After", "10")
		status = http.StatusServiceUnavailable
	}
	text := err.Error()
	if hint := fault.HintOf(err); hint != "" {
		text += ": " + hint
	}
	http.Error(w, text, status)
}
