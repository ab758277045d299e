package stage

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// replay is what a thief's server does with an access token that a script sent
// it: it asks the API for the notes, as a program that may send any header. It
// tries the token alone, alone under the scheme DPoP, and with a good proof by
// a key of its own. The answer is a list of what came of each.
//
// It asks one API for one thing, with a token that its caller has anyway.
func (s *Stage) replay(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<10))
	token := strings.TrimSpace(string(body))
	if err != nil || strings.ContainsAny(token, "\r\n\x00") {
		http.Error(w, "an access token is expected", http.StatusBadRequest)
		return
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		http.Error(w, "no key can be made", http.StatusInternalServerError)
		return
	}
	var all []outcome
	for _, try := range []struct {
		how, scheme string
		key         *ecdsa.PrivateKey
	}{
		{"As a bearer token", "Bearer", nil},
		{"Without a proof", "DPoP", nil},
		{"With a proof by another key", "DPoP", key},
	} {
		o, nonce, err := s.ask(r.Context(), try.scheme, token, try.key, "")
		if err == nil && try.key != nil && nonce != "" {
			o, _, err = s.ask(r.Context(), try.scheme, token, try.key, nonce) // a thief can read a nonce, too
		}
		if err != nil {
			http.Error(w, "the API does not answer", http.StatusBadGateway)
			return
		}
		o.How = try.how
		all = append(all, o)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(all)
}

// outcome is what came of one try.
type outcome struct {
	How    string `json:"how"`
	Status int    `json:"status"`
	Says   string `json:"says"` // why it was refused, in the API's words
}

// ask asks the API for the notes, with a proof if there is a key, and returns
// the nonce that it gave.
func (s *Stage) ask(ctx context.Context, scheme, token string, key *ecdsa.PrivateKey, nonce string) (o outcome, given string, err error) {
	url := s.APIURL + "/api/notes"
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return outcome{}, "", err
	}
	r.Header.Set("Authorization", scheme+" "+token)
	if key != nil {
		proof, err := prove(key, url, token, nonce)
		if err != nil {
			return outcome{}, "", err
		}
		r.Header.Set("DPoP", proof)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return outcome{}, "", err
	}
	defer resp.Body.Close()
	var answer struct {
		Description string `json:"error_description"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&answer); err != nil {
		return outcome{}, "", err
	}
	return outcome{Status: resp.StatusCode, Says: answer.Description}, resp.Header.Get("DPoP-Nonce"), nil
}

// prove makes a DPoP proof for a GET of the URL with the access token
// (RFC 9449 §4.2), in which all is as it should be but the key.
func prove(key *ecdsa.PrivateKey, url, token, nonce string) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
	if err != nil {
		return "", err
	}
	hash := sha256.Sum256([]byte(token))
	claims := map[string]any{
		"jti": rand.Text(), "htm": http.MethodGet, "htu": url, "iat": time.Now().Unix(),
		"ath": base64.RawURLEncoding.EncodeToString(hash[:]),
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}
