package strict

import (
	"encoding/json"
	"maps"
	"testing"
)

// FuzzObject holds Object to encoding/json: what it reads, encoding/json reads
// the same.
func FuzzObject(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1}`, ` {"a":1}`, `{ "a" : "b" , "c" : [1,{"d":2}] }`, `{"a":"\\"","b":{"a":1}}`, `{"a":1,"a":2}`, `{"a":1}x`, `{"a":tru`, "{\"a\":1\n}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got := map[string]string{}
		err := Object(data, func(name, value string) error {
			got[name] = value
			return nil
		})
		if err != nil {
			return
		}
		var raw map[string]json.RawMessage
		if err := json.Unmarshal(data, &raw); err != nil {
			t.Fatalf("%q was read, encoding/json says %v", data, err)
		}
		want := map[string]string{}
		for name, value := range raw {
			want[name] = string(value)
		}
		if !maps.Equal(got, want) {
			t.Fatalf("%q: got %q, want %q", data, got, want)
		}
	})
}
