package backendtest_test

// faults are the broken drivers: which rule of the memory backend is broken, with which keys it shows, and the cases of
// the suite that must see it.
var faults = []struct {
	name, keys string
	fails      []string
}{
	// Signing.
	{"pss-longest-salt", "rsa", []string{"Keys/rsa/PSS/SHA-256", "Keys/rsa/X509/SHA256-RSAPSS"}},
	{"any-salt", "pss", []string{"Keys/pss/Refused"}},
	{"undeclared-hash", "p256", []string{"Keys/p256/Capabilities", "Keys/p256/Refused"}},
	{"undeclared-accepted", "p256", []string{"Keys/p256/Refused"}},
	{"any-digest-length", "p256", []string{"Keys/p256/Refused"}},
	{"nil-options-panic", "p256", []string{"Keys/p256/Refused"}},
	{"ed25519-prehashed", "ed25519", []string{"Keys/ed25519/Sign/Ed25519", "Keys/ed25519/Sign/Lengths", "Keys/ed25519/TLS"}},
	{"ecdsa-raw", "p256", []string{"Keys/p256/Sign/ECDSA_with_SHA-256"}},
	{"context-string-ignored", "ed25519", []string{"Keys/ed25519/Contexts"}},
	{"no-message-signer", "ed25519", []string{"Keys/ed25519/Capabilities"}},
	{"reads-randomness", "p256", []string{"Keys/p256/Sign"}},
	{"modifies-input", "p256", []string{"Keys/p256/Sign"}},
	{"reuses-buffer", "p256", []string{"Keys/p256/Sign"}},
	{"mixes-calls", "p256", []string{"Keys/p256/Parallel"}},
	{"mixes-keys", "p256,p384", []string{"AllKeys"}},
	{"verifies-anything", "p256", []string{"Keys/p256/Verify"}},

	// Decrypting.
	{"decryption-reason", "rsa", []string{"Keys/rsa/Decrypt/SHA-256"}},
	{"decryption-output", "rsa", []string{"Keys/rsa/Decrypt/SHA-256"}},
	{"label-ignored", "rsa", []string{"Keys/rsa/Decrypt/SHA-256"}},
	{"mgf-ignored", "rsa", []string{"Keys/rsa/Refused"}},
	{"pkcs1-decrypted", "rsa", []string{"Keys/rsa/Refused"}},

	// Agreeing.
	{"agrees-without-zeros", "agree", []string{"Keys/agree/Agree"}},
	{"agrees-hashed", "agree", []string{"Keys/agree/Agree", "Keys/agree/Parallel"}},
	{"agrees-in-one-buffer", "agree", []string{"Keys/agree/Agree"}},
	{"agrees-as-another", "agree", []string{"Keys/agree/Agree"}},
	{"agrees-undeclared", "p256", []string{"Keys/p256/Capabilities"}},
	{"agrees-not", "agree", []string{"Keys/agree/Capabilities", "Keys/agree/Agree"}},
	{"agrees-too-late", "agree", []string{"Keys/agree/Closed"}},
	{"agrees-without-context", "agree", []string{"Keys/agree/Context/Ended", "Keys/agree/Context/Views"}},
	{"agrees-nil-panics", "agree", []string{"Keys/agree/Refused"}},
	{"agrees-on-other-curves", "agree", []string{"Keys/agree/Refused"}},

	// Decapsulating.
	{"decapsulates-hashed", "mlkem", []string{"Keys/mlkem/Decapsulate", "Keys/mlkem/Parallel"}},
	{"decapsulates-in-one-buffer", "mlkem", []string{"Keys/mlkem/Decapsulate"}},
	{"decapsulates-rejecting", "mlkem", []string{"Keys/mlkem/Decapsulate"}},
	{"decapsulates-not", "mlkem", []string{"Keys/mlkem/Capabilities", "Keys/mlkem/Decapsulate"}},
	{"decapsulates-as-another", "mlkem", []string{"Keys/mlkem/Decapsulate"}},
	{"decapsulates-any-length", "mlkem", []string{"Keys/mlkem/Refused"}},
	{"decapsulates-without-context", "mlkem", []string{"Keys/mlkem/Context/Ended", "Keys/mlkem/Context/Views"}},

	// Symmetric keys and wrapping.
	{"nonce-reused", "aes", []string{"Keys/aes/AEAD"}},
	{"additional-data-ignored", "aes", []string{"Keys/aes/AEAD"}},
	{"mac-truncated", "hmac", []string{"Keys/hmac/MAC/HMAC-SHA256"}},
	{"mac-prefix", "hmac", []string{"Keys/hmac/MAC/HMAC-SHA256"}},
	{"random-constant", "aes", []string{"Keys/aes/Random"}},
	{"random-short", "aes", []string{"Keys/aes/Random"}},
	{"unwrap-other-error", "aes", []string{"Keys/aes/Wrap"}},
	{"rsa-wraps-with-sha1", "rsa", []string{"Keys/rsa/Wrap"}},
	{"attests-nothing", "aes", []string{"Keys/aes/Attest"}},
	{"usage-lacks-method", "p256", []string{"Keys/p256/Capabilities"}},

	// Opening.
	{"open-generates", "p256", []string{"Open/Absent", "Generate/generate-p256"}},
	{"error-without-sentinel", "p256", []string{"Open/Absent"}},
	{"ambiguous-picks-first", "p256", []string{"Open/Ambiguous"}},
	{"foreign-panics", "p256", []string{"Open/Foreign"}},
	{"invalid-accepted", "p256", []string{"Open/Invalid/no_label"}},
	{"open-ignores-context", "p256", []string{"Open/Context"}},
	{"same-id", "p256,p384", []string{"Open/IDs"}},
	{"id-changes", "p256", []string{"Keys/p256/Reopen"}},

	// Secrets.
	{"error-shows-pin", "p256", []string{"Open/Absent"}},
	{"client-shows-pin", "p256", []string{"Formats"}},

	// Contexts and Close.
	{"context-ignored", "p256", []string{"Keys/p256/Context/Ended", "Keys/p256/Context/Views"}},
	{"cancel-breaks", "p256", []string{"Keys/p256/Context"}},
	{"late-refusal", "p256", []string{"Keys/p256/Closed"}},
	{"closed-is-unsupported", "p256", []string{"Keys/p256/Closed"}},
	{"close-ignored", "p256", []string{"Keys/p256/Closed", "Keys/p256/CloseInUse", "Close"}},
	{"close-twice", "p256", []string{"Close"}},
	{"close-closes-all", "p256", []string{"Close"}},
	{"open-after-close", "p256", []string{"Close"}},
	{"ping-ignores-context", "p256", []string{"Ping"}},
	{"ping-after-close", "p256", []string{"Close"}},

	// Generating, importing and listing.
	{"generate-overwrites", "p256", []string{"Generate/generate-p256"}},
	{"generate-races", "p256", []string{"Generate/generate-p256"}},
	{"replace-keeps-old", "p256", []string{"Generate/generate-p256"}},
	{"replace-not-stored", "p256", []string{"Generate/generate-p256"}},
	{"rotate-replaces", "p256", []string{"Generate/generate-p256"}},
	{"rotate-keeps-old", "p256", []string{"Generate/generate-p256"}},
	{"rotate-overwrites", "p256", []string{"Generate/generate-p256"}},
	{"rotate-wrong-params", "p256", []string{"Generate/generate-p256"}},
	{"follows-replacement", "p256", []string{"Generate/generate-p256"}},
	{"import-overwrites", "p256", []string{"Import/import-p256"}},
	{"import-makes-another", "p256", []string{"Import/import-p256", "Import/import-hmac"}},
	{"list-unordered", "p256", []string{"List/p256"}},
	{"list-lacks-key", "p256", []string{"List/p256"}},
	{"list-hides-usages", "p256", []string{"List/p256"}},
	{"uri-missing", "p256", []string{"List/p256"}},
	{"uri-shows-pin", "p256", []string{"List/p256"}},
	{"uri-of-another", "p256,p384", []string{"List/p256"}},
	{"uri-lax", "p256", []string{"List/Refused"}},
	{"uri-foreign-scope", "p256", []string{"List/Refused"}},
	{"matches-foreign", "p256", []string{"List/Refused"}},
	{"matches-nothing", "p256", []string{"List/p256", "List/Refused"}},
	{"list-ignores-break", "p256", []string{"List/Break"}},
}
