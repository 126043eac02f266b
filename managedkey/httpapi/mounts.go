package httpapi

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// mountsRoute returns what a path below sys/mounts can do.
func mountsRoute(path []string) *route {
	switch n := len(path); {
	case n == 0:
		return &route{read: listMounts}
	case n > 1 && path[n-1] == "tune":
		return &route{read: readTune, write: tuneMount}
	}
	return &route{read: readMount, write: createMount, remove: deleteMount}
}

func splitTail(s string) []string { return strings.Split(s, "/") }

// mountData says what there is to say of a mount, in the form of the original.
func mountData(m *managedkey.Mount) map[string]any {
	return map[string]any{
		"uuid": m.ID(), "accessor": m.Type() + "_" + m.ID()[:8], "type": m.Type(), "description": m.Description(),
		"options": shownOptions(m), "config": configData(m),
		"local": false, "seal_wrap": false, "external_entropy_access": false,
		"plugin_version": "", "running_plugin_version": "", "running_sha256": "", "deprecation_status": "supported",
	}
}

func listMounts(c *call) (any, error) {
	data := make(map[string]any)
	for _, m := range c.api.keys.Mounts(c.ns) {
		data[m.Path()+"/"] = mountData(m)
	}
	return twice(data), nil
}

// target returns the mount that the path names, without the last drop segments.
func (c *call) target(drop int) (*managedkey.Mount, error) {
	path := c.tail(2)
	for range drop {
		path = path[:strings.LastIndexByte(path, '/')]
	}
	m, err := c.api.keys.OpenMount(c.ns, path)
	if err != nil {
		return nil, refuse(http.StatusNotFound, "No secret engine mount at %.*s/", maxShown, path)
	}
	return m, nil
}

func readMount(c *call) (any, error) {
	m, err := c.target(0)
	if err != nil {
		return nil, err
	}
	return twice(mountData(m)), nil
}

// mountOver returns a mount whose paths would be those of a namespace.
func (a *API) mountOver(ns namespace.Path) *managedkey.Mount {
	for above, ok := ns.Parent(); ok; above, ok = above.Parent() {
		below := strings.TrimPrefix(strings.TrimPrefix(string(ns), string(above)), "/")
		if m, _ := a.keys.MountAt(above, below); m != nil {
			return m
		}
	}
	return nil
}

// free returns an error if a new mount of a namespace can't be at path.
func (a *API) free(ns namespace.Path, path string) error {
	at := namespace.Path(path)
	if ns != namespace.Root {
		at = ns + "/" + at
	}
	if at.Validate() == nil && a.hasNamespace(at) {
		return refuse(http.StatusBadRequest, "path is already in use at %s", slashed(at))
	}
	for _, m := range a.keys.Mounts(ns) {
		if other := m.Path(); other == path || strings.HasPrefix(other, path+"/") || strings.HasPrefix(path, other+"/") {
			return refuse(http.StatusBadRequest, "path is already in use at %s/", other)
		}
	}
	return nil
}

func createMount(c *call) (any, error) {
	f, err := ReadFields(c.r)
	if err != nil {
		return nil, err
	}
	spec := managedkey.MountSpec{Namespace: c.ns, Path: c.tail(2)}
	var plugin string
	f.String("type", &spec.Type)
	f.String("plugin_name", &plugin)
	f.String("description", &spec.Description)
	f.Map("options", &spec.Options)
	f.options("options", spec.Options)
	f.Unset("local", "seal_wrap", "external_entropy_access", "plugin_version")
	config := f.Object("config")
	var change managedkey.MountChange
	readConfig(config, &change, spec.Options)
	f.Join("config", config)
	if err := f.Done(); err != nil {
		return nil, err
	}
	if spec.Type == "" || spec.Type == "plugin" {
		spec.Type = plugin
	}
	if change.Options != nil {
		spec.Options = change.Options
	}
	if change.Description != nil && spec.Description == "" {
		spec.Description = *change.Description
	}
	spec.Allowed = change.Allowed
	if spec.Type == "" {
		return nil, refuse(http.StatusBadRequest, "backend type must be specified as a string")
	}
	if _, ok := c.api.opts.Engines[spec.Type]; !ok {
		return nil, refuse(http.StatusBadRequest, "plugin not found in the catalog: %.60q; there are: %s", spec.Type, takes(slices.Collect(maps.Keys(c.api.opts.Engines))))
	}
	if err := c.api.free(c.ns, spec.Path); err != nil {
		return nil, err
	}
	_, err = c.api.keys.CreateMount(c.r.Context(), spec)
	return nil, absentKey(err)
}

// absentKey makes a key that a field names and that isn't there a mistake of the request.
func absentKey(err error) error {
	if errors.Is(err, backend.ErrKeyNotFound) {
		return refuse(http.StatusBadRequest, "field allowed_managed_keys: %v", err)
	}
	return err
}

func deleteMount(c *call) (any, error) {
	m, err := c.target(0)
	if err != nil { // nothing to do
		return nil, nil
	}
	// What the mount has had is removed by its handler, which can't be made any more once it is gone.
	_, done, err := c.api.engines.use(c.r.Context(), m)
	if err == nil {
		done()
	} else {
		c.api.log.WarnContext(c.r.Context(), "httpapi: a mount is removed without its engine, and what it has had is not", "mount", m.ID(), "type", m.Type(), "error", err)
	}
	err = c.api.keys.Unmount(c.r.Context(), m)
	c.api.sweepNow()
	return nil, err
}

func readTune(c *call) (any, error) {
	m, err := c.target(1)
	if err != nil {
		return nil, err
	}
	data := configData(m)
	data["description"], data["options"] = m.Description(), shownOptions(m)
	return twice(data), nil
}

func tuneMount(c *call) (any, error) {
	m, err := c.target(1)
	if err != nil {
		return nil, err
	}
	f, err := ReadFields(c.r)
	if err != nil {
		return nil, err
	}
	var change managedkey.MountChange
	readConfig(f, &change, m.Options())
	if err := f.Done(); err != nil {
		return nil, err
	}
	return nil, absentKey(c.api.keys.TuneMount(c.r.Context(), m, change))
}
