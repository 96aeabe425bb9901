package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
)

// ApiVersions (18): v0-5.
//
// Behaviour
//   - Announces the APIs and versions of this door and the features in force: group.version 1, by which clients use
//     consumer groups (KIP-848). Without transaction.version they use transactions of the first protocol, which are
//     refused in their turn.
//   - Any version may ask; one that is not served is answered in version 0 with UNSUPPORTED_VERSION and
//     the ranges (KIP-511). The response header is never flexible.
//   - A client's software name and version that break KIP-511's rules are INVALID_REQUEST.
//   - A client that means another cluster or broker is told REBOOTSTRAP_REQUIRED (KIP-1242).
//
// Versions: 1 throttle time, 3 flexible and software, 4 features from version 0 (KAFKA-17011), 5 whom the
// client means.

// apiVersions answers ApiVersions.
func (d *Door) apiVersions(_ context.Context, c *conn, h wire.Header, body, dst []byte) ([]byte, error) {
	req, err := wire.ParseApiVersions(h.Version, body)
	if err != nil {
		return nil, err
	}
	code := wire.None
	switch {
	case !req.Valid(h.Version):
		code = wire.InvalidRequest
	case req.Cluster != nil && (string(req.Cluster) != d.opt.ClusterID || req.Node != d.opt.NodeID):
		code = wire.RebootstrapRequired
	}
	c.software, c.release = bounded(string(req.Software)), bounded(string(req.Release))
	c.log.Debug("kafka: client", "software", c.software, "release", c.release)
	return wire.AppendApiVersions(dst, h, code, d.versions), nil
}
