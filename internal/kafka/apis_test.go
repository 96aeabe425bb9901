package kafka

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// docs/conformance/kafka.md is made of what the door announces, of docs/conformance/kafka-apis.txt and of tags: a test
// that proves an API, or the source of a client that uses it, has its name in a comment, as in [Kafka-ListOffsets].

var update = flag.Bool("update", false, "write docs/conformance/kafka.md")

const (
	root     = "../.."
	apisList = root + "/docs/conformance/kafka-apis.txt"
	apisPage = root + "/docs/conformance/kafka.md"
)

// apiRow is one API of Kafka and where it is served and proven.
type apiRow struct {
	key         int16
	name        string
	first, last string // the versions of Kafka 4.0 and 4.4
	why         string // Firth serves others, or none
	served      string // the versions; "": none
	file        string
	proofs      map[string]string // link by name
}

// TestAPIs holds the page of the APIs to what is announced, every API to its file and to a test.
func TestAPIs(t *testing.T) {
	rows := readAPIs(t)
	h := openHouse(t, Options{})
	announced := askFor[*kmsg.ApiVersionsResponse](h.dial(), 3, kmsg.NewPtrApiVersionsRequest())
	for _, k := range announced.ApiKeys {
		if row := rows[k.ApiKey]; row == nil {
			t.Errorf("API %d is announced, but kafka-apis.txt does not have it", k.ApiKey)
		} else {
			row.served = span(k.MinVersion, k.MaxVersion)
			row.file = fileOf(t, row)
		}
	}
	readProofs(t, rows)
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		rows[key].check(t)
	}
	made := makeAPIPage(rows)
	if *update {
		if err := os.WriteFile(apisPage, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if is, err := os.ReadFile(apisPage); err != nil || !bytes.Equal(is, made) {
		t.Errorf("docs/conformance/kafka.md is old: go test ./internal/kafka -run TestAPIs -update (%v)", err)
	}
}

// What is not announced is not served: it ends the connection, whatever its version.
func TestWhatIsNotAnnouncedIsNotServed(t *testing.T) {
	h := openHouse(t, Options{})
	for key, row := range readAPIs(t) {
		if h.door.apis[key] != nil {
			continue
		}
		c := h.dial()
		c.raw(be32(uint32(len(headOf(key, 0)))), headOf(key, 0))
		c.closed(row.name)
	}
}

// check tells what is missing or too much in a row.
func (r *apiRow) check(t *testing.T) {
	t.Helper()
	const list = "docs/conformance/kafka-apis.txt"
	switch same := r.served == r.last; {
	case same && r.why != "":
		t.Errorf("%s is served as Kafka 4.4 serves it: take %q off its line in %s", r.name, r.why, list)
	case !same && r.why == "":
		t.Errorf("%s: served %q, in Kafka 4.4 %q: say why in %s", r.name, r.served, r.last, list)
	}
	if r.served != "" && len(r.proofs) == 0 {
		t.Errorf("no test has [Kafka-%s] in a comment", r.name)
	}
}

// readAPIs reads the list of all APIs of Kafka.
func readAPIs(t *testing.T) map[int16]*apiRow {
	t.Helper()
	text, err := os.ReadFile(apisList)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[int16]*apiRow{}
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		columns := strings.Split(line, " |")
		key, err := strconv.ParseInt(columns[0], 10, 16)
		if err != nil || len(columns) != 5 || rows[int16(key)] != nil {
			t.Fatalf("%s:%d: %d columns, want 5 with a new key: %v", apisList, i+1, len(columns), err)
		}
		for j := range columns {
			columns[j] = strings.TrimSpace(columns[j])
		}
		rows[int16(key)] = &apiRow{
			key: int16(key), name: columns[1], first: columns[2], last: columns[3], why: columns[4],
			proofs: map[string]string{},
		}
	}
	return rows
}

func span(low, high int16) string {
	if low == high {
		return strconv.Itoa(int(low))
	}
	return fmt.Sprintf("%d-%d", low, high)
}

