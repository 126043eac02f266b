package backendtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
)

// scan fails the test if text contains a secret. It never prints one.
func (c *checker) scan(what, text string) {
	c.Helper()
	for i, secret := range c.cfg.Secrets {
		if strings.Contains(text, secret) {
			c.Errorf("%s shows Config.Secrets[%d]: %s", what, i, c.cfg.mask(text))
		}
	}
}

// mask replaces the secrets in text, so that the suite's own messages show none.
func (cfg Config) mask(text string) string {
	for i, secret := range cfg.Secrets {
		text = strings.ReplaceAll(text, secret, fmt.Sprintf("<Config.Secrets[%d]>", i))
	}
	return text
}

// formats is every way in which a value becomes text that ends up in a log.
func formats(v any) map[string]string {
	texts := make(map[string]string)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		texts[format] = fmt.Sprintf(format, v)
	}
	if data, err := json.Marshal(v); err == nil {
		texts["JSON"] = string(data)
	}
	var text, object bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("test", "value", v)
	slog.New(slog.NewJSONHandler(&object, nil)).Info("test", "value", v)
	texts["slog text"], texts["slog JSON"] = text.String(), object.String()
	return texts
}

// checkFormats checks that no parameters and, once they are closed and at rest, no client and no key show a secret in
// any format. (Rule: secrets never appear in errors, logs, String, JSON or %v.)
func checkFormats(c *checker) {
	for name, p := range c.params() {
		for format, text := range formats(p) {
			c.scan(name+" formatted with "+format, text)
		}
	}
	b := c.cfg.New(c.T)
	keys := make([]backend.Key, len(c.cfg.Keys))
	for i, k := range c.cfg.Keys {
		keys[i] = c.open(b, k.Params)
	}
	c.must("Close", b.Close())
	for _, format := range []string{"%v", "%+v", "%#v"} {
		c.scan("the backend formatted with "+format, fmt.Sprintf(format, b))
		for i, key := range keys {
			c.scan(c.cfg.Keys[i].Name+" (the key) formatted with "+format, fmt.Sprintf(format, key))
		}
	}
}

// params returns all parameters of the configuration by where they stand in it.
func (c *checker) params() map[string]backend.Params {
	all := map[string]backend.Params{"Absent": c.cfg.Absent}
	if c.cfg.Ambiguous != nil {
		all["Ambiguous"] = c.cfg.Ambiguous
	}
	for _, k := range c.cfg.Keys {
		all["Keys "+k.Name] = k.Params
	}
	for _, g := range c.cfg.Generate {
		all["Generate "+g.Name] = g.Params
	}
	for _, i := range c.cfg.Import {
		all["Import "+i.Name] = i.Params
	}
	for name, p := range c.cfg.Invalid {
		all["Invalid "+name] = p
	}
	return all
}
