package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/solegate/solegate/authz/audit"
)

func TestAuditIsLoggedAtEveryLevel(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var b bytes.Buffer
		log := newLog(&b, format, slog.LevelError)
		log.Info("left out")
		log.With("x", 1).Warn("left out")
		log.Error("kept")
		audit.New(audit.Config{Log: log}).Record(t.Context(), audit.Event{What: "user blocked"})
		if text := b.String(); strings.Contains(text, "left out") || !strings.Contains(text, "kept") || !strings.Contains(text, "user blocked") {
			t.Errorf("%s:\n%s", format, text)
		}
	}
}
