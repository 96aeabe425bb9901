package kafka

import (
	"context"
	"testing"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/log/store"
)

// judge is a guard of a test.
type judge interface {
	may(principal string, op Operation, on Resource, name string) bool
}

// judges is a judge as the door asks it.
type judges struct{ judge }

func (j judges) May(p *access.Pass, op Operation, on Resource, name string) bool {
	who := Anonymous
	if p != nil {
		who = rule.UserPrefix + p.Who().User
	}
	return j.judge == nil || j.may(who, op, on, name)
}

func (judges) MaskTopic(*access.Pass, string) *mask.Set { return nil }

func (judges) MaskSome(string) bool { return false }

func (j judges) MaySome(*access.Pass, Operation, Resource) bool { return false }

// loginsOn is who is who on a log of a test: everybody is who they say.
func loginsOn(t testing.TB, s *store.Store) *access.Access {
	t.Helper()
	table, err := hinge.New(nil, hinge.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := access.Open(context.Background(), access.Options{Log: s, Mapping: table})
	if err != nil {
		t.Fatal(err)
	}
	return a
}
