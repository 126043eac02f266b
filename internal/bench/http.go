package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"text/tabwriter"

	"github.com/managedkeys/managedkeys/managedkey/audit"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
)

// contestant is a server whose speed is measured.
type contestant struct {
	name   string
	at     *listening
	memory float64   // bytes per idle connection
	rates  []float64 // requests per second, by round
}

// http prints how many signatures per second come over HTTP, from a handler that does nothing but sign and from this library's API,
// and what an idle connection takes.
func (w *workplace) http() error {
	all, end, err := w.contestants(context.Background())
	defer end()
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.memory, err = c.at.idle(); err != nil {
			return err
		}
	}
	fmt.Printf(`P-256 signatures over HTTP/1.1 on loopback, connections kept. Clients are in the same process and read nothing but lengths.
net/http is a handler with encoding/json and crypto/ecdsa that knows nobody. The API has a token, policies, limits and a mount with a
minimal engine. Its audit log is a file, fails closed (two records for each request), and is made safe every second, as by
default in a configuration file, or before each answer; metrics are for Prometheus. Median of %d rounds of %v, ratios within a round.

`, *rounds, *window)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "server\tclients\trequests/s\tratio\tbytes per idle connection\t")
	for _, clients := range []int{1, 16} {
		for _, c := range all {
			c.rates = nil
		}
		for round := range *rounds + 1 {
			for _, c := range all {
				rate, err := c.at.load(clients, *window)
				if err != nil {
					return err
				}
				if round > 0 {
					c.rates = append(c.rates, rate)
				}
			}
		}
		for _, c := range all {
			fmt.Fprintf(out, "%s\t%d\t%.0f\t%.2f\t%.0f\t\n", c.name, clients, median(c.rates), ratio(c.rates, all[0].rates), c.memory)
		}
	}
	return out.Flush()
}

// contestants starts all servers, the baseline first. end is to be called in any case.
func (w *workplace) contestants(ctx context.Context) (all []*contestant, end func(), err error) {
	var ends []func()
	end = func() {
		for i := len(ends) - 1; i >= 0; i-- {
			ends[i]()
		}
	}
	add := func(name string, server *http.Server) error {
		at, err := listen(server)
		if err == nil {
			ends = append(ends, at.close)
			all = append(all, &contestant{name: name, at: at})
		}
		return err
	}
	bare, err := bareHandler()
	if err != nil {
		return nil, end, err
	}
	if err := add("net/http", &http.Server{Handler: bare}); err != nil {
		return nil, end, err
	}
	for _, c := range []struct {
		name string
		file *audit.File // nil for neither audit nor metrics
	}{
		{"API", nil},
		{"API, audit and metrics", &audit.File{Sync: audit.SyncInterval}},
		{"API, audit with fsync, metrics", &audit.File{Sync: audit.SyncEvery}},
	} {
		api, end1, err := w.ourServer(ctx, c.file)
		if err != nil {
			return nil, end, err
		}
		ends = append(ends, end1)
		if err := add(c.name, httpapi.NewServer(api, nil)); err != nil {
			return nil, end, err
		}
	}
	return all, end, nil
}
