package cluster

import (
	"context"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/fault"
)

func TestKindsOfErrors(t *testing.T) {
	text := "a topic of that name is there"
	for _, c := range []struct {
		err  error
		want fault.Kind
	}{
		{kerr.UnknownTopicOrPartition, fault.NotFound},
		{kerr.OffsetOutOfRange, fault.OutOfRange},
		{kerr.ProducerFenced, fault.Fenced},
		{fmt.Errorf("ending: %w", kerr.InvalidProducerEpoch), fault.Fenced},
		{brokerError(kerr.TopicAlreadyExists.Code, &text), fault.Exists},
		{kerr.NotEnoughReplicas, fault.ReadOnly},
		{kerr.UnknownServerError, fault.IO},
		{kgo.ErrClientClosed, fault.Closed},
		{context.Canceled, fault.Closed},
		{context.DeadlineExceeded, fault.Timeout},
		{fmt.Errorf("connection reset by peer"), fault.IO},
		{fault.New(fault.Limited, "a", "b"), fault.Limited},
	} {
		if err := convert("op", c.err); !fault.Is(err, c.want) {
			t.Errorf("%v is of the kind %q, want %q", c.err, fault.KindOf(err), c.want)
		}
	}
	if convert("op", nil) != nil || brokerError(0, &text) != nil {
		t.Error("no error became one")
	}
	if err := brokerError(kerr.InvalidConfig.Code, &text); err.Error() != text {
		t.Errorf("the broker's words are lost: %v", err)
	}
	for code := range kinds {
		if kerr.ErrorForCode(code) == nil {
			t.Errorf("code %d is no error", code)
		}
	}
}
