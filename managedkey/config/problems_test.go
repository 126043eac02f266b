package config_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/config"
)

// TestProblems: each mistake is found when the file is read, at its place, with what was probably meant.
func TestProblems(t *testing.T) {
	const key = soft + `managed_key "software" "ca" {
  key_name = "ca"
  %s
}`
	for name, c := range map[string]struct{ text, want string }{
		"block":              {`managed_kye "software" "x" {}`, `test.hcl:1:1: unknown block "managed_kye"; did you mean "managed_key"? it takes audit, auth,`},
		"argument outside":   {`name = "x"`, `test.hcl:1:1: argument "name" stands outside of a block`},
		"labels":             {`managed_key "software" {}`, `test.hcl:1:1: block managed_key has 1 labels; it takes 2: managed_key TYPE NAME`},
		"argument":           {`connection "software" "x" { fiel = "/a" }`, `test.hcl:1:29: unknown argument "fiel" of connection "software" "x"; did you mean "file"? it takes`},
		"type":               {`connection "sofware" "x" {}`, `test.hcl:1:1: unknown type "sofware" of a connection; did you mean "software"?`},
		"connection's name":  {`connection "software" "No Good" {}`, `test.hcl:1:1: the name of a connection is "No Good"; it takes`},
		"connection twice":   {soft + soft, `test.hcl:2:1: connection "soft" is defined twice; the first one is at test.hcl:1:1`},
		"library twice":      {`connection "pkcs11" "hsm" { library = "/x" }` + "\nkms_library \"pkcs11\" {\n name = \"HSM\"\n library = \"/x\"\n}", `test.hcl:2:1: connection "hsm" is defined twice`},
		"library's name":     {`kms_library "pkcs11" { library = "/x" }`, `test.hcl:1:1: kms_library "pkcs11" has no name`},
		"required":           {`connection "pkcs11" "x" {}`, `test.hcl:1:1: connection "pkcs11" "x" has no argument "library", which is required`},
		"combination":        {`connection "software" "x" { file = "/a" }`, `test.hcl:1:29: file and passphrase belong together`},
		"circle":             {"connection \"replicated\" \"a\" { places = [\"b\", \"c\"] }\nconnection \"replicated\" \"b\" { places = [\"a\", \"c\"] }\nconnection \"software\" \"c\" {}", `test.hcl:1:1: connection "a" is made of itself`},
		"place":              {soft + `connection "replicated" "a" { places = ["soft", "sofd"] }`, `test.hcl:2:1: connection "a" is made of "sofd", which there isn't; did you mean "soft"?`},
		"a key's field":      {fmt.Sprintf(key, `crve = "P256"`), `test.hcl:4:3: managedkey: decode "ca" (software): backend: params: unknown field "crve"; did you mean "curve"`},
		"a key's value":      {fmt.Sprintf(key, `curve = "P257"`), `test.hcl:4:3: managedkey: decode "ca" (software): software: curve`},
		"usages":             {fmt.Sprintf(key, `usages = ["sing"]`), `test.hcl:4:3: managedkey: decode "ca" (software): `},
		"a value's kind":     {fmt.Sprintf(key, `key_bits = "many"`), `test.hcl:4:3: managedkey: decode "ca" (software): `},
		"pin":                {fmt.Sprintf(key, `public_key_sha256 = "zz"`), `test.hcl:4:3: managedkey: decode "ca" (software): `},
		"two fields":         {fmt.Sprintf(key, "key_type = \"RSA\"\n  curve = \"P256\""), `test.hcl:5:3: managedkey: decode "ca" (software): software: curve`},
		"not the key's name": {soft + "managed_key \"software\" \"curve\" {\n  curve = \"P256\"\n  key_name = \"\"\n  key_type = \"ECDSA\"\n}", `test.hcl:4:3: managedkey: decode "curve" (software): `},
		"what is missing":    {soft + "managed_key \"software\" \"ca\" {\n  curve = \"P256\"\n  key_type = \"ECDSA\"\n}", `test.hcl:2:1: managedkey: decode "ca" (software): `},
		"a key's connection": {fmt.Sprintf(key, `connection = "sfot"`), `test.hcl:4:3: unknown connection "sfot"; did you mean "soft"?`},
		"no connection":      {`managed_key "software" "x" { key_name = "x" }`, `test.hcl:1:1: no connection of type "software" may be used in namespace ""; there are none`},
		"not admitted":       {"connection \"software\" \"s\" { namespaces = [\"team-a\"] }\nmanaged_key \"software\" \"b/x\" {\n key_name = \"x\"\n connection = \"s\"\n}", `test.hcl:4:2: connection "s" may not be used in namespace "b"`},
		"wrong type":         {soft + "connection \"pkcs11\" \"p\" { library = \"/x\" }\n" + `managed_key "software" "x" {` + "\n key_name = \"x\"\n connection = \"p\"\n}", `test.hcl:5:2: connection "p" is of type "pkcs11", the key of type "software"; it takes soft`},
		"a key's name":       {soft + `managed_key "software" "CA" { key_name = "x" }`, `test.hcl:2:1: namespace: invalid name`},
		"UUID":               {fmt.Sprintf(key, `UUID = "x"`), `test.hcl:4:3: argument "UUID" is assigned`},
		"version":            {fmt.Sprintf(key, `version "one" {}`), `test.hcl:4:3: version "one"; it takes a number from 1`},
		"versions":           {fmt.Sprintf(key, "version \"1\" {}\n  version \"3\" {}"), `test.hcl:5:3: version 3 after version 1`},
		"newest":             {fmt.Sprintf(key, "key_version = 4\n  version \"1\" {}"), `version 1 is the last of the older ones, but key_version is 4`},
		"mount twice":        {`mount "pki" "a/pki" {}` + "\n" + `mount "transit" "a/pki" {}`, `test.hcl:2:1: mount "a/:pki" is defined twice`},
		"owned":              {soft + "namespace \"a\" { prune = true }\nmount \"pki\" \"a/pki\" { allowed_managed_keys = [\"c\"] }", `test.hcl:3:1: mount "a/:pki" allows "c", which is no managed_key of the namespace; there are none`},
		"stores":             {`store "memory" {}` + "\n" + `store "memory" {}`, `test.hcl:2:1: the "store" is defined twice`},
		"store's type":       {`store "botl" {}`, `unknown type "botl" of a store; did you mean "bolt"?`},
		"seal of memory":     {`seal "passphrase" { passphrase = "x" }`, `there is nothing to seal in memory`},
		"seal's connection":  {"store \"bolt\" { path = \"/x\" }\nseal \"managed_key\" {\n connection = \"x\"\n}", `test.hcl:2:1: unknown connection "x"`},
		"no TLS files":       {`listener "tcp" { address = "127.0.0.1:1" }`, `test.hcl:1:1: listener "tcp" has no "tls_cert_file"; without TLS, it takes tls_disable = true`},
		"TLS files":          {"listener \"tcp\" {\n address = \"127.0.0.1:1\"\n tls_disable = true\n tls_cert_file = \"/x\"\n}", `test.hcl:4:2: "tls_cert_file" together with tls_disable`},
		"address":            {`listener "tcp" { address = "8200" }`, `test.hcl:1:18: address is "8200"; it takes HOST:PORT`},
		"boolean":            {"listener \"tcp\" {\n address = \"127.0.0.1:1\"\n tls_disable = \"maybe\"\n}", `test.hcl:3:2: argument "tls_disable" of listener "tcp": got "maybe"; it takes true or false`},
		"duration":           {"listener \"tcp\" {\n http_read_timeout = \"soon\"\n}", `test.hcl:2:2: argument "http_read_timeout" of listener "tcp": got "soon"; it takes a duration`},
		"policy":             {"auth \"token\" \"ci\" {\n policies = [\"opertor\"]\n token = \"x\"\n}\npolicy \"operator\" {}", `test.hcl:1:1: unknown policy "opertor"; did you mean "operator"?`},
		"capability":         {"policy \"p\" {\n path \"a\" { capabilities = [\"raed\"] }\n}", `test.hcl:2:13: unknown capability "raed"; did you mean "read"? it takes create, delete, deny, list, patch, read, sudo, update`},
		"pattern":            {"policy \"p\" {\n path \"a*b\" { capabilities = [\"read\"] }\n}", `test.hcl:2:2: pattern "a*b" has "*" inside`},
		"token":              {"auth \"token\" \"ci\" { policies = [\"p\"] }\npolicy \"p\" {}", `takes one of token and token_sha256`},
		"everyone":           {"auth \"cert\" \"w\" { policies = [\"p\"] }\npolicy \"p\" {}", `lets everyone in`},
		"audit without key":  {`audit "file" { path = "/x" }`, `test.hcl:1:1: audit "file" has no argument "hmac_key", which is required`},
		"audit":              {`audit "file" {}`, `test.hcl:1:1: audit "file" has no argument "path"`},
		"fsync":              {"audit \"file\" {\n path = \"/x\"\n fsync = \"alwys\"\n}", `test.hcl:3:2: fsync is "alwys"; did you mean "always"?`},
		"template":           {`audit "file" { path = "${home}/x" }`, `test.hcl:1:24: strings are taken as they are`},
		"variable":           {`audit "file" { path = home }`, `test.hcl:1:23: argument "path": a value is a string in double quotes`},
		"function":           {`audit "file" { path = file("x") }`, `test.hcl:1:27: unexpected character`},
		"null":               {`audit "file" { path = null }`, `test.hcl:1:16: argument "path" is null`},
		"number":             {`store "memory" { history = 1e600000000 }`, `test.hcl:1:18: argument "history" is null, or of no kind or size that is taken`},
		"argument twice":     {"audit \"file\" {\n path = \"/a\"\n path = \"/b\"\n}", `test.hcl:3:2: attribute redefined`},
		"syntax":             {`audit "file" {`, `test.hcl:1:`},
		"depth":              {"audit \"file\" {\n path = " + strings.Repeat("[", 100_000), `test.hcl:2:24: more than 16 brackets inside brackets`},
	} {
		t.Run(name, func(t *testing.T) {
			e := refusal(t, "test.hcl", c.text)
			assert.Contains(t, e.Error(), c.want)
			assert.ErrorIs(t, e, backend.ErrInvalidParams)
		})
	}
}

