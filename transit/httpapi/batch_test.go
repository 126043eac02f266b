package httpapi

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"

	"github.com/managedkeys/managedkeys/namespace"
)

// TestBatchStatuses: what a batch is answered with, by what came of its items.
func TestBatchStatuses(t *testing.T) {
	g := newRig(t, nil, nil)
	g.post(200, "keys/k", object{"type": "aes256-gcm96"})
	g.post(200, "keys/ec", object{"type": "ecdsa-p256"})
	good, bad := object{"plaintext": b64("m")}, object{"plaintext": "?"}
	for _, c := range []struct {
		name   string
		path   string
		body   object
		status int
		warns  bool
	}{
		{"all good", "encrypt/k", object{"batch_input": []object{good, good}}, 200, false},
		{"some bad", "encrypt/k", object{"batch_input": []object{good, bad}}, 400, false},
		{"all bad", "encrypt/k", object{"batch_input": []object{bad}}, 400, false},
		{"some bad, code", "encrypt/k", object{"batch_input": []object{good, bad}, "partial_failure_response_code": 207}, 207, false},
		{"some bad, code in a string", "encrypt/k", object{"batch_input": []object{good, bad}, "partial_failure_response_code": "299"}, 299, false},
		{"all bad, code", "encrypt/k", object{"batch_input": []object{bad, bad}, "partial_failure_response_code": 207}, 400, false},
		{"all good, code", "encrypt/k", object{"batch_input": []object{good}, "partial_failure_response_code": 207}, 200, false},
		{"code 0", "encrypt/k", object{"batch_input": []object{good, bad}, "partial_failure_response_code": 0}, 400, true},
		{"code 600", "encrypt/k", object{"batch_input": []object{good, bad}, "partial_failure_response_code": 600}, 400, true},
		{"code that ends nothing", "encrypt/k", object{"batch_input": []object{good, bad}, "partial_failure_response_code": 100}, 400, true},
		{"code without a body", "encrypt/k", object{"batch_input": []object{good, bad}, "partial_failure_response_code": 204}, 400, true},
		{"sign, some bad", "sign/ec", object{"batch_input": []object{{"input": b64("m")}, {"input": "?"}}}, 200, false},
		{"sign, all bad", "sign/ec", object{"batch_input": []object{{"input": "?"}}}, 200, false},
		{"sign, code", "sign/ec", object{"batch_input": []object{{"input": b64("m")}, {"input": "?"}}, "partial_failure_response_code": 207}, 207, false},
		{"hmac", "hmac/ec", object{"batch_input": []object{{"input": b64("m")}, {}}}, 200, false},
		{"decrypt", "decrypt/k", object{"batch_input": []object{{"ciphertext": "vault:v1:AAAA"}}}, 400, false},
		{"rewrap", "rewrap/k", object{"batch_input": []object{{"ciphertext": "x"}, {}}}, 400, false},
		{"verify", "verify/ec", object{"batch_input": []object{{"input": b64("m"), "signature": "x"}}}, 200, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := g.post(c.status, c.path, c.body)
			assert.Len(t, a.results(t), len(c.body["batch_input"].([]object)), "they are there in any case")
			assert.Equal(t, c.warns, len(a.warnings) == 1, a.text)
		})
	}
}

// TestBatchItems: the results are in the order of the items, a bad item spoils nothing, and the error says why and not what.
func TestBatchItems(t *testing.T) {
	g := newRig(t, nil, nil)
	g.post(200, "keys/ec", object{"type": "ecdsa-p256"})
	items := make([]object, 200)
	for i := range items {
		items[i] = object{"input": b64(fmt.Sprint("secret-", i)), "reference": fmt.Sprint(i)}
		switch i % 10 {
		case 3:
			items[i]["input"] = "c2VjcmV0!" // the base64 of a secret, and no base64
		case 7:
			delete(items[i], "input")
		case 9:
			delete(items[i], "reference")
		}
	}
	a := g.post(200, "sign/ec", object{"batch_input": items})
	assert.NotContains(t, a.text, "c2VjcmV0")
	results := a.results(t)
	verify := []object{}
	for i, r := range results {
		switch want := fmt.Sprint(i); {
		case i%10 == 3:
			assert.Equal(t, object{"error": "unable to decode input as base64: illegal base64 data at input byte 8", "reference": want}, r)
		case i%10 == 7:
			assert.Equal(t, object{"error": "missing input", "reference": want}, r)
		case i%10 == 9:
			assert.Equal(t, "", r["reference"], "always there")
		default:
			assert.Equal(t, want, r["reference"])
			verify = append(verify, object{"input": items[i]["input"], "signature": r["signature"]})
		}
	}
	last := len(verify) - 1
	verify[last]["input"] = b64("other")
	verify[last-1]["signature"] = "vault:v2:AAAA"
	for i, r := range g.post(200, "verify/ec", object{"batch_input": verify}).results(t) {
		assert.Equal(t, i < last-1, r["valid"], i)
		assert.Equal(t, i == last-1, r["error"] != nil, i)
	}
	for _, r := range g.post(200, "sign/ec", object{"batch_input": items[:2], "key_version": 7}).results(t) {
		assert.Contains(t, r["error"], "higher than the latest key version")
	}
}

