package gcpckms

import (
	"bytes"
	"context"
	"crypto"
	"crypto/mlkem"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"filippo.io/mldsa"
	"google.golang.org/grpc/codes"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
)

// description is what the service says of a key version. It is read once, when the key is opened.
type description struct {
	name   string // as the service has it
	alg    *algorithm
	level  kmspb.ProtectionLevel
	public crypto.PublicKey // nil if the key is symmetric
}

// Open implements [backend.Backend]. params must be of type [Params].
//
// It reads the public key of an asymmetric key (permission cloudkms.cryptoKeyVersions.viewPublicKey), which the service
// gives of versions that are enabled only, and the description of a symmetric one (cloudkms.cryptoKeyVersions.get): one call,
// or two if Algorithm is not set and the key is symmetric or post-quantum; [Latest] takes one more for each hundred versions
// (cloudkms.cryptoKeyVersions.list). A version that is still being generated or imported is waited for.
func (b *Backend) Open(ctx context.Context, params backend.Params) (backend.Key, error) {
	p, err := backend.ParamsAs[Params](params)
	if err != nil {
		return nil, err
	}
	ctx, leave, err := b.enter(ctx, "open", b.remote.CallTimeout)
	if err != nil {
		return nil, err
	}
	defer leave()
	p = p.complete()
	c, err := b.connect(ctx, p)
	if err != nil {
		return nil, err
	}
	if p.CryptoKeyVersion == Latest {
		if p.CryptoKeyVersion, err = b.latest(ctx, c, p); err != nil {
			return nil, err
		}
	}
	return b.openVersion(ctx, c, p)
}

// openVersion opens the version that p names by its number.
func (b *Backend) openVersion(ctx context.Context, c *conn, p Params) (backend.Key, error) {
	name := p.version(p.CryptoKeyVersion)
	d, err := b.describe(ctx, c, name, p.Algorithm)
	if err != nil {
		return nil, err
	}
	if p.Algorithm != "" && p.Algorithm != d.alg.name {
		return nil, invalid("algorithm", "got %s, but key %q has %s", p.Algorithm, d.name, d.alg.name)
	}
	if p.ProtectionLevel != "" && p.ProtectionLevel.pb() != d.level {
		return nil, invalid("protection_level", "got %s, but key %q has %s", p.ProtectionLevel, d.name, d.level)
	}
	c.remember(d)
	return b.handle(c, p.location(), d), nil
}

// latest returns the number of the newest version that is enabled.
func (b *Backend) latest(ctx context.Context, c *conn, p Params) (Version, error) {
	newest, seen := 0, 0
	for v, err := range versionsOf(ctx, b, c, p.key()) {
		if err != nil {
			return "", err
		}
		seen++
		if n := number(v.Name); v.State == kmspb.CryptoKeyVersion_ENABLED && n > newest {
			newest = n
		}
	}
	switch {
	case seen == 0:
		return "", fmt.Errorf("gcpckms: key %q has no versions: %w", p.key(), backend.ErrKeyNotFound)
	case newest == 0:
		return "", fmt.Errorf("gcpckms: key %q has %d versions, none of which is enabled: %w", p.key(), seen, backend.ErrKeyDisabled)
	}
	return Version(strconv.Itoa(newest)), nil
}

// number returns the number of a version, or 0.
func number(version string) int {
	_, id, _ := strings.Cut(version, "/cryptoKeyVersions/")
	n, err := strconv.Atoi(id)
	if err != nil || !versionForm.MatchString(id) {
		return 0
	}
	return n
}

// describe reads the public key or, if there is none, the description of a version. hint is the algorithm that it is
// expected to have, or empty.
func (b *Backend) describe(ctx context.Context, c *conn, name string, hint Algorithm) (description, error) {
	expected := algorithms[hint]
	if expected != nil && !expected.asymmetric() {
		return b.describeVersion(ctx, c, name)
	}
	var format kmspb.PublicKey_PublicKeyFormat
	if expected != nil {
		format = expected.format()
	}
	read := func() (description, error) {
		d, err := c.publicKey(ctx, name, format)
		if codeOf(err) == codes.InvalidArgument && expected == nil && format == kmspb.PublicKey_PUBLIC_KEY_FORMAT_UNSPECIFIED {
			format = kmspb.PublicKey_NIST_PQC // there is no default format for post-quantum keys
			return c.publicKey(ctx, name, format)
		}
		return d, err
	}
	d, err := read()
	if codeOf(err) != codes.FailedPrecondition {
		return d, err
	}
	// The version is not enabled, or has no public key.
	d, why := b.describeVersion(ctx, c, name)
	switch {
	case errors.Is(why, backend.ErrNotPermitted):
		return description{}, fmt.Errorf("%w; and why can't be seen: %w", err, why)
	case why != nil:
		return description{}, why
	case !d.alg.asymmetric():
		return d, nil
	}
	// It has become ready in the meantime, or a key manager outside of Google, which has the public key, is in trouble.
	external := d.external()
	d, err = read()
	var e *serviceError
	if external && codeOf(err) == codes.FailedPrecondition && errors.As(err, &e) {
		err = fmt.Errorf("gcpckms: key %q is enabled, but has no public key now: %w: %w", name, backend.ErrUnavailable, e)
	}
	return d, err
}

