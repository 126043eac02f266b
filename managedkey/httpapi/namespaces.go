package httpapi

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// namespacesRoute returns what a path below sys/namespaces can do. OpenBao locks and seals namespaces with writes to such paths. Here
// they are nobody's, so that "namespace lock" doesn't make a namespace of that name and report success.
func namespacesRoute(path []string) *route {
	n := len(path)
	switch {
	case n == 0:
		return &route{list: listNamespaces}
	case path[0] == "api-lock", n > 1 && slices.Contains([]string{"seal", "unseal", "seal-status", "delete-sealed"}, path[n-1]):
		return nil
	}
	return &route{read: readNamespace, write: createNamespace, remove: deleteNamespace, exists: namespaceExists}
}

// namespaceData says what there is to say of a namespace. Its id is made from its path: one that is deleted and made again has it.
func namespaceData(ns namespace.Path) map[string]any {
	sum := sha256.Sum256([]byte(ns))
	return map[string]any{"id": hex.EncodeToString(sum[:5]), "path": slashed(ns), "custom_metadata": map[string]string{}}
}

// named returns the namespace that the path names.
func (c *call) named() (namespace.Path, error) {
	ns := namespace.Path(c.tail(2))
	if c.ns != namespace.Root {
		ns = c.ns + "/" + ns
	}
	if err := ns.Validate(); err != nil {
		return "", refuse(http.StatusBadRequest, "%v", err)
	}
	return ns, nil
}

// hasNamespace reports whether there is a namespace, or one below it.
func (a *API) hasNamespace(ns namespace.Path) bool {
	parent, ok := ns.Parent()
	if !ok {
		return true
	}
	return slices.ContainsFunc(a.keys.Namespaces(parent), ns.Contains)
}

func listNamespaces(c *call) (any, error) {
	var keys []string
	info := make(map[string]any)
	for _, ns := range c.api.keys.Namespaces(c.ns) {
		below := strings.TrimPrefix(strings.TrimPrefix(string(ns), string(c.ns)), "/")
		first, _, _ := strings.Cut(below, "/")
		child, err := c.ns.Child(first)
		if err == nil && info[first+"/"] == nil {
			keys = append(keys, first+"/")
			info[first+"/"] = namespaceData(child)
		}
	}
	slices.Sort(keys)
	keys, err := c.page(keys)
	if err != nil {
		return nil, err
	}
	shown := make(map[string]any, len(keys))
	for _, key := range keys {
		shown[key] = info[key]
	}
	return map[string]any{"keys": keys, "key_info": shown}, nil
}

func readNamespace(c *call) (any, error) {
	ns, err := c.named()
	if err != nil {
		return nil, err
	}
	if !c.api.hasNamespace(ns) {
		return nil, errNothing
	}
	return namespaceData(ns), nil
}

func namespaceExists(c *call) bool {
	ns, err := c.named()
	return err == nil && c.api.hasNamespace(ns)
}

func createNamespace(c *call) (any, error) {
	ns, err := c.named()
	if err != nil {
		return nil, err
	}
	f, err := ReadFields(c.r)
	if err != nil {
		return nil, err
	}
	f.Unset("custom_metadata")
	if err := f.Done(); err != nil {
		return nil, err
	}
	if m := c.api.mountOver(ns); m != nil {
		return nil, refuse(http.StatusBadRequest, "path is already in use at %s", slashed(namespace.Path(m.Path())))
	}
	err = c.api.keys.CreateNamespace(c.r.Context(), ns)
	if err != nil && !errors.Is(err, backend.ErrKeyExists) {
		return nil, err
	}
	return namespaceData(ns), nil
}

func deleteNamespace(c *call) (any, error) {
	ns, err := c.named()
	if err != nil {
		return nil, err
	}
	there := c.api.hasNamespace(ns)
	err = c.api.keys.DeleteNamespace(c.r.Context(), ns)
	switch {
	case errors.Is(err, backend.ErrNotPermitted): // there is something in it, which is no question of who asks
		return nil, refuse(http.StatusBadRequest, "%v", err)
	case err != nil:
		return nil, err
	case !there:
		return warned{nil, "requested namespace does not exist"}, nil
	}
	return map[string]any{"status": "deleted"}, nil // OpenBao's command line takes no answer without a body
}
