package main

// The chart is tried without Helm's libraries: its templates use few functions of Helm's.

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"

	"github.com/Masterminds/sprig/v3"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write packaging/kubernetes anew")

type object = map[string]any

// render makes the manifests of a release named firth with some values set, in the order of the templates' names.
func render(t *testing.T, set object) (string, error) {
	t.Helper()
	chart, values := object{}, object{}
	for name, into := range map[string]*object{"Chart.yaml": &chart, "values.yaml": &values} {
		text, err := os.ReadFile(filepath.Join("helm/firth", name))
		if err == nil {
			err = yaml.Unmarshal(text, into)
		}
		if err != nil {
			t.Fatal(name, err)
		}
	}
	merge(values, set)
	all := template.New("chart").Option("missingkey=error").Funcs(sprig.TxtFuncMap())
	all.Funcs(template.FuncMap{
		"include": func(name string, data any) (string, error) {
			var out strings.Builder
			err := all.ExecuteTemplate(&out, name, data)
			return out.String(), err
		},
		"toYaml": func(v any) (string, error) {
			var out strings.Builder
			e := yaml.NewEncoder(&out)
			e.SetIndent(2)
			err := e.Encode(v)
			return strings.TrimSuffix(out.String(), "\n"), err
		},
		"fromYamlArray": func(text string) (list []any, err error) { return list, yaml.Unmarshal([]byte(text), &list) },
	})
	if _, err := all.ParseGlob("helm/firth/templates/*"); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob("helm/firth/templates/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	data := object{
		"Values": values, "Chart": object{"AppVersion": chart["appVersion"], "Name": chart["name"]},
		"Release": object{"Name": "firth", "Namespace": "default", "Service": "Helm"},
	}
	var out strings.Builder
	for _, name := range append(names, "NOTES.txt") {
		var one bytes.Buffer
		if err := all.ExecuteTemplate(&one, filepath.Base(name), data); err != nil {
			return "", err
		}
		if text := strings.TrimSpace(one.String()); text != "" && filepath.Ext(name) == ".yaml" {
			out.WriteString("---\n" + text + "\n")
		}
	}
	return out.String(), nil
}

func merge(into, from object) {
	for k, v := range from {
		inner, ok := v.(object)
		if there, is := into[k].(object); ok && is {
			merge(there, inner)
		} else {
			into[k] = v
		}
	}
}

// objects reads manifests, by their kind.
func objects(t *testing.T, text string) map[string]object {
	t.Helper()
	all := map[string]object{}
	for d := yaml.NewDecoder(strings.NewReader(text)); ; {
		var o object
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		all[at[string](t, o, "kind")] = o
	}
}

// at is what lies at a path in an object.
func at[T any](t *testing.T, o any, path ...string) T {
	t.Helper()
	for _, key := range path {
		if list, ok := o.([]any); ok {
			o = list[0]
		}
		inner, ok := o.(object)
		if !ok || inner[key] == nil {
			t.Fatalf("there is no %s of %v in %v", key, path, o)
		}
		o = inner[key]
	}
	v, ok := o.(T)
	if !ok {
		t.Fatalf("%v is %T", path, o)
	}
	return v
}

var (
	closed   = object{"closedNetwork": true}
	withTLS  = object{"tls": object{"secret": "firth-tls"}}
	gateways = object{
		"tls": object{"secret": "firth-tls"}, "kafka": object{"brokers": []any{"kafka-0:9092", "kafka-1:9092"}},
	}
	closedGateways = object{
		"closedNetwork": true, "serviceMonitor": true, "config": object{"limits": object{"packet": "2MiB"}},
		"kafka": object{"brokers": []any{"kafka-0:9092", "kafka-1:9092"}},
	}
)

// TestRefusesToBeOpen: without a certificate, who installs it has to say that the network is closed.
func TestRefusesToBeOpen(t *testing.T) {
	if _, err := render(t, object{}); err == nil || !strings.Contains(err.Error(), "closedNetwork") {
		t.Errorf("the chart is installed open to everybody: %v", err)
	}
}

