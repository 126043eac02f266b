package httpapi

import (
	"encoding/json"
	"reflect"
	"strings"
	"time"

	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/pki"
)

// roleRoutes are the paths of roles.
var roleRoutes = []route{
	{path: "roles", list: listRoles},
	{path: "roles/:role", get: readRole, post: writeRole, patch: patchRole, remove: deleteRole},
}

func listRoles(c *call) (any, error) {
	names, err := c.a.Roles(c.ctx())
	if err != nil {
		return nil, err
	}
	after, limit, err := c.page()
	if err != nil {
		return nil, err
	}
	for after != "" && len(names) > 0 && names[0] <= after {
		names = names[1:]
	}
	if limit > 0 {
		names = names[:min(limit, len(names))]
	}
	return named(names, nil)
}

func readRole(c *call) (any, error) {
	role, err := c.a.Role(c.ctx(), c.param("role"))
	if err != nil {
		return nil, unlessThere(err)
	}
	return roleData(&role)
}

// roleData is a role as answers have it.
func roleData(r *pki.Role) (object, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	var data object
	if err := json.Unmarshal(text, &data); err != nil {
		return nil, err
	}
	if r.NotAfter.IsZero() {
		data["not_after"] = ""
	}
	return data, nil
}

// writeRole sets all of a role: what isn't given has its default.
func writeRole(c *call) (any, error) { return c.putRole(pki.NewRole(c.param("role"))) }

// patchRole changes of a role what is given, and nothing that another process has changed meanwhile.
func patchRole(c *call) (any, error) {
	return merge(c, func() (pki.Role, uint64, error) {
		role, err := c.a.Role(c.ctx(), c.param("role"))
		return role, role.Version, err
	}, c.putRole)
}

func (c *call) putRole(role pki.Role) (any, error) {
	if err := c.read(func(f *api.Fields) { takeRole(f, &role) }); err != nil {
		return nil, err
	}
	if err := c.a.PutRole(c.ctx(), role); err != nil {
		return nil, err
	}
	if role.GenerateLease {
		c.warn("generate_lease: there are no leases; certificates are revoked by number")
	}
	if role.LintProfile == pki.LintOff {
		c.warn("lint_profile: nothing is linted before it is signed")
	}
	return roleData(&role)
}

func deleteRole(c *call) (any, error) {
	err := c.a.DeleteRole(c.ctx(), c.param("role"))
	if unlessThere(err) == errNothing {
		return nil, nil
	}
	return nil, err
}

// takeRole takes the fields of a role, each in whatever form its type may have in requests; what is not there stays.
func takeRole(f *api.Fields, role *pki.Role) {
	for field, value := range reflect.ValueOf(role).Elem().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		switch out := value.Addr().Interface().(type) {
		case *string:
			f.String(name, out)
		case *bool:
			f.Bool(name, out)
		case *int:
			f.Int(name, out)
		case *pki.Strings:
			f.Strings(name, (*[]string)(out))
		case *pki.Duration:
			f.Duration(name, (*time.Duration)(out))
			if time.Duration(*out)%time.Second != 0 {
				f.Refuse(name, "whole seconds")
			}
		case *time.Time:
			takeMoment(f, name, out)
		case *pki.Policies:
			takePolicies(f, name, out)
		default: // not reached: TestRoleTypes
			f.Refuse(name, "nothing: its type is unknown here")
		}
	}
	f.Unset("no_store_metadata", "allow_globs_in_identity_templates", "allow_token_displayname", "lease", "lease_max", "not_before")
	for _, name := range []string{"not_before_bound", "not_after_bound"} {
		var bound string
		if f.String(name, &bound); bound != "" && bound != "permit" {
			f.Refuse(name, "permit; max_ttl and not_before_duration are the bounds here")
		}
	}
}

// takeMoment takes a moment that an empty string takes away.
func takeMoment(f *api.Fields, name string, out *time.Time) {
	if f.Has(name) {
		*out = time.Time{}
	}
	f.Time(name, out)
}

// takePolicies takes identifiers, in a list or with commas, or a list of objects, which may be in a string as the command line has it.
func takePolicies(f *api.Fields, name string, out *pki.Policies) {
	var value json.RawMessage
	if f.Raw(name, &value); value == nil {
		return
	}
	var text string
	if json.Unmarshal(value, &text) == nil && strings.HasPrefix(strings.TrimSpace(text), "[") {
		value = json.RawMessage(strings.TrimSpace(text))
	}
	var policies pki.Policies
	if err := policies.UnmarshalJSON(value); err != nil {
		f.Refuse(name, `object identifiers, or objects such as {"oid":"1.3.6.1.4.1.32473.1","cps":"https://example.com/cps"}`)
		return
	}
	*out = policies
}
