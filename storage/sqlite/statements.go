package sqlite

import (
	"context"
	"database/sql"
	"fmt"
)

// statement names a prepared statement.
type statement int

const (
	stmtReady statement = iota

	stmtClient
	stmtCreateClient
	stmtUpdateClient
	stmtRemoveClient
	stmtListClients

	stmtResourceServer
	stmtCreateResourceServer
	stmtUpdateResourceServer
	stmtRemoveResourceServer
	stmtListResourceServers

	stmtUser
	stmtUserByName
	stmtCreateUser
	stmtUpdateUser
	stmtRemoveUser
	stmtRemoveUserSessions
	stmtListUsers

	stmtCreateSession
	stmtSessionUser
	stmtTouchSession
	stmtRenewSession
	stmtEndSession
	stmtHasSession
	stmtListSessions

	stmtCreateGrant
	stmtStanding
	stmtRedeem
	stmtRotate
	stmtKeep
	stmtGrantState
	stmtRevokeGrant
	stmtListGrants

	stmtKeyRing
	stmtCreateKeyRing
	stmtUpdateKeyRing

	stmtCount
	stmtTally

	stmtOnce

	stmtAddLogout
	stmtLapsedLogouts
	stmtDueLogouts
	stmtClaimLogout
	stmtDeferLogout
	stmtFinishLogout
	stmtLogout
	stmtLogouts

	stmtAppendEvent
	stmtEvents
	stmtEventsBegin

	stmtCase
	stmtCreateCase
	stmtUpdateCase
	stmtRemoveCase
	stmtListCases
	stmtAuditLast
	stmtAppendAudit
	stmtAuditLines

	stmtSweepGrants
	stmtSweepSessions
	stmtSweepCounters
	stmtSweepReplays
	stmtSweepLogouts
	stmtSweepEvents
	stmtSweepCases
	stmtSweepAudit

	statementCount
)

const (
	sessionColumns = "s.last_seen, s.idle_expires, s.ended_at, s.data"
	grantColumns   = "g.redeemed_at, g.generation, g.rotated_at, g.idle_expires, g.expires, g.revoked_at, g.revoked_for, g.jkt, g.data"
	logoutColumns  = "session, client, created_at, attempts, due_at, expires"
)

// firstVersion starts at random, so that a record that is made again after its
// removal does not pass for the one before it. It leaves room to count on.
const firstVersion = "1 + (random() & 0xffffffffffff)"

