package httpapi

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/transit"
)

// errNothing is the answer about something that isn't there, as clients expect it: they take it for no answer.
var errNothing = &httpapi.Error{Status: http.StatusNotFound}

func listKeys(c *call) error {
	names := c.engine.List()
	after, err := c.query("after")
	if err != nil {
		return err
	}
	limit, err := c.query("limit")
	if err != nil {
		return err
	}
	if after != "" {
		i, found := slices.BinarySearch(names, after)
		if found {
			i++
		}
		names = names[i:]
	}
	if limit != "" {
		n, err := strconv.Atoi(limit)
		if err != nil {
			return refuse("parameter limit: it takes a whole number")
		}
		if n > 0 {
			names = names[:min(n, len(names))]
		}
	}
	if len(names) == 0 {
		return errNothing
	}
	return c.reply(map[string]any{"keys": names})
}

func readKey(c *call) error {
	text, err := c.query("context")
	if err != nil {
		return err
	}
	derivation, err := unbase64("context", text)
	if err != nil {
		return err
	}
	info, err := c.engine.Key(c.args[0])
	if errors.Is(err, backend.ErrKeyNotFound) {
		return errNothing
	}
	if err != nil {
		return err
	}
	return c.reply(c.describe(&info, derivation))
}

// replyKey answers with a key as it is now.
func (c *call) replyKey() error {
	info, err := c.engine.Key(c.args[0])
	if err != nil {
		return err
	}
	return c.reply(c.describe(&info, nil))
}

// options takes what a key is made of.
func keyOptions(f *httpapi.Fields, o *transit.KeyOptions) {
	var id, external string
	f.String("type", &o.Type)
	f.Bool("derived", &o.Derived)
	f.Bool("convergent_encryption", &o.Convergent)
	f.Bool("exportable", &o.Exportable)
	f.Bool("allow_plaintext_backup", &o.AllowPlaintextBackup)
	f.Int("key_size", &o.KeySize)
	f.Duration("auto_rotate_period", &o.AutoRotatePeriod)
	f.String("managed_key_name", &o.ManagedKey)
	f.String("managed_key_id", &id)
	f.String("external_key_ref", &external)
	for _, other := range []string{id, external} {
		if o.ManagedKey == "" {
			o.ManagedKey = other
		}
	}
	f.Unset("parameter_set", "hybrid_key_type_ec", "hybrid_key_type_pqc", "context")
	if o.Type == "" && o.ManagedKey == "" {
		o.Type = transit.TypeAES256
	}
}

func createKey(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	var o transit.KeyOptions
	keyOptions(f, &o)
	if err := f.Done(); err != nil {
		return err
	}
	there, err := c.engine.Has(c.r.Context(), c.args[0])
	if err == nil && !there {
		if o.Type != transit.TypeManaged && o.ManagedKey == "" {
			err = c.allowSoftware()
		}
		if err == nil {
			err = c.engine.CreateKey(c.r.Context(), c.args[0], o)
		}
	}
	if there || errors.Is(err, backend.ErrKeyExists) {
		c.notes, err = append(c.notes, "key "+c.args[0]+" already existed"), nil
	}
	if err != nil {
		return err
	}
	return c.replyKey()
}

func deleteKey(c *call) error {
	if err := c.engine.DeleteKey(c.r.Context(), c.args[0]); err != nil {
		return err
	}
	return c.reply(nil)
}

func configureKey(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	var config transit.Config
	var decryption, encryption int
	var deletion, exportable, backup bool
	var period time.Duration
	if f.Has("min_decryption_version") {
		config.MinDecryptionVersion = &decryption
	}
	if f.Has("min_encryption_version") {
		config.MinEncryptionVersion = &encryption
	}
	if f.Has("deletion_allowed") {
		config.DeletionAllowed = &deletion
	}
	if f.Has("exportable") {
		config.Exportable = &exportable
	}
	if f.Has("allow_plaintext_backup") {
		config.AllowPlaintextBackup = &backup
	}
	if f.Has("auto_rotate_period") {
		config.AutoRotatePeriod = &period
	}
	f.Int("min_decryption_version", &decryption)
	f.Int("min_encryption_version", &encryption)
	f.Bool("deletion_allowed", &deletion)
	f.Bool("exportable", &exportable)
	f.Bool("allow_plaintext_backup", &backup)
	f.Duration("auto_rotate_period", &period)
	if err := f.Done(); err != nil {
		return err
	}
	info, err := c.engine.Key(c.args[0])
	if err != nil {
		return err
	}
	// These two can't be taken back, and others say nothing to who tries.
	for _, once := range []struct {
		name string
		have bool
		want **bool
	}{{"exportable", info.Exportable, &config.Exportable}, {"allow_plaintext_backup", info.AllowPlaintextBackup, &config.AllowPlaintextBackup}} {
		if *once.want != nil && !**once.want && once.have {
			*once.want = nil
			c.notes = append(c.notes, once.name+" can't be taken back; it stays true")
		}
	}
	if config.MinDecryptionVersion != nil && decryption == 0 {
		c.notes = append(c.notes, "versions begin with 1; min_decryption_version is 1")
	}
	if err := c.engine.Configure(c.r.Context(), c.args[0], config); err != nil {
		return err
	}
	return c.replyKey()
}

func rotateKey(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	given := texts(f, "managed_key_name", "managed_key_id", "external_key_ref")
	if err := f.Done(); err != nil {
		return err
	}
	next := ""
	for _, name := range []string{"managed_key_name", "managed_key_id", "external_key_ref"} {
		if next == "" {
			next = given[name]
		}
	}
	info, err := c.engine.Key(c.args[0])
	if err == nil && !info.Managed {
		err = c.allowSoftware()
	}
	if err == nil {
		err = c.engine.Rotate(c.r.Context(), c.args[0], next)
	}
	if err != nil {
		return err
	}
	return c.replyKey()
}

func trimKey(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	oldest := 0
	f.Int("min_available_version", &oldest)
	if err := f.Done(); err != nil {
		return err
	}
	if err := c.engine.Trim(c.r.Context(), c.args[0], oldest); err != nil {
		return err
	}
	return c.replyKey()
}

// none refuses a body that says anything.
func (c *call) none() error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	return f.Done()
}

func softDelete(c *call) error {
	err := c.none()
	if err == nil {
		err = c.engine.SoftDelete(c.r.Context(), c.args[0])
	}
	if err != nil {
		return err
	}
	return c.reply(nil)
}

func softRestore(c *call) error {
	err := c.none()
	if err == nil {
		err = c.engine.Undelete(c.r.Context(), c.args[0])
	}
	if err != nil {
		return err
	}
	return c.reply(nil)
}
