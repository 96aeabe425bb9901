package api

import (
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// object is a JSON object.
type object = map[string]any

// Document is the OpenAPI 3.1 document of the table.
func Document() any {
	d := &document{schemas: object{}}
	paths := object{}
	for _, r := range routes() {
		item, is := paths[r.path].(object)
		if !is {
			item = object{}
			paths[r.path] = item
		}
		item[strings.ToLower(r.method)] = d.operation(&r)
	}
	return object{
		"openapi": "3.1.0",
		"info": object{
			"title":   "Firth",
			"version": "1",
			"summary": "MQTT and Kafka, one log",
			"description": "Numbers of 64 bits are strings. Lists are paged by a cursor, filtered and sorted by the " +
				"server. What is refused is a problem document (RFC 9457) with a hint. As long as nobody has made a user or " +
				"a rule, programs of the same machine are answered, and nobody else.",
			"license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		"servers":    []any{object{"url": Path, "description": "the node that serves this document"}},
		"security":   []any{object{"token": []any{}}, object{"password": []any{}}, object{"session": []any{}}, object{}},
		"tags":       tags(),
		"paths":      paths,
		"components": object{"schemas": d.schemas, "securitySchemes": securitySchemes(), "responses": d.responses()},
	}
}

func tags() []any {
	return []any{
		object{"name": "node", "description": "The node itself"},
		object{"name": "topics", "description": "Topics of the log and their records"},
		object{"name": "messages", "description": "Messages of MQTT, for who has nothing but HTTP"},
		object{"name": "sessions", "description": "Sessions of MQTT clients, connected or away"},
		object{"name": "groups", "description": "Groups of Kafka clients"},
		object{"name": "access", "description": "Who is who, and who may do what"},
		object{"name": "audit", "description": "Who did what"},
	}
}

func securitySchemes() object {
	return object{
		"token": object{"type": "http", "scheme": "bearer",
			"description": "a token of firth token, a JSON Web Token of an issuer of access.jwt, or on the machine itself " +
				"what is in admin.token"},
		"password": object{"type": "http", "scheme": "basic", "description": "a user and its password"},
		"session": object{"type": "apiKey", "in": "cookie", "name": "firth_session",
			"description": "of POST /auth/login, with TLS as __Host-firth_session; a change needs the header X-CSRF-Token " +
				"besides"},
	}
}

// refusals are the responses that every route but an open one has.
func refusals() map[int]string {
	return map[int]string{
		http.StatusBadRequest:          "What is asked for is not understood",
		http.StatusUnauthorized:        "Who asks did not prove who it is",
		http.StatusForbidden:           "Who asks may not",
		http.StatusNotFound:            "It is not there",
		http.StatusInternalServerError: "It went wrong here",
		http.StatusTooManyRequests:     "There are as many as there may be, or too many logins wait",
		http.StatusServiceUnavailable:  "It cannot be done now",
	}
}

// moreRefusals are those of some routes.
func moreRefusals() map[int]string {
	return map[int]string{
		http.StatusConflict:              "It is there already",
		http.StatusPreconditionFailed:    "It is another one by now, or is there already, or is not",
		http.StatusRequestEntityTooLarge: "What is said is too long",
		http.StatusPreconditionRequired:  "The request does not say what it is a change of",
		http.StatusNotImplemented:        "It is not known here",
	}
}

// refusals are the statuses by which a route refuses.
func (rt *route) refusals() []int {
	if rt.open {
		return nil
	}
	all := slices.Collect(maps.Keys(refusals()))
	if rt.method != http.MethodGet {
		all = append(all, http.StatusNotImplemented)
	}
	if rt.body != nil {
		all = append(all, http.StatusRequestEntityTooLarge, http.StatusConflict)
	}
	if rt.edits {
		all = append(all, http.StatusPreconditionFailed, http.StatusPreconditionRequired)
	}
	return all
}

func (d *document) responses() object {
	all := object{}
	texts := refusals()
	maps.Copy(texts, moreRefusals())
	for status, text := range texts {
		all[strconv.Itoa(status)] = object{"description": text,
			"content": object{problemType: object{"schema": d.schema(reflect.TypeFor[Problem]())}}}
	}
	return all
}

// document gathers the schemas of types, by name.
type document struct {
	schemas object
}

// operation describes a route.
func (d *document) operation(rt *route) object {
	good := object{"description": "What is asked for",
		"content": object{rt.media(): object{"schema": d.schema(reflect.TypeOf(rt.answer))}}}
	if rt.tagged {
		good["headers"] = object{"ETag": object{"description": "names this state of it, for If-Match",
			"schema": object{"type": "string"}}}
	}
	responses := object{}
	if rt.method != http.MethodPost || !rt.makes {
		responses["200"] = good
	}
	if rt.makes {
		responses["201"] = good
	}
	o := object{"operationId": rt.id, "tags": []string{rt.tag}, "summary": rt.summary,
		"description": strings.TrimSpace(rt.text + " " + rt.rights()), "responses": responses}
	if rt.open {
		o["security"] = []any{}
	}
	for _, status := range rt.refusals() {
		responses[strconv.Itoa(status)] = object{"$ref": "#/components/responses/" + strconv.Itoa(status)}
	}
	if rt.body != nil {
		content := object{jsonType: object{"schema": d.schema(reflect.TypeOf(rt.body))}}
		if rt.raw {
			content[rawType] = object{"schema": object{"type": "string", "format": "binary"}}
		}
		o["requestBody"] = object{"required": true, "content": content}
	}
	var all []any
	for i := range rt.params {
		all = append(all, rt.params[i].describe())
	}
	if all = append(all, rt.conditionParams()...); len(all) > 0 {
		o["parameters"] = all
	}
	return o
}

// media is the type of what a route answers.
func (rt *route) media() string {
	if rt.flow != nil {
		return eventType
	}
	return jsonType
}

// conditionParams are the headers of a route that edits.
func (rt *route) conditionParams() (all []any) {
	if !rt.edits {
		return nil
	}
	all = append(all, object{"name": "If-Match", "in": "header", "required": !rt.makes,
		"description": "the ETag of what is changed, or * for whatever is there", "schema": object{"type": "string"}})
	if rt.makes {
		all = append(all, object{"name": "If-None-Match", "in": "header", "description": "* to make what is not there, " +
			"instead of If-Match", "schema": object{"type": "string", "enum": []string{"*"}}})
	}
	return all
}

// describe is a parameter as OpenAPI has it.
func (p *param) describe() object {
	s := object{"type": p.kind}
	switch p.kind {
	case "integer":
		s["minimum"], s["maximum"] = p.low, p.high
		if n, err := strconv.Atoi(p.value); err == nil {
			s["default"] = n
		}
	case "int64":
		s["type"], s["format"], s["pattern"] = "string", "int64", "^[0-9]+$"
	case "time":
		s["type"], s["format"] = "string", "date-time"
	case "boolean":
		if p.value != "" {
			s["default"] = p.value == "true"
		}
	default:
		if p.value != "" {
			s["default"] = p.value
		}
	}
	if len(p.values) > 0 {
		s["enum"] = p.values
	}
	if p.many {
		s = object{"type": "array", "items": s}
	}
	o := object{"name": p.name, "in": "query", "description": p.doc, "schema": s}
	if p.inPath {
		o["in"], o["required"] = "path", true
	}
	return o
}

// schema describes a type; a struct is named, and described once.
func (d *document) schema(t reflect.Type) object {
	switch {
	case t == nil, t == reflect.TypeFor[json.RawMessage]():
		return object{"description": "any value"}
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return d.schema(t.Elem())
	case reflect.Slice:
		return object{"type": "array", "items": d.schema(t.Elem())}
	case reflect.Map:
		of := d.schema(t.Elem())
		if t.Elem().Kind() == reflect.Pointer {
			of = object{"anyOf": []any{of, object{"type": "null"}}}
		}
		return object{"type": "object", "additionalProperties": of}
	case reflect.Struct:
		name := nameOf(t)
		if _, is := d.schemas[name]; !is {
			d.schemas[name] = object{} // it may hold itself
			d.schemas[name] = d.properties(t)
		}
		return object{"$ref": "#/components/schemas/" + name}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float64:
		return object{"type": "number"}
	default:
		return object{"type": "integer"}
	}
}

func int64Schema() object {
	return object{"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}
}

// nameOf is the name of the schema of a type: of Page[Topic] it is TopicPage.
func nameOf(t reflect.Type) string {
	name, of, generic := strings.Cut(t.Name(), "[")
	if !generic {
		return name
	}
	return of[strings.LastIndexByte(of, '.')+1:len(of)-1] + name
}

// properties describes a struct: what is embedded is as if it were written there.
func (d *document) properties(t reflect.Type) object {
	all, required := object{}, []string{}
	for f := range t.Fields() {
		if f.Anonymous {
			inner := d.properties(f.Type)
			if of, is := inner["properties"].(object); is {
				maps.Copy(all, of)
			}
			if names, is := inner["required"].([]string); is {
				required = append(required, names...)
			}
			continue
		}
		name, how, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		all[name] = d.property(&f, how)
		if !strings.Contains(how, "omitempty") {
			required = append(required, name)
		}
	}
	slices.Sort(required)
	return object{"type": "object", "properties": all, "required": required}
}

// property describes a field, of which how says how it is written.
func (d *document) property(f *reflect.StructField, how string) object {
	s := d.schema(f.Type)
	if strings.Contains(how, "string") {
		s = int64Schema()
	}
	if of := f.Tag.Get("enum"); of != "" {
		s["enum"] = strings.Split(of, ",")
	}
	if f.Type.Kind() == reflect.Pointer && !strings.Contains(how, "omitempty") {
		s = object{"anyOf": []any{s, object{"type": "null"}}}
	}
	if doc := f.Tag.Get("doc"); doc != "" {
		s["description"] = doc
	}
	return s
}
