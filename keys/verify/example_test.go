package verify_test

import (
	"context"
	"expvar"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/solegate/solegate/keys/verify"
)

// An API that takes only tokens that are bound to a key, and deletes only for
// who has just logged in.
func ExampleVerifier_RequireLogin() {
	ctx, orders, remove := context.Background(), http.NotFoundHandler(), http.NotFoundHandler()
	key := make([]byte, 32) // random, and the same in all replicas

	v, err := verify.New(ctx, verify.Config{
		Issuer:       "https://login.example.com",
		Audience:     "https://api.example.com",
		RequireDPoP:  true,
		DPoPNonceKey: key,
	})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /orders", v.Require("orders:read")(orders))
	mux.Handle("DELETE /orders", v.Require("orders:write")(v.RequireLogin(verify.Login{MaxAge: time.Minute})(remove)))
}

// An API that refuses within a second what was revoked, and that goes on with an
// alarm when it can't know.
func ExampleFeed() {
	ctx, id, secret := context.Background(), "api", "the secret that solegate resource register printed"

	v, err := verify.New(ctx, verify.Config{
		Issuer:     "https://login.example.com",
		Audience:   "https://api.example.com",
		Credential: &verify.Credential{ID: id, Secret: secret},
		Feed:       &verify.Feed{WhenStale: verify.Continue},
	})
	if err != nil {
		panic(err)
	}
	expvar.Publish("feed", expvar.Func(func() any { return v.FeedState() }))
}

// An API that gives each account sixty requests a minute and tells the issuer
// who comes more often, or takes what nobody needs.
func ExampleVerifier_Limit() {
	ctx, orders := context.Background(), http.NotFoundHandler()

	v, err := verify.New(ctx, verify.Config{
		Issuer:     "https://login.example.com",
		Audience:   "https://api.example.com",
		Credential: &verify.Credential{ID: "orders-api", Secret: os.Getenv("SECRET")},
		Reports:    &verify.Reports{},
	})
	if err != nil {
		panic(err)
	}
	limit := v.Limit(verify.Limit{Requests: 60, Window: time.Minute})
	mux := http.NewServeMux()
	mux.Handle("GET /orders", v.Require("orders:read")(limit(orders)))
	mux.Handle("GET /orders/all", v.Require("orders:read")(limit(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		v.Report(r.Context(), "scraping")
	}))))
	server := &http.Server{Handler: mux}
	if err := server.Shutdown(ctx); err != nil {
		panic(err)
	}
	if err := v.Close(ctx); err != nil { // the last reports
		panic(err)
	}
}

// An API with an event stream that ends with its token: when that expires, or
// within a second of what revokes it.
func ExampleVerifier_Watch() {
	var v *verify.Verifier // with Config.Feed
	news := make(chan string)

	v.Require("news:read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, stop := v.Watch(r.Context())
		defer stop()
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			select {
			case <-ctx.Done():
				return
			case text := <-news:
				fmt.Fprintf(w, "data: %s\n\n", text)
				http.NewResponseController(w).Flush()
			}
		}
	}))
}
