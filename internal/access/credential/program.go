package credential

import (
	"hash/crc32"
	"strings"
)

// The token of a program is "firth_", so that who scans texts for secrets finds it, 40 letters and digits of chance,
// the first 12 of which name it, and 6 of their CRC-32, so that what only looks like one is told apart.
const (
	programPrefix = "firth_"
	programID     = 12
	programChance = 40
	programCheck  = 6
)

// ProgramChance is how many bytes of chance NewProgramToken takes.
const ProgramChance = programChance

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// NewProgramToken makes a token of chance, of ProgramChance bytes each below 248, and tells its name. The part that is
// secret has 166 bits.
func NewProgramToken(chance []byte) (text, id string) {
	body := make([]byte, programChance)
	for i := range body {
		body[i] = base62[chance[i]%62]
	}
	return programPrefix + string(body) + programSum(string(body)), string(body[:programID])
}

// ProgramTokenID is the name of the token of a program; false: it is none.
func ProgramTokenID(text string) (id string, is bool) {
	body, is := strings.CutPrefix(text, programPrefix)
	if !is || len(body) != programChance+programCheck || programSum(body[:programChance]) != body[programChance:] {
		return "", false
	}
	return body[:programID], true
}

func programSum(body string) string {
	n := crc32.ChecksumIEEE([]byte(body))
	sum := make([]byte, programCheck)
	for i := range sum {
		sum[programCheck-1-i] = base62[n%62]
		n /= 62
	}
	return string(sum)
}
