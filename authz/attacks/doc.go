// Package attacks holds the attacks that must fail, each a test named after
// its row: A the copied app, B the code, C tokens (those that the API meets are
// in keys/verify), D refresh, E login, G operation. A test without a row is an
// attack beyond the list: on pushed requests, proofs, credentials, the hardened
// profile.
//
// Every test first shows that the honest variant of the same request works,
// then that the attack fails, then that nothing was left behind. The browser
// tests run a real Chromium against the built sample app.
package attacks
