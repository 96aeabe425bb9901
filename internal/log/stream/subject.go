package stream

import (
	"fmt"
	"strings"

	"github.com/firthmq/firth/internal/log/record"
)

// Subject says where the records of a topic name whom they are about (firth.subject). The zero Subject: nowhere.
type Subject struct {
	Key    bool   // the key does
	Header string // a header of this name does
}

const (
	subjectKey    = "key"
	subjectHeader = "header:"
)

// Named tells whether records name a subject at all.
func (s Subject) Named() bool { return s.Key || s.Header != "" }

// Of is the subject of a record; ok is false for one that names none.
func (s Subject) Of(v *record.View) (subject []byte, ok bool) {
	if s.Key {
		return v.Key, v.Key != nil
	}
	if s.Header == "" || v.HeaderCount == 0 {
		return nil, false
	}
	subject, ok = v.Header(s.Header)
	return subject, ok && subject != nil
}

// Rewritten tells whether the bytes of records may change though they stay: then what was promised of a file holds for
// that file only.
func (s *Settings) Rewritten() bool { return s.Compact || s.Subject.Named() || s.DeadLetters }

func parseSubject(v string) Subject {
	header, _ := strings.CutPrefix(v, subjectHeader)
	if v == subjectKey {
		return Subject{Key: true}
	}
	return Subject{Header: header}
}

func checkSubject(v string) error {
	header, ok := strings.CutPrefix(v, subjectHeader)
	if v == "" || v == subjectKey || ok && header != "" {
		return nil
	}
	return fmt.Errorf("%q is neither key nor header:NAME", v)
}
