package pkcs11

// mechanismNames are the names of PKCS #11 Specification Version 3.1, Section 6, without their prefix CKM_: what keys
// sign, decrypt, authenticate, encrypt, wrap, agree and are made with. Digests and legacy ciphers are left out, since no
// entry can mean them.
var mechanismNames = map[Mechanism]string{
	0x0000: "RSA_PKCS_KEY_PAIR_GEN",
	0x0001: "RSA_PKCS",
	0x0003: "RSA_X_509",
	0x0006: "SHA1_RSA_PKCS",
	0x0009: "RSA_PKCS_OAEP",
	0x000D: "RSA_PKCS_PSS",
	0x000E: "SHA1_RSA_PKCS_PSS",
	0x001C: "ML_DSA_KEY_PAIR_GEN",
	0x001D: "ML_DSA",
	0x0040: "SHA256_RSA_PKCS",
	0x0041: "SHA384_RSA_PKCS",
	0x0042: "SHA512_RSA_PKCS",
	0x0043: "SHA256_RSA_PKCS_PSS",
	0x0044: "SHA384_RSA_PKCS_PSS",
	0x0045: "SHA512_RSA_PKCS_PSS",
	0x0046: "SHA224_RSA_PKCS",
	0x0047: "SHA224_RSA_PKCS_PSS",
	0x0060: "SHA3_256_RSA_PKCS",
	0x0061: "SHA3_384_RSA_PKCS",
	0x0062: "SHA3_512_RSA_PKCS",
	0x0063: "SHA3_256_RSA_PKCS_PSS",
	0x0064: "SHA3_384_RSA_PKCS_PSS",
	0x0065: "SHA3_512_RSA_PKCS_PSS",
	0x0066: "SHA3_224_RSA_PKCS",
	0x0067: "SHA3_224_RSA_PKCS_PSS",
	0x0221: "SHA_1_HMAC",
	0x0251: "SHA256_HMAC",
	0x0256: "SHA224_HMAC",
	0x0261: "SHA384_HMAC",
	0x0271: "SHA512_HMAC",
	0x02B1: "SHA3_256_HMAC",
	0x02B6: "SHA3_224_HMAC",
	0x02C1: "SHA3_384_HMAC",
	0x02D1: "SHA3_512_HMAC",
	0x0350: "GENERIC_SECRET_KEY_GEN",
	0x1040: "EC_KEY_PAIR_GEN",
	0x1041: "ECDSA",
	0x1042: "ECDSA_SHA1",
	0x1043: "ECDSA_SHA224",
	0x1044: "ECDSA_SHA256",
	0x1045: "ECDSA_SHA384",
	0x1046: "ECDSA_SHA512",
	0x1047: "ECDSA_SHA3_224",
	0x1048: "ECDSA_SHA3_256",
	0x1049: "ECDSA_SHA3_384",
	0x104A: "ECDSA_SHA3_512",
	0x1050: "ECDH1_DERIVE",
	0x1051: "ECDH1_COFACTOR_DERIVE",
	0x1053: "ECDH_AES_KEY_WRAP",
	0x1054: "RSA_AES_KEY_WRAP",
	0x1055: "EC_EDWARDS_KEY_PAIR_GEN",
	0x1056: "EC_MONTGOMERY_KEY_PAIR_GEN",
	0x1057: "EDDSA",
	0x1080: "AES_KEY_GEN",
	0x1082: "AES_CBC",
	0x1085: "AES_CBC_PAD",
	0x1086: "AES_CTR",
	0x1087: "AES_GCM",
	0x1088: "AES_CCM",
	0x108A: "AES_CMAC",
	0x108B: "AES_CMAC_GENERAL",
	0x108E: "AES_GMAC",
	0x2109: "AES_KEY_WRAP",
	0x210A: "AES_KEY_WRAP_PAD",
	0x210B: "AES_KEY_WRAP_KWP",
}

var mechanismsByName = func() map[string]Mechanism {
	byName := make(map[string]Mechanism, len(mechanismNames)+1)
	for m, name := range mechanismNames {
		byName[name] = m
	}
	byName["ECDSA_KEY_PAIR_GEN"] = ecKeyPairGen // its name before version 2.11
	return byName
}()