// TestChart holds what the chart makes together: labels to selectors, ports of the service to those of the pod and to
// the configuration, volumes to mounts.
func TestChart(t *testing.T) {
	for name, c := range map[string]struct {
		set  object
		kind string
	}{
		"closed": {closed, "StatefulSet"}, "tls": {withTLS, "StatefulSet"},
		"gateways": {gateways, "Deployment"}, "closed gateways": {closedGateways, "Deployment"},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := render(t, c.set)
			if err != nil {
				t.Fatal(err)
			}
			all := objects(t, text)
			if all["StatefulSet"] != nil && all["Deployment"] != nil || all[c.kind] == nil {
				t.Fatalf("it is no %s:\n%s", c.kind, text)
			}
			config := at[string](t, all["ConfigMap"], "data", "firth.yaml")
			labels := at[object](t, all[c.kind], "spec", "template", "metadata", "labels")
			for _, selector := range []object{
				at[object](t, all[c.kind], "spec", "selector", "matchLabels"), at[object](t, all["Service"], "spec", "selector"),
			} {
				for k, v := range selector {
					if labels[k] != v {
						t.Errorf("the pod has no label %s: %v", k, v)
					}
				}
			}
			pod := at[object](t, all[c.kind], "spec", "template", "spec")
			checkPorts(t, all["Service"], pod, config)
			checkVolumes(t, all[c.kind], pod)
			if at[bool](t, pod, "containers", "securityContext", "readOnlyRootFilesystem") != true ||
				at[bool](t, pod, "securityContext", "runAsNonRoot") != true {
				t.Error("the pod may do more than it needs")
			}
			checkConfig(t, config)
		})
	}
}

func checkPorts(t *testing.T, service, pod object, config string) {
	t.Helper()
	ports := object{}
	for _, p := range at[[]any](t, pod, "containers", "ports") {
		ports[at[string](t, p, "name")] = at[int](t, p, "containerPort")
	}
	for _, p := range at[[]any](t, service, "spec", "ports") {
		name, port := at[string](t, p, "targetPort"), at[int](t, p, "port")
		if ports[name] != port {
			t.Errorf("the service sends port %d to %s, which is %v", port, name, ports[name])
		}
	}
	var c struct{ Listen map[string]string }
	if err := yaml.Unmarshal([]byte(config), &c); err != nil {
		t.Fatal(err)
	}
	for name, address := range c.Listen {
		_, number, _ := strings.Cut(address, ":")
		open := strings.HasPrefix(address, ":")
		if _, has := ports[name]; open != has {
			t.Errorf("listen.%s is %s, and the pod's ports are %v", name, address, ports)
		} else if port, _ := ports[name].(int); open && number != yamlText(port) {
			t.Errorf("listen.%s is %s, and the port is %d", name, address, port)
		}
	}
}

func yamlText(v any) string {
	text, err := yaml.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text))
}

func checkVolumes(t *testing.T, owner, pod object) {
	t.Helper()
	there := object{}
	for _, v := range at[[]any](t, pod, "volumes") {
		there[at[string](t, v, "name")] = true
	}
	if claims, ok := owner["spec"].(object)["volumeClaimTemplates"].([]any); ok {
		there[at[string](t, claims, "metadata", "name")] = true
	}
	mounted := object{}
	for _, m := range at[[]any](t, pod, "containers", "volumeMounts") {
		mounted[at[string](t, m, "name")] = true
	}
	if !maps.Equal(there, mounted) {
		t.Errorf("there are the volumes %v, and mounted are %v", there, mounted)
	}
}

// checkConfig has a node look at its configuration, if FIRTH says where one is.
func checkConfig(t *testing.T, config string) {
	t.Helper()
	firth := os.Getenv("FIRTH")
	if firth == "" {
		t.Log("FIRTH names no binary: its configuration is not looked at")
		return
	}
	file := filepath.Join(t.TempDir(), "firth.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	check := exec.Command(firth, "config", "check", "-c", file)
	if strings.Contains(config, "gateways: ") {
		check.Env = append(os.Environ(), "FIRTH_LOG_KAFKA_PEERS_LISTEN=10.0.0.5:7883")
	}
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v: %s\n%s", err, out, config)
	}
}

// TestManifests holds packaging/kubernetes to the chart.
func TestManifests(t *testing.T) {
	for name, set := range map[string]object{"standalone": withTLS, "gateways": gateways} {
		text, err := render(t, set)
		if err != nil {
			t.Fatal(err)
		}
		text = "# What the chart in packaging/helm makes: go test -update, in packaging.\n" + text
		file := filepath.Join("kubernetes", name+".yaml")
		if *update {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		there, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(there) != text {
			t.Errorf("%s is not what the chart makes: go test -update, in packaging", file)
		}
	}
}
