package pkcs11

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/faultp11"
)

var update = flag.Bool("update", false, "write what the tests measure into internal/docs")

// faultTable is the document that TestFaults writes, or compares with what it sees.
const faultTable = "../../internal/docs/pkcs11-faults.md"

// faultCodes are the return values that mean loss or trouble, and two that the standard doesn't have.
func faultCodes() []ckr {
	codes := []ckr{0x0FFF, ckrVendorDefined | 0x42}
	for c, r := range ckrs {
		if r.trouble != callersFault && r.trouble != pinRefused {
			codes = append(codes, c)
		}
	}
	slices.Sort(codes)
	return codes
}

// faultBed is what the faults of a table strike.
type faultBed struct {
	*faulty
	backend *Backend
	conn    *conn
	signer  backend.Key   // ECDSA
	opener  backend.Key   // RSA, decrypts
	lost    int           // sessions that the module has and the pool doesn't, so far
	slowest time.Duration // first success after a fault
}

func newFaultBed(tb testing.TB) *faultBed {
	f := newFaulty(tb)
	b := f.connect(tb, Library{})
	bed := &faultBed{faulty: f, backend: b,
		signer: mustGenerate(tb, b, f.on("signer")), opener: mustGenerate(tb, b, f.oaep("opener"))}
	mustGenerate(tb, b, f.on("other"))
	bed.conn = theConn(tb, b)
	return bed
}

// recoversAfter sets the delay after the first recovery that fails.
func (bed *faultBed) recoversAfter(d time.Duration) {
	bed.conn.healing.Lock()
	defer bed.conn.healing.Unlock()
	bed.conn.healing.first = d
}

func (bed *faultBed) sign(ctx context.Context) error    { return signOnce(ctx, bed.signer) }
func (bed *faultBed) decrypt(ctx context.Context) error { return decryptsOnce(ctx, bed.opener) }

// open opens a key with a new search.
func (bed *faultBed) open(ctx context.Context) error {
	key, err := bed.backend.Open(ctx, bed.on("other"))
	if err != nil {
		return err
	}
	return signOnce(ctx, key)
}

// scenario leads a program to the next call of a function.
type scenario struct {
	during, function string
	before           func(*faultBed) error // makes the function necessary
	do               func(*faultBed, context.Context) error
	logins           int // that this takes when all goes well
}

func nothing(*faultBed) error          { return nil }
func loseSessions(bed *faultBed) error { return bed.CloseAllSessions() }
func loseLogin(bed *faultBed) error    { return bed.Logout() }

// loseHandles has the keys looked up again, as after a recovery.
func loseHandles(bed *faultBed) error {
	bed.conn.renumber()
	return nil
}

// doubtHandles has the keys proven again, as after a session that was lost.
func doubtHandles(bed *faultBed) error {
	bed.conn.distrust()
	return nil
}

var scenarios = []scenario{
	{"signing", "C_SignInit", nothing, (*faultBed).sign, 0},
	{"signing", "C_Sign", nothing, (*faultBed).sign, 0},
	{"decryption", "C_DecryptInit", nothing, (*faultBed).decrypt, 0},
	{"decryption", "C_Decrypt", nothing, (*faultBed).decrypt, 0},
	{"signing after the sessions were lost", "C_OpenSession", loseSessions, (*faultBed).sign, 1},
	{"signing after the login was lost", "C_Login", loseLogin, (*faultBed).sign, 1},
	{"opening a key", "C_FindObjectsInit", loseHandles, (*faultBed).open, 0},
	{"opening a key", "C_FindObjects", loseHandles, (*faultBed).open, 0},
	{"opening a key", "C_FindObjectsFinal", loseHandles, (*faultBed).open, 0},
	{"opening a key", "C_SignInit", loseHandles, (*faultBed).open, 0},
	{"opening a key", "C_Sign", loseHandles, (*faultBed).open, 0},
	{"signing after the handles were lost", "C_FindObjectsInit", loseHandles, (*faultBed).sign, 0},
	{"signing after the handles were lost", "C_FindObjects", loseHandles, (*faultBed).sign, 0},
	{"signing after the handles were lost", "C_FindObjectsFinal", loseHandles, (*faultBed).sign, 0},
	{"signing after the handles were lost", "C_SignInit", loseHandles, (*faultBed).sign, 0},
	{"signing after the handles were lost", "C_Sign", loseHandles, (*faultBed).sign, 0},
	{"signing after another session was lost", "C_Sign", doubtHandles, (*faultBed).sign, 0},
	{"decryption after the handles were lost", "C_DecryptInit", loseHandles, (*faultBed).decrypt, 0},
	{"decryption after the handles were lost", "C_Decrypt", loseHandles, (*faultBed).decrypt, 0},
}

