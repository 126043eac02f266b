package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/namespace"
	"github.com/managedkeys/managedkeys/transit"
	transithttp "github.com/managedkeys/managedkeys/transit/httpapi"
)

// Contenders of the table, each a server and its clients in one process, and what they do.
const (
	contenderServed = "transithttp"
	contenderBare   = "barehttp"

	signOne   = "sign over HTTP"
	signBatch = "batch of 100 over HTTP"
)

// batchSize is how many items a batch has.
const batchSize = 100

// transitServer serves transit with a managed key on the token.
func transitServer() (map[string]operation, error) {
	ctx := context.Background()
	b, err := oursBackend(pkcs11.Library{})
	if err != nil {
		return nil, err
	}
	st := memory.New(nil)
	keys, err := managedkey.Open(ctx, st, []managedkey.Connection{{Name: "bench", Backend: b}}, nil)
	if err != nil {
		return nil, err
	}
	err = keys.Create(ctx, managedkey.Entry{Ref: namespace.Ref{Name: "ec"}, Connection: "bench", Params: oursParams("ec", pkcs11.ECDSA)})
	if err != nil {
		return nil, err
	}
	mount, err := keys.CreateMount(ctx, managedkey.MountSpec{Path: "transit", Type: "transit", Allowed: []string{"ec"}})
	if err != nil {
		return nil, err
	}
	e, err := transit.Open(ctx, mount, st, nil)
	if err == nil {
		err = e.CreateKey(ctx, "ec", transit.KeyOptions{ManagedKey: "ec"})
	}
	if err != nil {
		return nil, err
	}
	tokens, err := httpapi.NewTokens(httpapi.Token{SHA256: httpapi.HashToken(benchToken), Policies: []string{"signer"}})
	if err != nil {
		return nil, err
	}
	policies, err := httpapi.NewPolicies(httpapi.Policy{Name: "signer", Rules: []httpapi.Rule{{Path: "transit/sign/*", Capabilities: []string{"update"}}}})
	if err != nil {
		return nil, err
	}
	api, err := httpapi.New(keys, &httpapi.Options{Authenticator: tokens, Authorizer: policies, Limits: httpapi.Limits{ClientRate: 1e9},
		Engines: map[string]httpapi.Engine{"transit": transithttp.New(st, nil)}})
	if err != nil {
		return nil, err
	}
	return asking(httpapi.NewServer(api, nil))
}

// bareServer serves the same key with net/http and encoding/json alone, and knows nobody.
func bareServer() (map[string]operation, error) {
	b, err := oursBackend(pkcs11.Library{})
	if err != nil {
		return nil, err
	}
	key, err := as[backend.Signer](b.Open(context.Background(), oursParams("ec", pkcs11.ECDSA)))
	if err != nil {
		return nil, err
	}
	return asking(&http.Server{Handler: bareSigner{key}})
}

// bareSigner signs one input, or many with as many goroutines as a batch of package transit has.
type bareSigner struct{ key backend.Signer }

type bareItem struct {
	Input     []byte `json:"input,omitempty"`
	Signature []byte `json:"signature,omitempty"`
}

