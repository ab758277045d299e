package admin_test

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/solegate/solegate/authz/admin"
)

// description is openapi.yaml, held to what is sent and answered. It is an
// [http.RoundTripper].
type description struct {
	t        *testing.T
	doc      map[string]any
	compiler *jsonschema.Compiler
	answered map[string]bool // operations that succeeded
	used     map[string]bool // responses of the components that were answered
}

func describe(t *testing.T) *description {
	t.Helper()
	text, err := os.ReadFile("openapi.yaml")
	check(t, err)
	asJSON, err := yaml.YAMLToJSON(text)
	check(t, err)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	check(t, err)
	forbidOthers(doc)
	d := &description{t: t, doc: doc.(map[string]any), compiler: jsonschema.NewCompiler(), answered: map[string]bool{}, used: map[string]bool{}}
	d.compiler.AssertFormat()
	check(t, d.compiler.AddResource("openapi.json", doc))
	return d
}

// forbidOthers makes every object one that has no other members: new ones are written
// into the description first.
func forbidOthers(node any) {
	switch node := node.(type) {
	case []any:
		for _, item := range node {
			forbidOthers(item)
		}
	case map[string]any:
		if _, open := node["additionalProperties"]; node["properties"] != nil && !open {
			node["additionalProperties"] = false
		}
		for _, item := range node {
			forbidOthers(item)
		}
	}
}

// at returns what is at a JSON pointer, and the pointer where it really stands.
func (d *description) at(pointer ...string) (map[string]any, []string) {
	d.t.Helper()
	node := any(d.doc)
	for i, part := range pointer {
		object, _ := node.(map[string]any)
		if node = object[part]; node == nil {
			d.t.Fatalf("openapi.yaml has no %s", strings.Join(pointer, "/"))
		}
		if object, ok := node.(map[string]any); ok {
			if ref, ok := object["$ref"].(string); ok {
				return d.at(append(strings.Split(strings.TrimPrefix(ref, "#/"), "/"), pointer[i+1:]...)...)
			}
		}
	}
	return node.(map[string]any), pointer
}

// validate holds a value to the schema at a pointer.
func (d *description) validate(value any, pointer ...string) error {
	for i, part := range pointer {
		pointer[i] = url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(part))
	}
	schema, err := d.compiler.Compile("openapi.json#/" + strings.Join(pointer, "/"))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// operation finds the path of the description that a request is to.
func (d *description) operation(r *http.Request) (path string, found bool) {
	for path = range d.doc["paths"].(map[string]any) {
		mux := http.NewServeMux()
		mux.Handle(path, http.NotFoundHandler())
		if _, pattern := mux.Handler(r); pattern == path {
			_, found = d.doc["paths"].(map[string]any)[path].(map[string]any)[strings.ToLower(r.Method)]
			return path, found
		}
	}
	return "", false
}

