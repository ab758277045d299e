// Package verify checks access tokens on the API's side.
package verify
