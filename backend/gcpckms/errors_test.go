package gcpckms

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
)

// damaged is what the service says of a request whose checksum is wrong.
var damaged = status.New(codes.InvalidArgument, "The checksum in field digest_crc32c did not match the data in field digest.")

// detailed returns an error of the service with details.
func detailed(code codes.Code, message string, details ...protoadapt.MessageV1) error {
	return must(status.New(code, message).WithDetails(details...)).Err()
}

func TestClassify(t *testing.T) {
	scope := detailed(codes.PermissionDenied, "scope", &errdetails.ErrorInfo{Reason: "ACCESS_TOKEN_SCOPE_INSUFFICIENT", Domain: "googleapis.com"})
	quota := detailed(codes.ResourceExhausted, "quota", &errdetails.RetryInfo{RetryDelay: durationpb.New(3 * time.Second)})
	for _, test := range []struct {
		err      error
		sentinel error
		kind     remote.Kind
		after    time.Duration
	}{
		{status.Error(codes.NotFound, "x"), backend.ErrKeyNotFound, remote.Final, 0},
		{status.Error(codes.AlreadyExists, "x"), backend.ErrKeyExists, remote.Final, 0},
		{status.Error(codes.PermissionDenied, "x"), backend.ErrNotPermitted, remote.Final, 0},
		{scope, backend.ErrCredentials, remote.Final, 0},
		{status.Error(codes.Unauthenticated, "x"), backend.ErrCredentials, remote.Final, 0},
		{status.Error(codes.FailedPrecondition, "x"), backend.ErrKeyDisabled, remote.Final, 0},
		{external{status.Error(codes.FailedPrecondition, "x")}, backend.ErrUnavailable, remote.Final, 0},
		{external{status.Error(codes.NotFound, "x")}, backend.ErrKeyNotFound, remote.Final, 0},
		{status.Error(codes.ResourceExhausted, "x"), backend.ErrThrottled, remote.Throttled, 0},
		{quota, backend.ErrThrottled, remote.Throttled, 3 * time.Second},
		{status.Error(codes.InvalidArgument, "x"), backend.ErrInvalidParams, remote.Final, 0},
		{status.Error(codes.OutOfRange, "x"), backend.ErrInvalidParams, remote.Final, 0},
		{damaged.Err(), backend.ErrIntegrity, remote.Damaged, 0},
		{status.Error(codes.DataLoss, "x"), backend.ErrIntegrity, remote.Damaged, 0},
		{status.Error(codes.Unimplemented, "x"), backend.ErrUnsupported, remote.Final, 0},
		{status.Error(codes.Unavailable, "x"), backend.ErrUnavailable, remote.Transient, 0},
		{unreached{status.Error(codes.Unavailable, "x")}, backend.ErrUnavailable, remote.Unreached, 0},
		{status.Error(codes.DeadlineExceeded, "x"), backend.ErrUnavailable, remote.Transient, 0},
		{status.Error(codes.Internal, "x"), backend.ErrUnavailable, remote.Transient, 0},
		{status.Error(codes.Aborted, "x"), backend.ErrUnavailable, remote.Transient, 0},
		{status.Error(codes.Unknown, "x"), backend.ErrUnavailable, remote.Transient, 0},
		{status.Error(codes.Canceled, "x"), backend.ErrUnavailable, remote.Transient, 0},
		{status.Error(codes.Code(4711), "x"), backend.ErrUnavailable, remote.Transient, 0},
		{io.ErrUnexpectedEOF, backend.ErrUnavailable, remote.Transient, 0},
		{fmt.Errorf("x: %w", backend.ErrDecryption), backend.ErrDecryption, remote.Final, 0},
		{fmt.Errorf("x: %w", backend.ErrIntegrity), backend.ErrIntegrity, remote.Damaged, 0},
		{fmt.Errorf("x: %w", backend.ErrUnsupported), backend.ErrUnsupported, remote.Final, 0},
	} {
		v := classify(test.err)
		assert.ErrorIs(t, v.Err, test.sentinel, test.err)
		assert.ErrorIs(t, v.Err, test.err, "the service's own error is in the chain")
		assert.Equal(t, test.kind, v.Kind, test.err)
		assert.Equal(t, test.after, v.After, test.err)
	}
}

func TestErrorText(t *testing.T) {
	err := detailed(codes.PermissionDenied, "Permission denied\non \x1b[31mresource.",
		&errdetails.ErrorInfo{Reason: "IAM_PERMISSION_DENIED"}, &errdetails.RequestInfo{RequestId: "abc-1"})
	assert.EqualError(t, classify(err).Err,
		"not permitted: PERMISSION_DENIED, reason IAM_PERMISSION_DENIED, request id abc-1: Permission denied on  [31mresource.")
	long := classify(status.Error(codes.Internal, strings.Repeat("x", 10*maxMessage))).Err
	assert.Less(t, len(long.Error()), 2*maxMessage)
}

// Every code of the service, from every operation, is the sentinel that it stands for, with the service's words.
func TestServiceErrors(t *testing.T) {
	eachOperation(t, quick, func(t *testing.T, r *rig, op operation, _ backend.Key, do do) {
		for code, want := range map[codes.Code]error{
			codes.NotFound: backend.ErrKeyNotFound, codes.PermissionDenied: backend.ErrNotPermitted,
			codes.Unauthenticated: backend.ErrCredentials, codes.FailedPrecondition: backend.ErrKeyDisabled,
			codes.ResourceExhausted: backend.ErrThrottled, codes.InvalidArgument: backend.ErrInvalidParams,
			codes.Unimplemented: backend.ErrUnsupported, codes.Internal: backend.ErrUnavailable,
		} {
			r.server.Script.Add(fault(op.op, status.Error(code, "the service's words")))
			out, err := do(t.Context())
			assert.Empty(t, out)
			if strings.HasSuffix(op.op, "Decrypt") && code == codes.InvalidArgument {
				assert.Equal(t, backend.ErrDecryption, err, "and nothing else, since the reason would help to forge")
				continue
			}
			require.ErrorIs(t, err, want, code)
			assert.ErrorContains(t, err, "the service's words")
			assert.ErrorContains(t, err, "request id fakegcp-request-")
			assert.ErrorContains(t, err, op.op)
			var api interface{ GRPCStatus() *status.Status }
			require.True(t, errors.As(err, &api), "the SDK's error is in the chain")
			assert.Equal(t, code, api.GRPCStatus().Code())
		}
	})
}

// A deadline that passes is not the service's failure alone, but is ErrUnavailable.
func TestDeadline(t *testing.T) {
	r := newRig(t, nil, nil)
	key := r.open(r.add("ec", p256, Software))
	slow := fault("AsymmetricSign", nil)
	slow.Delay, slow.Times = time.Hour, -1
	r.server.Script.Add(slow)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := signError(ctx, key)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = signError(cancelled, key)
	assert.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, backend.ErrUnavailable)
}
