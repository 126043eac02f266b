package gcpckms

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/grpc/codes"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
)

// requestLabel is the label of a key that says by which call it was made.
const requestLabel = "managedkeys-request"

// Generate implements [backend.Generator]. params must be of type [Params], with an Algorithm, and their CryptoKeyVersion is
// "1" or [Latest]. The key ring must exist. Without a deadline in ctx it takes at most two minutes; an asymmetric key that is
// not ready then goes on being generated, and Open finds it.
//
// A version of a key can't be replaced. With [Latest] and opts.Replace a key that exists gets a further version, which is from
// then on the one that is opened; the older ones stay enabled for those who have them open.
//
// It takes the permissions cloudkms.cryptoKeys.create or, for a further version, cloudkms.cryptoKeys.get and
// cloudkms.cryptoKeyVersions.create and .list; and those of Open.
func (b *Backend) Generate(ctx context.Context, params backend.Params, opts *backend.GenerateOptions) (backend.Key, error) {
	p, err := backend.ParamsAs[Params](params)
	if err != nil {
		return nil, err
	}
	m, leave, err := b.maker(ctx, p, "generate")
	if err != nil {
		return nil, err
	}
	defer leave()
	err = m.createKey(false)
	switch {
	case err == nil:
		return m.finish(m.p.version("1"))
	case !errors.Is(err, backend.ErrKeyExists):
		return nil, err
	}
	versions, last, err := m.versions()
	if err != nil {
		return nil, err
	}
	// A key without versions is one that was made for them, or whose making was interrupted.
	if replace := opts != nil && opts.Replace; versions > 0 {
		if err := m.mayReplace(replace, last); err != nil {
			return nil, err
		}
	}
	name, err := m.createVersion(last)
	if err != nil {
		return nil, err
	}
	if err := m.first(versions, name); err != nil {
		return nil, err
	}
	return m.finish(name)
}

// maker makes one key.
type maker struct {
	b    *Backend
	ctx  context.Context // of the one call that makes the key
	conn *conn
	p    Params // complete
	alg  *algorithm
}

// maker checks that a key can be made of p, and begins. The caller must call leave, unless there is an error.
func (b *Backend) maker(ctx context.Context, p Params, op string) (_ *maker, leave func(), err error) {
	p = p.complete()
	if p.ProtectionLevel == "" {
		p.ProtectionLevel = Software
	}
	switch {
	case p.Algorithm == "":
		return nil, nil, invalid("algorithm", "is required to %s a key; it takes %v", op, Algorithms())
	case p.ProtectionLevel != Software && p.ProtectionLevel != HSM:
		return nil, nil, fmt.Errorf("gcpckms: protection_level: got %s; keys are made with %s or %s, others with Google's tools: %w", p.ProtectionLevel, Software, HSM, backend.ErrUnsupported)
	case p.CryptoKeyVersion != "1" && p.CryptoKeyVersion != Latest:
		return nil, nil, invalid("crypto_key_version", "got %s; the service numbers versions itself: to %s a key it takes 1 or %s", p.CryptoKeyVersion, op, Latest)
	case p.Algorithm == "EXTERNAL_SYMMETRIC_ENCRYPTION":
		return nil, nil, fmt.Errorf("gcpckms: algorithm: got %s, whose keys are made outside of Google: %w", p.Algorithm, backend.ErrUnsupported)
	}
	ctx, leave, err = b.enter(ctx, op, max(makeTimeout, b.remote.CallTimeout))
	if err != nil {
		return nil, nil, err
	}
	c, err := b.connect(ctx, p)
	if err != nil {
		leave()
		return nil, nil, err
	}
	return &maker{b: b, ctx: ctx, conn: c, p: p, alg: algorithms[p.Algorithm]}, leave, nil
}

// createKey makes the key: empty, for versions to be imported into, or with a first version that the service generates. The
// call may be repeated, because the key's label tells whether an earlier attempt has made it.
func (m *maker) createKey(imports bool) error {
	token := make([]byte, 16)
	rand.Read(token) // never fails (crypto/rand)
	label := hex.EncodeToString(token)
	req := &kmspb.CreateCryptoKeyRequest{
		Parent: m.p.ring(), CryptoKeyId: m.p.CryptoKey, SkipInitialVersionCreation: imports,
		CryptoKey: &kmspb.CryptoKey{
			Purpose:    m.alg.purpose,
			Labels:     map[string]string{requestLabel: label},
			ImportOnly: imports,
			VersionTemplate: &kmspb.CryptoKeyVersionTemplate{
				Algorithm: m.alg.pb, ProtectionLevel: m.p.ProtectionLevel.pb(),
			},
		},
	}
	attempts := 0
	_, err := call(m.ctx, m.conn, remote.Call{Op: "CreateCryptoKey"}, func(ctx context.Context) (*kmspb.CryptoKey, error) {
		attempts++
		key, err := m.conn.client.CreateCryptoKey(ctx, req, once)
		if err != nil {
			return nil, err
		}
		return key, m.isKey(key)
	})
	if err == nil || attempts < 2 || codeOf(err) != codes.AlreadyExists {
		return err
	}
	key, failed := m.key()
	if failed == nil && key.GetLabels()[requestLabel] == label {
		return nil // the answer to an earlier attempt was lost
	}
	return err
}

// isKey returns an error unless the answer is about the key.
func (m *maker) isKey(key *kmspb.CryptoKey) error {
	a := answer{name: m.p.key()}
	if !sameResource(m.p.key(), key.GetName()) {
		a.from(key.GetName())
	}
	return a.err
}

