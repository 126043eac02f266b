package pki

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"net/url"
)

// Policy is a certificate policy (RFC 5280, Section 4.2.1.4).
type Policy struct {
	OID string `json:"oid"`
	CPS string `json:"cps,omitempty"` // URI of a certification practice statement
}

// Policies are policies that JSON has as a list of object identifiers, or of objects with oid and cps.
type Policies []Policy

// MarshalJSON returns identifiers where there is no more, and objects else.
func (p Policies) MarshalJSON() ([]byte, error) {
	out := make([]any, len(p))
	for i, policy := range p {
		if out[i] = policy.OID; policy.CPS != "" {
			out[i] = policy
		}
	}
	return json.Marshal(out)
}

// UnmarshalJSON takes a list of identifiers and objects, or one text with commas between identifiers.
func (p *Policies) UnmarshalJSON(data []byte) error {
	*p = nil
	var list []json.RawMessage
	if len(data) > 0 && data[0] == '"' {
		var names Strings
		if err := names.UnmarshalJSON(data); err != nil {
			return err
		}
		for _, name := range names {
			*p = append(*p, Policy{OID: name})
		}
		return nil
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	for i, item := range list {
		var policy Policy
		into := any(&policy)
		if len(item) > 0 && item[0] == '"' {
			into = &policy.OID
		}
		dec := json.NewDecoder(bytes.NewReader(item))
		dec.DisallowUnknownFields()
		if err := dec.Decode(into); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		*p = append(*p, policy)
	}
	return nil
}

func (p Policies) check() error {
	for i, policy := range p {
		if _, err := parseOID(policy.OID); err != nil {
			return invalid("policy_identifiers %d: %w", i, plain(err))
		}
		for _, other := range p[:i] {
			if other.OID == policy.OID {
				return invalid("policy_identifiers %d: %s is given twice", i, policy.OID)
			}
		}
		if policy.CPS == "" {
			continue
		}
		uri, err := url.Parse(policy.CPS)
		if err != nil || uri.Scheme != "http" && uri.Scheme != "https" || checkURI(uri) != "" {
			return invalid("policy_identifiers %d: cps %.80q: it takes an http or https URL", i, policy.CPS)
		}
	}
	return nil
}

var (
	oidPolicies = asn1.ObjectIdentifier{2, 5, 29, 32}
	oidCPS      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 2, 1}
)

// extension returns the policies as an extension; crypto/x509 has no qualifiers.
func (p Policies) extension() (pkix.Extension, error) {
	type qualifier struct {
		ID  asn1.ObjectIdentifier
		CPS string `asn1:"ia5"`
	}
	type information struct {
		ID         asn1.ObjectIdentifier
		Qualifiers []qualifier `asn1:"optional,omitempty"`
	}
	var list []information
	for _, policy := range p {
		oid, err := parseOID(policy.OID)
		if err != nil {
			return pkix.Extension{}, err
		}
		info := information{ID: oid}
		if policy.CPS != "" {
			info.Qualifiers = []qualifier{{oidCPS, policy.CPS}}
		}
		list = append(list, info)
	}
	der, err := asn1.Marshal(list)
	if err != nil {
		return pkix.Extension{}, invalid("policy_identifiers: %w", err)
	}
	return pkix.Extension{Id: oidPolicies, Value: der}, nil
}
