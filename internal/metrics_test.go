package internal

import (
	"flag"
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/metrics.md anew")

// metric is one that a room makes.
type metric struct {
	name, kind, help string
	labels           []string
}

// metricMakers are the methods of telemetry.Set: what they make, and the argument at which the labels begin. Those of
// a function are pairs of a name and a value.
var metricMakers = map[string]struct {
	kind   string
	labels int
	step   int
}{
	"Counter": {"counter", 2, 1}, "CounterFunc": {"counter", 3, 1}, "Gauge": {"gauge", 2, 1},
	"GaugeFunc": {"gauge", 3, 2}, "Histogram": {"histogram", 3, 1},
}

// metricsOf finds the metrics that sources make, by name.
func metricsOf(all []*source) map[string]*metric {
	found := map[string]*metric{}
	for _, s := range all {
		if s.isTest() || !s.inside() {
			continue
		}
		texts := constantsOf(s)
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) < 2 {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			maker, ok := metricMakers[sel.Sel.Name]
			name := textOf(call.Args[0], texts)
			if !ok || !strings.HasPrefix(name, "firth_") {
				return true
			}
			m := &metric{name: name, kind: maker.kind, help: textOf(call.Args[1], texts)}
			for i := maker.labels; i < len(call.Args); i += maker.step {
				m.labels = append(m.labels, textOf(call.Args[i], texts))
			}
			found[name] = m
			return true
		})
	}
	return found
}

// constantsOf are the constants of a source that are texts.
func constantsOf(s *source) map[string]string {
	texts := map[string]string{}
	ast.Inspect(s.file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Names) == len(v.Values) {
			for i, name := range v.Names {
				texts[name.Name] = textOf(v.Values[i], texts)
			}
		}
		return true
	})
	return texts
}

// textOf is what an expression of literals, constants and plus signs says; empty: it is none.
func textOf(e ast.Expr, texts map[string]string) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return text
		}
	case *ast.Ident:
		return texts[e.Name]
	case *ast.BinaryExpr:
		return textOf(e.X, texts) + textOf(e.Y, texts)
	}
	return ""
}

const metricsPage = "../docs/metrics.md"

// metricsHead has ' for `.
const metricsHead = `# Metrics

What a node tells Prometheus at '/metrics' of 'listen.http', besides what every program in Go tells ('go_*',
'process_*'). Who may read it: 'access.metrics' in [configuration.md](configuration.md). Those of what a node does not
use are not there.

[packaging/monitoring](../packaging/monitoring) has alerts, each with its page in the [runbook](runbook/README.md), and
a dashboard for Grafana.

| metric | kind | labels | what it says |
|---|---|---|---|
`

// TestMetricsPage holds docs/metrics.md to the metrics that the rooms make.
func TestMetricsPage(t *testing.T) {
	found := metricsOf(loadSources(t))
	if len(found) < 100 {
		t.Fatalf("only %d metrics are found: the test looks in the wrong place", len(found))
	}
	page := strings.ReplaceAll(metricsHead, "'", "`")
	for _, name := range slices.Sorted(maps.Keys(found)) {
		m := found[name]
		if m.help == "" || slices.Contains(m.labels, "") {
			t.Errorf("what %s says, or a label of it, is no text in the source", name)
		}
		labels := ""
		if len(m.labels) > 0 {
			labels = "`" + strings.Join(m.labels, "`, `") + "`"
		}
		page += fmt.Sprintf("| `%s` | %s | %s | %s |\n", name, m.kind, labels, strings.ReplaceAll(m.help, "|", `\|`))
	}
	if *update {
		if err := os.WriteFile(metricsPage, []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if page != readText(t, metricsPage) {
		t.Error("docs/metrics.md is not what the rooms make: go test ./internal -run TestMetricsPage -update")
	}
}

func readText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	metricName  = regexp.MustCompile(`\bfirth_[a-z0-9_]+`)
	grouping    = regexp.MustCompile(`\b(?:by|on|group_left) \(([^)]*)\)`)
	alertName   = regexp.MustCompile(`(?m)^ +- alert: (\w+)$`)
	runbookLink = regexp.MustCompile(`(?m)^ +runbook_url: (.*)$`)
	command     = regexp.MustCompile(`(?m)\bfirth ([a-z]+(?: [a-z]+)?)`)
)

const monitoring = "../packaging/monitoring/"

// TestMonitoring holds the alerts and the dashboard to metrics that exist, by their names and labels.
func TestMonitoring(t *testing.T) {
	found := metricsOf(loadSources(t))
	for _, file := range []string{"rules.yml", "dashboard.json"} {
		for i, line := range strings.Split(readText(t, monitoring+file), "\n") {
			if !strings.Contains(line, "expr") {
				continue
			}
			labels := []string{"instance", "le", "job", ""}
			for _, name := range metricName.FindAllString(line, -1) {
				m := found[name]
				for _, part := range []string{"_bucket", "_count", "_sum"} {
					if base := found[strings.TrimSuffix(name, part)]; m == nil && base != nil && base.kind == "histogram" {
						m = base
					}
				}
				if m == nil {
					t.Errorf("%s:%d: there is no metric %s", file, i+1, name)
					continue
				}
				labels = append(labels, m.labels...)
			}
			for _, group := range grouping.FindAllStringSubmatch(line, -1) {
				for label := range strings.SplitSeq(group[1], ", ") {
					if !slices.Contains(labels, label) {
						t.Errorf("%s:%d: no metric there has the label %s", file, i+1, label)
					}
				}
			}
		}
	}
}

// TestRunbook holds each alert to a page that says what it means, each page to an alert, and their commands to those
// that there are.
func TestRunbook(t *testing.T) {
	rules := readText(t, monitoring+"rules.yml")
	index, commands := readText(t, "../docs/runbook/README.md"), readText(t, "../docs/cli.md")
	links := runbookLink.FindAllStringSubmatch(rules, -1)
	alerts := alertName.FindAllStringSubmatch(rules, -1)
	if len(alerts) == 0 || len(links) != len(alerts) {
		t.Fatalf("%d alerts have %d links to the runbook", len(alerts), len(links))
	}
	pages := []string{"README.md"}
	for i, alert := range alerts {
		page := alert[1] + ".md"
		pages = append(pages, page)
		if path.Base(links[i][1]) != page {
			t.Errorf("%s links to %s", alert[1], links[i][1])
		}
		if !strings.Contains(index, "("+page+")") {
			t.Errorf("docs/runbook/README.md has no link to %s", page)
		}
	}
	there, err := filepath.Glob("../docs/runbook/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range there {
		if !slices.Contains(pages, filepath.Base(name)) {
			t.Errorf("%s is of no alert", name)
		}
		for _, block := range shellBlocks(readText(t, name)) {
			for _, c := range command.FindAllStringSubmatch(block, -1) {
				if !strings.Contains(commands, "\n## firth "+c[1]+"\n") {
					t.Errorf("%s: there is no command firth %s", name, c[1])
				}
			}
		}
	}
	for _, page := range pages {
		if _, err := os.Stat("../docs/runbook/" + page); err != nil {
			t.Error(err)
		}
	}
}

// shellBlocks are the ```sh blocks of a page, without what stands behind a #.
func shellBlocks(page string) (blocks []string) {
	inside := false
	for line := range strings.SplitSeq(page, "\n") {
		switch {
		case line == "```sh":
			inside = true
		case strings.HasPrefix(line, "```"):
			inside = false
		case inside:
			line, _, _ = strings.Cut(line, "#")
			blocks = append(blocks, line)
		}
	}
	return blocks
}