// key reads the description of the key.
func (m *maker) key() (*kmspb.CryptoKey, error) {
	return call(m.ctx, m.conn, remote.Call{Op: "GetCryptoKey"}, func(ctx context.Context) (*kmspb.CryptoKey, error) {
		key, err := m.conn.client.GetCryptoKey(ctx, &kmspb.GetCryptoKeyRequest{Name: m.p.key()}, once)
		if err != nil {
			return nil, err
		}
		return key, m.isKey(key)
	})
}

// versions returns how many versions the key has, and the number of the last one.
func (m *maker) versions() (count, last int, err error) {
	for v, err := range versionsOf(m.ctx, m.b, m.conn, m.p.key()) {
		if err != nil {
			return 0, 0, err
		}
		count++
		last = max(last, number(v.Name))
	}
	return count, last, nil
}

// mayReplace returns an error unless a key that exists may get a further version.
func (m *maker) mayReplace(replace bool, last int) error {
	switch {
	case !replace:
		return fmt.Errorf("gcpckms: key %q has %d versions: %w", m.p.key(), last, backend.ErrKeyExists)
	case m.p.CryptoKeyVersion != Latest:
		return fmt.Errorf("gcpckms: key %q: version %s can't be replaced; with crypto_key_version %s a further one takes its place: %w", m.p.key(), m.p.CryptoKeyVersion, Latest, backend.ErrUnsupported)
	}
	return nil
}

// matches returns an error unless a version of the algorithm can be added to the key that exists. generated tells that the
// service generates it, by the key's template.
func (m *maker) matches(generated bool) error {
	key, err := m.key()
	if err != nil {
		return err
	}
	template := key.GetVersionTemplate()
	switch {
	case key.GetPurpose() != m.alg.purpose:
		return invalid("algorithm", "got %s, but key %q has the purpose %v", m.alg.name, key.GetName(), key.GetPurpose())
	case template.GetProtectionLevel() != m.p.ProtectionLevel.pb():
		return invalid("protection_level", "got %s, but key %q has %v", m.p.ProtectionLevel, key.GetName(), template.GetProtectionLevel())
	case generated && template.GetAlgorithm() != m.alg.pb:
		return invalid("algorithm", "got %s, but new versions of key %q have %v", m.alg.name, key.GetName(), template.GetAlgorithm())
	case generated && key.GetImportOnly():
		return fmt.Errorf("gcpckms: key %q takes imported versions only: %w", key.GetName(), backend.ErrUnsupported)
	}
	return nil
}

// createVersion has the service generate a version of the key whose last version has the number last, and returns its name.
func (m *maker) createVersion(last int) (string, error) {
	if err := m.matches(true); err != nil {
		return "", err
	}
	v, err := callOnce(m.ctx, m.conn, "CreateCryptoKeyVersion", func(ctx context.Context, opts ...gax.CallOption) (*kmspb.CryptoKeyVersion, error) {
		v, err := m.conn.client.CreateCryptoKeyVersion(ctx, &kmspb.CreateCryptoKeyVersionRequest{Parent: m.p.key()}, opts...)
		if err != nil {
			return nil, err
		}
		return v, within(m.p.key(), parent(v.GetName()), v.GetName())
	})
	if err == nil {
		return v.GetName(), nil
	}
	return m.lost(err, last, func(*kmspb.CryptoKeyVersion) bool { return true })
}

// lost looks for the version that a call has made whose answer was lost: the first one after last that is it. If there is
// none, it returns err, the call's error.
func (m *maker) lost(err error, last int, is func(*kmspb.CryptoKeyVersion) bool) (string, error) {
	if !errors.Is(err, backend.ErrUnavailable) && !errors.Is(err, backend.ErrIntegrity) || m.ctx.Err() != nil {
		return "", err
	}
	found, at := "", 0
	for v, failed := range versionsOf(m.ctx, m.b, m.conn, m.p.key()) {
		if failed != nil {
			return "", errors.Join(err, failed)
		}
		if n := number(v.Name); n > last && (found == "" || n < at) && is(v) {
			found, at = v.Name, n
		}
	}
	if found == "" {
		return "", err
	}
	return found, nil
}

// first takes the version back that was added to a key without versions, if somebody else has been quicker.
func (m *maker) first(versions int, name string) error {
	if versions > 0 || number(name) == 1 {
		return nil
	}
	err := fmt.Errorf("gcpckms: key %q was made by somebody else at the same time: %w", m.p.key(), backend.ErrKeyExists)
	return errors.Join(err, m.destroy(name))
}

// destroy schedules a version for destruction.
func (m *maker) destroy(name string) error {
	if _, err := m.b.ready(m.ctx, m.conn, name); err != nil { // what is pending can't be destroyed
		return err
	}
	_, err := call(m.ctx, m.conn, remote.Call{Op: "DestroyCryptoKeyVersion"}, func(ctx context.Context) (*kmspb.CryptoKeyVersion, error) {
		return m.conn.client.DestroyCryptoKeyVersion(ctx, &kmspb.DestroyCryptoKeyVersionRequest{Name: name}, once)
	})
	return err
}

// finish waits for the version to be ready and opens it.
func (m *maker) finish(name string) (backend.Key, error) {
	p := m.p
	p.CryptoKeyVersion = Version(strconv.Itoa(number(name)))
	return m.b.openVersion(m.ctx, m.conn, p)
}
