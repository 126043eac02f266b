package fakeaws

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

func createKey(s *Server, r *region, _ *key, req *request) (map[string]any, *Error) {
	spec := req.KeySpec
	if spec == "" {
		spec = req.CustomerMasterKeySpec
	}
	if spec == "" {
		spec = "SYMMETRIC_DEFAULT"
	}
	usage := req.KeyUsage
	if usage == "" {
		usage = "ENCRYPT_DECRYPT"
	}
	if len(req.Tags) > 50 {
		return nil, errorf("TagException", "Too many tags")
	}
	for _, t := range req.Tags {
		if t.TagKey == "" || len(t.TagKey) > 128 || len(t.TagValue) > 256 || strings.HasPrefix(t.TagKey, "aws:") {
			return nil, errorf("TagException", "Invalid tag")
		}
	}
	if len(req.Description) > 8192 {
		return nil, tooLong("description", len(req.Description), 0, 8192)
	}
	k, err := s.newKey(r.name, spec, usage, orDefault(req.Origin, "AWS_KMS"), req.MultiRegion)
	if err != nil {
		return nil, errorf("ValidationException", "%v", err)
	}
	k.description, k.tags, k.policy = req.Description, req.Tags, req.Policy
	s.mu.Lock()
	defer s.mu.Unlock()
	r.add(k)
	return map[string]any{"KeyMetadata": k.metadata()}, nil
}

