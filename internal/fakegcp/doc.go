// Package fakegcp is Google Cloud KMS on loopback, for tests and examples: the real wire protocol (gRPC over TLS), real
// authentication (bearer tokens that its own OAuth endpoints issue, and JSON Web Tokens that a service account signs), and
// real keys.
//
// What it does that a mock does not: it checks the CRC32C checksums that come with a request and sends its own; it has the
// states of key versions and refuses what the service refuses in each; keys of asymmetric algorithms come into being a
// while after they were asked for, if [Options].GenerationReads says so; public keys come in the format that the
// algorithm has; lists have pages; and each request can be made to fail, before or after its effect, by [Server].Script.
//
// Its private keys are in memory and RSA keys share prime factors to save time. Nothing it does is secure.
package fakegcp
