package fakegcp

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/pem"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"filippo.io/mldsa"
	mldsax509 "filippo.io/mldsa/x509"
	kwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/managedkeys/managedkeys/backend"
)

// job is an import job.
type job struct {
	pb      *kmspb.ImportJob
	key     *rsa.PrivateKey
	pending int
}

// ExpireJobs has all import jobs of a key ring expire, as three days do.
func (s *Server) ExpireJobs(ringName string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.rings[ringName].jobs {
		j.pb.State, j.pb.PublicKey = kmspb.ImportJob_EXPIRED, nil
	}
}

func (s service) CreateImportJob(_ context.Context, req *kmspb.CreateImportJobRequest) (*kmspb.ImportJob, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.ring(req.Parent)
	if err != nil {
		return nil, err
	}
	name := r.name + "/importJobs/" + req.ImportJobId
	switch {
	case !plainID.MatchString(req.ImportJobId):
		return nil, refuse(codes.InvalidArgument, "import_job_id %.100q is malformed.", req.ImportJobId)
	case r.jobs[name] != nil:
		return nil, refuse(codes.AlreadyExists, "ImportJob %s already exists.", name)
	case req.ImportJob.GetImportMethod() != kmspb.ImportJob_RSA_OAEP_3072_SHA256_AES_256:
		return nil, refuse(codes.InvalidArgument, "The fake has no import method %v.", req.ImportJob.GetImportMethod())
	case req.ImportJob.ProtectionLevel == 0:
		return nil, refuse(codes.InvalidArgument, "protection_level is required.")
	}
	wrapping, err := rsaKeys.generate(3072)
	if err != nil {
		return nil, refuse(codes.Internal, "%v", err)
	}
	j := &job{key: wrapping, pending: s.opts.GenerationReads, pb: &kmspb.ImportJob{
		Name: name, ImportMethod: req.ImportJob.ImportMethod, ProtectionLevel: req.ImportJob.ProtectionLevel,
		CreateTime: timestamppb.Now(), ExpireTime: timestamppb.New(time.Now().Add(72 * time.Hour)),
		State: kmspb.ImportJob_PENDING_GENERATION,
	}}
	r.jobs[name] = j
	return j.see()
}