func orDefault(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

func describeKey(_ *Server, _ *region, k *key, _ *request) (map[string]any, *Error) {
	return map[string]any{"KeyMetadata": k.metadata()}, nil
}

// getPublicKey works on keys that are disabled, as the service's does.
func getPublicKey(_ *Server, _ *region, k *key, _ *request) (map[string]any, *Error) {
	switch {
	case k.state == "PendingDeletion" || k.state == "PendingImport" || k.material == nil:
		return nil, errorf("KMSInvalidStateException", "%s is %s.", k.arn(), k.state)
	case k.material.public == nil:
		return nil, errorf("UnsupportedOperationException", "You cannot get the public key of a symmetric key.")
	}
	member, algorithms := k.algorithms()
	return map[string]any{"KeyId": k.arn(), "PublicKey": k.material.public, "KeySpec": k.spec, "CustomerMasterKeySpec": k.spec,
		"KeyUsage": k.usage, member: algorithms}, nil
}

func getKeyPolicy(_ *Server, _ *region, k *key, _ *request) (map[string]any, *Error) {
	return map[string]any{"Policy": orDefault(k.policy, `{"Version":"2012-10-17","Statement":[]}`), "PolicyName": "default"}, nil
}

func updateKeyDescription(_ *Server, _ *region, k *key, req *request) (map[string]any, *Error) {
	if k.state == "PendingDeletion" {
		return nil, k.usable()
	}
	k.description = req.Description
	return map[string]any{}, nil
}

// replicateKey makes a multi-Region key's replica, which has its id and its material.
func replicateKey(s *Server, _ *region, k *key, req *request) (map[string]any, *Error) {
	if fail := k.usable(); fail != nil {
		return nil, fail
	}
	to := s.inRegion(req.ReplicaRegion)
	switch {
	case !k.multiRegion || req.ReplicaRegion == "":
		return nil, errorf("UnsupportedOperationException", "%s is not a multi-Region primary key.", k.arn())
	case to.keys[k.id] != nil:
		return nil, errorf("AlreadyExistsException", "%s", to.keys[k.id].arn())
	}
	replica := *k
	replica.region, replica.created = req.ReplicaRegion, time.Now()
	to.add(&replica)
	return map[string]any{"ReplicaKeyMetadata": replica.metadata(), "ReplicaTags": replica.tags}, nil
}

// page returns the part of a list that a request asks for, and where the next one begins ("" if there is none).
func page[T any](s *Server, all []T, req *request, most int) (part []T, next string, fail *Error) {
	from := 0
	if req.Marker != "" {
		var err error
		if from, err = strconv.Atoi(req.Marker); err != nil || from < 0 || from > len(all) {
			return nil, "", errorf("InvalidMarkerException", "")
		}
	}
	n := most
	if req.Limit > 0 {
		n = min(n, req.Limit)
	}
	if s.opts.PageSize > 0 {
		n = min(n, s.opts.PageSize)
	}
	until := min(from+n, len(all))
	if until < len(all) {
		next = strconv.Itoa(until)
	}
	return all[from:until], next, nil
}

func paged(member string, items any, next string) map[string]any {
	answer := map[string]any{member: items, "Truncated": next != ""}
	if next != "" {
		answer["NextMarker"] = next
	}
	return answer
}

func listKeys(s *Server, r *region, _ *key, req *request) (map[string]any, *Error) {
	part, next, fail := page(s, r.order, req, 1000)
	items := make([]map[string]any, len(part))
	for i, id := range part {
		items[i] = map[string]any{"KeyId": id, "KeyArn": r.keys[id].arn()}
	}
	return paged("Keys", items, next), fail
}

// listAliases lists those of one key if the request names one, by id or ARN.
func listAliases(s *Server, r *region, _ *key, req *request) (map[string]any, *Error) {
	var of string
	if req.KeyId != "" {
		k, fail := s.find(r, "ListAliases", req)
		if fail != nil {
			return nil, fail
		}
		of = k.id
	}
	names := slices.Sorted(maps.Keys(r.aliases))
	names = slices.DeleteFunc(names, func(name string) bool { return of != "" && r.aliases[name].target != of })
	// Every account has aliases of keys that don't exist yet.
	if of == "" {
		names = append(names, "alias/aws/s3")
	}
	part, next, fail := page(s, names, req, 100)
	items := make([]map[string]any, len(part))
	for i, name := range part {
		items[i] = map[string]any{"AliasName": name, "AliasArn": aliasARN(r.name, name)}
		if a := r.aliases[name]; a != nil {
			items[i]["TargetKeyId"], items[i]["CreationDate"], items[i]["LastUpdatedDate"] = a.target, epoch(a.created), epoch(a.updated)
		}
	}
	return paged("Aliases", items, next), fail
}

func listResourceTags(s *Server, _ *region, k *key, req *request) (map[string]any, *Error) {
	part, next, fail := page(s, k.tags, req, 50)
	if part == nil {
		part = []tag{}
	}
	return paged("Tags", part, next), fail
}

// targetOf returns the key that an alias is to name.
func (s *Server) targetOf(r *region, req *request) (*key, *Error) {
	k, fail := s.find(r, "CreateAlias", &request{KeyId: req.TargetKeyId})
	if fail != nil {
		return nil, fail
	}
	if k.state == "PendingDeletion" {
		return nil, k.usable()
	}
	return k, nil
}

func checkAlias(name string) *Error {
	rest, ok := strings.CutPrefix(name, "alias/")
	switch {
	case !ok || rest == "" || strings.HasPrefix(rest, "aws/"):
		return errorf("ValidationException", "Alias must start with the prefix \"alias/\". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html")
	case len(name) > 256 || strings.Trim(rest, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/_-") != "":
		return errorf("InvalidAliasNameException", "%s", name)
	}
	return nil
}

func createAlias(s *Server, r *region, _ *key, req *request) (map[string]any, *Error) {
	if fail := checkAlias(req.AliasName); fail != nil {
		return nil, fail
	}
	k, fail := s.targetOf(r, req)
	if fail != nil {
		return nil, fail
	}
	if r.aliases[req.AliasName] != nil {
		return nil, errorf("AlreadyExistsException", "An alias with the name %s already exists", aliasARN(r.name, req.AliasName))
	}
	now := time.Now()
	r.aliases[req.AliasName] = &alias{name: req.AliasName, target: k.id, created: now, updated: now}
	return map[string]any{}, nil
}

// updateAlias takes only a key of the same kind and usage as the one before, as the service does.
func updateAlias(s *Server, r *region, _ *key, req *request) (map[string]any, *Error) {
	k, fail := s.targetOf(r, req)
	if fail != nil {
		return nil, fail
	}
	a := r.aliases[req.AliasName]
	if a == nil {
		return nil, errorf("NotFoundException", "Alias %s is not found.", aliasARN(r.name, req.AliasName))
	}
	old := r.keys[a.target]
	if old.usage != k.usage || old.symmetric() != k.symmetric() {
		return nil, errorf("ValidationException", "The new key must be of the same type and have the same key usage as the current one")
	}
	a.target, a.updated = k.id, time.Now()
	return map[string]any{}, nil
}

func deleteAlias(_ *Server, r *region, _ *key, req *request) (map[string]any, *Error) {
	if r.aliases[req.AliasName] == nil {
		return nil, errorf("NotFoundException", "Alias %s is not found.", aliasARN(r.name, req.AliasName))
	}
	delete(r.aliases, req.AliasName)
	return map[string]any{}, nil
}

func createGrant(s *Server, _ *region, _ *key, _ *request) (map[string]any, *Error) {
	token := "AQpA" + uuid.NewString()
	s.grants[token] = true
	return map[string]any{"GrantId": uuid.NewString(), "GrantToken": token}, nil
}

func (k *key) symmetric() bool {
	return k.spec == "SYMMETRIC_DEFAULT" || strings.HasPrefix(k.spec, "HMAC_")
}
