package backendtest

import (
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
)

// collect returns what a sequence of keys yields until the first error, and that error.
func collect(seq iter.Seq2[backend.KeyInfo, error]) ([]backend.KeyInfo, error) {
	var infos []backend.KeyInfo
	for info, err := range seq {
		if err != nil {
			return infos, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// checkList checks a backend that lists its keys: every key of the configuration is there once, in an order that stays,
// and the parameters that come with it open exactly that key.
func checkList(c *checker) {
	b := c.client()
	l, ok := b.(backend.Lister)
	if !ok {
		return
	}
	for _, k := range c.cfg.Keys {
		c.sub(k.Name, func(c *checker) { checkListed(c, l, k) })
	}
	scope := c.cfg.Keys[0].Params
	c.sub("Break", func(c *checker) {
		// Rule: the caller may stop at any key; the list and the client are in order afterwards.
		for range l.List(c.Context(), scope) {
			break
		}
		if infos, err := collect(l.List(c.Context(), scope)); c.ok("List", err) && len(infos) == 0 {
			c.Error("List is empty after a list that was left early")
		}
		c.open(b, scope)
	})
	c.sub("Refused", func(c *checker) {
		infos, err := collect(l.List(c.Context(), foreignParams{}))
		c.refused("List with params of another backend", err, backend.ErrInvalidParams)
		for _, ended := range c.endedContexts() {
			_, err := collect(l.List(ended.ctx, scope))
			c.refused("List with a context that is "+ended.name, err, ended.want)
		}
		if len(infos) > 0 {
			c.Errorf("List with params of another backend yields %d keys", len(infos))
		}
		// Rule: the sequence ends after the first error.
		n := 0
		for _, err := range l.List(c.Context(), foreignParams{}) {
			c.see("List", err)
			n++
		}
		if n != 1 {
			c.Errorf("List goes on after an error: %d iterations, want 1", n)
		}
		checkRefusedURIs(c, b, scope)
	})
}

// checkListed checks that one key is in the list of where it is.
func checkListed(c *checker, l backend.Lister, k Key) {
	key := c.open(l, k.Params)
	infos, err := collect(l.List(c.Context(), k.Params))
	c.must("List", err)
	ids := func(infos []backend.KeyInfo) []string {
		ids := make([]string, len(infos))
		for i, info := range infos {
			ids[i] = info.ID
		}
		return ids
	}
	again, err := collect(l.List(c.Context(), k.Params))
	c.must("List", err)
	if !slices.Equal(ids(infos), ids(again)) {
		c.Errorf("the order is not fixed: %q and then %q", ids(infos), ids(again))
	}
	found := 0
	for _, info := range infos {
		for format, text := range formats(info) {
			c.scan("backend.KeyInfo formatted with "+format, text)
		}
		if info.ID != key.ID() {
			continue
		}
		found++
		if info.Algorithm != "" && info.Algorithm != k.Algorithm {
			c.Errorf("listed with the algorithm %q, want %q", info.Algorithm, k.Algorithm)
		}
		if info.Params == nil {
			c.Error("listed without parameters")
			continue
		}
		c.ok("Validate of the listed parameters", info.Params.Validate())
		listed := c.open(l, info.Params)
		if listed.ID() != key.ID() || !samePublic(listed.Public(), key.Public()) {
			c.Errorf("the listed parameters open the key %q, want %q", listed.ID(), key.ID())
		}
		if can := key.Capabilities().Usages &^ backend.UsageGenerateRandom; info.Usages != 0 && !info.Usages.Has(can) {
			c.Errorf("listed with the usages %s, but the key has %s", info.Usages, can)
		}
		checkURI(c, l, k, key, info)
	}
	if found != 1 {
		c.Errorf("the key %q is listed %d times, want once; the list has %q", key.ID(), found, ids(infos))
	}
}

// checkURI checks the canonical URI of a listed key. (Rule: a URIParser lists each key with a URI, which shows no secret and
// gives, with the rest of where the key is, parameters that open exactly that key.)
func checkURI(c *checker, l backend.Lister, k Key, key backend.Key, info backend.KeyInfo) {
	parser, ok := l.(backend.URIParser)
	if !ok {
		return
	}
	c.scan("backend.KeyInfo.URI", info.URI)
	params, err := parser.ParseURI(info.URI, k.Params)
	if !c.ok("ParseURI of the listed URI", err) {
		return
	}
	c.ok("Validate of what ParseURI returned", params.Validate())
	if m, ok := l.(backend.Matcher); ok {
		c.ok("Matches of what ParseURI returned", m.Matches(params))
	}
	if named := c.open(l, params); named.ID() != key.ID() || !samePublic(named.Public(), key.Public()) {
		c.Errorf("the listed URI opens the key %q, want %q", named.ID(), key.ID())
	}
}

// checkRefusedURIs checks that a URIParser and a Matcher refuse what isn't theirs.
func checkRefusedURIs(c *checker, b backend.Backend, scope backend.Params) {
	if parser, ok := b.(backend.URIParser); ok {
		for _, uri := range []string{"", " ", "unknown:key", "https://", "arn:", "projects/", "pkcs11:", "\x00", strings.Repeat("a", 1<<16)} {
			_, err := parser.ParseURI(uri, scope)
			c.refused("ParseURI of "+strconv.Quote(uri[:min(len(uri), 20)]), err, backend.ErrInvalidParams)
		}
		infos, err := collect(b.(backend.Lister).List(c.Context(), scope))
		if c.ok("List", err) && len(infos) > 0 {
			_, err := parser.ParseURI(infos[0].URI, foreignParams{})
			c.refused("ParseURI with a scope of another backend", err, backend.ErrInvalidParams)
		}
	}
	if m, ok := b.(backend.Matcher); ok {
		c.refused("Matches with params of another backend", m.Matches(foreignParams{}), backend.ErrInvalidParams)
		c.ok("Matches", m.Matches(scope))
	}
}

// checkPing checks a backend that can tell whether it is in working order. What Ping does after Close is checked by
// checkClose.
func checkPing(c *checker) {
	b := c.client()
	p, ok := b.(backend.Pinger)
	if !ok {
		return
	}
	c.ok("Ping before any key was opened", p.Ping(c.Context()))
	c.open(b, c.cfg.Keys[0].Params)
	c.ok("Ping", p.Ping(c.Context()))
	for _, ended := range c.endedContexts() {
		c.refused("Ping with a context that is "+ended.name, p.Ping(ended.ctx), ended.want)
	}
}
