// Package backendtest is the conformance suite for backends of managed keys. It is the specification of package backend
// in a form that runs: whoever writes a backend proves it with [Run], and its limits are declared as data.
//
// # Using it
//
// A driver's test file holds a [Config] and three functions:
//
//	func TestConformance(t *testing.T)     { backendtest.Run(t, config(t)) }
//	func BenchmarkSign(b *testing.B)       { backendtest.BenchmarkSign(b, config(b)) }
//	func BenchmarkDecrypt(b *testing.B)    { backendtest.BenchmarkDecrypt(b, config(b)) }
//
// The driver's tests make the keys of Config.Keys before, in the key manager itself or in a fake of it; a test of a
// service that may be missing skips before it calls Run. Within Run nothing is skipped: what a key can do is declared in
// its [Key] and must work, and what isn't declared must be refused. Declare one key of each kind that the backend
// supports, with all that the kind can do; what the service can't do is left out.
//
// Run it with the race detector too, since much of the suite is about concurrent use:
//
//	go test -race -run Conformance
//
// # What it checks
//
//   - Formats: no secret shows in parameters, keys and clients, however they are formatted. Every error that the suite
//     meets in any case is checked for this and for wrapping one of the sentinels of package backend as well.
//   - Open: absent, ambiguous, foreign and malformed parameters; contexts that have ended; identifiers.
//   - Keys: for each key its capabilities and methods; signatures of every algorithm, verified in software; the salts of
//     RSASSA-PSS; certificates, requests and CRLs by crypto/x509; handshakes of TLS 1.2 and 1.3 on either side, over a
//     loopback connection; decryption with one error for every failure; key agreement; AEAD, MAC, random and wrapping; the refusal of all
//     else, on a closed key too, which shows that it comes before any call; contexts and views; 64 goroutines at once;
//     opening again; use after Close, and Close during use.
//   - AllKeys: all keys of one client used at once.
//   - List, Ping, Close: the rest of the client, with the URIs that it lists.
//   - Generate, Import: what is made, what exists and what is replaced.
//
// The signatures, ciphertexts and MACs are checked with the standard library and filippo.io/mldsa, and not with the code
// that made them.
package backendtest
