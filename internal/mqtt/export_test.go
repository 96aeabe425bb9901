package mqtt

// ReasonOf is the table of errors.go, for its test.
var ReasonOf = reasonOf
