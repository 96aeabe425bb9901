// Package sarama has sarama, a client of Kafka in Go, speak to a server that runs: at the version of the protocol that
// it took for granted for years, at the one of today and at the newest that it knows.
//
//	kafka=127.0.0.1:9092 go test .
//
// It is a module of its own: what sarama needs is not what Firth needs.
package sarama
