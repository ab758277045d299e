package main

import (
	"context"
	"io"
	"log/slog"
	"slices"
)

// newLog returns the server's log: lines of the level and above, and every
// line of the audit log, whatever the level is.
func newLog(w io.Writer, format string, level slog.Level) *slog.Logger {
	all := &slog.HandlerOptions{Level: slog.LevelDebug}
	var handler slog.Handler = slog.NewTextHandler(w, all)
	if format == "json" {
		handler = slog.NewJSONHandler(w, all)
	}
	return slog.New(filter{handler, level})
}

type filter struct {
	slog.Handler
	level slog.Level
}

// Enabled implements [slog.Handler].
func (f filter) Enabled(_ context.Context, l slog.Level) bool { return l >= f.level }

// WithAttrs implements [slog.Handler]. What package audit logs has audit=true.
func (f filter) WithAttrs(attrs []slog.Attr) slog.Handler {
	f.Handler = f.Handler.WithAttrs(attrs)
	if slices.ContainsFunc(attrs, func(a slog.Attr) bool { return a.Key == "audit" && a.Value.Kind() == slog.KindBool && a.Value.Bool() }) {
		f.level = slog.LevelDebug
	}
	return f
}

// WithGroup implements [slog.Handler].
func (f filter) WithGroup(name string) slog.Handler {
	f.Handler = f.Handler.WithGroup(name)
	return f
}
