package verify_test

import (
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify"
)

func TestNewRefusesConfig(t *testing.T) {
	for name, c := range map[string]verify.Config{
		"no issuer":         {Audience: audience},
		"no audience":       {Issuer: "https://login.example.com"},
		"http issuer":       {Issuer: "http://login.example.com", Audience: audience, Development: true},
		"loopback, no dev":  {Issuer: "http://127.0.0.1:1", Audience: audience},
		"issuer with slash": {Issuer: "https://login.example.com/", Audience: audience},
		"issuer with query": {Issuer: "https://login.example.com?x", Audience: audience},
		"unknown algorithm": {Issuer: "https://login.example.com", Audience: audience, Algorithms: []string{"HS256"}},
		"leeway of an hour": {Issuer: "https://login.example.com", Audience: audience, Leeway: time.Hour},
		"http public URL":   {Issuer: "https://login.example.com", Audience: audience, PublicURL: "http://api.example.com", Development: true},
		"loopback URL":      {Issuer: "https://login.example.com", Audience: audience, PublicURL: "http://127.0.0.1:1"},
		"URL with slash":    {Issuer: "https://login.example.com", Audience: audience, PublicURL: "https://api.example.com/"},
		"URL with query":    {Issuer: "https://login.example.com", Audience: audience, PublicURL: "https://api.example.com?x"},
		"URL with ?":        {Issuer: "https://login.example.com", Audience: audience, PublicURL: "https://api.example.com?"},
		"URL with user":     {Issuer: "https://login.example.com", Audience: audience, PublicURL: "https://a@api.example.com"},
		"URL without host":  {Issuer: "https://login.example.com", Audience: audience, PublicURL: "https://:443"},
		"URL not in ASCII":  {Issuer: "https://login.example.com", Audience: audience, PublicURL: "https://bücher.example"},
		"no URL":            {Issuer: "https://login.example.com", Audience: audience, PublicURL: "api.example.com"},
		"DPoP without URL":  {Issuer: "https://login.example.com", Audience: "orders", RequireDPoP: true},
		"DPoP, http":        {Issuer: "https://login.example.com", Audience: "http://api.example.com", RequireDPoP: true, Development: true},
		"nonce without URL": {Issuer: "https://login.example.com", Audience: "orders", DPoPNonceKey: make([]byte, 32)},
		"short nonce key":   {Issuer: "https://login.example.com", Audience: audience, DPoPNonceKey: make([]byte, 31)},
		"proofs of an hour": {Issuer: "https://login.example.com", Audience: audience, DPoPLifetime: time.Hour},
		"negative lifetime": {Issuer: "https://login.example.com", Audience: audience, DPoPLifetime: -1},
	} {
		if _, err := verify.New(t.Context(), c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
