// Package torture runs the real binary under the load of both doors, kills it with SIGKILL again and again,
// and holds what it finds afterwards against the history of what was acknowledged.
//
// The history is kept in the test's own memory: a message is written down before it is sent and ticked off
// when its acknowledgement is read. After each restart the whole log is read by clients written elsewhere
// (franz-go, now and then kcat), retained messages and live deliveries through MQTT, and the checker says
// which promise was broken. planted_test.go shows that the checker is awake.
//
//	go test ./torture -run Kill -v -args -rounds 50 -seed 7
//
// TestCampaign draws what is done, and what is done to the server, from a seed, run by run:
//
//	go test ./torture -run Campaign -v -args -campaign 100 -seed 7
//
// TestGateways has three gateways that share sessions before three brokers, and kills, pauses and restarts them all.
// TestOutage and TestMigrate have a gateway before a cluster that goes away, and a node that moves into one: in memory,
// or three brokers of Apache Kafka.
//
// docs/conformance/crash.md says what is promised and what was found.
package torture
