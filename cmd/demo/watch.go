package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// watch is a log that shows what an operator is told of accounts that an API
// reports, as it happens, and nothing else.
type watch struct {
	out   io.Writer
	mu    *sync.Mutex
	audit bool // what is logged is of the audit log
}

func newWatch(out io.Writer) *watch { return &watch{out, &sync.Mutex{}, false} }

// Enabled implements slog.Handler.
func (w *watch) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

// Handle implements slog.Handler.
func (w *watch) Handle(_ context.Context, r slog.Record) error {
	shown := strings.HasPrefix(r.Message, "user ")
	line := r.Time.Format("15:04:05.000") + "  " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "resource_server", "rule":
			shown = true
		case "reason":
		default:
			return true
		}
		line += fmt.Sprintf("  %s: %s", a.Key, a.Value)
		return true
	})
	if !w.audit || !shown {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := fmt.Fprintln(w.out, line)
	return err
}

// WithAttrs implements slog.Handler.
func (w *watch) WithAttrs(list []slog.Attr) slog.Handler {
	next := *w
	for _, a := range list {
		next.audit = next.audit || a.Key == "audit"
	}
	return &next
}

// WithGroup implements slog.Handler.
func (w *watch) WithGroup(string) slog.Handler { return w }
