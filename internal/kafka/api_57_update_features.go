package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// UpdateFeatures (57): v0-2.
//
// Behaviour
//   - The levels of the features come with the release: what has the level that is asked for is left as it is, another
//     level or a feature that is not known is INVALID_UPDATE_VERSION. Nothing, or a feature twice, is INVALID_REQUEST.
//   - Up to version 1 each feature has its result, after it the first error is that of the request (KIP-1022).
//
// Versions: 1 kinds of change, validate only (KIP-778).

// updateFeatures answers UpdateFeatures.
func (d *Door) updateFeatures(
	_ context.Context, c *conn, req *kmsg.UpdateFeaturesRequest,
) (*kmsg.UpdateFeaturesResponse, error) {
	resp := kmsg.NewPtrUpdateFeaturesResponse()
	fail := func(err error) { resp.ErrorCode, resp.ErrorMessage = createCode(err), words(err) }
	switch {
	case !d.may(c, OpAlter, OnCluster, ClusterResource):
		fail(refusal(wire.ClusterAuthorizationFailed, "features cannot be changed"))
		return resp, nil
	case len(req.FeatureUpdates) == 0:
		fail(refusal(wire.InvalidRequest, "no feature is named"))
		return resp, nil
	}
	seen := map[string]bool{}
	for i := range req.FeatureUpdates {
		u := &req.FeatureUpdates[i]
		err := checkFeature(u, req.Version)
		if seen[u.Feature] {
			err = refusal(wire.InvalidRequest, "feature %s is named twice", u.Feature)
		}
		seen[u.Feature] = true
		if err != nil && req.Version >= 2 {
			fail(err)
			return resp, nil
		}
		result := kmsg.NewUpdateFeaturesResponseResult()
		result.Feature, result.ErrorCode, result.ErrorMessage = u.Feature, createCode(err), words(err)
		resp.Results = append(resp.Results, result)
	}
	return resp, nil
}

// checkFeature tells why a feature cannot have a level. Errors: coded.
func checkFeature(u *kmsg.UpdateFeaturesRequestFeatureUpdate, version int16) error {
	level, known := wire.FeatureLevel(u.Feature)
	switch {
	case !known:
		return refusal(wire.InvalidUpdateVersion, "there is no feature %s", u.Feature)
	case version >= 1 && (u.UpgradeType < 1 || u.UpgradeType > 3):
		return refusal(wire.InvalidRequest, "a change of kind %d is not known", u.UpgradeType)
	case u.MaxVersionLevel != level:
		return refusal(wire.InvalidUpdateVersion, "feature %s has level %d with this release", u.Feature, level)
	}
	return nil
}
