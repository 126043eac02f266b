// Package telemetry shows the operations of a registry's keys as OpenTelemetry spans and metrics. It links the API of
// OpenTelemetry and no SDK: the program chooses that, and without one everything here does nothing.
//
//	t, err := telemetry.New(nil)
//	keys, err := managedkey.Open(ctx, st, conns, &managedkey.Options{Observer: managedkey.Observers(t, auditLog)})
//	stop, err := t.Watch(keys)
//
// # Spans
//
// There is a span for each operation, named after it, such as "managedkeys sign", with the key's name and all that the table
// of attributes has; and within it one of the kind client for each request to a service, such as "awskms Sign", and for each
// repetition. Errors are there as their class, never as their text, and inputs not at all.
//
// # Metrics
//
//	managedkeys.operation.duration     histogram, s     operations: backend, operation, error.type if it failed
//	managedkeys.call.duration          histogram, s     requests to services: backend, call, error.type if it failed
//	managedkeys.request.denied         counter          requests refused because of who made them: error.type
//	managedkeys.connection.sessions    gauge            sessions of a token that may run operations
//	managedkeys.connection.busy        gauge            operations that are with the key manager
//	managedkeys.connection.waiting     gauge            operations that wait for a session, or for their turn
//	managedkeys.connection.hung        gauge            operations whose callers have left, but which have not returned
//	managedkeys.connection.down        gauge            1 while the circuit breaker is open
//	managedkeys.connection.retries     counter          requests that repeated one that failed
//	managedkeys.entries                gauge            entries of the registry
//	managedkeys.keys.open              gauge            entries whose newest key is open: the cache of keys
//	managedkeys.mounts                 gauge            mounts of the registry
//
// Operations "open" in the first histogram are the look-ups that this cache did not answer. The last nine are there once [Telemetry.Watch] was called; those of connections for backends that are a backend.Meter. Names of
// keys are in no metric, and those of namespaces and mounts only if [Options] say so: every one of them makes series of its own.
//
// Those of certificate authorities, managedkeys.pki.*, are at pki.ExpiryWatch.Measure.
//
// # Attributes
//
//	managedkeys.operation         managedkey.Operation.Name, such as "sign"
//	managedkeys.backend           type of the backend, such as "pkcs11"
//	managedkeys.call              the service's operation, such as "AsymmetricSign"
//	managedkeys.call.attempt      number of the attempt, from 1 (spans)
//	managedkeys.connection        name of the registry's connection
//	managedkeys.connection.peer   what it is to: token, region, host
//	managedkeys.namespace         path of the namespace (spans; metrics if wanted)
//	managedkeys.mount             path of the mount (spans; metrics if wanted)
//	managedkeys.key.name, managedkeys.key.id, managedkeys.key.version, managedkeys.key.algorithm
//	                              of the entry; id is its UUID (spans)
//	managedkeys.options           what was chosen, such as "SHA-256" (spans)
//	error.type                    managedkey.ErrorClass, such as "ErrNotPermitted"; managedkey.Denial.Class, or "omitted"
package telemetry
