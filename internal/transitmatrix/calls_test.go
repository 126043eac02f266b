package transitmatrix

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/fakecloud"
	"github.com/managedkeys/managedkeys/transit"
)

// counter is a place that says what was asked of the key manager.
type counter struct {
	*place
	asked func() map[string]int // requests since begin, by operation
	ops   map[string]string     // how the key manager calls an operation

	signer, rsa, aes, hmac string // names of keys; "" if there is none
}

// inLog returns what a fake was asked.
func inLog(log *fakecloud.Log) func() map[string]int {
	return func() map[string]int {
		n := make(map[string]int)
		for _, r := range log.Requests("") {
			n[r.Op]++
		}
		return n
	}
}

// counters are the key managers that are not in the process.
func counters(t *testing.T) []*counter {
	cloud, awsFake := awsWith(t, only(awsRequests(t), "p256", "rsa-oaep", "aes", "hmac-256"))
	azure, azureFake := azureWith(t, "managedhsm", hsmRequests())
	goog, googFake := googleWith(t, only(googleRequests(t), "ec_sign_p256_sha256", "rsa_decrypt_oaep_2048_sha256", "aes_256_gcm", "hmac_sha256"))
	hsm, _ := tokenWith(t, "p256", "rsa-oaep", "aes-256", "hmac-sha256")
	return []*counter{
		{cloud, inLog(&awsFake.Log), map[string]string{"sign": "Sign", "encrypt": "Encrypt", "decrypt": "Decrypt", "hmac": "GenerateMac"},
			"p256", "rsa-oaep", "aes", "hmac-256"},
		{azure, inLog(&azureFake.Log), map[string]string{"sign": "sign", "encrypt": "encrypt", "decrypt": "decrypt", "hmac": "sign"},
			"p256", "rsa", "aes-256", "hmac"},
		{goog, inLog(&googFake.Log), map[string]string{"sign": "AsymmetricSign", "encrypt": "RawEncrypt", "decrypt": "RawDecrypt", "decrypt-rsa": "AsymmetricDecrypt", "hmac": "MacSign"},
			"ec_sign_p256_sha256", "rsa_decrypt_oaep_2048_sha256", "aes_256_gcm", "hmac_sha256"},
		{hsm, func() map[string]int {
			n := hsm.detail().(map[string]int)
			for function := range n { // a session more may be needed, and each call has a part that begins it
				if strings.HasSuffix(function, "Init") || function == "C_OpenSession" {
					delete(n, function)
				}
			}
			return n
		}, map[string]string{"sign": "C_Sign", "encrypt": "C_Encrypt", "decrypt": "C_Decrypt", "hmac": "C_Sign"},
			"p256", "rsa-oaep", "aes-256", "hmac-sha256"},
	}
}

// only returns the requests for these keys.
func only(all []request, names ...string) (some []request) {
	for _, r := range all {
		if matches(names, r.name) {
			some = append(some, r)
		}
	}
	return some
}

// want checks that the key manager was asked n times for op since begin, and for nothing else.
func (c *counter) want(t *testing.T, what, op string, n int) {
	t.Helper()
	want := map[string]int{op: n}
	if n == 0 {
		want = map[string]int{}
	}
	if got := c.asked(); !maps.Equal(got, want) {
		t.Errorf("%s, %s: asked for %v; want %v", c.name, what, got, want)
	}
}

// op returns the name of an operation with a key.
func (c *counter) op(name, key string) string {
	if op, ok := c.ops[name+"-rsa"]; ok && key == c.rsa {
		return op
	}
	return c.ops[name]
}

const items = 100

// done checks the results of a batch: one for each request, in order.
func done[T any](t *testing.T, results []transit.Result[T], err error) []transit.Result[T] {
	t.Helper()
	require.NoError(t, err)
	require.Len(t, results, items)
	for i, r := range results {
		require.NoError(t, r.Err, "item %d", i)
		require.Equal(t, fmt.Sprint(i), r.Reference)
		require.Equal(t, 1, r.KeyVersion)
	}
	return results
}

