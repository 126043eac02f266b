package audit

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// Sink is where records go: a [File], a [Slog] or a [Func].
type Sink interface {
	// open returns what writes to the sink.
	open(k keys, log *slog.Logger) (writer, error)
}

// writer writes to a sink. It is used by one goroutine at a time, but for durable, quick and name.
type writer interface {
	// write writes records, after a gap of so many that were lost before, of which there may be some where there are no records. It
	// returns when they are as safe as the sink makes them; if there is an error, none of them is there.
	write(records []*Record, lost uint64) error

	// tick does what is due when nothing is written; it is called every interval, if that is not 0.
	tick() error
	interval() time.Duration

	// durable reports whether operations wait for their record to be written.
	durable() bool

	// quick reports whether writing takes no longer than waking another goroutine.
	quick() bool

	head() Head
	name() string
	close() error
}

// Func is a sink that hands records to a function of the program, for other places than files. It is called by one
// goroutine at a time, with at least one record, and must not keep them or their slice. An operation waits for it only if the log is one
// that fails closed. A panic is an error.
type Func struct {
	Name  string // for errors
	Write func([]*Record) error
}

func (f Func) open(keys, *slog.Logger) (writer, error) {
	if f.Write == nil {
		return nil, fmt.Errorf("audit: sink %q: field Write is nil; it takes a function: %w", f.Name, backend.ErrInvalidParams)
	}
	return funcWriter{f}, nil
}

type funcWriter struct{ f Func }

func (w funcWriter) write(records []*Record, _ uint64) error {
	if len(records) == 0 {
		return nil
	}
	return w.f.Write(records)
}

func (funcWriter) tick() error             { return nil }
func (funcWriter) interval() time.Duration { return 0 }
func (funcWriter) durable() bool           { return false }
func (funcWriter) quick() bool             { return false }
func (funcWriter) head() Head              { return Head{} }
func (w funcWriter) name() string          { return w.f.Name }
func (funcWriter) close() error            { return nil }

// Slog is a sink that logs each record, with a group "audit" of its fields, at the level Info. It has no chain. Handlers write
// as they are made to; those of package log/slog escape what could be taken for another line.
type Slog struct {
	Logger *slog.Logger // nil means slog.Default()
}

func (s Slog) open(keys, *slog.Logger) (writer, error) {
	if s.Logger == nil {
		s.Logger = slog.Default()
	}
	return slogWriter{s.Logger.Handler()}, nil
}

type slogWriter struct{ handler slog.Handler }

func (w slogWriter) write(records []*Record, lost uint64) error {
	ctx := context.Background()
	if !w.handler.Enabled(ctx, slog.LevelInfo) {
		return fmt.Errorf("the handler takes no records of the level Info: %w", backend.ErrUnavailable)
	}
	if lost > 0 {
		r := slog.NewRecord(time.Now(), slog.LevelWarn, "audit: records were lost", 0)
		r.AddAttrs(slog.Uint64("lost", lost))
		if err := w.handler.Handle(ctx, r); err != nil {
			return err
		}
	}
	for _, record := range records {
		r := slog.NewRecord(record.Time, slog.LevelInfo, "audit", 0)
		r.AddAttrs(slog.Attr{Key: "audit", Value: slog.GroupValue(record.attrs()...)})
		if err := w.handler.Handle(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

func (slogWriter) tick() error             { return nil }
func (slogWriter) interval() time.Duration { return 0 }
func (slogWriter) durable() bool           { return false }
func (slogWriter) quick() bool             { return false }
func (slogWriter) head() Head              { return Head{} }
func (slogWriter) name() string            { return "slog" }
func (slogWriter) close() error            { return nil }

// attrs returns the fields that have a value, but for the time.
func (r *Record) attrs() (all []slog.Attr) {
	for _, f := range [...]struct{ name, value string }{
		{"type", r.Type}, {"id", r.ID},
		{"actor", r.Actor.ID}, {"actor_name", r.Actor.Name}, {"address", r.Actor.Address}, {"request", r.Actor.RequestID},
		{"namespace", r.Namespace}, {"name", r.Name}, {"key", r.Key}, {"mount", r.Mount}, {"mount_id", r.MountID}, {"path", r.Path},
		{"backend", r.Backend}, {"operation", r.Operation}, {"algorithm", r.Algorithm}, {"options", r.Options},
		{"error", r.Error}, {"input", r.Input}, {"output", r.Output},
	} {
		if f.value != "" {
			all = append(all, slog.String(f.name, plain(f.value)))
		}
	}
	if r.Version != 0 {
		all = append(all, slog.Int("version", r.Version))
	}
	if r.Omitted != 0 {
		all = append(all, slog.Uint64("omitted", r.Omitted))
	}
	if r.Type == TypeOperation || r.Type == TypeOutcome {
		all = append(all, slog.Int64("duration_ns", int64(r.Duration)))
	}
	return all
}

// plain returns text as it is in JSON, without quotation marks: handlers need not be trusted to escape.
func plain(text string) string {
	quoted := appendText(nil, text)
	return string(quoted[1 : len(quoted)-1])
}
