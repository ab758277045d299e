package transfer_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/transfer"
)

// TestCopyAlteredAudit: a line that somebody altered or removed, or a whole end
// of another log, does not hold up the copy, and shows in it.
func TestCopyAlteredAudit(t *testing.T) {
	ctx := t.Context()
	lines := logged()
	lines[60].Body = []byte("altered")
	lines = append(lines[:100:100], lines[101:]...)
	for name, stores := range map[string][2]storage.Store{"to SQLite": {onRedis(t), onSQLite(t)}, "to Redis": {onSQLite(t), onRedis(t)}} {
		from, to := stores[0], stores[1]
		for list := lines; len(list) > 0; list = list[min(len(list), storage.MaxAuditLines):] {
			head, err := from.AuditHead(ctx)
			check(t, err)
			check(t, from.CopyAudit(ctx, head, list[:min(len(list), storage.MaxAuditLines)]))
		}
		if got, err := transfer.Copy(ctx, from, to, transfer.Options{Now: now}); err != nil || got.Audit != int64(len(lines)) {
			t.Fatalf("%s: %+v, %v", name, got, err)
		}
		got, err := to.AuditLines(ctx, 0, 1000)
		check(t, err)
		if diff := cmp.Diff(lines, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		problems := 0
		check(t, to.Check(ctx, func(string) { problems++ }))
		if problems != 2 {
			t.Errorf("%s: the check finds %d problems", name, problems)
		}
	}
}
