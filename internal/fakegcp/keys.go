package fakegcp

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// number returns the number of the version within its key.
func (v *version) number() uint32 {
	_, id, _ := strings.Cut(v.pb.Name, "/cryptoKeyVersions/")
	n, _ := strconv.ParseUint(id, 10, 32) // the name is the fake's own
	return uint32(n)
}

func (s service) GetKeyRing(_ context.Context, req *kmspb.GetKeyRingRequest) (*kmspb.KeyRing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.ring(req.Name); err != nil {
		return nil, err
	}
	return &kmspb.KeyRing{Name: req.Name}, nil
}

func (s service) CreateKeyRing(_ context.Context, req *kmspb.CreateKeyRingRequest) (*kmspb.KeyRing, error) {
	if _, err := parse(locationName, req.Parent); err != nil {
		return nil, err
	}
	name := req.Parent + "/keyRings/" + req.KeyRingId
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := parse(ringName, name); err != nil {
		return nil, err
	}
	if s.rings[name] != nil {
		return nil, refuse(codes.AlreadyExists, "KeyRing %s already exists.", name)
	}
	s.rings[name] = newRing(name)
	return &kmspb.KeyRing{Name: name}, nil
}

func (s service) GetCryptoKey(_ context.Context, req *kmspb.GetCryptoKeyRequest) (*kmspb.CryptoKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.key(req.Name)
	if err != nil {
		return nil, err
	}
	return proto.Clone(k.pb).(*kmspb.CryptoKey), nil
}

func (s service) GetCryptoKeyVersion(_ context.Context, req *kmspb.GetCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.version(req.Name)
	if err != nil {
		return nil, err
	}
	out := proto.Clone(v.pb).(*kmspb.CryptoKeyVersion)
	v.see()
	return out, nil
}

func (s service) CreateCryptoKey(_ context.Context, req *kmspb.CreateCryptoKeyRequest) (*kmspb.CryptoKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.ring(req.Parent)
	if err != nil {
		return nil, err
	}
	if req.CryptoKey == nil {
		return nil, refuse(codes.InvalidArgument, "crypto_key is required.")
	}
	if req.CryptoKey.ImportOnly && !req.SkipInitialVersionCreation {
		return nil, refuse(codes.InvalidArgument, "An import-only key has no initial version.")
	}
	k, err := r.create(req.CryptoKeyId, req.CryptoKey)
	if err != nil {
		return nil, err
	}
	if !req.SkipInitialVersionCreation {
		if _, err := k.addVersion(s.opts.GenerationReads); err != nil {
			return nil, err
		}
	}
	return proto.Clone(k.pb).(*kmspb.CryptoKey), nil
}

func (s service) CreateCryptoKeyVersion(_ context.Context, req *kmspb.CreateCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.key(req.Parent)
	if err != nil {
		return nil, err
	}
	if k.pb.ImportOnly {
		return nil, refuse(codes.FailedPrecondition, "%s is import-only.", k.pb.Name)
	}
	v, err := k.addVersion(s.opts.GenerationReads)
	if err != nil {
		return nil, err
	}
	return proto.Clone(v.pb).(*kmspb.CryptoKeyVersion), nil
}

func (s service) DestroyCryptoKeyVersion(_ context.Context, req *kmspb.DestroyCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.version(req.Name)
	if err != nil {
		return nil, err
	}
	switch v.pb.State {
	case kmspb.CryptoKeyVersion_ENABLED, kmspb.CryptoKeyVersion_DISABLED:
		v.pb.State = kmspb.CryptoKeyVersion_DESTROY_SCHEDULED
	default:
		return nil, refuse(codes.FailedPrecondition, "%s can't be destroyed, current state is: %v.", v.pb.Name, v.pb.State)
	}
	return proto.Clone(v.pb).(*kmspb.CryptoKeyVersion), nil
}

func (s service) UpdateCryptoKeyPrimaryVersion(_ context.Context, req *kmspb.UpdateCryptoKeyPrimaryVersionRequest) (*kmspb.CryptoKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.version(req.Name + "/cryptoKeyVersions/" + req.CryptoKeyVersionId)
	if err != nil {
		return nil, err
	}
	v.key.pb.Primary = v.pb
	return proto.Clone(v.key.pb).(*kmspb.CryptoKey), nil
}

func (s service) ListCryptoKeys(_ context.Context, req *kmspb.ListCryptoKeysRequest) (*kmspb.ListCryptoKeysResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.ring(req.Parent)
	if err != nil {
		return nil, err
	}
	var all []*kmspb.CryptoKey
	for _, k := range r.keys {
		all = append(all, proto.Clone(k.pb).(*kmspb.CryptoKey))
	}
	slices.SortFunc(all, func(a, b *kmspb.CryptoKey) int { return strings.Compare(a.Name, b.Name) })
	some, next, err := page(all, req.PageSize, req.PageToken, s.opts.PageSize)
	return &kmspb.ListCryptoKeysResponse{CryptoKeys: some, NextPageToken: next, TotalSize: int32(len(all))}, err
}

func (s service) ListCryptoKeyVersions(_ context.Context, req *kmspb.ListCryptoKeyVersionsRequest) (*kmspb.ListCryptoKeyVersionsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.key(req.Parent)
	if err != nil {
		return nil, err
	}
	if req.Filter != "" && req.Filter != "state=ENABLED" || req.OrderBy != "" && req.OrderBy != "name desc" {
		return nil, refuse(codes.Unimplemented, "The fake has no filter %q and no order %q.", req.Filter, req.OrderBy)
	}
	var all []*kmspb.CryptoKeyVersion
	for _, v := range k.versions {
		out := proto.Clone(v.pb).(*kmspb.CryptoKeyVersion)
		v.see()
		if req.View != kmspb.CryptoKeyVersion_FULL {
			out.Attestation = nil
		}
		if req.Filter == "" || out.State == kmspb.CryptoKeyVersion_ENABLED {
			all = append(all, out)
		}
	}
	if req.OrderBy != "" {
		slices.Reverse(all)
	}
	some, next, err := page(all, req.PageSize, req.PageToken, s.opts.PageSize)
	return &kmspb.ListCryptoKeyVersionsResponse{CryptoKeyVersions: some, NextPageToken: next, TotalSize: int32(len(all))}, err
}

// page returns the part of all that begins with token, and the token of the next part.
func page[T any](all []T, size int32, token string, limit int) (some []T, next string, err error) {
	begin := 0
	if token != "" {
		if begin, err = strconv.Atoi(token); err != nil || begin < 0 || begin > len(all) {
			return nil, "", refuse(codes.InvalidArgument, "The page token %.40q is not one of this service.", token)
		}
	}
	if size > 0 {
		limit = min(limit, int(size))
	}
	end := min(begin+limit, len(all))
	if end < len(all) {
		next = strconv.Itoa(end)
	}
	return all[begin:end], next, nil
}

// ring looks up a key ring. The caller holds the lock.
func (s *Server) ring(name string) (*ring, error) {
	if _, err := parse(ringName, name); err != nil {
		return nil, err
	}
	if r := s.rings[name]; r != nil {
		return r, nil
	}
	return nil, refuse(codes.NotFound, "KeyRing %s not found.", name)
}
