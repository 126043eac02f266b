// Package store defines where the project keeps its state: entries, mounts, grants, transit keys, issuers, certificates
// and revocations. A [Store] is a small ordered map of keys to values with transactions that compare versions, and with a
// feed of changes, so that several processes can share one.
//
// The engines are packages of their own, so that a program links only what it imports:
//
//	store/memory    for tests; gone when it is closed
//	store/bolt      one file, one process (go.etcd.io/bbolt)
//	store/postgres  PostgreSQL and engines that speak its protocol, many processes (pgx)
//	store/etcd      an etcd cluster, many processes
//	store/seal      encrypts the values, and the names if wanted, of any Store
//
// Package storetest proves a Store; its tests are the specification, for engines of others too.
//
// # Revisions and versions
//
// A store counts its commits: each gets a revision, greater than the one before it. The version of a record is the
// revision of the commit that wrote it. So a version is never used twice for one key, also not after the key was deleted
// and made again, and of two states of a key the one with the greater version is the newer one. An engine may commit
// several calls of Apply together if none of them touches a key that another one writes; they share a revision.
//
// # Following a store
//
// [Load] reads all records under a prefix and the revision from which to watch. Pages are not read at one instant: what
// changes while they are read is seen again by the watch. A reader that ignores changes whose version is not greater
// than what it has ends up with exactly what the store holds:
//
//	records, revision, err := store.Load(ctx, s, "entries/")
//	…
//	for event, err := range s.Watch(ctx, "entries/", revision) {
//
// When the watch ends with [ErrCompacted], the reader begins again with Load. [Follow] does all of this.
package store