// texts are the statements. The parameters of a compare-and-swap are always
// the new data, the identifier, the version that was read.
var texts = [statementCount]string{
	stmtReady: "UPDATE key_ring SET version = version WHERE id = 0",

	stmtClient:       "SELECT version, data FROM clients WHERE id = ?",
	stmtCreateClient: "INSERT INTO clients (id, version, data) VALUES (?, " + firstVersion + ", ?)",
	stmtUpdateClient: "UPDATE clients SET data = ?, version = version + 1 WHERE id = ? AND version = ?",
	stmtRemoveClient: "DELETE FROM clients WHERE id = ?",
	stmtListClients:  "SELECT version, data FROM clients WHERE id > ? ORDER BY id LIMIT ?",

	stmtResourceServer:       "SELECT version, data FROM resource_servers WHERE id = ?",
	stmtCreateResourceServer: "INSERT INTO resource_servers (id, version, data) VALUES (?, " + firstVersion + ", ?)",
	stmtUpdateResourceServer: "UPDATE resource_servers SET data = ?, version = version + 1 WHERE id = ? AND version = ?",
	stmtRemoveResourceServer: "DELETE FROM resource_servers WHERE id = ?",
	stmtListResourceServers:  "SELECT version, data FROM resource_servers WHERE id > ? ORDER BY id LIMIT ?",

	stmtUser:               "SELECT version, data FROM users WHERE id = ?",
	stmtUserByName:         "SELECT version, data FROM users WHERE name = ?",
	stmtCreateUser:         "INSERT INTO users (id, name, version, data) VALUES (?, ?, " + firstVersion + ", ?)",
	stmtUpdateUser:         "UPDATE users SET data = ?, name = ?, version = version + 1 WHERE id = ? AND version = ?",
	stmtRemoveUser:         "DELETE FROM users WHERE id = ?",
	stmtRemoveUserSessions: "DELETE FROM sessions WHERE user = ?",
	stmtListUsers:          "SELECT version, data FROM users WHERE name > ? ORDER BY name LIMIT ?",

	stmtCreateSession: "INSERT INTO sessions (id, user, last_seen, idle_expires, expires, ended_at, data) VALUES (?, ?, ?, ?, ?, ?, ?)",
	stmtSessionUser:   "SELECT " + sessionColumns + ", u.version, u.data FROM sessions s JOIN users u ON u.id = s.user WHERE s.id = ?",
	stmtTouchSession:  "UPDATE sessions SET last_seen = max(last_seen, ?), idle_expires = max(idle_expires, ?) WHERE id = ? AND ended_at = 0",
	stmtRenewSession:  "UPDATE sessions SET last_seen = max(last_seen, ?), idle_expires = max(idle_expires, ?), expires = ?, data = ? WHERE id = ? AND ended_at = 0",
	stmtEndSession:    "UPDATE sessions SET ended_at = ? WHERE id = ? AND ended_at = 0",
	stmtHasSession:    "SELECT 1 FROM sessions WHERE id = ?",
	stmtListSessions:  "SELECT s.id, " + sessionColumns + " FROM sessions s WHERE s.user = ? AND s.id > ? ORDER BY s.id LIMIT ?",

	stmtCreateGrant: "INSERT INTO grants (id, user, session, client, code_expires, redeemed_at, generation, rotated_at, idle_expires, expires, revoked_at, revoked_for, jkt, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
	stmtStanding: "SELECT " + grantColumns + ", " + sessionColumns + ", u.version, u.data, coalesce(c.version, 0) FROM grants g " +
		"LEFT JOIN sessions s ON s.id = g.session LEFT JOIN users u ON u.id = g.user LEFT JOIN clients c ON c.id = ?2 WHERE g.id = ?1",
	stmtRedeem: "UPDATE grants SET redeemed_at = ?, generation = 1, rotated_at = 0, idle_expires = ?, expires = ?, jkt = coalesce(?, jkt) " +
		"WHERE id = ? AND redeemed_at = 0 AND revoked_at = 0 AND code_expires > ?",
	stmtRotate: "UPDATE grants SET generation = generation + 1, rotated_at = ?, idle_expires = max(idle_expires, ?) " +
		"WHERE id = ? AND generation = ? AND redeemed_at <> 0 AND revoked_at = 0 AND expires > ? AND idle_expires > ?",
	stmtKeep: "UPDATE grants SET idle_expires = max(idle_expires, ?) " +
		"WHERE id = ? AND generation = ? AND redeemed_at <> 0 AND revoked_at = 0 AND expires > ? AND idle_expires > ?",
	stmtGrantState:  "SELECT redeemed_at, generation, rotated_at, idle_expires, expires, revoked_at, code_expires FROM grants WHERE id = ?",
	stmtRevokeGrant: "UPDATE grants SET revoked_at = ?, revoked_for = ? WHERE id = ? AND revoked_at = 0",
	stmtListGrants:  "SELECT g.id, " + grantColumns + " FROM grants g WHERE g.user = ? AND g.id > ? ORDER BY g.id LIMIT ?",

	stmtKeyRing:       "SELECT version, data FROM key_ring WHERE id = 1",
	stmtCreateKeyRing: "INSERT INTO key_ring (id, version, data) VALUES (1, 1, ?)",
	stmtUpdateKeyRing: "UPDATE key_ring SET data = ?, version = version + 1 WHERE id = 1 AND version = ?",

	stmtCount: "INSERT INTO counters (key, length, part, n, expires) VALUES (?, ?, ?, ?, ?) " +
		"ON CONFLICT (key, length, part) DO UPDATE SET n = n + excluded.n",
	stmtTally: "SELECT coalesce(sum(CASE WHEN part = ?3 THEN n END), 0), coalesce(sum(CASE WHEN part = ?3 - 1 THEN n END), 0) " +
		"FROM counters WHERE key = ?1 AND length = ?2 AND part IN (?3, ?3 - 1)",

	// What is past its time may be used again: it counts as forgotten.
	stmtOnce: "INSERT INTO replays (key, expires) VALUES (?1, ?3) " +
		"ON CONFLICT (key) DO UPDATE SET expires = excluded.expires WHERE expires <= ?2",

	stmtAddLogout:     "INSERT INTO logouts (" + logoutColumns + ") VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
	stmtLapsedLogouts: "DELETE FROM logouts WHERE due_at <= ?1 AND expires <= ?1",
	stmtDueLogouts:    "SELECT " + logoutColumns + " FROM logouts WHERE due_at <= ? ORDER BY due_at LIMIT ?",
	stmtClaimLogout:   "UPDATE logouts SET due_at = ?, attempts = attempts + 1 WHERE session = ? AND client = ?",
	stmtDeferLogout:   "UPDATE logouts SET due_at = ? WHERE session = ? AND client = ?",
	stmtFinishLogout:  "DELETE FROM logouts WHERE session = ? AND client = ?",
	stmtLogout:        "SELECT " + logoutColumns + " FROM logouts WHERE session = ? AND client = ?",
	stmtLogouts:       "SELECT " + logoutColumns + " FROM logouts WHERE (session, client) > (?, ?) ORDER BY session, client LIMIT ?",

	// A place is the time in microseconds, and later than the one before, which
	// is never removed.
	stmtAppendEvent: "INSERT INTO events (seq, until, data) VALUES (max(?, 1 + coalesce((SELECT max(seq) FROM events), 0)), ?, ?)",
	stmtEvents:      "SELECT seq, data FROM events WHERE seq >= ? ORDER BY seq LIMIT ?",
	// Whether the order begins behind a place.
	stmtEventsBegin: "SELECT coalesce((SELECT min(seq) FROM events) > ?, false)",

	stmtCase:        "SELECT version, data FROM cases WHERE user = ?",
	stmtCreateCase:  "INSERT INTO cases (user, expires, version, data) VALUES (?, ?, " + firstVersion + ", ?)",
	stmtUpdateCase:  "UPDATE cases SET data = ?, expires = ?, version = version + 1 WHERE user = ? AND version = ?",
	stmtRemoveCase:  "DELETE FROM cases WHERE user = ?",
	stmtListCases:   "SELECT version, data FROM cases WHERE user > ? ORDER BY user LIMIT ?",
	stmtAuditLast:   "SELECT seq, until, link, body FROM audit ORDER BY seq DESC LIMIT 1",
	stmtAppendAudit: "INSERT INTO audit (seq, until, link, body) VALUES (?, ?, ?, ?)",
	stmtAuditLines:  "SELECT seq, until, link, body FROM audit WHERE seq > ? ORDER BY seq LIMIT ?",

	stmtSweepGrants:   "DELETE FROM grants WHERE id IN (SELECT id FROM grants WHERE expires <= ?1 AND (redeemed_at <> 0 OR code_expires <= ?1 - 3600000000000) LIMIT ?2)",
	stmtSweepSessions: "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires <= ? LIMIT ?)",
	stmtSweepCounters: "DELETE FROM counters WHERE (key, length, part) IN (SELECT key, length, part FROM counters WHERE expires <= ? LIMIT ?)",
	stmtSweepReplays:  "DELETE FROM replays WHERE key IN (SELECT key FROM replays WHERE expires <= ? LIMIT ?)",
	stmtSweepLogouts:  "DELETE FROM logouts WHERE (session, client) IN (SELECT session, client FROM logouts WHERE expires <= ? LIMIT ?)",
	stmtSweepCases:    "DELETE FROM cases WHERE user IN (SELECT user FROM cases WHERE expires <= ? LIMIT ?)",
	// From the begin of the order to the first that is needed, and never the last
	// one: a reader whose event is behind that must learn that it was lost.
	stmtSweepEvents: "DELETE FROM events WHERE seq < (SELECT max(seq) FROM events) AND seq < (SELECT coalesce(min(CASE WHEN until > ?1 THEN seq END), max(seq) + 1) FROM (SELECT seq, until FROM events ORDER BY seq LIMIT ?2))",
	// From the begin up to the last of those that are past their time, which
	// stays: it is the proof that the others were.
	stmtSweepAudit: "DELETE FROM audit WHERE seq < (SELECT coalesce(min(CASE WHEN until = 0 OR until > ?1 THEN seq END), max(seq) + 1) - 1 FROM (SELECT seq, until FROM audit ORDER BY seq LIMIT ?2 + 1))",
}

type statements [statementCount]*sql.Stmt

func (s *statements) prepare(ctx context.Context, db *sql.DB) error {
	for i, text := range texts {
		st, err := db.PrepareContext(ctx, text)
		if err != nil {
			return fmt.Errorf("prepare %q: %w", text, err)
		}
		s[i] = st
	}
	return nil
}
