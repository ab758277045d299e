// Package interop shows what other people's libraries need to say to the
// authorization server. Its tests run each of the files that
// clients/README.md shows against a running server and a running API.
package interop