// TestCalls: a batch of 100 asks the key manager 100 times, for the operation and never for a key; and what needs the public key only
// asks it for nothing, in a batch or alone.
func TestCalls(t *testing.T) {
	for _, c := range counters(t) {
		t.Run(c.name, func(t *testing.T) {
			e, ctx := c.engine, t.Context()
			signs := make([]transit.SignRequest, items)
			for i := range signs {
				signs[i] = transit.SignRequest{Input: fmt.Append(nil, i), Reference: fmt.Sprint(i)}
			}
			c.begin()
			signed, err := e.SignBatch(ctx, c.signer, signs)
			c.want(t, "sign", c.ops["sign"], items)
			verifies := make([]transit.VerifyRequest, items)
			for i, r := range done(t, signed, err) {
				verifies[i] = transit.VerifyRequest{SignRequest: signs[i], Signature: r.Value}
			}
			c.begin()
			verified, err := e.VerifyBatch(ctx, c.signer, verifies)
			for i, r := range done(t, verified, err) {
				assert.True(t, r.Value, "signature %d", i)
			}
			ok, err := e.Verify(ctx, c.signer, verifies[1].Signature, signs[0])
			assert.False(t, ok, "the signature of something else")
			require.NoError(t, err)
			_, err = e.Verify(ctx, c.signer, "vault:v1:AAAA", signs[0])
			require.Error(t, err)
			c.want(t, "verify", "", 0)

			for _, key := range []string{c.rsa, c.aes} {
				c.encryptsAndDecrypts(t, key)
			}
			c.begin()
			macs, err := e.HMACBatch(ctx, c.hmac, macRequests())
			done(t, macs, err)
			c.want(t, "HMAC", c.ops["hmac"], items)
		})
	}
}

func (c *counter) encryptsAndDecrypts(t *testing.T, key string) {
	e, ctx := c.engine, t.Context()
	encrypts := make([]transit.EncryptRequest, items)
	for i := range encrypts {
		encrypts[i] = transit.EncryptRequest{Plaintext: fmt.Append(nil, "plaintext ", i), Reference: fmt.Sprint(i)}
	}
	c.begin()
	encrypted, err := e.EncryptBatch(ctx, key, encrypts)
	c.want(t, "encrypt with "+key, c.op("encrypt", key), items*c.key(key).local())
	decrypts, rewraps := make([]transit.DecryptRequest, items), make([]transit.RewrapRequest, items)
	for i, r := range done(t, encrypted, err) {
		decrypts[i] = transit.DecryptRequest{Ciphertext: r.Value, Reference: r.Reference}
		rewraps[i] = transit.RewrapRequest{Ciphertext: r.Value, Reference: r.Reference}
	}
	c.begin()
	decrypted, err := e.DecryptBatch(ctx, key, decrypts)
	c.want(t, "decrypt with "+key, c.op("decrypt", key), items)
	for i, r := range done(t, decrypted, err) {
		assert.Equal(t, encrypts[i].Plaintext, r.Value)
	}
	c.begin()
	rewrapped, err := e.RewrapBatch(ctx, key, rewraps)
	done(t, rewrapped, err)
	if c.key(key).public != nil {
		c.want(t, "rewrap with "+key, c.op("decrypt", key), items)
	}
	c.begin()
	keys, err := e.NewDataKeys(ctx, key, transit.DataKeyRequest{}, items)
	require.NoError(t, err)
	require.Len(t, keys, items)
	c.want(t, "data keys with "+key, c.op("encrypt", key), items*c.key(key).local())
}

func macRequests() []transit.MACRequest {
	requests := make([]transit.MACRequest, items)
	for i := range requests {
		requests[i] = transit.MACRequest{Input: fmt.Append(nil, i), Reference: fmt.Sprint(i)}
	}
	return requests
}

// TestServiceGone: with the services shut down, signatures are verified and data encrypted with public keys as before.
func TestServiceGone(t *testing.T) {
	cloud, awsFake := awsWith(t, only(awsRequests(t), "p256", "rsa-oaep"))
	azure, azureFake := azureWith(t, "managedhsm", hsmRequests()[:2])
	goog, googFake := googleWith(t, only(googleRequests(t), "ec_sign_p256_sha256", "rsa_decrypt_oaep_2048_sha256"))
	for _, c := range []struct {
		place       *place
		signer, rsa string
		close       func() error
	}{
		{cloud, "p256", "rsa-oaep", awsFake.Close},
		{azure, "p256", "rsa", azureFake.Close},
		{goog, "ec_sign_p256_sha256", "rsa_decrypt_oaep_2048_sha256", googFake.Close},
	} {
		t.Run(c.place.name, func(t *testing.T) {
			e, ctx := c.place.engine, t.Context()
			signature, err := e.Sign(ctx, c.signer, transit.SignRequest{Input: message})
			require.NoError(t, err)
			require.NoError(t, c.close())
			ok, err := e.Verify(ctx, c.signer, signature, transit.SignRequest{Input: message})
			require.NoError(t, err)
			assert.True(t, ok)
			text, err := e.Encrypt(ctx, c.rsa, transit.EncryptRequest{Plaintext: message})
			require.NoError(t, err)
			c.place.key(c.rsa).agrees(t, combination{op: &operation{name: "encrypt"}}, text, message, nil, "")
		})
	}
}