// see returns the job's description and makes it active when its time has come. The caller holds the lock.
func (j *job) see() (*kmspb.ImportJob, error) {
	if j.pb.State == kmspb.ImportJob_PENDING_GENERATION {
		if j.pending--; j.pending < 0 {
			der, err := backend.SubjectPublicKeyInfo(j.key.Public())
			if err != nil {
				return nil, refuse(codes.Internal, "%v", err)
			}
			j.pb.State = kmspb.ImportJob_ACTIVE
			j.pb.PublicKey = &kmspb.ImportJob_WrappingPublicKey{Pem: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
		}
	}
	return proto.Clone(j.pb).(*kmspb.ImportJob), nil
}

func (s service) GetImportJob(_ context.Context, req *kmspb.GetImportJobRequest) (*kmspb.ImportJob, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, err := s.job(req.Name)
	if err != nil {
		return nil, err
	}
	return j.see()
}

func (s service) ImportCryptoKeyVersion(_ context.Context, req *kmspb.ImportCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.key(req.Parent)
	if err != nil {
		return nil, err
	}
	j, err := s.job(req.ImportJob)
	if err != nil {
		return nil, err
	}
	a := algorithms[req.Algorithm]
	switch {
	case j.pb.State != kmspb.ImportJob_ACTIVE:
		return nil, refuse(codes.FailedPrecondition, "%s is not active, current state is: %v.", j.pb.Name, j.pb.State)
	case a.purpose != k.pb.Purpose:
		return nil, refuse(codes.InvalidArgument, "Algorithm %v is not valid for purpose %v.", req.Algorithm, k.pb.Purpose)
	case j.pb.ProtectionLevel != k.pb.VersionTemplate.ProtectionLevel:
		return nil, refuse(codes.InvalidArgument, "The import job has protection level %v, the key %v.", j.pb.ProtectionLevel, k.pb.VersionTemplate.ProtectionLevel)
	}
	m, reason := unwrap(j.key, req.WrappedKey, a)
	v, err := s.importInto(k, req, m)
	if err != nil {
		return nil, err
	}
	v.pb.ImportJob, v.pb.ImportTime = j.pb.Name, timestamppb.Now()
	v.pb.ImportFailureReason = reason
	v.pending, v.pb.State = 0, kmspb.CryptoKeyVersion_ENABLED
	switch {
	case reason != "":
		v.pb.State = kmspb.CryptoKeyVersion_IMPORT_FAILED
	case s.opts.GenerationReads > 0:
		v.pending, v.pb.State = s.opts.GenerationReads, kmspb.CryptoKeyVersion_PENDING_IMPORT
	}
	return proto.Clone(v.pb).(*kmspb.CryptoKeyVersion), nil
}

// importInto returns the version that the material goes into: a new one, or one whose import failed.
func (s *Server) importInto(k *key, req *kmspb.ImportCryptoKeyVersionRequest, m material) (*version, error) {
	if req.CryptoKeyVersion == "" {
		return k.append(req.Algorithm, m), nil
	}
	v, err := s.version(req.CryptoKeyVersion)
	switch {
	case err != nil:
		return nil, err
	case v.pb.State != kmspb.CryptoKeyVersion_IMPORT_FAILED:
		return nil, refuse(codes.FailedPrecondition, "%s can't be imported again, current state is: %v.", v.pb.Name, v.pb.State)
	}
	v.material, v.alg, v.pb.Algorithm = m, algorithms[req.Algorithm], req.Algorithm
	return v, nil
}

// unwrap decrypts an imported key (CKM_RSA_AES_KEY_WRAP: PKCS #11 v3.1, Section 6.1.26) and returns it, or what is wrong.
func unwrap(wrapping *rsa.PrivateKey, wrapped []byte, a algorithm) (material, string) {
	size := wrapping.Size()
	if len(wrapped) <= size {
		return nil, "The wrapped key is too short."
	}
	ephemeral, err := rsa.DecryptOAEP(sha256.New(), rand.Reader, wrapping, wrapped[:size], nil)
	if err != nil || len(ephemeral) != 32 {
		return nil, "The ephemeral key can't be unwrapped."
	}
	w, err := kwp.NewKWP(ephemeral)
	if err != nil {
		return nil, err.Error()
	}
	plain, err := w.Unwrap(wrapped[size:])
	if err != nil {
		return nil, "The key material can't be unwrapped."
	}
	if !a.asymmetric() {
		if a.bits > 0 && len(plain) != a.bits/8 || a.bits == 0 && len(plain) != a.hash.Size() {
			return nil, "The key material has the wrong length."
		}
		return plain, ""
	}
	parsed, err := mldsax509.ParsePKCS8PrivateKey(plain)
	if err != nil || !fits(parsed, a) {
		return nil, "The key material is not a PKCS #8 key of the algorithm."
	}
	return parsed, ""
}

// fits reports whether a private key is of the algorithm.
func fits(m any, a algorithm) bool {
	switch key := m.(type) {
	case *rsa.PrivateKey:
		return key.N.BitLen() == a.bits
	case *ecdsa.PrivateKey:
		return a.curve != nil && key.Curve == elliptic.Curve(a.curve)
	case ed25519.PrivateKey:
		return a.ed25519
	case *mldsa.PrivateKey:
		return key.PublicKey().Parameters() == a.mldsa
	}
	return false
}

// job looks up an import job. The caller holds the lock.
func (s *Server) job(name string) (*job, error) {
	parts, err := parse(jobName, name)
	if err != nil {
		return nil, err
	}
	if r := s.rings[parts[0]]; r != nil && r.jobs[name] != nil {
		return r.jobs[name], nil
	}
	return nil, refuse(codes.NotFound, "ImportJob %s not found.", name)
}
