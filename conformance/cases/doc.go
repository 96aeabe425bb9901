// Package cases sends the binary small inputs that once were answered wrongly, over raw sockets of both protocols, and
// wants the right value. docs/conformance/faults.md has a line for each.
//
//	go test ./conformance/cases
//	FIRTH=path go test ./conformance/cases -run 'TestD|TestF29'
//
// Each test starts a node of its own, which must end well: nothing logged as an error, no panic, and a log in which
// firth log check finds nothing.
package cases