func (s bareSigner) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct {
		bareItem
		Batch []bareItem `json:"batch_input,omitempty"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	items := in.Batch
	if items == nil {
		items = []bareItem{in.bareItem}
	}
	var next, failed atomic.Int64
	var running sync.WaitGroup
	for range min(len(items), transit.DefaultBatchParallel) {
		running.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(items); i = int(next.Add(1)) - 1 {
				sum := sha256.Sum256(items[i].Input)
				var err error
				if items[i].Signature, err = s.key.SignContext(r.Context(), sum[:], crypto.SHA256); err != nil {
					failed.Add(1)
				}
				items[i].Input = nil
			}
		})
	}
	running.Wait()
	if failed.Load() > 0 {
		http.Error(w, "failed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	var out bytes.Buffer // so that its length is known
	json.NewEncoder(&out).Encode(map[string]any{"data": items})
	w.Header().Set("Content-Length", strconv.Itoa(out.Len()))
	w.Write(out.Bytes())
}

// asking starts a server and returns what its clients ask it.
func asking(server *http.Server) (map[string]operation, error) {
	s, err := listen(server)
	if err != nil {
		return nil, err
	}
	item := `{"input":"` + base64.StdEncoding.EncodeToString(make([]byte, 256)) + `"}`
	return map[string]operation{
		signOne:   s.asks(item),
		signBatch: s.asks(`{"batch_input":[` + strings.Repeat(item+",", batchSize-1) + item + `]}`),
	}, nil
}

// asks returns an operation that sends the body over a connection that is kept.
func (s *listening) asks(body string) operation {
	request := fmt.Appendf(nil, "POST /v1/transit/sign/ec HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Vault-Token: %s\r\nX-Vault-Request: true\r\nContent-Length: %d\r\n\r\n%s",
		benchToken, len(body), body)
	idle := make(chan *client, 64)
	return func() error {
		var c *client
		select {
		case c = <-idle:
		default:
			conn, err := net.Dial("tcp", s.address)
			if err != nil {
				return err
			}
			c = &client{conn, bufio.NewReader(conn), request}
		}
		if err := c.sign(); err != nil {
			c.Close()
			return err
		}
		select {
		case idle <- c:
		default:
			c.Close()
		}
		return nil
	}
}

// transithttp prints how many signatures come over HTTP from transit with a key on SoftHSM2, beside a handler that does nothing but sign
// with the same key, and beside the token alone.
func (w *workplace) transithttp() error {
	token, err := w.token()
	if err != nil {
		return err
	}
	processes, stop, err := w.startAll([]string{contenderServed, contenderBare, contenderOurs, contenderC}, token)
	defer stop()
	if err != nil {
		return err
	}
	fmt.Printf(`P-256 signatures over HTTP/1.1 on loopback with a key on SoftHSM2, connections kept, a server and its clients in one process on %d
processors. net/http: encoding/json and the handle of backend/pkcs11, without token, policy and limits. handle: that handle without HTTP,
from as many goroutines as sign; C: the token alone, from as many threads. Median of %d rounds of %v; ratios within a round.

`, runtime.NumCPU(), *rounds, *window)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "clients\tbatch\tsignatures/s\tnet/http\tratio\tcpu\thandle\tratio\tcpu\tC\tratio\tcpu\tbusy%\t")
	for _, row := range []struct {
		what           string
		clients, batch int
		goroutines     int // that sign
	}{{signOne, 1, 1, 1}, {signOne, 16, 1, 16}, {signBatch, 1, batchSize, transit.DefaultBatchParallel}} {
		r, err := sideBySide(processes, func(i int) (string, int, float64) {
			if i < 2 {
				return row.what, row.clients, float64(row.batch)
			}
			return algorithms[0], row.goroutines, 1
		})
		if err != nil {
			return err
		}
		ours, _, _ := r.columns(contenderServed, contenderServed)
		fmt.Fprintf(out, "%d\t%d\t%s\t", row.clients, row.batch, ours)
		for _, p := range processes[1:] {
			rate, byTime, byCPU := r.columns(p.name, contenderServed)
			fmt.Fprintf(out, "%s\t%s\t%s\t", rate, byTime, byCPU)
		}
		fmt.Fprintf(out, "%s\t\n", cell("%.0f", r.others()))
	}
	if err := out.Flush(); err != nil {
		return err
	}
	fmt.Print("\n" + othersNote())
	return nil
}

// sideBySide is measureRates for processes that do different things: work says what each does, and how much one operation of it is.
func sideBySide(processes []*process, work func(i int) (algorithm string, n int, each float64)) (rates, error) {
	var all []round
	for done := -1; done < *rounds && len(all) < *rounds+extraRounds; { // the first warms up
		r := round{speeds: make(map[string]speed)}
		load := watch(processes)
		for i, p := range processes {
			algorithm, n, each := work(i)
			x, err := p.numbers(2, "rate", algorithm, n, int64(*window))
			if err != nil {
				return nil, err
			}
			r.speeds[p.name] = speed{x[0] * each, x[1] * each}
		}
		r.others = load.others()
		if done < 0 {
			done++
			continue
		}
		if !(r.others >= quiet) { // or where it can't be told
			done++
		}
		all = append(all, r)
	}
	return quietest(all, *rounds), nil
}
