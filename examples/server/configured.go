package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"reflect"

	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/config"
	"github.com/managedkeys/managedkeys/managedkey/config/all"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
)

// plant is a site of a configuration file.
type plant struct {
	path     string
	out      io.Writer
	log      *slog.Logger
	builders *config.Builders
	system   *config.System
	engines  map[string]httpapi.Engine
	access   access
	apis     []*httpapi.API // one for each listener
}

// configured returns a site of a configuration file, or a folder of them.
func configured(ctx context.Context, path string, hangups <-chan os.Signal, out io.Writer) (_ *site, err error) {
	p := &plant{path: path, out: out, log: slog.New(slog.NewTextHandler(out, nil)), builders: all.Builders()}
	cfg, err := p.load()
	if err != nil {
		return nil, err
	}
	if len(cfg.Listeners) == 0 {
		return nil, errors.New("the configuration has no listener")
	}
	who, err := newAdmission(cfg)
	if err != nil {
		return nil, err
	}
	p.access.now.Store(who)
	s := &site{hangups: hangups, reload: p.reload}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	metrics, err := newMeasures(cfg.Telemetry, s)
	if err != nil {
		return nil, err
	}
	logs, err := openAudit(cfg, p.log, out, s)
	if err != nil {
		return nil, err
	}
	observers := managedkey.Observers(append(metrics.observers(), logs...)...)
	if p.system, err = cfg.Open(ctx, &config.Options{Logger: p.log, Observer: observers}); err != nil {
		return nil, err
	}
	s.later(p.system.Close)
	if p.engines, err = s.configuredEngines(p.system.Store(), p.log, metrics); err != nil {
		return nil, err
	}
	if err := metrics.watch(p.system.Registry(), s); err != nil {
		return nil, err
	}
	ctx = p.actor(ctx)
	plan, err := cfg.Plan(ctx, p.system.Registry())
	if err != nil {
		return nil, err
	}
	fmt.Fprint(out, plan)
	if err := config.Apply(ctx, plan); err != nil {
		return nil, err
	}
	for _, l := range cfg.Listeners {
		if err := p.listen(s, l, cfg.Telemetry, metrics.handler); err != nil {
			return nil, fmt.Errorf("%s: %w", l.Pos, err)
		}
	}
	p.openMounts(ctx)
	s.ready = func() {
		for i, l := range cfg.Listeners {
			fmt.Fprintf(out, "Listening on %s%s\n", scheme(l), s.endpoints[i].listener.Addr())
		}
	}
	return s, nil
}

// actor says in the audit log that it was the file that wanted a change.
func (p *plant) actor(ctx context.Context) context.Context {
	return managedkey.WithActor(ctx, managedkey.Actor{ID: "config", Name: p.path})
}

// load reads the file, and says what looks like a mistake.
func (p *plant) load() (*config.Config, error) {
	cfg, err := config.Load(p.path, p.builders)
	if err != nil {
		return nil, err
	}
	for _, w := range cfg.Warnings {
		p.log.Warn(w.String())
	}
	return cfg, cfg.CheckMountTypes(mountTypes...)
}

// reload makes everything what the file says now.
func (p *plant) reload(ctx context.Context) {
	plan, err := p.reloaded(p.actor(ctx))
	if plan != nil && !plan.Empty() {
		fmt.Fprint(p.out, plan)
	}
	p.openMounts(ctx)
	if err != nil {
		p.log.Error("not reloaded", "error", err)
		return
	}
	p.log.Info("reloaded", "changes", len(plan.Changes))
}

func (p *plant) reloaded(ctx context.Context) (*config.Plan, error) {
	next, err := p.load()
	if err != nil {
		return nil, err
	}
	if err := fixed(p.system.Config(), next); err != nil {
		return nil, err
	}
	who, err := newAdmission(next)
	if err != nil {
		return nil, err
	}
	// First, and whatever comes of the rest: a token that was taken out must not wait for a key manager that is away.
	p.access.now.Store(who)
	return p.system.Reload(ctx, next)
}

// fixed refuses what can't change while the server runs.
func fixed(now, next *config.Config) error {
	type rest struct {
		listeners []config.Listener
		audit     []config.Audit
		telemetry config.Telemetry
	}
	of := func(c *config.Config) (r rest) {
		for _, l := range c.Listeners {
			plain := *l
			plain.Pos, plain.TLSClientCAFile, plain.TLSRequireClientCert, plain.TLSMinVersion = config.Pos{}, "", false, ""
			if plain.TLSCertFile != "" {
				plain.TLSCertFile, plain.TLSKeyFile = "any", "any" // but none is none
			}
			r.listeners = append(r.listeners, plain)
		}
		for _, a := range c.Audit {
			plain := *a
			plain.Pos = config.Pos{}
			r.audit = append(r.audit, plain)
		}
		if c.Telemetry != nil {
			r.telemetry = *c.Telemetry
			r.telemetry.Pos = config.Pos{}
		}
		return r
	}
	if !reflect.DeepEqual(of(now), of(next)) {
		return errors.New("a listener, audit or telemetry block has changed; that takes a restart")
	}
	return nil
}

// listen adds an endpoint to the site.
func (p *plant) listen(s *site, l *config.Listener, t *config.Telemetry, metrics http.Handler) error {
	api, err := httpapi.New(p.system.Registry(), &httpapi.Options{
		Authenticator: &p.access, Authorizer: &p.access, Engines: p.engines, Logger: p.log,
		EchoToken: true, // what "bao login" keeps: without it, it reports success and keeps nothing
		Limits: httpapi.Limits{
			Body: l.MaxRequestSize, Timeout: l.RequestTimeout, Concurrent: l.MaxConcurrentRequests,
			ClientRate: l.RatePerClient, ClientBurst: l.BurstPerClient,
		},
		Metrics: metrics, MetricsPublic: t != nil && t.MetricsPublic,
		Ready: p.isReady,
	})
	if err != nil {
		return err
	}
	s.later(api.Close)
	p.apis = append(p.apis, api)
	listener, err := open(l)
	if err != nil {
		return err
	}
	s.later(func() error { closeListener(listener); return nil })
	server := httpapi.NewServer(p.access.through(nameOf(l), api), p.access.tls(l))
	setLimits(server, l)
	s.endpoints = append(s.endpoints, &endpoint{listener, server})
	return nil
}

// openMounts has what engines do in the background begin for all mounts that there are, before anybody asks for anything.
func (p *plant) openMounts(ctx context.Context) {
	for _, api := range p.apis {
		if err := api.OpenMounts(p.actor(ctx)); err != nil {
			p.log.Warn("mounts that can't be opened yet", "error", err)
		}
	}
}

// isReady is asked for sys/health.
func (p *plant) isReady(ctx context.Context) error {
	h, err := p.system.Registry().Health(ctx)
	if err == nil && !h.Ready {
		err = errors.New("no connection works")
	}
	return err
}
