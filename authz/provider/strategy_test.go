package provider

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/solegate/solegate/storage"
)

func TestTokensAreMadeNotGuessed(t *testing.T) {
	p := &Provider{Config: Config{Rand: strings.NewReader(strings.Repeat("random bytes are not this plain ", 4))}, tokenKey: [32]byte{1}}
	id, salt, err := p.newGrantID("user.session")
	if err != nil {
		t.Fatal(err)
	}
	g := storage.Grant{ID: id, Salt: salt}
	code := p.newCode(g)
	got, tag, ok := parseCode(code)
	if !ok || got != id || !p.isCode(g, tag) {
		t.Fatalf("%s is not taken for a code", code)
	}
	token, again := p.newRefreshToken(g, 7), p.newRefreshToken(g, 7)
	gotID, generation, refreshTag, ok := parseRefreshToken(token)
	if !ok || gotID != id || generation != 7 || !p.isRefreshToken(g, 7, refreshTag) || token != again {
		t.Fatalf("%s is not taken for the refresh token of generation 7", token)
	}
	other := g
	other.Salt[0]++
	stranger := &Provider{tokenKey: [32]byte{2}}
	if p.isCode(other, tag) || stranger.isCode(g, tag) || p.isRefreshToken(g, 8, refreshTag) || p.isRefreshToken(other, 7, refreshTag) || stranger.isRefreshToken(g, 7, refreshTag) || p.isCode(g, refreshTag) || p.isRefreshToken(g, 0, tag) {
		t.Error("a tag fits another salt, key, generation or kind")
	}
	if _, _, ok := parseCode(token); ok {
		t.Error("a refresh token is taken for a code")
	}
}

// FuzzParse: what is taken apart has one spelling, and nothing panics.
func FuzzParse(f *testing.F) {
	f.Add("sgc_user.session.grant." + strings.Repeat("A", 43))
	f.Add("sgr_user.session.grant." + strings.Repeat("A", 54))
	f.Add("sgr_user.session.grant." + strings.Repeat("\n", 54))
	f.Add("sgc_user.session.grant." + strings.Repeat("\r", 43))
	f.Fuzz(func(t *testing.T, s string) {
		if id, tag, ok := parseCode(s); ok {
			if s != codePrefix+string(id)+"."+b64.EncodeToString(tag) {
				t.Errorf("%q has another spelling", s)
			}
		}
		if id, generation, tag, ok := parseRefreshToken(s); ok {
			proof := binary.BigEndian.AppendUint64(nil, generation)
			if s != refreshPrefix+string(id)+"."+b64.EncodeToString(append(proof, tag...)) {
				t.Errorf("%q has another spelling", s)
			}
		}
	})
}
