package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/solegate/solegate/clients"
)

// clientSettings declares a client in the file. No secret is in it: a file is
// read by too many.
type clientSettings struct {
	ID                     string        `yaml:"id"`
	Name                   string        `yaml:"name"`
	AuthMethod             string        `yaml:"auth_method"`
	SecretFile             string        `yaml:"secret_file"` // read at each start, and stored as a hash
	JWKS                   inlineJSON    `yaml:"jwks"`
	JWKSFile               string        `yaml:"jwks_file"` // in place of jwks; read at each start
	GrantTypes             []string      `yaml:"grant_types"`
	Profile                string        `yaml:"profile"`
	RequirePAR             bool          `yaml:"require_par"`
	RequireDPoP            bool          `yaml:"require_dpop"`
	RequireDPoPNonce       bool          `yaml:"require_dpop_nonce"`
	OptionalPKCE           bool          `yaml:"optional_pkce"`
	BackchannelLogoutURI   string        `yaml:"backchannel_logout_uri"`
	RedirectURIs           []string      `yaml:"redirect_uris"`
	PostLogoutRedirectURIs []string      `yaml:"post_logout_redirect_uris"`
	Origins                []string      `yaml:"origins"`
	Audiences              []string      `yaml:"audiences"`
	Scopes                 []string      `yaml:"scopes"`
	Consent                bool          `yaml:"consent"`
	IDTokenAlg             string        `yaml:"id_token_alg"`
	RefreshIDToken         bool          `yaml:"refresh_id_token"`
	AccessTokenLife        time.Duration `yaml:"access_token_life"`
	RefreshIdle            time.Duration `yaml:"refresh_idle"`
	RefreshLife            time.Duration `yaml:"refresh_life"`
	Disabled               bool          `yaml:"disabled"`
}

// settingOf is the setting of a field that [clients.Client.Validate] names, if
// it has another name.
var settingOf = map[string]string{
	"client id": "id", "redirect_uri": "redirect_uris", "post_logout_redirect_uri": "post_logout_redirect_uris", "origin": "origins",
	"audience": "audiences", "scope": "scopes", "grant_type": "grant_types", "secret": "secret_file",
}

