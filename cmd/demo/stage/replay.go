package stage

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/solegate/solegate/cmd/demo/script"
)

// replay is what a thief's server does with an access token that a script sent
// it: it asks the API for the notes, as a program that may send any header. The
// answer is a list of what came of each try.
//
// It asks one API for one thing, with a token that its caller has anyway.
func (s *Stage) replay(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<10))
	token := strings.TrimSpace(string(body))
	if err != nil || strings.ContainsAny(token, "\r\n\x00") {
		http.Error(w, "an access token is expected", http.StatusBadRequest)
		return
	}
	thief, err := script.New(r.Context(), s.SPAURL)
	if err != nil {
		http.Error(w, "the app does not answer", http.StatusBadGateway)
		return
	}
	all, err := thief.Replay(r.Context(), token)
	if err != nil {
		http.Error(w, "the API does not answer", http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(all)
}
