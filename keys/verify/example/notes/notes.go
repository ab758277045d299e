// Package notes is a small API that keeps notes in memory, one list for each
// user. It shows how an API is protected: see [Handler].
package notes

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/solegate/solegate/keys/verify"
)

// Bounds of what is kept.
const (
	maxNotes = 100
	maxNote  = 500 // bytes
)

// What one account may ask for: a person with the app open in several tabs never
// gets there, a script does.
var (
	reading = verify.Limit{Name: "notes-read", Requests: 120, Window: time.Minute, Burst: 60}
	writing = verify.Limit{Name: "notes-write", Requests: 30, Window: time.Minute}
)

// freshLogin is how long ago the person may have logged in who deletes all.
const freshLogin = time.Minute

// Handler serves GET, POST and DELETE /api/notes: the notes of whoever the
// token is about, with the scopes notes:read and notes:write. DELETE deletes
// them all, and needs a login of the last minute: who finds an open browser
// can't do it (RFC 9470). Each account has a limit for reading and one for
// writing, and is reported to the issuer when it goes on adding notes although
// there is no room.
func Handler(v *verify.Verifier) http.Handler {
	n := &notes{v: v, of: map[string][]string{}}
	mux := http.NewServeMux()
	read, write := v.Limit(reading), v.Limit(writing)
	mux.Handle("GET /api/notes", v.Require("notes:read")(read(http.HandlerFunc(n.list))))
	mux.Handle("POST /api/notes", v.Require("notes:write")(write(http.HandlerFunc(n.add))))
	mux.Handle("DELETE /api/notes", v.Require("notes:write")(write(v.RequireLogin(verify.Login{MaxAge: freshLogin})(http.HandlerFunc(n.clear)))))
	mux.Handle("GET "+v.MetadataPath(), v.Metadata())
	return v.CORS(mux)
}

type notes struct {
	v  *verify.Verifier
	mu sync.Mutex
	of map[string][]string // by subject; guarded by mu
}

func (n *notes) list(w http.ResponseWriter, r *http.Request) {
	who := verify.FromContext(r.Context()).Subject
	n.mu.Lock()
	list := append([]string{}, n.of[who]...)
	n.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{"subject": who, "notes": list})
}

func (n *notes) add(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Text string `json:"text"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&in); err != nil || strings.TrimSpace(in.Text) == "" || len(in.Text) > maxNote || !utf8.ValidString(in.Text) {
		answer(w, http.StatusBadRequest, map[string]string{"error": "a JSON object with a text of 1 to 500 bytes is expected"})
		return
	}
	who := verify.FromContext(r.Context()).Subject
	n.mu.Lock()
	full := len(n.of[who]) >= maxNotes
	if !full {
		n.of[who] = append(n.of[who], in.Text)
	}
	n.mu.Unlock()
	if full {
		n.v.Report(r.Context(), "notes full")
		answer(w, http.StatusInsufficientStorage, map[string]string{"error": "there is no room for more notes"})
		return
	}
	answer(w, http.StatusCreated, map[string]string{"text": in.Text})
}

func (n *notes) clear(w http.ResponseWriter, r *http.Request) {
	who := verify.FromContext(r.Context()).Subject
	n.mu.Lock()
	delete(n.of, who)
	n.mu.Unlock()
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
