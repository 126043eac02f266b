package transitmatrix

// operations are what each key is asked for.
var operations []operation

func init() { // not in the declaration, since what they do looks at it
	associated := dimension{"associated", []string{"", "row 17"}}
	operations = []operation{
		{name: "sign", row: "Sign and verify", dimensions: signing, do: doSign},
		{name: "sign-context", row: "with a signature context", dimensions: []dimension{{"prehashed", []string{"no", "yes"}}}, do: doSignContext},
		{name: "verify", dimensions: verification, do: doVerify, applies: func(k *key, _ combination) bool { return k.private != nil }},
		{name: "signer", row: "`crypto.Signer`", do: doSigner, dimensions: []dimension{
			hashDimension, {"scheme", []string{"", "pss", "pkcs1v15"}}, {"salt", []string{"", "20"}}, {"input", []string{"digest", "message"}},
		}, applies: func(k *key, c combination) bool { // the options of others have no scheme, and those of PKCS #1 v1.5 no salt
			return k.row == "RSA" && (c.get("scheme") != "pkcs1v15" && k.scheme == "" || c.get("salt") == "") || c.get("scheme") == "" && c.get("salt") == ""
		}},
		{name: "csr", row: rowRequests, do: doCSR},
		{name: "encrypt", row: "Encrypt and decrypt", dimensions: encryption, do: doEncrypt},
		{name: "decrypt", dimensions: decryption, do: doDecrypt},
		{name: "rewrap", row: "Rewrap", dimensions: []dimension{associated}, do: doRewrap},
		{name: "datakey", row: "Data keys", dimensions: []dimension{{"bits", []string{"128", "256", "512", "192"}}, associated}, do: doDataKey},
		{name: "stream", row: "Streams", dimensions: []dimension{{"format", []string{"tink", ""}}, associated}, do: doStream},
		{name: "hmac", row: "HMAC", dimensions: []dimension{hashDimension}, do: doHMAC},
		{name: "cmac", row: "AES-CMAC", dimensions: []dimension{{"length", []string{"0", "8", "12", "16", "7", "17"}}}, do: doCMAC},
		{name: "random", row: rowRandom, do: doRandom, dimensions: []dimension{
			{"source", []string{"", "platform", "managed_key", "all"}}, {"bytes", []string{"16", "3000"}},
		}},
		{name: "wrap", row: "Wrap and unwrap keys", dimensions: []dimension{{"size", []string{"16", "32", "1200"}}}, do: doWrap},
		{name: "derive", row: "Derive a key (ECDH)", do: doDeriveKey, dimensions: []dimension{
			{"type", []string{"aes256-gcm96", "hmac", "aes128-cmac", "ecdsa-p256", "managed_key"}},
		}},
		{name: "context", do: doContext, dimensions: []dimension{{"of", []string{"encrypt", "decrypt", "sign", "verify"}}}},
	}
}

var verification = []dimension{
	hashDimension, {"scheme", []string{"", "pss", "pkcs1v15"}}, {"salt", []string{"", "20", "500"}}, {"marshaling", []string{"asn1", "jws"}},
	{"prehashed", []string{"no", "yes"}},
}

var decryption = []dimension{
	{"size", []string{"1", "32"}}, {"padding", []string{"", "oaep", "pkcs1v15"}}, {"associated", []string{"", "row 17"}},
}
