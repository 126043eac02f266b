package pki

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// PutRole stores a role, in place of one of that name: whichever that is if role.Version is 0, and otherwise the one with that version,
// so that of the changes that several processes make to what [Authority.Role] has returned none is lost. The error wraps
// [store.ErrConflict] if it was changed or deleted meanwhile; read it again then. Its issuer need not be there yet.
func (a *Authority) PutRole(ctx context.Context, role Role) error {
	if err := role.Validate(); err != nil {
		return err
	}
	expect := store.Any
	if role.Version != 0 {
		expect = store.Expect(role.Version)
	}
	if _, err := a.apply(ctx, a.put("roles/"+role.Name, expect, role)); err != nil {
		return fmt.Errorf("pki: role %q: %w", role.Name, cause(err))
	}
	return nil
}

// Role returns a role.
func (a *Authority) Role(ctx context.Context, name string) (Role, error) {
	h, err := a.role(ctx, name)
	if err != nil {
		return Role{}, err
	}
	return h.clone(), nil
}

// Roles returns the names of all roles, sorted.
func (a *Authority) Roles(ctx context.Context) ([]string, error) {
	var names []string
	for record, err := range a.all(ctx, "roles/") {
		if err != nil {
			return nil, err
		}
		names = append(names, strings.TrimPrefix(record.Key, a.prefix+"roles/"))
	}
	slices.Sort(names)
	return names, nil
}

// DeleteRole removes a role, and none of its certificates. The error wraps [store.ErrNotFound] if there is none.
func (a *Authority) DeleteRole(ctx context.Context, name string) error {
	if _, err := a.role(ctx, name); err != nil {
		return err
	}
	_, err := a.apply(ctx, a.remove("roles/"+name, store.Any))
	return err
}
