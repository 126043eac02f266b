package awskms

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// aliasPrefix begins the name of every alias.
const aliasPrefix = "alias/"

// maxAlias is the length of the longest name of an alias with its prefix, in bytes.
const maxAlias = 256

// identifier is what kms_key says.
type identifier struct {
	partition, region, account string // of an ARN
	key                        string // the key's id, or ""
	alias                      string // the alias with its prefix, or ""
}

// String returns the text that [parseIdentifier] takes.
func (id identifier) String() string {
	resource := id.alias
	if id.key != "" && id.region != "" {
		resource = "key/" + id.key
	} else if id.key != "" {
		resource = id.key
	}
	if id.region == "" {
		return resource
	}
	return fmt.Sprintf("arn:%s:kms:%s:%s:%s", id.partition, id.region, id.account, resource)
}

// parseIdentifier reads kms_key. The error wraps backend.ErrInvalidParams.
//
// https://docs.aws.amazon.com/kms/latest/developerguide/concepts.html#key-id
func parseIdentifier(s string) (identifier, error) {
	const takes = "it takes the ARN of a key or an alias, a key's id, or alias/NAME"
	switch {
	case s == "":
		return identifier{}, invalid("kms_key", "is missing; %s", takes)
	case strings.HasPrefix(s, "arn:"):
		return parseARN(s)
	case strings.HasPrefix(s, aliasPrefix):
		return identifier{alias: s}, checkAlias(s)
	case isKeyID(s):
		return identifier{key: s}, nil
	}
	return identifier{}, invalid("kms_key", "got %.80q; %s (if it is the name of an alias, alias/ is missing)", s, takes)
}

// parseARN reads arn:PARTITION:kms:REGION:ACCOUNT:key/ID or …:alias/NAME.
func parseARN(s string) (identifier, error) {
	parts := strings.Split(s, ":")
	if len(parts) != 6 || len(s) > 2048 {
		return identifier{}, invalid("kms_key", "%.80q is not an ARN of six parts, such as arn:aws:kms:eu-central-1:111122223333:key/…", s)
	}
	id := identifier{partition: parts[1], region: parts[3], account: parts[4]}
	resource := parts[5]
	switch {
	case !isPartition(id.partition):
		return identifier{}, invalid("kms_key", "the partition of the ARN is %.40q; it takes aws, aws-cn, aws-us-gov and their like", id.partition)
	case parts[2] != "kms":
		return identifier{}, invalid("kms_key", "the ARN is one of the service %.40q; it takes kms", parts[2])
	case !isRegion(id.region):
		return identifier{}, invalid("kms_key", "the Region of the ARN is %.40q; it takes a code such as eu-central-1", id.region)
	case !isAccount(id.account):
		return identifier{}, invalid("kms_key", "the account of the ARN is %.40q; it takes 12 digits", id.account)
	case strings.HasPrefix(resource, aliasPrefix):
		id.alias = resource
		return id, checkAlias(resource)
	}
	key, ok := strings.CutPrefix(resource, "key/")
	if !ok || !isKeyID(key) {
		return identifier{}, invalid("kms_key", "the ARN names %.80q; it takes key/ID or alias/NAME", resource)
	}
	id.key = key
	return id, nil
}

func checkAlias(alias string) error {
	name := strings.TrimPrefix(alias, aliasPrefix)
	bad := strings.IndexFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '/' && r != '_' && r != '-'
	})
	if name == "" || bad >= 0 || len(alias) > maxAlias {
		return invalid("kms_key", "the alias %.80q of %d bytes is none; after alias/ it takes letters, digits, '/', '_' and '-', and %d bytes in all", alias, len(alias), maxAlias)
	}
	return nil
}

// isKeyID reports whether s is the id of a key: a UUID, or that of a multi-Region key, "mrk-" and 32 hexadecimal digits.
func isKeyID(s string) bool {
	if rest, ok := strings.CutPrefix(s, "mrk-"); ok {
		return len(rest) == 32 && isHex(rest)
	}
	_, err := uuid.Parse(s)
	return err == nil && len(s) == 36 && strings.ToLower(s) == s
}

func isHex(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') })
}

func isAccount(s string) bool {
	return len(s) == 12 && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

func isPartition(s string) bool {
	return len(s) <= 32 && strings.HasPrefix(s, "aws") && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}
