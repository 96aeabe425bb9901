package wire

// Plain is the string behind a nullable one, where null says no more than "" does.
func Plain(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// Nullable is the reverse of Plain: "" becomes null.
func Nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
