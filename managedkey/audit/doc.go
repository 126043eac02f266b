// Package audit keeps a record of every operation of a registry's keys, and of every change of the registry: who did what with
// which key, when, and how it went.
//
//	log, err := audit.New("file:/etc/myapp/audit.key", []audit.Sink{audit.File{Path: "/var/log/myapp/audit.log"}}, nil)
//	keys, err := managedkey.Open(ctx, st, conns, &managedkey.Options{Observer: log})
//
// A [Log] is a managedkey.Observer that writes to one or several sinks: files, slog, or a function of the program.
//
// # What is recorded
//
// One line of JSON for an operation, when it has ended. With [Options.FailClosed] or [Options.Requests] there are two, of the
// same id: a request before the key is used, and an outcome after. Then an operation that the program did not survive is
// seen: its request has no outcome. One that was refused because it could not be recorded has, where that is possible, a line of
// type refused.
//
// A request that a front end such as package httpapi refuses, because nobody knows who makes it or that one may not do that, is a line of
// type denied. Its error is ErrNoCredentials, ErrDenied (a token or certificate that isn't known, or has expired) or ErrNotPermitted, and
// options says more. Front ends record so many of them for each client and in all, and how many they left out. They are never waited
// for, and take a quarter of the queue at most: those who aren't let in can neither fill the disk nor hold up or hide what others do.
//
//	seq         number of the line in its chain, from 1
//	prev        SHA-256 of the line before, in hexadecimal; zeros in the first line
//	time        when the operation began (operation, request) or the line was made (all others), UTC
//	type        operation, request, outcome, refused; denied; open, start, stop, gap
//	id          of the operation
//	actor, actor_name, address, request
//	            managedkey.ActorOf the context: ID, Name, Address, RequestID
//	namespace, name, key, version
//	            of the entry; key is its UUID
//	mount, mount_id
//	            path and id of the mount through which the key was used
//	path        of a denied request, within the namespace
//	backend, operation, algorithm, options
//	            as managedkey.Operation has them
//	duration_ns how long the operation took, in nanoseconds, without what recording it took
//	error       managedkey.ErrorClass, such as ErrNotPermitted; missing if it succeeded. Never the error's text
//	input, output
//	            HMAC-SHA256 of what went in and came out, after "hmac-sha256:"; see managedkey.Content.Sum and [InputHMAC]. The
//	            input of a denied request is the token, or the certificate in DER, that nobody has
//	omitted     how many denied requests have no line, since the last line that has it
//	mac         HMAC-SHA256 of the line up to here
//
// Fields without a value are missing. Text is ASCII, with everything else escaped, so that a line is a line and a terminal shows
// what is there; what is not UTF-8 becomes U+FFFD, and text of more than [MaxText] bytes is cut off and ends with "…".
// The HMAC of something that is easily guessed can be found by whoever has the audit key, and by nobody else.
//
// # Chains
//
// Each file is a chain: every line has a number, the hash of the line before, and a MAC under a key that is derived from the audit
// key. A chain goes on over restarts and from file to file. [Verify] and [VerifyFiles] find lines that were edited, removed,
// reordered, repeated or cut, and say which. Nothing within a file can tell that its last lines were removed; for that, keep
// [Log.Heads] elsewhere from time to time, and hand them to Verify.
//
// An open line begins a file, a start line tells that a program began to append to it, and a stop line that it ended as it should.
// If the program was killed while it wrote, the last line is incomplete. The next start cuts it off, and its start line says how
// many bytes were cut and their hash. A gap line tells how many records were lost before it.
//
// # When a sink fails
//
// A full disk, a file that can't be written, a sink that panics or hangs: unless FailClosed is set, operations go on. What could not
// be recorded is counted ([Log.Stats]), told to the logger once, and written down as a gap when the sink works again. With
// [AnySink] an operation is refused unless at least one sink has its request, with [AllSinks] unless all have; and its
// result is withheld in the same way. The error wraps backend.ErrUnavailable. Queues are bounded, and so is the time that an
// operation waits, with one exception: to a file without [SyncEvery] an operation of a log that fails closed writes by itself if nobody
// else does, and if the disk hangs then, so does that one operation. Those that come after it are refused in time.
package audit
