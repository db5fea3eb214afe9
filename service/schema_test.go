package service

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
)

var update = flag.Bool("update", false, "write the schemas to docs/schema")

// schemas are the published messages and their Go types.
var schemas = map[string]reflect.Type{
	"report.json":      reflect.TypeFor[finding.Report](),
	"report-page.json": reflect.TypeFor[Report](),
	"servers.json":     reflect.TypeFor[Servers](),
	"findings.json":    reflect.TypeFor[Findings](),
	"sessions.json":    reflect.TypeFor[Sessions](),
	"checks.json":      reflect.TypeFor[Checks](),
	"history.json":     reflect.TypeFor[History](),
	"finding.json":     reflect.TypeFor[finding.Finding](),
	"epoch.json":       reflect.TypeFor[Epoch](),
	"request.json":     reflect.TypeFor[Request](),
}

// TestSchemas holds docs/schema against the Go types; -update writes it.
func TestSchemas(t *testing.T) {
	enum := func(values ...string) *jsonschema.Schema {
		s := &jsonschema.Schema{Type: "string"}
		for _, v := range values {
			s.Enum = append(s.Enum, v)
		}
		return s
	}
	var doors []string
	for _, k := range posture.DoorKinds() {
		doors = append(doors, k.String())
	}
	var logins []string
	for l := posture.LoginUnknown; l <= posture.LoginCertificate; l++ {
		logins = append(logins, l.String())
	}
	opts := &jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[posture.Access]():   enum("open", "closed", "unknown", "off"),
		reflect.TypeFor[posture.Basis]():    enum("none", "declared", "reported", "inferred", "observed", "proven"),
		reflect.TypeFor[posture.DoorKind](): enum(append(doors, "")...),
		reflect.TypeFor[posture.AuthMode](): enum("unknown", "none", "static", "operator"),
		reflect.TypeFor[posture.Login]():    enum(logins...),
		reflect.TypeFor[posture.State]():    enum("silent", "answering", "lame-duck", "shut-down", "foreign"),
		reflect.TypeFor[check.Severity]():   enum("critical", "warning", "info"),
		reflect.TypeFor[check.Kind]():       enum("system", "cluster", "server", "operator", "account"),
		reflect.TypeFor[finding.Action]():   enum("opened", "updated", "held", "resolved", "stale"),
		reflect.TypeFor[finding.Span]():     {Type: "string"},
	}}
	dir := filepath.Join("..", "docs", "schema")
	for file, typ := range schemas {
		s, err := jsonschema.ForType(typ, opts)
		if err != nil {
			t.Fatal(err)
		}
		loosen(s)
		s.Schema = "https://json-schema.org/draft/2020-12/schema"
		s.ID = schemaURL + file
		want, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, '\n')
		path := filepath.Join(dir, file)
		if *update {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the types say: run `go generate ./...`", path)
		}
	}
	for _, e := range endpoints {
		if _, ok := schemas[e.schema]; !ok {
			t.Errorf("%s names schema %s, which is not there", e.name, e.schema)
		}
	}
}

// loosen lets messages grow fields: who reads version 1 must go on reading it.
func loosen(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	s.AdditionalProperties = nil
	loosen(s.Items)
	for _, p := range s.Properties {
		loosen(p)
	}
}
