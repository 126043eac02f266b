package gcpckms

import (
	"context"
	"net"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/api/option"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
	"github.com/managedkeys/managedkeys/internal/fakegcp"
)

// fault is a fault that nothing is done of what was asked for.
func fault(op string, answer any) fakecloud.Fault { return fakecloud.Fault{Op: op, Error: answer} }

// Faults that pass are got over, whether the service has done what it was asked to or not.
func TestPassingFaults(t *testing.T) {
	eachOperation(t, nil, func(t *testing.T, r *rig, op operation, _ backend.Key, do do) {
		for name, f := range map[string]fakecloud.Fault{
			"unavailable": fault("", status.New(codes.Unavailable, "x")), "internal": fault("", status.New(codes.Internal, "x")),
			"aborted": fault("", status.New(codes.Aborted, "x")), "exhausted": fault("", status.New(codes.ResourceExhausted, "x")),
			"dropped": {Drop: true}, "no protobuf": {Corrupt: fakegcp.Raw("\xff\xff\xff")}, "HTML": {Corrupt: fakegcp.Raw("<html>")},
			"truncated": {Corrupt: fakegcp.Raw("\x0a\x40name")}, "an empty answer": {Corrupt: fakegcp.Raw{}},
		} {
			for _, after := range []bool{false, true} {
				f.Op, f.After = op.op, after
				r.server.Script.Add(f)
				before := r.server.Log.Count(op.op)
				out, err := do(t.Context())
				require.NoError(t, err, "%s, done: %t", name, after)
				assert.NotEmpty(t, out)
				assert.Equal(t, 2, r.server.Log.Count(op.op)-before, "%s, done: %t", name, after)
			}
		}
	})
}

// Faults that stay are errors, and no answer is made of them.
func TestLastingFaults(t *testing.T) {
	r := newRig(t, nil, nil)
	for name, f := range map[string]fakecloud.Fault{
		"unavailable": fault("", status.New(codes.Unavailable, "x")), "dropped": {Drop: true},
		"garbage": {Corrupt: fakegcp.Raw("\xff\xff\xff")}, "empty": {Corrupt: fakegcp.Raw{}},
	} {
		t.Run(name, func(t *testing.T) {
			b := r.client(&Options{Remote: remote.Options{MaxAttempts: 2}})
			key, err := b.Open(t.Context(), r.add(name, p256, Software))
			require.NoError(t, err)
			t.Cleanup(r.server.Script.Clear)
			f.Op, f.Times = "AsymmetricSign", -1
			r.server.Script.Add(f)
			want := backend.ErrUnavailable
			if name == "empty" {
				want = backend.ErrIntegrity // it is a message, but without name and checksum
			}
			sig, err := signError(t.Context(), key)
			assert.ErrorIs(t, err, want)
			assert.Nil(t, sig)
		})
	}
}

// One operation is one call, and nothing else.
func TestOneCallPerOperation(t *testing.T) {
	eachOperation(t, nil, func(t *testing.T, r *rig, op operation, key backend.Key, do do) {
		r.server.Log.Clear()
		for range 5 {
			_, err := do(t.Context())
			require.NoError(t, err)
		}
		assert.Equal(t, 5, r.server.Log.Count(""))
		assert.Equal(t, 5, r.server.Log.Count(op.op))
		if op.op != "Decrypt" && op.op != "GenerateRandomBytes" { // which name the key without its version, and the location
			assert.Equal(t, key.ID(), r.server.Log.Requests(op.op)[0].Key)
		}
	})
}

// Opening takes one call, two where the algorithm must be found out.
func TestCallsToOpen(t *testing.T) {
	r := newRig(t, nil, nil)
	for alg, calls := range map[Algorithm][2]int{ // with the algorithm given, and without
		p256: {1, 1}, "EC_SIGN_ED25519": {1, 1}, "PQ_SIGN_ML_DSA_65": {1, 2}, "PQ_SIGN_ML_DSA_65_EXTERNAL_MU": {1, 2},
		"HMAC_SHA256": {1, 2}, "GOOGLE_SYMMETRIC_ENCRYPTION": {1, 2},
	} {
		p := r.add(lower(alg), alg, Software)
		for i, p := range []Params{p, {Project: p.Project, Region: p.Region, KeyRing: p.KeyRing, CryptoKey: p.CryptoKey}} {
			r.server.Log.Clear()
			r.open(p)
			assert.Equal(t, calls[i], r.server.Log.Count(""), "%s, given: %t", alg, i == 0)
		}
	}
}

