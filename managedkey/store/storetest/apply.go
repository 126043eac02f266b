package storetest

import (
	"bytes"
	"errors"
	"strings"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// testExpectations checks Absent, versions and Any for each kind of op.
func testExpectations(s *suite) {
	st := s.open()
	s.hasNot(st, "a")
	// Rule: the zero Expect is Absent.
	v1 := s.apply(st, store.Op{Key: "a", Value: []byte("1")})
	if v1 == 0 {
		s.Fatal("the first version is 0, which means no record")
	}
	s.has(st, "a", "1", v1)
	s.conflict(st, "a", v1, store.Op{Key: "a", Value: []byte("2")})
	s.conflict(st, "a", v1, store.Op{Key: "a", Value: []byte("2"), Expect: store.Expect(v1 + 1)})
	s.conflict(st, "b", 0, store.Op{Key: "b", Value: []byte("2"), Expect: store.Expect(v1)})
	s.has(st, "a", "1", v1)
	s.hasNot(st, "b")

	v2 := s.apply(st, store.Op{Key: "a", Value: []byte("2"), Expect: store.Expect(v1)})
	if v2 <= v1 {
		s.Errorf("version %d follows %d", v2, v1)
	}
	s.conflict(st, "a", v2, store.Op{Key: "a", Value: []byte("3"), Expect: store.Expect(v1)})
	s.has(st, "a", "2", v2)
	v3 := s.apply(st, store.Op{Key: "a", Value: []byte("3"), Expect: store.Any})
	s.has(st, "a", "3", v3)
	s.has(st, "b", "b", s.apply(st, store.Op{Key: "b", Value: []byte("b"), Expect: store.Any}))

	// Check changes nothing.
	for _, expect := range []store.Expect{store.Expect(v3), store.Any} {
		s.apply(st, store.Op{Kind: store.Check, Key: "a", Expect: expect})
	}
	s.apply(st, store.Op{Kind: store.Check, Key: "c"})
	s.has(st, "a", "3", v3)
	s.hasNot(st, "c")
	s.conflict(st, "a", v3, store.Op{Kind: store.Check, Key: "a", Expect: store.Expect(v2)})
	s.conflict(st, "a", v3, store.Op{Kind: store.Check, Key: "a"})
	s.conflict(st, "c", 0, store.Op{Kind: store.Check, Key: "c", Expect: store.Expect(v3)})

	// Delete, also of what isn't there.
	s.conflict(st, "a", v3, store.Op{Kind: store.Delete, Key: "a", Expect: store.Expect(v2)})
	s.has(st, "a", "3", v3)
	s.apply(st, store.Op{Kind: store.Delete, Key: "a", Expect: store.Expect(v3)})
	s.hasNot(st, "a")
	s.conflict(st, "a", 0, store.Op{Kind: store.Delete, Key: "a", Expect: store.Expect(v3)})
	s.apply(st, store.Op{Kind: store.Delete, Key: "a", Expect: store.Any})
	s.apply(st, store.Op{Kind: store.Delete, Key: "b", Expect: store.Any})
	s.hasNot(st, "b")
}

// testVersions checks that a version identifies one value of a key, also over deletion.
func testVersions(s *suite) {
	st := s.open()
	seen := map[uint64]bool{}
	var last uint64
	for range 5 {
		for _, expect := range []store.Expect{store.Absent, store.Any} {
			v := s.apply(st, store.Op{Key: "a/b", Value: []byte("x"), Expect: expect})
			if seen[v] || v <= last {
				s.Fatalf("version %d comes after %d", v, last)
			}
			seen[v], last = true, v
		}
		s.apply(st, store.Op{Kind: store.Delete, Key: "a/b", Expect: store.Expect(last)})
		s.conflict(st, "a/b", 0, store.Op{Key: "a/b", Value: []byte("y"), Expect: store.Expect(last)})
	}
}

// testAtomic checks that a transaction happens as a whole, with one version, or not at all.
func testAtomic(s *suite) {
	st := s.open()
	v := s.apply(st,
		store.Op{Key: "x/1", Value: []byte("1")},
		store.Op{Key: "x/2", Value: []byte("2")},
		store.Op{Kind: store.Check, Key: "x/3"})
	s.has(st, "x/1", "1", v)
	s.has(st, "x/2", "2", v)

	// Each position of the op that fails.
	for i := range 3 {
		ops := []store.Op{
			{Key: "x/1", Value: []byte("no"), Expect: store.Expect(v)},
			{Kind: store.Delete, Key: "x/2", Expect: store.Expect(v)},
			{Key: "x/3", Value: []byte("no")},
		}
		wrong := store.Op{Kind: store.Check, Key: "x/4", Expect: store.Expect(v)}
		ops = append(ops[:i], append([]store.Op{wrong}, ops[i:]...)...)
		s.conflict(st, "x/4", 0, ops...)
		s.has(st, "x/1", "1", v)
		s.has(st, "x/2", "2", v)
		s.hasNot(st, "x/3")
	}

	w := s.apply(st,
		store.Op{Key: "x/1", Value: []byte("3"), Expect: store.Expect(v)},
		store.Op{Kind: store.Delete, Key: "x/2", Expect: store.Expect(v)},
		store.Op{Key: "x/3", Value: []byte("4")})
	s.has(st, "x/1", "3", w)
	s.hasNot(st, "x/2")
	s.has(st, "x/3", "4", w)
}

// testBytes checks that values come back as they were written, whatever they are.
func testBytes(s *suite) {
	st := s.open()
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, value := range [][]byte{nil, {}, {0}, every, bytes.Repeat([]byte{0}, 1000), bytes.Repeat([]byte("%_'\\\x00\xff"), 100)} {
		v := s.apply(st, store.Op{Key: "bytes", Value: value, Expect: store.Any})
		s.has(st, "bytes", string(value), v)
	}
}

// testOwnership checks that neither side sees what the other does to a value afterwards.
func testOwnership(s *suite) {
	st := s.open()
	value := []byte("value")
	v := s.apply(st, store.Op{Key: "a", Value: value})
	copy(value, "VALUE")
	s.has(st, "a", "value", v)
	record, err := st.Get(s.ctx, "a")
	if err != nil {
		s.Fatal(err)
	}
	copy(record.Value, "VALUE")
	s.has(st, "a", "value", v)
	page, err := st.List(s.ctx, "", "", 10)
	if err != nil || len(page.Records) != 1 {
		s.Fatalf("List: %d records, %v", len(page.Records), err)
	}
	copy(page.Records[0].Value, "VALUE")
	s.has(st, "a", "value", v)
}

// testEncode checks that Encode gets the version that the record then has, and that its failure stops everything.
func testEncode(s *suite) {
	st := s.open()
	for range 3 {
		var told uint64
		encode := func(version uint64, value []byte) ([]byte, error) {
			told = version
			return append([]byte("<"), value...), nil
		}
		v := s.apply(st,
			store.Op{Key: "a", Value: []byte("v"), Encode: encode, Expect: store.Any},
			store.Op{Key: "b", Value: []byte("plain"), Expect: store.Any})
		if told != v {
			s.Errorf("Encode was told version %d, the record has %d", told, v)
		}
		s.has(st, "a", "<v", v)
		s.has(st, "b", "plain", v)
	}
	mine := errors.New("mine")
	refuse := func(uint64, []byte) ([]byte, error) { return nil, mine }
	_, err := st.Apply(s.ctx, store.Op{Key: "c"}, store.Op{Key: "d", Encode: refuse})
	s.fails("Apply with an Encode that fails", err, mine)
	s.hasNot(st, "c")
	tooMuch := func(uint64, []byte) ([]byte, error) { return make([]byte, store.MaxValue+1), nil }
	_, err = st.Apply(s.ctx, store.Op{Key: "c"}, store.Op{Key: "d", Encode: tooMuch})
	s.fails("Apply with an Encode that makes too much", err, store.ErrTooLarge)
	s.hasNot(st, "c")
}

// testKeys checks which keys there are.
func testKeys(s *suite) {
	st := s.open()
	for _, key := range []string{"a", "a b", "a/b/c", ".", "../..", "ä/ö", "日本/語", "%41", `\`, "'; drop", "a_b", "A", strings.Repeat("k", 200), "\u00a0"} {
		v := s.apply(st, store.Op{Key: key, Value: []byte(key)})
		s.has(st, key, key, v)
	}
	s.hasNot(st, "a/b") // a part of a key is no key
	s.hasNot(st, "a_")
	for _, key := range []string{"", "/", "/a", "a/", "a//b", "a\x00b", "a\nb", "\x7f", "\xff", "a/\xc3\x28", "\u0085"} {
		_, err := st.Get(s.ctx, key)
		s.fails("Get", err, store.ErrInvalid)
		_, err = st.Apply(s.ctx, store.Op{Key: key, Expect: store.Any})
		s.fails("Apply", err, store.ErrInvalid)
		if key != "" {
			_, err = st.List(s.ctx, "", key, 1)
			s.fails("List after", err, store.ErrInvalid)
		}
	}
}

// testLimits checks what is refused because there is too much of it.
func testLimits(s *suite) {
	st := s.open()
	apply := func(ops ...store.Op) error {
		_, err := st.Apply(s.ctx, ops...)
		return err
	}
	large := make([]byte, s.cfg.MaxValue+1)
	s.fails("a value that is too long", apply(store.Op{Key: "ok"}, store.Op{Key: "large", Value: large}), store.ErrTooLarge)
	s.hasNot(st, "ok")
	s.fails("a key that is too long", apply(store.Op{Key: strings.Repeat("k", store.MaxKey+1)}), store.ErrTooLarge)
	many := make([]store.Op, s.cfg.MaxOps+1)
	for i := range many {
		many[i] = store.Op{Key: "many/" + strings.Repeat("x", i+1)}
	}
	s.fails("too many ops", apply(many...), store.ErrTooLarge)
	half := make([]byte, store.MaxApply/2)
	s.fails("too many bytes", apply(store.Op{Key: "a", Value: half}, store.Op{Key: "b", Value: half}), store.ErrTooLarge)
	for _, err := range []error{
		apply(),
		apply(store.Op{Key: "a"}, store.Op{Key: "a", Kind: store.Check}),
		apply(store.Op{Key: "a", Kind: store.Delete}),
		apply(store.Op{Key: "a", Kind: store.Delete, Expect: store.Any, Value: []byte("v")}),
		apply(store.Op{Key: "a", Kind: store.Check, Value: []byte("v")}),
		apply(store.Op{Key: "a", Kind: 99}),
	} {
		s.fails("Apply", err, store.ErrInvalid)
	}
	page, err := st.List(s.ctx, "", "", 1)
	if err != nil || len(page.Records) != 0 {
		s.Errorf("List after refusals: %d records, %v", len(page.Records), err)
	}
}

// testLargest checks that what is just within the limits works.
func testLargest(s *suite) {
	st := s.open()
	value := bytes.Repeat([]byte("0123456789abcdef"), s.cfg.MaxValue/16+1)[:s.cfg.MaxValue]
	s.has(st, "large", string(value), s.apply(st, store.Op{Key: "large", Value: value}))
	many := make([]store.Op, s.cfg.MaxOps)
	for i := range many {
		many[i] = store.Op{Key: "many/" + strings.Repeat("x", i+1), Value: make([]byte, s.cfg.MaxValue/len(many))}
	}
	v := s.apply(st, many...)
	s.has(st, many[len(many)-1].Key, string(many[0].Value), v)
	page, err := st.List(s.ctx, "many/", "", store.MaxPage)
	if err != nil || len(page.Records) != len(many) || page.More {
		s.Errorf("List: %d records, more %t, %v; want %d", len(page.Records), page.More, err, len(many))
	}
}
