package api

import (
	"errors"
	"net/http"

	"github.com/firthmq/firth/internal/kit/fault"
)

// problemType is the media type of a refusal (RFC 9457, section 3).
const problemType = "application/problem+json"

// Problem is the answer to what is refused (RFC 9457).
type Problem struct {
	Type   string `json:"type" doc:"about:blank: the status says what kind of problem it is, and kind says it closer"`
	Title  string `json:"title" doc:"the status in words"`
	Status int    `json:"status" doc:"the status of the answer"`
	Detail string `json:"detail" doc:"what went wrong, for people"`
	Kind   string `json:"kind" doc:"the kind of error, for programs: it does not change"`
	Hint   string `json:"hint,omitempty" doc:"what to do about it"`

	Refused *Refused `json:"refused,omitempty" doc:"who may not do what; /explain says by which rules"`
}

// Refused is what somebody may not do, as the audit has it.
type Refused struct {
	User      string `json:"user"`
	Operation string `json:"operation"`
	Kind      string `json:"kind" doc:"of the resource; name and filter are those of MQTT"`
	Name      string `json:"name"`
}

// RefusedError is a refusal that says of whom and of what.
type RefusedError struct {
	Refused
	Err error
}

// Error is that of Err.
func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap is Err.
func (e *RefusedError) Unwrap() error { return e.Err }

// statusError is an error that has a status of its own.
type statusError struct {
	status int
	error
}

// Unwrap is the error.
func (e *statusError) Unwrap() error { return e.error }

// loginHint says how to tell who one is.
const loginHint = "send Authorization: Bearer TOKEN (firth token create), a user and password, or the cookie of " +
	"POST /auth/login"

// problemOf is what an error is to who asks.
func problemOf(err error) Problem {
	p := Problem{Type: "about:blank", Status: StatusOf(fault.KindOf(err)), Detail: err.Error(),
		Kind: fault.KindOf(err).String(), Hint: fault.HintOf(err)}
	if own, is := errors.AsType[*statusError](err); is {
		p.Status = own.status
	}
	if refused, is := errors.AsType[*RefusedError](err); is {
		p.Refused = &refused.Refused
	}
	p.Title = http.StatusText(p.Status)
	return p
}

// refuse answers with an error.
func (a *API) refuse(w http.ResponseWriter, _ *http.Request, err error) {
	p := problemOf(err)
	if unknown, is := errors.AsType[*Unauthorized](err); is {
		w.Header().Set("WWW-Authenticate", unknown.Challenge)
		p.Status, p.Hint = http.StatusUnauthorized, loginHint
	}
	if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	p.Title = http.StatusText(p.Status)
	answerJSON(w, p.Status, problemType, p)
}

// StatusOf is the status for a kind of error.
func StatusOf(kind fault.Kind) int {
	switch kind {
	case fault.Invalid, fault.OutOfRange:
		return http.StatusBadRequest
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.Denied:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Exists:
		return http.StatusConflict
	case fault.Limited:
		return http.StatusTooManyRequests
	case fault.Unsupported:
		return http.StatusNotImplemented
	case fault.Full, fault.ReadOnly, fault.Closed, fault.Timeout, fault.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