// faultDeadline is the caller's.
const faultDeadline = 5 * time.Second

// strike has the function fail and returns what the caller gets.
func (bed *faultBed) strike(tb testing.TB, s scenario, rule faultp11.Rule) string {
	tb.Helper()
	what := fmt.Sprintf("%s, %s, %v, %d times", s.during, s.function, ckr(rule.Code), rule.Times)
	bed.conn.instance.foreign.Store(false)
	if err := s.before(bed); err != nil {
		tb.Fatal(err)
	}
	had := bed.sessions(tb)
	logins := bed.UserLogins()
	bed.ResetCounts()
	rule.Function = s.function
	bed.Set(rule)
	ctx, cancel := context.WithTimeout(tb.Context(), faultDeadline)
	defer cancel()
	began := time.Now()
	got := verdict(s.do(bed, ctx))
	if took := time.Since(began); took > faultDeadline+patience {
		tb.Errorf("%s: the caller waited for %v with a deadline of %v", what, took, faultDeadline)
	}
	if strings.HasPrefix(got, "untyped") {
		tb.Errorf("%s: %s", what, got)
	}
	calls := bed.Count(s.function)
	if calls == 0 {
		tb.Errorf("%s: the function was not called", what)
	}
	bed.Set()
	for _, do := range []func(*faultBed, context.Context) error{s.do, (*faultBed).sign, (*faultBed).decrypt} {
		if took := heals(tb, what, func() error { return do(bed, tb.Context()) }); took > soon {
			tb.Errorf("%s: the next call succeeded only after %v", what, took)
		} else {
			bed.slowest = max(bed.slowest, took)
		}
	}
	most := s.logins + 2 // one whose reply is lost, one to renew the login
	if rule.Times == 0 {
		most += 2 * maxAttempts
	}
	if n := bed.UserLogins() - logins; n > most {
		tb.Errorf("%s: %d logins, want at most %d", what, n, most)
	}
	if n := bed.WrongPINs(); n != 0 {
		tb.Fatalf("%s: %d wrong PINs", what, n)
	}
	bed.leaks(tb, what, deadSessions(ckr(rule.Code), calls, had))
	return got
}

// deadSessions returns how many sessions a module may be left with because it said that they were gone: nobody closes
// what is gone. A module that others use too, as it seems when it says that it is not initialised, keeps the sessions that
// the pool had as well, which may be more than one if calls met on a busy machine.
func deadSessions(c ckr, calls, had int) int {
	switch t := c.trouble(); {
	case c == ckrSessionClosed || c == ckrSessionHandleInvalid:
		return calls
	case t == notInitialized:
		return max(calls, had)
	case t == tokenGone:
		return 1 // the others are closed when the token is found again
	}
	return 0
}

// sessions returns how many sessions the pool has, once it is idle.
func (bed *faultBed) sessions(tb testing.TB) int {
	tb.Helper()
	alive := -1
	eventually(tb, "the pool is idle", func() bool { alive = bed.conn.pool.alive(); return alive >= 0 })
	return alive
}

// leaks compares the sessions that the module has with those that the pool has.
func (bed *faultBed) leaks(tb testing.TB, what string, allowed int) {
	tb.Helper()
	n := bed.Sessions() - bed.sessions(tb)
	if n > bed.lost+allowed {
		tb.Errorf("%s: %d sessions leak", what, n-bed.lost)
	}
	bed.lost = n
}

