package httpapi

import (
	"encoding/base64"
	"strconv"

	"github.com/managedkeys/managedkeys/transit"
)

// versionArg reads a version in a path: a number, "latest", or nothing for all.
func (c *call) versionArg(name, text string) (int, error) {
	switch text {
	case "":
		return 0, nil
	case "latest":
		info, err := c.engine.Key(name)
		return info.LatestVersion, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, refuse("invalid key version %.20q; it takes a number from 1 or latest", text)
	}
	return n, nil
}

// exported answers with keys by version.
func (c *call) exported(name string, keys map[string]string) error {
	info, err := c.engine.Key(name)
	if err != nil {
		return err
	}
	kind := info.Type
	if info.Managed {
		kind = transit.TypeManaged
	}
	return c.reply(map[string]any{"name": name, "type": kind, "keys": keys})
}

func export(c *call) error {
	there, err := c.engine.Has(c.r.Context(), c.args[1])
	if err != nil {
		return err
	}
	if !there {
		return errNothing
	}
	number, err := c.versionArg(c.args[1], c.args[2])
	if err != nil {
		return err
	}
	form, err := c.query("format")
	if err != nil {
		return err
	}
	all, err := c.engine.Export(c.r.Context(), c.args[1], c.args[0], number)
	if err != nil {
		return err
	}
	keys := make(map[string]string, len(all))
	for n, key := range all {
		if keys[strconv.Itoa(n)], err = inForm(c.args[0], key, form); err != nil {
			return err
		}
	}
	return c.exported(c.args[1], keys)
}

func exportWrapped(c *call) error {
	hash, err := c.query("hash")
	if err != nil {
		return err
	}
	number, err := c.versionArg(c.args[1], c.args[2])
	if err != nil {
		return err
	}
	all, err := c.engine.ExportWrapped(c.r.Context(), c.args[0], c.args[1], hash, number)
	if err != nil {
		return err
	}
	keys := make(map[string]string, len(all))
	for n, wrapped := range all {
		keys[strconv.Itoa(n)] = base64.StdEncoding.EncodeToString(wrapped)
	}
	return c.exported(c.args[1], keys)
}