// client is the declared client as it is to be stored, with warnings for who
// declares it. The error joins every mistake, each a [*clients.FieldError]. It
// reads the files that the client names.
func (s clientSettings) client(development bool) (c clients.Client, warnings []string, err error) {
	c = clients.Client{
		ID: clients.ID(s.ID), Name: s.Name,
		AuthMethod: clients.AuthMethod(s.AuthMethod), JWKS: json.RawMessage(s.JWKS), GrantTypes: s.GrantTypes,
		Profile: clients.Profile(s.Profile), RequirePAR: s.RequirePAR, RequireDPoP: s.RequireDPoP, RequireDPoPNonce: s.RequireDPoPNonce,
		OptionalPKCE: s.OptionalPKCE, BackchannelLogoutURI: s.BackchannelLogoutURI,
		RedirectURIs:           as[clients.RedirectURI](s.RedirectURIs),
		PostLogoutRedirectURIs: as[clients.RedirectURI](s.PostLogoutRedirectURIs),
		Origins:                as[clients.Origin](s.Origins),
		Audiences:              s.Audiences, Scopes: s.Scopes, Consent: s.Consent, IDTokenAlg: s.IDTokenAlg, RefreshIDToken: s.RefreshIDToken,
		AccessTokenLife: s.AccessTokenLife, RefreshIdle: s.RefreshIdle, RefreshLife: s.RefreshLife,
		Disabled: s.Disabled, Declared: true,
	}
	var errs []error
	var open []string           // warnings
	unread := map[string]bool{} // what a file should have held
	if s.JWKSFile != "" {
		if len(s.JWKS) > 0 {
			errs = append(errs, &clients.FieldError{Field: "jwks_file", Problem: "it is set beside jwks: set one of them"})
		} else if c.JWKS, err = readJWKS(strings.NewReader(""), s.JWKSFile); err != nil {
			errs = append(errs, &clients.FieldError{Field: "jwks_file", Problem: err.Error()})
			unread["jwks"] = true
		}
	}
	if s.SecretFile != "" {
		text, err := readFile(s.SecretFile)
		if err == nil {
			err = c.SetSecret(strings.TrimRight(string(text), "\r\n"))
		}
		if info, err := os.Stat(s.SecretFile); err == nil && info.Mode().Perm()&0o077 != 0 {
			open = append(open, fmt.Sprintf("the secret_file %s can be read by others; run chmod 600 on it", s.SecretFile))
		}
		if err != nil {
			errs = append(errs, &clients.FieldError{Field: "secret_file", Problem: err.Error()})
			unread["secret"] = true
		}
	}
	warnings, err = c.Validate(development)
	for _, err := range flatten(err) {
		if field, ok := errors.AsType[*clients.FieldError](err); !ok || !unread[field.Field] {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return c, nil, errors.Join(errs...)
	}
	return c, append(open, warnings...), nil
}

// flatten returns the errors that were joined.
func flatten(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return nil
}

// checkClients notes what is wrong with the declared clients, each mistake at
// the line of its value.
func (c *configuration) checkClients() {
	seen := map[string]bool{}
	for i, settings := range c.Clients {
		name := fmt.Sprintf("clients[%d]", i)
		if seen[settings.ID] {
			c.mistakef(name, "the id %q is there twice", settings.ID)
		}
		seen[settings.ID] = true
		_, _, err := settings.client(c.Development)
		for _, err := range flatten(err) {
			where, text := name, err.Error()
			if field, ok := errors.AsType[*clients.FieldError](err); ok {
				where = c.place(name, settings, field)
				if where != name { // which says the field
					text = strings.TrimLeft(strings.TrimPrefix(text, field.Field), ": ")
				}
			}
			c.mistakef(where, "%s", text)
		}
	}
}

// place is the setting that a mistake in a declared client is in: the item of
// a list, the setting, or the client if it does not have that setting.
func (c *configuration) place(name string, s clientSettings, mistake *clients.FieldError) string {
	key := mistake.Field
	if other, ok := settingOf[key]; ok {
		key = other
	}
	if key == "jwks" && c.origin[name+".jwks"] == "" {
		key = "jwks_file"
	}
	setting := name + "." + key
	if _, ok := c.origin[setting]; !ok {
		return name
	}
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		if list, ok := v.Field(i).Interface().([]string); ok && v.Type().Field(i).Tag.Get("yaml") == key {
			for j := range list {
				if list[j] == mistake.Value {
					return fmt.Sprintf("%s[%d]", setting, j)
				}
			}
		}
	}
	return setting
}

// inlineJSON is JSON that the file has as YAML.
type inlineJSON json.RawMessage

// decodeInline sets v, an inlineJSON, from a node.
func (c *configuration) decodeInline(n ast.Node, v reflect.Value, name string) {
	c.origin[name] = c.at(n.GetToken())
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 {
		c.origin[name] = c.at(m.Values[0].Key.GetToken())
	}
	text, err := json.Marshal(c.decodeJSON(n, name))
	if err != nil {
		c.wrong(n, "%s: %v", name, err)
	}
	v.SetBytes(text)
}

// decodeJSON makes of a node what JSON has for it, or notes why there is none.
// Numbers are taken as text: in a key set there are none, and a kid or a
// coordinate that looks like one is meant as it stands there.
func (c *configuration) decodeJSON(n ast.Node, name string) any {
	switch node := n.(type) {
	case *ast.MappingValueNode:
		return c.decodeJSON(ast.Mapping(node.GetToken(), false, node), name)
	case *ast.MappingNode:
		object := map[string]any{}
		for _, pair := range node.Values {
			key := pair.Key.GetToken().Value
			if _, twice := object[key]; twice {
				c.wrong(pair.Key, "%s.%s stands here a second time", name, key)
			}
			object[key] = c.decodeJSON(pair.Value, name+"."+key)
		}
		return object
	case *ast.SequenceNode:
		items := make([]any, len(node.Values))
		for i, item := range node.Values {
			items[i] = c.decodeJSON(item, fmt.Sprintf("%s[%d]", name, i))
		}
		return items
	case *ast.BoolNode:
		return node.Value
	case *ast.NullNode:
		return nil
	case *ast.StringNode:
		return node.Value
	case *ast.LiteralNode:
		return node.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value
	}
	c.wrong(n, "%s: anchors, aliases and tags are not supported", name)
	return nil
}
