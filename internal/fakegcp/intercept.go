package fakegcp

import (
	"context"
	"fmt"
	"path"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec that ours falls back on
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"

	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// Raw is an answer in bytes, in place of the message that there should be: see [Server].Script.
type Raw []byte

// codec is gRPC's own, which also sends Raw as it is.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	if raw, ok := v.(Raw); ok {
		return mem.BufferSlice{mem.SliceBuffer(raw)}, nil
	}
	return encoding.GetCodecV2("proto").Marshal(v)
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	return encoding.GetCodecV2("proto").Unmarshal(data, v)
}

// intercept authenticates, logs and lets faults happen.
func (s *Server) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	op := path.Base(info.FullMethod)
	id := s.note(ctx, op)
	if !s.opts.Insecure {
		if err := s.authenticate(ctx); err != nil {
			return nil, withID(err, id)
		}
	}
	s.Log.Add(fakecloud.Request{Op: op, Key: resource(req), ID: id})
	fault, met := s.Script.Next(op)
	if met {
		fault.Wait(ctx)
		if fault.Delay > 0 && ctx.Err() != nil { // an answer might still reach the caller, if its clock is later than this one
			return nil, withID(status.FromContextError(ctx.Err()).Err(), id)
		}
		if !fault.After && fault.Corrupt == nil {
			if broken, err := s.fail(ctx, fault); broken {
				return nil, withID(err, id)
			}
		}
	}
	resp, err := handle(ctx, req)
	if err != nil {
		return nil, withID(err, id)
	}
	if !met {
		return resp, nil
	}
	if broken, err := s.fail(ctx, fault); broken {
		return nil, withID(err, id)
	}
	switch corrupt := fault.Corrupt.(type) {
	case nil:
	case func(proto.Message):
		resp = proto.Clone(resp.(proto.Message))
		corrupt(resp.(proto.Message))
	case Raw:
		return corrupt, nil
	default:
		panic(fmt.Sprintf("fakegcp: Corrupt is %T", corrupt))
	}
	return resp, nil
}

// fail answers as the fault says, and reports whether it says anything.
func (s *Server) fail(ctx context.Context, fault fakecloud.Fault) (bool, error) {
	if fault.Drop {
		if p, ok := peer.FromContext(ctx); ok {
			s.listener.drop(p.Addr.String())
		}
		return true, status.Error(codes.Unavailable, "dropped")
	}
	switch e := fault.Error.(type) {
	case nil:
		return false, nil
	case error:
		return true, e
	case *status.Status:
		return true, e.Err()
	default:
		panic(fmt.Sprintf("fakegcp: Error is %T", e))
	}
}

// note keeps the request's metadata and gives it an id.
func (s *Server) note(ctx context.Context, op string) string {
	md, _ := metadata.FromIncomingContext(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metadata[op] = md
	s.requests++
	return fmt.Sprintf("fakegcp-request-%d", s.requests)
}

// withID adds the request's id to the details of err.
func withID(err error, id string) error {
	st := status.Convert(err)
	detailed, failed := st.WithDetails(protoadapt.MessageV1Of(&errdetails.RequestInfo{RequestId: id}))
	if failed != nil { // an OK status has no details
		return err
	}
	return detailed.Err()
}

// resource returns what a request names.
func resource(req any) string {
	switch r := req.(type) {
	case interface{ GetName() string }:
		return r.GetName()
	case interface{ GetParent() string }:
		return r.GetParent()
	case interface{ GetLocation() string }:
		return r.GetLocation()
	}
	return ""
}

// refuse returns the error of an RPC.
func refuse(code codes.Code, format string, args ...any) error {
	return status.Errorf(code, format, args...)
}
