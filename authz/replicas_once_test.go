package authz_test

import (
	"net/http"
	"net/url"
	"sync"
	"testing"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/storage/redis/redistest"
)

// TestReplicasUseUpOnce: what is good once is good once among all servers, on
// Redis, however many ask at the same moment: a proof, an assertion, a pushed
// request.
func TestReplicasUseUpOnce(t *testing.T) {
	t.Run("Single", func(t *testing.T) { testReplicasUseUpOnce(t, "redis://"+redistest.Single(t).Addr) })
	t.Run("Cluster", func(t *testing.T) { testReplicasUseUpOnce(t, redistest.NewCluster(t).URL()) })
}

func testReplicasUseUpOnce(t *testing.T, location string) {
	s, _ := replicas(t, location, 3)
	key := s.Key()
	c, signer := backend(t, s, nil)
	tokens := s.With(key).SignIn("alice")
	if tokens.TokenType != "DPoP" {
		t.Fatalf("the honest login: %+v", tokens)
	}
	once := func(name string, n int, try func(i int) bool) {
		t.Helper()
		var mu sync.Mutex
		passed := 0
		var together sync.WaitGroup
		for i := range n {
			together.Go(func() {
				if try(i) {
					mu.Lock()
					defer mu.Unlock()
					passed++
				}
			})
		}
		together.Wait()
		if passed != 1 {
			t.Errorf("%s was good %d times", name, passed)
		}
	}
	proof := key.Proof("POST", s.URL+"/token", nil)
	refresh := url.Values{"grant_type": {"refresh_token"}, "client_id": {"spa"}, "refresh_token": {tokens.RefreshToken}}
	once("a proof", 12, func(int) bool { return postWith(t, s, "/token", refresh, "DPoP", proof).Status == http.StatusOK })
	form := signer.Sign(url.Values{"grant_type": {"client_credentials"}}, c.ID, nil)
	once("an assertion", 12, func(int) bool { return postWith(t, s, "/token", form).Status == http.StatusOK })

	pushed := s.Push().RequestURI
	var resume [8]string
	var browsers [8]*authztest.Browser
	for i := range browsers {
		b := s.Browser()
		form := b.Visit(pushed).Form()
		form.Set("username", "alice")
		form.Set("password", authztest.Password)
		browsers[i], resume[i] = b, b.Post("/login", form).Header.Get("Location")
	}
	once("a pushed request", len(resume), func(i int) bool { return browsers[i].Get(resume[i]).Answer().Get("code") != "" })

	// The family of the one refresh goes on, with its key alone.
	again := s.With(key).Refresh(tokens.RefreshToken)
	if again.Status != http.StatusOK || jktOf(t, again) != key.JKT {
		t.Fatalf("the app: %+v", again)
	}
	if got := s.With(s.Key()).Refresh(tokens.RefreshToken); got.Status == http.StatusOK {
		t.Errorf("another key within the grace window: %+v", got)
	}
	if got := s.With(key).Refresh(again.RefreshToken); got.Error != "invalid_grant" {
		t.Errorf("the family lives on after a theft: %+v", got)
	}
}
