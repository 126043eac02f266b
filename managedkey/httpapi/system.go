package httpapi

import (
	"context"
	"crypto/subtle"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/namespace"
)

// systemRoute returns what a path of the system can do, given in segments; nil if there is no such path.
func (c *call) systemRoute(path []string) *route {
	n := len(path)
	if path[0] == "auth" {
		switch strings.Join(path[1:], "/") {
		case "token/lookup-self":
			return &route{self: true, read: lookupSelf, write: lookupSelf}
		case "token/lookup":
			return &route{self: true, write: lookupSelf}
		}
		return nil
	}
	if n == 1 {
		return nil
	}
	switch path[1] {
	case "health":
		if n == 2 {
			return &route{public: true, read: health}
		}
	case "seal-status":
		if n == 2 {
			return &route{public: true, read: sealStatus}
		}
	case "leader":
		if n == 2 {
			return &route{public: true, read: leader}
		}
	case "init":
		if n == 2 {
			return &route{public: true, read: initialised}
		}
	case "metrics":
		// They are about all namespaces, and so are there in the root alone.
		if n == 2 && c.ns == namespace.Root && c.api.opts.Metrics != nil {
			return &route{public: c.api.opts.MetricsPublic, read: metrics}
		}
	case "capabilities-self":
		if n == 2 {
			return &route{self: true, write: capabilitiesSelf}
		}
	case "managed-keys":
		return keysRoute(path[2:])
	case "mounts":
		return mountsRoute(path[2:])
	case "remount":
		switch {
		case n == 2:
			return &route{sudo: true, write: remount}
		case n == 4 && path[2] == "status":
			return &route{read: remountStatus}
		}
	case "namespaces":
		return namespacesRoute(path[2:])
	case "internal":
		if n >= 4 && path[2] == "ui" && path[3] == "mounts" {
			if n == 4 {
				return &route{self: true, read: visibleMounts}
			}
			return &route{self: true, read: visibleMount}
		}
	}
	return nil
}

// tail returns the path after n segments.
func (c *call) tail(n int) string {
	rest := c.path
	for range n {
		_, rest, _ = strings.Cut(rest, "/")
	}
	return rest
}

// metrics has what the program collects answer.
func metrics(c *call) (any, error) { return c.api.opts.Metrics, nil }

// ready reports whether the server can serve.
func (c *call) ready() bool {
	if c.api.opts.Ready == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), 5*time.Second)
	defer cancel()
	return c.api.opts.Ready(ctx) == nil
}

// code returns the status that the query wants instead of what is usual.
func code(query url.Values, name string, usual int) (int, error) {
	text := query.Get(name)
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 200 || n > 599 {
		return 0, refuse(http.StatusBadRequest, "parameter %s: it takes a status from 200 to 599", name)
	}
	return n, nil
}

// health is 200 if the server is ready, else 503 and sealed. There are no standbys: every process serves. Their parameters are
// checked and change nothing.
func health(c *call) (any, error) {
	query := c.r.URL.Query()
	for _, name := range []string{"standbycode", "performancestandbycode", "drsecondarycode", "uninitcode", "removedcode", "haunhealthycode"} {
		if _, err := code(query, name, http.StatusOK); err != nil {
			return nil, err
		}
	}
	active, err := code(query, "activecode", http.StatusOK)
	if err != nil {
		return nil, err
	}
	sealed, err := code(query, "sealedcode", http.StatusServiceUnavailable)
	if err != nil {
		return nil, err
	}
	ready := c.ready()
	status := active
	if !ready {
		status = sealed
	}
	return bare{status, map[string]any{
		"initialized": true, "sealed": !ready, "standby": false, "performance_standby": false,
		"replication_performance_mode": "disabled", "replication_dr_mode": "disabled",
		"server_time_utc": time.Now().Unix(), "version": c.api.opts.Version, "enterprise": false,
	}}, nil
}

