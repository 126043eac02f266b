package httpapi

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/managedkey/httpapi"
)

// TestMalformed is the table of what is wrong with bodies, and what is said about it. A value is never shown.
func TestMalformed(t *testing.T) {
	for _, c := range []struct{ body, want string }{
		{`{`, "unexpected EOF"}, {` `, "unexpected EOF"}, {`{"plaintext"`, "unexpected EOF"}, {`{"plaintext":`, "unexpected EOF"}, {`{"plaintext":"hunter2`, "unexpected EOF"},
		{`{"plaintext":"a\`, "unexpected EOF"}, {`{"plaintext":"\u00`, "unexpected EOF"}, {`{"batch_input":[`, "unexpected EOF"}, {`{"batch_input":[{}`, "unexpected EOF"},
		{`[]`, "it takes one JSON object"}, {`"hunter2"`, "it takes one JSON object"}, {`{}{}`, "it takes one JSON object"}, {`{} x`, "it takes one JSON object"},
		{`{,}`, "it takes one JSON object"}, {`{"key_version":1,}`, "it takes one JSON object"}, {`{"key_version" 1}`, "it takes one JSON object"},
		{`{"key_version":1 "type":"x"}`, "it takes one JSON object"}, {`{"batch_input":[{},]}`, "item 1: it takes an object"}, {`{"batch_input":[{}{}]}`, "it takes one JSON object"},
		{`{'plaintext':1}`, "it takes one JSON object"}, {`{"plaintext":}`, "it takes one JSON object"}, {`{"plaintext":nil}`, "it takes one JSON object"},
		{`{"plaintext":"hunter2","plaintext":"b"}`, "field plaintext is given twice"}, {`{"pl\u0061intext":"","plaintext":""}`, "field plaintext is given twice"},
		{`{"batch_input":[],"batch_input":[]}`, "field batch_input is given twice"},
		{`{"batch_input":[{},{"reference":"a","reference":"b"}]}`, "field batch_input: item 1: failed to decode JSON input: field reference is given twice"},
		{`{"plaintext":1}`, "field plaintext: it takes a string in base64"}, {`{"plaintext":["hunter2"]}`, "field plaintext: it takes a string in base64"},
		{`{"plaintext":{}}`, "field plaintext: it takes a string in base64"}, {`{"plaintext":true}`, "field plaintext: it takes a string in base64"},
		{`{"key_version":1.5}`, "field key_version: it takes a whole number"}, {`{"key_version":1e1}`, "field key_version: it takes a whole number"},
		{`{"key_version":01}`, "field key_version: it takes a whole number"}, {`{"key_version":-0}`, "field key_version: it takes a whole number"},
		{`{"key_version":"x"}`, "field key_version: it takes a whole number"}, {`{"key_version":""}`, "field key_version: it takes a whole number"},
		{`{"key_version":99999999999999999999}`, "field key_version: it takes a whole number"}, {`{"key_version":[1]}`, "field key_version: it takes a whole number"},
		{`{"convergent_encryption":2}`, "field convergent_encryption: it takes true or false"}, {`{"convergent_encryption":"yes"}`, "field convergent_encryption: it takes true or false"},
		{`{"reference":7}`, "field reference: it takes a string"}, {`{"type":true}`, "field type: it takes a string"},
		{`{"iv":"x"}`, "field iv: it takes no value here"}, {`{"iv":[1]}`, "field iv: it takes no value here"}, {`{"iv":1}`, "field iv: it takes no value here"},
		{`{"batch_input":{}}`, "field batch_input: it takes a list of objects"}, {`{"batch_input":"[]"}`, "field batch_input: it takes a list of objects"},
		{`{"batch_input":[1]}`, "field batch_input: item 0: it takes an object"}, {`{"batch_input":[{},null]}`, "field batch_input: item 1: it takes an object"},
		{`{"batch_input":[[]]}`, "field batch_input: item 0: it takes an object"}, {`{"batch_input":[{"plaintext":1}]}`, "field batch_input: item 0: field plaintext: it takes a string in base64"},
		{`{"batch_input":[{},{},{"type":"x"}]}`, `field batch_input: item 2: field "type" is unknown`}, {`{"hunter":"2"}`, `field "hunter" is unknown`},
		{`{"Plaintext":""}`, `field "Plaintext" is unknown (is it plaintext?)`}, {"{\"reference\":\"a\nb\"}", "a string is malformed"}, {"{\"reference\":\"\xff\"}", "a string is malformed"},
		{`{"reference":"\x"}`, "a string is malformed"}, {`{"reference":"\u12g4"}`, "a string is malformed"}, {`{"reference":"\ud800"}`, "a string is malformed"},
		{`{"reference":"\ud800\u0041"}`, "a string is malformed"}, {`{"reference":"\udc00"}`, "a string is malformed"}, {"{\"reference\":\"\\n\x01\"}", "a string is malformed"},
		{`{"batch_input":[{},{},{},{},{}]}`, "field batch_input: it takes at most 4 items"}, {strings.Repeat(`[`, 100_000), "it takes one JSON object"},
		{`{"batch_input":` + strings.Repeat(`[`, 100_000), "field batch_input: item 0: it takes an object"}, {`{"plaintext":` + strings.Repeat(`{"a":`, 100_000), "field plaintext: it takes"},
	} {
		_, err := decode([]byte(c.body), encryptAll, encryptItem, 4)
		answer, ok := err.(*httpapi.Error)
		if !assert.True(t, ok, "%.60s: %v", c.body, err) {
			continue
		}
		assert.Equal(t, 400, answer.Status)
		assert.Contains(t, answer.Messages[0], c.want, "%.60s", c.body)
		assert.NotContains(t, answer.Messages[0], "hunter2")
		assert.Less(t, len(answer.Messages[0]), 400)
	}
}

// TestDecoded: what is taken, and as what.
func TestDecoded(t *testing.T) {
	q, err := decode([]byte(" {\t\"plaintext\" : \"aGVsbG8=\" ,\r\n\"reference\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00é\",\"key_version\":\"07\",\"iv\":null,\"name\":\"x\",\"convergent_encryption\":\"true\",\"context\":null}\n"), encryptAll, encryptItem, 4)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(q.input))
	assert.Equal(t, "\"\\/\b\f\n\r\té😀é", q.reference)
	assert.Equal(t, 7, q.version)
	assert.True(t, q.convergent)
	assert.False(t, q.has(contextSlot), "null says nothing")
	assert.Nil(t, q.items)

	q, err = decode([]byte(`{"batch_input":[{"plaintext":"YQ==","iv":[]},{"plaintext":"Yg==","context":"?"},{"plaintext":"Yw=="}]}`), encryptAll, encryptItem, 4)
	require.NoError(t, err)
	require.Len(t, q.items, 3)
	for i, want := range []string{"a", "b", "c"} {
		assert.Equal(t, want, string(q.items[i].input))
		assert.Equal(t, i == 1, q.items[i].bad != nil)
		q.items[i].input = append(q.items[i].input, "xxxx"...) // has no room that is another's
	}
	q, err = decode([]byte(`{"salt_length":20,"prehashed":1,"signature_context":"Yw=="}`), signAll, signItem, 4)
	require.NoError(t, err)
	assert.Equal(t, "20", q.salt)
	assert.True(t, q.prehashed)
	assert.Equal(t, "c", q.signatureContext)
	for _, body := range []string{`{"salt_length":2.5}`, `{"salt_length":true}`, `{"salt_length":020}`} {
		_, err = decode([]byte(body), signAll, signItem, 4)
		assert.ErrorContains(t, err, "field salt_length: it takes a string or a number")
	}
}

// TestBase64: what of base64 is taken and what isn't is what the standard library says, as it is elsewhere.
func TestBase64(t *testing.T) {
	for _, text := range []string{"", "aGVsbG8=", "aGVsbG8", "aGVsbG8==", "aGVs bG8=", "aGVs\nbG8=\n", "a", "=", "====", "aG", "aGV", "aGVsbG9=", "-_-_", "+/+/", "aGVs*", "aGVsbG8=x", "ａａａａ", "aGVsbG8\x00", strings.Repeat("A", 1<<16)} {
		body, err := json.Marshal(object{"plaintext": text})
		require.NoError(t, err)
		q, err := decode(body, encryptAll, encryptItem, 1)
		require.NoError(t, err)
		want, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			require.Error(t, q.bad, "%q", text)
			assert.Contains(t, q.bad.(*httpapi.Error).Messages[0], err.Error())
			continue
		}
		assert.NoError(t, q.bad, "%q", text)
		assert.Equal(t, string(want), string(q.input))
	}
}

