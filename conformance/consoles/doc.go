// Package consoles makes the calls that Redpanda Console, kafka-ui and AKHQ make of a cluster, in the versions that
// they speak, and wants an answer that they can show: no error where Kafka gives none, and the figures that they draw.
//
//	go test ./conformance/consoles
//	FIRTH=path go test ./conformance/consoles -v
package consoles
