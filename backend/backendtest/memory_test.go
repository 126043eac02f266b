package backendtest_test

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// pin is what the memory backend must never show.
const pin = "correct-horse-pin"

// params are the parameters of the memory backend.
type params struct {
	Label string         `json:"label"`
	Kind  string         `json:"kind"` // see material; needed for generating and importing only
	PIN   backend.Secret `json:"pin"`
}

func (params) BackendType() string { return "memory" }

func (p params) Validate() error {
	if p.Label == "" {
		return fmt.Errorf("memory: label: got %q, want a name: %w", p.Label, backend.ErrInvalidParams)
	}
	return nil
}

// entry is one key of a store. It never changes.
type entry struct {
	label   string
	version int
	kind    string
	secret  any // crypto.Signer or []byte
}

func (e *entry) id() string { return fmt.Sprintf("%s#%d", e.label, e.version) }

// store is the key manager: what all clients share.
type store struct {
	mu       sync.Mutex
	entries  []*entry
	versions int // number of keys ever made, so that no id comes twice

	closed   bool          // set by the fault close-closes-all
	racing   int           // how many calls the fault generate-races has held
	together chan struct{} // closed when there are two of them
}

func (s *store) find(label string) []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*entry
	for _, e := range s.entries {
		if e.label == label {
			found = append(found, e)
		}
	}
	return found
}

// add puts a key in place of those with its label, or fails with ErrKeyExists.
func (s *store) add(label, kind string, secret any, replace bool) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := func(e *entry) bool { return e.label == label }
	if slices.ContainsFunc(s.entries, same) && !replace {
		return nil, fmt.Errorf("memory: label %q: %w", label, backend.ErrKeyExists)
	}
	s.versions++
	e := &entry{label, s.versions, kind, secret}
	s.entries = append(slices.DeleteFunc(slices.Clone(s.entries), same), e)
	return e, nil
}

// memory is a small backend that keeps all rules, unless fault names one that it breaks. It is what the suite itself is
// tried on.
type memory struct {
	store *store
	fault string
	gate  backend.Gate
	pin   string // set by the fault client-shows-pin

	mu     sync.Mutex
	shared []byte // used by the faults that mix calls up
	opened int
	lists  int
	last   *entry
	broken bool // set by the fault cancel-breaks
}

var (
	_ backend.Rotator   = (*memory)(nil)
	_ backend.Importer  = (*memory)(nil)
	_ backend.Lister    = (*memory)(nil)
	_ backend.Pinger    = (*memory)(nil)
	_ backend.URIParser = (*memory)(nil)
	_ backend.Matcher   = (*memory)(nil)
)

func (m *memory) is(fault string) bool { return m.fault == fault }

func (m *memory) Type() string { return "memory" }

func (m *memory) Close() error {
	if m.is("close-twice") && m.gate.Closed() {
		return fmt.Errorf("memory: %w", backend.ErrClosed)
	}
	m.store.mu.Lock()
	m.store.closed = m.is("close-closes-all")
	m.store.mu.Unlock()
	if !m.is("close-ignored") {
		m.gate.Close(time.Minute)
	}
	return nil
}

// enter is what every call of the backend begins with; leave must be called afterwards unless it fails.
func (m *memory) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil && !m.is("open-ignores-context") {
		return fmt.Errorf("memory: %w", err)
	}
	m.store.mu.Lock()
	closed := m.store.closed
	m.store.mu.Unlock()
	if closed {
		return fmt.Errorf("memory: %w", backend.ErrClosed)
	}
	if m.is("open-after-close") && m.gate.Closed() {
		return nil
	}
	return m.gate.Enter()
}

// leave ends what enter began.
func (m *memory) leave() {
	if !m.is("open-after-close") || !m.gate.Closed() {
		m.gate.Leave()
	}
}

func (m *memory) Open(ctx context.Context, p backend.Params) (backend.Key, error) {
	if _, ok := p.(params); !ok && m.is("foreign-panics") {
		panic(p.(params))
	}
	if own, ok := p.(params); ok && m.is("invalid-accepted") && own.Label == "" {
		p = params{Label: "p256"}
	}
	own, err := backend.ParamsAs[params](p)
	if err != nil {
		return nil, err
	}
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.leave()
	switch found := m.store.find(own.Label); {
	case len(found) == 1 || len(found) > 1 && m.is("ambiguous-picks-first"):
		return m.key(found[0]), nil
	case len(found) > 1:
		first, second := found[0].id(), found[1].id()
		return nil, fmt.Errorf("memory: label %q: %s and %s: %w", own.Label, first, second, backend.ErrAmbiguousKey)
	case m.is("open-generates"):
		return m.generate(params{Label: own.Label, Kind: "p256"}, true)
	case m.is("error-shows-pin"):
		return nil, fmt.Errorf("memory: login with %s: %w", pin, backend.ErrKeyNotFound)
	case m.is("error-without-sentinel"):
		return nil, fmt.Errorf("memory: CKR_KEY_HANDLE_INVALID")
	}
	return nil, fmt.Errorf("memory: label %q: %w", own.Label, backend.ErrKeyNotFound)
}

