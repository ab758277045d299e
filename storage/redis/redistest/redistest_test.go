package redistest_test

import (
	"testing"

	"github.com/solegate/solegate/storage/redis/redistest"
)

func TestDataSurvivesAKill(t *testing.T) {
	s := redistest.Single(t)
	s.MustDo("SET", "a", "1")
	s.Kill()
	if _, err := s.Do("PING"); err == nil {
		t.Fatal("a killed server answers")
	}
	s.Start()
	if got := s.MustDo("GET", "a"); got != "1" {
		t.Errorf("got %q", got)
	}
}

func TestSecure(t *testing.T) {
	s := redistest.NewSecure(t)
	if got := s.MustDo("PING"); got != "PONG" {
		t.Errorf("got %q", got)
	}
}
