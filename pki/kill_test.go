//go:build unix

package pki

import (
	"bufio"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/managedkeys/managedkeys/internal/etcdtest"
	"github.com/managedkeys/managedkeys/internal/postgrestest"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
	"github.com/managedkeys/managedkeys/managedkey/store/etcd"
	"github.com/managedkeys/managedkeys/managedkey/store/postgres"
)

// envKill makes TestKillChild a program that issues, revokes and makes CRLs on the store that it names, envParts one whose lists
// are divided and have changes, and envRound says how many were killed before.
const envKill, envParts, envRound = "PKI_TEST_KILL", "PKI_TEST_KILL_PARTS", "PKI_TEST_KILL_ROUND"

// killClock returns the clock of a round. Each begins when the lease of the list that the last one was making has ended, and not later:
// a kill costs no more.
func killClock(round int) func() time.Time {
	return func() time.Time { return time.Now().Add(time.Duration(round) * crlLease) }
}

// killShards is how many lists certificates are divided among.
const killShards = 3

// killKey is the key of all issuers, which outlives the processes.
func killKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) }

// openKilled opens the store at a URL, or in a file.
func openKilled(t *testing.T, at string) store.Store {
	t.Helper()
	var s store.Store
	var err error
	if address, ok := strings.CutPrefix(at, "etcd://"); ok {
		client, dialErr := clientv3.New(clientv3.Config{Endpoints: []string{address}, DialTimeout: 10 * time.Second})
		must(t, dialErr)
		t.Cleanup(func() { client.Close() })
		s, err = etcd.Open(t.Context(), client, nil)
	} else if strings.HasPrefix(at, "postgres") {
		pool, dialErr := pgxpool.New(t.Context(), at)
		must(t, dialErr)
		t.Cleanup(pool.Close)
		s, err = postgres.Open(t.Context(), pool, nil)
	} else {
		s, err = bolt.Open(at, nil)
	}
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// killPrefix is where all rounds have their state; each has another mount.
const killPrefix = "pki/kill/"

// TestKillChild is not a test of its own. It prints, each on a line by itself, "S " and what was signed before anybody gets the
// signature, "R " and the serial number of what was returned, and "V " and that of what was revoked.
func TestKillChild(t *testing.T) {
	at, parts := os.Getenv(envKill), os.Getenv(envParts) != ""
	if at == "" {
		return
	}
	round, err := strconv.Atoi(os.Getenv(envRound))
	must(t, err)
	s, clock := openKilled(t, at), &Options{Now: killClock(round)}
	h := newHouse(t, clock)
	h.km.keys["ed25519"] = killKey()
	h.km.seen = func(message []byte) { fmt.Println("S " + base64.StdEncoding.EncodeToString(message)) }
	f := firmOn(t, h, s, clock)
	f.prefix = killPrefix
	const name = "root"
	if round == 0 {
		f.root(t, "ed25519", name)
	}
	rekey(t, h, s)
	if parts {
		must(t, f.SetURLs(t.Context(), URLs{CRL: []string{"http://a.example/{{shard}}"}, DeltaCRL: []string{"http://a.example/{{shard}}/delta"}}))
		must(t, f.SetCRLConfig(t.Context(), CRLConfig{AutoRebuild: true, Delta: true, Shards: killShards}))
	}
	r := anyRole("r")
	r.IssuerRef = name
	f.role(t, r)
	list := func(i int) (err error) {
		switch {
		case parts && i%8 != 0:
			_, err = f.RotateScopedCRL(t.Context(), name, CRLScope{Shard: i/2%killShards + 1, Delta: i%3 != 0})
		case i%8 == 0:
			_, err = f.RotateCRL(t.Context(), name)
		default:
			_, err = f.CRL(t.Context(), name)
		}
		return err
	}
	failed := make(chan error)
	for g := range 4 {
		go func() {
			for i := 0; ; i++ {
				pair, err := f.Issue(t.Context(), "r", cn("a.example"))
				if err == nil {
					fmt.Println("R " + serialOf(pair))
				}
				if err == nil && i%4 == 0 {
					if _, err = f.Revoke(t.Context(), serialOf(pair), ReasonSuperseded, time.Time{}); err == nil {
						fmt.Println("V " + serialOf(pair))
					}
				}
				if err == nil && g == 0 && i%2 == 0 {
					err = list(i)
				}
				if err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	t.Fatal(<-failed)
}

// TestKill kills processes that issue with signal 9, again and again. Every certificate that was signed must be in the store, as it
// was signed; what was returned as issued; what was revoked in a list; no serial number and no CRL number may have been used twice.
func TestKill(t *testing.T) {
	t.Run("bolt", func(t *testing.T) { testKill(t, filepath.Join(t.TempDir(), "store"), false) })
	t.Run("bolt, delta and sharded CRLs", func(t *testing.T) { testKill(t, filepath.Join(t.TempDir(), "store"), true) })
	t.Run("PostgreSQL", func(t *testing.T) {
		server := postgrestest.Require(t)
		testKill(t, server.URL(server.Addr(), server.NewDatabase(t)), true)
	})
	t.Run("etcd", func(t *testing.T) { testKill(t, "etcd://"+etcdtest.Require(t, 1).Addr(0), true) })
}

func testKill(t *testing.T, at string, parts bool) {
	var seen killed
	const rounds = 8
	for round := range rounds {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKillChild$")
		cmd.Env = append(os.Environ(), envKill+"="+at, envRound+"="+strconv.Itoa(round))
		if parts {
			cmd.Env = append(cmd.Env, envParts+"=1")
		}
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<22)
		for n := 1; lines.Scan(); n++ {
			if !seen.add(lines.Text()) {
				t.Fatal(lines.Text())
			}
			if n == 150+round*17 { // at another place in each round
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // it was killed
	}
	h := newHouse(t, nil)
	h.km.keys["ed25519"] = killKey()
	s := openKilled(t, at)
	rekey(t, h, s)
	f := firmOn(t, h, s, &Options{Now: killClock(rounds)})
	f.prefix = killPrefix
	seen.check(t, f)
	seen.checkNext(t, f, parts)
	f = firmOn(t, h, s, &Options{Now: func() time.Time { return time.Now().Add(time.Hour) }}) // the next lists of changes are due
	f.prefix = killPrefix
	seen.checkLists(t, f, parts)
}

// killed is what processes said before they ended.
type killed struct {
	signed            [][]byte
	returned, revoked []string
	last              map[string]int64 // numbers of lists that were signed, by sequence
}

// sequence is what lists have in common whose numbers must grow: the issuer, and which certificates they are about.
func sequence(list *x509.RevocationList) string {
	return list.Issuer.String() + string(list.AuthorityKeyId) + string(listExtension(list, oidIssuingPoint, true))
}

// add takes a line of a process. It reports whether it may have been printed.
func (k *killed) add(line string) bool {
	kind, text, ok := strings.Cut(line, " ")
	whole := len(text) == 3*serialLength-1
	switch {
	case ok && kind == "S":
		if tbs, err := base64.StdEncoding.DecodeString(text); err == nil { // or the line was cut off
			k.signed = append(k.signed, tbs)
		}
	case ok && kind == "R" && whole:
		k.returned = append(k.returned, text)
	case ok && kind == "V" && whole:
		k.revoked = append(k.revoked, text)
	case strings.Contains(line, "FAIL"), strings.Contains(line, "pki"):
		return false
	}
	return true
}

func (k *killed) check(t *testing.T, f *firm) {
	known, pending := map[string]bool{}, 0
	for record, err := range f.all(t.Context(), "certs/") {
		if err != nil {
			t.Fatal(err)
		}
		c, err := decodeCertificate(record)
		if err != nil {
			t.Fatal(err)
		}
		known[string(c.Certificate.RawTBSCertificate)] = true
		if c.State == StatePending {
			pending++
		}
	}
	serials, certificates, last := map[string]bool{}, 0, map[string]int64{}
	k.last = last
	for _, tbs := range k.signed {
		if list := parseTBSList(tbs); list != nil {
			issuer := sequence(list)
			if n := list.Number.Int64(); n <= last[issuer] {
				t.Errorf("CRL %d was signed after %d", n, last[issuer])
			} else {
				last[issuer] = n
			}
			continue
		}
		certificates++
		if !known[string(tbs)] {
			t.Errorf("the store doesn't know a certificate that was signed: %x", tbs)
		}
		if serials[string(tbs)] {
			t.Errorf("signed twice: %x", tbs)
		}
		serials[string(tbs)] = true
	}
	for _, serial := range k.returned {
		if c, err := f.Certificate(t.Context(), serial); err != nil || c.State != StateIssued {
			t.Errorf("certificate %s was returned: %+v, %v", serial, c, err)
		}
	}
	if len(k.returned) < 300 || certificates < len(k.returned) {
		t.Errorf("only %d certificates were returned, and %d signed", len(k.returned), certificates)
	}
	t.Logf("%d certificates signed, %d returned, %d in the store of which %d pending, %d sequences of CRLs", certificates, len(k.returned), len(known), pending, len(last))
}

// rekey gives issuers the entry that the key has in this process.
func rekey(t *testing.T, h *house, s store.Store) {
	key, err := h.mount.Key(t.Context(), "ed25519")
	must(t, err)
	for record, err := range store.All(t.Context(), s, killPrefix+"issuers/") {
		must(t, err)
		var fields map[string]any
		must(t, json.Unmarshal(record.Value, &fields))
		fields["key"] = key.UUID()
		value, err := json.Marshal(fields)
		must(t, err)
		_, err = s.Apply(t.Context(), store.Op{Key: record.Key, Value: value, Expect: store.Expect(record.Version)})
		must(t, err)
	}
}

// checkNext has the lists made next that the last process may have been making, at once, with numbers that were never signed.
func (k *killed) checkNext(t *testing.T, f *firm, parts bool) {
	for shard := range killShards + 1 {
		if shard > 0 && !parts {
			continue
		}
		crl, err := f.RotateScopedCRL(t.Context(), "root", CRLScope{Shard: shard})
		must(t, err)
		list, err := x509.ParseRevocationList(crl.DER)
		must(t, err)
		if last := k.last[sequence(list)]; last == 0 || crl.Number <= last {
			t.Errorf("the next list of shard %d has number %d, and %d was signed", shard, crl.Number, last)
		}
	}
}

// checkLists has lists made of what the processes left.
func (k *killed) checkLists(t *testing.T, f *firm, parts bool) {
	ctx, listed := t.Context(), map[string]bool{}
	issuers, err := f.Issuers(ctx)
	must(t, err)
	for _, issuer := range issuers {
		want := map[string]bool{}
		for e, err := range f.Revoked(ctx, issuer.ID) {
			must(t, err)
			want[FormatSerial(e.SerialNumber)] = true
		}
		got := map[string]bool{}
		for shard := range killShards + 1 {
			if parts != (shard > 0) {
				continue
			}
			for _, delta := range []bool{false, true} {
				if delta && !parts {
					continue
				}
				for serial := range reasons(f.scoped(t, issuer, CRLScope{Shard: shard, Delta: delta})) {
					got[serial] = true
				}
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("lists of %s have %d certificates; %d are revoked", issuer.Name, len(got), len(want))
		}
		maps.Copy(listed, got)
	}
	for record, err := range f.all(ctx, "crl-data/") {
		must(t, err)
		name, rest, _ := strings.Cut(strings.TrimPrefix(record.Key, f.prefix+"crl-data/"), "/")
		var r crlRecord
		_, err = f.read(ctx, "crl/"+name, &r)
		must(t, err)
		if part, _, _ := strings.Cut(rest, "/"); part != fmt.Sprintf("%020d", r.Number) && part != fmt.Sprintf("%020d", r.of(CRLScope{Delta: true}).Number) {
			t.Errorf("a part of a list is left that was not published: %s", record.Key)
		}
	}
	missing := slices.DeleteFunc(slices.Clone(k.revoked), func(serial string) bool { return listed[serial] })
	if len(missing) > 0 || len(k.revoked) == 0 {
		t.Errorf("of %d revoked certificates %d are in no list: %v", len(k.revoked), len(missing), missing)
	}
}
