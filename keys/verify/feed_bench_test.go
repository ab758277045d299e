package verify_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/feed"
	"github.com/solegate/solegate/keys/verify/verifytest"
)

// What following the feed costs a token that was seen before, and one that was
// not: without a feed, with one that has said nothing, and with one that has
// said a million things, of each kind some. It should be within a twentieth.
// They are measured in turn, and the medians compared: what else the machine
// does hits all.
func BenchmarkFeedSeen(b *testing.B) { benchmarkFeed(b, 0, 100) }
func BenchmarkFeedNew(b *testing.B)  { benchmarkFeed(b, -1, 1) }

// BenchmarkFeedBusy is BenchmarkFeedSeen where before each measurement
// something else is revoked, so that each token is looked for again.
func BenchmarkFeedBusy(b *testing.B) { benchmarkFeed(b, 0, 1) }

const million = 1000000

func benchmarkFeed(b *testing.B, cacheSize, batch int) {
	issuer := verifytest.New(b)
	cached := func(c *verify.Config) { c.CacheSize = cacheSize }
	apis := []*following{
		follow(b, issuer, cached, func(c *verify.Config) { c.Feed = nil }),
		follow(b, issuer, cached), follow(b, issuer, cached),
	}
	issuer.Feed.SetHeartbeat(time.Hour)
	until := time.Now().Add(24 * time.Hour)
	kinds := []feed.Kind{feed.Session, feed.Grant, feed.Token, feed.User, feed.Client, feed.Key}
	event := func(i int) feed.Event {
		return feed.Event{Kind: kinds[i%len(kinds)], Subject: fmt.Sprint(i), Epoch: 1, NotBefore: until, Until: until}
	}
	for i := 0; i < million; i += feed.MaxPage {
		var page []feed.Event
		for j := range feed.MaxPage {
			page = append(page, event(i+j))
		}
		verify.RevokeForTest(apis[2].v, page)
	}
	busy := cacheSize >= 0 && batch == 1
	token := issuer.Token(map[string]any{
		"sub": "usr_0123456789abcdef012345", "sid": "usr_0123456789abcdef012345.0123456789abcdef012345", "grant_id": "usr_0123456789abcdef012345.0123456789abcdef012345.0123456789abcdef012345",
		"scope": "openid profile email offline_access notes:read", "acr": "urn:solegate:acr:password", "amr": []string{"pwd"}, "auth_time": 1,
	})
	took := make([][]time.Duration, len(apis))
	b.ResetTimer()
	for n := range b.N {
		for i, f := range apis {
			if busy && i == 2 {
				verify.RevokeForTest(f.v, []feed.Event{event(million + n)})
			}
			began := time.Now()
			for range batch {
				if _, err := f.v.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
			took[i] = append(took[i], time.Since(began)/time.Duration(batch))
		}
	}
	b.StopTimer()
	b.ReportMetric(0, "ns/op")
	for i, name := range []string{"ns-without", "ns-with-0", "ns-with-1M"} {
		slices.Sort(took[i])
		b.ReportMetric(float64(took[i][len(took[i])/2]), name)
	}
	without := float64(took[0][len(took[0])/2])
	b.ReportMetric(100*float64(took[1][len(took[1])/2])/without, "%-with-0")
	b.ReportMetric(100*float64(took[2][len(took[2])/2])/without, "%-with-1M")
}
