// Package remote is for drivers of key managers on a network: it makes their calls, each bounded, paced, retried where
// that is safe, and refused at once while the service is known to be away.
//
// A driver has one [Connection] for each endpoint and credential, and says with a [Verdict] what the error of a call
// means. [Do] then does the rest:
//
//   - Retries wait with exponential back-off and jitter, or as long as the service asks for; they end with the caller's
//     context, and a budget keeps them from multiplying the load of a service that is already in trouble.
//   - After failures in a row a circuit breaker opens: calls fail within microseconds, and one at a time probes whether
//     the service is back.
//   - Token buckets for the connection and for each key keep calls below a quota. Where the service throttles
//     nevertheless, the connection slows down to what the service took, and speeds up again slowly.
//   - A panic in the service's SDK is an error.
//
// [Options] are the part that a program sets. [Shared] makes one client for all entries with equal settings.
package remote
