package fakeaws

import (
	"strings"
	"time"
)

// request has the members of all requests that the server takes.
type request struct {
	KeyId, AliasName, TargetKeyId                               string
	KeySpec, CustomerMasterKeySpec, KeyUsage, Origin            string
	Description, Policy, ReplicaRegion                          string
	MultiRegion                                                 bool
	Tags                                                        []tag
	SigningAlgorithm, MessageType                               string
	EncryptionAlgorithm, MacAlgorithm                           string
	KeyAgreementAlgorithm, EncapsulationAlgorithm               string
	Message, Signature, Mac, Plaintext, CiphertextBlob          []byte
	PublicKey, SharedSecretCiphertextBlob                       []byte
	EncryptionContext                                           map[string]string
	NumberOfBytes                                               int
	WrappingAlgorithm, WrappingKeySpec, ExpirationModel, Marker string
	EncryptedKeyMaterial, ImportToken                           []byte
	ValidTo                                                     float64
	Limit, PendingWindowInDays                                  int
	GrantTokens                                                 []string
	DryRun                                                      bool
	GranteePrincipal, RetiringPrincipal                         string
}

// operation is one of the service's. handle is called with Server.mu held, if key is set with the key that the request
// names.
type operation struct {
	handle func(s *Server, r *region, k *key, req *request) (map[string]any, *Error)
	byKey  bool // the request names a key
	uses   bool // the key must be enabled
	long   bool // handle is called without Server.mu, and the key is a copy: cryptography takes long
}

var operations = map[string]operation{
	"CreateKey":              {handle: createKey, long: true},
	"DescribeKey":            {handle: describeKey, byKey: true},
	"GetPublicKey":           {handle: getPublicKey, byKey: true},
	"GetKeyPolicy":           {handle: getKeyPolicy, byKey: true},
	"ListKeys":               {handle: listKeys},
	"ListAliases":            {handle: listAliases},
	"ListResourceTags":       {handle: listResourceTags, byKey: true},
	"CreateAlias":            {handle: createAlias},
	"UpdateAlias":            {handle: updateAlias},
	"DeleteAlias":            {handle: deleteAlias},
	"EnableKey":              {handle: setState("Enabled"), byKey: true},
	"DisableKey":             {handle: setState("Disabled"), byKey: true},
	"ReplicateKey":           {handle: replicateKey, byKey: true},
	"UpdateKeyDescription":   {handle: updateKeyDescription, byKey: true},
	"ScheduleKeyDeletion":    {handle: scheduleKeyDeletion, byKey: true},
	"CancelKeyDeletion":      {handle: setState("Disabled"), byKey: true},
	"CreateGrant":            {handle: createGrant, byKey: true},
	"GetParametersForImport": {handle: getParametersForImport, byKey: true},
	"ImportKeyMaterial":      {handle: importKeyMaterial, byKey: true},
	"Sign":                   {handle: signMessage, byKey: true, uses: true, long: true},
	"Verify":                 {handle: verifySignature, byKey: true, uses: true, long: true},
	"Encrypt":                {handle: encrypt, byKey: true, uses: true, long: true},
	"Decrypt":                {handle: decrypt, uses: true, byKey: true, long: true},
	"GenerateMac":            {handle: generateMAC, byKey: true, uses: true, long: true},
	"VerifyMac":              {handle: verifyMAC, byKey: true, uses: true, long: true},
	"DeriveSharedSecret":     {handle: deriveSharedSecret, byKey: true, uses: true, long: true},
	"Encapsulate":            {handle: encapsulate, byKey: true, uses: true, long: true},
	"Decapsulate":            {handle: decapsulate, byKey: true, uses: true, long: true},
	"GenerateRandom":         {handle: generateRandom, long: true},
}

// perform does what a request asks for that was authenticated for a Region.
func (s *Server) perform(op string, at string, req *request) (map[string]any, *Error) {
	o, known := operations[op]
	if !known {
		return nil, errorf("UnknownOperationException", "%s", op)
	}
	s.mu.Lock()
	locked := true
	defer func() {
		if locked {
			s.mu.Unlock()
		}
	}()
	if s.denied[op] && !s.granted(req.GrantTokens) {
		return nil, errorf("AccessDeniedException", "User: arn:aws:iam::%s:user/fake is not authorized to perform: kms:%s", Account, op)
	}
	r := s.inRegion(at)
	var k *key
	if o.byKey {
		var fail *Error
		if k, fail = s.find(r, op, req); fail != nil {
			return nil, fail
		}
		if o.uses {
			if fail := k.usable(); fail != nil {
				return nil, fail
			}
		}
	}
	if o.long {
		if k != nil {
			copied := *k
			k = &copied
		}
		s.mu.Unlock()
		locked = false
	}
	return o.handle(s, r, k, req)
}

