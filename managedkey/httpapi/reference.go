package httpapi

import (
	"net/http"
	"reflect"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// mayRefer returns an error if params have a secret that is a reference, unless those before had it, and the caller is not one of the root
// namespace who has sudo on the path. Whoever may write entries says where their secrets are sent, by an endpoint or the name of a token;
// files and environment variables are the whole server's, and not those of his namespace.
func (c *call) mayRefer(params, before backend.Params, want Capability) error {
	stored := references(reflect.ValueOf(before))
	for _, secret := range references(reflect.ValueOf(params)) {
		if slices.ContainsFunc(stored, secret.Equal) {
			continue
		}
		if c.id.Namespace != namespace.Root || c.demand(want|Sudo) != nil {
			return refuse(http.StatusForbidden, "secrets that are references to environment variables or files of the server take the capability sudo, of somebody in the root namespace")
		}
	}
	return nil
}

// references returns the secrets that are references, wherever they are in the exported fields of a value: parameters may have
// others in them.
func references(v reflect.Value) (all []backend.Secret) {
	if !v.IsValid() {
		return nil
	}
	if v.CanInterface() {
		if s, ok := v.Interface().(backend.Secret); ok {
			if s.IsReference() {
				all = append(all, s)
			}
			return all
		}
		if r, ok := v.Interface().(backend.Referrer); ok && v.Kind() == reflect.Struct {
			all = r.References()
		}
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return references(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				all = append(all, references(v.Field(i))...)
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			all = append(all, references(v.Index(i))...)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			all = append(all, references(v.MapIndex(key))...)
		}
	}
	return all
}
