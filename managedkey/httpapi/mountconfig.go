package httpapi

import (
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/managedkey"
)

// Where a mount's options have its lease times, in seconds. Engines read them with [LeaseTimes].
const (
	configPrefix       = managedkey.MountConfigPrefix
	defaultLeaseOption = configPrefix + "default_lease_ttl"
	maxLeaseOption     = configPrefix + "max_lease_ttl"
)

// headerSettings are the names of headers that may pass to and from a mount. Here all of them pass to its engine and back; what is set is
// kept for those who look whether it is, such as "pki health-check".
var headerSettings = []string{"passthrough_request_headers", "allowed_response_headers"}

// LeaseTimes returns how long what a mount issues lives, if nothing is said and at most; 0 where nothing was configured.
func LeaseTimes(m *managedkey.Mount) (usual, longest time.Duration) {
	options := m.Options()
	seconds := func(name string) time.Duration {
		n, _ := strconv.Atoi(options[name])
		return time.Duration(n) * time.Second
	}
	return seconds(defaultLeaseOption), seconds(maxLeaseOption)
}

// configData is a mount's configuration.
func configData(m *managedkey.Mount) map[string]any {
	usual, longest := LeaseTimes(m)
	data := map[string]any{"default_lease_ttl": int(usual / time.Second), "max_lease_ttl": int(longest / time.Second), "force_no_cache": false}
	if allowed := m.Allowed(); len(allowed) > 0 {
		data["allowed_managed_keys"] = allowed
	}
	options := m.Options()
	for _, name := range headerSettings {
		if headers := options[configPrefix+name]; headers != "" {
			data[name] = strings.Split(headers, ",")
		}
	}
	return data
}

// shownOptions are a mount's options without those that are its configuration; nil if there are none.
func shownOptions(m *managedkey.Mount) map[string]string {
	options := m.Options()
	maps.DeleteFunc(options, func(name, _ string) bool { return strings.HasPrefix(name, configPrefix) })
	if len(options) == 0 {
		return nil
	}
	return options
}

// options refuses options of a mount that would be its configuration.
func (f *Fields) options(name string, given map[string]string) {
	for option := range given {
		if strings.HasPrefix(option, configPrefix) {
			f.refuse(name, "names that don't begin with "+configPrefix)
		}
	}
}

// readConfig takes a mount's configuration out of f. Options that there are stay unless f says otherwise.
func readConfig(f *Fields, change *managedkey.MountChange, options map[string]string) {
	var description *string
	if _, ok := f.members["description"]; ok {
		description = new(string)
		f.String("description", description)
		change.Description = description
	}
	var given map[string]string
	f.Map("options", &given)
	f.options("options", given)
	usual, longest := time.Duration(-1), time.Duration(-1)
	for name, out := range map[string]*time.Duration{"default_lease_ttl": &usual, "max_lease_ttl": &longest} {
		if string(f.members[name]) == `"system"` {
			f.take(name)
			*out = 0
		}
		f.Duration(name, out)
	}
	f.Strings("allowed_managed_keys", &change.Allowed)
	f.Unset("force_no_cache", "audit_non_hmac_request_keys", "audit_non_hmac_response_keys", "token_type", "plugin_version", "plugin_name",
		"override_pinned_version", "user_lockout_config", "delegated_auth_accessors", "identity_token_key", "trim_request_trailing_slashes")
	var listing string
	if f.String("listing_visibility", &listing); listing != "" && listing != "hidden" {
		f.refuse("listing_visibility", "hidden: only who has a token is told of mounts")
	}
	next := make(map[string]string)
	maps.Copy(next, options)
	maps.Copy(next, given)
	for _, name := range headerSettings {
		var headers []string
		f.Strings(name, &headers)
		switch {
		case len(headers) > 0:
			next[configPrefix+name] = strings.Join(headers, ",")
		case headers != nil:
			delete(next, configPrefix+name)
		}
	}
	for name, d := range map[string]time.Duration{defaultLeaseOption: usual, maxLeaseOption: longest} {
		switch {
		case d > 0:
			next[name] = strconv.Itoa(int(d / time.Second))
		case d == 0:
			delete(next, name)
		}
	}
	if usual, longest := next[defaultLeaseOption], next[maxLeaseOption]; usual != "" && longest != "" {
		a, _ := strconv.Atoi(usual)
		if b, _ := strconv.Atoi(longest); a > b {
			f.refuse("default_lease_ttl", "at most max_lease_ttl")
		}
	}
	if !maps.Equal(next, options) {
		change.Options = next
	}
}