func (s *Server) granted(tokens []string) bool {
	for _, token := range tokens {
		if s.grants[token] {
			return true
		}
	}
	return false
}

// find returns the key that a request names: by id, ARN, alias or ARN of an alias.
func (s *Server) find(r *region, op string, req *request) (*key, *Error) {
	id := req.KeyId
	if id == "" && op == "Decrypt" { // then the ciphertext says which key it is
		id = ciphertextKey(req.CiphertextBlob)
		if id == "" {
			return nil, errorf("InvalidCiphertextException", "")
		}
	}
	if id == "" {
		return nil, errorf("ValidationException", "1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null")
	}
	if len(id) > 2048 {
		return nil, errorf("ValidationException",
			"1 validation error detected: Value at 'keyId' failed to satisfy constraint: Member must have length less than or equal to 2048")
	}
	if strings.HasPrefix(id, "arn:") {
		parts := strings.SplitN(id, ":", 6)
		if len(parts) != 6 || parts[2] != "kms" {
			return nil, errorf("InvalidArnException", "Invalid arn %s", id)
		}
		if parts[3] != r.name {
			return nil, errorf("NotFoundException", "Invalid arn %s", parts[3])
		}
		if parts[4] != Account {
			return nil, errorf("AccessDeniedException",
				"User: arn:aws:iam::%s:user/fake is not authorized to perform: kms:%s on this resource because the resource does not exist in this Region", Account, op)
		}
		id = strings.TrimPrefix(parts[5], "key/")
	}
	if strings.HasPrefix(id, "alias/") {
		a := r.aliases[id]
		if a == nil {
			return nil, errorf("NotFoundException", "Alias %s is not found.", aliasARN(r.name, id))
		}
		id = a.target
	}
	k := r.keys[id]
	if k == nil {
		return nil, errorf("NotFoundException", "Key 'arn:aws:kms:%s:%s:key/%s' does not exist", r.name, Account, id)
	}
	return k, nil
}

// usable returns why a key can't be used now.
func (k *key) usable() *Error {
	switch k.state {
	case "Enabled":
		return nil
	case "Disabled":
		return errorf("DisabledException", "%s is disabled.", k.arn())
	case "Unavailable":
		return &Error{Status: 500, Code: "KeyUnavailableException", Message: k.arn() + " is unavailable."}
	}
	return errorf("KMSInvalidStateException", "%s is %s.", k.arn(), k.state)
}

// tooLong returns the error for a member of a request whose length is not in the limits, in bytes.
func tooLong(member string, n, least, most int) *Error {
	if n < least {
		return errorf("ValidationException",
			"1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have length greater than or equal to %d", member, least)
	}
	if n > most {
		return errorf("ValidationException",
			"1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have length less than or equal to %d", member, most)
	}
	return nil
}

// dry is the answer to a request that would have succeeded.
func dry() *Error {
	return errorf("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
}

func setState(state string) func(*Server, *region, *key, *request) (map[string]any, *Error) {
	return func(_ *Server, _ *region, k *key, _ *request) (map[string]any, *Error) {
		if k.state == "PendingDeletion" && state == "Enabled" {
			return nil, k.usable()
		}
		k.state = state
		return map[string]any{"KeyId": k.arn()}, nil
	}
}

func scheduleKeyDeletion(_ *Server, _ *region, k *key, req *request) (map[string]any, *Error) {
	days := req.PendingWindowInDays
	if days == 0 {
		days = 30
	}
	switch {
	case days < 7 || days > 30:
		return nil, errorf("ValidationException", "PendingWindowInDays must be 7 to 30")
	case k.state == "PendingDeletion":
		return nil, errorf("KMSInvalidStateException", "%s is pending deletion.", k.arn())
	}
	k.state, k.deletes = "PendingDeletion", time.Now().AddDate(0, 0, days)
	return map[string]any{"KeyId": k.arn(), "KeyState": k.state, "DeletionDate": epoch(k.deletes), "PendingWindowInDays": days}, nil
}