// describeVersion reads the description of a version, and waits until the version is ready.
func (b *Backend) describeVersion(ctx context.Context, c *conn, name string) (description, error) {
	v, err := b.ready(ctx, c, name)
	if err != nil {
		return description{}, err
	}
	a, err := lookUp(v.Name, v.Algorithm)
	if err != nil {
		return description{}, err
	}
	return description{name: v.Name, alg: a, level: v.ProtectionLevel}, nil
}

// longestPause bounds the pauses of ready.
const longestPause = 5 * time.Second

// ready waits until a version is enabled. The error wraps backend.ErrKeyDisabled if it never will be by itself.
func (b *Backend) ready(ctx context.Context, c *conn, name string) (*kmspb.CryptoKeyVersion, error) {
	for pause := b.clock.pause; ; pause = min(2*pause, longestPause) {
		v, err := c.version(ctx, name)
		if err != nil {
			return nil, err
		}
		switch v.State {
		case kmspb.CryptoKeyVersion_ENABLED:
			return v, nil
		case kmspb.CryptoKeyVersion_PENDING_GENERATION, kmspb.CryptoKeyVersion_PENDING_IMPORT:
		default:
			reason := ""
			if r := v.ImportFailureReason + v.GenerationFailureReason; r != "" {
				reason = " (" + line(r) + ")"
			}
			return nil, fmt.Errorf("gcpckms: key %q is %v%s: %w", v.Name, v.State, reason, backend.ErrKeyDisabled)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("%w; key %q is still %v", contextError(ctx, "wait"), v.Name, v.State)
		}
	}
}

// version reads the description of a version.
func (c *conn) version(ctx context.Context, name string) (*kmspb.CryptoKeyVersion, error) {
	what := remote.Call{Op: "GetCryptoKeyVersion", Limiter: c.limiter(name)}
	return call(ctx, c, what, func(ctx context.Context) (*kmspb.CryptoKeyVersion, error) {
		v, err := c.client.GetCryptoKeyVersion(ctx, &kmspb.GetCryptoKeyVersionRequest{Name: name}, once)
		if err != nil {
			return nil, err
		}
		a := answer{name: name}
		if !sameResource(name, v.GetName()) {
			a.from(v.GetName())
		}
		return v, a.err
	})
}

// publicKey reads the public key of a version.
func (c *conn) publicKey(ctx context.Context, name string, format kmspb.PublicKey_PublicKeyFormat) (description, error) {
	what := remote.Call{Op: "GetPublicKey", Limiter: c.limiter(name)}
	return call(ctx, c, what, func(ctx context.Context) (description, error) {
		req := &kmspb.GetPublicKeyRequest{Name: name, PublicKeyFormat: format}
		pub, err := c.client.GetPublicKey(ctx, req, once)
		if err != nil {
			return description{}, err
		}
		return readPublicKey(name, pub, format)
	})
}

// readPublicKey checks the answer to a request for a public key and parses it.
func readPublicKey(name string, pub *kmspb.PublicKey, format kmspb.PublicKey_PublicKeyFormat) (description, error) {
	a := answer{name: name}
	if !sameResource(name, pub.GetName()) {
		a.from(pub.GetName())
	}
	data, sum := []byte(pub.GetPem()), pub.GetPemCrc32C()
	if format != kmspb.PublicKey_PUBLIC_KEY_FORMAT_UNSPECIFIED {
		data, sum = pub.GetPublicKey().GetData(), pub.GetPublicKey().GetCrc32CChecksum()
		if pub.GetPublicKeyFormat() != format {
			a.failf("the public key has the format %v, want %v", pub.GetPublicKeyFormat(), format)
		}
	}
	if a.carries("the public key", data, sum); a.err != nil {
		return description{}, a.err
	}
	alg, err := lookUp(pub.Name, pub.Algorithm)
	if err != nil {
		return description{}, err
	}
	key, err := parsePublicKey(alg, data, format)
	if err != nil {
		a.failf("its public key can't be read: %v", err)
		return description{}, a.err
	}
	if !alg.fits(key) {
		a.failf("its public key is %s, but its algorithm is %s", backend.Describe(key), alg.name)
	}
	return description{name: pub.Name, alg: alg, level: pub.ProtectionLevel, public: key}, a.err
}

// parsePublicKey parses a public key in the format: PEM, or the encoding of FIPS 203 or 204.
func parsePublicKey(alg *algorithm, data []byte, format kmspb.PublicKey_PublicKeyFormat) (crypto.PublicKey, error) {
	if format == kmspb.PublicKey_NIST_PQC {
		switch {
		case alg.set != (mldsa.Parameters{}):
			return mldsa.NewPublicKey(alg.set, data)
		case alg.kem == 768:
			return mlkem.NewEncapsulationKey768(data)
		case alg.kem == 1024:
			return mlkem.NewEncapsulationKey1024(data)
		}
		return nil, fmt.Errorf("the algorithm %s has no public key in the format %v", alg.name, format)
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%d bytes are not one PUBLIC KEY in PEM", len(data))
	}
	return backend.ParsePublicKey(block.Bytes)
}
