package authz_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/solegate/solegate/authz/authztest"
)

// BenchmarkRefresh refreshes 16 grants at once, durably, through the handler.
func BenchmarkRefresh(b *testing.B) {
	s := authztest.New(b)
	tokens := make(chan string, 16)
	browser := s.Browser()
	for range cap(tokens) {
		tokens <- s.Redeem(browser.Code("alice")).RefreshToken
	}
	b.ReportAllocs()
	b.SetParallelism(cap(tokens) / 2)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		token := <-tokens
		for pb.Next() {
			form := url.Values{"grant_type": {"refresh_token"}, "client_id": {"spa"}, "refresh_token": {token}}
			r := httptest.NewRequest("POST", "/token", strings.NewReader(form.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			w := httptest.NewRecorder()
			s.Handler.ServeHTTP(w, r)
			var t authztest.Tokens
			if err := json.Unmarshal(w.Body.Bytes(), &t); err != nil || w.Code != http.StatusOK {
				b.Fatalf("%d %s", w.Code, w.Body)
			}
			token = t.RefreshToken
		}
	})
}