// Where the service says how long to wait, that long is waited.
func TestRetryAfter(t *testing.T) {
	r := newRig(t, nil, nil)
	key := r.open(r.add("ec", p256, Software))
	wait := 700 * time.Millisecond // longer than the first pause can be by itself
	r.server.Script.Add(fault("AsymmetricSign", detailed(codes.ResourceExhausted, "quota", &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})))
	began := time.Now()
	sign(t, t.Context(), key)
	assert.GreaterOrEqual(t, time.Since(began), wait)
	// If it can't end in time, it is not begun.
	r.server.Script.Add(fault("AsymmetricSign", detailed(codes.ResourceExhausted, "quota", &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Hour)})))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	began = time.Now()
	_, err := signError(ctx, key)
	assert.ErrorIs(t, err, backend.ErrThrottled)
	assert.Less(t, time.Since(began), 5*time.Second)
}

// closedPort returns an address at which nobody listens.
func closedPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// A port that refuses connections is an error within a moment, with its cause; and then one within microseconds.
func TestRefusedPort(t *testing.T) {
	b, err := NewFromOptions(t.Context(), nil, option.WithEndpoint(closedPort(t)), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	require.NoError(t, err)
	defer b.Close()
	began := time.Now()
	_, err = b.Open(t.Context(), testParams("k", p256))
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	assert.ErrorContains(t, err, "connection refused")
	assert.Less(t, time.Since(began), 5*time.Second)
	for range 3 { // until the breaker is open
		_, err = b.Open(t.Context(), testParams("k", p256))
		require.ErrorIs(t, err, backend.ErrUnavailable)
	}
	var fastest time.Duration = time.Hour
	for range 20 {
		began := time.Now()
		_, err = b.Open(t.Context(), testParams("k", p256))
		fastest = min(fastest, time.Since(began))
		require.ErrorIs(t, err, backend.ErrUnavailable)
	}
	assert.ErrorContains(t, err, "connection refused", "the cause is told all the same")
	assert.Less(t, fastest, 5*time.Millisecond)
}

// A service that comes back is used again, by handles that were opened before.
func TestServiceComesBack(t *testing.T) {
	r := newRig(t, nil, nil)
	key := r.open(r.add("ec", p256, Software))
	r.server.DropConnections()
	sign(t, t.Context(), key)
	down := fault("", status.New(codes.Unavailable, "down"))
	down.Times = -1
	r.server.Script.Add(down)
	for range 3 {
		_, err := signError(t.Context(), key)
		require.ErrorIs(t, err, backend.ErrUnavailable)
	}
	require.True(t, r.b.given.remote.Down())
	r.server.Script.Clear()
	require.Eventually(t, func() bool {
		_, err := signError(t.Context(), key)
		return err == nil
	}, 30*time.Second, 10*time.Millisecond)
}

// A key that changes under an open handle is an error that says so.
func TestKeyStates(t *testing.T) {
	r := newRig(t, nil, nil)
	for _, state := range []kmspb.CryptoKeyVersion_CryptoKeyVersionState{
		kmspb.CryptoKeyVersion_DISABLED, kmspb.CryptoKeyVersion_DESTROY_SCHEDULED, kmspb.CryptoKeyVersion_DESTROYED,
		kmspb.CryptoKeyVersion_IMPORT_FAILED, kmspb.CryptoKeyVersion_GENERATION_FAILED,
		kmspb.CryptoKeyVersion_PENDING_EXTERNAL_DESTRUCTION,
	} {
		for _, alg := range []Algorithm{p256, "HMAC_SHA256"} {
			p := r.add(lower(alg)+"-"+state.String(), alg, Software)
			key := r.open(p)
			r.setState(p, state)
			_, err := r.b.Open(t.Context(), p)
			assert.ErrorIs(t, err, backend.ErrKeyDisabled, state)
			assert.ErrorContains(t, err, state.String())
			if alg == p256 {
				_, err = signError(t.Context(), key)
			} else {
				_, err = key.(backend.MAC).ComputeMAC(t.Context(), backend.HMACSHA256, []byte("m"))
			}
			assert.ErrorIs(t, err, backend.ErrKeyDisabled, state)
			assert.ErrorContains(t, err, state.String())
			r.setState(p, kmspb.CryptoKeyVersion_ENABLED)
			r.open(p)
		}
	}
}

// Why a key can't be opened is told even if the permission is missing to see it.
func TestDisabledUnseen(t *testing.T) {
	r := newRig(t, nil, nil)
	p := r.add("ec", p256, Software)
	r.setState(p, kmspb.CryptoKeyVersion_DISABLED)
	r.server.Script.Add(fault("GetCryptoKeyVersion", status.New(codes.PermissionDenied, "no")))
	_, err := r.b.Open(t.Context(), p)
	assert.ErrorIs(t, err, backend.ErrKeyDisabled)
	assert.ErrorIs(t, err, backend.ErrNotPermitted)
}

// Panics of the SDK stay inside.
func TestPanic(t *testing.T) {
	r := newRig(t, nil, nil)
	key := r.open(r.add("ec", p256, Software))
	client := r.b.given.client
	r.b.given.client = nil
	_, err := signError(t.Context(), key)
	r.b.given.client = client
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	assert.ErrorContains(t, err, "panicked")
}