// fileOf is the file that serves an API. If its comment says which versions, it is right.
func fileOf(t *testing.T, row *apiRow) string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("api_%02d_*.go", row.key))
	files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, "_test.go") })
	if err != nil || len(files) == 0 {
		t.Errorf("%s: there is no file api_%02d_*.go (%v)", row.name, row.key, err)
		return ""
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	head := regexp.MustCompile(`(?m)^// (\w+) \((\d+)\): v([\d-]+)`).FindSubmatch(text)
	if head != nil {
		is := fmt.Sprintf("%s (%s): v%s", head[1], head[2], head[3])
		if want := fmt.Sprintf("%s (%d): v%s", row.name, row.key, row.served); is != want {
			t.Errorf("%s says %q, want %q", files[0], is, want)
		}
	}
	return files[0]
}

var apiTag = regexp.MustCompile(`\[Kafka-(\w+)\]`)

// readProofs finds the tags: in tests, and in the sources of the clients of others that run against the door.
func readProofs(t *testing.T, rows map[int16]*apiRow) {
	t.Helper()
	byName := map[string]*apiRow{}
	for _, row := range rows {
		byName[row.name] = row
	}
	for _, dir := range []string{"internal", "conformance", "torture"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(file string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || filepath.Base(file) == "apis_test.go" {
				return err
			}
			switch ext := path.Ext(file); {
			case !strings.HasSuffix(file, "_test.go") && !slices.Contains([]string{".java", ".py", ".mjs", ".c", ".sh"}, ext):
				return nil
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			for _, at := range apiTag.FindAllSubmatchIndex(text, -1) {
				row := byName[string(text[at[2]:at[3]])]
				if row == nil || row.served == "" {
					t.Errorf("%s: %s names no API that is served", file, text[at[0]:at[1]])
					continue
				}
				link := strings.TrimPrefix(filepath.ToSlash(file), root+"/")
				row.proofs[proofName(t, file, text, at[0])] = "../../" + link
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// proofName is the test in which a tag stands; in another language, its file.
func proofName(t *testing.T, file string, text []byte, at int) string {
	t.Helper()
	room := path.Base(path.Dir(filepath.ToSlash(file)))
	if path.Ext(file) != ".go" {
		return path.Join(room, path.Base(file))
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), file, text, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range parsed.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		from := f.Pos()
		if f.Doc != nil {
			from = f.Doc.Pos()
		}
		if pos := token.Pos(at + int(parsed.FileStart)); from <= pos && pos < f.End() {
			if !strings.HasPrefix(f.Name.Name, "Test") {
				t.Errorf("%s: a tag stands in %s, which is no test", file, f.Name.Name)
			}
			return room + " " + f.Name.Name
		}
	}
	t.Errorf("%s: a tag stands in no test", file)
	return room
}

const apisIntro = `# The APIs of Kafka

Made from what the door announces and from tags in tests, not to be edited:
` + "`go test ./internal/kafka -run TestAPIs -update`" + `

Every API of Kafka 4 by its key, with the versions that Kafka and Firth serve, the file that serves it and the tests
that prove it; all versions that are announced are sent by ` + "`TestEveryVersionIsServed`" + `. What is not served
is not announced, and ends the connection. The list of APIs is [kafka-apis.txt](kafka-apis.txt).

`

func makeAPIPage(rows map[int16]*apiRow) []byte {
	var b, table bytes.Buffer
	table.WriteString("| key | API | Kafka 4.0 | Kafka 4.4 | Firth | code | tests | |\n")
	table.WriteString("|---|---|---|---|---|---|---|---|\n")
	served, broker := 0, 0
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		r := rows[key]
		served += count(r.served != "")
		broker += count(strings.HasPrefix(r.why, "between brokers"))
		code := ""
		if r.file != "" {
			code = fmt.Sprintf("[%s](../../internal/kafka/%[1]s)", r.file)
		}
		var proofs []string
		for _, name := range slices.SortedFunc(maps.Keys(r.proofs), cmp.Compare[string]) {
			proofs = append(proofs, fmt.Sprintf("[%s](%s)", name, r.proofs[name]))
		}
		fmt.Fprintf(&table, "| %d | %s | %s | %s | %s | %s | %s | %s |\n", r.key, r.name, r.first, r.last,
			cmp.Or(r.served, "-"), code, strings.Join(proofs, ", "), r.why)
	}
	b.WriteString(apisIntro)
	fmt.Fprintf(&b, "%d APIs, of them %d between brokers; of the other %d, %d are served.\n\n", len(rows), broker,
		len(rows)-broker, served)
	b.Write(table.Bytes())
	return b.Bytes()
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}
