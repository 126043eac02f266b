package pkcs11

import (
	"slices"
	"strconv"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// tokensOf returns what is in the slots of b's one module.
func tokensOf(tb testing.TB, b *Backend) []tokenInfo {
	tb.Helper()
	i := b.libraries["soft"].instance
	if err := i.busy.acquire(tb.Context(), "another test uses the module"); err != nil {
		tb.Fatal(err)
	}
	defer i.busy.release()
	if err := i.start(); err != nil {
		tb.Fatal(err)
	}
	defer i.stop()
	tokens, err := i.tokens()
	if err != nil {
		tb.Fatal(err)
	}
	return tokens
}

// TestChooseToken: a token is named by slot, label, serial number, or label and serial number, and by nothing else.
func TestChooseToken(t *testing.T) {
	r := newRig(t)
	other := softhsm.Require(t)
	for range 2 {
		if _, err := softhsm.New(r.token.Dir, "twin"); err != nil {
			t.Fatal(err)
		}
	}
	b := r.client(t)
	var one, free tokenInfo
	var twins []tokenInfo
	for _, token := range tokensOf(t, b) {
		switch {
		case token.Label == r.token.Label:
			one = token
		case token.Label == "twin":
			twins = append(twins, token)
		case !token.initialized():
			free = token
		}
	}
	if one.Serial == "" || len(twins) != 2 || twins[0].Serial == twins[1].Serial || free.Flags == 0 {
		t.Fatalf("tokens: %v, %v, %v", one, twins, free)
	}
	slotOf := func(token tokenInfo) string { return strconv.FormatUint(uint64(token.Slot), 10) }
	mustGenerate(t, b, r.p256("key"))

	for _, test := range []struct {
		name, slot, label, serial string
		want                      error // nil: the key is found
		says                      []string
	}{
		{"slot", r.token.Slot, "", "", nil, nil},
		{"slot with zeros", "000" + r.token.Slot, "", "", nil, nil},
		{"label", "", r.token.Label, "", nil, nil},
		{"serial number", "", "", one.Serial, nil, nil},
		{"label and serial number", "", r.token.Label, one.Serial, nil, nil},
		{"absent label", "", "three", "", backend.ErrUnavailable,
			[]string{`token_label "three"`, strconv.Quote(r.token.Label), "slot " + r.token.Slot, strconv.Quote(other.Label), `library "soft"`, one.Serial}},
		{"absent slot", "3", "", "", backend.ErrUnavailable, []string{`slot "3"`, "slot " + r.token.Slot}},
		{"absent serial number", "", "", "0123", backend.ErrUnavailable, []string{`token_serial "0123"`, one.Serial}},
		{"serial number of another", "", r.token.Label, twins[0].Serial, backend.ErrUnavailable,
			[]string{strconv.Quote(r.token.Label) + " with token_serial"}},
		{"two of a label", "", "twin", "", backend.ErrInvalidParams,
			[]string{"2 tokens", "slot " + slotOf(twins[0]), "slot " + slotOf(twins[1]), twins[0].Serial, "give the slot or serial number"}},
		{"other case", "", "TWIN", "", backend.ErrUnavailable, []string{`"TWIN"`}},
		{"slot without a token that is initialised", slotOf(free), "", "", backend.ErrUnavailable, []string{"not initialised"}},
		{"hexadecimal slot", "0x1", "", "", backend.ErrInvalidParams, []string{"slot", "decimal"}},
		{"slot and label", r.token.Slot, r.token.Label, "", backend.ErrInvalidParams, []string{"slot", "together"}},
		{"nothing", "", "", "", backend.ErrInvalidParams, []string{"none is given"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := r.p256("key")
			p.Slot, p.TokenLabel, p.TokenSerial = test.slot, test.label, test.serial
			key, err := b.Open(t.Context(), p)
			if test.want != nil {
				wants(t, err, test.want, test.says...)
			} else if err != nil {
				t.Error(err)
			} else {
				signsWell(t, key)
			}
		})
	}
	r.logsIn(t, 1, 0) // to one token, and to it once
}

// TestTwins: tokens of one label are told apart by their serial numbers, each with its own login.
func TestTwins(t *testing.T) {
	r := newRig(t)
	var twins []*softhsm.Token
	for range 2 {
		token, err := softhsm.New(r.token.Dir, "twin")
		if err != nil {
			t.Fatal(err)
		}
		twins = append(twins, token)
	}
	b := r.client(t)
	for _, token := range twins {
		p := withCurve(on(token, "key", ECDSA), "P256")
		for _, info := range tokensOf(t, b) {
			if strconv.FormatUint(uint64(info.Slot), 10) == token.Slot {
				p.TokenSerial = info.Serial
			}
		}
		signsWell(t, mustGenerate(t, b, p))
		signsWell(t, mustOpen(t, b, p))
	}
	r.logsIn(t, 2, 0)
}

func TestShorten(t *testing.T) {
	long := make([]string, 12)
	for i := range long {
		long[i] = strconv.Itoa(i)
	}
	for want, items := range map[string][]string{
		"none": nil, "a": {"a"}, "a, b": {"a", "b"},
		"0, 1, 2, 3, 4, 5, 6, 7, 8, 9": long[:10], "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more": slices.Clone(long),
	} {
		if got := shorten(items); got != want {
			t.Errorf("%v: %q, want %q", items, got, want)
		}
	}
}

func TestSessionLimit(t *testing.T) {
	for _, test := range []struct {
		library int
		all, rw uint
		want    int
	}{
		{0, 0, 0, defaultSessions}, {0, 16, 0, 16}, {0, 16, 8, 8}, {0, 8, 16, 8}, {8, 16, 16, 8}, {100, 0, 0, 100},
		{0, 1000, 1000, defaultSessions}, {0, 1, 1, 1}, {0, 0, 1 << 31, defaultSessions},
	} {
		var info tokenInfo
		info.MaxSessions, info.MaxRWSessions = test.all, test.rw
		if got := info.sessionLimit(Library{MaxSessions: test.library}); got != test.want {
			t.Errorf("library allows %d, and token %d of which %d are read/write: %d, want %d", test.library, test.all, test.rw, got, test.want)
		}
	}
}