// TestFaults injects each return value that means loss or trouble into each function that a program depends on, and
// checks what becomes of it.
func TestFaults(t *testing.T) {
	bed := newFaultBed(t)
	doc := faultIntroduction
	for _, table := range []struct {
		title string
		when  faultp11.When
		times int
	}{
		{"Once, instead of the call", faultp11.Before, 1},
		{"Once, after the call was carried out", faultp11.After, 1},
		{"For good, instead of the call", faultp11.Before, 0},
		{"For good, after the call was carried out", faultp11.After, 0},
	} {
		t.Run(table.title, func(t *testing.T) {
			if table.times == 0 {
				bed.recoversAfter(5 * time.Millisecond) // since all that follows waits for it
			}
			began, total, healed := time.Now(), 0, 0
			var rows faultRows
			for _, code := range faultCodes() {
				results := make([]string, len(scenarios))
				for n, s := range scenarios {
					results[n] = bed.strike(t, s, faultp11.Rule{When: table.when, Code: uint64(code), Times: table.times})
					total++
					if results[n] == "ok" {
						healed++
					}
				}
				rows.add(code, results)
			}
			doc += "\n## " + table.title + "\n\n" + rows.String()
			t.Logf("%s: %d faults, of which callers noticed %d, in %v; the next calls succeeded within %v",
				table.title, total, total-healed, time.Since(began).Round(time.Millisecond), bed.slowest.Round(time.Millisecond))
			bed.slowest = 0
		})
	}
	if *update {
		if err := os.WriteFile(faultTable, []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(faultTable)
	if err != nil {
		t.Fatal(err)
	}
	if doc != string(want) {
		t.Errorf("internal/docs/pkcs11-faults.md is not what was seen; run go test -run TestFaults -update ./backend/pkcs11 and look at the difference. New lines:\n%s",
			differing(string(want), doc))
	}
}

// faultRows is a table with a row for all return values that have the same results.
type faultRows struct {
	codes   [][]string
	results [][]string
}

func (r *faultRows) add(c ckr, results []string) {
	name := strings.TrimPrefix(c.Error(), "CKR_")
	for n, other := range r.results {
		if slices.Equal(other, results) {
			r.codes[n] = append(r.codes[n], name)
			return
		}
	}
	r.codes, r.results = append(r.codes, []string{name}), append(r.results, results)
}

func (r *faultRows) String() string {
	var b strings.Builder
	b.WriteString("| during | in |")
	for n := range r.codes {
		fmt.Fprintf(&b, " %d |", n+1)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(r.codes)) + "\n")
	for column, s := range scenarios {
		fmt.Fprintf(&b, "| %s | %s |", s.during, s.function)
		for _, results := range r.results {
			fmt.Fprintf(&b, " %s |", results[column])
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	for n, codes := range r.codes {
		fmt.Fprintf(&b, "%d. %s\n", n+1, strings.Join(codes, ", "))
	}
	return b.String()
}

// differing returns the lines of got that want doesn't have.
func differing(want, got string) string {
	had := map[string]bool{}
	for line := range strings.Lines(want) {
		had[line] = true
	}
	var out strings.Builder
	for line := range strings.Lines(got) {
		if !had[line] {
			out.WriteString(line)
		}
	}
	return out.String()
}

const faultIntroduction = `# What the PKCS#11 backend makes of faults

TestFaults of backend/pkcs11 writes this page and fails if it is not true any more. A module between the backend and
SoftHSM2 returns each value of the standard that means that something was lost or that the token is in trouble, one that
the standard doesn't know and one that it leaves to vendors. It does so once or for good, in each function that a program
depends on, either instead of the call or after it was carried out.

*ok* means that the caller did not notice, and otherwise is the kind of error that the caller got within the deadline.
A signature that was returned was always the key's. In all cases calls succeeded again soon after the fault, which means
within a second if the machine has time, the user was logged in no more often than needed and never with a wrong PIN, and no session was left behind but those of
which the module itself had said that they were gone.

The numbers are columns and refer to the lists below the tables.
`
