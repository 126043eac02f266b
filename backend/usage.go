package backend

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"strings"
)

// Usage is a set of operations: what a key can do, or what a policy allows. The zero value is the empty set.
type Usage uint16

// The operations. Their names in text are those of the managed-keys API, which has no "derive": that one is our own.
const (
	UsageEncrypt        Usage = 1 << iota // encrypt: AEAD encryption, or RSA encryption with the public key
	UsageDecrypt                          // decrypt
	UsageSign                             // sign
	UsageVerify                           // verify
	UsageWrap                             // wrap: encrypt another key
	UsageUnwrap                           // unwrap
	UsageMAC                              // mac
	UsageGenerateRandom                   // generate_random
	UsageDerive                           // derive: agree on a secret, or decapsulate one (PKCS#11: CKA_DERIVE)

	// UsageDefault is what an entry allows that names no usages.
	UsageDefault = UsageSign | UsageVerify
)

var usageNames = [...]string{"encrypt", "decrypt", "sign", "verify", "wrap", "unwrap", "mac", "generate_random", "derive"}

// ParseUsages returns the set of the named usages. An unknown name is an error that wraps [ErrInvalidParams]; no names
// give the empty set.
func ParseUsages(names ...string) (Usage, error) {
	var u Usage
next:
	for _, name := range names {
		for i, known := range usageNames {
			if name == known {
				u |= 1 << i
				continue next
			}
		}
		return 0, fmt.Errorf("backend: usages: %.40q is not one of %s: %w", name, strings.Join(usageNames[:], ", "), ErrInvalidParams)
	}
	return u, nil
}

// Has reports whether every usage of v is in u.
func (u Usage) Has(v Usage) bool { return u&v == v }

// Names returns the usages in a fixed order.
func (u Usage) Names() []string {
	names := make([]string, 0, bits.OnesCount16(uint16(u)))
	for i, name := range usageNames {
		if u&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// String returns the names, joined by commas, or "none".
func (u Usage) String() string {
	if u == 0 {
		return "none"
	}
	return strings.Join(u.Names(), ",")
}

// MarshalJSON returns the names as a list of strings.
func (u Usage) MarshalJSON() ([]byte, error) { return json.Marshal(u.Names()) }

// UnmarshalJSON takes a list of names, or one string of names separated by commas. The error wraps [ErrInvalidParams],
// and u is then unchanged.
func (u *Usage) UnmarshalJSON(data []byte) error {
	var names []string
	if err := json.Unmarshal(data, &names); err != nil {
		var joined string
		if json.Unmarshal(data, &joined) != nil {
			return fmt.Errorf("backend: usages: want a list of names: %w", ErrInvalidParams)
		}
		names = nil
		for name := range strings.SplitSeq(joined, ",") {
			if name = strings.TrimSpace(name); name != "" {
				names = append(names, name)
			}
		}
	}
	parsed, err := ParseUsages(names...)
	if err != nil {
		return err
	}
	*u = parsed
	return nil
}
