package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
	"github.com/spf13/cobra"
)

// configuration is the settings with where each came from.
type configuration struct {
	settings
	file     string
	origin   map[string]string // by setting: "solegate.yaml:3:9", "SOLEGATE_ISSUER", "--issuer", "default"
	mistakes []mistake
}

const defaultOrigin = "default"

// leaf is one setting: its dotted name and where its value is.
type leaf struct {
	name  string
	field reflect.StructField
	value reflect.Value
}

// leaves lists the settings of a struct in order. Lists of structs are left
// out: they exist in the file only.
func leaves(v reflect.Value, prefix string) []leaf {
	var list []leaf
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := prefix + f.Tag.Get("yaml")
		switch {
		case f.Type.Kind() == reflect.Struct:
			list = append(list, leaves(v.Field(i), name+".")...)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct && f.Type.Elem() != reflect.TypeFor[netip.Prefix]():
		default:
			list = append(list, leaf{name, f, v.Field(i)})
		}
	}
	return list
}

func envName(setting string) string {
	return "SOLEGATE_" + strings.ToUpper(strings.ReplaceAll(setting, ".", "_"))
}

// flag is the setting's flag. The guard's have no prefix: they are flags of
// solegate guard.
func (l leaf) flag() string {
	if name := l.field.Tag.Get("flag"); name != "" {
		return name
	}
	return strings.NewReplacer(".", "-", "_", "-").Replace(strings.TrimPrefix(l.name, "guard."))
}

// settingFlag marks a flag that is a setting's; its value is the name.
const settingFlag = "setting"

// settingFlags gives cmd a flag for each setting that is wanted, or for those
// named.
func settingFlags(cmd *cobra.Command, want func(leaf) bool, only ...string) {
	var s settings
	f := cmd.Flags()
	for _, l := range leaves(reflect.ValueOf(&s).Elem(), "") {
		if want != nil && !want(l) || len(only) > 0 && !slices.Contains(only, l.name) || l.field.Tag.Get("secret") != "" {
			continue
		}
		name, doc := l.flag(), l.field.Tag.Get("doc")
		switch {
		case l.field.Type.Kind() == reflect.Bool:
			f.Bool(name, l.field.Tag.Get("default") == "true", doc)
		case l.field.Tag.Get("flag") != "":
			f.StringArray(name, nil, doc)
		default:
			f.String(name, "", doc)
		}
		f.SetAnnotation(name, settingFlag, []string{l.name})
	}
}

// load reads the configuration for cmd. The mistakes are in it, all of them;
// the error says that the file can't be read at all.
func (a *app) load(cmd *cobra.Command) (*configuration, error) {
	c := &configuration{origin: map[string]string{}}
	all := leaves(reflect.ValueOf(&c.settings).Elem(), "")
	for _, l := range all {
		if preset := l.field.Tag.Get("default"); preset != "" {
			if err := setText(l.value, preset); err != nil {
				panic(err) // a default of ours
			}
		}
		c.origin[l.name] = defaultOrigin
	}

	env := map[string]string{}
	for _, pair := range a.environ {
		if name, value, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "SOLEGATE_") {
			env[name] = value
		}
	}
	path, _ := cmd.Flags().GetString("config")
	if path == "" {
		path = env["SOLEGATE_CONFIG"]
	}
	delete(env, "SOLEGATE_CONFIG")
	if err := c.readFile(path); err != nil {
		return nil, err
	}
	for _, l := range all {
		name := envName(l.name)
		text, ok := env[name]
		delete(env, name)
		if !ok || text == "" {
			continue
		}
		c.cameFrom(l.name, name)
		if err := setText(l.value, text); err != nil {
			c.mistakef(l.name, "%v", err)
		}
	}
	for _, name := range slices.Sorted(mapKeys(env)) {
		if strings.HasPrefix(name, "SOLEGATE_TEST") {
			continue
		}
		known := make([]string, len(all))
		for i, l := range all {
			known[i] = envName(l.name)
		}
		c.mistakes = append(c.mistakes, mistake{name, "there is no such setting" + suggest(name, known)})
	}
	for _, l := range all {
		flag := cmd.Flags().Lookup(l.flag())
		if flag == nil || !flag.Changed || !slices.Equal(flag.Annotations[settingFlag], []string{l.name}) {
			continue
		}
		c.cameFrom(l.name, "--"+flag.Name)
		if list, ok := flag.Value.(interface{ GetSlice() []string }); ok {
			l.value.Set(reflect.ValueOf(list.GetSlice()))
			continue
		}
		if err := setText(l.value, flag.Value.String()); err != nil {
			c.mistakef(l.name, "%v", err)
		}
	}
	return c, nil
}

// cameFrom notes where a setting comes from in place of the file, and forgets
// where the file had the items of a list.
func (c *configuration) cameFrom(setting, origin string) {
	maps.DeleteFunc(c.origin, func(name, _ string) bool { return strings.HasPrefix(name, setting+"[") })
	c.origin[setting] = origin
}

func mapKeys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// readFile reads the file: the one named, or solegate.yaml if it exists.
func (c *configuration) readFile(path string) error {
	named := path != ""
	if !named {
		path = "solegate.yaml"
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil
	}
	if err != nil {
		return fmt.Errorf("configuration file: %w; name another one with --config", err)
	}
	c.file = path
	c.parse(text)
	return nil
}