// TestBatchContexts: a context is in all items or in none, a broken one counts.
func TestBatchContexts(t *testing.T) {
	g := newRig(t, nil, nil)
	g.post(200, "keys/d", object{"type": "aes256-gcm96", "derived": true})
	with := func(context string) object { return object{"plaintext": b64("m"), "context": context} }
	g.post(200, "encrypt/d", object{"batch_input": []object{with(b64("a")), with(b64("b"))}})
	a := g.post(400, "encrypt/d", object{"batch_input": []object{with(b64("a")), with("")}})
	assert.Contains(t, a.errors[0], "context should be set either in all the request blocks or in none; item 1 differs from item 0")
	results := g.post(400, "encrypt/d", object{"batch_input": []object{with(b64("a")), with("?")}}).results(t)
	assert.Contains(t, results[0]["ciphertext"], "vault:v1:")
	assert.Contains(t, results[1]["error"], "failed to base64-decode context")
	results = g.post(400, "encrypt/d", object{"batch_input": []object{with(""), with("")}}).results(t)
	assert.Contains(t, results[1]["error"], "missing 'context' for key derivation")
}

// TestBatchLimits: a batch of a million is refused before it is all read, and others are served meanwhile.
func TestBatchLimits(t *testing.T) {
	g := newRig(t, nil, func(o *Options) { o.MaxBatch = 1000 })
	g.post(200, "keys/ec", object{"type": "ecdsa-p256"})
	million := `{"batch_input":[` + strings.Repeat(`{},`, 999_999) + `{}]}`
	done := make(chan answer, 1)
	go func() { done <- g.do("POST", "transit/hmac/ec", rootToken, million) }()
	g.post(200, "sign/ec", object{"input": b64("m")})
	a := <-done
	assert.Equal(t, 400, a.status)
	assert.Equal(t, []string{"field batch_input: it takes at most 1000 items"}, a.errors)
	assert.Len(t, g.post(200, "hmac/ec", `{"batch_input":[`+strings.Repeat(`{"input":""},`, 999)+`{}]}`).results(t), 1000)
	long := `{"input":"` + base64.StdEncoding.EncodeToString(make([]byte, 9<<20)) + `"}`
	assert.Equal(t, 413, g.do("POST", "transit/sign/ec", rootToken, long).status)
}

// TestInternalErrors: a batch in which all items failed on this side is answered so.
func TestInternalErrors(t *testing.T) {
	g := newRig(t, nil, nil)
	g.managed("aes", software.Params{KeyType: software.AES, KeyBits: 256})
	g.post(200, "keys/k", object{"managed_key_name": "aes"})
	items := object{"batch_input": []object{{"plaintext": b64("m")}, {"plaintext": b64("m")}}}
	g.post(200, "encrypt/k", items)
	assert.NoError(t, g.software.Close())
	a := g.post(500, "encrypt/k", items)
	assert.Len(t, a.results(t), 2)
	g.post(400, "encrypt/k", object{"batch_input": []object{{"plaintext": b64("m")}, {}}})
	assert.Equal(t, 503, g.do("POST", "transit/encrypt/k", rootToken, object{"plaintext": b64("m")}).status)
}

// TestGrants: a managed key that is taken away from the mount, or from an operation, is refused as others are: 403.
func TestGrants(t *testing.T) {
	g := newRig(t, nil, nil)
	g.managed("ec", software.Params{KeyType: software.ECDSA, Curve: software.P256})
	g.post(200, "keys/k", object{"managed_key_name": "ec"})
	signed := g.post(200, "sign/k", object{"input": b64("m")}).data["signature"]
	entry, err := g.keys.Entry(namespace.Ref{Name: "ec"})
	assert.NoError(t, err)
	entry.AnyMount = false
	assert.NoError(t, g.keys.Update(t.Context(), entry))
	assert.Contains(t, g.post(403, "sign/k", object{"input": b64("m")}).errors[0], "has no grant for this key")
	mount, err := g.keys.OpenMount("", "transit")
	assert.NoError(t, err)
	assert.NoError(t, g.keys.Grant(t.Context(), mount, "ec"))
	g.post(200, "sign/k", object{"input": b64("m")})
	entry, err = g.keys.Entry(namespace.Ref{Name: "ec"})
	assert.NoError(t, err)
	entry.Usages = everything &^ backend.UsageSign
	assert.NoError(t, g.keys.Update(t.Context(), entry))
	g.post(403, "sign/k", object{"input": b64("m")})
	assert.Equal(t, true, g.post(200, "verify/k", object{"input": b64("m"), "signature": signed}).data["valid"])
}