// decoders are the forms of all requests.
var decoders = [][2]members{{encryptAll, encryptItem}, {decryptAll, decryptItem}, {rewrapAll, rewrapItem}, {signAll, signItem}, {verifyAll, verifyItem}, {hmacAll, hmacItem}, {cmacAll, cmacItem}}

// FuzzDecode: what is taken is valid JSON, says the same to encoding/json, and nothing panics.
func FuzzDecode(f *testing.F) {
	for i, body := range []string{`{"plaintext":"aGVsbG8=","key_version":"1"}`, `{"ciphertext":"vault:v1:AAAA"}`, `{"batch_input":[{"ciphertext":"x","reference":"\ud83d\ude00"}]}`,
		`{"input":"","salt_length":32,"prehashed":true}`, `{"batch_input":[{"input":"YQ==","signature":"vault:v1:"},{"hmac":""}]}`, `{"input":"\n"}`, `{"mac_length":8,"name":"a"}`} {
		f.Add(byte(i), []byte(body))
	}
	f.Fuzz(func(t *testing.T, which byte, body []byte) {
		form := decoders[int(which)%len(decoders)]
		q, err := decode(body, form[0], form[1], 3)
		if err != nil {
			answer, ok := err.(*httpapi.Error)
			if !ok || answer.Status != 400 || len(answer.Messages) != 1 || !utf8.ValidString(answer.Messages[0]) {
				t.Fatalf("got %v", err)
			}
			return
		}
		if len(body) == 0 {
			return
		}
		var same struct {
			Plaintext, Input any
			Reference        *string
			BatchInput       []struct {
				Reference *string
				Input     any
			} `json:"batch_input"`
		}
		if err := json.Unmarshal(body, &same); err != nil {
			t.Fatalf("%q is taken, and by encoding/json not: %v", body, err)
		}
		if same.Reference != nil && *same.Reference != q.reference {
			t.Errorf("reference %q; want %q", q.reference, *same.Reference)
		}
		if len(same.BatchInput) != len(q.items) {
			t.Errorf("%d items; want %d", len(q.items), len(same.BatchInput))
		}
		for i := range q.items {
			if r := same.BatchInput[i].Reference; r != nil && *r != q.items[i].reference {
				t.Errorf("reference of item %d: %q; want %q", i, q.items[i].reference, *r)
			}
		}
		if text, ok := same.Input.(string); ok && q.bad == nil {
			if want, err := base64.StdEncoding.DecodeString(text); err != nil || string(want) != string(q.input) {
				t.Errorf("input %q; want %q, %v", q.input, want, err)
			}
		}
	})
}