// parse reads YAML into the settings. Every mistake is noted with its place.
func (c *configuration) parse(text []byte) {
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		where := c.file
		message, _, _ := strings.Cut(err.Error(), "\n")
		var e interface {
			GetToken() *token.Token
			GetMessage() string
		}
		if errors.As(err, &e) && e.GetToken() != nil {
			where, message = c.at(e.GetToken()), e.GetMessage()
		}
		c.mistakes = append(c.mistakes, mistake{where, "this is no YAML: " + message})
		return
	}
	for i, doc := range file.Docs {
		if i > 0 && doc.Body != nil {
			c.mistakes = append(c.mistakes, mistake{c.at(doc.Body.GetToken()), "a second document: one file holds one configuration"})
			return
		}
		if doc.Body != nil {
			c.decode(doc.Body, reflect.ValueOf(&c.settings).Elem(), "")
		}
	}
}

func (c *configuration) at(t *token.Token) string {
	if t == nil || t.Position == nil {
		return c.file
	}
	return fmt.Sprintf("%s:%d:%d", c.file, t.Position.Line, t.Position.Column)
}

func (c *configuration) wrong(n ast.Node, format string, args ...any) {
	c.mistakes = append(c.mistakes, mistake{c.at(n.GetToken()), fmt.Sprintf(format, args...)})
}

// decode sets v from a node; name is the setting's.
func (c *configuration) decode(n ast.Node, v reflect.Value, name string) {
	switch node := n.(type) {
	case *ast.NullNode:
		return // as if it were not there
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		c.wrong(n, "%s: anchors, aliases and tags are not supported", name)
		return
	case *ast.MappingValueNode:
		n = ast.Mapping(node.GetToken(), false, node)
	}
	if v.Type() == reflect.TypeFor[inlineJSON]() {
		c.decodeInline(n, v, name)
		return
	}
	if m, ok := n.(*ast.MappingNode); ok {
		if v.Kind() != reflect.Struct {
			c.wrong(n, "%s: a value is expected, not a mapping", name)
			return
		}
		c.decodeMapping(m, v, name)
		return
	}
	if v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[netip.Prefix]() {
		c.wrong(n, "%s: a mapping is expected", orThe(name, "configuration"))
		return
	}
	if s, ok := n.(*ast.SequenceNode); ok {
		if v.Kind() != reflect.Slice {
			c.wrong(n, "%s: one value is expected, not a list", name)
			return
		}
		list := reflect.MakeSlice(v.Type(), len(s.Values), len(s.Values))
		for i, item := range s.Values {
			c.decode(item, list.Index(i), fmt.Sprintf("%s[%d]", name, i))
		}
		v.Set(list)
		c.origin[name] = c.at(n.GetToken())
		return
	}
	if v.Kind() == reflect.Slice {
		c.wrong(n, "%s: a list is expected", name)
		return
	}
	scalar, ok := n.(ast.ScalarNode)
	if !ok {
		c.wrong(n, "%s: a value is expected", name)
		return
	}
	c.origin[name] = c.at(n.GetToken())
	if err := setText(v, fmt.Sprint(scalar.GetValue())); err != nil {
		c.wrong(n, "%s: %v", name, err)
	}
}

func (c *configuration) decodeMapping(m *ast.MappingNode, v reflect.Value, name string) {
	fields, known := map[string]int{}, []string{}
	for i := range v.NumField() {
		key := v.Type().Field(i).Tag.Get("yaml")
		fields[key] = i
		known = append(known, key)
	}
	prefix := name
	if prefix != "" {
		prefix += "."
	}
	seen := map[string]bool{}
	for _, pair := range m.Values {
		key := pair.Key.GetToken().Value
		i, ok := fields[key]
		switch {
		case !ok:
			c.wrong(pair.Key, "there is no setting %q%s", prefix+key, suggest(key, known))
		case seen[key]:
			c.wrong(pair.Key, "%s stands here a second time", prefix+key)
		case v.Type().Field(i).Tag.Get("secret") != "":
			c.wrong(pair.Key, "%s is taken from the environment only (%s): a file is read by too many", prefix+key, envName(prefix+key))
		default:
			c.decode(pair.Value, v.Field(i), prefix+key)
		}
		seen[key] = true
	}
	if name != "" {
		c.origin[name] = c.at(m.GetToken())
		if len(m.Values) > 0 {
			c.origin[name] = c.at(m.Values[0].Key.GetToken())
		}
	}
}

func orThe(name, otherwise string) string {
	if name == "" {
		return otherwise
	}
	return name
}

// setText sets v from text, as flags, the environment and the file write it.
func setText(v reflect.Value, text string) error {
	switch p := v.Addr().Interface().(type) {
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is no duration: write 90s, 5m or 24h", text)
		}
		*p = d
		return nil
	case *[]string:
		*p = nil
		for item := range strings.SplitSeq(text, ",") {
			*p = append(*p, strings.TrimSpace(item))
		}
		return nil
	case *[]netip.Prefix:
		*p = nil
		for item := range strings.SplitSeq(text, ",") {
			var n netip.Prefix
			if err := setText(reflect.ValueOf(&n).Elem(), strings.TrimSpace(item)); err != nil {
				return err
			}
			*p = append(*p, n)
		}
		return nil
	case *netip.Prefix:
		n, err := netip.ParsePrefix(text)
		if err != nil {
			address, err := netip.ParseAddr(text)
			if err != nil {
				return fmt.Errorf("%q is no network: write 10.0.0.0/8 or an address", text)
			}
			n = netip.PrefixFrom(address, address.BitLen())
		}
		*p = n
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is not true or false", text)
		}
		v.SetBool(b)
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return fmt.Errorf("%q is no number", text)
		}
		v.SetInt(n)
	default: // unsigned of some size
		n, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is no positive number of that size", text)
		}
		v.SetUint(n)
	}
	return nil
}
