package revocation_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/solegate/solegate/storage"
)

// TestOperatorIsAppointedAndDismissed: it is written down, and nothing ends.
func TestOperatorIsAppointedAndDismissed(t *testing.T) {
	w := newWorld(t)
	for _, operator := range []bool{true, true, false} {
		check(t, w.revoker.SetOperator(t.Context(), "u", operator))
		if u, err := w.store.User(t.Context(), "u"); err != nil || u.Admin != operator || u.Epoch != 3 {
			t.Errorf("the user is %+v, %v", u, err)
		}
	}
	for what, n := range map[string]int{"operator appointed": 2, "operator dismissed": 1} {
		if strings.Count(w.log.String(), what) != n {
			t.Errorf("%s is not there %d times:\n%s", what, n, w.log.String())
		}
	}
	if len(w.events()) > 0 {
		t.Errorf("announced is %+v", w.events())
	}
	if err := w.revoker.SetOperator(t.Context(), "nobody", true); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
}