// TestJSONProblems: JSON has places too, and its parser's messages show no value.
func TestJSONProblems(t *testing.T) {
	for text, want := range map[string]string{
		"{\n \"conection\": {}}": `test.json:2:2: argument "conection" stands outside of a block, or the block is of no known kind; did you mean "connection"?`,
		"{\n \"connection\": {\"software\": {\"x\": {\"fiel\": 1}}}}": `test.json:2:`,
		"{\"audit\": {\"file\": {\"path\": hunter2}}}":                `invalid JSON keyword`,
		"{\"audit\": {\"file\": {\"path\": \"a\", \"path\": \"b\"}}}": `test.json:1:`,
		"[1]":                          `test.json:`,
		"":                             `test.json`,
		strings.Repeat("[", 1_000_000): `test.json:1:17: more than 16 brackets`,
	} {
		e := refusal(t, "test.json", text)
		assert.Contains(t, e.Error(), want)
		assert.NotContains(t, e.Error(), "hunter2")
	}
}

// TestAllAtOnce: all problems are told at once, by place, and no more than 20 are shown.
func TestAllAtOnce(t *testing.T) {
	e := refusal(t, "test.hcl", strings.Repeat("nonsense {}\n", 50))
	assert.Len(t, e.Problems, 50)
	assert.Equal(t, 21, strings.Count(e.Error(), "\n")+1)
	assert.Contains(t, e.Error(), "\ntest.hcl:20:1: ")
	assert.True(t, strings.HasSuffix(e.Error(), "\nand 30 more"))
	assert.Less(t, len(refusal(t, "test.hcl", strings.Repeat("x {}\n", 5000)).Problems), 1001)
}

// TestLimits: what is too much is refused before it is parsed.
func TestLimits(t *testing.T) {
	big := make([]byte, config.MaxFile+1)
	_, err := config.Parse("test.hcl", big, nil)
	assert.ErrorContains(t, err, fmt.Sprintf("the file has %d bytes; it takes %d", len(big), config.MaxFile))
	// JSON says it with the fewest bytes.
	e := refusal(t, "test.json", `{"telemetry": [`+strings.Repeat("{},", config.MaxBlocks+5)+"{}]}")
	assert.True(t, slices.ContainsFunc(e.Problems, func(p config.Problem) bool {
		return strings.Contains(p.String(), "more than 100000 blocks")
	}))
}
