package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/removal"
	"github.com/managedkeys/managedkeys/internal/softkey"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/transit"
)

// SoftwareOption is the option of a mount that allows software keys there, if it is "true"; see Options.AllowSoftware.
const SoftwareOption = softkey.Option

// Options are the options of [New]. The zero value is fine, and so is nil: there are managed keys only.
type Options struct {
	// Software is the backend in which software keys are used, as transit.Options has it; nil means that no mount has any. The caller
	// closes it, after the API.
	Software backend.Backend

	// AllowSoftware says whether a mount may make, import and restore software keys. It is asked each time; keys that there are stay
	// usable. nil means those whose option [SoftwareOption] is "true".
	AllowSoftware func(*managedkey.Mount) bool

	// AllowUnsealed is as in transit.Options. It is for tests and trials.
	AllowUnsealed bool

	// AllowPKCS1v15 is as in transit.Options: RSA keys may decrypt with the padding scheme pkcs1v15.
	AllowPKCS1v15 bool

	// MaxBatch and BatchParallel are as in transit.Options.
	MaxBatch, BatchParallel int

	// RotateEvery is how often keys are looked for that are due for their automatic rotation: a minute, if it is 0. Keys of a mount
	// are rotated once the mount was used in this process. If it is negative, none are.
	RotateEvery time.Duration

	Now    func() time.Time // nil means time.Now
	Logger *slog.Logger     // for what happens in the background; nil means slog.Default()
}

// New returns the engine of mounts of type transit, for the Engines of an [httpapi.API]. Each mount's keys are in st, as
// [transit.Open] has it, which must stay open until the API is closed. opts may be nil.
func New(st store.Store, opts *Options) httpapi.Engine {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.AllowSoftware == nil {
		o.AllowSoftware = softkey.Allowed
	}
	if o.RotateEvery == 0 {
		o.RotateEvery = time.Minute
	}
	if o.MaxBatch <= 0 {
		o.MaxBatch = transit.DefaultMaxBatch
	}
	return func(ctx context.Context, m *managedkey.Mount) (httpapi.Handler, error) {
		e, err := transit.Open(ctx, m, st, &transit.Options{
			Now: o.Now, Software: o.Software, AllowUnsealed: o.AllowUnsealed, AllowPKCS1v15: o.AllowPKCS1v15,
			BatchParallel: o.BatchParallel, MaxBatch: o.MaxBatch, Logger: o.Logger,
		})
		if err != nil {
			return nil, err
		}
		h := &handler{engine: e, mount: m, store: st, opts: &o}
		background, cancel := context.WithCancel(context.Background())
		h.cancel = cancel
		if o.RotateEvery > 0 {
			h.running.Go(func() { _ = e.Run(background, o.RotateEvery) }) // it ends with Close, and logs what goes wrong
			h.running.Go(func() {
				removal.Keep(background, st, "transit", time.Now, func(err error) {
					log := o.Logger
					if log == nil {
						log = slog.Default()
					}
					log.WarnContext(background, "transit/httpapi: what removed mounts have had can't be removed", "error", err)
				})
			})
		}
		return h, nil
	}
}

// handler serves one mount.
type handler struct {
	engine *transit.Engine
	mount  *managedkey.Mount
	store  store.Store
	opts   *Options

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// Close implements httpapi.Handler.
func (h *handler) Close() error {
	h.cancel()
	h.running.Wait()
	return h.engine.Close()
}

// Remove implements httpapi.Remover: the keys of the mount that are in the store go with it, and its settings.
func (h *handler) Remove(ctx context.Context) error {
	_, err := transit.RemoveMount(ctx, h.store, h.mount.ID())
	return err
}

// Exists implements httpapi.Exister: encrypting with a key that isn't there makes it, which takes the capability create.
func (h *handler) Exists(r *http.Request) (bool, error) {
	segments := split(r)
	if len(segments) != 2 || segments[0] != "encrypt" {
		return true, nil
	}
	return h.engine.Has(r.Context(), segments[1])
}

// allowSoftware returns an error unless the mount may have new software keys.
func (h *handler) allowSoftware() error {
	if h.opts.Software != nil && h.opts.AllowSoftware(h.mount) {
		return nil
	}
	return refuse("software keys are not allowed in this mount, which takes keys of type %s; the mount's option %s allows them", transit.TypeManaged, SoftwareOption)
}

// settings are those of a mount, as they are stored.
type settings struct {
	DisableUpsert bool `json:"disable_upsert"`
	CacheSize     int  `json:"cache_size"`
}

func (h *handler) settingsKey() string { return "transit/" + h.mount.ID() + "/settings" }

// settings returns the settings of the mount, and the version of their record for a change.
func (h *handler) settings(ctx context.Context) (s settings, version uint64, err error) {
	r, err := h.store.Get(ctx, h.settingsKey())
	if errors.Is(err, store.ErrNotFound) {
		return settings{}, 0, nil
	}
	if err != nil {
		return s, 0, fmt.Errorf("transit: settings: %w", err)
	}
	if json.Unmarshal(r.Value, &s) != nil {
		return s, 0, fmt.Errorf("transit: settings: %w", store.ErrCorrupt)
	}
	return s, r.Version, nil
}

// changeSettings stores what change makes of the settings, and returns them.
func (h *handler) changeSettings(ctx context.Context, change func(*settings)) (settings, error) {
	for attempt := 0; ; attempt++ {
		s, version, err := h.settings(ctx)
		if err != nil {
			return s, err
		}
		change(&s)
		value, err := json.Marshal(s)
		if err != nil {
			return s, err
		}
		expect := store.Absent
		if version > 0 {
			expect = store.Expect(version)
		}
		_, err = h.store.Apply(ctx, store.Op{Key: h.settingsKey(), Value: value, Expect: expect})
		if err == nil || !errors.Is(err, store.ErrConflict) || attempt == 10 {
			return s, err
		}
	}
}
