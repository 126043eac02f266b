package fakegcp

import (
	"fmt"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// ring is a key ring.
type ring struct {
	name string
	keys map[string]*key // by name
	jobs map[string]*job // by name
}

func newRing(name string) *ring {
	return &ring{name: name, keys: make(map[string]*key), jobs: make(map[string]*job)}
}

// key is a crypto key.
type key struct {
	pb       *kmspb.CryptoKey
	versions []*version // versions[i] has the number i+1
}

// version is a version of a key.
type version struct {
	pb       *kmspb.CryptoKeyVersion
	key      *key
	alg      algorithm
	material material // nil once it was destroyed
	pending  int      // how many more times it is seen as pending
}

// AddKeyRing makes a key ring, if there is none of that name yet, and returns its name:
// "projects/p/locations/l/keyRings/r".
func (s *Server) AddKeyRing(project, location, id string) string {
	name := fmt.Sprintf("projects/%s/locations/%s/keyRings/%s", project, location, id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rings[name] == nil {
		s.rings[name] = newRing(name)
	}
	return name
}

// AddKey makes a key with one version, ready for use, and returns the name of the version.
func (s *Server) AddKey(ringName, id string, alg kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm, level kmspb.ProtectionLevel) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rings[ringName]
	if r == nil {
		return "", refuse(codes.NotFound, "KeyRing %s not found.", ringName)
	}
	k, err := r.create(id, &kmspb.CryptoKey{
		Purpose:         algorithms[alg].purpose,
		VersionTemplate: &kmspb.CryptoKeyVersionTemplate{Algorithm: alg, ProtectionLevel: level},
	})
	if err != nil {
		return "", err
	}
	v, err := k.addVersion(0)
	if err != nil {
		return "", err
	}
	return v.pb.Name, nil
}

// AddVersion makes a further version of a key, ready for use, and returns its name.
func (s *Server) AddVersion(key string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.key(key)
	if err != nil {
		return "", err
	}
	v, err := k.addVersion(0)
	if err != nil {
		return "", err
	}
	return v.pb.Name, nil
}

// Change changes the description of a version, such as its state, as an administrator or time does.
func (s *Server) Change(version string, change func(*kmspb.CryptoKeyVersion)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.version(version)
	if err != nil {
		return err
	}
	change(v.pb)
	return nil
}

// Versions returns how many versions a key has, whatever their state; 0 if there is no such key.
func (s *Server) Versions(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.key(key)
	if err != nil {
		return 0
	}
	return len(k.versions)
}

// create adds a key without versions. The caller holds the lock.
func (r *ring) create(id string, pb *kmspb.CryptoKey) (*key, error) {
	if !plainID.MatchString(id) {
		return nil, refuse(codes.InvalidArgument, "crypto_key_id %.100q is malformed.", id)
	}
	name := r.name + "/cryptoKeys/" + id
	if r.keys[name] != nil {
		return nil, refuse(codes.AlreadyExists, "CryptoKey %s already exists.", name)
	}
	pb = proto.Clone(pb).(*kmspb.CryptoKey)
	template := pb.GetVersionTemplate()
	if template == nil {
		template = new(kmspb.CryptoKeyVersionTemplate)
		pb.VersionTemplate = template
	}
	if template.Algorithm == 0 && pb.Purpose == kmspb.CryptoKey_ENCRYPT_DECRYPT {
		template.Algorithm = kmspb.CryptoKeyVersion_GOOGLE_SYMMETRIC_ENCRYPTION
	}
	if template.ProtectionLevel == 0 {
		template.ProtectionLevel = kmspb.ProtectionLevel_SOFTWARE
	}
	if a, ok := algorithms[template.Algorithm]; !ok || a.purpose != pb.Purpose {
		return nil, refuse(codes.InvalidArgument, "Algorithm %v is not valid for purpose %v.", template.Algorithm, pb.Purpose)
	}
	pb.Name, pb.CreateTime, pb.Primary = name, timestamppb.Now(), nil
	k := &key{pb: pb}
	r.keys[name] = k
	return k, nil
}

// addVersion generates a version of the key's template. The caller holds the lock.
func (k *key) addVersion(pending int) (*version, error) {
	template := k.pb.VersionTemplate
	m, err := generate(algorithms[template.Algorithm])
	if err != nil {
		return nil, refuse(codes.Internal, "%v", err)
	}
	v := k.append(template.Algorithm, m)
	v.pb.GenerateTime = timestamppb.Now()
	if pending > 0 && v.alg.asymmetric() {
		v.pending, v.pb.State = pending, kmspb.CryptoKeyVersion_PENDING_GENERATION
	}
	return v, nil
}

// append adds a version with the material. The caller holds the lock.
func (k *key) append(a alg, m material) *version {
	v := &version{key: k, alg: algorithms[a], material: m, pb: &kmspb.CryptoKeyVersion{
		Name:            fmt.Sprintf("%s/cryptoKeyVersions/%d", k.pb.Name, len(k.versions)+1),
		State:           kmspb.CryptoKeyVersion_ENABLED,
		ProtectionLevel: k.pb.VersionTemplate.ProtectionLevel,
		Algorithm:       a,
		CreateTime:      timestamppb.Now(),
	}}
	if v.pb.ProtectionLevel == kmspb.ProtectionLevel_HSM {
		v.pb.Attestation = attest(v.pb.Name)
	}
	k.versions = append(k.versions, v)
	if k.pb.Purpose == kmspb.CryptoKey_ENCRYPT_DECRYPT && k.pb.Primary == nil {
		k.pb.Primary = v.pb
	}
	return v
}

// see counts a look at a version that is pending, after which it may be ready. The caller holds the lock.
func (v *version) see() {
	if v.pending > 0 {
		if v.pending--; v.pending == 0 {
			v.pb.State = kmspb.CryptoKeyVersion_ENABLED
		}
	}
}

// key and version look up what a name says. The caller holds the lock.
func (s *Server) key(name string) (*key, error) {
	parts, err := parse(keyName, name)
	if err != nil {
		return nil, err
	}
	if r := s.rings[parts[0]]; r != nil && r.keys[name] != nil {
		return r.keys[name], nil
	}
	return nil, refuse(codes.NotFound, "CryptoKey %s not found.", name)
}

func (s *Server) version(name string) (*version, error) {
	parts, err := parse(versionName, name)
	if err != nil {
		return nil, err
	}
	k, err := s.key(parts[0])
	if err != nil {
		return nil, err
	}
	for _, v := range k.versions {
		if v.pb.Name == name {
			return v, nil
		}
	}
	return nil, refuse(codes.NotFound, "CryptoKeyVersion %s not found.", name)
}

// usable returns a version that is enabled and has the purpose. It may be used after the lock was released.
func (s *Server) usable(name string, purpose kmspb.CryptoKey_CryptoKeyPurpose) (version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.version(name)
	if err != nil {
		return version{}, err
	}
	if err := v.enabled(); err != nil {
		return version{}, err
	}
	if v.alg.purpose != purpose {
		return version{}, refuse(codes.FailedPrecondition, "Keys with algorithm %v may not be used for %v.", v.pb.Algorithm, purpose)
	}
	out := *v
	out.pb = proto.Clone(v.pb).(*kmspb.CryptoKeyVersion)
	return out, nil
}

func (v *version) enabled() error {
	if v.pb.State != kmspb.CryptoKeyVersion_ENABLED {
		return refuse(codes.FailedPrecondition, "%s is not enabled, current state is: %v.", v.pb.Name, v.pb.State)
	}
	return nil
}

// attest returns what stands for the statement of an HSM.
func attest(name string) *kmspb.KeyOperationAttestation {
	return &kmspb.KeyOperationAttestation{
		Format:     kmspb.KeyOperationAttestation_CAVIUM_V2_COMPRESSED,
		Content:    []byte("fakegcp attests " + name + " of " + time.Now().UTC().Format(time.RFC3339)),
		CertChains: &kmspb.KeyOperationAttestation_CertificateChains{CaviumCerts: []string{attestationCert()}},
	}
}