func (m *memory) Generate(ctx context.Context, p backend.Params, opts *backend.GenerateOptions) (backend.Key, error) {
	own, err := backend.ParamsAs[params](p)
	if err != nil {
		return nil, err
	}
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.leave()
	replace := opts != nil && opts.Replace || m.is("generate-overwrites")
	if replace && own.Kind == "p384" {
		return nil, fmt.Errorf("memory: a key of kind %q can't be replaced: %w", own.Kind, backend.ErrUnsupported)
	}
	if found := m.store.find(own.Label); replace && len(found) == 1 {
		switch m.fault {
		case "replace-keeps-old":
			return m.key(found[0]), nil
		case "replace-not-stored":
			return m.key(&entry{own.Label, found[0].version + 1, own.Kind, material(own.Kind)}), nil
		}
	}
	if m.is("generate-races") && len(m.store.find(own.Label)) == 0 {
		m.store.race()
		replace = true
	}
	return m.generate(own, replace)
}

// Rotate makes the key under the next name; the faults make it in the place of the old one, give that back, or give back
// parameters that open it.
func (m *memory) Rotate(ctx context.Context, p backend.Params, version int) (backend.Key, backend.Params, error) {
	own, err := backend.ParamsAs[params](p)
	if err != nil {
		return nil, nil, err
	}
	next := own
	if next.Label, err = backend.VersionName(own.Label, version, 64); err != nil {
		return nil, nil, err
	}
	switch m.fault {
	case "rotate-replaces":
		key, err := m.Generate(ctx, own, &backend.GenerateOptions{Replace: true})
		return key, own, err
	case "rotate-keeps-old":
		key, err := m.Open(ctx, own)
		return key, own, err
	}
	key, err := m.Generate(ctx, next, &backend.GenerateOptions{Replace: m.is("rotate-overwrites")})
	if m.is("rotate-wrong-params") {
		next = own
	}
	return key, next, err
}

// race holds the first call until there is a second one, so that both have seen that there is no key.
func (s *store) race() {
	s.mu.Lock()
	s.racing++
	switch s.racing {
	case 1:
		s.together = make(chan struct{})
	case 2:
		close(s.together)
	}
	together := s.together
	s.mu.Unlock()
	<-together
}

func (m *memory) generate(p params, replace bool) (backend.Key, error) {
	e, err := m.store.add(p.Label, p.Kind, material(p.Kind), replace)
	if err != nil {
		return nil, err
	}
	return m.key(e), nil
}

func (m *memory) Import(
	ctx context.Context, p backend.Params, secret any, opts *backend.ImportOptions,
) (backend.Key, error) {
	own, err := backend.ParamsAs[params](p)
	if err != nil {
		return nil, err
	}
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.leave()
	if !fits(secret, own.Kind) {
		return nil, fmt.Errorf("memory: material: got %T, want a key of kind %q: %w", secret, own.Kind, backend.ErrInvalidParams)
	}
	if m.is("import-makes-another") {
		secret = material(own.Kind)
	}
	e, err := m.store.add(own.Label, own.Kind, secret, opts != nil && opts.Replace || m.is("import-overwrites"))
	if err != nil {
		return nil, err
	}
	return m.key(e), nil
}

func (m *memory) List(ctx context.Context, scope backend.Params) iter.Seq2[backend.KeyInfo, error] {
	return func(yield func(backend.KeyInfo, error) bool) {
		if _, err := backend.ParamsAs[params](scope); err != nil {
			yield(backend.KeyInfo{}, err)
			return
		}
		if err := m.enter(ctx); err != nil {
			yield(backend.KeyInfo{}, err)
			return
		}
		defer m.leave()
		m.store.mu.Lock()
		entries := slices.Clone(m.store.entries)
		m.store.mu.Unlock()
		slices.SortFunc(entries, func(a, b *entry) int { return cmp.Compare(a.id(), b.id()) })
		m.mu.Lock()
		m.lists++
		if m.is("list-unordered") && m.lists%2 == 0 {
			slices.Reverse(entries)
		}
		m.mu.Unlock()
		for _, e := range entries {
			if m.is("list-lacks-key") && e.kind == "p256" {
				continue
			}
			info := backend.KeyInfo{ID: e.id(), Label: e.label, Params: params{Label: e.label}}
			info.Algorithm = m.capabilities(e).Algorithm
			if info.Usages = m.capabilities(e).Usages; m.is("list-hides-usages") {
				info.Usages = backend.UsageVerify
			}
			info.URI = m.uri(e)
			if !yield(info, nil) && !m.is("list-ignores-break") {
				return
			}
		}
	}
}

func (m *memory) Ping(ctx context.Context) error {
	if m.is("ping-ignores-context") {
		ctx = context.WithoutCancel(ctx)
	}
	if m.is("ping-after-close") {
		return ctx.Err()
	}
	if err := m.enter(ctx); err != nil {
		return err
	}
	m.leave()
	return nil
}