// FuzzDecodeWritten: what encoding/json writes of an item, alone and in a batch, is decoded as what it was.
func FuzzDecodeWritten(f *testing.F) {
	f.Add("hello", []byte("a"), []byte("context"), "ref \U0001F600", 1)
	f.Add("", []byte(nil), []byte("\x00"), "\\\"\x1f\u2028", -1)
	f.Fuzz(func(t *testing.T, plaintext string, associated, context []byte, reference string, version int) {
		if !utf8.ValidString(reference) {
			return // encoding/json replaces what is no UTF-8
		}
		one := map[string]any{"plaintext": []byte(plaintext), "associated_data": append([]byte{}, associated...), "context": append([]byte{}, context...), "reference": reference, "key_version": version}
		check := func(it *item) {
			if it.bad != nil || string(it.input) != plaintext || string(it.associated) != string(associated) || string(it.context) != string(context) || it.reference != reference || it.version != version {
				t.Errorf("got %+v; want %v", it, one)
			}
		}
		for _, body := range []any{one, map[string]any{"batch_input": []any{one, map[string]any{}, one}}} {
			text, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			q, err := decode(text, encryptAll, encryptItem, 3)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			all := q.all()
			check(&all[0])
			check(&all[len(all)-1])
			if len(all) == 3 && (all[1].given != 0 || all[1].reference != "") {
				t.Errorf("the empty item is %+v", all[1])
			}
		}
	})
}
