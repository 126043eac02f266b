package httpapi

import (
	"net/http"
	"strings"

	"github.com/managedkeys/managedkeys/managedkey"
)

// visible reports whether the caller may do anything with a mount.
func (c *call) visible(m *managedkey.Mount) (bool, error) {
	ns, path := m.Namespace(), m.Path()
	if !c.id.Namespace.Contains(ns) {
		return false, nil
	}
	if reacher, ok := c.api.opts.Authorizer.(Reacher); ok {
		return reacher.Reaches(c.r.Context(), c.id, ns, path)
	}
	may, err := c.may(ns, path+"/")
	return may != 0 && may&Deny == 0, err
}

// visibleMounts are those that the caller may do something with.
func visibleMounts(c *call) (any, error) {
	secret := make(map[string]any)
	for _, m := range c.api.keys.Mounts(c.ns) {
		seen, err := c.visible(m)
		if err != nil {
			return nil, errForbidden
		}
		if seen {
			secret[m.Path()+"/"] = mountData(m)
		}
	}
	return map[string]any{"secret": secret, "auth": map[string]any{}}, nil
}

// visibleMount is the mount that serves a path. Whether there is none or it is nothing for the caller is one answer.
func visibleMount(c *call) (any, error) {
	path := c.tail(4)
	denied := refuse(http.StatusForbidden, "preflight capability check returned 403, please ensure client's policies grant access to path %.*q", maxShown, path+"/")
	at, ok := c.api.locate(c.ns, path)
	if !ok || at.mount == nil {
		return nil, denied
	}
	if seen, err := c.visible(at.mount); err != nil || !seen {
		return nil, denied
	}
	data := mountData(at.mount)
	below := strings.TrimPrefix(strings.TrimPrefix(string(at.ns), string(c.ns)), "/")
	if below != "" {
		below += "/"
	}
	data["path"] = below + at.mount.Path() + "/"
	return data, nil
}
