package backendtest

import (
	"errors"
	"sync/atomic"

	"github.com/managedkeys/managedkeys/backend"
)

// checkGenerate checks that keys are made when that is asked for and only then, and never in place of another by
// accident.
func checkGenerate(c *checker) {
	g, ok := c.client().(backend.Generator)
	if len(c.cfg.Generate) == 0 {
		if ok {
			c.Errorf("%T is a backend.Generator, but Config.Generate is empty", g)
		}
		return
	}
	if !ok {
		c.Fatal("Config.Generate is set, but the backend is no backend.Generator")
	}
	c.sub("Refused", func(c *checker) {
		key, err := g.Generate(c.Context(), foreignParams{}, nil)
		c.noKey("Generate with params of another backend", key, err, backend.ErrInvalidParams)
		key, err = g.Generate(c.Context(), nil, nil)
		c.noKey("Generate with nil params", key, err, backend.ErrInvalidParams)
	})
	for _, spec := range c.cfg.Generate {
		c.sub(spec.Name, func(c *checker) {
			key := checkGenerated(c, g, spec)
			checkExisting(c, g, spec, key)
			checkRotate(c, g, spec, key)
			checkReplace(c, g, spec, key)
		})
	}
}

// checkGenerated makes the key.
func checkGenerated(c *checker, g backend.Generator, spec Generate) backend.Key {
	// Rule: Open never makes a key.
	for range 2 {
		key, err := g.Open(c.Context(), spec.Params)
		c.noKey("Open before Generate", key, err, backend.ErrKeyNotFound)
	}
	// Rule: a context that has ended makes nothing.
	for _, ended := range c.endedContexts() {
		key, err := g.Generate(ended.ctx, spec.Params, nil)
		c.noKey("Generate with a context that is "+ended.name, key, err, ended.want)
		key, err = g.Open(c.Context(), spec.Params)
		c.noKey("Open after a Generate that was "+ended.name, key, err, backend.ErrKeyNotFound)
	}
	// Rule: of several that make the same key at once, one does, and the others see that it exists. Otherwise there
	// would be two keys that match, or one would be lost.
	var made atomic.Pointer[backend.Key]
	c.concurrently(4, func(int) {
		key, err := g.Generate(c.Context(), spec.Params, nil)
		switch {
		case err != nil:
			c.noKey("Generate at the same time", key, err, backend.ErrKeyExists)
		case !made.CompareAndSwap(nil, &key):
			c.Error("Generate made the key twice at the same time")
		}
	})
	if made.Load() == nil {
		c.Fatal("Generate made no key")
	}
	key := *made.Load()
	if got := key.Capabilities().Algorithm; got != spec.Algorithm {
		c.Errorf("Generate made a key of the algorithm %q, want %q", got, spec.Algorithm)
	}
	checkMethods(c, key)
	checkPublic(c, key)
	for _, op := range operations(c, key) {
		c.perform(op)
	}
	return key
}

// checkExisting checks that a key that exists is found, by a client that has never seen it too, and not overwritten.
func checkExisting(c *checker, g backend.Generator, spec Generate, key backend.Key) {
	for _, opts := range []*backend.GenerateOptions{nil, {}} {
		again, err := g.Generate(c.Context(), spec.Params, opts)
		c.noKey("Generate of a key that exists", again, err, backend.ErrKeyExists)
	}
	c.isKey("the key after a refused Generate", g, spec.Params, key)
	c.isKey("the key, seen by another client", c.client(), spec.Params, key)
	if other, ok := c.client().(backend.Generator); ok {
		again, err := other.Generate(c.Context(), spec.Params, nil)
		c.noKey("Generate, by another client, of a key that exists", again, err, backend.ErrKeyExists)
	}
	for _, op := range operations(c, key) {
		c.perform(op)
	}
}

// isKey checks that params open the key want, and that it works.
func (c *checker) isKey(what string, b backend.Backend, params backend.Params, want backend.Key) {
	c.Helper()
	got := c.open(b, params)
	if !samePublic(got.Public(), want.Public()) || got.ID() != want.ID() {
		c.Errorf("%s: params open %q, want %q, or have another public key", what, got.ID(), want.ID())
	}
	for _, op := range operations(c, got) {
		c.perform(op)
	}
}

// checkReplace checks GenerateOptions.Replace.
func checkReplace(c *checker, g backend.Generator, spec Generate, old backend.Key) {
	replace := &backend.GenerateOptions{Replace: true}
	for _, ended := range c.endedContexts() {
		key, err := g.Generate(ended.ctx, spec.Params, replace)
		c.refused("Generate with Replace and a context that is "+ended.name, err, ended.want, backend.ErrUnsupported)
		if key != nil {
			c.Errorf("Generate with Replace and a context that is %s returned a key", ended.name)
		}
	}
	before := operations(c, old)
	key, err := g.Generate(c.Context(), spec.Params, replace)
	if !spec.Replaces {
		c.noKey("Generate with Replace", key, err, backend.ErrUnsupported)
		c.isKey("the key after a refused Replace", c.client(), spec.Params, old)
		return
	}
	c.must("Generate with Replace", err)
	checkReplaced(c, g, spec.Params, before, old, key)
}

// checkReplaced checks that the key that stood where params say was replaced: fresh handles are of the new key, and
// handles of the old one never answer for the new one.
func checkReplaced(c *checker, b backend.Backend, params backend.Params, before []operation, old, key backend.Key) {
	c.Helper()
	if key == nil {
		c.Fatal("Replace returned neither a key nor an error")
	}
	if key.ID() == old.ID() && key.Public() == nil || key.Public() != nil && samePublic(key.Public(), old.Public()) {
		c.Errorf("Replace returned the old key %q", old.ID())
	}
	c.isKey("the new key", b, params, key)
	c.isKey("the new key, seen by another client", c.client(), params, key)
	for _, op := range operations(c, key) {
		c.perform(op)
	}
	// Rule: a handle is bound to one key pair. The old one works on as what it was, or fails; wrong results are what
	// the new key would give.
	for _, op := range before {
		err, wrong := op.do(c.Context())
		c.see(op.name, err)
		if err == nil && wrong != nil {
			c.Errorf("%s with a handle of the key that was replaced: %v", op.name, wrong)
		}
		if errors.Is(err, backend.ErrInvalidSignature) {
			c.Errorf("%s with a handle of the key that was replaced answers for the new key: %s", op.name, c.describe(err))
		}
	}
}
