package hook

import "github.com/firthmq/firth/internal/kit/telemetry"

// metrics are what is counted about a service.
type metrics struct {
	answers, unasked telemetry.Counters
	cached           telemetry.Counter
	took             telemetry.Histogram
	inFlight, down   telemetry.Gauge
}

func newMetrics(set *telemetry.Set) metrics {
	return metrics{
		answers: set.Counter("firth_access_http_answers_total",
			"What the service of access.http answered: allow, deny, ignore; bad: what is no answer; none: it did not.",
			"result"),
		unasked: set.Counter("firth_access_http_unasked_total",
			"Logins that the service was not asked about: it is down, or too many waited.", "why"),
		cached: set.Counter("firth_access_http_cached_total",
			"Logins whose answer was remembered.").With(),
		took: set.Histogram("firth_access_http_seconds",
			"How long the service of access.http took to answer, or not to.", telemetry.Seconds()).With(),
		inFlight: set.Gauge("firth_access_http_in_flight",
			"Logins that the service of access.http is asked about now.").With(),
		down: set.Gauge("firth_access_http_down",
			"Whether the service of access.http did not answer, and is asked now and then only.").With(),
	}
}
