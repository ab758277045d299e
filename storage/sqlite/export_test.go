package sqlite

import (
	"fmt"
	"testing"

	"modernc.org/sqlite"
)

// LimitPages makes the disk full at so many pages.
func LimitPages(t *testing.T, s *Store, pages int) {
	t.Helper()
	if _, err := s.writing.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
		t.Fatal(err)
	}
}

// FailCommits makes every COMMIT fail, or work again.
func FailCommits(t *testing.T, s *Store, fail bool) {
	t.Helper()
	var hook sqlite.CommitHookFn
	if fail {
		hook = func() int32 { return 1 }
	}
	c, err := s.writing.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Raw(func(driver any) error {
		driver.(sqlite.HookRegisterer).RegisterCommitHook(hook)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
