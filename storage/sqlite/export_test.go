package sqlite

import (
	"fmt"
	"testing"
)

// LimitPages makes the disk full at so many pages.
func LimitPages(t *testing.T, s *Store, pages int) {
	t.Helper()
	if _, err := s.writing.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
		t.Fatal(err)
	}
}