// RoundTrip sends the request, and holds it and the answer to the description.
func (d *description) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	if r.Body != nil {
		sent, _ = io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	var body []byte
	if resp.Header.Get("Content-Type") != "text/event-stream" { // that goes on
		if body, err = io.ReadAll(resp.Body); err != nil {
			return nil, err
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
	}
	name := r.Method + " " + r.URL.Path
	path, found := d.operation(r)
	if !found {
		if resp.StatusCode < 400 {
			d.t.Errorf("%s answered %d, and is not described", name, resp.StatusCode)
		}
		d.problem(name, resp, body)
		return resp, nil
	}
	operation, at := d.at("paths", path, strings.ToLower(r.Method))
	status := resp.Status[:3]
	if _, listed := operation["responses"].(map[string]any)[status]; !listed {
		d.t.Errorf("%s answered %s, which is not described", name, status)
		status = "default"
	}
	if resp.StatusCode < 300 {
		d.answered[operation["operationId"].(string)] = true
		d.request(name, operation, at, r, sent)
	}
	response, at := d.at(append(slices.Clone(at), "responses", status)...)
	if at[0] == "components" {
		d.used[at[len(at)-1]] = true
	}
	headers, _ := response["headers"].(map[string]any)
	for header, h := range headers {
		value := resp.Header.Get(header)
		var typed any = value
		if n, err := jsonschema.UnmarshalJSON(strings.NewReader(value)); err == nil {
			typed = n
		}
		if err := d.validate(typed, append(slices.Clone(at), "headers", header, "schema")...); err != nil && (value != "" || h.(map[string]any)["required"] == true) {
			d.t.Errorf("%s: %s: %q: %v", name, header, value, err)
		}
	}
	media := resp.Header.Get("Content-Type")
	if _, ok := response["content"].(map[string]any)[media]; !ok {
		d.t.Errorf("%s answered %s as %q, which is not described", name, status, media)
		return resp, nil
	}
	var value any = string(body)
	if strings.HasSuffix(media, "json") {
		if value, err = jsonschema.UnmarshalJSON(bytes.NewReader(body)); err != nil {
			d.t.Errorf("%s: %v", name, err)
		}
	}
	if err := d.validate(value, append(slices.Clone(at), "content", media, "schema")...); err != nil {
		d.t.Errorf("%s answered %s\n%s%v", name, status, body, err)
	}
	return resp, nil
}

// request holds a request that was understood to the description.
func (d *description) request(name string, operation map[string]any, at []string, r *http.Request, body []byte) {
	known := d.parameters(operation)
	for parameter := range r.URL.Query() {
		if !slices.Contains(known, parameter) {
			d.t.Errorf("%s was understood with a parameter %s, which is not described", name, parameter)
		}
	}
	if len(body) == 0 {
		return
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err == nil {
		_, at = d.at(append(slices.Clone(at), "requestBody", "content", "application/json", "schema")...)
		err = d.validate(value, slices.Clone(at)...)
	}
	if err != nil {
		d.t.Errorf("%s was understood with %s: %v", name, body, err)
	}
}

// problem holds an answer to the shape that all errors have.
func (d *description) problem(name string, resp *http.Response, body []byte) {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err == nil {
		err = d.validate(value, "components", "schemas", "Problem")
	}
	if err != nil || resp.Header.Get("Content-Type") != "application/problem+json" {
		d.t.Errorf("%s answered %s\n%s%v", name, resp.Status, body, err)
	}
}

// parameters are those of an operation's query, in order.
func (d *description) parameters(operation map[string]any) (names []string) {
	list, _ := operation["parameters"].([]any)
	for _, item := range list {
		parameter := item.(map[string]any)
		if ref, ok := parameter["$ref"].(string); ok {
			parameter, _ = d.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
		}
		if parameter["in"] == "query" {
			names = append(names, parameter["name"].(string))
		}
	}
	return names
}

// members are those of an operation's body.
func (d *description) members(at []string, operation map[string]any) []string {
	if operation["requestBody"] == nil {
		return nil
	}
	schema, _ := d.at(append(slices.Clone(at), "requestBody", "content", "application/json", "schema")...)
	return slices.Sorted(maps.Keys(schema["properties"].(map[string]any)))
}

// TestDescriptionAndRoutesAreTheSame: each route is described with what it
// takes, and nothing else is.
func TestDescriptionAndRoutesAreTheSame(t *testing.T) {
	d := describe(t)
	routes := map[string]admin.Route{}
	for _, r := range admin.Routes() {
		routes[r.Pattern] = r
	}
	ids := map[string]bool{}
	for path, item := range d.doc["paths"].(map[string]any) {
		for method := range item.(map[string]any) {
			if method == "parameters" {
				continue
			}
			pattern := strings.ToUpper(method) + " " + path
			route, served := routes[pattern]
			if !served {
				t.Errorf("%s is described and not served", pattern)
			}
			delete(routes, pattern)
			operation, at := d.at("paths", path, method)
			if got := d.parameters(operation); !slices.Equal(got, route.Query) {
				t.Errorf("%s takes %q, described is %q", pattern, route.Query, got)
			}
			if got := d.members(at, operation); !slices.Equal(got, slices.Sorted(slices.Values(route.Body))) {
				t.Errorf("%s takes %q, described is %q", pattern, route.Body, got)
			}
			id, _ := operation["operationId"].(string)
			if id == "" || ids[id] || operation["summary"] == nil {
				t.Errorf("%s has the operationId %q, which is another's, or it has no summary", pattern, id)
			}
			ids[id] = true
		}
	}
	for pattern := range routes {
		t.Errorf("%s is served and not described", pattern)
	}
}