func sealStatus(c *call) (any, error) {
	return bare{http.StatusOK, map[string]any{
		"type": "managedkeys", "initialized": true, "sealed": !c.ready(), "t": 1, "n": 1, "progress": 0, "nonce": "",
		"version": c.api.opts.Version, "build_date": "", "migration": false, "recovery_seal": true, "storage_type": "managedkeys",
	}}, nil
}

func leader(*call) (any, error) {
	return bare{http.StatusOK, map[string]any{
		"ha_enabled": false, "is_self": true, "leader_address": "", "leader_cluster_address": "", "performance_standby": false,
	}}, nil
}

func initialised(*call) (any, error) {
	return bare{http.StatusOK, map[string]any{"initialized": true}}, nil
}

// lookupSelf says who the caller is.
func lookupSelf(c *call) (any, error) {
	if c.method == http.MethodPost {
		f, err := ReadFields(c.r)
		if err != nil {
			return nil, err
		}
		if err := c.ownToken(f); err != nil {
			return nil, err
		}
	}
	id := c.id
	policies := slices.Sorted(slices.Values(id.Policies))
	if policies == nil {
		policies = []string{}
	}
	data := map[string]any{
		"accessor": id.ID, "display_name": id.Name, "entity_id": "", "explicit_max_ttl": 0, "id": "", "meta": nil,
		"namespace_path": slashed(id.Namespace), "num_uses": 0, "orphan": true, "path": "auth/token/create", "policies": policies,
		"renewable": false, "type": "service", "creation_time": 0, "creation_ttl": 0, "expire_time": nil, "issue_time": nil, "ttl": 0,
	}
	if c.api.opts.EchoToken {
		data["id"], _ = tokenOf(c.r.Header)
	}
	if !id.Created.IsZero() {
		data["creation_time"], data["issue_time"] = id.Created.Unix(), id.Created.UTC().Format(time.RFC3339)
	}
	if !id.Expires.IsZero() {
		data["expire_time"], data["ttl"] = id.Expires.UTC().Format(time.RFC3339), int(max(0, time.Until(id.Expires))/time.Second)
		if !id.Created.IsZero() {
			data["creation_ttl"] = int(id.Expires.Sub(id.Created) / time.Second)
		}
	}
	return data, nil
}

// ownToken ends reading f, in which stock clients say whose token they mean although the path says so.
func (c *call) ownToken(f *Fields) error {
	var token string
	f.String("token", &token)
	if err := f.Done(); err != nil {
		return err
	}
	if own, err := tokenOf(c.r.Header); token != "" && (err != nil || subtle.ConstantTimeCompare([]byte(token), []byte(own)) != 1) {
		return refuse(http.StatusBadRequest, "field token: it takes the caller's own, or none")
	}
	return nil
}

// slashed returns a namespace as clients are told of it: with a slash at the end, and nothing for the root.
func slashed(ns namespace.Path) string {
	if ns == namespace.Root {
		return ""
	}
	return string(ns) + "/"
}

// maxPaths is how many paths capabilities-self takes.
const maxPaths = 100

func capabilitiesSelf(c *call) (any, error) {
	f, err := ReadFields(c.r)
	if err != nil {
		return nil, err
	}
	var paths, one []string
	f.Strings("paths", &paths)
	f.Strings("path", &one)
	if err := c.ownToken(f); err != nil {
		return nil, err
	}
	paths = append(paths, one...)
	if len(paths) == 0 || len(paths) > maxPaths {
		return nil, refuse(http.StatusBadRequest, "field paths: it takes 1 to %d paths", maxPaths)
	}
	data := make(map[string]any, len(paths)+1)
	for _, path := range paths {
		may, err := c.may(c.ns, strings.TrimPrefix(path, "/"))
		if err != nil {
			return nil, errForbidden
		}
		names := may.Names()
		if may.allows(everything) {
			names = []string{RootPolicy}
		}
		data[path] = names
		if len(paths) == 1 {
			data["capabilities"] = names
		}
	}
	return twice(data), nil
}
