package redis

import (
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"fmt"

	"github.com/solegate/solegate/storage"
)

// What a script answers. The numbers are put before each script as Lua locals.
const (
	done = iota
	notFound
	exists
	conflict
	expired
	reused
	revoked
	renamed // a user's record has another name than the caller's
	late    // the reservation may have run out before the write came
	tooSoon
)

const outcomes = "local DONE, NOT_FOUND, EXISTS, CONFLICT, EXPIRED, REUSED, REVOKED, RENAMED, LATE, TOO_SOON = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n"

var (
	errRenamed = fmt.Errorf("the user's name is another one: %w", storage.ErrConflict)
	errLate    = fmt.Errorf("the reservation of the name ran out: %w", storage.ErrUnavailable)
)

// errorsOf are the errors of the outcomes.
var errorsOf = [...]error{
	done: nil, notFound: storage.ErrNotFound, exists: storage.ErrExists, conflict: storage.ErrConflict,
	expired: storage.ErrExpired, reused: storage.ErrReused, revoked: storage.ErrRevoked, renamed: errRenamed, late: errLate, tooSoon: storage.ErrTooSoon,
}

// script is a Lua script: one atomic operation on keys of one hash slot.
type script struct {
	name, text, sha string
}

var scripts []*script

func newScript(name string, parts ...string) *script {
	text := outcomes
	for _, p := range parts {
		text += p
	}
	sum := sha1.Sum([]byte(text)) // EVALSHA names a script so
	s := &script{name, text, hex.EncodeToString(sum[:])}
	scripts = append(scripts, s)
	return s
}

var (
	//go:embed script/create.lua
	createText string
	//go:embed script/replace.lua
	replaceText string
	//go:embed script/remove.lua
	removeText string
	//go:embed script/reserve.lua
	reserveText string
	//go:embed script/release.lua
	releaseText string
	//go:embed script/put.lua
	putText string
	//go:embed script/drop.lua
	dropText string
	//go:embed script/grant.lua
	grantText string
	//go:embed script/redeem.lua
	redeemText string
	//go:embed script/rotate.lua
	rotateText string
	//go:embed script/revoke.lua
	revokeText string
	//go:embed script/touch.lua
	touchText string
	//go:embed script/renew.lua
	renewText string
	//go:embed script/count.lua
	countText string
	//go:embed script/once.lua
	onceText string
	//go:embed script/owe.lua
	oweText string
	//go:embed script/claim.lua
	claimText string
	//go:embed script/defer.lua
	deferText string
	//go:embed script/finish.lua
	finishText string
	//go:embed script/trim.lua
	trimText string
	//go:embed script/append.lua
	appendText string
	//go:embed script/sweep.lua
	sweepText string
	//go:embed script/enlist.lua
	enlistText string
	//go:embed script/case.lua
	caseText string
	//go:embed script/audit.lua
	auditText string
	//go:embed script/sweepaudit.lua
	sweepAuditText string
	//go:embed script/ready.lua
	readyText string

	createScript  = newScript("create", createText)
	replaceScript = newScript("replace", replaceText)
	removeScript  = newScript("remove", removeText)
	reserveScript = newScript("reserve", reserveText)
	releaseScript = newScript("release", releaseText)
	putScript     = newScript("put", putText)
	dropScript    = newScript("drop", dropText)
	redeemScript  = newScript("redeem", grantText, redeemText)
	rotateScript  = newScript("rotate", grantText, rotateText)
	revokeScript  = newScript("revoke", grantText, revokeText)
	touchScript   = newScript("touch", touchText)
	renewScript   = newScript("renew", renewText)
	countScript   = newScript("count", countText)
	onceScript    = newScript("once", onceText)
	oweScript     = newScript("owe", oweText)
	claimScript   = newScript("claim", claimText)
	deferScript   = newScript("defer", deferText)
	finishScript  = newScript("finish", finishText)
	appendScript  = newScript("append", trimText, appendText)
	sweepScript   = newScript("sweep", trimText, sweepText)
	enlistScript  = newScript("enlist", enlistText)
	caseScript    = newScript("case", caseText)
	auditScript   = newScript("audit", auditText)
	readyScript   = newScript("ready", readyText)

	sweepAuditScript = newScript("sweepaudit", sweepAuditText)
)
