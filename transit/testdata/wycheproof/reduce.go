// Command reduce makes the files beside it from those of a checkout of Project Wycheproof (see README.md):
//
//	go run reduce.go <checkout>/testvectors_v1
package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// suites are the files that are reduced, and how many tests that are no valid ones stay of each set of flags of a group; 0 is all.
var suites = map[string]int{
	"aes_gcm": 0, "chacha20_poly1305": 0, "xchacha20_poly1305": 0,
	"aes_cmac": 0, "hmac_sha1": 12, "hmac_sha224": 12, "hmac_sha256": 0, "hmac_sha384": 12, "hmac_sha512": 0,
	"hmac_sha3_224": 12, "hmac_sha3_256": 12, "hmac_sha3_384": 12, "hmac_sha3_512": 12,
	"rsa_oaep_2048_sha256_mgf1sha256": 0, "rsa_oaep_3072_sha256_mgf1sha256": 0, "rsa_oaep_4096_sha256_mgf1sha256": 0, "rsa_pkcs1_2048": 0,
	"rsa_pss_2048_sha256_mgf1_0": 0, "rsa_pss_2048_sha256_mgf1_32": 0, "rsa_pss_4096_sha512_mgf1_64": 12, "rsa_pss_misc": 0,
	"rsa_signature_2048_sha256": 0, "rsa_signature_2048_sha512": 0, "rsa_signature_2048_sha3_256": 12, "rsa_signature_3072_sha384": 12,
	"ecdsa_secp256r1_sha256": 0, "ecdsa_secp256r1_sha256_p1363": 0, "ecdsa_secp256r1_sha3_256": 12, "ecdsa_secp384r1_sha384": 0,
	"ecdsa_secp384r1_sha384_p1363": 0, "ecdsa_secp521r1_sha512": 0, "ecdsa_secp521r1_sha512_p1363": 0, "ed25519": 0,
	"ecdh_secp256r1_pem": 0, "mldsa_44_verify": 3, "mldsa_65_verify": 3, "mldsa_87_verify": 3,
}

// names are fields of the original and what they are called here. Values in hexadecimal become base64.
var names = map[string]string{
	"tcId": "id", "comment": "comment", "result": "result", "flags": "flags", "key": "key", "iv": "iv", "aad": "aad", "msg": "msg", "ct": "ct",
	"tag": "tag", "label": "label", "sig": "sig", "ctx": "context", "private": "private", "public": "public", "shared": "shared",
	"sha": "sha", "mgfSha": "mgf_sha", "sLen": "salt", "keySize": "key_bits", "ivSize": "iv_bits", "tagSize": "tag_bits", "publicKeyDer": "public", "privateKeyPkcs8": "private",
}

var plain = []string{"tcId", "comment", "result", "flags", "sha", "mgfSha", "sLen", "keySize", "ivSize", "tagSize"}

func rename(in map[string]any) map[string]any {
	out := map[string]any{}
	for old, value := range in {
		name, ok := names[old]
		text, isText := value.(string)
		switch {
		case !ok:
			continue
		case isText && text == "":
			continue
		case slices.Contains(plain, old):
		case strings.HasPrefix(text, "-----"):
			value = []byte(text)
		default:
			raw, err := hex.DecodeString(text)
			if err != nil {
				log.Fatalf("%s: %v", old, err)
			}
			value = raw
		}
		out[name] = value
	}
	return out
}

func reduce(dir, suite string, most int) error {
	data, err := os.ReadFile(filepath.Join(dir, suite+"_test.json"))
	if err != nil {
		return err
	}
	var in struct{ TestGroups []map[string]any }
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	seen := map[string]int{}
	var out bytes.Buffer
	out.WriteString("[\n")
	for _, g := range in.TestGroups {
		var kept [][]byte
		for _, one := range g["tests"].([]any) {
			t := one.(map[string]any)
			kind := fmt.Sprint(t["result"], t["flags"], g["sha"], g["mgfSha"], g["sLen"], g["keySize"], g["ivSize"], g["tagSize"])
			limit := most
			if t["result"] != "invalid" {
				limit = 1
			}
			if seen[kind]++; limit > 0 && seen[kind] > limit {
				continue
			}
			line, err := json.Marshal(rename(t))
			if err != nil {
				return err
			}
			kept = append(kept, line)
		}
		if len(kept) == 0 {
			continue
		}
		head := rename(g)
		head["tests"] = []int{}
		line, err := json.Marshal(head)
		if err != nil {
			return err
		}
		if out.Len() > 2 {
			out.WriteString(",\n")
		}
		before, after, _ := bytes.Cut(line, []byte(`"tests":[]`))
		fmt.Fprintf(&out, "%s\"tests\":[\n%s\n]%s", before, bytes.Join(kept, []byte(",\n")), after)
	}
	out.WriteString("\n]\n")
	return os.WriteFile(suite+".json", out.Bytes(), 0o644)
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: reduce <directory of the vectors>")
	}
	for suite, most := range suites {
		if err := reduce(os.Args[1], suite, most); err != nil {
			log.Fatalf("%s: %v", suite, err)
		}
	}
}
