package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"
)

// answer prints value as JSON with --json, else the text.
func (a *app) answer(value any, format string, args ...any) error {
	if a.json {
		e := json.NewEncoder(a.stdout)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(value)
	}
	_, err := fmt.Fprintf(a.stdout, format, args...)
	return err
}

// table prints rows under a head with aligned columns, or value as JSON.
func (a *app) table(value any, head string, rows func(row func(format string, args ...any))) error {
	if a.json {
		return a.answer(value, "")
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, head)
	rows(func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) })
	return w.Flush()
}

// warn tells the person at the terminal something that is no failure.
func (a *app) warn(format string, args ...any) {
	fmt.Fprintf(a.stderr, "solegate: warning: "+format+"\n", args...)
}

func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}
