//go:build unix

package pki

import (
	"bufio"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// envKill makes TestKillChild a program that issues, revokes and makes CRLs on the store that it names, and envParts one whose lists
// are divided and have changes.
const envKill, envParts = "PKI_TEST_KILL", "PKI_TEST_KILL_PARTS"

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
	s := openKilled(t, at)
	h := newHouse(t, &Options{Now: time.Now})
	h.km.keys["ed25519"] = killKey()
	h.km.seen = func(message []byte) { fmt.Println("S " + base64.StdEncoding.EncodeToString(message)) }
	f := firmOn(t, h, s, &Options{Now: time.Now})
	f.prefix = killPrefix
	name := fmt.Sprintf("root-%d", os.Getpid())
	f.root(t, "ed25519", name)
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
	for round := range 8 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKillChild$")
		cmd.Env = append(os.Environ(), envKill+"="+at)
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
	// What the last process had begun may be taken over, and the next lists of changes are due.
	s := openKilled(t, at)
	f := firmOn(t, h, s, &Options{Now: func() time.Time { return time.Now().Add(time.Hour) }})
	f.prefix = killPrefix
	seen.check(t, f)
	rekey(t, h, s)
	seen.checkLists(t, f, parts)
}

// killed is what processes said before they ended.
type killed struct {
	signed            [][]byte
	returned, revoked []string
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
	for _, tbs := range k.signed {
		if list := parseTBSList(tbs); list != nil {
			issuer := list.Issuer.String() + string(list.AuthorityKeyId) + string(listExtension(list, oidIssuingPoint, true))
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
	missing := slices.DeleteFunc(slices.Clone(k.revoked), func(serial string) bool { return listed[serial] })
	if len(missing) > 0 || len(k.revoked) == 0 {
		t.Errorf("of %d revoked certificates %d are in no list: %v", len(k.revoked), len(missing), missing)
	}
}
